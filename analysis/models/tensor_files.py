"""Single tensors out of safetensors files, without reading the rest.

A safetensors file begins with eight bytes, the length of its header, and the header: JSON that
says of every tensor its dtype, its shape and where its bytes lie. Files on disk are mapped, so a
tensor takes memory only while it is in use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from analysis.errors import ModelError
from analysis.models.checkpoint import check_safetensors, weight_files

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Floating dtypes that a checkpoint's weights may have."""
MAX_HEADER = 100 << 20


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies: bytes ``start`` to before ``end``; ``dtype`` as safetensors has it."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def n_bytes(self) -> int:
        """Bytes that the tensor takes."""
        return self.end - self.start


class TensorFiles(Protocol):
    """A checkpoint's tensors by the names in its files."""

    @property
    def places(self) -> Mapping[str, TensorPlace]:
        """Every tensor."""

    def prepare(self, names: list[str]) -> None:
        """Bring tensors near that are about to be read."""

    def tensor(self, name: str) -> Tensor:
        """One tensor, in the dtype of the file."""


@dataclass(frozen=True)
class LocalTensors:
    """Tensors of files on disk, as these were when they were opened: ``stamps`` tells by name."""

    folder: Path
    places: Mapping[str, TensorPlace]
    stamps: Mapping[str, tuple[int, ...]]

    def prepare(self, names: list[str]) -> None:
        """Nothing to do: the files are at hand."""

    def tensor(self, name: str) -> Tensor:
        """One tensor, backed by the mapped file."""
        from safetensors import safe_open

        path = self.folder / self.places[name].file
        if _stamp(path) != self.stamps[path.name]:
            raise ModelError(f"{path} was changed since it was opened: open the model again.")
        with safe_open(path, framework="pt") as stored:
            tensor: Tensor = stored.get_tensor(name)
        return tensor


def local_tensors(folder: Path) -> LocalTensors:
    """The tensors of a checkpoint folder, from the files' headers."""
    places: dict[str, TensorPlace] = {}
    stamps = {}
    for file in weight_files(folder):
        stamps[file.name] = _stamp(file)
        check_safetensors(file)
        with file.open("rb") as stream:
            length = header_length(stream.read(8), file.name)
            places |= parse_header(stream.read(length), file.name, file.stat().st_size)
    return LocalTensors(folder, places, stamps)


def _stamp(path: Path) -> tuple[int, ...]:
    """What a file that is replaced or written to does not keep; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def header_length(first: bytes, file: str) -> int:
    """Bytes of the header, from a file's first eight."""
    length = int.from_bytes(first, "little")
    if len(first) != 8 or not 2 <= length <= MAX_HEADER:
        raise ModelError(f"{file} is damaged or not safetensors: replace it with a whole copy.")
    return length


def parse_header(header: bytes, file: str, size: int) -> dict[str, TensorPlace]:
    """What a header says, checked against the size of its file."""
    damaged = ModelError(f"{file} is damaged or not safetensors: replace it with a whole copy.")
    try:
        content = json.loads(header)
        content.pop("__metadata__", None)
        begin = 8 + len(header)
        places = {
            name: TensorPlace(
                file,
                str(entry["dtype"]),
                tuple(int(n) for n in entry["shape"]),
                begin + int(entry["data_offsets"][0]),
                begin + int(entry["data_offsets"][1]),
            )
            for name, entry in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise damaged from error
    for place in places.values():
        dtype = DTYPES.get(place.dtype)
        wanted = None if dtype is None else math.prod(place.shape) * dtype.itemsize
        if not begin <= place.start <= place.end <= size or wanted not in (None, place.n_bytes):
            raise damaged
    return places
