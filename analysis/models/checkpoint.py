"""A checkpoint folder: which of its files are read, whether they are whole, and their checksum.

Every model, wherever it comes from, ends as a local folder with ``config.json``, safetensors
weights and a tokenizer. This module knows that layout and nothing of the hub or of packages.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch

from analysis.errors import ModelError, first_line
from analysis.progress import progress_bar
from analysis.validation import is_file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from analysis.provenance import ModelIdentity

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Any one of these sets is a tokenizer that can be held against its own file.
TOKENIZER_SETS = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})
OTHER_FILES = {
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
}
# What decides the ids that a text becomes; the other files say how to sample and to chat.
_TOKENIZER_FILES = set().union(*TOKENIZER_SETS) | {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
}
_SAYS_NOTHING = {"_name_or_path", "name_or_path", "transformers_version"}
"""Entries of JSON files that say who saved them from where."""

# Formats that run code when read (pickle) or that this project does not read.
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SENTENCEPIECE = {"tokenizer.model", "spiece.model"}

MAX_JSON = 200_000_000
"""Bytes of a JSON file that are read; the largest tokenizers have some 40 million."""

_BLOCK = 1_000_000
"""Bytes of a file that are read at once for its checksum."""
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Checkpoint:
    """A verified local folder and the model that it holds."""

    folder: Path
    identity: ModelIdentity


def needed_files(names: Collection[str], where: str) -> list[str]:
    """Choose, among a repository's or a folder's files, those that loading reads, sorted.

    Where the weights are sharded, the shards are not among them: only the index, once it is read,
    tells what they are called (``shard_names``).
    """
    present = set(names)
    if ADAPTER in present:
        raise ModelError(
            f"{where} holds an adapter ({ADAPTER}), whose weights only change those of another "
            "model: merge it into that model (merge_and_unload() of peft), save the result with "
            "save_pretrained() and load that."
        )
    if CONFIG not in present:
        raise ModelError(
            f"{where} has no {CONFIG}: give a checkpoint saved with save_pretrained()."
        )
    weights = _needed_weights(present, where)
    if not any(files <= present for files in TOKENIZER_SETS):
        if SENTENCEPIECE & present:
            raise ModelError(
                f"{where} has its tokenizer only as {min(SENTENCEPIECE & present)}, which cannot "
                "be checked here: open it once with transformers' AutoTokenizer and call "
                "save_pretrained(), which writes tokenizer.json."
            )
        raise ModelError(
            f"{where} has no tokenizer (tokenizer.json): "
            "save the model's tokenizer beside its weights."
        )
    tokenizer = set().union(*TOKENIZER_SETS) & present
    return sorted({CONFIG, weights} | tokenizer | (OTHER_FILES & present))


def _needed_weights(present: set[str], where: str) -> str:
    if WEIGHTS in present:  # transformers too prefers the single file where both exist
        return WEIGHTS
    if INDEX in present:
        return INDEX
    if any(name.endswith(PICKLE_SUFFIXES) for name in present):
        raise ModelError(
            f"{where} has its weights only as pickle, which can run code when it is read: "
            f"convert them to {WEIGHTS} first, or use another model."
        )
    raise ModelError(f"{where} has no weights ({WEIGHTS}): save the model there as safetensors.")


def folder_files(folder: Path) -> list[str]:
    """Names of the files directly in ``folder``."""
    try:
        return [path.name for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise ModelError(
            f"the folder {folder} cannot be read ({error.strerror}): check its permissions."
        ) from error


def shard_names(index: Path) -> list[str]:
    """The names of the shards that an index lists, sorted; whatever they are called."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index} lists no weights: fetch the checkpoint again.")
    # A shard's name comes from the checkpoint: it must not lead out of the folder.
    for shard in weight_map.values():
        if not is_file_name(shard) or not shard.endswith(".safetensors"):
            raise ModelError(
                f"{index} lists {shard!r:.200}, which is not the name of a safetensors file "
                "beside it: use another copy of the model."
            )
    return sorted(set(weight_map.values()))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the weights, sorted by name."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    files = [folder / shard for shard in shard_names(folder / INDEX)]
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{folder / INDEX} lists {file.name}, which is not there: fetch it again."
            )
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with or without a byte-order mark."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise ModelError(f"{path} has over {MAX_JSON:,} bytes, so it is not read: replace it.")
        text = path.read_bytes()
        if text.startswith(_LFS_POINTER):
            raise ModelError(_is_pointer(path))
        content = json.loads(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read as JSON ({first_line(error)}): replace it."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object: replace it.")
    return content


def check_safetensors(path: Path) -> None:
    """Check that a file is whole safetensors, as its header describes itself."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
        if pointer:
            raise ModelError(_is_pointer(path))
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged or not safetensors ({first_line(error)}): "
            "replace it with a whole copy."
        ) from error


def _is_pointer(path: Path) -> str:
    return (
        f"{path} is not the file but a git-lfs pointer to it: "
        f"run `git lfs pull` in {path.parent}, or load the model by its hub id."
    )


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


def checkpoint_checksum(checkpoint: Checkpoint) -> str:
    """One SHA-256 for all that a model's answers come from: weights, configuration, tokenizer.

    JSON files count by what they say, whatever the order and spacing.
    """
    digest = hashlib.sha256(f"{checkpoint.identity.checksum}\n".encode())
    present = set(folder_files(checkpoint.folder))
    for name in sorted(({CONFIG} | _TOKENIZER_FILES) & present):
        path = checkpoint.folder / name
        if path.suffix == ".json":
            said = {k: v for k, v in read_json(path).items() if k not in _SAYS_NOTHING}
            content = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        else:
            content = sha256_of(path)
        digest.update(f"{name}\t{content}\n".encode())
    return digest.hexdigest()
