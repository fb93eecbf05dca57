"""What the hub lists of a repository: asked once, answered at once, believed only if it is safe.

huggingface_hub tries again and again for some 23 seconds when the hub is out of reach. Here one
request under one deadline settles whether there is a hub and what it has. Every name, commit and
checksum of the listing becomes a path in the cache, so each is checked before anything is written.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.errors import ModelError
from analysis.models.hub_errors import HubUnreachableError, endpoint, hub_error, not_a_hub
from analysis.validation import is_file_name, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEADLINE = 3.0
"""Seconds within which the hub must have answered, name look-up and connection included, unless
HF_HUB_ETAG_TIMEOUT says another number."""

COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A file's checksum as the hub gives it: git's blob id, or SHA-256."""


@dataclass(frozen=True)
class ExpectedFile:
    """What a file must be; None where nobody recorded it.

    Attributes:
        size: in bytes.
        digest: SHA-256 (64 hex digits) or git's blob id (40).
    """

    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Listing:
    """A commit of a repository, as the hub lists it.

    Attributes:
        commit: 40 hex digits.
        files: by name; only files at the top level, the only ones that loading reads.
    """

    commit: str
    files: Mapping[str, ExpectedFile]


def expected_file(repo: str, listing: Listing, name: str) -> ExpectedFile:
    """What a file must be, which an index may name that the repository does not have."""
    if name not in listing.files:
        raise ModelError(f"the model {repo} lists {name} in its index and does not have it.")
    return listing.files[name]


def deadline() -> float:
    """Seconds within which the hub must have answered a question."""
    from huggingface_hub import constants

    asked: float = constants.HF_HUB_ETAG_TIMEOUT
    set_by_user = "HF_HUB_ETAG_TIMEOUT" in os.environ or asked != constants.DEFAULT_ETAG_TIMEOUT
    return float(asked) if set_by_user else DEADLINE


def ask_hub(repo: str, revision: str | None) -> Listing:
    """What the hub lists of a repository: its commit, its files, their sizes and checksums."""

    def question(api: Any, seconds: float) -> Any:
        return api.model_info(repo, revision=revision, files_metadata=True, timeout=seconds)

    return checked_listing(repo, _asked(repo, revision, question))


def list_revisions(repo: str) -> list[str]:
    """The branches and tags of a repository."""
    try:
        refs = _asked(repo, None, lambda api, _: api.list_repo_refs(repo))
    except HubUnreachableError as error:
        error.reason = f"{error.of_the_hub}, and it alone knows which revisions {repo} has"
        error.advice = "connect to the hub, or name the revisions that are in the local cache"
        raise
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def _asked(repo: str, revision: str | None, question: Callable[[Any, float], Any]) -> Any:
    """What the hub answers to one question, which is told how many seconds there are.

    The request runs in a thread of its own: a look-up or a connection that hangs keeps neither
    this call, nor Ctrl-C, nor the end of the process waiting.
    """
    from huggingface_hub import HfApi

    answer: list[Any] = []
    seconds = deadline()

    def ask() -> None:
        try:
            answer.append(question(HfApi(), seconds))
        except BaseException as error:  # every one is told apart below
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="ask-hub")
    thread.start()
    thread.join(seconds)
    reply = answer[0] if answer else TimeoutError()
    if "Timeout" in type(reply).__name__:  # the HTTP client's own may come just before
        reply = TimeoutError(
            f"no answer within {seconds:g} seconds; for a slow mirror, set HF_HUB_ETAG_TIMEOUT "
            "to more"
        )
    if isinstance(reply, Exception):
        # Not "from reply": an HTTP client's error shows the address, password and all.
        raise hub_error(repo, revision, reply) from None
    return reply


def checked_listing(repo: str, info: Any) -> Listing:
    """A listing of huggingface_hub's as one whose every entry may become a path."""
    if info is None or not hasattr(info, "siblings") or info.sha is None:
        raise not_a_hub()
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise _hostile(repo, f"the commit {shown(info.sha)}")
    files: dict[str, ExpectedFile] = {}
    for file in info.siblings or ():
        name = file.rfilename
        parts = name.split("/") if isinstance(name, str) else [""]
        if not all(is_file_name(part) for part in parts):
            raise _hostile(repo, f"the file name {shown(name)}")
        if len(parts) > 1:
            continue
        digest = getattr(file.lfs, "sha256", None) if file.lfs else file.blob_id
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise _hostile(repo, f"the checksum {shown(digest)} of {name}")
        if isinstance(file.size, bool) or not isinstance(file.size, int) or file.size < 0:
            raise _hostile(repo, f"the size {shown(file.size)} of {name}")
        files[name] = ExpectedFile(file.size, digest)
    return Listing(info.sha, files)


def _hostile(repo: str, what: str) -> ModelError:
    return ModelError(
        f"the hub ({endpoint()}) lists {what} for {repo}, which no hub has and which could write "
        "outside the cache; nothing was downloaded: check HF_ENDPOINT."
    )
