"""Layers of weights with sources and targets, and what brute force answers for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from analysis.exact.arithmetic import full_float32
from analysis.exact.topk import Decisions, decide_heads, layer_heads
from analysis.exact.vocabulary import Vocabulary


@dataclass(frozen=True)
class Layer:
    """A layer's weights, sources and targets."""

    x: Tensor
    targets: Tensor
    W_V: Tensor
    W_O: Tensor
    W_U: Tensor

    def decide(self, k: int, **options: int) -> list[Decisions]:
        with full_float32():
            vocabulary = Vocabulary(self.W_U)
            return list(
                decide_heads(
                    self.x, self.targets, layer_heads(self.W_V, self.W_O), vocabulary, k, **options
                )
            )

    def ranks(self) -> tuple[Tensor, Tensor]:
        """Strictly larger and strictly smaller logits of every (head, pair), by brute force."""
        group = len(self.W_O) // len(self.W_V)
        larger, smaller = [], []
        d_vocab = self.W_U.shape[1]
        for h, W_O in enumerate(self.W_O.double()):
            written = self.x @ self.W_V[h // group].double() @ W_O
            logits = written @ self.W_U.double()
            own = logits.gather(1, self.targets[:, None])
            some = written.any(1)  # where a head writes nothing, its target is in no top k
            larger.append((logits > own).sum(1).where(some, d_vocab))
            smaller.append((logits < own).sum(1).where(some, d_vocab))
        return torch.stack(larger), torch.stack(smaller)


def answers(decided: list[Decisions]) -> tuple[Tensor, Tensor]:
    return torch.stack([d.in_top_k for d in decided]), torch.stack([d.in_bottom_k for d in decided])


def ranks_of(decided: list[Decisions]) -> tuple[Tensor, Tensor]:
    both = [(d.ranks_top, d.ranks_bottom) for d in decided]
    assert all(top is not None and bottom is not None for top, bottom in both)
    top, bottom = (
        torch.stack([one for one in side if one is not None]) for side in zip(*both, strict=True)
    )
    return top, bottom


@st.composite
def integer_layers(draw: st.DrawFn) -> Layer:
    """Small whole numbers, so that every product is exact, ties abound and rows may be zero."""
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.sampled_from([0, 1, 2, 4]))
    d_model, d_head = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    n_kv, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    d_vocab, n = draw(st.integers(1, 300)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-size, size + 1, shape, generator=generator).float()

    return Layer(
        x=whole(n, d_model).double(),
        targets=torch.randint(0, d_vocab, (n,), generator=generator),
        W_V=whole(n_kv, d_model, d_head),
        W_O=whole(n_kv * group, d_head, d_model),
        W_U=whole(d_model, d_vocab),
    )


def random_layer(
    seed: int, d_vocab: int = 3000, n: int = 200, dtype: torch.dtype = torch.float32
) -> Layer:
    """Two groups of two heads; head 0 copies, head 1 suppresses, heads 2 and 3 do what they do."""
    generator = torch.Generator().manual_seed(seed)
    d_model, d_head = 48, 8

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    W_U = normal(d_model, d_vocab)
    W_V = normal(2, d_model, d_head)
    W_O = normal(4, d_head, d_model)
    W_O[0], W_O[1] = W_V[0].T, -W_V[0].T
    targets = torch.randint(0, d_vocab, (n,), generator=generator)
    targets[: n // 4] = targets[0]  # repeated targets, of different sources
    x = W_U.T[targets] + normal(n, d_model)
    return Layer(x.double(), targets, W_V.to(dtype), W_O.to(dtype), W_U.to(dtype))
