"""Weights and source vectors against the Hugging Face modules that they belong to."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

from analysis import embeddings
from analysis.embeddings import source_vectors
from analysis.errors import ArchitectureError, WeightsError
from analysis.models.admission import admit
from analysis.static.scores import score_heads
from analysis.weights import (
    check_finite,
    embedding_matrix,
    output_weights,
    unembedding_matrix,
    value_weights,
)
from tests import checkpoints, planted

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = {"num_key_value_heads": 2}
EPS = {"layer_norm": {"layer_norm_eps": 0.3}, "rms_norm": {"rms_norm_eps": 0.3}}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 40, "layer_norm_epsilon": 0.3}

READABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT),
    "gpt2-relu": ("GPT2", GPT | {"activation_function": "relu"}),
    "gptj": ("GPTJ", GPT | {"rotary_dim": 4}),
    "neox-parallel": ("GPTNeoX", SIZES | EPS["layer_norm"]),
    "neox-sequential": ("GPTNeoX", SIZES | EPS["layer_norm"] | {"use_parallel_residual": False}),
    "llama-grouped": ("Llama", SIZES | EPS["rms_norm"] | GROUPED),
    "llama-biases": ("Llama", SIZES | EPS["rms_norm"] | {"attention_bias": True, "mlp_bias": True}),
    "llama-gelu": ("Llama", SIZES | EPS["rms_norm"] | {"hidden_act": "gelu"}),
    "llama-wide-heads": ("Llama", SIZES | EPS["rms_norm"] | GROUPED | {"head_dim": 12}),
    "mistral": ("Mistral", SIZES | EPS["rms_norm"] | GROUPED | {"sliding_window": None}),
    "mistral-narrow-heads": ("Mistral", SIZES | EPS["rms_norm"] | GROUPED | {"head_dim": 6}),
    "qwen2": ("Qwen2", SIZES | EPS["rms_norm"] | GROUPED),
}


@dataclass(frozen=True)
class Case:
    """One model twice: as transformers made it, and as the bridge holds it."""

    plain: PreTrainedModel
    bridge: TransformerBridge


def random_model(kind: str, settings: dict[str, Any], **more: Any) -> PreTrainedModel:
    """Every parameter random, norm weights and biases among them; the unembedding its own."""
    tokens = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = getattr(transformers, f"{kind}Config")(
        **(tokens | {"tie_word_embeddings": False} | settings | more)
    )
    name = {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
    config.architectures = [name]
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model


def boot(model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> TransformerBridge:
    return planted.boot(copy.deepcopy(model), checkpoints.make_tokenizer(), dtype=dtype)


@pytest.fixture(scope="module", params=READABLE)
def case(request: pytest.FixtureRequest) -> Case:
    model = random_model(*READABLE[request.param])
    return Case(model, boot(model))


def test_embeddings_and_head_matrices_are_the_published_parameters(case: Case) -> None:
    admit(case.bridge)
    embedding = case.plain.get_input_embeddings().weight
    unembedding = case.plain.get_output_embeddings().weight
    assert torch.equal(embedding_matrix(case.bridge), embedding)
    assert torch.equal(unembedding_matrix(case.bridge), unembedding.T)
    assert not torch.equal(embedding, unembedding)
    for layer in range(2):
        found = value_weights(case.bridge, layer)
        assert torch.equal(found, planted.value_matrices(case.plain, layer))
        found = output_weights(case.bridge, layer)
        assert torch.equal(found, planted.output_matrices(case.plain, layer))


@torch.no_grad()
def test_attention_on_one_token_is_the_sum_of_its_heads(case: Case) -> None:
    """With one token to attend to, attention is exactly Σ_h (x·W_V + b_V)·W_O + b_O."""
    x = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(1))
    block = planted.layers(case.plain)[1]
    name = next(name for name in ("attn", "attention", "self_attn") if hasattr(block, name))
    arguments: dict[str, Any] = {"attention_mask": None}
    inner = getattr(case.plain, case.plain.base_model_prefix)
    if hasattr(inner, "rotary_emb"):
        arguments["position_embeddings"] = inner.rotary_emb(x, torch.zeros(1, 1, dtype=torch.int64))
    elif name == "attn":
        arguments["position_ids"] = torch.zeros(1, 1, dtype=torch.int64)
    attention = getattr(block, name)
    expected = attention(x, **arguments)[0][0, 0]

    W_V = value_weights(case.bridge, 1)
    W_O = output_weights(case.bridge, 1)
    bridged = case.bridge.blocks[1].attn
    b_V = torch.zeros_like(W_V[:, 0]) if bridged.b_V is None else bridged.b_V
    group = len(W_O) // len(W_V)
    written = [(x[0, 0] @ W_V[h // group] + b_V[h // group]) @ W_O[h] for h in range(len(W_O))]
    total = torch.stack(written).sum(0)
    if bridged.b_O is not None:
        total += bridged.b_O
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_source_vectors_are_what_the_first_norm_and_mlp_make_of_the_embedding(case: Case) -> None:
    tokens = torch.tensor([7, 0, 299, 7, 31])
    embedded = case.plain.get_input_embeddings()(tokens)
    expected = planted.layers(case.plain)[0].mlp(planted.mlp_norm(case.plain)(embedded))
    for layer, first_mlp in ((0, True), (0, False), (1, False)):
        found = source_vectors(case.bridge, tokens, layer=layer, first_mlp=first_mlp)
        assert torch.equal(found, embedded.double())
    found = source_vectors(case.bridge, tokens, layer=1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-5)

    double = copy.deepcopy(case.plain).double()
    expected = planted.first_mlp(double, double.get_input_embeddings()(tokens))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_source_vectors_do_not_depend_on_how_many_are_made_at_once(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.arange(50)
    together = source_vectors(case.bridge, tokens, layer=1)
    monkeypatch.setattr(embeddings, "SOURCE_BLOCK", 7)
    in_parts = source_vectors(case.bridge, tokens, layer=1)
    torch.testing.assert_close(in_parts, together, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gpt2", "gptj", "neox-parallel", "llama-grouped"])
def test_half_precision_weights_are_kept_and_computed_with_in_float64(
    kind: str, dtype: torch.dtype
) -> None:
    half = random_model(*READABLE[kind]).to(dtype)
    copied = boot(copy.deepcopy(half).float())
    bridge = boot(half, dtype)
    tokens = torch.arange(20)
    for read in (value_weights, output_weights):
        assert read(bridge, 1).dtype == dtype
        assert torch.equal(read(bridge, 1).float(), read(copied, 1))
    found = source_vectors(bridge, tokens, layer=1)
    assert torch.equal(found, source_vectors(copied, tokens, layer=1))


@pytest.mark.parametrize("kind", ["gpt2", "gptj", "neox-parallel"])
def test_a_model_in_training_mode_gives_the_same_source_vectors(kind: str) -> None:
    dropout = {
        "gpt2": {"resid_pdrop": 0.5, "embd_pdrop": 0.5},
        "gptj": {"resid_pdrop": 0.5, "embd_pdrop": 0.5},
        "neox-parallel": {"hidden_dropout": 0.5},
    }
    bridge = boot(random_model(*READABLE[kind], **dropout[kind]))
    tokens = torch.arange(20)
    expected = source_vectors(bridge, tokens, layer=1)
    bridge.train()
    assert torch.equal(source_vectors(bridge, tokens, layer=1), expected)
    assert bridge.training


def test_processed_weights_are_refused() -> None:
    bridge = boot(random_model("GPT2", GPT))
    bridge.enable_compatibility_mode()
    with pytest.raises(ArchitectureError, match=r"processed weights .*load_model"):
        score_heads(bridge, ["John"])


def test_weights_processed_without_compatibility_mode_are_refused() -> None:
    bridge = boot(random_model("GPT2", GPT))
    before = bridge.W_U.clone()
    bridge.process_weights(fold_ln=True, center_writing_weights=True, center_unembed=True)
    assert not torch.equal(bridge.W_U, before)
    with pytest.raises(ArchitectureError, match="processed weights"):
        score_heads(bridge, ["John"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["gpt2", "gptj", "neox-parallel", "llama-grouped"])
@pytest.mark.parametrize("weight", ["W_V", "W_O", "W_Q"])
@torch.no_grad()
def test_a_weight_that_is_not_finite_is_named_by_layer_and_head(
    kind: str, bad: float, weight: str
) -> None:
    model = random_model(*READABLE[kind])
    block, config = planted.layers(model)[1], model.config
    if weight == "W_V":
        planted.value_matrices(model, 1)[1, 3, 5] = bad
    elif weight == "W_O":
        planted.output_matrices(model, 1)[1, 5, 3] = bad
    elif config.model_type == "gpt2":
        block.attn.c_attn.weight[3, 8 + 5] = bad
    elif config.model_type == "gpt_neox":
        block.attention.query_key_value.weight[3 * 8 + 5, 3] = bad
    else:
        attention = block.attn if config.model_type == "gptj" else block.self_attn
        attention.q_proj.weight[8 + 5, 3] = bad
    grouped = kind == "llama-grouped" or weight == "W_V"
    head = "key-value head 1" if weight == "W_V" and grouped else "head 1"
    with pytest.raises(WeightsError, match=f"{weight} of layer 1, {head} holds NaN or infinity"):
        check_finite(boot(model))


@pytest.mark.parametrize(
    ("parameter", "named"),
    [
        ("transformer.wte.weight", "wte"),
        ("lm_head.weight", "lm_head"),
        ("transformer.h.0.mlp.c_fc.weight", r"h\.0.*mlp.*c_fc.*weight"),
        ("transformer.h.0.mlp.c_proj.bias", r"h\.0.*mlp.*c_proj.*bias"),
        ("transformer.h.0.ln_2.weight", r"h\.0.*ln_2.*weight"),
    ],
)
def test_a_parameter_that_no_head_owns_is_named(parameter: str, named: str) -> None:
    model = random_model("GPT2", GPT)
    model.get_parameter(parameter).detach().view(-1)[11] = float("nan")
    with pytest.raises(WeightsError, match=f"{named}.* holds NaN or infinity"):
        check_finite(boot(model))


def test_a_value_bias_names_its_head() -> None:
    model = random_model("GPT2", GPT)
    d_model = model.config.n_embd
    head = 3 * model.config.n_head // 4
    d_head = d_model // model.config.n_head
    bias = model.get_parameter("transformer.h.1.attn.c_attn.bias").detach()
    bias[2 * d_model + head * d_head] = float("inf")
    with pytest.raises(WeightsError, match=f"b_V of layer 1, key-value head {head} holds NaN"):
        check_finite(boot(model))


@torch.no_grad()
def test_large_finite_weights_pass(case: Case) -> None:
    """Their sum overflows, they do not."""
    check_finite(case.bridge)
    model = copy.deepcopy(case.plain)
    model.get_output_embeddings().weight.fill_(3e38)
    check_finite(boot(model))
