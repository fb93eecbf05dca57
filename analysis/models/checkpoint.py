"""A checkpoint folder: which of its files are read, whether they are whole, and their checksum.

Every model, wherever it comes from, ends as a local folder with ``config.json``, safetensors
weights and a tokenizer. This module knows that layout and nothing of the hub or of packages.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import ModelError, first_line
from analysis.models.checksums import sha256_of
from analysis.validation import is_file_name

if TYPE_CHECKING:
    from collections.abc import Collection

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
