"""A hub repository as a verified local snapshot folder.

1. A full commit that is whole in the cache is used without any network.
2. Otherwise the hub is asked once, under a deadline, which files the repository has, with their
   sizes and checksums. Out of reach, the cached copy of the revision is used or, where no revision
   was asked for, whatever whole copy the cache has of the model.
3. config.json comes first: a model that is not supported is refused before anything large. Then
   only the files that loading reads are downloaded, into huggingface_hub's ordinary cache.
4. Each file's size and checksum are compared, fresh or cached: with what the hub listed or, when
   it is out of reach, with what the cache recorded.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import ModelError, ParameterError
from analysis.models.checkpoint import (
    CONFIG,
    INDEX,
    Checkpoint,
    check_safetensors,
    folder_files,
    needed_files,
    read_json,
    shard_names,
    weight_files,
)
from analysis.models.checksums import git_blob_sha1_of, sha256_of, weights_checksum
from analysis.models.config import check_config
from analysis.models.hub_download import fetch_blob, link_snapshot, repository_folder
from analysis.models.hub_errors import HubBusyError, HubError, HubUnreachableError
from analysis.models.hub_listing import (
    COMMIT,
    DIGEST,
    ExpectedFile,
    Listing,
    ask_hub,
    expected_file,
)
from analysis.provenance import ModelIdentity
from analysis.validation import is_file_name, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REPOSITORY = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.ASCII)


def hub_checkpoint(
    repo: str,
    revision: str | None,
    title: str,
    *,
    any_cached: bool = False,
    old_ids: Sequence[str] = (),
) -> Checkpoint:
    """A model of the hub as a local folder whose every needed file has been verified.

    With the hub out of reach, another cached commit will do if ``any_cached``, also one that the
    cache has under one of ``old_ids``.
    """
    check_repository(repo, revision)
    cached = _cached(repo, revision)
    if cached is not None and revision is not None and COMMIT.fullmatch(revision):
        return _verified(repo, title, cached)
    try:
        listing = ask_hub(repo, revision)
    except (HubUnreachableError, HubBusyError) as error:
        if cached is None and any_cached:
            cached = _any_cached([repo, *old_ids], revision)
            if cached is not None:
                warnings.warn(
                    f"{error.of_the_hub}, so {title} at commit "
                    f"{cached.folder.name[:7]} is used, which is in the cache"
                    + (f", not {revision[:7]}." if revision else "."),
                    stacklevel=2,
                )
        if cached is None:
            if isinstance(error, HubUnreachableError) and revision and not any_cached:
                lacks = f"revision {revision!r:.200} of {repo} is not in the local cache"
                error.reason = f"{error.of_the_hub} and {lacks}"
            raise
        return _verified(repo, title, cached)
    return _verified(repo, title, _downloaded(repo, revision, title, listing))


def check_repository(repo: str, revision: str | None) -> None:
    """Refuse what cannot be a repository and its revision: both become paths in the cache."""
    if not _REPOSITORY.fullmatch(repo) or ".." in repo or "--" in repo:
        raise HubError(f"{shown(repo)} is neither a folder nor a possible hub id", "check the name")
    if revision is not None and not all(map(is_file_name, revision.split("/"))):
        raise ParameterError(f"revision must be a branch, tag or commit, not {shown(revision)}.")


# --- the cache ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """A commit's folder in the cache, and what its needed files must be."""

    folder: Path
    files: Mapping[str, ExpectedFile]


def _cached(repo: str, revision: str | None) -> Snapshot | None:
    """The cached snapshot of a revision, if every file that loading reads is there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repo, CONFIG, revision=revision)
    except (HFValidationError, OSError, ValueError):
        return None
    return _whole(Path(config).parent, repo) if isinstance(config, str) else None


def _any_cached(repos: Sequence[str], revision: str | None) -> Snapshot | None:
    """A whole snapshot of any of the ids: of the revision if there is one, else the latest."""
    for repo in repos:
        if (found := _cached(repo, revision)) is not None:
            return found
    for repo in repos:
        snapshots = repository_folder(repo) / "snapshots"
        folders = [f for f in snapshots.iterdir() if f.is_dir()] if snapshots.is_dir() else []
        for folder in sorted(folders, key=lambda f: f.stat().st_mtime, reverse=True):
            if (found := _whole(folder, repo)) is not None:
                return found
    return None


def _whole(folder: Path, repo: str) -> Snapshot | None:
    """The snapshot in a folder of the cache, or None where a needed file is missing."""
    try:
        names = needed_files(folder_files(folder), repo)
        if INDEX in names:
            names += [file.name for file in weight_files(folder)]
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
    return name if DIGEST.fullmatch(name) else None


def _downloaded(repo: str, revision: str | None, title: str, listing: Listing) -> Snapshot:
    """Download what is missing of the files that loading reads."""
    names = needed_files(listing.files, f"the model {repo}")
    present = repository_folder(repo) / "snapshots" / listing.commit
    blobs: dict[str, Path] = {}

    def fetch(name: str) -> Path:
        if not (present / name).is_file():
            blobs[name] = fetch_blob(repo, listing, name)
        return blobs.get(name, present / name)

    check_config(read_json(fetch(CONFIG)), title)
    if INDEX in names:
        names += shard_names(fetch(INDEX))
    for name in names:
        fetch(name)
    folder = link_snapshot(repo, revision, listing.commit, blobs.items()) if blobs else present
    return Snapshot(folder, {name: expected_file(repo, listing, name) for name in names})


# --- verifying ----------------------------------------------------------------------------------


def _verified(repo: str, title: str, snapshot: Snapshot) -> Checkpoint:
    """The snapshot as a checkpoint, once every file is what it should be."""
    sha256 = {
        name: verify_file(snapshot.folder / name, expected)
        for name, expected in snapshot.files.items()
    }
    check_config(read_json(snapshot.folder / CONFIG), title)
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


def verify_file(path: Path, expected: ExpectedFile) -> str:
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
    raise ModelError(
        f"{path.name} in the cache is damaged ({found}): delete {blob} and load again."
    )
