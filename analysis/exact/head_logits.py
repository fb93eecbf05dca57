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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.arithmetic import TILE, gamma, slices
from analysis.exact.factors import factor_error, orthonormal_rows
from analysis.exact.vocabulary import Vocabulary


class Sources:
    """Source vectors, their lengths and mean direction in float64: what every head asks of them."""

    def __init__(self, x: Float[Tensor, "n d_model"]) -> None:
        self.x = x
        self.lengths = x.norm(dim=1)
        smallest = torch.finfo(torch.float64).tiny
        self.average = self.lengths.clamp_min(smallest).reciprocal() @ x / len(x)


@dataclass(frozen=True)
class OV:
    """One head's weights, any floating dtype; heads of one group share the same W_V object.

    Attributes:
        W_V: what it reads with; d_in is d_model, or another width where ``x`` are not residual
            vectors.
        W_O: what it writes with.
        x: float64 source vectors of this head alone; None for those that all heads read.
        key: by what the head is known among those of the same unembedding, such as its (layer,
            head); None for weights that will not come again.
        margin: a token whose logit leads the target's by at most this share of
            ``|x·W_V·W_O|·|w_v − w_t|`` is tied with it; for sources that are themselves rounded.
    """

    W_V: Float[Tensor, "d_in d_head"]
    W_O: Float[Tensor, "d_head d_model"]
    x: Float[Tensor, "n_pairs d_in"] | None = None
    key: tuple[int, int] | None = None
    margin: float = 0.0


@dataclass(frozen=True)
class Factors:
    """A head's ``W_O = R·Q`` with orthonormal rows in Q.

    Attributes:
        R: float64, where the sources are.
        Q: float32, on the vocabulary's device.
        size: float64, W_O's Frobenius norm.
    """

    R: Float[Tensor, "d_head r"]
    Q: Float[Tensor, "r d_model"]
    size: Float[Tensor, ""]


class Head:
    """One head's weights, factored as ``W_O = R·Q``, and the multiplications done with them.

    Attributes:
        sources: what it reads.
        ov: its weights as they are given.
        R: float64 ``[d_head, r]``.
        Q: float32 ``[r, d_model]``, on the vocabulary's device.
        projected: float32 ``[d_vocab, r]``, every token's projection, where it is held.
        projects_all: whether all of them were asked for.
        ready: a block of tokens and their projections, made with those of other heads.
        multiply_adds: of the work that was asked for. What an earlier call has left counts as if
            it were computed, so that the number does not depend on earlier calls.
        n_near_ties: comparisons of different logits that the ``margin`` made a tie so far.
    """

    def __init__(
        self,
        sources: Sources,
        ov: OV,
        vocabulary: Vocabulary,
        factored: Factors | None = None,
    ) -> None:
        """Factor W_O, unless it is at hand as ``factors`` gives it."""
        self.sources, self.ov, self.vocabulary = sources, ov, vocabulary
        self.n_near_ties = 0
        device = sources.x.device
        factored = factored or factors([ov], vocabulary, device)[0]
        self.R, self.Q = factored.R, factored.Q
        value_size = torch.linalg.vector_norm(ov.W_V.to(device), dtype=torch.float64)
        self._size = float(value_size * factored.size)
        known = vocabulary.known(self._key)
        self.projected: Float[Tensor, "d_vocab r"] | None = None if known is None else known[0]
        self.projects_all = False
        self._blocks: list[Tensor] = []  # of projections, made one after another
        self.ready: tuple[slice, Tensor] | None = None
        self._keeps = self._key is not None and vocabulary.keeps_projected(self.projected_bytes)
        self.multiply_adds = 0
        self._ordered: tuple[np.ndarray, ...] | None = None

    @property
    def W_V(self) -> Float[Tensor, "d_in d_head"]:
        """In float64, made where it is asked for: many heads wait for their last pairs together."""
        return self.ov.W_V.to(self.sources.x.device).double()

    @property
    def W_O(self) -> Float[Tensor, "d_head d_model"]:
        """Likewise."""
        return self.ov.W_O.to(self.sources.x.device).double()

    def project(self, tokens: slice | Int[Tensor, "n"]) -> Float[Tensor, "n r"]:
        """``Q·w_v`` for each token."""
        projected = self._projection(tokens)
        if not self.projects_all:
            self.count_projection(len(projected))
        return projected

    def _projection(self, tokens: slice | Int[Tensor, "n"]) -> Float[Tensor, "n r"]:
        if self.projected is not None:
            return self.projected[tokens]
        if isinstance(tokens, slice) and self.ready is not None and self.ready[0] == tokens:
            projected = self.ready[1]
        else:
            projected = (self.Q @ self.vocabulary.block(tokens).T).T  # quicker than the other way
        if self._keeps and self._is_next(tokens):
            self._blocks.append(projected.clone())
        return projected

    def asks_for(self, n_sources: int, tokens: slice) -> bool:
        """Whether ``n_sources`` would have a block of tokens projected."""
        many = n_sources >= self.Q.shape[0] or self._goes_on(n_sources, tokens)
        return many and self.projected is None

    def count_projection(self, n_tokens: int) -> None:
        """Count the projection of ``n_tokens`` as done."""
        self.multiply_adds += n_tokens * self.Q.numel()

    @property
    def _key(self) -> tuple[str, tuple[int, int]] | None:
        return None if self.ov.key is None else ("projected", self.ov.key)

    @property
    def projected_bytes(self) -> int:
        """What every token's projection takes."""
        return 4 * self.vocabulary.size * self.Q.shape[0]

    def release_projected(self) -> None:
        """Let go of the tokens' projections.

        Where all were made one block after another, and the vocabulary keeps such, it has them for
        the next call.
        """
        if sum(map(len, self._blocks)) == self.vocabulary.size:
            self.vocabulary.keep_projected(self._key, self._blocks)
        self.projected, self._blocks, self.ready = None, [], None

    def operands(
        self,
        source: Float[Tensor, "m r"],
        tokens: slice | Int[Tensor, "n"],
        projected: Float[Tensor, "n r"] | None = None,
    ) -> tuple[Float[Tensor, "m width"], Float[Tensor, "n width"]]:
        """Two matrices whose product is unit sources' logits, the cheaper of two such pairs."""
        if projected is not None:
            self.count_projection(len(projected))
            left, right = source, projected
        elif self.projects_all or len(source) >= self.Q.shape[0]:
            left, right = source, self.project(tokens)
        else:
            return self._operands_of_few(source, tokens)
        self.multiply_adds += len(left) * right.numel()
        return left, right

    def _operands_of_few(
        self, source: Float[Tensor, "m r"], tokens: slice | Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "m width"], Float[Tensor, "n width"]]:
        """The sources carried into the residual stream, unless the tokens' projections are held.

        Where the tokens are projected one block after another, to be kept, that goes on until the
        sources are very few.
        """
        r = self.Q.shape[0]
        if self.projected is not None or self._goes_on(len(source), tokens):
            left, right = source, self._projection(tokens)
        else:
            left, right = source @ self.Q, self.vocabulary.block(tokens)
        self.multiply_adds += len(source) * self.Q.shape[1] * (r + len(right))
        return left, right

    def _goes_on(self, n_sources: int, tokens: slice | Int[Tensor, "n"]) -> bool:
        return 4 * n_sources >= self.Q.shape[0] and len(self._blocks) > 0 and self._is_next(tokens)

    def _is_next(self, tokens: slice | Int[Tensor, "n"]) -> bool:
        """Whether a block follows on those whose projections were made."""
        return isinstance(tokens, slice) and tokens.start == sum(map(len, self._blocks))

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
            if self.ov.margin:
                possible = np.linalg.norm(difference, axis=1) * np.linalg.norm(written)
                tied = (np.abs(gaps) <= self.ov.margin * possible) & (gaps != 0)
                self.n_near_ties += int(tied.sum())
                gaps[tied] = 0
            yield gaps

    def compare_float64(
        self, row: Int[Tensor, "n"], target: Int[Tensor, "n"], token: Int[Tensor, "n"]
    ) -> Int[Tensor, "n"]:
        """Whether each token's logit is larger (1) or smaller (-1) than the target's, or equal (0).

        As ``logit_gaps_float64`` has it, which is asked only where a float64 product, summed in
        any order, comes too near to zero for its rounding bound. All comparisons of one row have
        one target.
        """
        device = self.sources.x.device
        row, target, token = (index.to(device) for index in (row, target, token))
        sign = torch.zeros(len(row), dtype=torch.int64, device=device)
        error = self.float64_error() * self.sources.lengths
        W_V, W_O = self.W_V, self.W_O
        for s in slices(len(row), max(1, TILE // 8 // W_O.shape[1])):
            rows, place = row[s].unique(return_inverse=True)
            written = (self.sources.x[rows] @ W_V @ W_O)[place]
            w, own = (
                self.vocabulary.rows[index[s].to(self.vocabulary.rows.device)].to(device).double()
                for index in (token, target)
            )
            norms = w.norm(dim=1) + own.norm(dim=1)
            difference = w.sub_(own)
            self.multiply_adds += difference.numel()
            gap = (difference * written).sum(1)
            bound = error[row[s]] * norms
            if self.ov.margin:
                bound = bound + self.ov.margin * written.norm(dim=1) * difference.norm(dim=1)
            sign[s] = torch.where(gap.abs() > bound, gap.sign(), 0.0).long()
            unclear = (sign[s] == 0) & (difference != 0).any(1)
            for one in rows[place[unclear].unique()].tolist():
                at = (unclear & (row[s] == one)).nonzero()[:, 0] + s.start
                exact = self.logit_gaps_float64(one, int(target[at[0]]), token[at])
                sign[at] = torch.from_numpy(np.sign(np.concatenate(list(exact)))).long().to(device)
        return sign

    def float64_error(self) -> float:
        """Bound on a float64 logit's rounding error over ``|x|·|w_v|``.

        It is ``γ·|W_V|·|W_O|`` with the Frobenius norms; twice that, since the logits in the fixed
        order are rounded too.
        """
        d_in, d_head = self.ov.W_V.shape
        d_model = self.ov.W_O.shape[1]
        return 2 * gamma(2 * max(d_in, d_model) + d_head + 4, torch.float64) * self._size

    def scale_error(self) -> float:
        """Bound on float64's own error in what the head writes, over ``|x|``.

        ``x·W_V·R`` here and ``x·W_V·W_O`` in the fixed order are two products each; and there are
        the errors of the factors R and Q.
        """
        double = 2 * gamma(sum(self.ov.W_V.shape), torch.float64) + factor_error(self.ov.W_O)
        return double * self._size


def project_all(heads: Sequence[Head]) -> None:
    """Hold every token's projections, where all of them will be asked for more than once.

    Those of several heads are one product, which is much quicker than one for each.
    """
    for head in heads:
        head.projects_all = True
        head.count_projection(head.vocabulary.size)
    missing = [head for head in heads if head.projected is None]
    if missing:
        vocabulary, Q = missing[0].vocabulary, torch.stack([head.Q for head in missing])
        projected = Q.new_empty(vocabulary.size, *Q.shape[:2])
        for s in slices(vocabulary.size, max(1, TILE // Q.shape[2])):
            torch.mm(vocabulary.block(s), Q.flatten(0, 1).T, out=projected[s].flatten(1))
        for head, own in zip(missing, projected.unbind(1), strict=True):
            head.projected = own


def project_block(heads: Sequence[Head], n_sources: Sequence[int], tokens: slice) -> None:
    """Have a block of tokens ready for the heads that will ask for its projections.

    Those of several heads are one product, which is much quicker than one for each.
    """
    some = [head for head, n in zip(heads, n_sources, strict=True) if head.asks_for(n, tokens)]
    if len(some) > 1:
        Q = torch.cat([head.Q for head in some])
        projected = Q @ some[0].vocabulary.block(tokens).T
        for head, own in zip(some, projected.split([len(head.Q) for head in some]), strict=True):
            head.ready = tokens, own.T


def scale_errors(heads: Sequence[Head]) -> Float[Tensor, "n n_heads"]:
    """Bound on float64's own error in what each head writes for each source."""
    lengths = [head.sources.lengths for head in heads]
    each = lengths[0].new_tensor([head.scale_error() for head in heads])
    return torch.stack(lengths, dim=1) * each


def zero_outputs(
    heads: Sequence[Head], scale: Float[Tensor, "n n_heads"], error: Float[Tensor, "n n_heads"]
) -> Bool[Tensor, "n n_heads"]:
    """The sources for which each head writes exactly nothing.

    Where what it writes, of length ``scale``, is no longer than its ``error`` (``scale_errors``),
    it is summed again in the fixed order.
    """
    nothing = scale <= 1.01 * error
    for i in nothing.any(0).nonzero()[:, 0].tolist():
        head = heads[i]
        if bool(head.W_V.any()) and bool(head.W_O.any()):
            for row in (nothing[:, i] & head.sources.x.any(1)).nonzero()[:, 0].tolist():
                nothing[row, i] = not head.written_in_order(row).any()
    return nothing


def relative_errors(
    heads: Sequence[Head], scale: Float[Tensor, "n n_heads"], error: Float[Tensor, "n n_heads"]
) -> Float[Tensor, "n n_heads"]:
    """Bound on a logit's rounding error over ``|w_v|``, for unit sources; float32.

    ``scale`` is the length, in float64, of what each head, all of one shape, writes for each
    source, and ``error`` the bound on its error (``scale_errors``).
    """
    r, d_model = heads[0].Q.shape
    single = math.sqrt(r) * gamma(d_model + 1, torch.float32) + gamma(r + 3, torch.float32)
    # float64's own error matters only where what the head writes nearly vanishes.
    bound = 1.01 * (single + error / scale)
    # No logit of a unit source is off by more than 2: it is at most |w_v| long to either side.
    return torch.where(scale > 0, bound, torch.inf).clamp(max=2.1).float()


def factors(heads: Sequence[OV], vocabulary: Vocabulary, device: torch.device) -> list[Factors]:
    """Each head's, kept by the vocabulary; ``device`` is that of the sources."""

    def factor(place: int) -> tuple[Tensor, Tensor, Tensor]:
        W_O = heads[place].W_O.cpu().double()
        R, Q = orthonormal_rows(W_O)
        return R.to(device), Q.float().to(vocabulary.rows.device), W_O.norm().to(device)

    keys = [None if ov.key is None else ("factors", ov.key) for ov in heads]
    found = vocabulary.kept_each(keys, lambda places: list(vocabulary.map(factor, places)))
    return [Factors(*kept) for kept in found]


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
