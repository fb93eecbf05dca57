"""What a model's own norms do, in float64, found by running them.

A norm is asked, not described: whether it takes the mean away, whether its gain is w or 1 + w,
whether it has a bias. So no family's norm is written out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.architecture.float64 import Float64Mode

if TYPE_CHECKING:
    from analysis.architecture.readable import ReadableModel

_LARGE = 1e8
"""Size of the vectors that a norm is asked with; its epsilon is then below float64's rounding."""


@torch.no_grad()
def normalise(norm: Any, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """What a norm makes of float64 ``x``; ``x`` itself where the norm is None."""
    if norm is None:
        return x
    with Float64Mode():
        return torch.as_tensor(_module(norm)(x)).double()


def norm_parameters(
    model: ReadableModel, norm: Any, device: torch.device
) -> tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"] | None]:
    """Gain and bias of a norm in float64; None for a bias that is zero.

    The gain is what multiplies the normalised vector: w, 1 + w or 1, whichever the norm has. It is
    read off the norm's answers to a vector of +1 and −1 in turn and to its negative. ``norm`` is
    transformer_lens' component or transformers' module.
    """
    module = _module(norm)
    width = getattr(module, "weight", None)
    d_model = model.cfg.d_model if width is None else width.numel()
    signs = torch.ones(d_model, dtype=torch.float64, device=device)
    signs[1::2] = -1
    if d_model % 2:  # a mean of zero, so that the norm's size is known
        signs[-1] = 0
    size = signs.square().mean().sqrt()
    up = normalise(module, _LARGE * signs)
    down = normalise(module, -_LARGE * signs)
    gain, bias = (up - down) / 2 * signs * size, (up + down) / 2
    if d_model % 2:  # the last was asked nothing
        first = torch.zeros_like(signs)
        first[-1], first[0] = 1, -1
        there = normalise(module, _LARGE * first) - bias
        gain[-1] = there[-1] * first.square().mean().sqrt()
    return gain, bias if bool((bias.abs() > 1e-12 * gain.abs().max()).any()) else None


def takes_mean_away(model: ReadableModel, norm: Any) -> bool:
    """Whether a norm's answer stays the same when a constant is added to its input."""
    module = _module(norm)
    width = getattr(module, "weight", None)
    d_model = model.cfg.d_model if width is None else width.numel()
    x = torch.linspace(-1, 2, d_model, dtype=torch.float64) ** 2
    if width is not None:
        x = x.to(width.device)
    there, moved = normalise(module, x), normalise(module, x + 1)
    return bool(torch.allclose(there, moved, rtol=1e-6, atol=1e-9))


def centred(
    model: ReadableModel, x: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"]:
    """What the model's norms make of ``x`` before they scale it: LayerNorm takes the mean away."""
    return x if model.cfg.uses_rms_norm else x - x.mean(-1, keepdim=True)


def _module(norm: Any) -> Any:
    """The module of transformers behind a component of transformer_lens."""
    inner = getattr(norm, "original_component", None)
    return inner if isinstance(inner, nn.Module) else norm
