"""jaxtyping's annotations, checked while the tests run.

``tests/conftest.py`` gives every function and dataclass of ``analysis`` to ``checked``: a tensor of
another shape or dtype than annotated fails the test that made it. Other annotations are left to
mypy, so that tests of bad input still meet the package's own errors.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from inspect import isclass
from pathlib import Path
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook


def holds_array(annotation: object) -> bool:
    """Whether a jaxtyping annotation is part of this one."""
    if isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(holds_array(part) for part in get_args(annotation))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its array annotations checked and the others not."""
    function.__annotations__ = {
        name: annotation if holds_array(annotation) else Any
        for name, annotation in function.__annotations__.items()
    }
    return beartype(function)


def annotated_modules(name: str) -> list[str]:
    """The modules of a package that annotate arrays; the others need no wrapper, which costs."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return [name]
    root = Path(next(iter(spec.submodule_search_locations)))
    files = [f for f in sorted(root.rglob("*.py")) if "jaxtyping" in f.read_text(encoding="utf-8")]
    return [".".join((name, *file.relative_to(root).with_suffix("").parts)) for file in files]


def check_package(name: str) -> None:
    """Check the arrays of every module of a package that is imported from now on."""
    install_import_hook(annotated_modules(name), f"{checked.__module__}.{checked.__qualname__}")
