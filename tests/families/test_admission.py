"""The identities hold for every family, and each one fails where it should."""

from __future__ import annotations

import pytest
import torch

from analysis.architecture.norms import norm_parameters, normalise, takes_mean_away
from analysis.errors import ArchitectureError
from analysis.models.admission import Admission, admit, admit_runs
from analysis.models.families import FAMILIES, check_architecture, families_table
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.families.tiny import EACH, TINY, tiny_model

TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_every_family_is_admitted_and_runs(name: str) -> None:
    bridge = planted.boot(tiny_model(name, len(TOKENIZER)), TOKENIZER)
    found = admit_runs(bridge)
    assert {identity.name for identity in found.identities} == {
        "attention",
        "first block",
        "unembedding",
        "logits",
    }
    assert all(0 <= identity.error < 1e-5 for identity in found.identities)
    assert isinstance(bridge.admission, Admission)
    assert admit(bridge) is bridge.admission


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "olmo2", "qwen3-moe", "bloom"])
def test_half_precision_is_admitted(name: str, dtype: torch.dtype) -> None:
    model = tiny_model(name, len(TOKENIZER)).to(dtype)
    found = admit(planted.boot(model, TOKENIZER, dtype))
    assert max(i.error for i in found.identities if i.name != "first block") < 1e-6


@torch.no_grad()
def test_values_read_of_another_head_fail_the_attention_identity() -> None:
    bridge = planted.boot(tiny_model("gpt2", len(TOKENIZER)), TOKENIZER)
    value = bridge.blocks[1].attn.v.original_component  # cut out of W_QKV by transformer_lens
    value.weight = torch.nn.Parameter(value.weight.roll(8, dims=0))
    with pytest.raises(ArchitectureError, match=r"its attention identity fails: .* differ by"):
        score_heads(bridge, planted.NAMES)


@torch.no_grad()
def test_an_mlp_that_is_run_otherwise_fails_the_first_block_identity() -> None:
    bridge = planted.boot(tiny_model("llama", len(TOKENIZER)), TOKENIZER)
    bridge.blocks[0].mlp.register_forward_hook(lambda _m, _a, output: output * 1.5)
    bridge.blocks[0].mlp.out.register_forward_hook(lambda _m, _a, output: output * 1.5)
    with pytest.raises(ArchitectureError, match=r"its first block identity fails: the first MLP"):
        score_heads(bridge, planted.NAMES)


def test_logits_that_are_not_those_of_w_u_fail_the_unembedding_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import LlamaForCausalLM

    bridge = planted.boot(tiny_model("llama", len(TOKENIZER)), TOKENIZER)
    true = LlamaForCausalLM.forward

    def squared(self: LlamaForCausalLM, *args: object, **kwargs: object) -> object:
        output = true(self, *args, **kwargs)
        output.logits = output.logits.square()
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", squared)
    with pytest.raises(ArchitectureError, match=r"its unembedding identity fails"):
        score_heads(bridge, planted.NAMES)


@pytest.mark.slow
def test_a_model_that_runs_otherwise_fails_the_logits_identity_but_is_scored() -> None:
    bridge = planted.boot(tiny_model("llama", len(TOKENIZER)), TOKENIZER)
    bridge.blocks[2].mlp.register_forward_hook(lambda _m, _a, output: output * 3)
    score_heads(bridge, planted.NAMES)
    with pytest.raises(ArchitectureError, match=r"its logits identity fails"):
        admit_runs(bridge)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "nemotron", "olmo", "cohere", "mpt"])
@torch.no_grad()
def test_norms_are_taken_apart_into_what_they_do(name: str) -> None:
    bridge = planted.boot(tiny_model(name, len(TOKENIZER)), TOKENIZER)
    norm = bridge.blocks[1].ln1
    gain, bias = norm_parameters(bridge, norm, torch.device("cpu"))
    x = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred = x - x.mean(-1, keepdim=True) if takes_mean_away(bridge, norm) else x
    scaled = centred / (centred.square().mean(-1, keepdim=True) + bridge.cfg.eps).sqrt() * gain
    expected = scaled if bias is None else scaled + bias
    torch.testing.assert_close(normalise(norm, x), expected, rtol=1e-4, atol=1e-5)
    assert takes_mean_away(bridge, norm) == (name not in ("llama", "gemma2"))


def test_latent_attention_is_refused_from_the_config() -> None:
    for config in (
        {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"},
        {"architectures": ["NewForCausalLM"], "model_type": "llama", "kv_lora_rank": 512},
    ):
        with pytest.raises(ArchitectureError, match="no head has a W_V"):
            check_architecture(config)


@pytest.mark.parametrize(
    ("architecture", "kind", "reason"),
    [
        ("BertForMaskedLM", "bert", "not a causal language model"),
        ("T5ForConditionalGeneration", "t5", "not a causal language model"),
        ("Gemma3ForConditionalGeneration", "gemma3", "not a causal language model"),
        ("SomethingForCausalLM", "something", "transformer_lens does not boot it"),
    ],
)
def test_what_can_never_be_scored_is_refused_from_the_config(
    architecture: str, kind: str, reason: str
) -> None:
    with pytest.raises(ArchitectureError, match=reason):
        check_architecture({"architectures": [architecture], "model_type": kind})


@pytest.mark.slow
def test_every_family_passes_the_look_at_its_config() -> None:
    for tiny in {tiny.architecture: name for name, tiny in TINY.items()}.values():
        check_architecture(tiny_model(tiny).config.to_dict())
    assert len(families_table()) == len(FAMILIES) >= 25
