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

Because of step 4 the answers do not depend on the block size, the number of threads, the device
or the order of the pairs. No estimate enters: the competitors' order decides how soon a pair is
dropped, never whether.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.head_logits import TILE, Head, ResidualStream, Vocabulary, count_true, slices

N_LIKELY = 128
"""Likely competitors that every pair meets first, for each direction."""
N_TOGETHER = 32
"""Heads whose last open questions are held against the vocabulary together."""
N_PREFIX = 512
"""Likely competitors that the pairs still open meet next."""
SWEEP_BLOCK = 8192
"""Tokens in the largest blocks of the whole vocabulary's sweep; the first are smaller."""
SUB_BLOCK = 128
"""Tokens that are passed over together when the largest of their logits is too small."""
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Decisions:
    """Answers for one head.

    Attributes:
        top: bool ``[n_pairs]``, is the pair's target among the k largest logits?
        bottom: bool ``[n_pairs]``, is it among the k smallest?
        n_close: questions that float32 left open and float64 settled.
        n_silent: pairs for which the head writes exactly nothing, so that every logit is equal
            and the target is, by definition, in the top and in the bottom k.
        multiply_adds: multiplications done, to hold against the dense product's
            ``n_sources · d_model · d_vocab``.
    """

    top: Bool[Tensor, "n_pairs"]
    bottom: Bool[Tensor, "n_pairs"]
    n_close: int
    n_silent: int
    multiply_adds: int


@dataclass(frozen=True)
class _Questions:
    """Open questions: do at least k tokens have a strictly larger logit than this target?

    "In the bottom k?" is the same question about the negated source.
    """

    head: Int[Tensor, "m"]  # place in the batch
    pair: Int[Tensor, "m"]
    source: Float[Tensor, "m width"]  # unit length, in the head's dimensions or the residual's
    target: Int[Tensor, "m"]
    level: Float[Tensor, "m"]  # the target's logit
    error: Float[Tensor, "m"]  # rounding error of a logit over |w_v|
    slack: Float[Tensor, "m"]  # rounding error of the level
    negated_source: Bool[Tensor, "m"]

    def __len__(self) -> int:
        return int(self.pair.shape[0])

    def keep(self, which: Bool[Tensor, "m"] | slice) -> _Questions:
        return _Questions(**{name: value[which] for name, value in vars(self).items()})

    def negated(self) -> _Questions:
        return replace(
            self,
            source=-self.source,
            level=-self.level,
            negated_source=~self.negated_source,
        )

    @classmethod
    def joined(cls, parts: Sequence[_Questions]) -> _Questions:
        return cls(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        )


@dataclass(frozen=True)
class OV:
    """One head's weights, any floating dtype; heads of one group share the same W_V object."""

    W_V: Float[Tensor, "d_model d_head"]
    W_O: Float[Tensor, "d_head d_model"]


def layer_heads(
    W_V: Float[Tensor, "n_kv_heads d_model d_head"], W_O: Float[Tensor, "n_heads d_head d_model"]
) -> list[OV]:
    """The heads of a layer; head h reads key-value head ``h // (n_heads // n_kv_heads)``."""
    group = W_O.shape[0] // W_V.shape[0]
    values = list(W_V)
    return [OV(values[h // group], W_O[h]) for h in range(W_O.shape[0])]


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
        x: float64 source vectors, a row for each pair, where float64 can be computed.
        targets: int64, the token asked about in each pair.
        heads: their weights.
        vocabulary: the unembedding, on the device that is to do the float32 work.
        k: from 1 to ``d_vocab``.
        tile: logits held at once.
    """
    lengths = x.norm(dim=1)
    average = lengths.clamp_min(_TINY).reciprocal() @ x / len(x)
    values: tuple[Tensor | None, Tensor] = None, x
    for some in slices(len(heads), N_TOGETHER):
        batch = [Head(ov.W_V.to(x.device), ov.W_O.to(x.device), vocabulary) for ov in heads[some]]
        directions = torch.stack([average @ head.W_V @ head.W_O for head in batch])
        most, least = vocabulary.likely(directions.float().to(vocabulary.rows.device), N_PREFIX)
        begun = []
        for i, (head, ov) in enumerate(zip(batch, heads[some], strict=True)):
            head.multiply_adds += vocabulary.rows.numel()
            if values[0] is not ov.W_V:
                values = ov.W_V, x @ head.W_V
                head.multiply_adds += x.numel() * head.W_V.shape[1]
            questions = _questions(head, i, values[1], lengths, targets, tile)
            begun.append(_begin(head, questions, most[i], least[i], k, tile))
        yield from _finish(batch, begun, x, k, tile)


@dataclass(frozen=True)
class _Begun:
    """What is left of one head's questions after its likely competitors."""

    n_pairs: int
    silent: Bool[Tensor, "n_pairs"]
    swept: list[_Unbeaten]  # held against the whole vocabulary
    open: _Questions  # too few for a sweep of their own; sources in the residual stream
    vanishing: _Questions  # for which float32 has nothing to say


def _begin(
    head: Head,
    questions: _Questions,
    most: Int[Tensor, "n"],
    least: Int[Tensor, "n"],
    k: int,
    tile: int,
) -> _Begun:
    """Step 2 for one head, and step 3 where many of its questions are still open."""
    silent = questions.error.isinf()
    # Where float64 itself barely sees what the head writes, float32 has nothing to say.
    plain = questions.error < 0.01
    likely = torch.cat([most[:N_LIKELY], least[:N_LIKELY]])
    top_open, bottom_open = _refute(head, questions, likely, k, tile)
    top = _sweep(head, questions.keep(top_open & plain), [most], k, tile)
    bottom = _sweep(head, questions.keep(bottom_open & plain).negated(), [least], k, tile)
    still_open = _Questions.joined([top.questions, bottom.questions])
    swept = []
    if head.projected is not None or len(still_open) >= head.Q.shape[0]:
        blocks = _growing(head.vocabulary.size)
        swept = [_sweep(head, still_open, blocks, k, tile)]
        head.projected = None
        still_open = still_open.keep(slice(0, 0))
    head.multiply_adds += still_open.source.numel() * head.Q.shape[1]
    in_residual_stream = replace(still_open, source=still_open.source @ head.Q)
    vanishing = questions.keep(~plain & ~silent)
    return _Begun(len(questions), silent, swept, in_residual_stream, vanishing)


def _finish(
    heads: Sequence[Head],
    begun: Sequence[_Begun],
    x: Float[Tensor, "n_pairs d_model"],
    k: int,
    tile: int,
) -> Iterator[Decisions]:
    """The rest of step 3, for the few open questions of all heads together, and step 4."""
    vocabulary = heads[0].vocabulary
    together = ResidualStream(vocabulary)
    still_open = _Questions.joined([b.open for b in begun])
    blocks = _growing(vocabulary.size)
    unbeaten = [u for b in begun for u in b.swept] + [_sweep(together, still_open, blocks, k, tile)]
    for b in begun:
        for part in slices(len(b.vanishing), 16):
            for doubtful in (b.vanishing.keep(part), b.vanishing.keep(part).negated()):
                unbeaten.append(_unseen(doubtful, vocabulary.size))
    settled = [_settle(heads, x, u, k) for u in unbeaten]
    upheld_head = torch.cat([u.head for u, _ in settled])
    pair = torch.cat([u.pair for u, _ in settled])
    negated = torch.cat([u.negated_source for u, _ in settled])
    n_close = torch.stack([closes for _, closes in settled]).sum(0)
    for i, (head, b) in enumerate(zip(heads, begun, strict=True)):
        in_top, in_bottom = b.silent.clone(), b.silent.clone()
        in_top[pair[(upheld_head == i) & ~negated]] = True
        in_bottom[pair[(upheld_head == i) & negated]] = True
        yield Decisions(
            top=in_top.cpu(),
            bottom=in_bottom.cpu(),
            n_close=int(n_close[i]),
            n_silent=int(b.silent.sum()),
            multiply_adds=head.multiply_adds + together.multiply_adds // len(heads),
        )


def _questions(
    head: Head,
    number: int,
    values: Float[Tensor, "m d_head"],
    lengths: Float[Tensor, "m"],
    target: Int[Tensor, "m"],
    tile: int,
) -> _Questions:
    """The top-k question of every pair, with its target's logit.

    Args:
        head: the head asked.
        number: its place in the batch.
        values: float64 ``x·W_V``.
        lengths: float64 ``|x|``.
        target: the tokens asked about.
        tile: numbers held at once.
    """
    device = head.vocabulary.rows.device
    written = values @ head.R
    head.multiply_adds += values.numel() * head.R.shape[1]
    scale = written.norm(dim=1)
    error = head.relative_error(lengths, scale).to(device)  # infinite where nothing is written
    source = (written / scale.clamp_min(_TINY)[:, None]).float().to(device)
    target = target.to(device)
    if len(target) > head.vocabulary.size // 2:
        head.project_all()
    level = torch.empty(len(target), device=device)
    for s in slices(len(target), max(1, tile // head.Q.shape[1])):
        level[s] = (source[s] * head.project(target[s])).sum(1)
    return _Questions(
        head=torch.full_like(target, number),
        pair=torch.arange(len(target), device=device),
        source=source,
        target=target,
        level=level,
        error=error,
        slack=error * head.vocabulary.norms[target],
        negated_source=torch.zeros(len(target), dtype=torch.bool, device=device),
    )


def _refute(
    head: Head, questions: _Questions, likely: Int[Tensor, "n"], k: int, tile: int
) -> tuple[Bool[Tensor, "m"], Bool[Tensor, "m"]]:
    """Which questions, top and bottom, a first block of competitors leaves open."""
    likely = likely.unique()
    left, right = head.operands(questions.source, likely)
    tolerance = questions.slack + questions.error * head.vocabulary.norms[likely].max()
    above, below = questions.level + tolerance, questions.level - tolerance
    top_open = torch.ones_like(questions.negated_source)
    bottom_open = top_open.clone()
    for s in slices(len(questions), max(1, tile // len(likely))):
        logits = left[s] @ right.T
        if k == 1:
            top_open[s] = logits.amax(1) <= above[s]
            bottom_open[s] = logits.amin(1) >= below[s]
        else:
            top_open[s] = count_true(logits > above[s, None]) < k
            bottom_open[s] = count_true(logits < below[s, None]) < k
    return top_open, bottom_open


@dataclass(frozen=True)
class _Unbeaten:
    """Questions that no block has refuted, and the comparisons that float32 could not make."""

    questions: _Questions
    above: Int[Tensor, "m"]  # tokens surely larger than the target, fewer than k
    near_row: Int[Tensor, "n"]  # a row of `questions` ...
    near_token: Int[Tensor, "n"]  # ... and a token within the rounding bound of its target


def _growing(n: int) -> Iterator[slice]:
    """``range(n)`` in pieces that double up to ``SWEEP_BLOCK``: the first drop most questions."""
    start, size = 0, SUB_BLOCK * 4
    while start < n:
        yield slice(start, min(start + size, n))
        start, size = start + size, min(2 * size, SWEEP_BLOCK)


def _unseen(questions: _Questions, d_vocab: int) -> _Unbeaten:
    """Questions for which no comparison has been made at all."""
    rows = torch.arange(len(questions), device=questions.pair.device)
    return _Unbeaten(
        questions,
        above=torch.zeros_like(rows),
        near_row=rows.repeat_interleave(d_vocab),
        near_token=torch.arange(d_vocab, device=rows.device).repeat(len(rows)),
    )


def _sweep(
    space: Head | ResidualStream,
    questions: _Questions,
    blocks: Iterable[slice | Int[Tensor, "n"]],
    k: int,
    tile: int,
) -> _Unbeaten:
    """Hold the questions against blocks of distinct tokens, dropping each once it is refuted."""
    device = questions.pair.device
    n = len(questions)
    above = torch.zeros(n, dtype=torch.int64, device=device)
    row = torch.arange(n, device=device)
    near_row = [row[:0]]
    near_token = [row[:0]]
    everything = torch.arange(space.vocabulary.size, device=device)
    for tokens in blocks:
        if len(questions) == 0:
            break
        left, right = space.operands(questions.source, tokens)
        tolerance = questions.slack + questions.error * space.vocabulary.norms[tokens].max()
        for s in slices(len(questions), max(1, tile // len(right))):
            sure, i, j = _compare(left[s] @ right.T, (questions.level)[s], tolerance[s])
            above[s] += sure
            near_row.append(row[s][i])
            near_token.append(everything[tokens][j])
        open_still = above < k
        questions, above, row = questions.keep(open_still), above[open_still], row[open_still]
    new_row = torch.full((n,), -1, device=device)
    new_row[row] = torch.arange(len(row), device=device)
    rows, near = new_row[torch.cat(near_row)], torch.cat(near_token)
    rows, near = rows[rows >= 0], near[rows >= 0]
    other = near != questions.target[rows]
    return _Unbeaten(questions, above, rows[other], near[other])


def _compare(
    logits: Float[Tensor, "m n"], level: Float[Tensor, "m"], tolerance: Float[Tensor, "m"]
) -> tuple[Int[Tensor, "m"], Int[Tensor, "l"], Int[Tensor, "l"]]:
    """How many logits of each row surely exceed its level, and where those within the bound are.

    Only stretches of tokens whose largest logit comes near the level are looked at again.
    """
    m, n = logits.shape
    if n % SUB_BLOCK:
        logits = torch.nn.functional.pad(logits, (0, -n % SUB_BLOCK), value=-torch.inf)
    stretches = logits.view(m, -1, SUB_BLOCK)
    i, stretch = (stretches.amax(2) >= (level - tolerance)[:, None]).nonzero(as_tuple=True)
    looked_at = stretches[i, stretch]
    surely = looked_at > (level + tolerance)[i, None]
    near = (looked_at >= (level - tolerance)[i, None]) & ~surely
    entry, offset = near.nonzero(as_tuple=True)
    count = torch.zeros(m, dtype=torch.int64, device=logits.device)
    count.index_add_(0, i, count_true(surely))
    return count, i[entry], stretch[entry] * SUB_BLOCK + offset


def _settle(
    heads: Sequence[Head], x: Float[Tensor, "n_pairs d_model"], unbeaten: _Unbeaten, k: int
) -> tuple[_Questions, Int[Tensor, "n_heads"]]:
    """Answer what float32 left open.

    Returns:
        The questions upheld, and how many of each head had to be settled.
    """
    questions, above = unbeaten.questions, unbeaten.above
    n_near = torch.bincount(unbeaten.near_row, minlength=len(questions))
    upheld = above + n_near < k
    order = unbeaten.near_row.argsort(stable=True)
    near = unbeaten.near_token[order].split(n_near.tolist())
    doubtful = (~upheld).nonzero()[:, 0].tolist()
    for row in doubtful:
        needed = k - int(above[row])
        sign = -1 if questions.negated_source[row] else 1
        larger = 0
        head = heads[int(questions.head[row])]
        source = x[questions.pair[row]]
        for leads in head.leads_in_float64(source, int(questions.target[row]), near[row]):
            larger += int((sign * leads > 0).sum())
            if larger >= needed:
                break
        upheld[row] = larger < needed
    n_close = torch.bincount(questions.head[doubtful].cpu(), minlength=len(heads))
    return questions.keep(upheld), n_close
