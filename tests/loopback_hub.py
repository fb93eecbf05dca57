"""A hub on loopback: enough of the Hugging Face protocol to list and download repositories."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from analysis.models import hub_listing

if TYPE_CHECKING:
    import pytest


@dataclass
class Repository:
    """One served model.

    Attributes:
        folder: its files.
        commit: the only commit that it has; ``main`` leads to it.
        gated: whether downloads are refused, as for a model with terms to accept.
        sent: by file name, what is sent in place of the file that the hub lists.
        listed: what the listing says in place of the truth (``sha``, ``siblings``).
        etags: by file name, the ETag in place of the true one.
        break_after: by file name, bytes after which the next answer breaks off, once each.
    """

    folder: Path
    commit: str = "1" * 40
    gated: bool = False
    sent: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, Any] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    break_after: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Answer:
    """One answer to every request of a kind, in place of the file or listing.

    Attributes:
        status: of HTTP.
        headers: sent with it.
        body: sent with it.
        delay: seconds before anything is sent.
        pieces: send the body in so many pieces, ``delay`` before each.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    pieces: int = 1


def point_at(hub_url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub in this process ask ``hub_url`` and keep its cache in ``cache``.

    It reads its environment once, when it is imported, so its constants are set instead.
    """
    from huggingface_hub import constants

    if hub_listing.DEADLINE == 3:  # or the test's own; a busy machine may hang for longer
        monkeypatch.setattr(hub_listing, "DEADLINE", 60.0)
    template = hub_url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub_url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)


def written(folder: Path) -> set[str]:
    """The files under a folder, such as a cache."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class LoopbackHub:
    """Serve ``repositories`` (by id) on a port of loopback while the ``with`` block runs.

    Any free port will do, unless one is named.
    """

    def __init__(self, repositories: dict[str, Repository], port: int = 0) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.listing: Answer | None = None
        self.file: Answer | None = None
        self.ranges: list[tuple[str, int, int]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End serving; later connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def downloads(self) -> list[str]:
        """Names of the files that were sent, in order."""
        return [
            path.rsplit("/", 1)[-1]
            for method, path in (request.split(" ", 1) for request in self.requests)
            if method == "GET" and "/resolve/" in path
        ]


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        """As a proxy that wants a login."""
        self.hub.requests.append(f"{self.command} {self.path}")
        self._answer(Answer(407))

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        api = path.startswith("/api/models/")
        answer = self.hub.listing if api else self.hub.file if "/resolve/" in path else None
        if answer is not None:
            return self._answer(answer)
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        if path == "/api/agent-harnesses" or (not rest and not api):
            return self._refuse(404, "EntryNotFound")
        repository = self.hub.repositories.get(f"{owner}/{name}")
        if repository is None:
            return self._refuse(401, "RepoNotFound")
        if len(rest) > 1 and rest[1] not in ("main", repository.commit):
            return self._refuse(404, "RevisionNotFound")
        if api:
            return self._send_json(self._listing(f"{owner}/{name}", repository))
        return self._send_file(repository, "/".join(rest[2:]))

    def _listing(self, repo: str, repository: Repository) -> Any:
        siblings = []
        for path in _files(repository):
            content = path.read_bytes()
            size = len(content)
            entry: dict[str, Any] = {
                "rfilename": path.name,
                "size": size,
                "blobId": _git_sha1(content),
            }
            if _is_lfs(path):
                entry["lfs"] = {"sha256": _sha256(content), "size": size, "pointerSize": 134}
            siblings.append(entry)
        gated = "auto" if repository.gated else False
        listing = {"id": repo, "sha": repository.commit, "gated": gated, "siblings": siblings}
        return listing | repository.listed

    def _send_file(self, repository: Repository, name: str) -> None:
        if repository.gated:
            return self._refuse(403, "GatedRepo")
        path = repository.folder / name
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        true = path.read_bytes()
        etag = _sha256(true) if _is_lfs(path) else _git_sha1(true)
        etag = repository.etags.get(name, etag)
        if "Range" in self.headers and self.command == "GET":
            return self._send_range(repository, name, true, etag)
        self.send_response(200)
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Linked-Size", str(len(true)))
        self._finish(repository.sent.get(name, true))

    def _send_range(self, repository: Repository, name: str, true: bytes, etag: str) -> None:
        """Part of a file; what is sent in its place has a checksum and size of its own."""
        content = repository.sent.get(name, true)
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        start, end = int(first), int(last) + 1 if last else len(content)
        self.hub.ranges.append((name, start, end))
        self.send_response(206)
        self.send_header("X-Repo-Commit", repository.commit)
        same = name not in repository.sent
        self.send_header("ETag", f'"{etag if same else _sha256(content)}"')
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        body = content[start:end]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        breaks = repository.break_after.get(name)
        if breaks and breaks[0] < len(body):
            self.wfile.write(body[: breaks.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)

    def _send_json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._finish(body)

    def _answer(self, answer: Answer) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            time.sleep(answer.delay)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            step = max(1, -(-len(answer.body) // answer.pieces))
            for start in range(0, len(answer.body), step):
                self.wfile.write(answer.body[start : start + step])
                self.wfile.flush()
                time.sleep(answer.delay)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self._finish(b"")

    def _finish(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are kept in ``LoopbackHub.requests``."""


def _files(repository: Repository) -> list[Path]:
    return sorted(path for path in repository.folder.iterdir() if path.is_file())


def _is_lfs(path: Path) -> bool:
    return path.suffix in (".safetensors", ".bin")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
