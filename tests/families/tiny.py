"""Tiny random checkpoints of every family, made with plain Hugging Face classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

N_LAYERS, N_HEADS, D_MODEL = 3, 4, 32

SIZES: dict[str, Any] = {
    "hidden_size": D_MODEL,
    "intermediate_size": 40,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "max_position_embeddings": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
WIDE = GROUPED | {"head_dim": 12}
GPT = {"n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": N_HEADS}
GPT_POSITIONS = GPT | {"n_positions": 64}


@dataclass(frozen=True)
class Tiny:
    """How to make one tiny model.

    Attributes:
        architecture: the class's name in transformers.
        settings: of its config, beside the tokens'.
        tied: whether it has one matrix for embedding and unembedding.
    """

    architecture: str
    settings: dict[str, Any] = field(default_factory=dict)
    tied: bool = False


@dataclass(frozen=True)
class Case:
    """One tiny model twice: as transformers made it, and as the bridge holds it."""

    name: str
    plain: PreTrainedModel
    bridge: TransformerBridge


TINY: dict[str, Tiny] = {
    "gpt2": Tiny("GPT2LMHeadModel", GPT_POSITIONS, tied=True),
    "gpt2-untied": Tiny("GPT2LMHeadModel", GPT_POSITIONS | {"activation_function": "relu"}),
    "gpt-neox": Tiny("GPTNeoXForCausalLM", SIZES),
    "gpt-neox-sequential": Tiny("GPTNeoXForCausalLM", SIZES | {"use_parallel_residual": False}),
    "gpt-j": Tiny("GPTJForCausalLM", GPT_POSITIONS | {"rotary_dim": 4}),
    "gpt-neo": Tiny(
        "GPTNeoForCausalLM",
        {
            "hidden_size": D_MODEL,
            "num_layers": N_LAYERS,
            "num_heads": N_HEADS,
            "intermediate_size": 40,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1], [["global"], 1]],
            "window_size": 4,
        },
        tied=True,
    ),
    "opt": Tiny("OPTForCausalLM", SIZES | {"ffn_dim": 40, "word_embed_proj_dim": D_MODEL}),
    "opt-projected": Tiny(
        "OPTForCausalLM",
        SIZES | {"ffn_dim": 40, "word_embed_proj_dim": 24, "do_layer_norm_before": False},
        tied=True,
    ),
    "bloom": Tiny(
        "BloomForCausalLM", {"hidden_size": D_MODEL, "n_layer": N_LAYERS, "n_head": N_HEADS}, True
    ),
    "falcon": Tiny(
        "FalconForCausalLM",
        {
            "hidden_size": D_MODEL,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": N_HEADS,
            "multi_query": True,
        },
        tied=True,
    ),
    "falcon-rw": Tiny(
        "FalconForCausalLM",
        {
            "hidden_size": D_MODEL,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": N_HEADS,
            "multi_query": False,
            "alibi": True,
            "bias": True,
            "parallel_attn": False,
        },
    ),
    "mpt": Tiny(
        "MptForCausalLM",
        {"d_model": D_MODEL, "n_layers": N_LAYERS, "n_heads": N_HEADS, "max_seq_len": 64},
        tied=True,
    ),
    "stablelm": Tiny("StableLmForCausalLM", GROUPED),
    "stablelm-parallel": Tiny("StableLmForCausalLM", GROUPED | {"use_parallel_residual": True}),
    "phi": Tiny("PhiForCausalLM", SIZES),
    "phi3": Tiny("Phi3ForCausalLM", GROUPED),
    "codegen": Tiny("CodeGenForCausalLM", GPT_POSITIONS | {"rotary_dim": 4}),
    "llama": Tiny("LlamaForCausalLM", WIDE),
    "llama-biases": Tiny("LlamaForCausalLM", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "mistral": Tiny("MistralForCausalLM", GROUPED | {"sliding_window": 4}),
    "ministral3": Tiny("Ministral3ForCausalLM", WIDE),
    "mixtral": Tiny(
        "MixtralForCausalLM", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "qwen2": Tiny("Qwen2ForCausalLM", GROUPED, tied=True),
    "qwen3": Tiny("Qwen3ForCausalLM", WIDE, tied=True),
    "qwen3-moe": Tiny(
        "Qwen3MoeForCausalLM",
        WIDE | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    ),
    "olmo": Tiny("OlmoForCausalLM", GROUPED),
    "olmo2": Tiny("Olmo2ForCausalLM", GROUPED),
    "olmo3": Tiny("Olmo3ForCausalLM", GROUPED | {"sliding_window": 4}),
    "olmoe": Tiny("OlmoeForCausalLM", GROUPED | {"num_experts": 4, "num_experts_per_tok": 2}),
    "gemma": Tiny("GemmaForCausalLM", WIDE, tied=True),
    "gemma2": Tiny("Gemma2ForCausalLM", WIDE | {"sliding_window": 4}, tied=True),
    "gemma3": Tiny("Gemma3ForCausalLM", WIDE | {"sliding_window": 4}, tied=True),
    "cohere": Tiny("CohereForCausalLM", GROUPED, tied=True),
    "cohere2": Tiny("Cohere2ForCausalLM", GROUPED | {"sliding_window": 4}, tied=True),
    "nemotron": Tiny("NemotronForCausalLM", GROUPED),
    "starcoder2": Tiny("Starcoder2ForCausalLM", GROUPED),
    "gpt-bigcode": Tiny("GPTBigCodeForCausalLM", GPT_POSITIONS, tied=True),
    "smollm3": Tiny("SmolLM3ForCausalLM", GROUPED, tied=True),
    "granite": Tiny(
        "GraniteForCausalLM",
        GROUPED
        | {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.3,
            "attention_multiplier": 0.2,
            "logits_scaling": 4.0,
        },
        tied=True,
    ),
    "glm": Tiny("GlmForCausalLM", WIDE | {"attention_bias": True}),
    "glm4": Tiny("Glm4ForCausalLM", WIDE | {"attention_bias": True}),
    "seed-oss": Tiny("SeedOssForCausalLM", WIDE),
    "arcee": Tiny("ArceeForCausalLM", GROUPED),
    "exaone4": Tiny("Exaone4ForCausalLM", WIDE | {"sliding_window": 4}),
    "gpt-oss": Tiny(
        "GptOssForCausalLM",
        WIDE | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
    ),
}


QUICK = ("gpt2", "llama", "gemma2")
EACH = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TINY]
"""Names in ``TINY`` as parameters of a test; `make test-fast` runs three of them."""


def tiny_model(name: str, vocabulary: int = 300) -> PreTrainedModel:
    """The tiny model of a name in ``TINY``."""
    return made(TINY[name], vocabulary)


def made(tiny: Tiny, vocabulary: int = 300) -> PreTrainedModel:
    """A tiny model, every parameter far from its initial value.

    Norm gains, biases and projections are random, so that leaving one out changes the result.
    """
    import transformers

    tokens = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    kind: Any = getattr(transformers, tiny.architecture)
    settings = tokens | {"tie_word_embeddings": tiny.tied} | tiny.settings
    config = kind.config_class(**settings, architectures=[tiny.architecture])
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.4 if weight.ndim == 1 else 0.2))
    return model
