"""Room on a disk, and what an error of writing means, in the package's own words."""

from __future__ import annotations

import contextlib
import errno
import shutil
from typing import TYPE_CHECKING

from analysis.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def cannot_write(folder: str, variable: str) -> Iterator[None]:
    """A full disk, or a cache folder that is not ours, in the package's own words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError(
                f"the disk of {folder} is full: make room, or set {variable} to a folder on "
                "another disk, and load again; what came from the hub is kept and continued."
            ) from error
        raise ModelError(
            f"{folder} cannot be written ({error.strerror or error}): make room or set "
            f"{variable} to another folder."
        ) from error


def check_room(what: str, size: int, folder: Path, called: str, variable: str) -> None:
    """Refuse to write ``size`` bytes into a folder whose disk has fewer left."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ModelError(
            f"{what} needs {_megabytes(size)}, and the disk of {called} has {_megabytes(free)} "
            f"left: make room, or set {variable} to a folder on another disk."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
