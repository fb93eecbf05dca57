"""Families that nobody listed: admitted, or refused by the identity that fails or raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.errors import ArchitectureError
from analysis.models.admission import admit_runs
from analysis.models.load import load_model
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.families import tiny
from tests.families.tiny import GROUPED, WIDE, Tiny, made

if TYPE_CHECKING:
    from pathlib import Path

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)
ADMITTED = {
    "apertus": Tiny("ApertusForCausalLM", GROUPED),
    "ernie-4.5": Tiny("Ernie4_5ForCausalLM", WIDE),
    "glm-4-moe": Tiny(
        "Glm4MoeForCausalLM",
        WIDE | EXPERTS | {"n_routed_experts": 4, "first_k_dense_replace": 1},
    ),
    "gpt": Tiny("OpenAIGPTLMHeadModel", tiny.GPT_POSITIONS, tied=True),
    "hunyuan": Tiny("HunYuanDenseV1ForCausalLM", WIDE),
    "llama-4": Tiny("Llama4ForCausalLM", WIDE),
    "nanochat": Tiny("NanoChatForCausalLM", GROUPED),
    "qwen2-moe": Tiny(
        "Qwen2MoeForCausalLM", GROUPED | EXPERTS | {"shared_expert_intermediate_size": 24}
    ),
    "vaultgemma": Tiny("VaultGemmaForCausalLM", WIDE, tied=True),
}
GATED = {
    "afmoe": Tiny("AfmoeForCausalLM", WIDE | EXPERTS | {"num_dense_layers": 1}),
    "qwen3-next": Tiny(
        "Qwen3NextForCausalLM",
        WIDE
        | EXPERTS
        | {"shared_expert_intermediate_size": 24, "layer_types": ["full_attention"] * 3},
    ),
}
"""A gate computed from the input stands between the values and W_O."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ADMITTED)
def test_admitted(name: str) -> None:
    bridge = planted.boot(made(ADMITTED[name], len(TOKENIZER)), TOKENIZER)
    assert all(identity.error < 1e-6 for identity in admit_runs(bridge).identities)
    score_heads(bridge, planted.NAMES)


@pytest.mark.parametrize("name", GATED)
def test_a_gated_attention_is_refused_by_its_identity(name: str) -> None:
    bridge = planted.boot(made(GATED[name], len(TOKENIZER)), TOKENIZER)
    with pytest.raises(ArchitectureError, match="its attention identity fails"):
        score_heads(bridge, planted.NAMES)


def test_a_norm_between_values_and_w_o_is_refused_by_its_identity() -> None:
    bridge = planted.boot(made(Tiny("BitNetForCausalLM", GROUPED), len(TOKENIZER)), TOKENIZER)
    with pytest.raises(ArchitectureError, match="its attention identity fails"):
        score_heads(bridge, planted.NAMES)


SHORT = {"d_model": 32, "ffn_dim": 40, "num_layers": 3, "attention_heads": 4}
UNREADABLE = {
    "jetmoe": (
        Tiny("JetMoeForCausalLM", GROUPED | EXPERTS | {"num_local_experts": 4, "kv_channels": 8}),
        "attention heads cannot be read .*W_V",
        "no blocks of attention heads",
    ),
    "lfm2": (
        Tiny("Lfm2ForCausalLM", GROUPED | {"layer_types": ["conv", "full_attention", "conv"]}),
        "attention heads cannot be read .*attn",
        "has no attention in layer 0",
    ),
    "lfm2-inside": (
        Tiny(
            "Lfm2ForCausalLM",
            GROUPED | {"layer_types": ["full_attention", "conv", "full_attention"]},
        ),
        "attention heads cannot be read .*attn",
        "has no attention in layer 1",
    ),
    "recurrent-gemma": (
        Tiny("RecurrentGemmaForCausalLM", WIDE | {"attention_window_size": 64}),
        "attention heads cannot be read .*attn",
        "no blocks of attention heads",
    ),
    "xglm": (
        Tiny("XGLMForCausalLM", SHORT | {"max_position_embeddings": 64}),
        "attention fails on one token .*overflow",
        "attention fails on one token .*overflow",
    ),
}
"""How each is refused, loaded and read layer by layer."""


@pytest.mark.slow
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_refused_in_words(name: str, tmp_path: Path) -> None:
    model, loaded, by_path = UNREADABLE[name]
    checkpoints.save_checkpoint(made(model, len(TOKENIZER)), TOKENIZER, tmp_path)
    with pytest.raises(ArchitectureError, match=loaded):
        score_heads(load_model(tmp_path), planted.NAMES)
    with pytest.raises(ArchitectureError, match=by_path):
        score_heads(tmp_path, planted.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "setting", "error"),
    [
        ("opt", {"do_layer_norm_before": False}, "Original component not set"),
        ("opt", {"_remove_final_layer_norm": True}, "Original component not set"),
        ("gpt2", {"add_cross_attention": True}, "EncoderDecoderCache"),
    ],
)
def test_what_does_not_run_is_scored_and_refused_to_run_in_words(
    name: str, setting: dict[str, bool], error: str
) -> None:
    model = Tiny(tiny.TINY[name].architecture, tiny.TINY[name].settings | setting)
    bridge = planted.boot(made(model, len(TOKENIZER)), TOKENIZER)
    score_heads(bridge, planted.NAMES)
    with pytest.raises(ArchitectureError, match=f"its forward pass fails .*{error}"):
        admit_runs(bridge)
