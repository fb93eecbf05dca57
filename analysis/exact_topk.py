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

The rounding bound: with unit roundoff u and ``γ_n = n·u/(1-n·u)`` (Higham, *Accuracy and
Stability of Numerical Algorithms*, 2002, section 3.1), each of the d_head numbers of a token is
off by at most ``γ_{d_model+1}·|w_v|``, their product with a source of length 1 by
``√d_head·γ_{d_model+1}·|w_v|``, and its summation by ``γ_{d_head}·|w_v|``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

N_LIKELY = 128
"""Likely competitors that every pair meets first, for each direction."""
N_PREFIX = 2048
"""Likely competitors that the pairs still open meet next."""
SWEEP_BLOCK = 8192
"""Tokens in each block of the whole vocabulary's sweep."""
SUB_BLOCK = 128
"""Tokens that are passed over together when the largest of their logits is too small."""
TILE = 1 << 22
"""Logits held at once: 16 MiB in float32, so that a block stays in the processor's cache."""
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


class Vocabulary:
    """The unembedding, a row for each token, read in blocks.

    Attributes:
        rows: ``[d_vocab, d_model]``, any floating dtype, on the computing device.
        norms: float32 ``[d_vocab]``, length of each row, rounded up.
    """

    def __init__(self, W_U: Float[Tensor, "d_model d_vocab"]) -> None:
        self.rows = W_U.T
        block = max(1, TILE // W_U.shape[0])
        self.norms = torch.cat([self.block(s).norm(dim=1) for s in _slices(self.size, block)]) * (
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
        logits = torch.cat([directions @ self.block(s).T for s in _slices(self.size, block)], dim=1)
        return logits.topk(n, dim=1).indices, logits.topk(n, dim=1, largest=False).indices


class _Head:
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

    def project_all(self) -> None:
        """Keep every token's projection, where all of them will be asked for."""
        block = max(1, TILE // self.Q.shape[1])
        self.projected = torch.cat([self.project(s) for s in _slices(self.vocabulary.size, block)])

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

    def larger_in_float64(
        self,
        x: Float[Tensor, "d_model"],
        target: int,
        tokens: Int[Tensor, "n"],
        negated: bool,
        enough: int,
    ) -> int:
        """How many tokens have a strictly larger (if negated, smaller) logit than the target.

        Everything is summed by numpy in an order that only the shapes decide, and a token is
        compared by the difference of its row and the target's, so that equal rows tie exactly.
        Counting stops at ``enough``.
        """
        W_V, W_O = self.W_V.cpu().numpy(), self.W_O.cpu().numpy()
        value = (x.cpu().numpy()[:, None] * W_V).sum(0)
        written = (value[:, None] * W_O).sum(0)
        if negated:
            written = -written
        rows = self.vocabulary.rows
        level = rows[target].double().cpu().numpy()
        larger = 0
        for s in _slices(len(tokens), 1024):
            difference = rows[tokens[s]].double().cpu().numpy() - level
            larger += int(((difference * written).sum(1) > 0).sum())
            self.multiply_adds += difference.size
            if larger >= enough:
                break
        return larger

    def relative_error(
        self, lengths: Float[Tensor, "m"], scale: Float[Tensor, "m"]
    ) -> Float[Tensor, "m"]:
        """Bound on a logit's rounding error over ``|w_v|``, for unit sources.

        Args:
            lengths: float64, length of each source vector.
            scale: float64, length of what the head writes for it.
        """
        r, d_model = self.Q.shape
        single = math.sqrt(r) * _gamma(d_model + 1, torch.float32) + _gamma(r + 3, torch.float32)
        # float64's own error in what the head writes: it matters only where that nearly vanishes.
        double = _gamma(d_model + 2 * r, torch.float64) * self.W_V.norm() * self.W_O.norm()
        return (1.01 * (single + double * lengths / scale)).float()


@dataclass(frozen=True)
class _Questions:
    """Open questions: do at least k tokens have a strictly larger logit than this target?

    "In the bottom k?" is the same question about the negated source.
    """

    pair: Int[Tensor, "m"]
    source: Float[Tensor, "m r"]  # unit length
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

    def and_also(self, other: _Questions) -> _Questions:
        return _Questions(
            **{name: torch.cat([value, getattr(other, name)]) for name, value in vars(self).items()}
        )


@contextmanager
def full_float32() -> Iterator[None]:
    """Forbid the reduced-precision float32 products (TF32, bfloat16) that torch may be set to."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def decide_layer(
    x: Float[Tensor, "n_pairs d_model"],
    targets: Int[Tensor, "n_pairs"],
    W_V: Float[Tensor, "n_kv_heads d_model d_head"],
    W_O: Float[Tensor, "n_heads d_head d_model"],
    vocabulary: Vocabulary,
    k: int,
    tile: int = TILE,
) -> Iterator[Decisions]:
    """Decide every pair for each head of one layer, in the heads' order.

    Args:
        x: float64 source vectors, a row for each pair, where float64 can be computed.
        targets: int64, the token asked about in each pair.
        W_V: any floating dtype; head h reads key-value head ``h // (n_heads // n_kv_heads)``.
        W_O: any floating dtype.
        vocabulary: the unembedding, on the device that is to do the float32 work.
        k: from 1 to ``d_vocab``.
        tile: logits held at once.
    """
    group = W_O.shape[0] // W_V.shape[0]
    heads = [
        _Head(W_V[h // group].to(x.device), W_O[h].to(x.device), vocabulary)
        for h in range(W_O.shape[0])
    ]
    lengths = x.norm(dim=1)
    average = (x / lengths.clamp_min(_TINY)[:, None]).mean(0)
    directions = torch.stack([average @ head.W_V @ head.W_O for head in heads])
    most, least = vocabulary.likely(directions.float().to(vocabulary.rows.device), N_PREFIX)
    values = x
    for h, head in enumerate(heads):
        head.multiply_adds += vocabulary.rows.numel()
        if h % group == 0:
            values = x @ head.W_V
            head.multiply_adds += x.numel() * values.shape[1]
        yield _decide(head, x, lengths, values, targets, most[h], least[h], k, tile)


def _decide(
    head: _Head,
    x: Float[Tensor, "n_pairs d_model"],
    lengths: Float[Tensor, "n_pairs"],
    values: Float[Tensor, "n_pairs d_head"],
    targets: Int[Tensor, "n_pairs"],
    most: Int[Tensor, "n"],
    least: Int[Tensor, "n"],
    k: int,
    tile: int,
) -> Decisions:
    """Steps 2 to 4 of the module's algorithm for one head."""
    device = head.vocabulary.rows.device
    written = values @ head.R
    head.multiply_adds += values.numel() * head.R.shape[1]
    scale = written.norm(dim=1)
    silent = (scale == 0).to(device)
    scale = scale.clamp_min(_TINY)
    if len(x) > head.vocabulary.size // 2:
        head.project_all()
    questions = _questions(
        head,
        (written / scale[:, None]).float().to(device),
        targets.to(device),
        head.relative_error(lengths, scale).to(device),
        tile,
    )

    # Where float64 itself barely sees what the head writes, float32 has nothing to say.
    plain = questions.error < 0.01
    likely = torch.cat([most[:N_LIKELY], least[:N_LIKELY]])
    top_open, bottom_open = _refute(head, questions, likely, k, tile)
    top = _sweep(head, questions.keep(top_open & plain), [most], k, tile)
    bottom = _sweep(head, questions.keep(bottom_open & plain).negated(), [least], k, tile)
    blocks = _slices(head.vocabulary.size, SWEEP_BLOCK)
    unbeaten = _sweep(head, top.questions.and_also(bottom.questions), blocks, k, tile)
    upheld, n_close = _settle(head, x, unbeaten, k)
    vanishing = questions.keep(~plain & ~silent)
    for part in _slices(len(vanishing), 16):
        for doubtful in (vanishing.keep(part), vanishing.keep(part).negated()):
            settled, n_settled = _settle(head, x, _unseen(doubtful, head.vocabulary.size), k)
            upheld, n_close = upheld.and_also(settled), n_close + n_settled

    in_top, in_bottom = silent.clone(), silent.clone()
    in_top[upheld.pair[~upheld.negated_source]] = True
    in_bottom[upheld.pair[upheld.negated_source]] = True
    return Decisions(in_top.cpu(), in_bottom.cpu(), n_close, int(silent.sum()), head.multiply_adds)


def _questions(
    head: _Head,
    source: Float[Tensor, "m r"],
    target: Int[Tensor, "m"],
    error: Float[Tensor, "m"],
    tile: int,
) -> _Questions:
    """The top-k question of every pair, with its target's logit."""
    level = torch.empty(len(target), device=source.device)
    for s in _slices(len(target), max(1, tile // head.Q.shape[1])):
        level[s] = (source[s] * head.project(target[s])).sum(1)
    return _Questions(
        pair=torch.arange(len(target), device=source.device),
        source=source,
        target=target,
        level=level,
        error=error,
        slack=error * head.vocabulary.norms[target],
        negated_source=torch.zeros(len(target), dtype=torch.bool, device=source.device),
    )


def _refute(
    head: _Head, questions: _Questions, likely: Int[Tensor, "n"], k: int, tile: int
) -> tuple[Bool[Tensor, "m"], Bool[Tensor, "m"]]:
    """Which questions, top and bottom, a first block of competitors leaves open."""
    likely = likely.unique()
    left, right = head.operands(questions.source, likely)
    tolerance = questions.slack + questions.error * head.vocabulary.norms[likely].max()
    above, below = questions.level + tolerance, questions.level - tolerance
    top_open = torch.ones_like(questions.negated_source)
    bottom_open = top_open.clone()
    for s in _slices(len(questions), max(1, tile // len(likely))):
        logits = left[s] @ right.T
        if k == 1:
            top_open[s] = logits.amax(1) <= above[s]
            bottom_open[s] = logits.amin(1) >= below[s]
        else:
            top_open[s] = _count_true(logits > above[s, None]) < k
            bottom_open[s] = _count_true(logits < below[s, None]) < k
    return top_open, bottom_open


@dataclass(frozen=True)
class _Unbeaten:
    """Questions that no block has refuted, and the comparisons that float32 could not make."""

    questions: _Questions
    above: Int[Tensor, "m"]  # tokens surely larger than the target, fewer than k
    near_row: Int[Tensor, "n"]  # a row of `questions` ...
    near_token: Int[Tensor, "n"]  # ... and a token within the rounding bound of its target


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
    head: _Head,
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
    everything = torch.arange(head.vocabulary.size, device=device)
    for tokens in blocks:
        if len(questions) == 0:
            break
        left, right = head.operands(questions.source, tokens)
        tolerance = questions.slack + questions.error * head.vocabulary.norms[tokens].max()
        for s in _slices(len(questions), max(1, tile // len(right))):
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
    count.index_add_(0, i, _count_true(surely))
    return count, i[entry], stretch[entry] * SUB_BLOCK + offset


def _settle(
    head: _Head, x: Float[Tensor, "n_pairs d_model"], unbeaten: _Unbeaten, k: int
) -> tuple[_Questions, int]:
    """Answer what float32 left open; returns the questions upheld and how many were settled."""
    questions, above = unbeaten.questions, unbeaten.above
    n_near = torch.bincount(unbeaten.near_row, minlength=len(questions))
    upheld = above + n_near < k
    order = unbeaten.near_row.argsort(stable=True)
    near = unbeaten.near_token[order].split(n_near.tolist())
    doubtful = (~upheld).nonzero()[:, 0].tolist()
    for row in doubtful:
        needed = k - int(above[row])
        larger = head.larger_in_float64(
            x[questions.pair[row]],
            int(questions.target[row]),
            near[row],
            bool(questions.negated_source[row]),
            needed,
        )
        upheld[row] = larger < needed
    return questions.keep(upheld), len(doubtful)


def _slices(n: int, block: int) -> Iterator[slice]:
    for start in range(0, n, block):
        yield slice(start, min(start + block, n))


def _gamma(n: int, dtype: torch.dtype) -> float:
    """``γ_n``, the bound on the relative rounding error of a sum of n products."""
    unit = torch.finfo(dtype).eps / 2
    return n * unit / (1 - n * unit)


def _count_true(mask: Bool[Tensor, "m n"]) -> Int[Tensor, "m"]:
    """Trues in each row; where the row length allows it, eight bytes are added at a time."""
    n = mask.shape[1]
    if n % 8 or n > 8 * 255 or not mask.is_contiguous():
        return mask.sum(1)
    return mask.view(torch.int64).sum(1, keepdim=True).view(torch.uint8).sum(1)
