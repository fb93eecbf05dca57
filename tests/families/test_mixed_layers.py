"""Models some of whose layers have a dense MLP and others experts, against plain modules."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from analysis.embeddings import mlp_output
from analysis.models.admission import admit_runs
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.families.tiny import D_MODEL, GROUPED, N_LAYERS, WIDE, Tiny, made

if TYPE_CHECKING:
    from pathlib import Path

TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
QWEN3 = WIDE | EXPERTS
MIXED = {
    "qwen3-moe-first-dense": Tiny("Qwen3MoeForCausalLM", QWEN3 | {"mlp_only_layers": [0]}),
    "qwen3-moe-second-dense": Tiny("Qwen3MoeForCausalLM", QWEN3 | {"mlp_only_layers": [1]}),
    "qwen3-moe-all-dense": Tiny("Qwen3MoeForCausalLM", QWEN3 | {"mlp_only_layers": [0, 1, 2]}),
    "qwen3-moe-every-second": Tiny("Qwen3MoeForCausalLM", QWEN3 | {"decoder_sparse_step": 2}),
    "ernie-4.5-moe": Tiny(
        "Ernie4_5_MoeForCausalLM",
        GROUPED
        | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24}
        | {"moe_layer_start_index": 1},
    ),
    "glm-4-moe": Tiny(
        "Glm4MoeForCausalLM", QWEN3 | {"n_routed_experts": 4, "first_k_dense_replace": 1}
    ),
    "llama-4": Tiny(
        "Llama4ForCausalLM",
        WIDE
        | {"num_local_experts": 4, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 40},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXED)
@torch.no_grad()
def test_the_mlp_of_every_layer_is_its_own(name: str) -> None:
    model: Any = made(MIXED[name], len(TOKENIZER))
    bridge = planted.boot(copy.deepcopy(model), TOKENIZER)
    admit_runs(bridge)
    x = torch.randn(5, D_MODEL, generator=torch.Generator().manual_seed(1))
    for layer in range(N_LAYERS):
        block = model.model.layers[layer]
        mlp = getattr(block, "mlp", None) or block.feed_forward
        found = mlp(block.post_attention_layernorm(x)[None])
        expected = (found[0] if isinstance(found, tuple) else found).reshape(x.shape)
        ours = mlp_output(bridge, x.double(), layer).float()
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3-moe-second-dense", "qwen3-moe-every-second"])
def test_the_scores_are_the_same_read_layer_by_layer(name: str, tmp_path: Path) -> None:
    model = made(MIXED[name], len(TOKENIZER))
    checkpoints.save_checkpoint(model, TOKENIZER, tmp_path)
    loaded = score_heads(planted.boot(model, TOKENIZER), planted.NAMES)
    by_path = score_heads(tmp_path, planted.NAMES)
    assert (loaded.in_top_k == by_path.in_top_k).all()
