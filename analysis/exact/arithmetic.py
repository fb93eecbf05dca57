"""Full float32 precision, rounding bounds, and the sizes of the blocks that work is cut into."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
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


_HOLDERS: list[list[str]] = []
"""What each holder of ``full_float32`` found set, one list for the process, as the settings are."""
_HOLDERS_LOCK = threading.Lock()


@contextmanager
def full_float32() -> Iterator[None]:
    """Forbid products of less than float32's precision (TF32, bfloat16, autocast) meanwhile.

    Several threads may do so at once: the setting of before comes back when the last one leaves.
    """
    modules: list[Any] = [torch.backends.cuda, torch.backends.mkldnn]
    backends = [module.matmul for module in modules]
    with _HOLDERS_LOCK:
        _HOLDERS.append([backend.fp32_precision for backend in backends])
        if len(_HOLDERS) == 1:
            for backend in backends:
                backend.fp32_precision = "ieee"
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        with _HOLDERS_LOCK:
            before = _HOLDERS.pop()
            if not _HOLDERS:  # the first holder's
                for backend, precision in zip(backends, before, strict=True):
                    backend.fp32_precision = precision


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


def concatenated(parts: Sequence[T]) -> T:
    """Parts of one dataclass, whose fields are tensors, row after row."""
    fields = {name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    return type(parts[0])(**fields)


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
