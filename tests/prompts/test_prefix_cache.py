"""Models that do not go on from a beginning as they read the whole prompt are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analysis.dynamic.scores import head_z
from analysis.errors import ArchitectureError
from analysis.models.admission import admit_runs
from analysis.names import token_pairs
from analysis.prompts.templates import fill_template
from tests import checkpoints, planted
from tests.families.tiny import GROUPED, WIDE, Tiny, made

TOKENIZER = checkpoints.make_tokenizer()
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [8.0] * 4,
    "original_max_position_embeddings": 8,
    "rope_theta": 10_000.0,
    "factor": 8.0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
CHUNKS = {"attention_chunk_size": 6, "layer_types": ["chunked_attention"] * 3}
BOTH_WAYS = {"use_bidirectional_attention": True, "sliding_window": 64}


def booted(tiny: Tiny) -> Any:
    return planted.boot(made(tiny, len(TOKENIZER)), TOKENIZER)


LATE, EARLY = (
    " Mary John Anna Mary John Anna <X> Mary",
    " Mary <X> John Anna Mary John Anna Mary John",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiny", "template"),
    [
        (Tiny("LlamaForCausalLM", GROUPED | CHUNKS), LATE),
        (Tiny("LlamaForCausalLM", GROUPED | {"rope_parameters": LONG}), EARLY),
        (Tiny("Gemma3ForCausalLM", WIDE | BOTH_WAYS), LATE),
    ],
    ids=["a cache in chunks", "positions that change with the length", "attention both ways"],
)
def test_a_beginning_that_cannot_be_kept_is_refused(tiny: Tiny, template: str) -> None:
    model = booted(tiny)
    admit_runs(model)
    prompts = fill_template(model, template, token_pairs(model, list(planted.NAMES)))
    with pytest.raises(ArchitectureError, match="have been read before: the logits differ by"):
        head_z(model, prompts)


def test_a_window_of_none_is_no_window() -> None:
    """Transformers says 0 where Qwen2-MoE uses none."""
    sizes = {"shared_expert_intermediate_size": 24, "moe_intermediate_size": 24}
    model = booted(Tiny("Qwen2MoeForCausalLM", GROUPED | EXPERTS | sizes))
    assert model.original_model.config.sliding_window == 0
    names = token_pairs(model, list(planted.NAMES))
    assert head_z(model, fill_template(model, LATE, names))


@pytest.mark.parametrize(
    "tiny",
    [
        Tiny("OlmoForCausalLM", GROUPED | {"clip_qkv": 2.0}),
        Tiny("OlmoeForCausalLM", GROUPED | EXPERTS | {"clip_qkv": 2.0}),
        Tiny("MptForCausalLM", {"d_model": 32, "n_heads": 4, "n_layers": 3,
                                "attn_config": {"clip_qkv": 2.0}}),
    ],
    ids=["OLMo", "OLMoE", "MPT"],
)  # fmt: skip
def test_values_without_context_are_clipped_as_the_model_clips_them(tiny: Tiny) -> None:
    """Alone at its position a token's z is its value: no position before it, so no BOS either."""
    model = booted(tiny)
    names = token_pairs(model, list(planted.NAMES))
    prompts = fill_template(model, " <X>", names, prepend_bos=False)
    assert prompts.tokens.shape[1] == 1
    z = head_z(model, prompts)
    largest = max(float(of_layer.abs().max()) for of_layer in z["with"])
    assert largest == pytest.approx(2.0, abs=1e-9)  # the limit is met
    for layer in range(3):
        torch.testing.assert_close(z["without"][layer], z["with"][layer], rtol=0, atol=1e-9)
