"""Files of a commit into huggingface_hub's own cache, each checked before it gets its name.

huggingface_hub's ``hf_hub_download`` names a blob by the ETag that the server sends, waits as long
as a server's ``Retry-After`` says and tries for minutes where nothing comes. So its address,
headers, HTTP client and cache layout are used, and the download itself is done here:

1. a blob is named by the checksum of the listing, which has been checked; the server's ETag only
   ends a download that would be in vain;
2. the checksum is computed while the file comes, and a file that does not have it is not kept;
3. a server that sends nothing for HF_HUB_DOWNLOAD_TIMEOUT seconds, or less than 100 bytes a second
   for a minute, is given up; an interrupted file is continued by the next call;
4. links from the commit's folder come last, config.json the very last, so that a folder with a
   config is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import ModelError, first_line
from analysis.models.checkpoint import CONFIG, MAX_JSON
from analysis.models.disk import cannot_write, check_room
from analysis.models.hub_errors import (
    HubError,
    HubUnreachableError,
    endpoint,
    hub_error,
    not_a_hub,
    status_error,
)
from analysis.models.hub_listing import expected_file
from analysis.progress import lasting_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from analysis.models.hub_listing import ExpectedFile, Listing

WINDOW = 60.0
SLOWEST = 100
"""Bytes a second, on average over ``WINDOW`` seconds, below which a download is given up."""
_CHUNK = 1 << 20
_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EDQUOT}


def repository_folder(repo: str) -> Path:
    """The folder of a repository in huggingface_hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def fetch_blob(repo: str, listing: Listing, name: str) -> Path:
    """One file as a checked blob in the cache, downloaded if it is not there."""
    expected = expected_file(repo, listing, name)
    blob = repository_folder(repo) / "blobs" / str(expected.digest)
    with _cannot_write():
        if blob.is_file() and blob.stat().st_size == expected.size:
            return blob
        blob.parent.mkdir(parents=True, exist_ok=True)
        partial = blob.with_name(f"{blob.name}.incomplete")
        _check_room(partial, name, expected)
        lock = blob.parents[2] / ".locks" / blob.parents[1].name / f"{blob.name}.lock"
        with one_at_a_time(repo, lock, lambda: size_so_far(partial)):
            if not blob.is_file():
                _receive(repo, listing, name, partial)
                partial.replace(blob)
    return blob


def link_snapshot(
    repo: str, revision: str | None, commit: str, blobs: Iterable[tuple[str, Path]]
) -> Path:
    """Give checked blobs their names in the commit's folder, and the revision its commit."""
    home = repository_folder(repo)
    folder = home / "snapshots" / commit
    with _cannot_write():
        folder.mkdir(parents=True, exist_ok=True)
        for name, blob in sorted(blobs, key=lambda entry: entry[0] == CONFIG):
            link = folder / name
            if link.exists() and link.samefile(blob):  # nothing is written that is there already
                continue
            with _new(link) as new:
                try:
                    new.symlink_to(os.path.relpath(blob, folder))
                except OSError:  # a file system without symbolic links
                    shutil.copyfile(blob, new)
        reference = home / "refs" / (revision or "main")
        if revision != commit and not (reference.is_file() and reference.read_text() == commit):
            reference.parent.mkdir(parents=True, exist_ok=True)
            with _new(reference) as new:
                new.write_text(commit, encoding="ascii")
    return folder


@contextlib.contextmanager
def _new(path: Path) -> Iterator[Path]:
    """Where this process makes the file that then takes the name ``path``, whoever has it."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)  # left by a process of the same number
    yield new
    new.replace(path)


def _check_room(partial: Path, name: str, expected: ExpectedFile) -> None:
    size = expected.size or 0
    if name.endswith(".json") and size > MAX_JSON:
        raise ModelError(f"{name} has {size:,} bytes, so it is not downloaded: use another model.")
    size -= size_so_far(partial)
    check_room(name, size, partial.parent, *_cache())


def _receive(repo: str, listing: Listing, name: str, target: Path) -> None:
    """Download one file, computing its checksum while it comes."""
    from huggingface_hub import constants

    expected = listing.files[name]
    size, digest = expected.size or 0, str(expected.digest)
    came = size_so_far(target)
    if came >= size > 0:  # left by something else
        target.unlink()
        came = 0
    part, timeout = f"{came}-" if came else None, float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    try:
        with hub_answer(repo, listing.commit, name, part, timeout) as response:
            _check_answer(repo, name, digest, response)
            kept = came if response.status_code == 206 else 0
            hasher = _hasher(digest, size)
            with target.open("r+b" if kept else "wb") as file:
                while kept and (chunk := file.read(_CHUNK)):
                    hasher.update(chunk)
                with lasting_bar(size, name, initial=kept) as progress:
                    for chunk in in_time(response.iter_raw()):
                        hasher.update(chunk)
                        file.write(chunk)
                        progress.update(len(chunk))
                        if file.tell() > size:
                            break
                came = file.tell()
    except (ModelError, KeyboardInterrupt):
        raise
    except Exception as error:  # the HTTP client's errors are its own
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            raise
        failure = hub_error(repo, listing.commit, error)
        if not isinstance(failure, HubUnreachableError):
            raise failure from None
        raise HubError(
            f"the download of {name} of {repo} from the hub ({endpoint()}) failed "
            f"({first_line(error)})",
            "load it again; what came is kept and continued",
        ) from None
    if came != size or hasher.hexdigest() != digest:
        target.unlink(missing_ok=True)
        found = (
            f"{came} bytes instead of {size}"
            if came != size
            else f"checksum {hasher.hexdigest()[:12]}… instead of {digest[:12]}…"
        )
        raise ModelError(
            f"{name} came damaged from the hub ({found}) and was removed: load it again."
        )


@contextlib.contextmanager
def hub_answer(
    repo: str, commit: str, name: str, part: str | None, timeout: float
) -> Iterator[Any]:
    """What the hub answers when a file is asked for, or a part of it (bytes ``0-7``), unread."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
    )

    url = hf_hub_url(repo, name, revision=commit)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if part is not None:
        headers["Range"] = f"bytes={part}"
    with get_session().stream(
        "GET", url, headers=headers, timeout=timeout, follow_redirects=True
    ) as answer:
        if answer.status_code not in (200, 206):
            raise status_error(repo, commit, answer)
        yield answer


def _hasher(digest: str, size: int) -> Any:
    """The hash of which ``digest`` is one: SHA-256, or git's of a blob with its header."""
    if len(digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def _check_answer(repo: str, name: str, digest: str, response: Any) -> None:
    """Refuse an answer that is not the listed file, before its content is read."""
    first = response.history[0] if response.history else response  # the hub's own, not a mirror's
    etag = first.headers.get("X-Linked-ETag") or first.headers.get("ETag")
    commit = first.headers.get("X-Repo-Commit")
    if commit is None and "text/html" in str(response.headers.get("Content-Type")):
        raise not_a_hub()
    if commit is not None and etag is not None and etag.removeprefix("W/").strip('"') != digest:
        raise ModelError(
            f"the hub ({endpoint()}) offers {name} of {repo} with another checksum than it lists; "
            "nothing of it was downloaded: load it again, or check HF_ENDPOINT."
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise not_a_hub()


def in_time(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, as long as they come faster than ``SLOWEST``; else a TimeoutError."""
    since, came = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        came += len(chunk)
        if (passed := time.monotonic() - since) > WINDOW:
            if came < SLOWEST * passed:
                raise TimeoutError(f"only {came:,} bytes came in {passed:.0f} seconds")
            since, came = time.monotonic(), 0


def size_so_far(file: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return file.stat().st_size if file.is_file() else 0


@contextlib.contextmanager
def one_at_a_time(repo: str, lock: Path, came: Callable[[], int]) -> Iterator[None]:
    """Wait for another process that downloads the same, as long as what ``came`` grows."""
    from filelock import FileLock, Timeout
    from huggingface_hub import constants

    lock.parent.mkdir(parents=True, exist_ok=True)
    size, since = -1, time.monotonic()
    holder = FileLock(lock)
    while True:
        try:
            holder.acquire(timeout=0.5)
            break
        except Timeout:
            now = came()
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > 2 * float(constants.HF_HUB_DOWNLOAD_TIMEOUT):
                raise HubError(
                    f"another process has been downloading {repo} and makes no progress",
                    f"end it, or delete {lock}, and load again",
                ) from None
    try:
        yield
    finally:
        holder.release()


def _cannot_write() -> contextlib.AbstractContextManager[None]:
    return cannot_write(*_cache())


def _cache() -> tuple[str, str]:
    """What the hub's cache folder is called, and the variable that names another."""
    from huggingface_hub import constants

    return f"the hub's cache folder {constants.HF_HUB_CACHE}", "HF_HUB_CACHE"
