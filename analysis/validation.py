"""Checks of parameters that many functions take; each error names the parameter and its range."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from analysis.errors import ParameterError


def check_type(name: str, value: object, kind: type, made_by: str) -> None:
    """Refuse what is not of a kind.

    Raises:
        ParameterError: names what was expected, and what makes it.
    """
    if not isinstance(value, kind):
        raise ParameterError(
            f"{name} must be what {made_by} returns, not a {type(value).__name__}."
        )


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices.

    Raises:
        ParameterError: lists them.
    """
    if value not in choices:
        raise ParameterError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        ParameterError: names the parameter.
    """
    if not isinstance(value, bool):
        raise ParameterError(f"{name} must be True or False, not {value!r}.")


def check_model(model: object, parts: Sequence[str] = ("cfg", "blocks", "tokenizer")) -> None:
    """Refuse what is no loaded model, or lacks one of these parts.

    Raises:
        ParameterError: says how to load one.
    """
    if not all(hasattr(model, part) for part in parts):
        raise ParameterError(
            f"a model is needed, such as load_model('gpt2') returns, not a {type(model).__name__}."
        )


def check_int(
    name: str, value: int, least: int = 1, most: int | None = None, what: str = ""
) -> int:
    """``value`` as an int in a range.

    Args:
        name: of the parameter.
        value: what was given for it.
        least: the smallest allowed.
        most: the largest allowed; any if None.
        what: what the largest is, for the error.

    Raises:
        ParameterError: it is not a whole number, or outside the range.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = least - 1
    if isinstance(value, bool) or whole < least or (most is not None and whole > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        reason = f" ({what})" if what else ""
        raise ParameterError(f"{name} must be a whole number {allowed}{reason}, not {value!r}.")
    return whole
