"""Effective embeddings against plain Hugging Face modules of three families."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.embeddings import (
    EMBEDDINGS,
    check_embedding,
    effective_embedding,
    embedding_at_layer,
)
from analysis.errors import ParameterError, WeightsError
from analysis.exact.batches import OVBatch
from analysis.models.open_checkpoint import open_checkpoint
from analysis.static.eigenvalues import eigenvalue_scores
from analysis.static.scores import score_heads
from analysis.static.vocabulary import score_vocabulary
from analysis.weights import unembedding_matrix
from tests import checkpoints, planted
from tests.families.tiny import tiny_model

TOKENIZER = checkpoints.make_tokenizer()
D_VOCAB = len(TOKENIZER)


def without_attention_biases(model: Any, *, norm_bias: bool) -> Any:
    """A Hugging Face model whose first attention has no b_V and b_O (and no norm bias)."""
    block = planted.layers(model)[0]
    parts = {"gpt2": ("attn", "c_proj"), "gpt_neox": ("attention", "dense")}
    if model.config.model_type in parts:
        attention, output = parts[model.config.model_type]
        for name in ("c_attn", "query_key_value", output):
            if (layer := getattr(getattr(block, attention), name, None)) is not None:
                layer.bias.data.zero_()
        if not norm_bias:
            getattr(block, "ln_1", getattr(block, "input_layernorm", None)).bias.data.zero_()
    return model


@torch.no_grad()
def plain_vectors(kind: str, family: str, folded: bool) -> torch.Tensor:
    """Every token's vector from the modules of transformers, in float64."""
    model = planted.MAKERS[family](D_VOCAB).double()
    E = model.get_input_embeddings().weight.detach()
    block = planted.layers(model)[0]
    norm = getattr(block, "ln_2", getattr(block, "post_attention_layernorm", None))
    if kind == "embedding":
        return E
    if kind in ("mlp", "embedding_plus_mlp"):
        written = block.mlp(norm(E))  # type: ignore[misc]
        return written if kind == "mlp" else E + written
    model = without_attention_biases(model, norm_bias=not folded)
    if family == "gpt2":
        model.transformer.wpe.weight.zero_()
    ids = torch.arange(D_VOCAB)[:, None]  # sequences of one token, which attends to itself
    after = model(ids, output_hidden_states=True).hidden_states[1][:, 0]
    return after if kind == "block" else after - E


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("family", planted.MAKERS)
@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_each_kind_is_what_plain_modules_compute(kind: str, family: str, folded: bool) -> None:
    model = planted.boot(planted.MAKERS[family](D_VOCAB), TOKENIZER)
    ours = effective_embedding(model, torch.arange(D_VOCAB), kind, folded=folded)
    expected = plain_vectors(kind, family, folded)
    assert ours.dtype == torch.float64
    # transformers' RMSNorm computes in float32, whatever the weights
    tolerance = 1e-5 if family == "llama" else 1e-10
    assert torch.allclose(ours, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["first_block_adds", "block"])
@torch.no_grad()
def test_a_token_attends_to_itself_alone_though_the_model_has_sinks(kind: str) -> None:
    model = tiny_model("gpt-oss", D_VOCAB)
    ours = effective_embedding(
        planted.boot(copy.deepcopy(model), TOKENIZER), torch.arange(20), kind
    )
    attention: Any = planted.layers(model)[0].self_attn
    attention.sinks.fill_(-1e30)
    attention.v_proj.bias.zero_()
    attention.o_proj.bias.zero_()
    states = model(torch.arange(20)[:, None], output_hidden_states=True).hidden_states
    expected = states[1][:, 0] - (0 if kind == "block" else states[0][:, 0])
    torch.testing.assert_close(ours.float(), expected, rtol=1e-4, atol=1e-4)


def test_the_kinds_differ_by_what_their_names_say() -> None:
    model = planted.boot(planted.MAKERS["gpt2"](D_VOCAB), TOKENIZER)
    x = {kind: effective_embedding(model, torch.arange(20), kind) for kind in EMBEDDINGS}
    assert torch.allclose(x["embedding_plus_mlp"] - x["mlp"], x["embedding"])
    assert torch.allclose(x["block"] - x["first_block_adds"], x["embedding"])
    assert not torch.allclose(x["first_block_adds"], x["mlp"], atol=1e-2)


def test_only_what_the_first_block_adds_is_read_by_heads_of_layer_0() -> None:
    for kind in EMBEDDINGS:
        assert embedding_at_layer(kind, 3) == kind
        expected = kind if kind == "first_block_adds" else "embedding"
        assert embedding_at_layer(kind, 0) == expected


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_the_scorer_gives_heads_these_vectors(kind: str) -> None:
    model = planted.boot(planted.MAKERS["gpt2"](D_VOCAB), TOKENIZER)
    tokens = torch.arange(D_VOCAB)
    heads = ((0, 1), (2, 3))
    batch = OVBatch(model, tokens, tokens, heads, kind, unembedding_matrix(model), folded=True)
    for place, (layer, _) in enumerate(heads):
        expected = plain_vectors(embedding_at_layer(kind, layer), "gpt2", folded=True)
        part = slice(0, D_VOCAB)
        assert torch.allclose(batch._source_vectors(place, part), expected, atol=1e-10)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="first_block_adds"):
        check_embedding("resid_mid")


def no_epsilon(name: str) -> Any:
    """A Llama whose norm makes NaN of one name, whose row of W_E is zero."""
    model = checkpoints.llama_model(D_VOCAB, rms_norm_eps=0.0)
    model.get_input_embeddings().weight.data[planted.name_tokens(TOKENIZER, [name])] = 0
    return model


@pytest.mark.slow
@pytest.mark.parametrize("by_path", [False, True])
def test_a_source_vector_that_is_nan_is_refused_and_counts_nowhere(
    by_path: bool, tmp_path: Path
) -> None:
    name = checkpoints.NAMES[3]
    model = no_epsilon(name)
    folder = checkpoints.save_checkpoint(model, TOKENIZER, tmp_path / "llama")
    read = open_checkpoint(folder) if by_path else planted.boot(model, TOKENIZER, name="llama")
    said = rf"llama: the source vector \(mlp\) of token \d+ \(' {name}'\) holds NaN"
    for asked in (
        lambda: score_heads(read, checkpoints.NAMES[:5]),
        lambda: score_vocabulary(read),
        lambda: eigenvalue_scores(read, embedding="mlp"),
    ):
        with pytest.raises(WeightsError, match=said):
            asked()
    assert np.isfinite(eigenvalue_scores(read)).all(axis=None)  # of W_E, which is finite


@pytest.mark.slow
def test_a_norm_with_a_negative_epsilon_is_refused_by_path_too(tmp_path: Path) -> None:
    model = checkpoints.gpt2_model(D_VOCAB, layer_norm_epsilon=-1.0)
    folder = checkpoints.save_checkpoint(model, TOKENIZER, tmp_path / "gpt2")
    with pytest.raises(WeightsError, match=r"gpt2: the source vector .* of token 257"):
        score_heads(str(folder), checkpoints.NAMES[:5])


def test_a_weight_that_is_nan_is_named_before_the_vectors_made_of_it() -> None:
    model = checkpoints.llama_model(D_VOCAB)
    model.model.layers[0].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(WeightsError, match=r"mlp\.down_proj\.weight holds NaN"):
        effective_embedding(planted.boot(model, TOKENIZER), torch.arange(3), "mlp")
