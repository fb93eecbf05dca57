"""Static scores of every family against formulas on Hugging Face's parameters."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from analysis.embeddings import source_vectors
from analysis.models.families import FAMILIES
from analysis.static.scores import score_heads
from analysis.weights import output_weights, unembedding_matrix, value_weights
from tests import checkpoints, planted
from tests.families import plain
from tests.families.tiny import N_HEADS, N_LAYERS, TINY, Case

TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)
TOKENS = planted.name_tokens(TOKENIZER)
COPYING, SUPPRESSING = ((0, 1), (1, 2)), ((0, 3), (2, 0))


def test_every_family_of_the_table_is_tested_and_every_tested_one_is_in_the_table() -> None:
    tested = {tiny.architecture for tiny in TINY.values()}
    assert tested == {family.architecture for family in FAMILIES}
    assert len(tested) >= 25


@torch.no_grad()
def test_weights_are_the_published_parameters(case: Case) -> None:
    model, bridge = case.plain, case.bridge
    for layer in range(N_LAYERS):
        found = value_weights(bridge, layer)
        assert torch.equal(found, plain.value_matrices(model, layer))
        expected = plain.output_matrices(model, layer).double() * plain.attention_gain(model, layer)
        torch.testing.assert_close(
            output_weights(bridge, layer).double(), expected, rtol=1e-12, atol=0
        )
    found = unembedding_matrix(bridge).double()
    torch.testing.assert_close(found, plain.unembedding(model), rtol=1e-6, atol=1e-7)


@torch.no_grad()
def test_source_vectors_are_those_of_the_formulas(case: Case) -> None:
    name, model, bridge = case.name, case.plain, case.bridge
    first = plain.embedded(model, TOKENS)
    found = source_vectors(bridge, TOKENS, layer=0)
    torch.testing.assert_close(found, first, rtol=1e-7, atol=1e-9)
    later = plain.first_mlp(model, first)
    found = source_vectors(bridge, TOKENS, layer=1)
    rounded = "experts" in str(TINY[name].settings) or name == "bloom"  # float32 routers; √(2/π)
    tolerance = 1e-5 if rounded else 1e-7
    torch.testing.assert_close(found, later, rtol=tolerance, atol=tolerance)
    assert not torch.allclose(found, first, rtol=0.1)
    without = source_vectors(bridge, TOKENS, layer=1, first_mlp=False)
    assert torch.equal(without[:3], source_vectors(bridge, TOKENS[:3], layer=0))


@pytest.mark.parametrize("first_mlp", [True, False])
def test_scores_are_those_of_every_logit(case: Case, first_mlp: bool) -> None:
    logits = plain.logits_of_heads(case.plain, TOKENS, first_mlp_too=first_mlp)
    own = logits[..., torch.arange(len(TOKENS)), TOKENS][..., None]
    larger, smaller = ((logits > own).sum(-1).numpy(), (logits < own).sum(-1).numpy())
    for k in (1, 10):
        found = score_heads(case.bridge, planted.NAMES, k=k, first_mlp=first_mlp)
        assert np.array_equal(found.in_top_k, larger < k), k
        assert np.array_equal(found.in_bottom_k, smaller < k), k


@pytest.mark.slow
def test_a_planted_copying_head_is_found_and_a_suppressing_one(case: Case) -> None:
    model = copy.deepcopy(case.plain)
    one_group = plain.value_matrices(model, 0).shape[0] == 1
    suppressing = SUPPRESSING
    plain.plant(model, TOKENS, COPYING, suppressing)
    found = score_heads(planted.boot(model, TOKENIZER), planted.NAMES)
    for layer, head in COPYING:
        assert found.copying_score[layer, head] == 1
    for layer, head in suppressing:
        assert found.suppression_score[layer, head] == 1
    others = [
        (layer, head)
        for layer in range(N_LAYERS)
        for head in range(N_HEADS)
        if (layer, head) not in COPYING
    ]
    assert one_group or max(found.copying_score[at] for at in others) < 0.8
