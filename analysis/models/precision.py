"""Forward passes in float64 throughout, the same on every processor and under every setting.

In float32 the logits of one model differ by up to 1e-4 from one processor to another, which is
enough to turn an answer such as "is the name the head's largest logit?". Loading a model in
float64 is not enough: its softmax, RMSNorm and rotary positions still ask for float32.

``exact_forward`` changes neither the weights nor the model's code. It runs the model under
``Float64Mode`` and replaces buffers that a module computed in float32 from its configuration, such
as rotary frequencies, by the same buffers computed in float64. Another thread may run the same
model in float32 meanwhile. What is left between processors is float64's own rounding, below 1e-12
of the result.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.architecture.float64 import HELD_BYTES, Float64Mode
from analysis.errors import ArchitectureError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MARGIN = 1e-10
"""A logit that leads by less than this share of its possible size is a tie: see ``OV.margin``.
A thousand times what float64 leaves between processors."""

_LOCK = threading.RLock()
"""Hooks are the model's and not a thread's, so that passes take turns."""
_ACTIVE: ContextVar[object] = ContextVar("model of the innermost exact_forward", default=None)


@contextmanager
def exact_forward(model: TransformerBridge) -> Iterator[None]:
    """Run what is called inside in float64, whatever the settings of torch outside.

    Autocast, gradients, the default device, the default dtype and ``set_float32_matmul_precision``
    have no effect inside, and are outside as they were. Passes of several threads take turns, on
    whatever models. Inside itself it does nothing more. The weights may be of any floating dtype;
    a model on mps, which has no float64, is refused.
    """
    if next(model.original_model.parameters()).device.type == "mps":
        raise ArchitectureError(
            f"{model.cfg.model_name} is on mps, which has no float64; load it with device='cpu'."
        )
    if _ACTIVE.get() is model:
        yield
        return
    with _LOCK, plain_settings(), ExitStack() as stack:
        modules = dict(_computed_buffers(model.original_model))
        # Some rotary modules replace their buffers as they run.
        for module, buffers in modules.items():
            for name, buffer in buffers.items():
                stack.callback(setattr, module, name, buffer)
        stack.enter_context(Float64Mode(_recomputed(modules), HELD_BYTES))
        token = _ACTIVE.set(model)
        stack.callback(_ACTIVE.reset, token)
        yield


@contextmanager
def plain_settings() -> Iterator[None]:
    """Compute without autocast, gradients and another default device.

    For what is derived from forward passes: products and comparisons that name their own dtypes.
    Only settings of the calling thread are changed. Float32 products need ``full_float32`` too.
    """
    # A default device is a mode that sees every call of torch: only where another one is set.
    cpu = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    with (
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        torch.no_grad(),
        cpu,
    ):
        yield


def is_largest(
    own: Float[Tensor, "*shape"], logits: Float[Tensor, "*shape d_vocab"]
) -> tuple[Bool[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
    """Whether a token of each row has the largest float64 logit, and where that is a near-tie.

    Returns:
        Whether no logit is larger by more than ``MARGIN`` of the largest; and whether that holds
        and another token is as near.
    """
    largest = logits.amax(-1)
    room = MARGIN * largest.abs()
    first = own >= largest - room
    return first, first & ((logits >= (own - room)[..., None]).sum(-1) > 1)


def _computed_buffers(
    model: torch.nn.Module,
) -> Iterator[tuple[torch.nn.Module, dict[str, Tensor]]]:
    """Modules that own floating buffers which no checkpoint holds, and these buffers."""
    for module in model.modules():
        own = dict(module.named_buffers(recurse=False))
        saved = module.state_dict() if own else {}
        computed = {n: b for n, b in own.items() if n not in saved and b.is_floating_point()}
        if computed:
            yield module, computed


def _recomputed(modules: Mapping[torch.nn.Module, Mapping[str, Tensor]]) -> dict[int, Tensor]:
    """By ``id`` of each such buffer, the buffer of a fresh module that computes it in float64."""
    made: dict[tuple[Any, ...], Mapping[str, Tensor]] = {}
    instead = {}
    for module, buffers in modules.items():
        config = getattr(module, "config", None)
        key = (type(module), id(config), tuple(sorted(buffers)))
        if key not in made:
            made[key] = _fresh_buffers(module, config)
        for name, buffer in buffers.items():
            fresh = made[key].get(name)
            # A buffer that was set otherwise, by hand or while it ran, is what the model uses.
            rtol = 1e-2 if buffer.dtype in (torch.float16, torch.bfloat16) else 1e-5
            if fresh is not None and fresh.shape == buffer.shape:
                fresh = fresh.to(buffer.device)
                if torch.allclose(fresh, buffer.double(), rtol=rtol):
                    instead[id(buffer)] = fresh
    return instead


def _fresh_buffers(module: torch.nn.Module, config: Any) -> dict[str, Tensor]:
    """Buffers of a new module of the same class and configuration, made in float64."""
    parameters = inspect.signature(type(module)).parameters
    known = {"config": config, "layer_idx": getattr(module, "layer_idx", None)}
    needed = [n for n, p in parameters.items() if p.default is p.empty]
    if config is None or not set(needed) <= set(known):
        return {}
    # Modules with weights draw them at random, which must not show outside.
    with torch.random.fork_rng(devices=[]), Float64Mode():
        fresh = type(module)(**{name: known[name] for name in needed})
    return {name: b for name, b in fresh.named_buffers(recurse=False) if b.dtype == torch.float64}
