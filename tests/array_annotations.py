"""jaxtyping's annotations, checked while the tests run.

``tests/conftest.py`` has every function and dataclass of ``analysis`` that annotates an array
wrapped in ``checking``: a tensor of another shape or dtype than annotated fails the test that made
it. Other annotations are left to mypy, so that tests of bad input still meet the package's own
errors.

A check depends on nothing but types, dtypes and shapes, so that arrays like those of an earlier
call of the same function, all of them, are not checked again: small functions are called often.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from importlib.util import find_spec
from inspect import CO_VARKEYWORDS, isclass
from pathlib import Path
from types import CodeType
from typing import Any, get_args

import jaxtyping
import numpy as np
import torch
from beartype.door import is_bearable
from jaxtyping import AbstractArray, TypeCheckError, install_import_hook, jaxtyped

_RETURN = "return"
_ARRAYS = (torch.Tensor, torch.nn.Parameter, np.ndarray)
_PLAIN = (type(None), bool, int, float, str)
_HINTS: dict[CodeType, dict[str, Any]] = {}
"""By code, so that a function within another is looked at once, however often it is made."""


def holds_array(annotation: object) -> bool:
    """Whether a jaxtyping annotation is part of this one."""
    if isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(holds_array(part) for part in get_args(annotation))


def array_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function that have an array in them, by parameter or ``return``."""
    code: CodeType = function.__code__
    if code not in _HINTS:
        known = function.__globals__
        hints = {name: _evaluated(a, known) for name, a in function.__annotations__.items()}
        _HINTS[code] = {name: hint for name, hint in hints.items() if holds_array(hint)}
    return _HINTS[code]


def _evaluated(annotation: object, known: dict[str, Any]) -> object:
    """An annotation; Any where a name of it is not known (yet)."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, known)
    except Exception:
        return Any


def _kind(value: object) -> object:
    """What a check of the value depends on; None where that is not known in short."""
    kind: Any = type(value)
    if kind in _ARRAYS:
        array: Any = value
        return kind, array.dtype, array.shape
    return kind if kind in _PLAIN else None


def _check(
    qualname: str, hints: dict[str, Any], others: str | None, values: dict[str, Any]
) -> None:
    """Hold values against their annotations, a name of an axis meaning one length in all.

    Args:
        qualname: of the function.
        hints: by parameter.
        others: the parameter whose annotation holds for all names without one.
        values: by parameter.
    """
    with jaxtyped("context"):
        for name, value in values.items():
            hint = hints[name] if name in hints else hints[str(others)]
            if not is_bearable(value, hint):
                shape, dtype = (getattr(value, a, "") for a in ("shape", "dtype"))
                sizes = {n: tuple(getattr(v, "shape", ())) for n, v in values.items()}
                raise TypeCheckError(
                    f"{qualname}: {name} is a {type(value).__name__} {shape} {dtype}, annotated as "
                    f"{hint}; all shapes: {sizes}"
                )


def checking(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its array annotations checked; itself where it has none."""
    hints = array_hints(function)
    if not hints:
        return function
    code: CodeType = function.__code__
    places = [
        (place, name)
        for place, name in enumerate(code.co_varnames[: code.co_argcount])
        if name in hints
    ]
    n_named = code.co_argcount + code.co_kwonlyargcount
    named = code.co_varnames[:n_named]
    rest = code.co_varnames[n_named : n_named + 2]  # of *args and **kwargs
    others = next((name for name in rest if name in hints and code.co_flags & CO_VARKEYWORDS), None)
    assert {*named, _RETURN, others} >= {*hints}, f"{function.__qualname__}: *args of arrays"
    passed: set[tuple[object, ...]] = set()

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = {name: args[place] for place, name in places if place < len(args)}
        for name, value in kwargs.items():
            if name in hints or (others is not None and name not in named):
                given[name] = value
        kinds = (*given, *map(_kind, given.values()))
        if None in kinds or kinds not in passed:
            _check(function.__qualname__, hints, others, given)
            passed.add(kinds)
        result = function(*args, **kwargs)
        if _RETURN in hints:
            both = (*kinds, _RETURN, _kind(result))
            if None in both or both not in passed:
                _check(function.__qualname__, hints, others, given | {_RETURN: result})
                passed.add(both)
        return result

    return wrapper


def checking_all(decorated: Any = None, *, typechecker: Any = None) -> Any:
    """Stands for ``jaxtyping.jaxtyped``, with which the import hook decorates what it meets."""
    if decorated is None:
        return checking_all
    if not isclass(decorated):
        return checking(decorated)
    if dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated):
        made: Any = decorated
        made.__init__ = checking(made.__init__)
    return decorated


def annotated_modules(name: str) -> list[str]:
    """The modules of a package that annotate arrays."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return [name]
    root = Path(next(iter(spec.submodule_search_locations)))
    files = [f for f in sorted(root.rglob("*.py")) if "jaxtyping" in f.read_text(encoding="utf-8")]
    return [".".join((name, *file.relative_to(root).with_suffix("").parts)) for file in files]


def check_package(name: str) -> None:
    """Check the arrays of every module of a package that is imported from now on."""
    jaxtyping.jaxtyped = checking_all  # type: ignore[assignment]
    install_import_hook(annotated_modules(name), f"{checking.__module__}.{checking.__qualname__}")
