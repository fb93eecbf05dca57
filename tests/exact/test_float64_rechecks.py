"""What float32 cannot tell is settled in float64, in an order that the numbers alone decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from analysis.exact import open_pairs, prefilter
from analysis.exact.head_logits import OV
from analysis.exact.ranks import rank_targets
from analysis.exact.vocabulary import Vocabulary
from tests.exact.layers import Layer, answers, random_layer


def near_ties() -> Layer:
    """Each target has a rival whose logit differs by far less than a float32 rounding error.

    And a twin, which ties exactly and so does not count.
    """
    layer = random_layer(4, d_vocab=400, n=100)
    W_U = layer.W_U.clone()
    distinct = torch.arange(100)
    x = W_U.T[distinct].double()
    W_U[:, 100:200] = W_U[:, :100] * (1 + 2.0**-23 * torch.where(distinct % 2 == 0, 1.0, -1.0))
    W_U[:, 200:300] = W_U[:, :100]
    return Layer(x, distinct, layer.W_V, layer.W_O, W_U)


def test_near_ties_that_float32_cannot_see_are_settled_in_float64() -> None:
    near = near_ties()
    decided = near.decide(1)
    top, bottom = answers(decided)
    # Brute force's own products may put twins a rounding error apart: compare without them.
    alone = torch.cat([near.W_U[:, :200], near.W_U[:, 300:]], dim=1)
    larger, smaller = replace(near, W_U=alone).ranks()
    assert torch.equal(top, larger < 1)
    assert torch.equal(bottom, smaller < 1)
    assert sum(d.n_float64_rechecks for d in decided) > 30
    assert 5 < int(top[0].sum()) < 50, "some copied tokens have a larger rival, some a smaller one"


def vanishing() -> Layer:
    """What a head writes of its sources is float64's rounding alone."""
    layer = random_layer(6, d_vocab=500, n=40)
    null = torch.linalg.svd(layer.W_V[0].double().T).Vh[-8:]
    return replace(layer, x=null.repeat(5, 1))


@pytest.mark.slow
@pytest.mark.parametrize("make", [near_ties, vanishing])
def test_what_float64_settles_hangs_on_nothing_but_the_numbers(
    make: Callable[[], Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on threads, blocks, other pairs, their order, or how weights lie in memory."""
    layer = make()
    decided = layer.decide(2)
    assert sum(d.n_float64_rechecks for d in decided) > 30
    expected = answers(decided)
    n = len(layer.targets)

    def check(found: tuple[Tensor, Tensor], pairs: Tensor) -> None:
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs[:, pairs])

    for pairs in (torch.arange(n).flip(0), torch.arange(7), torch.tensor([n - 1])):
        part = replace(layer, x=layer.x[pairs], targets=layer.targets[pairs])
        check(answers(part.decide(2)), pairs)
    turned = replace(layer, W_V=layer.W_V.mT.contiguous().mT, W_O=layer.W_O.mT.contiguous().mT)
    check(answers(turned.decide(2)), torch.arange(n))
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        check(answers(layer.decide(2)), torch.arange(n))
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(prefilter, "N_FIRST", 3)
    monkeypatch.setattr(prefilter, "N_EXTREME", 6)
    monkeypatch.setattr(open_pairs, "LARGEST_BLOCK", 128)
    check(answers(layer.decide(2, tile=900)), torch.arange(n))


def test_what_cancels_to_nothing_in_one_order_is_not_silent() -> None:
    """2⁶⁰ + 1 - 2⁶⁰ is 0 or 1 by the order of summation; whatever it is, it is so for all rows."""
    for d_model in (69, 253, 271):
        W_V = torch.zeros(1, d_model, 1)
        W_V[0, 0], W_V[0, 1], W_V[0, -1] = 2.0**60, 1.0, -(2.0**60)
        generator = torch.Generator().manual_seed(0)
        W_O = torch.randn(1, 1, d_model, generator=generator)
        W_U = torch.randn(d_model, 200, generator=generator)
        found = set()
        for n in (1, 2, 64):
            x, targets = torch.ones(n, d_model).double(), torch.full((n,), 5)
            (decided,) = Layer(x, targets, W_V, W_O, W_U).decide(1)
            ranks = rank_targets(x, targets, OV(W_V[0], W_O[0]), Vocabulary(W_U))
            found |= set(zip(decided.in_top_k.tolist(), decided.in_bottom_k.tolist(), strict=True))
            assert torch.equal(ranks.larger < 1, decided.in_top_k)
        assert len(found) == 1


def test_a_head_that_writes_nothing_has_no_target_in_either_k() -> None:
    layer = random_layer(5)
    W_O = layer.W_O.clone()
    W_O[2] = 0
    decided = Layer(layer.x, layer.targets, layer.W_V, W_O, layer.W_U).decide(1)
    assert not decided[2].in_top_k.any() and not decided[2].in_bottom_k.any()
    assert decided[2].n_zero_output == len(layer.targets)
    assert sum(d.n_zero_output for d in decided) == len(layer.targets)


def test_a_source_that_all_but_vanishes_in_the_head_is_settled_in_float64() -> None:
    """What is left of the source is float64's rounding, of which float32 can say nothing."""
    layer = random_layer(6, n=6)
    null = torch.linalg.svd(layer.W_V[0].double().T).Vh[-1]
    vanishing = Layer(null.repeat(6, 1), layer.targets, layer.W_V, layer.W_O, layer.W_U)
    decided = vanishing.decide(3)[0]
    assert decided.n_float64_rechecks == 2 * 6
    assert decided.in_top_k.shape == (6,)
