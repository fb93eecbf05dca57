"""Run the libraries' own modules in float64, whatever dtype their weights have.

transformers computes norms, softmax and routers in float32 even where a model is loaded in
float64. ``Float64Mode`` watches every torch function that such code calls, gives it float64 copies
of its less precise inputs (an exact conversion), and reads a request for float32 as one for
float64. Weights keep their dtype: one at a time is copied, for the product that it is used in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_LOWER = frozenset({torch.float32, torch.float16, torch.bfloat16})
_MOVES = frozenset(
    {
        *("T", "mT", "t", "transpose", "permute", "swapaxes", "movedim"),
        *("view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
        *("__getitem__", "select", "narrow", "chunk", "split", "unbind", "repeat_interleave"),
        *("expand", "expand_as", "contiguous", "detach", "requires_grad_"),
        *("dim", "size", "stride", "numel", "is_floating_point"),
    }
)
"""Functions that compute nothing: a weight goes through them as it is."""
_NEW = frozenset(
    {
        *("zeros", "ones", "full", "empty", "arange"),
        *("zeros_like", "ones_like", "full_like", "empty_like"),
    }
)
"""Functions that choose a dtype themselves."""


class Float64Mode(TorchFunctionMode):
    """Inside ``with Float64Mode():`` every torch function computes in float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` with what it is given in float64."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__") or name in _MOVES:  # attributes and views
            return func(*args, **kwargs)
        if name in ("float", "half", "bfloat16"):
            return args[0].double()
        if name == "embedding":  # a table is not copied for the sake of some rows
            return _lifted(func(*args, **kwargs))
        # What a function changes in place must be the caller's tensor, not a copy of it.
        kept = 1 if name.endswith("_") or name.startswith("__i") or name == "__setitem__" else 0
        args = args[:kept] + tuple(_lifted(a) for a in args[kept:])
        result = func(*args, **{key: _lifted(value) for key, value in kwargs.items()})
        if name in _NEW and isinstance(result, Tensor) and result.dtype in _LOWER:
            return result.double()
        return result


def _lifted(value: Any) -> Any:
    """Tensors and dtypes, also in lists, in float64 where they are less."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype in _LOWER else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _LOWER else value
    if type(value) in (tuple, list):
        return type(value)(_lifted(v) for v in value)
    return value
