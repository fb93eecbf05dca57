"""Families of models: what is special in each, and what of this package runs on it.

The table says what the tests hold; it admits nothing. A model is admitted by its weights
(``analysis.models.admission``). Only what no test of weights can mend is refused by name here,
before anything is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.errors import ArchitectureError

_LATENT = "its attention is latent: values come from one compressed vector, so no head has a W_V"
_NO_HEADS = "its blocks have no attention heads"
_REFUSED = {
    "BertForMaskedLM": "it is not a causal language model",
    "BertLMHeadModel": "it is not a causal language model",
    "FalconMambaForCausalLM": _NO_HEADS,
    "Mamba2ForCausalLM": _NO_HEADS,
    "MambaForCausalLM": _NO_HEADS,
    "RWKV7ForCausalLM": _NO_HEADS,
    "RwkvForCausalLM": _NO_HEADS,
    "DeepseekV2ForCausalLM": _LATENT,
    "DeepseekV3ForCausalLM": _LATENT,
    "DeepseekV4ForCausalLM": _LATENT,
    "Glm4MoeLiteForCausalLM": _LATENT,
    "GlmMoeDsaForCausalLM": _LATENT,
    "YoutuForCausalLM": _LATENT,
}
"""Architectures that have no weights of the kind that the scores are about."""

EVERYTHING = "1–6"
NOT_6 = "1–5"


@dataclass(frozen=True)
class Family:
    """A family as the tests hold it; ``why_not`` all notebooks run on it, empty if they do."""

    name: str
    architecture: str
    special: str
    why_not: str = ""

    @property
    def notebooks(self) -> str:
        """Which of them run on it."""
        return NOT_6 if self.why_not else EVERYTHING


def refusal(architecture: str) -> str:
    """Why an architecture is refused by name; empty for all others."""
    return _REFUSED.get(architecture, "")


_POST_NORM = "not 6: a norm stands between heads and residual stream"
_SCALED = "not 6: a factor stands between heads and residual stream"
_BIAS = "not 6: unembedding bias"
_LOGITS = "not 6: the logits are scaled"
FAMILIES = (
    Family("Arcee", "ArceeForCausalLM", "MLP without a gate, ReLU²"),
    Family("Bloom", "BloomForCausalLM", "norm after the embedding, ALiBi, fused W_QKV"),
    Family("CodeGen", "CodeGenForCausalLM", "parallel block, fused W_QKV, unembedding bias", _BIAS),
    Family(
        "Cohere", "CohereForCausalLM", "parallel block, norm without bias, scaled logits", _LOGITS
    ),
    Family("Cohere 2", "Cohere2ForCausalLM", "as Cohere, sliding windows", _LOGITS),
    Family("EXAONE 4", "Exaone4ForCausalLM", "norms after attention and MLP only", _POST_NORM),
    Family("Falcon", "FalconForCausalLM", "one key-value head or ALiBi, parallel or not"),
    Family("Gemma", "GemmaForCausalLM", "norm gain 1 + w, embedding times √d_model"),
    Family(
        "Gemma 2", "Gemma2ForCausalLM", "as Gemma, norms after both parts, soft-cap", _POST_NORM
    ),
    Family(
        "Gemma 3",
        "Gemma3ForCausalLM",
        "as Gemma, norms after both parts, normed queries",
        _POST_NORM,
    ),
    Family("GLM", "GlmForCausalLM", "gate and input of the MLP fused"),
    Family("GLM-4", "Glm4ForCausalLM", "norms before and after both parts", _POST_NORM),
    Family("GPT-2", "GPT2LMHeadModel", "fused W_QKV, learned positions"),
    Family("GPT-BigCode", "GPTBigCodeForCausalLM", "as GPT-2, one key-value head"),
    Family("GPT-J", "GPTJForCausalLM", "parallel block, one norm, unembedding bias", _BIAS),
    Family("GPT-Neo", "GPTNeoForCausalLM", "local attention in every second layer"),
    Family("GPT-NeoX, Pythia", "GPTNeoXForCausalLM", "parallel block with two norms, fused W_QKV"),
    Family("GPT-OSS", "GptOssForCausalLM", "experts with biases, attention sinks"),
    Family(
        "Granite", "GraniteForCausalLM", "scaled embedding, residual stream and logits", _SCALED
    ),
    Family("Llama, SmolLM2", "LlamaForCausalLM", "grouped queries"),
    Family("Ministral 3", "Ministral3ForCausalLM", "as Llama, head_dim of its own"),
    Family("Mistral", "MistralForCausalLM", "sliding window"),
    Family("Mixtral", "MixtralForCausalLM", "routed experts"),
    Family("MPT", "MptForCausalLM", "ALiBi, fused W_QKV, no biases"),
    Family("Nemotron", "NemotronForCausalLM", "LayerNorm gain 1 + w, ReLU² without a gate"),
    Family("OLMo", "OlmoForCausalLM", "norm without parameters"),
    Family("OLMo 2", "Olmo2ForCausalLM", "norms after attention and MLP only", _POST_NORM),
    Family("OLMo 3", "Olmo3ForCausalLM", "as OLMo 2, sliding windows", _POST_NORM),
    Family("OLMoE", "OlmoeForCausalLM", "routed experts, normed queries"),
    Family("OPT", "OPTForCausalLM", "350m: projections, norms after each part, so not notebook 6"),
    Family("Phi", "PhiForCausalLM", "parallel block, unembedding bias", _BIAS),
    Family("Phi-3", "Phi3ForCausalLM", "fused W_QKV, fused gate"),
    Family("Qwen2", "Qwen2ForCausalLM", "biases of queries, keys and values"),
    Family("Qwen3", "Qwen3ForCausalLM", "normed queries and keys, head_dim of its own"),
    Family("Qwen3-MoE", "Qwen3MoeForCausalLM", "routed experts"),
    Family("Seed-OSS", "SeedOssForCausalLM", "head_dim of its own, attention biases"),
    Family("SmolLM3", "SmolLM3ForCausalLM", "no positions in every fourth layer"),
    Family("StableLM", "StableLmForCausalLM", "LayerNorm with a gated MLP, parallel or not"),
    Family("Starcoder2", "Starcoder2ForCausalLM", "grouped queries with biases, no gate"),
)
"""Families held by ``tests/families``."""


def check_architecture(config: Mapping[str, Any], title: str = "the model") -> None:
    """Refuse from ``config.json`` alone what can never be scored; nothing else need be there.

    What passes here is still admitted by its weights only (``analysis.models.admission``).
    """
    named = config.get("architectures")
    known = {family.architecture for family in FAMILIES}
    if isinstance(named, list) and named and named[0] in known and not config.get("kv_lora_rank"):
        return  # without importing transformers, which takes seconds

    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources.transformers import (
        get_hf_model_class_for_architecture,
    )
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    architecture = named[0] if isinstance(named, list) and named else None
    if architecture is None and isinstance(kind, str):
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    reason = refusal(str(architecture))
    if not reason and config.get("kv_lora_rank"):
        reason = _LATENT
    if not reason and architecture not in SUPPORTED_ARCHITECTURES:
        reason = "transformer_lens does not boot it"
    if not reason and kind not in CONFIG_MAPPING:
        reason = "transformers does not know it without code from its repository"
    if not reason and (
        architecture not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        or get_hf_model_class_for_architecture(str(architecture)) is not AutoModelForCausalLM
    ):
        reason = "it is not a causal language model"
    if reason:
        raise ArchitectureError(
            f"{title} is a {architecture or kind}: {reason}; use another model "
            "(`make families` lists those that are tested)."
        )


def families_table() -> pd.DataFrame:
    """The families that the tests hold.

    Returns:
        Text columns ``architecture``, ``special``, ``notebooks`` and ``not_run``, indexed by
        ``family``.
    """
    rows = [(f.name, f.architecture, f.special, f.notebooks, f.why_not) for f in FAMILIES]
    columns = ["family", "architecture", "special", "notebooks", "not_run"]
    return pd.DataFrame(rows, columns=columns).set_index("family")
