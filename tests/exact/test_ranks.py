"""Exact ranks among all logits are those of brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.exact.arithmetic import TILE
from analysis.exact.head_logits import OV
from analysis.exact.ranks import rank_targets
from analysis.exact.vocabulary import Vocabulary
from tests.exact.layers import Layer, integer_layers, random_layer


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(layer=integer_layers(), tile=st.sampled_from([1, 4096, TILE]))
def test_ranks_of_whole_numbers_are_those_of_brute_force(layer: Layer, tile: int) -> None:
    larger, smaller = layer.ranks()
    group = len(layer.W_O) // len(layer.W_V)
    vocabulary = Vocabulary(layer.W_U)
    for h, W_O in enumerate(layer.W_O):
        W_V = layer.W_V[h // group]
        ranks = rank_targets(layer.x, layer.targets, OV(W_V, W_O), vocabulary, tile=tile)
        assert torch.equal(ranks.larger, larger[h])
        assert torch.equal(ranks.smaller, smaller[h])


def test_a_head_that_writes_nothing_ranks_no_target() -> None:
    layer = random_layer(5)
    ov = OV(layer.W_V[0], torch.zeros_like(layer.W_O[0]))
    ranks = rank_targets(layer.x, layer.targets, ov, Vocabulary(layer.W_U))
    assert (ranks.larger == layer.W_U.shape[1]).all() and torch.equal(ranks.larger, ranks.smaller)


def test_ranks_of_random_weights_are_those_of_brute_force() -> None:
    layer = random_layer(8)
    larger, smaller = layer.ranks()
    vocabulary = Vocabulary(layer.W_U)
    for h, W_O in enumerate(layer.W_O):
        ranks = rank_targets(layer.x, layer.targets, OV(layer.W_V[h // 2], W_O), vocabulary)
        assert torch.equal(ranks.larger, larger[h])
        assert torch.equal(ranks.smaller, smaller[h])
