"""Checks of parameters that many functions take; each error names the parameter and its range."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from analysis.errors import ParameterError

HeadPair = tuple[int, int]
"""(layer, head), both counted from 0."""


def check_kind(name: str, value: object, kind: type, made_by: str) -> None:
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


def whole_number(
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


def check_heads(heads: Sequence[HeadPair], n_layers: int, n_heads: int) -> tuple[HeadPair, ...]:
    """The heads as pairs of ints in the order given, if each exists and none comes twice.

    Raises:
        ParameterError: otherwise, or if there is none.
    """
    try:
        checked = tuple((operator.index(layer), operator.index(head)) for layer, head in heads)
    except (TypeError, ValueError):
        raise ParameterError(
            f"heads must be a list of pairs, such as [(9, 9), (10, 0)], not {heads!r}."
        ) from None
    if not checked:
        raise ParameterError("no head is given: give at least one (layer, head).")
    if len(checked) > n_layers * n_heads:
        raise ParameterError(
            f"{len(checked)} heads are given, more than the {n_layers * n_heads} of the model."
        )
    absent = [
        f"{layer}.{head}"
        for layer, head in checked
        if not (0 <= layer < n_layers and 0 <= head < n_heads)
    ]
    if absent:
        raise ParameterError(
            f"no such head: {', '.join(absent)}; the model has layers 0 to {n_layers - 1} with "
            f"heads 0 to {n_heads - 1} each."
        )
    if twice := sorted({head for head in checked if checked.count(head) > 1}):
        raise ParameterError(f"a head can be given once; given more than once: {twice}.")
    return checked
