"""Steps 1 and 2 of ``topk`` for one head: its extreme tokens refute nearly every pair.

An average source, sent through the head, names the tokens that the head writes most and least.
Every pair meets the first of them, from either end; the few pairs that these leave open meet the
others. Which tokens they are decides how soon a pair is refuted, never whether.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.arithmetic import full_float32, room_for_projections, slices
from analysis.exact.head_logits import OV, Head, Sources
from analysis.exact.sweep import (
    ConfirmedPairs,
    OpenPairs,
    check_full_vocabulary,
    count_first,
    still_open,
)
from analysis.exact.vocabulary import Vocabulary

N_FIRST = 128
"""Extreme tokens from each end that every pair meets first; a few more for a large k."""
N_EXTREME = 512
"""Extreme tokens from each end, in all; more for a large k."""
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Reference:
    """The average source by which heads' extreme tokens are chosen.

    Any will do: it decides how soon a pair is refuted, never whether. One that does not depend on
    the pairs lets the extreme tokens be kept for the next call.

    Attributes:
        key: by which it is known to the vocabulary that keeps them.
        average: float32 ``[d_model]``.
    """

    key: Hashable
    average: Float[Tensor, "d_model"]


@dataclass(frozen=True)
class TopKQuestion:
    """What ``decide_heads`` asks, the same for all heads."""

    common: Sources
    targets: Int[Tensor, "n_pairs"]
    vocabulary: Vocabulary
    k: int
    ranks: bool
    tile: int
    reference: Reference | None
    target_rows: Float[Tensor, "n_pairs d_model"] | None  # of the unembedding, where they are few

    @property
    def n_first(self) -> int:
        """Extreme tokens from each end that every pair meets first, a number of eights."""
        return N_FIRST + self.k // 16 * 8

    @property
    def n_extreme(self) -> int:
        """Extreme tokens from each end, in all; the pairs still open meet the others next."""
        return N_EXTREME + self.k // 16 * 128


@dataclass(frozen=True)
class Extremes:
    """A head's extreme tokens.

    Attributes:
        most: the tokens that it writes most for an average source, the most extreme first.
        least: the tokens that it writes least.
        projected: of the first of ``most`` and then of ``least``, ``n_first`` each; None where so
            few sources are asked about that it costs more than it spares.
    """

    most: Int[Tensor, "n"]
    least: Int[Tensor, "n"]
    projected: Float[Tensor, "n_both r"] | None = None


def extremes_of(
    asked: TopKQuestion, heads: Sequence[OV], factored: Sequence[tuple[Tensor, Tensor]]
) -> list[Extremes]:
    """The extreme tokens of each head, whose weights are ``factored`` as ``factors`` does."""
    vocabulary, reference = asked.vocabulary, asked.reference

    def direction(ov: OV) -> Tensor:
        if reference is None or ov.x is not None:
            average = (asked.common if ov.x is None else Sources(ov.x)).average.float()
        else:
            average = reference.average
        return average @ ov.W_V.to(average) @ ov.W_O.to(average)

    def compute(which: Sequence[int]) -> list[tuple[Tensor, ...]]:
        directions = torch.stack([direction(heads[i]) for i in which]).to(vocabulary.rows.device)
        most, least = vocabulary.extreme_tokens(directions, asked.n_extreme)

        def project(i: int) -> tuple[Tensor, ...]:
            ov, n = heads[which[i]], asked.n_first
            if keys[which[i]] is None and len(asked.targets) < ov.W_O.shape[0]:
                return most[i], least[i]
            with full_float32():
                rows = vocabulary.block(torch.cat([most[i, :n], least[i, :n]]))
                return most[i], least[i], rows @ factored[which[i]][1].T

        return list(vocabulary.map(project, range(len(which))))

    keys = [
        None
        if reference is None or ov.key is None or ov.x is not None
        else ("extremes", reference.key, asked.n_first, asked.n_extreme, ov.key)
        for ov in heads
    ]
    return [Extremes(*kept) for kept in vocabulary.kept_each(keys, compute)]


@dataclass(frozen=True)
class Prefiltered:
    """What is known of one head's pairs after its extreme tokens.

    Some are confirmed already where all tokens' projections were at hand.
    """

    head: Head
    zero_output: Bool[Tensor, "n_pairs"]
    open: OpenPairs
    confirmed: list[ConfirmedPairs]

    @property
    def has_many(self) -> bool:
        """Whether so many pairs are open that the vocabulary is best projected for them."""
        return len(self.open) >= self.head.Q.shape[0]

    def check(self, asked: TopKQuestion) -> ConfirmedPairs:
        """Step 3 for this head alone."""
        own = replace(self.open, head=torch.zeros_like(self.open.head))
        confirmed = check_full_vocabulary(
            self.head, [self.head], own, asked.k, asked.ranks, asked.tile
        )
        self.head.release_projected()
        return confirmed

    def in_residual_stream(self) -> OpenPairs:
        """The open pairs with their sources as the head writes them."""
        self.head.multiply_adds += self.open.source.numel() * self.head.Q.shape[1]
        return replace(self.open, source=self.open.source @ self.head.Q)


def prefilter(
    asked: TopKQuestion,
    heads: Sequence[OV],
    start: int,
    factored: Sequence[tuple[Tensor, Tensor]],
    extremes: Sequence[Extremes],
) -> list[Prefiltered]:
    """Steps 1 and 2 for a few heads, and step 3 where all tokens' projections are at hand.

    ``start`` is the first one's place among the heads that are decided together.
    """
    vocabulary = asked.vocabulary
    together = [
        Head(asked.common if ov.x is None else Sources(ov.x), ov, vocabulary, of)
        for ov, of in zip(heads, factored, strict=True)
    ]
    prefiltered = []
    for i, (head, values) in enumerate(zip(together, _values(asked, together), strict=True)):
        head.multiply_adds += vocabulary.rows.numel()  # the extreme tokens
        pairs, zero_output = _open_pairs(asked, head, start + i, values)
        left = _meet_extremes(asked, head, pairs, ~zero_output, extremes[i])
        one = Prefiltered(head, zero_output, left, [])
        if head.projects_all:
            one = replace(one, open=left.keep(slice(0, 0)), confirmed=[one.check(asked)])
        prefiltered.append(one)
    return prefiltered


def _meet_extremes(
    asked: TopKQuestion,
    head: Head,
    pairs: OpenPairs,
    possible: Bool[Tensor, "n_pairs"],
    extremes: Extremes,
) -> OpenPairs:
    """The pairs, for the top and for the bottom k, that the head's extreme tokens do not refute."""
    n, k, tile = min(asked.n_first, len(extremes.most)), asked.k, asked.tile
    first = torch.cat([extremes.most[:n], extremes.least[:n]])
    larger, smaller = count_first(head, pairs, first, extremes.projected, k, tile)
    left = []
    for top, beyond, tokens in (
        (True, larger, extremes.most[n:]),
        (False, smaller, extremes.least[n:]),
    ):
        which = (possible & (beyond < k)).nonzero()[:, 0]
        some = pairs.keep(which) if top else pairs.keep(which).negated()
        left.append(still_open(head, some, beyond[which], tokens, k, tile))
    return OpenPairs.joined(left)


def _values(
    asked: TopKQuestion, heads: Sequence[Head]
) -> Iterator[Float[Tensor, "n_pairs d_head"]]:
    """``x·W_V`` of each head in float64; those of few pairs in one product."""
    in_one: dict[int, Tensor] = {}
    shared = {id(head.ov.W_V): head for head in heads if head.ov.x is None}
    if asked.target_rows is not None and shared:
        W_V = torch.cat([head.W_V for head in shared.values()], dim=1)
        widths = [head.ov.W_V.shape[1] for head in shared.values()]
        in_one = dict(zip(shared, (asked.common.x @ W_V).split(widths, 1), strict=True))
    last: tuple[Tensor | None, Tensor] = None, asked.common.x
    for head in heads:
        W_V = head.ov.W_V
        if head.ov.x is not None or last[0] is not W_V:
            head.multiply_adds += head.sources.x.numel() * W_V.shape[1]
            known = in_one.get(id(W_V)) if head.ov.x is None else None
            values = head.sources.x @ head.W_V if known is None else known
            last = None if head.ov.x is not None else W_V, values
        yield last[1]


def _open_pairs(
    asked: TopKQuestion, head: Head, number: int, values: Float[Tensor, "m d_head"]
) -> tuple[OpenPairs, Bool[Tensor, "m"]]:
    """Every pair as an open one for the top k, and where the head writes nothing.

    From float64 values ``x·W_V``; ``number`` is the head's place in the batch.
    """
    device = head.vocabulary.rows.device
    written = values @ head.R
    head.multiply_adds += values.numel() * head.R.shape[1]
    scale = written.norm(dim=1)
    zero_output = head.zero_output(scale).to(device)
    error = head.relative_error(scale).to(device)
    source = written.div_(scale.clamp_min(_TINY)[:, None]).float().to(device)
    target = asked.targets.to(device)
    if len(target) > head.vocabulary.size // 2 and head.projected_bytes <= room_for_projections():
        head.project_all()
    if asked.target_rows is not None and not head.projects_all:
        target_logit = (source * head.project_targets(target, asked.target_rows)).sum(1)
    else:
        target_logit = source.new_empty(len(target))
        for s in slices(len(target), max(1, asked.tile // head.Q.shape[1])):
            target_logit[s] = (source[s] * head.project(target[s])).sum(1)
    pairs = OpenPairs(
        head=torch.full_like(target, number),
        pair=torch.arange(len(target), device=device),
        source=source,
        target=target,
        target_logit=target_logit,
        logit_error=error,
        target_error=error * head.vocabulary.norms[target],
        negated_source=torch.zeros(len(target), dtype=torch.bool, device=device),
    )
    return pairs, zero_output
