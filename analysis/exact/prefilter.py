"""Steps 1 and 2 of ``topk`` for one head: its extreme tokens refute nearly every pair.

An average source, sent through the head, names the tokens that the head writes most and least.
Every pair meets the first of them, from either end; the few pairs that these leave open meet the
others. Which tokens they are decides how soon a pair is refuted, never whether.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.arithmetic import concatenated, full_float32, room_for_projections, slices
from analysis.exact.head_logits import (
    OV,
    Factors,
    Head,
    Sources,
    project_all,
    relative_errors,
    scale_errors,
    zero_outputs,
)
from analysis.exact.open_pairs import (
    ConfirmedPairs,
    OpenPairs,
    check_each,
    count_first,
    still_open,
)
from analysis.exact.vocabulary import Vocabulary

N_FIRST = 128
"""Extreme tokens from each end that every pair meets first; more for a large k."""
N_EXTREME = 512
"""Extreme tokens from each end, in all; more for a large k."""
LARGE_SHARE = 8
"""Times as many tokens as those first ones are in the vocabulary, at least."""
ROWS_CACHED = 4096
"""Rows of what heads write that are scaled at once, few enough for the processor's cache."""
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
        """Extreme tokens from each end that every pair meets first, a number of eights.

        Few where k is so large that the whole vocabulary is met as soon as more of them would be.
        """
        n = N_FIRST + self.k // 16 * 24
        return n if LARGE_SHARE * n <= self.vocabulary.size else N_FIRST

    @property
    def n_extreme(self) -> int:
        """Extreme tokens from each end, in all; the pairs still open meet the others next.

        One token refutes a pair where k is 1, and the first of them nearly always hold it. Where
        fewer than k are met first, they refute none, and no others are met.
        """
        if self.k == 1 or self.n_first < self.k:
            return self.n_first
        return N_EXTREME + self.k // 16 * 48

    def projects_all(self, projected_bytes: int) -> bool:
        """Whether every token is projected, for many are targets and their projections fit."""
        many = len(self.targets) > self.vocabulary.size // 4
        return many and projected_bytes <= room_for_projections()


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
    asked: TopKQuestion, heads: Sequence[OV], factored: Sequence[Factors]
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
                return most[i], least[i], rows @ factored[which[i]].Q.T

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

    def in_residual_stream(self) -> OpenPairs:
        """The open pairs with their sources as the head writes them."""
        self.head.multiply_adds += self.open.source.numel() * self.head.Q.shape[1]
        return replace(self.open, source=self.open.source @ self.head.Q)


def check_alone(asked: TopKQuestion, some: Sequence[Prefiltered]) -> list[ConfirmedPairs]:
    """Step 3 for some heads, each in its own dimensions."""
    heads = [one.head for one in some]
    own = [replace(one.open, head=torch.zeros_like(one.open.head)) for one in some]
    confirmed = check_each(heads, own, asked.k, asked.ranks, asked.tile)
    for head in heads:
        head.release_projected()
    return confirmed


def prefilter(
    asked: TopKQuestion,
    heads: Sequence[OV],
    start: int,
    factored: Sequence[Factors],
    extremes: Sequence[Extremes],
) -> list[Prefiltered]:
    """Steps 1 and 2 for a few heads of one shape, and step 3 where all projections are at hand.

    ``start`` is the first one's place among the heads that are decided together.
    """
    together = [
        Head(asked.common if ov.x is None else Sources(ov.x), ov, asked.vocabulary, of)
        for ov, of in zip(heads, factored, strict=True)
    ]
    pairs, zero_output = _every_pair(asked, together, start)
    left = _meet_extremes(asked, together, start, pairs, ~zero_output, extremes)
    prefiltered = []
    for head, nothing, open_ in zip(together, zero_output.unbind(1), left, strict=True):
        head.multiply_adds += asked.vocabulary.rows.numel()  # the extreme tokens
        one = Prefiltered(head, nothing, open_, [])
        if head.projects_all:
            one = replace(one, open=open_.keep(slice(0, 0)), confirmed=check_alone(asked, [one]))
        prefiltered.append(one)
    return prefiltered


def _every_pair(
    asked: TopKQuestion, heads: Sequence[Head], start: int
) -> tuple[OpenPairs, Bool[Tensor, "n_pairs n_heads"]]:
    """Every pair as an open one for the top k, pair by pair and head by head.

    Also where a head writes nothing.
    """
    vocabulary = asked.vocabulary
    device, n = vocabulary.rows.device, len(asked.targets)
    source, scale = _sources(asked, heads)
    scale_error = scale_errors(heads)
    zero_output = zero_outputs(heads, scale, scale_error).to(device)
    error = relative_errors(heads, scale, scale_error).to(device)
    target = asked.targets.to(device)
    pairs = OpenPairs(
        head=torch.arange(start, start + len(heads), device=device).repeat(n),
        pair=torch.arange(n, device=device).repeat_interleave(len(heads)),
        source=source.flatten(0, 1),
        target=target.repeat_interleave(len(heads)),
        target_logit=_target_logits(asked, heads, source, target).flatten(),
        logit_error=error.flatten(),
        target_error=(error * vocabulary.norms[target][:, None]).flatten(),
        negated_source=torch.zeros(n * len(heads), dtype=torch.bool, device=device),
    )
    return pairs, zero_output


def _sources(
    asked: TopKQuestion, heads: Sequence[Head]
) -> tuple[Float[Tensor, "n_pairs n_heads r"], Float[Tensor, "n_pairs n_heads"]]:
    """What each head writes, ``x·W_V·R``: float32 of length 1, and the lengths in float64."""
    values = _values(asked, heads)
    n, r = len(asked.targets), heads[0].R.shape[1]
    scale = asked.common.x.new_empty(n, len(heads))
    device = asked.vocabulary.rows.device
    source = torch.empty(n, len(heads), r, dtype=torch.float32, device=device)
    for s in slices(n, max(1, ROWS_CACHED // len(heads))):
        written = scale.new_empty(s.stop - s.start, len(heads), r)
        for i, head in enumerate(heads):
            torch.mm(values[i][s], head.R, out=written[:, i])
        scale[s] = written.norm(dim=2)
        source[s] = written.div_(scale[s].clamp_min(_TINY)[..., None])
    return source, scale


def _values(asked: TopKQuestion, heads: Sequence[Head]) -> list[Float[Tensor, "n_pairs d_head"]]:
    """``x·W_V`` of each head in float64, computed once for heads that share it."""
    own = [head for head in heads if head.ov.x is not None]
    shared = {id(head.ov.W_V): head for head in heads if head.ov.x is None}
    for head in (*own, *shared.values()):
        head.multiply_adds += head.sources.x.numel() * head.ov.W_V.shape[1]
    if asked.target_rows is not None and shared:  # few pairs: in one product
        W_V = torch.cat([head.W_V for head in shared.values()], dim=1)
        widths = [head.ov.W_V.shape[1] for head in shared.values()]
        values = dict(zip(shared, (asked.common.x @ W_V).split(widths, 1), strict=True))
    else:
        values = {key: asked.common.x @ head.W_V for key, head in shared.items()}
    for head in heads:
        head.multiply_adds += len(asked.targets) * head.R.numel()
    return [
        values[id(head.ov.W_V)] if head.ov.x is None else head.sources.x @ head.W_V
        for head in heads
    ]


def _target_logits(
    asked: TopKQuestion,
    heads: Sequence[Head],
    source: Float[Tensor, "n_pairs n_heads r"],
    target: Int[Tensor, "n_pairs"],
) -> Float[Tensor, "n_pairs n_heads"]:
    """Each source's logit of its target; all tokens are projected where many are targets."""
    n = len(target)
    if asked.projects_all(len(heads) * heads[0].projected_bytes):
        project_all(heads)
    elif asked.target_rows is not None:
        for head in heads:
            head.count_projection(n)
        Q = torch.cat([head.Q for head in heads])
        return (asked.target_rows @ Q.T).view_as(source).mul_(source).sum(2)
    target_logit = source.new_empty(n, len(heads))
    for i, head in enumerate(heads):
        for s in slices(n, max(1, min(ROWS_CACHED, asked.tile // head.Q.shape[1]))):
            target_logit[s, i] = (source[s, i] * head.project(target[s])).sum(1)
    return target_logit


def _meet_extremes(
    asked: TopKQuestion,
    heads: Sequence[Head],
    start: int,
    pairs: OpenPairs,
    possible: Bool[Tensor, "n_pairs n_heads"],
    extremes: Sequence[Extremes],
) -> list[OpenPairs]:
    """Each head's pairs, for the top and bottom k, that its extreme tokens do not refute."""
    n, k, tile = min(asked.n_first, len(extremes[0].most)), asked.k, asked.tile
    first = torch.stack([torch.cat([found.most[:n], found.least[:n]]) for found in extremes])
    projected = [found.projected for found in extremes]
    larger, smaller = count_first(heads, pairs, first, projected, k, tile)
    left: list[list[OpenPairs]] = [[] for _ in heads]
    for top, beyond in ((True, larger), (False, smaller)):
        which = (possible & (beyond < k)).flatten().nonzero()[:, 0]
        some = pairs.keep(which) if top else pairs.keep(which).negated()
        beyond = beyond.flatten()[which]
        of_head = torch.bincount(some.head - start, minlength=len(heads)).tolist()
        for i, n_open in enumerate(of_head):
            if n_open:
                mine = (some.head == start + i).nonzero()[:, 0]
                tokens = (extremes[i].most if top else extremes[i].least)[n:]
                own = some.keep(mine)
                left[i].append(still_open(heads[i], own, beyond[mine], tokens, k, tile))
    nothing = pairs.keep(slice(0, 0))
    return [concatenated(parts) if parts else nothing for parts in left]
