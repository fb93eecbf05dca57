"""A checkpoint folder: which of its files are read, whether they are whole, and their checksum.

Every model, wherever it comes from, ends as a local folder with ``config.json``, safetensors
weights and a tokenizer. This module knows that layout and nothing of the hub or of packages.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from analysis.provenance import ModelIdentity

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")

# Any one of these sets is a tokenizer that transformers can read.
TOKENIZER_SETS = (
    {"tokenizer.json"},
    {"vocab.json", "merges.txt"},
    {"tokenizer.model"},
    {"spiece.model"},
)
OTHER_FILES = {
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
}
# Formats that run code when read (pickle) or that this project does not read.
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Checkpoint:
    """A verified local folder and the model that it holds."""

    folder: Path
    identity: ModelIdentity


def needed_files(names: Collection[str], where: str) -> list[str]:
    """Choose, among a repository's or a folder's files, those that loading reads.

    Args:
        names: paths relative to the repository or folder, with forward slashes.
        where: what to call it in an error (``the folder /tmp/model``).

    Returns:
        Sorted names: config, tokenizer files, and either the one weight file or index and shards.

    Raises:
        ModelError: no config, no tokenizer, no weights, or weights only as pickle.
    """
    present = set(names)
    if CONFIG not in present:
        raise ModelError(
            f"{where} has no {CONFIG}: give a checkpoint saved with save_pretrained()."
        )
    weights = _needed_weights(present, where)
    tokenizer = set().union(*TOKENIZER_SETS) & present
    if not any(files <= present for files in TOKENIZER_SETS):
        raise ModelError(
            f"{where} has no tokenizer (tokenizer.json): "
            "save the model's tokenizer beside its weights."
        )
    return sorted({CONFIG} | weights | tokenizer | (OTHER_FILES & present))


def _needed_weights(present: set[str], where: str) -> set[str]:
    if WEIGHTS in present:  # transformers too prefers the single file where both exist
        return {WEIGHTS}
    if INDEX in present:
        return {INDEX} | {name for name in present if _SHARD.fullmatch(name)}
    if any(name.endswith(PICKLE_SUFFIXES) for name in present):
        raise ModelError(
            f"{where} has its weights only as pickle, which can run code when it is read: "
            f"convert them to {WEIGHTS} first, or use another model."
        )
    raise ModelError(f"{where} has no weights ({WEIGHTS}): save the model there as safetensors.")


def folder_files(folder: Path) -> list[str]:
    """Names of the files directly in ``folder``."""
    return [path.name for path in folder.iterdir() if path.is_file()]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the weights, sorted by name.

    Raises:
        ModelError: the index is damaged or a shard that it lists is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = read_json(folder / INDEX)
    shards = sorted(set(index.get("weight_map", {}).values()))
    for shard in shards:
        # A shard's name comes from the checkpoint: it must not lead out of the folder.
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise ModelError(f"{folder / INDEX} lists {shard}, which is not there: fetch it again.")
    if not shards:
        raise ModelError(f"{folder / INDEX} lists no weights: fetch the checkpoint again.")
    return [folder / shard for shard in shards]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: the file is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}): replace it.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object: replace it.")
    return content


def check_safetensors(path: Path) -> None:
    """Check that a file is whole safetensors, as its header describes itself.

    Raises:
        ModelError: the file is truncated or is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged or not safetensors ({error}): replace it with a whole copy."
        ) from error


def first_line(error: Exception) -> str:
    """What a library's error says, short enough to stand inside one of ours."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_sha1_of(path: Path) -> str:
    """The id that git, and so the hub, gives to a file that is not kept as a large file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def weights_checksum(files: list[Path], known: Mapping[str, str] | None = None) -> str:
    """One SHA-256 for a model's weights.

    Args:
        files: weight files, as ``weight_files`` gives them.
        known: SHA-256 by file name, for those already computed.

    Returns:
        The file's SHA-256, or that of the concatenated digests where the weights are sharded.
    """
    known = known or {}
    digests = [known.get(path.name) or sha256_of(path) for path in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
