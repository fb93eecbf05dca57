r"""Exact top-k and bottom-k questions about an attention head's logits, without the logits.

For a head with OV weights ``W_V`` (d_model × d_head) and ``W_O`` (d_head × d_model), a source
vector ``x`` and an unembedding with columns ``w_v``, the logits are ``m_v = x·W_V·W_O·w_v``.
A target t is *in the top k* when fewer than k other tokens have a strictly larger logit, and
*in the bottom k* when fewer than k have a strictly smaller one. Both are decided for every
(source, target) pair of a head, in four steps:

1. **Low rank.** ``W_O = R·Q`` with orthonormal rows in Q, so that ``m_v = (x·W_V·R)·(Q·w_v)``: a
   source is ``d_head`` numbers, scaled here to length 1, and a token is ``d_head`` numbers.
2. **Likely competitors.** The average source, sent through the head, names the tokens that the
   head writes most and least. These few hundred refute nearly every pair in both directions.
3. **Sweep.** Pairs that are still open meet more likely competitors and then the whole
   vocabulary in blocks, and are dropped once k competitors have beaten their target.
4. **Settlement.** A float32 logit counts only where it is farther from the target's than a
   rigorous rounding bound; where that leaves a question open, the few tokens within the bound
   are compared with the target in float64, in a summation order that is always the same.

Because of step 4 the answers do not depend on the block size, the number of threads or the order
of the pairs: they are those of the source vectors and weights given. No estimate enters: the
competitors' order decides how soon a pair is dropped, never whether.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.head_logits import (
    MEMORY,
    TILE,
    Head,
    ResidualStream,
    Sources,
    Vocabulary,
    slices,
)
from analysis.exact.sweep import (
    ConfirmedPairs,
    OpenPairs,
    check_full_vocabulary,
    refute,
    still_open,
)

N_LIKELY = 128
"""Likely competitors that every pair meets first, for each direction."""
N_PREFIX = 512
"""Likely competitors that the pairs still open meet next."""
N_TOGETHER = 32
"""Heads, at most, whose last open questions are held against the vocabulary together."""
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Decisions:
    """Answers for one head.

    Attributes:
        in_top_k: bool ``[n_pairs]``, is the pair's target among the k largest logits?
        in_bottom_k: bool ``[n_pairs]``, is it among the k smallest?
        n_float64_rechecks: questions that float32 left open and float64 settled.
        n_near_ties: comparisons of different logits that the head's ``margin`` made a tie.
        n_zero_output: pairs for which the head writes exactly nothing, so that every logit is equal
            and the target is, by definition, in the top and in the bottom k.
        multiply_adds: multiplications done, to hold against the dense product's
            ``n_sources · d_model · d_vocab``.
    """

    in_top_k: Bool[Tensor, "n_pairs"]
    in_bottom_k: Bool[Tensor, "n_pairs"]
    n_float64_rechecks: int
    n_zero_output: int
    n_near_ties: int
    multiply_adds: int


@dataclass(frozen=True)
class OV:
    """One head's weights, any floating dtype; heads of one group share the same W_V object.

    Attributes:
        W_V: what it reads with.
        W_O: what it writes with.
        x: float64 source vectors of this head alone; None for those that all heads read.
        margin: a token whose logit leads the target's by at most this share of
            ``|x·W_V·W_O|·|w_v − w_t|`` is tied with it; for sources that are themselves rounded.
    """

    W_V: Float[Tensor, "d_model d_head"]
    W_O: Float[Tensor, "d_head d_model"]
    x: Float[Tensor, "n_pairs d_model"] | None = None
    margin: float = 0.0


def layer_heads(
    W_V: Float[Tensor, "n_kv_heads d_model d_head"], W_O: Float[Tensor, "n_heads d_head d_model"]
) -> list[OV]:
    """The heads of a layer; head h reads key-value head ``h // (n_heads // n_kv_heads)``."""
    group = W_O.shape[0] // W_V.shape[0]
    values = list(W_V)
    return [OV(values[h // group], W_O[h]) for h in range(W_O.shape[0])]


def pairs_at_once(d_model: int, d_head: int) -> int:
    """How many pairs ``decide_heads`` may be given so that all it holds stays within ``MEMORY``.

    Half of it is for the source vectors, in float64, and for what is held of a pair while one head
    is decided: its values and what it writes in float64, its unit source in float32 and copies of
    that for the questions of either direction that are open, and their numbers.
    """
    each = 8 * d_model + (2 * 8 + 8 + 4 * 4) * d_head + 200
    return max(1, MEMORY // 2 // each)


def decide_heads(
    x: Float[Tensor, "n_pairs d_model"],
    targets: Int[Tensor, "n_pairs"],
    heads: Sequence[OV],
    vocabulary: Vocabulary,
    k: int,
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
        tile: logits held at once.
    """
    common = Sources(x)
    values: tuple[Tensor | None, Tensor] = None, x
    for some in slices(len(heads), _heads_together(heads)):
        batch = [
            Head(common if ov.x is None else Sources(ov.x), ov.W_V, ov.W_O, vocabulary, ov.margin)
            for ov in heads[some]
        ]
        directions = torch.stack([head.sources.average @ head.W_V @ head.W_O for head in batch])
        most, least = vocabulary.likely(directions.float().to(vocabulary.rows.device), N_PREFIX)
        begun = []
        for i, (head, ov) in enumerate(zip(batch, heads[some], strict=True)):
            head.multiply_adds += vocabulary.rows.numel()
            if ov.x is not None or values[0] is not ov.W_V:
                values = None if ov.x is not None else ov.W_V, head.sources.x @ head.W_V
                head.multiply_adds += head.sources.x.numel() * head.W_V.shape[1]
            questions, silent = _questions(head, i, values[1], targets, tile)
            begun.append(_begin(batch, questions, silent, most[i], least[i], k, tile))
        yield from _finish(batch, begun, k, tile)


def _heads_together(heads: Sequence[OV]) -> int:
    """Heads of a batch: their weights in float64 take an eighth of ``MEMORY`` at most."""
    each = 8 * max((ov.W_V.numel() + ov.W_O.numel() for ov in heads), default=1)
    return min(N_TOGETHER, max(1, MEMORY // 8 // each))


@dataclass(frozen=True)
class PrefilterResult:
    """What is left of one head's questions after its likely competitors."""

    silent: Bool[Tensor, "n_pairs"]
    decided: list[ConfirmedPairs]
    open: OpenPairs  # too few for a sweep of their own; sources in the residual stream


def _begin(
    heads: Sequence[Head],
    questions: OpenPairs,
    silent: Bool[Tensor, "n_pairs"],
    most: Int[Tensor, "n"],
    least: Int[Tensor, "n"],
    k: int,
    tile: int,
) -> PrefilterResult:
    """Step 2 for one head, and step 3 where many of its questions are still open."""
    head = heads[int(questions.head[0])]
    likely = torch.cat([most[:N_LIKELY], least[:N_LIKELY]])
    top, bottom = refute(head, questions, likely, k, tile)
    left = OpenPairs.joined(
        [
            still_open(head, questions.keep(top & ~silent), [most], k, tile),
            still_open(head, questions.keep(bottom & ~silent).negated(), [least], k, tile),
        ]
    )
    decided = []
    if head.projected is not None or len(left) >= head.Q.shape[0]:
        decided = [check_full_vocabulary(head, heads, left, k, tile)]
        head.projected = None
        left = left.keep(slice(0, 0))
    head.multiply_adds += left.source.numel() * head.Q.shape[1]
    return PrefilterResult(silent, decided, replace(left, source=left.source @ head.Q))


def _finish(
    heads: Sequence[Head],
    begun: Sequence[PrefilterResult],
    k: int,
    tile: int,
) -> Iterator[Decisions]:
    """The rest of step 3, for the few open questions of all heads together."""
    together = ResidualStream(heads[0].vocabulary)
    left = OpenPairs.joined([b.open for b in begun])
    decided = [d for b in begun for d in b.decided]
    decided.append(check_full_vocabulary(together, heads, left, k, tile))
    at = torch.cat([d.head for d in decided])
    pair = torch.cat([d.pair for d in decided])
    negated = torch.cat([d.negated_source for d in decided])
    n_float64_rechecks = torch.stack([d.closes for d in decided]).sum(0)
    for i, (head, b) in enumerate(zip(heads, begun, strict=True)):
        in_top, in_bottom = b.silent.clone(), b.silent.clone()
        in_top[pair[(at == i) & ~negated]] = True
        in_bottom[pair[(at == i) & negated]] = True
        yield Decisions(
            in_top_k=in_top.cpu(),
            in_bottom_k=in_bottom.cpu(),
            n_float64_rechecks=int(n_float64_rechecks[i]),
            n_zero_output=int(b.silent.sum()),
            n_near_ties=head.n_near_ties,
            multiply_adds=head.multiply_adds + together.multiply_adds // len(heads),
        )


def _questions(
    head: Head,
    number: int,
    values: Float[Tensor, "m d_head"],
    target: Int[Tensor, "m"],
    tile: int,
) -> tuple[OpenPairs, Bool[Tensor, "m"]]:
    """The top-k question of every pair, with its target's logit; and where the head is silent.

    Args:
        head: the head asked.
        number: its place in the batch.
        values: float64 ``x·W_V``.
        target: the tokens asked about.
        tile: numbers held at once.
    """
    device = head.vocabulary.rows.device
    written = values @ head.R
    head.multiply_adds += values.numel() * head.R.shape[1]
    scale = written.norm(dim=1)
    silent = head.silent(scale).to(device)
    error = head.relative_error(scale).to(device)
    source = written.div_(scale.clamp_min(_TINY)[:, None]).float().to(device)
    target = target.to(device)
    if len(target) > head.vocabulary.size // 2 and 4 * head.projected_numbers <= MEMORY // 8:
        head.project_all()
    level = source.new_empty(len(target))
    for s in slices(len(target), max(1, tile // head.Q.shape[1])):
        level[s] = (source[s] * head.project(target[s])).sum(1)
    questions = OpenPairs(
        head=torch.full_like(target, number),
        pair=torch.arange(len(target), device=device),
        source=source,
        target=target,
        level=level,
        error=error,
        slack=error * head.vocabulary.norms[target],
        negated_source=torch.zeros(len(target), dtype=torch.bool, device=device),
    )
    return questions, silent
