"""Writing several files so that each is either the old one or the new one, whole.

1. A lock beside the files keeps a second writer of the same set out.
2. All new files are made in a hidden folder beside the old ones, so on the same file system.
3. Only when all are on disk are they moved over the old ones, one by one.

A writer that dies leaves whole files and the hidden folder, which the next writer removes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout

from analysis.errors import ExportError

LOCK_WAIT_S = 30.0
"""How long a writer waits for another to finish; a whole export takes some seconds."""


@contextmanager
def staging(stem: Path) -> Iterator[Path]:
    """An empty folder for the files that will stand at ``stem``, with the stem locked.

    Args:
        stem: folder and beginning of the files' names.

    Yields:
        The folder. It is gone afterwards, with what was not moved out of it.

    Raises:
        ExportError: the folder cannot be made or written, or another writer does not end.
    """
    lock_path = stem.parent / f".{stem.name}.lock"
    folder = stem.parent / f".{stem.name}.new"
    lock = FileLock(lock_path, timeout=LOCK_WAIT_S)
    with as_export_error(f"to the folder {stem.parent}"):
        stem.parent.mkdir(parents=True, exist_ok=True)
        # The lock takes some refusals for another holder, and would wait; a file is told at once.
        TemporaryFile(dir=stem.parent).close()
        try:
            lock.acquire()
        except Timeout:
            raise ExportError(
                f"another export to {stem} has been running for {LOCK_WAIT_S:.0f} s; "
                "wait for it to end, or choose another name"
            ) from None
    try:
        with as_export_error(stem):
            _remove(folder)  # left by a writer that died
            folder.mkdir()
        yield folder
    finally:
        with suppress(OSError):
            _remove(folder)
        # Removed while held: who waits for it sees that its file is gone, and makes a new one.
        # Windows removes no open file; there the lock's file stays, empty.
        with suppress(OSError):
            lock_path.unlink()
        lock.release()


def write_whole(path: Path, content: bytes) -> Path:
    """Write one file, whole or not at all.

    Returns:
        ``path``.

    Raises:
        ExportError: it cannot be written, or another writer of it does not end.
    """
    with staging(path) as folder:
        made = folder / path.name
        with as_export_error(path):
            made.write_bytes(content)
        return move_into_place([made], path.parent)[0]


def move_into_place(files: list[Path], folder: Path) -> list[Path]:
    """Move finished files over those of the same names.

    Args:
        files: on the same file system as ``folder``; the last one moves last.
        folder: where they belong.

    Returns:
        Where they are now.

    Raises:
        ExportError: a file cannot be moved; those before it have been.
    """
    targets = [folder / file.name for file in files]
    for target in targets:
        if target.is_dir():
            raise ExportError(f"cannot write {target}: {target.name} is a folder")
    with as_export_error(folder):
        for file in files:
            _flush(file)
        for file, target in zip(files, targets, strict=True):
            os.replace(file, target)
        _flush(folder)
    return targets


def _remove(path: Path) -> None:
    """Remove what stands at a path: a folder with all that is in it, or a file or link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on disk."""
    if path.is_dir() and os.name == "nt":  # which cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def as_export_error(
    place: object, advice: str = "make room, or choose another place"
) -> Iterator[None]:
    """Turn the system's refusal to write a file, or ``to the folder ...``, into our own error."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot write {place} ({error.strerror or error}): {advice}") from error
