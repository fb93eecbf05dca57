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
3. **Full vocabulary.** Pairs that are still open meet the whole vocabulary in blocks, and are
   dropped once k competitors have beaten their target: those of a head with many such pairs in its
   own dimensions, the few of all other heads together in the residual stream.
4. **Float64.** A float32 logit counts only where it is farther from the target's than a rigorous
   rounding bound; where that leaves a pair open, the few tokens within the bound are compared with
   the target in float64, and where that is too near to call, in a summation order that is always
   the same.

Because of step 4 the answers do not depend on the block size, the number of threads or the order
of the pairs: they are those of the source vectors and weights given. No estimate enters: the
competitors' order decides how soon a pair is dropped, never whether.

Ranks up to k are the same work: a pair that is never dropped has met every token, so that its
target's rank is known. Heads are spread over threads (``threads.map_tasks``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.arithmetic import MEMORY, TILE, concatenated, full_float32, slices
from analysis.exact.head_logits import OV, ResidualStream, Sources, factors
from analysis.exact.open_pairs import ConfirmedPairs, check_together
from analysis.exact.prefilter import (
    Prefiltered,
    Reference,
    TopKQuestion,
    check_alone,
    extremes_of,
    prefilter,
)
from analysis.exact.vocabulary import Vocabulary

N_TASK = 6
"""Heads, about, that a thread takes at a time."""
ROWS_TASK = 4096
"""Pairs of those heads, about: few enough that what is made of them stays in the cache."""
PROJECTED_TOGETHER = 4
"""Heads, at most, that project the vocabulary in one product; one of each is half as fast."""
ANSWERS_TOGETHER = 1 << 17
"""Answers, about, that are given together: of so many heads the last open pairs meet the
vocabulary at the same time."""


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

    By the layer's number they are known for later calls.
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
    and for what each thread holds of a pair while it decides the few heads that share its values:
    these in float64, what each head writes in float32, copies of that for the pairs of either
    direction that are open, and their numbers.
    """
    each = 12 * d_model + torch.get_num_threads() * ((8 + 4 * 4 + 4 * 4) * d_head + 200)
    return max(1, MEMORY // 2 // each)


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
    asked = TopKQuestion(Sources(x), targets, vocabulary, k, ranks, tile, reference, rows)
    for together in slices(len(heads), _heads_together(asked, heads)):
        yield from _decide_together(asked, heads[together])


def _heads_together(asked: TopKQuestion, heads: Sequence[OV]) -> int:
    """Heads whose last open pairs are held against the vocabulary together.

    Their answers come together too, so that they are not too many; what is held of each, its
    factors and its logits of an average source, takes an eighth of ``MEMORY`` at most.
    """
    each = 4 * asked.vocabulary.size + max((4 * ov.W_O.numel() for ov in heads), default=1)
    few = max(8 * N_TASK, ANSWERS_TOGETHER // max(1, len(asked.targets)))
    most = max(1, min(few, MEMORY // 8 // each))
    n_parts = max(1, -(-len(heads) // most))
    return max(1, -(-len(heads) // n_parts))


def _decide_together(asked: TopKQuestion, heads: Sequence[OV]) -> Iterator[Decisions]:
    """All answers of some heads."""
    vocabulary = asked.vocabulary
    factored = factors(heads, vocabulary, asked.common.x.device)
    extremes = extremes_of(asked, heads, factored)

    def meet(some: slice) -> list[Prefiltered]:
        with full_float32():
            return prefilter(asked, heads[some], some.start, factored[some], extremes[some])

    prefiltered = [one for some in vocabulary.map(meet, _tasks(asked, heads)) for one in some]
    batch = [one.head for one in prefiltered]
    alone, together = _shares(prefiltered)

    def check(which: Sequence[int]) -> tuple[list[ConfirmedPairs], int]:
        """What is confirmed of each head's pairs, and the multiplications not counted by heads."""
        with full_float32():
            some = [prefiltered[i] for i in which]
            if which in alone:
                return check_alone(asked, some), 0
            space = ResidualStream(vocabulary)
            left = concatenated([one.in_residual_stream() for one in some])
            confirmed = check_together(space, batch, left, asked.k, asked.ranks, asked.tile)
            return [confirmed.of_head(i) for i in which], space.multiply_adds

    shares = [*alone, *together]
    confirmed: dict[int, ConfirmedPairs] = {}
    multiply_adds = 0
    for which, (parts, count) in zip(shares, vocabulary.map(check, shares), strict=True):
        confirmed |= zip(which, parts, strict=True)
        multiply_adds += count
    for number, one in enumerate(prefiltered):
        found = one.confirmed + ([confirmed[number]] if number in confirmed else [])
        yield _answers(asked, one, found, multiply_adds // len(heads))


def _tasks(asked: TopKQuestion, heads: Sequence[OV]) -> list[slice]:
    """A few heads of one shape for a thread at a time; those that share a W_V stay together."""
    n_pairs = max(1, len(asked.targets))
    n = max(N_TASK, ROWS_TASK // n_pairs) if n_pairs <= ROWS_TASK else 1
    n, starts = min(n, max(1, len(heads) // 16)), [0]
    for i in range(1, len(heads)):
        size, before = i - starts[-1], heads[i - 1]
        full = size >= 4 * n or (size >= n and heads[i].W_V is not before.W_V)
        if full or heads[i].W_O.shape != before.W_O.shape:
            starts.append(i)
    return list(map(slice, starts, [*starts[1:], len(heads)]))


def _shares(prefiltered: Sequence[Prefiltered]) -> tuple[list[list[int]], list[list[int]]]:
    """Which heads' open pairs are held against the vocabulary by one thread at a time.

    Returns:
        Heads with many open pairs, a few at a time, those with the most first; and the others, in
        about equal parts, one for each thread.
    """
    order = sorted(range(len(prefiltered)), key=lambda i: len(prefiltered[i].open), reverse=True)
    many = [i for i in order if prefiltered[i].has_many]
    few = min(PROJECTED_TOGETHER, max(1, len(many) // 8))
    alone = [many[s] for s in slices(len(many), few)]
    others = [i for i in order[len(many) :] if len(prefiltered[i].open)]
    n = torch.get_num_threads()
    # Dealt out back and forth, the largest first.
    together = [others[i :: 2 * n] + others[2 * n - 1 - i :: 2 * n] for i in range(n)]
    return alone, [share for share in together if share]


def _answers(
    asked: TopKQuestion, one: Prefiltered, confirmed: Sequence[ConfirmedPairs], multiply_adds: int
) -> Decisions:
    """The answers of one head, from the pairs that nothing refutes."""
    top = torch.full_like(one.zero_output, asked.k, dtype=torch.int64)
    bottom = top.clone()
    for part in confirmed:
        at_bottom = part.negated_source
        top[part.pair[~at_bottom]] = part.n_larger[~at_bottom]
        bottom[part.pair[at_bottom]] = part.n_larger[at_bottom]
    return Decisions(
        in_top_k=(top < asked.k).cpu(),
        in_bottom_k=(bottom < asked.k).cpu(),
        zero_output=one.zero_output.cpu(),
        ranks_top=top.cpu() if asked.ranks else None,
        ranks_bottom=bottom.cpu() if asked.ranks else None,
        n_float64_rechecks=sum(int(part.n_float64_rechecks.sum()) for part in confirmed),
        n_near_ties=one.head.n_near_ties,
        multiply_adds=one.head.multiply_adds + multiply_adds,
    )
