"""Run the libraries' own modules in float64, whatever dtype their weights have.

transformers computes norms, softmax, rotary positions and routers in float32 even where a model is
loaded in float64. ``Float64Mode`` watches every torch function that such code calls
(``torch.overrides.TorchFunctionMode``), gives it float64 copies of its less precise inputs (an
exact conversion), and reads a request for float32 or less as one for float64. So no architecture
is treated by name, weights keep their dtype, and other threads are not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

HELD_BYTES = 5 << 28
"""Float64 copies of weights that are kept from one use to the next; further weights are copied
for each use, so that large models need no more memory than this and their largest matrix. The
packaged model's weights fit."""
_LOWER = frozenset({torch.float32, torch.float16, torch.bfloat16})
_MOVES_ONLY = frozenset(
    {
        *("T", "mT", "t", "transpose", "permute", "swapaxes", "movedim"),
        *("view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
        *("__getitem__", "select", "index_select", "gather", "narrow", "chunk", "split", "unbind"),
        *("expand", "expand_as", "repeat", "repeat_interleave", "contiguous", "clone", "detach"),
        *("dim", "ndimension", "size", "stride", "numel", "is_floating_point", "is_contiguous"),
        *("get_device", "requires_grad_", "tolist"),
    }
)
"""Functions that compute nothing: a weight goes through them as it is, and is copied later."""


class Float64Mode(TorchFunctionMode):
    """Inside ``with Float64Mode():`` every torch function computes in float64."""

    def __init__(self, instead: Mapping[int, Tensor] | None = None, keep_bytes: int = 0) -> None:
        """Say what is to be kept.

        Args:
            instead: by ``id`` of a tensor, the float64 tensor that stands for it.
            keep_bytes: of float64 copies of weights, at most, that are kept from one use to the
                next; further weights are copied for each use, so that no more than this and the
                largest of them is held.
        """
        super().__init__()
        self.instead = dict(instead or {})
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._room = keep_bytes

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
        if name in ("__get__", "__set__"):  # attributes such as shape
            return func(*args, **kwargs)
        if name in _MOVES_ONLY and not any(id(a) in self.instead for a in args):
            return func(*args, **kwargs)
        if name in ("float", "half", "bfloat16"):
            return self._lift(args[0]).double()
        if name == "embedding":  # a table is not copied for the sake of some rows
            return self._lift(func(*args, **kwargs))
        # What is changed in place must be the caller's tensor, not a copy.
        first = args[:1] if name == "__setitem__" or _in_place(name) else ()
        args = first + tuple(self._lift(a) for a in args[len(first) :])
        kwargs = {
            key: value if key == "out" else self._lift(value) for key, value in kwargs.items()
        }
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.dtype in _LOWER and not first:
            return _again(func, args, kwargs, result)
        return result

    def _lift(self, value: Any) -> Any:
        """Tensors and dtypes, also in lists, in float64 instead of less."""
        if isinstance(value, Tensor):
            return self._double(value)
        if isinstance(value, torch.dtype):
            return torch.float64 if value in _LOWER else value
        if type(value) in (tuple, list):
            return type(value)(self._lift(v) for v in value)
        return value

    def _double(self, value: Tensor) -> Tensor:
        if id(value) in self.instead:
            return self.instead[id(value)]
        if value.dtype not in _LOWER:
            return value
        if not isinstance(value, torch.nn.Parameter):
            return value.double()
        if id(value) in self._kept:
            return self._kept[id(value)][1]
        copied = value.detach().double()
        if copied.nbytes <= self._room:
            self._room -= copied.nbytes
            self._kept[id(value)] = value, copied  # keeping the weight keeps its id
        return copied


def _in_place(name: str) -> bool:
    if name.endswith("__"):
        return name.startswith("__i") and name not in ("__index__", "__int__", "__invert__")
    return name.endswith("_")


def _again(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
) -> Tensor:
    """The result in float64 of a function that chose float32 itself, given integers or numbers."""
    doubled = tuple(
        a.double() if isinstance(a, Tensor) and not a.is_floating_point() else a for a in args
    )
    for again in ((doubled, kwargs), (args, kwargs | {"dtype": torch.float64})):
        try:
            found = func(*again[0], **again[1])
        except (TypeError, RuntimeError, IndexError):
            continue
        if isinstance(found, Tensor) and found.dtype == torch.float64:
            return found
    return result.double()
