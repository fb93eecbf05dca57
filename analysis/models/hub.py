"""A hub repository as a verified local snapshot folder.

1. A full commit that is whole in the cache is used without any network.
2. Otherwise the hub is asked once, under a hard deadline, which files the repository has, with
   their sizes and checksums. Out of reach, the cached copy of the revision is used.
3. Only the files that loading reads are downloaded, into huggingface_hub's ordinary cache.
4. Each file's size and checksum are compared, fresh or cached: with what the hub listed or, when
   it is out of reach, with what the cache recorded.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import ModelError
from analysis.models.checkpoint import (
    CONFIG,
    Checkpoint,
    check_safetensors,
    first_line,
    folder_files,
    git_blob_sha1_of,
    needed_files,
    sha256_of,
    weight_files,
    weights_checksum,
)
from analysis.models.hub_listing import HubError, HubUnreachableError, ask_hub, refusal_of
from analysis.provenance import ModelIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from huggingface_hub.hf_api import ModelInfo

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR}


@dataclass(frozen=True)
class ExpectedFile:
    """What a file must be; None where nobody recorded it.

    Attributes:
        size: in bytes.
        digest: SHA-256 (64 hex digits) or git's blob id (40).
    """

    size: int | None = None
    digest: str | None = None


def hub_checkpoint(repo: str, revision: str | None, title: str) -> Checkpoint:
    """A model of the hub as a local folder whose every needed file has been verified.

    Args:
        repo: hub id (``openai-community/gpt2``).
        revision: branch, tag or commit; None for the default branch.
        title: the model's name in figures.

    Raises:
        HubError: the hub is out of reach and the cache has no whole copy; or the hub does not
            know the model or the revision, or keeps it behind a gate.
        ModelError: no safetensors, no tokenizer, or a file is not what it should be.
    """
    cached = _cached(repo, revision)
    if cached is not None and revision is not None and _COMMIT.fullmatch(revision):
        return _verified(repo, title, cached)
    try:
        info = ask_hub(repo, revision)
    except HubUnreachableError:
        if cached is None:
            raise
        return _verified(repo, title, cached)
    return _verified(repo, title, _downloaded(repo, revision, info))


# --- the cache ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """A commit's folder in the cache, and what its needed files must be."""

    folder: Path
    files: Mapping[str, ExpectedFile]
    just_downloaded: frozenset[str] = frozenset()


def _cached(repo: str, revision: str | None) -> Snapshot | None:
    """The cached snapshot of a revision, if every file that loading reads is there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repo, CONFIG, revision=revision)
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        names = needed_files(folder_files(folder), repo)
        weight_files(folder)  # the index, where there is one, tells whether a shard is missing
    except ModelError:
        return None
    return Snapshot(
        folder, {name: ExpectedFile(None, _recorded_digest(folder / name)) for name in names}
    )


def _recorded_digest(pointer: Path) -> str | None:
    """The checksum that the cache recorded: a snapshot's file links to a blob of that name.

    One link only is followed, because a blob may itself link into a store that is shared between
    repositories, where names are other hashes.
    """
    if not pointer.is_symlink():  # a file system without symbolic links
        return None
    name = pointer.readlink().name
    return name if _SHA256.fullmatch(name) or _COMMIT.fullmatch(name) else None


def _downloaded(repo: str, revision: str | None, info: ModelInfo) -> Snapshot:
    """Download what is missing of the files that loading reads."""
    from huggingface_hub import try_to_load_from_cache

    listed = {
        file.rfilename: ExpectedFile(file.size, file.lfs.sha256 if file.lfs else file.blob_id)
        for file in info.siblings or ()
    }
    names = needed_files(listed, f"the model {repo}")
    missing = [
        name
        for name in names
        if not isinstance(try_to_load_from_cache(repo, name, revision=info.sha), str)
    ]
    if missing:
        try:
            folder = _download(repo, revision, info.sha, missing)
        except Exception as error:  # huggingface_hub lets its HTTP client's own errors through
            raise _download_error(repo, revision, error) from error
        if folder.name != info.sha:
            raise ModelError(f"{repo} changed on the hub while it was downloaded: load it again.")
    config = try_to_load_from_cache(repo, CONFIG, revision=info.sha)
    return Snapshot(
        Path(str(config)).parent, {name: listed[name] for name in names}, frozenset(missing)
    )


def _download(repo: str, revision: str | None, commit: str | None, missing: list[str]) -> Path:
    """Download files into the cache, each under its own bar, and give the snapshot's folder.

    The config comes last and by the revision's own name. So it marks a snapshot as whole, and the
    cache learns to which commit a branch leads.
    """
    from huggingface_hub import hf_hub_download
    from tqdm.auto import tqdm

    # Not huggingface_hub's bars: those take no notice of TQDM_DISABLE.
    for name in missing:
        if name != CONFIG:
            hf_hub_download(repo, name, revision=commit, tqdm_class=tqdm)
    return Path(hf_hub_download(repo, CONFIG, revision=revision, tqdm_class=tqdm)).parent


def _download_error(repo: str, revision: str | None, error: Exception) -> ModelError:
    from huggingface_hub import constants

    refusal = refusal_of(repo, revision, error)
    if not isinstance(refusal, HubUnreachableError):
        return refusal
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return ModelError(
            f"the hub's cache folder {constants.HF_HUB_CACHE} cannot be written "
            f"({error.strerror}): make room or set HF_HUB_CACHE to another folder."
        )
    return HubError(
        f"the download of {repo} from the hub ({constants.ENDPOINT}) failed ({first_line(error)})",
        "load it again; what came whole is kept",
    )


# --- verifying ----------------------------------------------------------------------------------


def _verified(repo: str, title: str, snapshot: Snapshot) -> Checkpoint:
    """The snapshot as a checkpoint, once every file is what it should be."""
    sha256 = {
        name: _verify(snapshot.folder / name, expected, name in snapshot.just_downloaded)
        for name, expected in snapshot.files.items()
    }
    files = weight_files(snapshot.folder)
    for path in files:
        check_safetensors(path)
    identity = ModelIdentity(
        name=repo,
        title=title,
        revision=snapshot.folder.name,
        checksum=weights_checksum(files, sha256),
        source="hub",
    )
    return Checkpoint(snapshot.folder, identity)


def _verify(path: Path, expected: ExpectedFile, just_downloaded: bool) -> str:
    """Compare one file with what it must be and give its SHA-256."""
    blob = path.resolve()  # the file itself, not the snapshot's link to it
    size, sha256 = blob.stat().st_size, sha256_of(blob)
    digest = git_blob_sha1_of(blob) if len(expected.digest or "") == 40 else sha256
    if expected.size in (None, size) and expected.digest in (None, digest):
        return sha256
    found = (
        f"{size} bytes instead of {expected.size}"
        if expected.size not in (None, size)
        else f"checksum {digest[:12]}… instead of {str(expected.digest)[:12]}…"
    )
    if just_downloaded:
        # Kept, it would be taken for the right file: the cache goes by names.
        path.unlink()
        blob.unlink(missing_ok=True)
        raise ModelError(
            f"{path.name} came damaged from the hub ({found}) and was removed: load it again."
        )
    raise ModelError(
        f"{path.name} in the cache is damaged ({found}): delete {blob} and load again."
    )
