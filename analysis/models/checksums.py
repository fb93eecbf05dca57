"""Checksums of files, and one for all of a model's weights."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import torch

from analysis.errors import ModelError
from analysis.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_BLOCK = 1_000_000
"""Bytes of a file that are read at once for its checksum."""


def sha256_of(path: Path, after_block: Callable[[], object] = lambda: None) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    ``after_block`` is called after each block that is read; what it raises stops the reading.
    """
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    try:
        with path.open("rb", buffering=0) as file:
            while n := file.readinto(block):
                digest.update(block[:n])
                after_block()
        return digest.hexdigest()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}): check its permissions."
        ) from error


def git_blob_sha1_of(path: Path) -> str:
    """The id that git, and so the hub, gives to a file that is not kept as a large file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def weights_checksum(files: Sequence[Path], known: Mapping[str, str] | None = None) -> str:
    """One SHA-256 for a model's weights: the file's, or that of the shards' concatenated digests.

    ``known`` are those already computed, by file name.
    """
    digests = dict(known or {})
    unread = [path for path in files if not digests.get(path.name)]
    if unread:
        found = _sha256_of_each(unread)
        digests |= {path.name: sha256 for path, sha256 in zip(unread, found, strict=True)}
    if len(files) == 1:
        return digests[files[0].name]
    return hashlib.sha256(
        "".join(sorted(digests[path.name] for path in files)).encode()
    ).hexdigest()


def _sha256_of_each(files: Sequence[Path]) -> list[str]:
    """SHA-256 of files that are read beside each other on as many threads as torch may use."""
    read: SimpleQueue[int] = SimpleQueue()  # a 1 for each block, a 0 for each file
    stopped = threading.Event()

    def after_block() -> None:
        if stopped.is_set():
            raise RuntimeError("stopped")
        read.put(1)

    def digest(path: Path) -> str:
        try:
            return sha256_of(path, after_block)
        finally:
            read.put(0)

    n_blocks = sum(-(-path.stat().st_size // _BLOCK) for path in files)
    n_threads = min(torch.get_num_threads(), len(files))
    with (
        progress_bar(n_blocks, "checksum of the weights", "MB") as bar,
        ThreadPoolExecutor(n_threads, "checksum") as pool,
    ):
        try:
            found = pool.map(digest, files)
            for _ in files:
                while read.get():
                    bar.update()
            return list(found)
        except BaseException:  # Ctrl-C, or a listener that stops the work
            stopped.set()
            raise
