"""Holding open pairs against the vocabulary, block by block, and dropping the refuted ones.

A pair is *refuted*, its target being out of the top k, as soon as k tokens with a strictly larger
logit are seen; what no token refutes is *confirmed*. Float32 logits count only where
they are farther from the target's than the rounding bound of ``head_logits``; the tokens within the
bound are compared with the target in float64, in a summation order that is always the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.arithmetic import TILE, compare_rows, count_larger, slices
from analysis.exact.head_logits import Head, ResidualStream, project_block
from analysis.exact.vocabulary import Vocabulary

LARGEST_BLOCK = 2048
"""Tokens in the largest blocks of the vocabulary; the first are smaller."""
BLOCKS_OF_FEW = 8
"""Times as many, at most, where few pairs meet them."""
FIRST_BLOCK = 512
"""Tokens in the first."""
GROUP = 16
"""Logits of a row whose largest is looked at before they are."""
NEAR_HELD = 1 << 20
"""Comparisons left to float64 that are held before they are made."""


@dataclass(frozen=True)
class OpenPairs:
    """Pairs of which it is open whether k tokens have a strictly larger logit than the target.

    "In the bottom k?" is the same question about the negated source.

    Attributes:
        head: place of the head in its batch.
        pair: place of the pair among those asked about.
        source: float32, unit length, in the head's dimensions or the residual stream's.
        target: token asked about.
        target_logit: float32, its logit.
        logit_error: bound on the rounding error of a logit, over ``|w_v|``.
        target_error: bound on the rounding error of the target's logit.
        negated_source: whether the pair is asked about for the bottom k.
    """

    head: Int[Tensor, "m"]
    pair: Int[Tensor, "m"]
    source: Float[Tensor, "m width"]
    target: Int[Tensor, "m"]
    target_logit: Float[Tensor, "m"]
    logit_error: Float[Tensor, "m"]
    target_error: Float[Tensor, "m"]
    negated_source: Bool[Tensor, "m"]

    def __len__(self) -> int:
        return int(self.pair.shape[0])

    def keep(self, which: Bool[Tensor, "m"] | Int[Tensor, "l"] | slice) -> OpenPairs:
        """Some of the pairs."""
        return OpenPairs(**{name: value[which] for name, value in vars(self).items()})

    def negated(self) -> OpenPairs:
        """The pairs asked about for the other end of the logits."""
        return replace(
            self,
            source=-self.source,
            target_logit=-self.target_logit,
            negated_source=~self.negated_source,
        )


@dataclass(frozen=True)
class ConfirmedPairs:
    """Pairs that no token of the vocabulary refutes.

    Attributes:
        head: place of the head in its batch.
        pair: place of the pair among those asked about.
        negated_source: whether it is the bottom k that the target is in.
        n_larger: tokens whose logit is larger (smaller) than the target's, exactly where ranks
            were asked for, else some number below k.
        n_float64_rechecks: for each head of the batch, pairs that float64 had to decide.
    """

    head: Int[Tensor, "m"]
    pair: Int[Tensor, "m"]
    negated_source: Bool[Tensor, "m"]
    n_larger: Int[Tensor, "m"]
    n_float64_rechecks: Int[Tensor, "n_heads"]

    def of_head(self, number: int) -> ConfirmedPairs:
        """Those of one head of the batch."""
        mine = self.head == number
        return ConfirmedPairs(
            self.head[mine],
            self.pair[mine],
            self.negated_source[mine],
            self.n_larger[mine],
            self.n_float64_rechecks[number : number + 1],
        )


def count_first(
    heads: Sequence[Head],
    pairs: OpenPairs,
    tokens: Int[Tensor, "n_heads n_both"],
    projected: Sequence[Float[Tensor, "n_both r"] | None],
    k: int,
    tile: int,
) -> tuple[Int[Tensor, "n_pairs n_heads"], Int[Tensor, "n_pairs n_heads"]]:
    """How many of a head's first extreme tokens surely refute each pair, for the top and bottom k.

    Args:
        heads: the heads asked, all of one shape.
        pairs: as ones for the top k, pair by pair and head by head.
        tokens: for each head as many that it writes most, and then least.
        projected: of these tokens, where known.
        k: how many refute a pair; of any k or more, k are said.
        tile: logits held at once.
    """
    shape = (-1, len(heads))
    longest = heads[0].vocabulary.norms[tokens].amax(1)
    tolerance = pairs.target_error.view(shape) + pairs.logit_error.view(shape) * longest
    target_logit = pairs.target_logit.view(shape)
    above, below = (target_logit + tolerance).T, (target_logit - tolerance).T
    sources = pairs.source.unflatten(0, shape).unbind(1)
    larger = torch.empty(above.shape, dtype=torch.int64, device=above.device)
    smaller = torch.empty_like(larger)
    n = tokens.shape[1] // 2
    for i, (head, source) in enumerate(zip(heads, sources, strict=True)):
        left, right = head.operands(source, tokens[i], projected[i])
        for s in slices(len(source), max(1, tile // 8 // len(right))):
            logits = left[s] @ right.T
            if k == 1:
                larger[i, s] = logits[:, :n].amax(1) > above[i, s]
                smaller[i, s] = logits[:, n:].amin(1) < below[i, s]
            else:
                larger[i, s] = count_larger(logits[:, :n], above[i, s])
                smaller[i, s] = count_larger(logits[:, n:].neg(), -below[i, s])
    return larger.clamp_(max=k).T, smaller.clamp_(max=k).T


def still_open(
    space: Head | ResidualStream,
    pairs: OpenPairs,
    larger: Int[Tensor, "m"],
    tokens: Int[Tensor, "n"],
    k: int,
    tile: int,
) -> OpenPairs:
    """What some more tokens leave open; no token within the bound counts.

    ``larger`` counts other tokens that have a larger logit than each pair's target.
    """
    if len(pairs) == 0 or len(tokens) == 0:
        return pairs
    larger = larger.clone()
    for s, logits, tolerance in _tiles(space, pairs, tokens, tile):
        larger[s] += count_larger(logits, pairs.target_logit[s] + tolerance)
        del logits  # before the next are made
    return pairs.keep(larger < k)


def check_each(
    heads: Sequence[Head], pairs: Sequence[OpenPairs], k: int, ranks: bool, tile: int
) -> list[ConfirmedPairs]:
    """Decide each head's pairs: hold them against every token of the vocabulary.

    All heads meet a block of tokens before they meet the next, so that those that project it do so
    together. With ``ranks`` the larger logits of what is confirmed are counted exactly.
    """
    vocabulary = heads[0].vocabulary
    eliminations = [_Elimination([head], own, k) for head, own in zip(heads, pairs, strict=True)]
    largest = _largest_block(vocabulary, max(map(len, pairs)), tile)
    for tokens in growing_blocks(vocabulary.size, largest):
        left = [
            (head, one) for head, one in zip(heads, eliminations, strict=True) if len(one.pairs)
        ]
        project_block([head for head, _ in left], [len(one.pairs) for _, one in left], tokens)
        for head, one in left:
            one.meet(head, tokens, tile)
            one.drop_refuted(1 / 8)
    return [one.confirmed(ranks) for one in eliminations]


def check_together(
    space: ResidualStream,
    heads: Sequence[Head],
    pairs: OpenPairs,
    k: int,
    ranks: bool,
    tile: int,
) -> ConfirmedPairs:
    """Decide the pairs of several heads together in the residual stream, likewise."""
    one = _Elimination(heads, pairs, k)
    for tokens in growing_blocks(space.vocabulary.size, _largest_block(space.vocabulary, 1, tile)):
        if len(one.pairs) == 0:
            break
        one.meet(space, tokens, tile)
        one.drop_refuted(0)
    return one.confirmed(ranks)


class _Elimination:
    """Open pairs on their way through the vocabulary, with what is known of each so far."""

    def __init__(self, heads: Sequence[Head], pairs: OpenPairs, k: int) -> None:
        self.heads, self.pairs, self.k = heads, pairs, k
        self.n_larger = torch.zeros_like(pairs.pair)  # tokens surely larger than the target
        self.rechecked = torch.zeros_like(pairs.negated_source)
        self.n_float64_rechecks = torch.zeros(len(heads), dtype=torch.int64)
        # Comparisons that float32 could not make: a row of `pairs`, and a token.
        self.near: list[tuple[Int[Tensor, "n"], Int[Tensor, "n"]]] = []
        self.n_near = 0

    def meet(self, space: Head | ResidualStream, tokens: slice, tile: int) -> None:
        """Hold the pairs against a block of tokens."""
        for s, logits, tolerance in _tiles(space, self.pairs, tokens, tile):
            sure, row, near = _compare(logits, self.pairs.target_logit[s], tolerance)
            del logits  # before the next are made
            self._count(s, sure, row, tokens.start + near)

    def _count(
        self, s: slice, larger: Int[Tensor, "m"], row: Int[Tensor, "n"], token: Int[Tensor, "n"]
    ) -> None:
        """Count a tile's comparisons for the pairs ``s``; ``row`` counts from its start."""
        self.n_larger[s] += larger
        row = row + s.start
        other = token != self.pairs.target[row]
        self.near.append((row[other], token[other]))
        self.n_near += len(self.near[-1][0])
        if self.n_near > NEAR_HELD:
            self._recheck(torch.ones_like(self.rechecked))

    def drop_refuted(self, least: float) -> None:
        """Forget the pairs that k larger tokens have refuted, if these are more than this share.

        To copy what is left takes longer than to keep a few.
        """
        keep = self.n_larger < self.k
        if len(keep) - int(keep.sum()) <= least * len(keep):
            return
        place = keep.cumsum(0) - 1
        row, token = self._near()
        self.near = [(place[row[keep[row]]], token[keep[row]])]
        self.n_near = len(self.near[0][0])
        self.pairs = self.pairs.keep(keep)
        self.n_larger, self.rechecked = self.n_larger[keep], self.rechecked[keep]

    def confirmed(self, ranks: bool) -> ConfirmedPairs:
        """What is left when every token has been met."""
        row, _ = self._near()
        # Whatever the tokens near its target are, a pair with few enough of them is confirmed.
        most = self.n_larger + torch.bincount(row, minlength=len(self.pairs))
        self._recheck((most >= self.k) | ranks)
        which = self.n_larger < self.k
        kept = self.pairs.keep(which)
        return ConfirmedPairs(
            kept.head,
            kept.pair,
            kept.negated_source,
            self.n_larger[which],
            self.n_float64_rechecks,
        )

    def _near(self) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
        nothing = self.pairs.pair[:0]
        rows, tokens = zip(*[(nothing, nothing), *self.near], strict=True)
        return torch.cat(rows), torch.cat(tokens)

    def _recheck(self, which: Bool[Tensor, "m"]) -> None:
        """Make the held comparisons of some pairs in float64, and let all others go."""
        row, token = self._near()
        self.near, self.n_near = [], 0
        which = which & (self.n_larger < self.k)
        which &= torch.bincount(row, minlength=len(which)) > 0
        fresh = self.pairs.head[which & ~self.rechecked].cpu()
        self.n_float64_rechecks += torch.bincount(fresh, minlength=len(self.heads))
        self.rechecked |= which
        row, token = row[which[row]], token[which[row]]
        of_head = self.pairs.head[row]
        for number in of_head.unique().tolist():
            mine = of_head == number
            rows = row[mine]
            pair, order = self.pairs.pair[rows].sort(stable=True)
            rows, tokens = rows[order], token[mine][order]
            sign = self.heads[number].compare_float64(pair, self.pairs.target[rows], tokens)
            sign = torch.where(self.pairs.negated_source[rows], -1, 1) * sign.to(rows.device)
            self.n_larger.index_add_(0, rows, (sign > 0).long())


def _largest_block(vocabulary: Vocabulary, n_pairs: int, tile: int) -> int:
    """Tokens in the largest blocks: more where they and the logits of the pairs take little memory.

    How many pairs of several heads are together depends on the number of threads, and the record of
    the work must not: these count as one.
    """
    most = min(2 * TILE // vocabulary.rows.shape[1], tile // 4 // max(1, n_pairs))
    return LARGEST_BLOCK * min(max(1, most // LARGEST_BLOCK), BLOCKS_OF_FEW)


def growing_blocks(n: int, largest: int) -> Iterator[slice]:
    """``range(n)`` in pieces that double up to ``largest``: the first drop most pairs."""
    start, size = 0, min(FIRST_BLOCK, largest)
    while start < n:
        yield slice(start, min(start + size, n))
        start, size = start + size, min(2 * size, largest)


def _tiles(
    space: Head | ResidualStream, pairs: OpenPairs, tokens: slice | Int[Tensor, "n"], tile: int
) -> Iterator[tuple[slice, Float[Tensor, "m n"], Float[Tensor, "m"]]]:
    """Logits of a block for some pairs at a time, with the rounding bound of each row."""
    left, right = space.operands(pairs.source, tokens)
    longest = space.vocabulary.norms[tokens].max()
    for s in slices(len(pairs), max(1, tile // len(right))):
        yield s, left[s] @ right.T, pairs.target_error[s] + pairs.logit_error[s] * longest


def _compare(
    logits: Float[Tensor, "m n"], target_logit: Float[Tensor, "m"], tolerance: Float[Tensor, "m"]
) -> tuple[Int[Tensor, "m"], Int[Tensor, "l"], Int[Tensor, "l"]]:
    """How many logits of a row surely exceed its target's, and where those within the bound are.

    Most logits are far below: only groups of them whose largest is not are looked at one by one,
    unless these are many.
    """
    above, below = target_logit + tolerance, target_logit - tolerance
    size = GROUP if logits.shape[1] % GROUP == 0 else 1
    groups = logits.unflatten(1, (size, -1))  # tokens of a group lie apart: so maxima are quick
    row, group = (groups.amax(1) >= below[:, None]).nonzero(as_tuple=True)
    if 4 * len(row) * size > logits.numel():
        larger, _, row, token = compare_rows(logits, below, above)
        return larger, row, token
    some = groups[row, :, group]
    at, member = (some >= below[row, None]).nonzero(as_tuple=True)
    sure = some[at, member] > above[row[at]]
    larger = torch.bincount(row[at[sure]], minlength=len(logits))
    near = at[~sure]
    return larger, row[near], member[~sure] * groups.shape[2] + group[near]
