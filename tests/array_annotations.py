"""jaxtyping's annotations, checked while the tests run.

``tests/conftest.py`` gives every function and dataclass of ``analysis`` to ``checked``: a tensor of
another shape or dtype than annotated fails the test that made it. Other annotations are left to
mypy, so that tests of bad input still meet the package's own errors.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isclass
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


def check_package(name: str) -> None:
    """Check the arrays of every module of a package that is imported from now on."""
    install_import_hook(name, f"{checked.__module__}.{checked.__qualname__}")
