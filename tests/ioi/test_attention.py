"""Attention, what is written for it, and copy scores, each against a plain computation."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from analysis.ioi.activations import run_prompts
from analysis.ioi.attention import attention_and_output, attention_points
from analysis.ioi.copy_score import copy_scores
from analysis.prompts.indirect_object import IOIPrompts, ioi_prompts
from tests import checkpoints, ioi_models, planted

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KINDS = ["gpt2", "gpt-neox", "llama"]


@torch.no_grad()
def cache_of(model: TransformerBridge, prompts: IOIPrompts, prompt: int) -> dict[str, torch.Tensor]:
    end = prompts.frame.loc[prompt, "end_position"]
    _, cache = model.run_with_cache(prompts.tokens[prompt : prompt + 1, : end + 1])
    return dict(cache)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_attention_and_what_is_written_for_it(kind: str) -> None:
    model = ioi_models.shared_model(kind)
    prompts = ioi_prompts(model, 10)
    clean = run_prompts(model, prompts)
    layer, head = 1, 2
    attention = np.zeros((10, 3))
    written = np.zeros((10, 2))
    for i, row in prompts.frame.iterrows():
        cache = cache_of(model, prompts, i)
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"][0, head, -1]
        names = ("io_position", "s1_position", "s2_position")
        attention[i] = [float(pattern[row[name]]) for name in names]
        output = (
            cache[f"blocks.{layer}.attn.hook_z"][0, -1, head] @ model.blocks[layer].attn.W_O[head]
        )
        residual = cache["ln_final.hook_in"][0, -1]
        if not model.cfg.uses_rms_norm:
            output, residual = output - output.mean(), residual - residual.mean()
        normalised = output / (residual.square().mean() + model.cfg.eps).sqrt()
        logits = (normalised * model.ln_final.weight) @ model.W_U
        written[i] = [float(logits[row["io_token"]]), float(logits[row["s_token"]])]
    frame = attention_and_output(model, prompts, clean)
    expected = attention.mean(0)
    columns = ["attention_io", "attention_s1", "attention_s2"]
    np.testing.assert_allclose(frame.loc[(layer, head), columns].astype(float), expected, atol=1e-5)
    x = np.concatenate([attention[:, 0], attention[:, 1:].sum(1)])
    y = np.concatenate([written[:, 0], written[:, 1]])
    r = np.corrcoef(x, y)[0, 1]
    assert frame.loc[(layer, head), "correlation"] == pytest.approx(r, abs=1e-3)
    points = attention_points(model, prompts, clean, [(layer, head)])
    assert points["name"].tolist() == ["IO"] * 10 + ["S"] * 10
    np.testing.assert_allclose(points["attention"], x, atol=1e-5)
    np.testing.assert_allclose(points["written"], y, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_copy_scores_of_every_head(kind: str) -> None:
    model = ioi_models.random_model(kind)
    if kind != "llama":  # so large that the final norm's bias decides some of them
        model.ln_final.bias.copy_(torch.randn(model.cfg.d_model) * 0.5)
    prompts = ioi_prompts(model, 6)
    k = 40
    scores = copy_scores(model, prompts, run_prompts(model, prompts), k=k)
    counts = np.zeros((2, 3, 4))
    for i, row in prompts.frame.iterrows():
        residual = cache_of(model, prompts, i)["blocks.0.hook_out"]
        for layer in range(3):
            attention = model.blocks[layer].attn
            group = 4 // attention.W_V.shape[0]
            x = model.blocks[layer].ln1(residual)[0]
            for head in range(4):
                value = x @ attention.W_V[head // group]
                if attention.b_V is not None:
                    value = value + attention.b_V.view(-1, 8)[head // group]
                for twin, sign in enumerate((1, -1)):
                    output = model.ln_final((sign * value @ attention.W_O[head])[None])[0]
                    top = (output @ model.W_U).topk(k).indices
                    for place, name in (("io", "io"), ("s1", "s"), ("s2", "s")):
                        position, token = row[f"{place}_position"], row[f"{name}_token"]
                        counts[twin, layer, head] += int(token in top[position])
    assert 0 < counts.sum() < counts.size * 18
    np.testing.assert_allclose(scores["copy_score"], counts[0].ravel() / 18, atol=1e-12)
    np.testing.assert_allclose(scores["negative_copy_score"], counts[1].ravel() / 18, atol=1e-12)


@pytest.mark.slow
@torch.no_grad()
def test_a_head_that_writes_nothing_copies_nothing() -> None:
    model = ioi_models.random_model("llama")
    attention = model.original_model.model.layers[1].self_attn
    attention.v_proj.original_component.weight.zero_()
    prompts = ioi_prompts(model, 3)
    clean = run_prompts(model, prompts)
    scores = copy_scores(model, prompts, clean)
    assert (scores.loc[1] == 0).all(axis=None)
    assert np.isnan(attention_and_output(model, prompts, clean).loc[1, "correlation"]).all()


@pytest.mark.slow
@torch.no_grad()
def test_where_a_head_writes_nothing_the_final_bias_copies_nothing() -> None:
    model = ioi_models.random_model("gpt2")
    planted.output_matrices(model.original_model, 1)[2].zero_()
    names = planted.name_tokens(model.tokenizer)
    model.ln_final.bias.copy_(4 * model.W_U[:, names[:12]].sum(1))
    prompts = ioi_prompts(model, 6)
    scores = copy_scores(model, prompts, run_prompts(model, prompts))
    assert (scores.loc[(1, 2)] == 0).all()
    assert scores["copy_score"].max() > 0


@pytest.mark.slow
@torch.no_grad()
def test_rows_that_pad_the_vocabulary_do_not_compete() -> None:
    tokenizer = ioi_models.make_tokenizer()
    hf = checkpoints.gpt2_model(len(tokenizer) + 50, tie_word_embeddings=False)
    found = []
    for size in (0.0, 30.0):
        hf.lm_head.weight[len(tokenizer) :] = size * hf.lm_head.weight[:50]
        model = planted.boot(copy.deepcopy(hf), tokenizer)
        prompts = ioi_prompts(model, 6)
        found.append(copy_scores(model, prompts, run_prompts(model, prompts)))
    assert found[0].equals(found[1]) and found[0]["copy_score"].max() > 0
