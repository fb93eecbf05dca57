"""A head's logits in the head's own d_head dimensions, with a bound on their rounding error.

With ``W_O = R·Q`` and orthonormal rows in Q, the logit of token v for a source x is
``(x·W_V·R)·(Q·w_v)``: d_head numbers for the source, d_head for the token (Elhage et al., *A
Mathematical Framework for Transformer Circuits*, 2021, "Attention heads are low-rank").

The rounding bound: with unit roundoff u and ``γ_n = n·u/(1-n·u)`` (Higham, *Accuracy and Stability
of Numerical Algorithms*, 2002, section 3.1), each of the d_head numbers of a token is off by at
most ``γ_{d_model+1}·|w_v|``, their product with a source of length 1 by
``√d_head·γ_{d_model+1}·|w_v|``, and its summation by ``γ_{d_head}·|w_v|``. A source carried into
the residual stream by Q first is off by less than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

T = TypeVar("T")

MEMORY = 1 << 30
"""Bytes that scoring holds at most at any time, besides the model, the answers and the code: source
vectors, copies of one batch of heads, blocks of the vocabulary and of logits. Vocabulary, pairs and
heads that are more do not take more, but for a few numbers each."""
TILE = 1 << 22
"""Logits held at once: 16 MiB in float32, so that a block stays in the processor's cache."""


@contextmanager
def full_float32() -> Iterator[None]:
    """Forbid products of less than float32's precision (TF32, bfloat16, autocast) meanwhile."""
    backends: list[Any] = [torch.backends.cuda, torch.backends.mkldnn]
    settings = [backend.matmul for backend in backends]
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def in_full_float32(steps: Iterator[T]) -> Iterator[T]:
    """Take each step of an iterator under ``full_float32``, and leave it between them."""
    while True:
        with full_float32():
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step


class Vocabulary:
    """The unembedding, a row for each token, read in blocks.

    Attributes:
        rows: ``[d_vocab, d_model]``, any floating dtype, on the computing device.
        norms: float32 ``[d_vocab]``, length of each row, rounded up.
    """

    def __init__(self, W_U: Float[Tensor, "d_model d_vocab"]) -> None:
        self.rows = W_U.T
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

    def likely(
        self, directions: Float[Tensor, "n d_model"], n: int
    ) -> tuple[Int[Tensor, "n m"], Int[Tensor, "n m"]]:
        """Tokens with the largest and with the smallest product with each direction.

        Returns:
            Two int64 ``[n_directions, min(n, d_vocab)]``, the most extreme token first.
        """
        block = max(1, TILE // max(1, directions.shape[0] + self.rows.shape[1]))
        n = min(n, self.size)
        logits = directions.new_empty(len(directions), self.size)
        for s in slices(self.size, block):
            logits[:, s] = directions @ self.block(s).T
        return logits.topk(n, dim=1).indices, logits.topk(n, dim=1, largest=False).indices


class Sources:
    """Source vectors, and what every head asks of them.

    Attributes:
        x: float64 ``[n, d_model]``.
        lengths: of each.
        average: float64 ``[d_model]``, their mean direction.
    """

    def __init__(self, x: Float[Tensor, "n d_model"]) -> None:
        self.x = x
        self.lengths = x.norm(dim=1)
        smallest = torch.finfo(torch.float64).tiny
        self.average = self.lengths.clamp_min(smallest).reciprocal() @ x / len(x)


class Head:
    """One head's weights, factored as ``W_O = R·Q``, and the multiplications done with them.

    Attributes:
        sources: what it reads.
        W_V: float64.
        W_O: float64.
        margin: of ``OV``.
        n_near_ties: comparisons that it made a tie so far.
        R: float64 ``[d_head, r]``.
        Q: float32 ``[r, d_model]``, on the vocabulary's device.
    """

    def __init__(
        self,
        sources: Sources,
        W_V: Float[Tensor, "d_model d_head"],
        W_O: Float[Tensor, "d_head d_model"],
        vocabulary: Vocabulary,
        margin: float = 0.0,
    ) -> None:
        self.sources = sources
        self.margin = margin
        self.n_near_ties = 0
        device = sources.x.device
        self.W_V = W_V.to(device).double()
        self.W_O = W_O.to(device).double()
        q, r = torch.linalg.qr(self.W_O.cpu().T)
        self.R = r.T.contiguous().to(device)
        self.Q = q.T.float().to(vocabulary.rows.device)
        self.vocabulary = vocabulary
        self.projected: Float[Tensor, "d_vocab r"] | None = None
        self.multiply_adds = 0
        self._ordered: tuple[np.ndarray, ...] | None = None

    def project(self, tokens: slice | Int[Tensor, "n"]) -> Float[Tensor, "n r"]:
        """``Q·w_v`` for each token."""
        if self.projected is not None:
            return self.projected[tokens]
        rows = self.vocabulary.block(tokens)
        self.multiply_adds += rows.numel() * self.Q.shape[0]
        return rows @ self.Q.T

    @property
    def projected_numbers(self) -> int:
        """How many numbers ``project_all`` keeps."""
        return self.vocabulary.size * self.Q.shape[0]

    def project_all(self) -> None:
        """Keep every token's projection, where all of them will be asked for."""
        projected = self.Q.new_empty(self.vocabulary.size, self.Q.shape[0])
        for s in slices(self.vocabulary.size, max(1, TILE // self.Q.shape[1])):
            projected[s] = self.project(s)
        self.projected = projected

    def operands(
        self, source: Float[Tensor, "m r"], tokens: slice | Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "m width"], Float[Tensor, "n width"]]:
        """Two matrices whose product is the logits, the cheaper of two such pairs."""
        r, d_model = self.Q.shape
        if self.projected is None and len(source) < r:
            left, right = source @ self.Q, self.vocabulary.block(tokens)
            self.multiply_adds += source.numel() * d_model
        else:
            left, right = source, self.project(tokens)
        self.multiply_adds += len(left) * right.numel()
        return left, right

    def written_in_order(self, row: int) -> Float[np.ndarray, "d_model"]:
        """``x·W_V·W_O`` of one source, float64, summed in an order that only the shapes decide."""
        if self._ordered is None:
            # numpy sums in the order of memory, which must not depend on where weights came from.
            weights = (W.cpu().numpy() for W in (self.W_V, self.W_O))
            self._ordered = tuple(map(np.ascontiguousarray, weights))
        W_V, W_O = self._ordered
        value = (self.sources.x[row].cpu().numpy()[:, None] * W_V).sum(0)
        return np.asarray((value[:, None] * W_O).sum(0))

    def logit_gaps_float64(
        self, row: int, target: int, tokens: Int[Tensor, "n"]
    ) -> Iterator[Float[np.ndarray, "m"]]:
        """By how much each token's logit exceeds the target's, some tokens at a time.

        Everything is summed in an order that only the shapes decide, and a token is compared by the
        difference of its row and the target's, so that equal rows tie exactly.
        """
        written = self.written_in_order(row)
        rows = self.vocabulary.rows
        own = rows[target].cpu().double().numpy()
        for s in slices(len(tokens), 1024):
            difference = np.ascontiguousarray(rows[tokens[s]].cpu().double().numpy() - own)
            self.multiply_adds += difference.size
            gaps = (difference * written).sum(1)
            if self.margin:
                possible = np.linalg.norm(difference, axis=1) * np.linalg.norm(written)
                tied = (np.abs(gaps) <= self.margin * possible) & (gaps != 0)
                self.n_near_ties += int(tied.sum())
                gaps[tied] = 0
            yield gaps

    def silent(self, scale: Float[Tensor, "n"]) -> Bool[Tensor, "n"]:
        """The sources for which the head writes exactly nothing.

        Args:
            scale: length of what it writes, as computed; where that is 0, it is summed again in the
                fixed order.
        """
        nothing = scale == 0
        if bool(self.W_V.any()) and bool(self.W_O.any()):
            for row in (nothing & self.sources.x.any(1)).nonzero()[:, 0].tolist():
                nothing[row] = not self.written_in_order(row).any()
        return nothing

    def relative_error(self, scale: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Bound on a logit's rounding error over ``|w_v|``, for unit sources; float32.

        Args:
            scale: float64, length of what the head writes for each source.
        """
        r, d_model = self.Q.shape
        d_head = self.W_O.shape[0]
        single = math.sqrt(r) * gamma(d_model + 1, torch.float32) + gamma(r + 3, torch.float32)
        # float64's own error in what the head writes, which matters only where that nearly
        # vanishes: x·W_V·R here and x·W_V·W_O in the fixed order, each two products; and the
        # factors R and Q (Higham, theorem 19.4).
        factors = gamma(8 * d_model * r, torch.float64)
        double = 2 * gamma(self.W_V.shape[0] + d_head, torch.float64) + factors
        double *= float(self.W_V.norm() * self.W_O.norm())
        bound = 1.01 * (single + double * self.sources.lengths / scale)
        # No logit of a unit source is off by more than 2: it is at most |w_v| long to either side.
        return torch.where(scale > 0, bound, torch.inf).clamp(max=2.1).float()


class ResidualStream:
    """The same logits from what the heads write: d_model numbers for a source, W_U for a token.

    Sources of several heads can be multiplied with the vocabulary together here.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.multiply_adds = 0

    def operands(
        self, source: Float[Tensor, "m d_model"], tokens: slice | Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "m d_model"], Float[Tensor, "n d_model"]]:
        """Two matrices whose product is the logits."""
        rows = self.vocabulary.block(tokens)
        self.multiply_adds += len(source) * rows.numel()
        return source, rows


def slices(n: int, block: int) -> Iterator[slice]:
    """``range(n)`` in consecutive pieces of at most ``block``."""
    for start in range(0, n, block):
        yield slice(start, min(start + block, n))


def gamma(n: int, dtype: torch.dtype) -> float:
    """``γ_n``, the bound on the relative rounding error of a sum of n products."""
    unit = torch.finfo(dtype).eps / 2
    return n * unit / (1 - n * unit)


def count_true(mask: Bool[Tensor, "m n"]) -> Int[Tensor, "m"]:
    """Trues in each row; where the row length allows it, eight bytes are added at a time."""
    n = mask.shape[1]
    if n % 8 or n > 8 * 255 or not mask.is_contiguous():
        return mask.sum(1)
    return mask.view(torch.int64).sum(1, keepdim=True).view(torch.uint8).sum(1)
