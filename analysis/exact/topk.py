r"""Exact top-k and bottom-k questions about an attention head's logits, without the logits.

For a head with OV weights ``W_V`` (d_model × d_head) and ``W_O`` (d_head × d_model), a source
vector ``x`` and an unembedding with columns ``w_v``, the logits are ``m_v = x·W_V·W_O·w_v``.
A target t is *in the top k* when fewer than k other tokens have a strictly larger logit, and
*in the bottom k* when fewer than k have a strictly smaller one. Both are decided for every
(source, target) pair of a head, in four steps:

1. **Low rank.** ``W_O = R·Q`` with orthonormal rows in Q, so that ``m_v = (x·W_V·R)·(Q·w_v)``: a
   source is ``d_head`` numbers, scaled here to length 1, and a token is ``d_head`` numbers.
2. **Extreme tokens.** An average source, sent through the head, names the tokens that the
   head writes most and least. These few hundred refute nearly every pair in both directions.
3. **Full vocabulary.** Pairs that are still open meet more such competitors and then the whole
   vocabulary in blocks, and are dropped once k competitors have beaten their target.
4. **Float64.** A float32 logit counts only where it is farther from the target's than a rigorous
   rounding bound; where that leaves a pair open, the few tokens within the bound are compared with
   the target in float64, and where that is too near to call, in a summation order that is always
   the same.

Because of step 4 the answers do not depend on the block size, the number of threads or the order
of the pairs: they are those of the source vectors and weights given. No estimate enters: the
competitors' order decides how soon a pair is dropped, never whether.

Ranks up to k are the same work: a pair that is never dropped has met every token, so that its
target's rank is known. Heads are spread over threads (``threads.map_heads``).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.arithmetic import MEMORY, TILE, full_float32, slices
from analysis.exact.head_logits import OV, Head, ResidualStream, Sources
from analysis.exact.sweep import (
    ConfirmedPairs,
    OpenPairs,
    check_full_vocabulary,
    refute,
    still_open,
)
from analysis.exact.vocabulary import Vocabulary

N_FIRST = 128
"""Extreme tokens that every pair meets first, from each end; a few more for a large k."""
N_NEXT = 512
"""Extreme tokens that the pairs still open meet next; more for a large k."""
N_TOGETHER = 16
"""Heads, at most, whose last open pairs are held against the vocabulary together."""
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Decisions:
    """Answers for one head.

    Attributes:
        in_top_k: bool ``[n_pairs]``, is the pair's target among the k largest logits?
        in_bottom_k: bool ``[n_pairs]``, is it among the k smallest?
        zero_output: bool ``[n_pairs]``, does the head write exactly nothing for the source? Then
            all logits are equal, and the target counts neither in the top nor in the bottom k.
        ranks_top: int64 ``[n_pairs]``, tokens with a strictly larger logit than the target, k where
            there are k or more (or where the head writes nothing); None if not asked for.
        ranks_bottom: likewise, tokens with a strictly smaller logit.
        n_float64_rechecks: pairs (for either end) that float32 left open and float64 decided.
        n_near_ties: comparisons of different logits that the head's ``margin`` made a tie.
        multiply_adds: multiplications done, to hold against the dense product's
            ``n_sources · d_model · d_vocab``.
    """

    in_top_k: Bool[Tensor, "n_pairs"]
    in_bottom_k: Bool[Tensor, "n_pairs"]
    zero_output: Bool[Tensor, "n_pairs"]
    ranks_top: Int[Tensor, "n_pairs"] | None
    ranks_bottom: Int[Tensor, "n_pairs"] | None
    n_float64_rechecks: int
    n_near_ties: int
    multiply_adds: int

    @property
    def n_zero_output(self) -> int:
        """Pairs for which the head writes exactly nothing."""
        return int(self.zero_output.sum())


def layer_heads(
    W_V: Float[Tensor, "n_kv_heads d_model d_head"],
    W_O: Float[Tensor, "n_heads d_head d_model"],
    layer: int | None = None,
) -> list[OV]:
    """The heads of a layer; head h reads key-value head ``h // (n_heads // n_kv_heads)``.

    Args:
        W_V: of the layer.
        W_O: of the layer.
        layer: its number, by which the heads are known for later calls; None if they are not.
    """
    group = W_O.shape[0] // W_V.shape[0]
    values = list(W_V)
    return [
        OV(values[h // group], W_O[h], key=None if layer is None else (layer, h))
        for h in range(W_O.shape[0])
    ]


def pairs_at_once(d_model: int, d_head: int) -> int:
    """How many pairs ``decide_heads`` may be given so that all it holds stays within ``MEMORY``.

    Half of it is for the source vectors, in float64, for their targets' rows of the unembedding,
    and for what each thread holds of a pair while it decides one head: its values and what it
    writes in float64, its unit source in float32 and copies of that for the pairs of either
    direction that are open, and their numbers.
    """
    each = 12 * d_model + torch.get_num_threads() * ((2 * 8 + 8 + 4 * 4) * d_head + 200)
    return max(1, MEMORY // 2 // each)


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
class _Question:
    """What ``decide_heads`` asks, the same for all heads."""

    common: Sources
    targets: Int[Tensor, "n_pairs"]
    vocabulary: Vocabulary
    k: int
    ranks: bool
    tile: int
    target_rows: Float[Tensor, "n_pairs d_model"] | None  # of the unembedding, where they are few

    @property
    def n_first(self) -> int:
        """Extreme tokens from each end that every pair meets first."""
        return N_FIRST + self.k // 2

    @property
    def n_next(self) -> int:
        """Extreme tokens that the pairs still open meet next."""
        return N_NEXT + 8 * self.k


def decide_heads(
    x: Float[Tensor, "n_pairs d_model"],
    targets: Int[Tensor, "n_pairs"],
    heads: Sequence[OV],
    vocabulary: Vocabulary,
    k: int,
    *,
    ranks: bool = False,
    reference: Reference | None = None,
    tile: int = TILE,
) -> Iterator[Decisions]:
    """Decide every pair for each head, in the heads' order.

    Args:
        x: float64 source vectors, a row for each pair, where float64 can be computed; no more than
            ``pairs_at_once`` where memory is to stay within ``MEMORY``.
        targets: int64, the token asked about in each pair.
        heads: their weights.
        vocabulary: the unembedding, on the device that is to do the float32 work.
        k: from 1 to ``d_vocab``.
        ranks: give the targets' exact ranks below k too.
        reference: by which extreme tokens are chosen; the average of the sources if None.
        tile: logits held at once.
    """
    few = len(targets) * vocabulary.rows.shape[1] <= tile
    rows = vocabulary.block(targets.to(vocabulary.rows.device)) if few else None
    asked = _Question(Sources(x), targets, vocabulary, k, ranks, tile, rows)
    n_together = _heads_together(heads)
    n_chosen = max(1, MEMORY // 32 // (4 * vocabulary.size) // n_together) * n_together
    for chosen in slices(len(heads), n_chosen):
        part = heads[chosen]
        most, least = _extreme_tokens(asked, part, reference)

        def decide(
            some: slice,
            part: Sequence[OV] = part,
            most: Tensor = most,
            least: Tensor = least,
        ) -> list[Decisions]:
            with full_float32():
                return _decide_batch(asked, part[some], most[some], least[some])

        for decided in vocabulary.map(decide, list(slices(len(part), n_together))):
            yield from decided


def _heads_together(heads: Sequence[OV]) -> int:
    """Heads of a batch: a thread's weights in float64 take an eighth of ``MEMORY`` at most."""
    each = 8 * max((ov.W_V.numel() + ov.W_O.numel() for ov in heads), default=1)
    room = max(1, MEMORY // 8 // torch.get_num_threads() // each)
    return min(N_TOGETHER, max(4, len(heads) // 8), room)


def _extreme_tokens(
    asked: _Question, heads: Sequence[OV], reference: Reference | None
) -> tuple[Int[Tensor, "n_heads n"], Int[Tensor, "n_heads n"]]:
    """The tokens that each head writes most, and least, for an average source."""
    vocabulary, n = asked.vocabulary, asked.n_next

    def compute() -> tuple[Tensor, Tensor]:
        directions = []
        for ov in heads:
            if reference is None or ov.x is not None:
                average = (asked.common if ov.x is None else Sources(ov.x)).average.float()
            else:
                average = reference.average
            directions.append(average @ ov.W_V.to(average) @ ov.W_O.to(average))
        return vocabulary.extreme_tokens(torch.stack(directions).to(vocabulary.rows.device), n)

    keys = [ov.key for ov in heads]
    key = None if reference is None or None in keys else (reference.key, n, *keys)
    most, least = vocabulary.kept(key, compute)
    return most, least


def _decide_batch(
    asked: _Question,
    heads: Sequence[OV],
    most: Int[Tensor, "n_heads n"],
    least: Int[Tensor, "n_heads n"],
) -> list[Decisions]:
    """All answers of a few heads."""
    vocabulary = asked.vocabulary
    batch, prefiltered = [], []
    for ov in heads:
        sources = asked.common if ov.x is None else Sources(ov.x)
        batch.append(Head(sources, ov, vocabulary))
    values: tuple[Tensor | None, Tensor] = None, asked.common.x
    for number, (head, ov) in enumerate(zip(batch, heads, strict=True)):
        head.multiply_adds += vocabulary.rows.numel()  # the extreme tokens
        if ov.x is not None or values[0] is not ov.W_V:
            values = None if ov.x is not None else ov.W_V, head.sources.x @ head.W_V
            head.multiply_adds += head.sources.x.numel() * head.W_V.shape[1]
        pairs, zero_output = _open_pairs(asked, head, number, values[1])
        prefiltered.append(
            _prefilter(asked, batch, pairs, zero_output, most[number], least[number])
        )
    return _check_rest(asked, batch, prefiltered)


@dataclass(frozen=True)
class PrefilterResult:
    """What is known of one head's pairs after its extreme tokens.

    Attributes:
        zero_output: pairs for which the head writes nothing.
        confirmed: decided against the whole vocabulary, where many pairs were open.
        open: pairs too few for a sweep of their own; their sources in the residual stream.
    """

    zero_output: Bool[Tensor, "n_pairs"]
    confirmed: list[ConfirmedPairs]
    open: OpenPairs


def _prefilter(
    asked: _Question,
    heads: Sequence[Head],
    pairs: OpenPairs,
    zero_output: Bool[Tensor, "n_pairs"],
    most: Int[Tensor, "n"],
    least: Int[Tensor, "n"],
) -> PrefilterResult:
    """Step 2 for one head, and step 3 where many of its pairs are still open."""
    head, k, tile = heads[int(pairs.head[0])], asked.k, asked.tile
    first = torch.cat([most[: asked.n_first], least[: asked.n_first]]).unique()
    top, bottom = refute(head, pairs, first, k, tile)
    left = OpenPairs.joined(
        [
            still_open(head, pairs.keep(top & ~zero_output), [most], k, tile),
            still_open(head, pairs.keep(bottom & ~zero_output).negated(), [least], k, tile),
        ]
    )
    confirmed = []
    if head.projected is not None or len(left) >= head.Q.shape[0]:
        if head.projected is None and head.projected_bytes <= _room_for_projections():
            head.project_all(keep=True)
        confirmed = [check_full_vocabulary(head, heads, left, k, asked.ranks, tile)]
        head.projected = None
        left = left.keep(slice(0, 0))
    head.multiply_adds += left.source.numel() * head.Q.shape[1]
    return PrefilterResult(zero_output, confirmed, replace(left, source=left.source @ head.Q))


def _check_rest(
    asked: _Question, heads: Sequence[Head], prefiltered: Sequence[PrefilterResult]
) -> list[Decisions]:
    """The rest of step 3, for the few open pairs of all heads together."""
    together = ResidualStream(asked.vocabulary)
    left = OpenPairs.joined([one.open for one in prefiltered])
    confirmed = [part for one in prefiltered for part in one.confirmed]
    confirmed.append(check_full_vocabulary(together, heads, left, asked.k, asked.ranks, asked.tile))
    at, pair, negated, n_larger = (
        torch.cat([getattr(part, name) for part in confirmed])
        for name in ("head", "pair", "negated_source", "n_larger")
    )
    n_float64_rechecks = torch.stack([part.n_float64_rechecks for part in confirmed]).sum(0)
    decisions = []
    for i, (head, one) in enumerate(zip(heads, prefiltered, strict=True)):
        top, bottom = (
            pair.new_full((len(asked.targets),), asked.k).index_put_(
                (pair[which],), n_larger[which]
            )
            for which in ((at == i) & ~negated, (at == i) & negated)
        )
        decisions.append(
            Decisions(
                in_top_k=(top < asked.k).cpu(),
                in_bottom_k=(bottom < asked.k).cpu(),
                zero_output=one.zero_output.cpu(),
                ranks_top=top.cpu() if asked.ranks else None,
                ranks_bottom=bottom.cpu() if asked.ranks else None,
                n_float64_rechecks=int(n_float64_rechecks[i]),
                n_near_ties=head.n_near_ties,
                multiply_adds=head.multiply_adds + together.multiply_adds // len(heads),
            )
        )
    return decisions


def _room_for_projections() -> int:
    """Bytes that one thread may hold of a head's projected vocabulary."""
    return MEMORY // 8 // torch.get_num_threads()


def _open_pairs(
    asked: _Question, head: Head, number: int, values: Float[Tensor, "m d_head"]
) -> tuple[OpenPairs, Bool[Tensor, "m"]]:
    """Every pair as an open one for the top k, and where the head writes nothing.

    Args:
        asked: the question.
        head: the head asked.
        number: its place in the batch.
        values: float64 ``x·W_V``.
    """
    device = head.vocabulary.rows.device
    written = values @ head.R
    head.multiply_adds += values.numel() * head.R.shape[1]
    scale = written.norm(dim=1)
    zero_output = head.zero_output(scale).to(device)
    error = head.relative_error(scale).to(device)
    source = written.div_(scale.clamp_min(_TINY)[:, None]).float().to(device)
    target = asked.targets.to(device)
    if len(target) > head.vocabulary.size // 2 and head.projected_bytes <= _room_for_projections():
        head.project_all()
    if asked.target_rows is not None and head.projected is None:
        target_logit = (source * head.project_rows(asked.target_rows)).sum(1)
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
