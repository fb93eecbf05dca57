"""Full float32 precision, rounding bounds, and the sizes of the blocks that work is cut into."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

T = TypeVar("T")

MEMORY = 1 << 30
"""Bytes that scoring holds at most at any time, besides the model, the answers and the code: source
vectors, copies of one batch of heads, blocks of the vocabulary and of logits. Vocabulary, pairs and
heads that are more do not take more, but for a few numbers each."""
TILE = 1 << 22
"""Logits held at once: 16 MiB in float32, so that a block stays in the processor's cache."""


def room_for_projections() -> int:
    """Bytes that one thread may hold of a head's projected vocabulary."""
    return MEMORY // 8 // torch.get_num_threads()


class _FloatSettings:
    """The backends' precision, set to full float32 while anything needs it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_holders = 0
        self.before: list[str] = []

    @staticmethod
    def _backends() -> list[Any]:
        backends: list[Any] = [torch.backends.cuda, torch.backends.mkldnn]
        return [backend.matmul for backend in backends]

    def hold(self) -> None:
        """Set full precision; the first holder notes what was set before."""
        with self.lock:
            if self.n_holders == 0:
                self.before = [backend.fp32_precision for backend in self._backends()]
                for backend in self._backends():
                    backend.fp32_precision = "ieee"
            self.n_holders += 1

    def release(self) -> None:
        """Restore what the first holder found, when the last one is done."""
        with self.lock:
            self.n_holders -= 1
            if self.n_holders == 0:
                for backend, precision in zip(self._backends(), self.before, strict=True):
                    backend.fp32_precision = precision


_SETTINGS = _FloatSettings()  # one for the process, as the backends' settings are


@contextmanager
def full_float32() -> Iterator[None]:
    """Forbid products of less than float32's precision (TF32, bfloat16, autocast) meanwhile.

    Several threads may do so at once: the setting of before comes back when the last one leaves.
    """
    _SETTINGS.hold()
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        _SETTINGS.release()


def in_full_float32(steps: Iterator[T]) -> Iterator[T]:
    """Take each step of an iterator under ``full_float32``, and leave it between them."""
    while True:
        with full_float32():
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step


def slices(n: int, block: int) -> Iterator[slice]:
    """``range(n)`` in consecutive pieces of at most ``block``."""
    for start in range(0, n, block):
        yield slice(start, min(start + block, n))


def gamma(n: int, dtype: torch.dtype) -> float:
    """``γ_n``, the bound on the relative rounding error of a sum of n products."""
    unit = torch.finfo(dtype).eps / 2
    return n * unit / (1 - n * unit)


def count_larger(
    values: Float[Tensor, "m n"], than: Float[Tensor, "m"], *, or_equal: bool = False
) -> Int[Tensor, "m"]:
    """How many values of each row are larger than the row's number.

    By ones and zeros in the values' own dtype, which torch makes and adds several times faster than
    trues; sums of fewer than 2²⁴ of them are exact.
    """
    compare = torch.ge if or_equal else torch.gt
    return compare(values, than[:, None], out=torch.empty_like(values)).sum(1).long()


def compare_rows(
    logits: Float[Tensor, "m n"], below: Float[Tensor, "m"], above: Float[Tensor, "m"]
) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"], Int[Tensor, "l"], Int[Tensor, "l"]]:
    """How many logits are larger than ``above`` and smaller than ``below``, and where the rest are.

    Returns:
        Numbers larger and smaller; row and column of each logit from ``below`` to ``above``.
    """
    larger = count_larger(logits, above)
    at_least = count_larger(logits, below, or_equal=True)
    unclear = (at_least > larger).nonzero()[:, 0]
    some = logits[unclear]
    between = (some >= below[unclear, None]) & (some <= above[unclear, None])
    row, column = between.nonzero(as_tuple=True)
    return larger, logits.shape[1] - at_least, unclear[row], column
