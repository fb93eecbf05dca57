"""Families that nobody listed: admitted, or refused by the identity that fails."""

from __future__ import annotations

import pytest

from analysis.errors import ArchitectureError
from analysis.models.admission import admit_runs
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.families import tiny
from tests.families.tiny import GROUPED, WIDE, Tiny, made

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
