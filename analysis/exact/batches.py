"""Pairs of tokens and the heads asked about them, in parts that fit into memory.

What ``score_heads``, ``score_vocabulary`` and the comparisons ask is one thing: a list of (source,
target) tokens, some heads, an effective embedding. Here it is cut into parts whose source vectors
fit into memory, and each part is handed to the exact scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.architecture.readable import ReadableModel
from analysis.embeddings import effective_embedding, embedding_at_layer
from analysis.exact.arithmetic import MEMORY, in_full_float32, slices
from analysis.exact.head_logits import OV, Sources
from analysis.exact.prefilter import Reference
from analysis.exact.ranks import Ranks, rank_targets
from analysis.exact.topk import Decisions, decide_heads, layer_heads, pairs_at_once
from analysis.exact.vocabulary import Vocabulary
from analysis.heads import HeadPair
from analysis.progress import progress_bar
from analysis.weights import (
    embedding_matrix,
    folded_value_weights,
    output_weights,
    value_weights,
)

T = TypeVar("T")

N_REFERENCE = 100
"""Tokens, about, whose average source names the tokens that a head writes most and least."""


@dataclass(frozen=True)
class OVBatch:
    """Pairs of tokens, and the heads that are asked about them.

    Attributes:
        model: readable and finite (``admit``, ``check_finite``).
        sources: int64, a token for each pair.
        targets: int64, likewise.
        heads: (layer, head) in ascending order.
        embedding: source vector of heads after layer 0, as ``effective_embedding`` names
            it; ``embedding_at_layer`` says what heads of layer 0 read.
        vocabulary: the unembedding.
        folded: whether W_V has its norm folded in.
    """

    model: ReadableModel
    sources: Int[Tensor, "n_pairs"]
    targets: Int[Tensor, "n_pairs"]
    heads: tuple[HeadPair, ...]
    embedding: str
    vocabulary: Vocabulary
    folded: bool = False

    def decisions(
        self, k: int, what: str, *, ranks: bool = False
    ) -> Iterator[tuple[int, slice, Decisions]]:
        """Decide every pair for every head; a progress bar appears after two seconds.

        Yields:
            Place in ``heads``, some of the pairs, and the answers for these; with ``ranks``, exact
            ranks below k.
        """
        reference = cache(self._reference)

        def decide(x: Tensor, targets: Tensor, heads: list[OV], place: int) -> Iterator[Decisions]:
            return decide_heads(
                x, targets, heads, self.vocabulary, k, ranks=ranks, reference=reference(place)
            )

        return in_full_float32(self._answers(what, decide))

    def ranks(self, what: str) -> Iterator[tuple[int, slice, Ranks]]:
        """Rank every pair's target for every head, with a progress bar like ``decisions``.

        Yields:
            Place in ``heads``, some of the pairs, and their targets' ranks.
        """

        def rank(x: Tensor, targets: Tensor, heads: list[OV], _: int) -> Iterator[Ranks]:
            vocabulary = self.vocabulary
            return vocabulary.map(lambda ov: rank_targets(x, targets, ov, vocabulary), heads)

        return in_full_float32(self._answers(what, rank))

    def _answers(
        self, what: str, ask: Callable[[Tensor, Tensor, list[OV], int], Iterator[T]]
    ) -> Iterator[tuple[int, slice, T]]:
        """What ``ask`` gives for source vectors, targets, heads and a place that reads them."""
        with progress_bar(len(self.heads) * len(self._parts), what, "head") as bar:
            for places, part in self._steps():
                x = self._source_vectors(places[0], part)
                for some in slices(len(places), self._heads_at_once):
                    answers = ask(x, self.targets[part], self._weights(places[some]), places[0])
                    for place, answer in zip(places[some], answers, strict=True):
                        yield place, part, answer
                        bar.update()
                del x  # before the next is made: it is the largest thing in memory

    @property
    def _parts(self) -> list[slice]:
        W_V = value_weights(self.model, 0)
        return list(slices(len(self.sources), pairs_at_once(*W_V.shape[1:])))

    @property
    def _heads_at_once(self) -> int:
        """Heads whose weights are read together, an eighth of ``MEMORY`` at most."""
        V, O = value_weights(self.model, 0), output_weights(self.model, 0)  # noqa: E741
        each = V[0].numel() * V.element_size() + O[0].numel() * O.element_size()
        return max(1, MEMORY // 8 // each)

    def _steps(self) -> Iterator[tuple[range, slice]]:
        """Places in ``heads`` that read the same source vectors, with some of the pairs."""
        n_first = sum(layer == 0 for layer, _ in self.heads)
        for places in (range(n_first), range(n_first, len(self.heads))):
            for part in self._parts if len(places) else []:
                yield places, part

    def _source_vectors(self, place: int, part: slice) -> Float[Tensor, "n d_model"]:
        kind = embedding_at_layer(self.embedding, self.heads[place][0])
        return effective_embedding(self.model, self.sources[part], kind, folded=self.folded)

    def _reference(self, place: int) -> Reference:
        """The average source vector of tokens spread over the whole vocabulary."""
        kind = embedding_at_layer(self.embedding, self.heads[place][0])
        n_tokens = min(self.vocabulary.size, embedding_matrix(self.model).shape[0])

        def compute() -> tuple[Tensor]:
            tokens = torch.arange(0, n_tokens, max(1, n_tokens // N_REFERENCE))
            x = effective_embedding(self.model, tokens, kind, folded=self.folded)
            return (Sources(x).average.float(),)

        key = ("average", kind, self.folded)
        (average,) = self.vocabulary.kept(key, compute)
        return Reference(key, average)

    def _weights(self, places: Sequence[int]) -> list[OV]:
        value = folded_value_weights if self.folded else value_weights
        layers = {
            layer: layer_heads(value(self.model, layer), output_weights(self.model, layer), layer)
            for layer in sorted({self.heads[place][0] for place in places})
        }
        return [layers[layer][head] for layer, head in (self.heads[place] for place in places)]
