"""Limits that some models put on queries, keys and values: OLMo, OLMoE, MPT."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor


def clip_values(model: Any, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values x·W_V + b_V as the attention mixes them: none is larger than the model's ``clip_qkv``.

    The value hooks of a TransformerBridge come before the limit.
    """
    config = model.original_model.config
    inner = getattr(config, "attn_config", None)
    limit = getattr(config, "clip_qkv", None) or getattr(inner, "clip_qkv", None)
    return values if limit is None else values.clamp(-limit, limit)
