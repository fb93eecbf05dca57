"""Holding open questions against the vocabulary, block by block, and dropping the refuted ones.

A question asks whether at least k tokens have a strictly larger logit than its target, and is
*refuted*, its target being out of the top k, as soon as k are seen. Float32 logits count only where
they are farther from the target's than the rounding bound of ``head_logits``; the tokens within the
bound are compared with the target in float64, in a summation order that is always the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.exact.head_logits import Head, ResidualStream, count_true, slices

SWEEP_BLOCK = 8192
"""Tokens in the largest blocks of the whole vocabulary's sweep; the first are smaller."""
SUB_BLOCK = 128
"""Tokens that are passed over together when the largest of their logits is too small."""
NEAR_HELD = 1 << 20
"""Comparisons left to float64 that are held before they are made."""

Block = slice | Int[Tensor, "n"]


@dataclass(frozen=True)
class OpenPairs:
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

    def keep(self, which: Bool[Tensor, "m"] | slice) -> OpenPairs:
        """Some of the questions."""
        return OpenPairs(**{name: value[which] for name, value in vars(self).items()})

    def negated(self) -> OpenPairs:
        """The questions about the other end of the logits."""
        return replace(
            self,
            source=-self.source,
            level=-self.level,
            negated_source=~self.negated_source,
        )

    @classmethod
    def joined(cls, parts: Sequence[OpenPairs]) -> OpenPairs:
        """All questions of the parts."""
        return cls(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        )


@dataclass(frozen=True)
class ConfirmedPairs:
    """OpenPairs that no token of the vocabulary refutes, and what float64 had to say."""

    head: Int[Tensor, "m"]
    pair: Int[Tensor, "m"]
    negated_source: Bool[Tensor, "m"]
    closes: Int[Tensor, "n_heads"]  # questions of each head that float64 settled


def refute(
    head: Head, questions: OpenPairs, likely: Int[Tensor, "n"], k: int, tile: int
) -> tuple[Bool[Tensor, "m"], Bool[Tensor, "m"]]:
    """Which questions, top and bottom, a first block of competitors leaves open."""
    likely = likely.unique()
    tolerance = questions.slack + questions.error * head.vocabulary.norms[likely].max()
    above, below = questions.level + tolerance, questions.level - tolerance
    top_open = torch.ones_like(questions.negated_source)
    bottom_open = top_open.clone()
    left, right = head.operands(questions.source, likely)
    for s in slices(len(questions), max(1, tile // len(likely))):
        logits = left[s] @ right.T
        if k == 1:
            top_open[s] = logits.amax(1) <= above[s]
            bottom_open[s] = logits.amin(1) >= below[s]
        else:
            top_open[s] = count_true(logits > above[s, None]) < k
            bottom_open[s] = count_true(logits < below[s, None]) < k
    return top_open, bottom_open


def still_open(
    space: Head | ResidualStream,
    questions: OpenPairs,
    blocks: Iterable[Block],
    k: int,
    tile: int,
) -> OpenPairs:
    """What some blocks of distinct tokens leave open; no token within the bound counts."""
    for tokens in blocks:
        if len(questions) == 0:
            break
        above = torch.zeros_like(questions.pair)
        for s, logits, tolerance in _tiles(space, questions, tokens, tile):
            above[s] = _compare(logits, questions.level[s], tolerance)[0]
            del logits  # before the next are made
        questions = questions.keep(above < k)
    return questions


def check_full_vocabulary(
    space: Head | ResidualStream,
    heads: Sequence[Head],
    questions: OpenPairs,
    k: int,
    tile: int,
) -> ConfirmedPairs:
    """Decide the questions: hold them against every token of the vocabulary.

    Args:
        space: in which their sources are.
        heads: of the batch, which their ``head`` counts.
        questions: open ones.
        k: how many larger logits refute a question.
        tile: logits held at once.
    """
    sweep = _Sweep(heads, questions, k)
    everything = torch.arange(space.vocabulary.size, device=questions.pair.device)
    for tokens in growing_blocks(space.vocabulary.size):
        if len(sweep.questions) == 0:
            break
        for s, logits, tolerance in _tiles(space, sweep.questions, tokens, tile):
            sure, row, near = _compare(logits, sweep.questions.level[s], tolerance)
            del logits  # before the next are made
            sweep.count(s, sure, row, everything[tokens][near])
        sweep.drop_refuted()
    return sweep.upheld()


class _Sweep:
    """OpenPairs on their way through the vocabulary, with what is known of each so far."""

    def __init__(self, heads: Sequence[Head], questions: OpenPairs, k: int) -> None:
        self.heads, self.questions, self.k = heads, questions, k
        self.larger = torch.zeros_like(questions.pair)  # tokens surely larger than the target
        self.settled = torch.zeros_like(questions.negated_source)
        self.closes = torch.zeros(len(heads), dtype=torch.int64)
        # Comparisons that float32 could not make: a row of `questions`, and a token.
        self.near: list[tuple[Int[Tensor, "n"], Int[Tensor, "n"]]] = []
        self.n_near = 0

    def count(
        self, s: slice, larger: Int[Tensor, "m"], row: Int[Tensor, "n"], token: Int[Tensor, "n"]
    ) -> None:
        """Count a tile's comparisons for the questions ``s``; ``row`` counts from its start."""
        self.larger[s] += larger
        row = row + s.start
        other = token != self.questions.target[row]
        self.near.append((row[other], token[other]))
        self.n_near += int(other.sum())
        if self.n_near > NEAR_HELD:
            self._settle(torch.ones_like(self.settled))

    def drop_refuted(self) -> None:
        """Forget the questions that k larger tokens have refuted."""
        keep = self.larger < self.k
        if bool(keep.all()):
            return
        place = keep.cumsum(0) - 1
        row, token = self._near()
        self.near = [(place[row[keep[row]]], token[keep[row]])]
        self.n_near = len(self.near[0][0])
        self.questions = self.questions.keep(keep)
        self.larger, self.settled = self.larger[keep], self.settled[keep]

    def upheld(self) -> ConfirmedPairs:
        """What is left when every token has been met."""
        row, _ = self._near()
        # Whatever the tokens near its target are, a question with few enough of them is upheld.
        most = self.larger + torch.bincount(row, minlength=len(self.questions))
        self._settle(most >= self.k)
        kept = self.questions.keep(self.larger < self.k)
        return ConfirmedPairs(kept.head, kept.pair, kept.negated_source, self.closes)

    def _near(self) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
        nothing = self.questions.pair[:0]
        rows, tokens = zip(*[(nothing, nothing), *self.near], strict=True)
        return torch.cat(rows), torch.cat(tokens)

    def _settle(self, which: Bool[Tensor, "m"]) -> None:
        """Make the held comparisons of some questions in float64, and let all others go."""
        row, token = self._near()
        which = which & (self.larger < self.k) & (torch.bincount(row, minlength=len(which)) > 0)
        order = row.argsort(stable=True)
        tokens = token[order].split(torch.bincount(row, minlength=len(which)).tolist())
        for i in which.nonzero()[:, 0].tolist():
            head, target = self.heads[int(self.questions.head[i])], int(self.questions.target[i])
            sign = -1 if self.questions.negated_source[i] else 1
            for leads in head.logit_gaps_float64(int(self.questions.pair[i]), target, tokens[i]):
                self.larger[i] += int((sign * leads > 0).sum())
                if self.larger[i] >= self.k:
                    break
        fresh = self.questions.head[which & ~self.settled].cpu()
        self.closes += torch.bincount(fresh, minlength=len(self.heads))
        self.settled |= which
        self.near, self.n_near = [], 0


def growing_blocks(n: int) -> Iterator[slice]:
    """``range(n)`` in pieces that double up to ``SWEEP_BLOCK``: the first drop most questions."""
    start, size = 0, SUB_BLOCK * 4
    while start < n:
        yield slice(start, min(start + size, n))
        start, size = start + size, min(2 * size, SWEEP_BLOCK)


def _tiles(
    space: Head | ResidualStream, questions: OpenPairs, tokens: Block, tile: int
) -> Iterator[tuple[slice, Float[Tensor, "m n"], Float[Tensor, "m"]]]:
    """Logits of a block for some questions at a time, with the rounding bound of each row."""
    left, right = space.operands(questions.source, tokens)
    longest = space.vocabulary.norms[tokens].max()
    for s in slices(len(questions), max(1, tile // len(right))):
        yield s, left[s] @ right.T, questions.slack[s] + questions.error[s] * longest


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
    near = (looked_at >= (level - tolerance)[i, None]) & ~surely & (looked_at > -torch.inf)
    entry, offset = near.nonzero(as_tuple=True)
    count = torch.zeros(m, dtype=torch.int64, device=logits.device)
    count.index_add_(0, i, count_true(surely))
    return count, i[entry], stretch[entry] * SUB_BLOCK + offset
