"""The unembedding as the scorer reads it: a row for each token, in blocks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.exact.arithmetic import TILE, gamma, room_for_projections, slices
from analysis.exact.threads import map_tasks

SAMPLED = 4
"""One token in this many is looked at for extreme tokens that serve one call alone."""
SAMPLED_FROM = 8192
"""Tokens, at least, of a vocabulary of which only some are looked at."""

T = TypeVar("T")
R = TypeVar("R")


class Vocabulary:
    """The unembedding, a row for each token, read in blocks.

    Attributes:
        rows: ``[d_vocab, d_model]``, any floating dtype, on the computing device.
        norms: float32 ``[d_vocab]``, length of each row, rounded up.
        n_bytes_kept: bytes of heads' factors and projections that are kept for later.
    """

    def __init__(self, W_U: Float[Tensor, "d_model d_vocab"], keep_bytes: int = 0) -> None:
        """Read the length of every row; keep ``keep_bytes`` at most of heads for later calls."""
        self.rows = W_U.T
        self.n_bytes_kept = self._n_bytes_projected = 0
        self._keep_bytes = keep_bytes
        self._kept: dict[Hashable, tuple[Tensor, ...]] = {}
        self._lock = threading.Lock()
        d_model = W_U.shape[0]
        self.norms = torch.empty(self.size, dtype=torch.float32, device=W_U.device)
        for s in slices(self.size, max(1, TILE // d_model)):
            rows = self.block(s)
            norms = rows.norm(dim=1)
            if not bool(((norms > 1e-12) & norms.isfinite()).all()):
                # Scaled, so that no square overflows or vanishes.
                largest = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
                norms = largest * (rows / largest[:, None]).norm(dim=1)
            self.norms[s] = norms
        self.norms *= 1 + 2 * gamma(d_model + 4, torch.float32)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self.rows.shape[0])

    def block(self, tokens: slice | Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """Rows of ``tokens`` as float32."""
        return self.rows[tokens].float()

    def kept(
        self, key: Hashable | None, compute: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What ``compute`` gives, or gave for this key before; with None nothing is kept."""
        (tensors,) = self.kept_each([key], lambda _: [compute()])
        return tensors

    def known(self, key: Hashable | None) -> tuple[Tensor, ...] | None:
        """What is kept for a key."""
        with self._lock:
            return None if key is None else self._kept.get(key)

    def keep_projected(self, key: Hashable | None, blocks: Sequence[Tensor]) -> None:
        """Keep every token's projection by a head, where there is room (``keeps_projected``)."""
        n_bytes = sum(block.numel() * block.element_size() for block in blocks)
        if key is not None and self.known(key) is None and self.keeps_projected(n_bytes):
            self.kept(key, lambda: (torch.cat(list(blocks)),))
            with self._lock:
                self._n_bytes_projected += n_bytes

    def keeps_projected(self, n_bytes: int) -> bool:
        """Whether ``n_bytes`` of one more head would be kept.

        Half of what may be kept is left to the factors and extreme tokens of all heads.
        """
        room = self._keep_bytes // 2 - self._n_bytes_projected
        return n_bytes <= min(room, room_for_projections())

    def kept_each(
        self,
        keys: Sequence[Hashable | None],
        compute: Callable[[Sequence[int]], Sequence[tuple[Tensor, ...]]],
    ) -> list[tuple[Tensor, ...]]:
        """Likewise for several keys; the places of those not kept are computed together."""
        with self._lock:
            found = [None if key is None else self._kept.get(key) for key in keys]
        missing = [i for i, tensors in enumerate(found) if tensors is None]
        computed = dict(zip(missing, compute(missing) if missing else [], strict=True))
        with self._lock:
            for i, tensors in computed.items():
                n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
                fits = self.n_bytes_kept + n_bytes <= self._keep_bytes
                if keys[i] is not None and keys[i] not in self._kept and fits:
                    self._kept[keys[i]] = tensors
                    self.n_bytes_kept += n_bytes
        return [computed[i] if tensors is None else tensors for i, tensors in enumerate(found)]

    def extreme_tokens(
        self, directions: Float[Tensor, "n d_model"], n: int
    ) -> tuple[Int[Tensor, "n m"], Int[Tensor, "n m"]]:
        """Tokens with the largest and with the smallest product with each direction.

        Where nothing is kept for a next call, only every fourth token is looked at: the pairs left
        open are a few more, but finding these tokens costs a quarter.

        Returns:
            Two int64 ``[n_directions, min(n, d_vocab)]``, the most extreme token first.
        """
        step = 1 if self._keep_bytes or self.size < max(SAMPLED_FROM, 4 * SAMPLED * n) else SAMPLED
        n_tokens = -(-self.size // step)
        n = min(n, n_tokens)
        logits = directions.new_empty(len(directions), n_tokens)

        def fill(s: slice) -> None:
            rows = self.block(slice(s.start * step, s.stop * step, step))
            torch.mm(directions, rows.T, out=logits[:, s])

        def choose(s: slice) -> tuple[Tensor, Tensor]:
            both = [(largest(row, n), largest(-row, n)) for row in logits[s]]
            return torch.stack([most for most, _ in both]), torch.stack(
                [least for _, least in both]
            )

        block = max(1, TILE // max(1, directions.shape[0] + self.rows.shape[1]))
        deque(self.map(fill, list(slices(n_tokens, block))), maxlen=0)
        chosen = list(self.map(choose, list(slices(len(directions), 8))))
        most, least = (torch.cat(both) for both in zip(*chosen, strict=True))
        return most * step, least * step

    def map(self, do: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """``map_tasks`` where the processor computes; elsewhere one task after another."""
        return map_tasks(do, tasks) if self.rows.device.type == "cpu" else map(do, tasks)


def largest(values: Float[Tensor, "n"], m: int) -> Int[Tensor, "m"]:
    """Places of the m largest values, the largest first.

    The m-th largest of the maxima of 4·m groups bounds the m-th largest value from below, which
    leaves few values to sort.
    """
    width = len(values) // (4 * m)
    if width < 2:
        return values.topk(m).indices
    maxima = values[: 4 * m * width].view(width, 4 * m).amax(0)
    candidates = (values >= maxima.topk(m).values[-1]).nonzero()[:, 0]
    return candidates[values[candidates].topk(m).indices]
