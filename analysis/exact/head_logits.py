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

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MEMORY = 1 << 30
"""Bytes that scoring holds at most at any time, besides the model, the answers and the code: source
vectors, copies of one batch of heads, blocks of the vocabulary and of logits. Vocabulary, pairs and
heads that are more do not take more, but for a few numbers each."""
TILE = 1 << 22
"""Logits held at once: 16 MiB in float32, so that a block stays in the processor's cache."""


@contextmanager
def full_float32() -> Iterator[None]:
    """Forbid the reduced-precision float32 products (TF32, bfloat16) that torch may be set to."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Vocabulary:
    """The unembedding, a row for each token, read in blocks.

    Attributes:
        rows: ``[d_vocab, d_model]``, any floating dtype, on the computing device.
        norms: float32 ``[d_vocab]``, length of each row, rounded up.
    """

    def __init__(self, W_U: Float[Tensor, "d_model d_vocab"]) -> None:
        self.rows = W_U.T
        block = max(1, TILE // W_U.shape[0])
        self.norms = torch.cat([self.block(s).norm(dim=1) for s in slices(self.size, block)]) * (
            1 + 1e-5
        )

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
        logits = torch.empty(len(directions), self.size, device=directions.device)
        for s in slices(self.size, block):
            logits[:, s] = directions @ self.block(s).T
        return logits.topk(n, dim=1).indices, logits.topk(n, dim=1, largest=False).indices


class Head:
    """One head's weights, factored as ``W_O = R·Q``, and the multiplications done with them."""

    def __init__(
        self,
        W_V: Float[Tensor, "d_model d_head"],
        W_O: Float[Tensor, "d_head d_model"],
        vocabulary: Vocabulary,
    ) -> None:
        self.W_V = W_V.double()
        self.W_O = W_O.double()
        q, r = torch.linalg.qr(self.W_O.cpu().T)
        self.R = r.T.contiguous().to(W_O.device)
        self.Q = q.T.float().to(vocabulary.rows.device)
        self.vocabulary = vocabulary
        self.projected: Float[Tensor, "d_vocab r"] | None = None
        self.multiply_adds = 0

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
        projected = torch.empty(self.vocabulary.size, self.Q.shape[0], device=self.Q.device)
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

    def leads_in_float64(
        self, x: Float[Tensor, "d_model"], target: int, tokens: Int[Tensor, "n"]
    ) -> Iterator[Float[np.ndarray, "m"]]:
        """By how much each token's logit exceeds the target's, some tokens at a time.

        Everything is summed by numpy in an order that only the shapes decide, and a token is
        compared by the difference of its row and the target's, so that equal rows tie exactly.
        """
        W_V, W_O = self.W_V.cpu().numpy(), self.W_O.cpu().numpy()
        value = (x.cpu().numpy()[:, None] * W_V).sum(0)
        written = (value[:, None] * W_O).sum(0)
        rows = self.vocabulary.rows
        own = rows[target].double().cpu().numpy()
        for s in slices(len(tokens), 1024):
            difference = rows[tokens[s]].double().cpu().numpy() - own
            self.multiply_adds += difference.size
            yield (difference * written).sum(1)

    def relative_error(
        self, lengths: Float[Tensor, "m"], scale: Float[Tensor, "m"]
    ) -> Float[Tensor, "m"]:
        """Bound on a logit's rounding error over ``|w_v|``, for unit sources.

        Args:
            lengths: float64, length of each source vector.
            scale: float64, length of what the head writes for it; where 0, the bound is infinite.
        """
        r, d_model = self.Q.shape
        single = math.sqrt(r) * gamma(d_model + 1, torch.float32) + gamma(r + 3, torch.float32)
        # float64's own error in what the head writes: it matters only where that nearly vanishes.
        double = gamma(d_model + 2 * r, torch.float64) * self.W_V.norm() * self.W_O.norm()
        # No logit of a unit source is off by more than 2: it is at most |w_v| long to either side.
        bound = (1.01 * (single + double * lengths / scale)).clamp(max=2.1)
        return torch.where(scale > 0, bound, torch.inf).float()


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
