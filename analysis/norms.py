"""LayerNorm and RMSNorm in float64, as the model's own norms define them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def normalise(
    model: TransformerBridge, norm: Any, x: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"]:
    """LayerNorm or RMSNorm of float64 ``x``; Hugging Face's RMSNorm falls back to float32."""
    gain, bias = norm_parameters(model, norm, x.device)
    eps = float(model.cfg.eps)
    if model.cfg.uses_rms_norm:
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gain
    return torch.nn.functional.layer_norm(x, gain.shape, gain, bias, eps)


def norm_parameters(
    model: TransformerBridge, norm: Any, device: torch.device
) -> tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"] | None]:
    """Gain and bias of a norm in float64; RMSNorm has no bias."""
    gain = norm.weight.detach().to(device).double()
    if model.cfg.uses_rms_norm or norm.bias is None:
        return gain, None
    return gain, norm.bias.detach().to(device).double()


def centred(
    model: TransformerBridge, x: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"]:
    """What the model's norms make of ``x`` before they scale it: LayerNorm takes the mean away."""
    return x if model.cfg.uses_rms_norm else x - x.mean(-1, keepdim=True)
