"""Models and lists of pairs to time, and how they are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from baselines import FactoredLoop, plain_counts

from analysis import load_model, load_names
from analysis.embeddings import effective_embedding
from analysis.exact.batches import N_REFERENCE
from analysis.exact.head_logits import OV, Sources
from analysis.exact.prefilter import Reference
from analysis.exact.topk import Decisions, decide_heads, layer_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.weights import embedding_matrix, output_weights, unembedding_matrix, value_weights

Counts = list[tuple[int, int]]
KEEP_BYTES = 1 << 28
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One model and one list of pairs.

    ``vocabulary`` is kept from call to call, as ``score_heads`` keeps it for a model.
    """

    model: str
    pairs: str
    x_first: torch.Tensor
    x_later: torch.Tensor
    targets: torch.Tensor
    layers: Sequence[Sequence[OV]]
    W_U: torch.Tensor
    vocabulary: Vocabulary
    references: tuple[Reference, Reference]

    @property
    def n_heads(self) -> int:
        """Heads in all layers."""
        return sum(len(layer) for layer in self.layers)

    def baseline(self, name: str, heads: Sequence[tuple[int, int]], k: int) -> Counts:
        """A baseline's counts for some heads."""
        W_O = self.layers[0][0].W_O
        loop = FactoredLoop(len(self.targets), W_O.shape[0], self.W_U.shape[1])
        count = {"plain": plain_counts, "factored": loop.counts}[name]
        counts = []
        for layer, head in heads:
            ov = self.layers[layer][head]
            x = (self.x_first if layer == 0 else self.x_later).float()
            counts.append(count(x, self.targets, ov.W_V, ov.W_O, self.W_U, k))
        return counts

    def exact(self, k: int, ranks: bool = False) -> tuple[Counts, float]:
        """The scorer's counts for all heads, and its share of the dense product."""
        later = [ov for layer in self.layers[1:] for ov in layer]
        decided: list[Decisions] = []
        for x, heads in ((self.x_first, self.layers[0]), (self.x_later, later)):
            reference = self.references[x is not self.x_first]
            decided += decide_heads(
                x, self.targets, heads, self.vocabulary, k, ranks=ranks, reference=reference
            )
        work = sum(d.multiply_adds for d in decided)
        dense = self.n_heads * len(self.targets) * self.W_U.numel()
        return [(int(d.in_top_k.sum()), int(d.in_bottom_k.sum())) for d in decided], work / dense


def seconds(do: Callable[[], T]) -> tuple[float, T]:
    """How long it took, and what it gave."""
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def reference(key: str, x: torch.Tensor) -> Reference:
    """The average of some source vectors that do not depend on the pairs."""
    return Reference(key, Sources(x).average.float())


def smollm2(which: str = "names", n: int | None = None) -> Case:
    """The packaged model with its names (the first n of them), or with every token."""
    model = load_model("smollm2-135m")
    names = load_names(model)
    d_vocab = embedding_matrix(model).shape[0]
    tokens = torch.tensor(names.source_tokens[:n]) if which == "names" else torch.arange(d_vocab)
    layers = [
        layer_heads(value_weights(model, i), output_weights(model, i), i)
        for i in range(model.cfg.n_layers)
    ]
    W_U = unembedding_matrix(model)
    some = torch.arange(0, d_vocab, d_vocab // N_REFERENCE)
    return Case(
        model="SmolLM2-135M",
        pairs=f"{'names' if which == 'names' else 'every token'} ({len(tokens):,})",
        x_first=effective_embedding(model, tokens, "embedding"),
        x_later=effective_embedding(model, tokens, "mlp"),
        targets=tokens,
        layers=layers,
        W_U=W_U,
        vocabulary=Vocabulary(W_U, KEEP_BYTES),
        references=(
            reference("first", effective_embedding(model, some, "embedding")),
            reference("later", effective_embedding(model, some, "mlp")),
        ),
    )


def random_case(
    n_layers: int = 12,
    n_heads: int = 12,
    d_model: int = 768,
    n_pairs: int = 1000,
    seed: int = 0,
    d_head: int = 64,
) -> Case:
    """Random weights, by default of GPT-2 small's shape; 50,257 tokens."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.02

    W_E = normal(50_257, d_model)
    tokens = torch.randperm(50_257, generator=generator)[:n_pairs]
    x = W_E[tokens].double()
    layers = [
        layer_heads(normal(n_heads, d_model, d_head), normal(n_heads, d_head, d_model), i)
        for i in range(n_layers)
    ]
    return Case(
        "GPT-2 small's shape, random weights",
        f"{n_pairs:,} random tokens",
        x,
        x,
        tokens,
        layers,
        W_E.T,
        Vocabulary(W_E.T, KEEP_BYTES),
        (reference("all", W_E[::125].double()),) * 2,
    )


def spread(case: Case, n: int) -> list[tuple[int, int]]:
    """A few heads, evenly over the model."""
    rows = [(i, h) for i, layer in enumerate(case.layers) for h in range(len(layer))]
    return list(rows[len(rows) // (2 * n) :: max(1, len(rows) // n)][:n])
