"""Checks of parameters that many functions take; each error names the parameter and its range."""

from __future__ import annotations

import glob
import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.errors import ParameterError

MAX_NAME = 255
"""Bytes of a file's name that every usual file system takes."""
MAX_PATH = 4096
MAX_SEED = 2**63 - 1
_SHOWN = 80


def shown(value: object) -> str:
    """A value as an error shows it: short, on one line, and never failing."""
    try:
        text = repr(value)
    except Exception:  # a value whose own repr fails is still to be refused by name
        text = f"a {type(value).__name__}"
    text = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def listed(texts: Sequence[str], limit: int) -> str:
    """Texts in one line, ``a, b and 3 more`` where there are more than the limit."""
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def check_type(name: str, value: object, kind: type, made_by: str) -> None:
    """Refuse what is not of a kind."""
    if not isinstance(value, kind):
        raise ParameterError(
            f"{name} must be what {made_by} returns, not a {type(value).__name__}."
        )


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ParameterError(f"{name} must be one of {', '.join(choices)}, not {shown(value)}.")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name} must be True or False, not {shown(value)}.")


def check_text(name: str, value: object, what: str = "text") -> str:
    """``value`` as text that can be encoded and written."""
    if not isinstance(value, str):
        raise ParameterError(f"{name} must be {what}, not {shown(value)}.")
    if "\0" in value or not is_unicode(value):
        raise ParameterError(
            f"{name} holds NUL or half a character, so it is no text: {shown(value)}."
        )
    return str(value)


def is_unicode(text: str) -> bool:
    """Whether text can be encoded: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_path(name: str, value: Any) -> Path:
    """``value`` as a path, with ``~`` expanded."""
    try:
        text: object = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text.strip():
        raise ParameterError(f"{name} must be a path, not {shown(value)}.")
    check_text(name, text)
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ParameterError(f"{name} names no known user: {shown(text)}.") from None
    if len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(p)) > MAX_NAME for p in path.parts):
        raise ParameterError(f"{name} is longer than a file's name can be: {shown(text)}.")
    return path


def fitting_folders(pattern: str) -> list[str]:
    """The folder of that path or, if there is none, those that fit it as a pattern.

    ``*`` and ``?`` stand for other characters, and nothing else does; ``~`` is expanded.
    """
    path = os.path.expanduser(pattern)
    fitting = [path] if os.path.isdir(path) else glob.glob(path.replace("[", "[[]"))
    return [folder for folder in fitting if os.path.isdir(folder)]


def is_file_name(name: object) -> bool:
    """Whether ``name`` is the plain name of a file, leading to no other folder."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not set(name) & set("/\\\0:")
        and is_unicode(name)
        and len(name.encode()) <= MAX_NAME
    )


def check_model(model: object, parts: Sequence[str] = ("cfg", "blocks", "tokenizer")) -> None:
    """Refuse what is no loaded model, or lacks one of these parts."""
    if not all(hasattr(model, part) for part in parts):
        raise ParameterError(
            f"a model is needed, such as load_model('gpt2') returns, not a {type(model).__name__}."
        )
    if "tokenizer" in parts and getattr(model, "tokenizer", None) is None:
        raise ParameterError("the model has no tokenizer: load it again with load_model.")


def check_int(
    name: str, value: Any, least: int = 1, most: int | None = None, what: str = ""
) -> int:
    """``value`` as an int in a range; numpy's and torch's whole numbers count.

    ``what`` says in the error what the largest is.
    """
    try:
        whole = operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # a tensor of several numbers: any of them
        whole = least - 1
    if _is_flag(value) or whole < least or (most is not None and whole > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        reason = f" ({what})" if what else ""
        raise ParameterError(
            f"{name} must be a whole number {allowed}{reason}, not {shown(value)}."
        )
    return int(whole)


def check_seed(value: Any) -> int:
    """``value`` as a seed that numpy and torch take."""
    return check_int("seed", value, 0, MAX_SEED, "the largest that torch takes")


def check_number(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf, what: str = ""
) -> float:
    """``value`` as a finite float in a range; numpy's and torch's numbers count."""
    number = math.nan
    if not isinstance(value, (str, bytes, bytearray)) and not _is_flag(value):
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            number = math.nan
    if not math.isfinite(number) or not least <= number <= most:
        allowed = (
            f"from {least:g} to {most:g}"
            if math.isfinite(least) and math.isfinite(most)
            else f"of at least {least:g}"
            if math.isfinite(least)
            else "that is finite"
        )
        reason = f" ({what})" if what else ""
        raise ParameterError(f"{name} must be a number {allowed}{reason}, not {shown(value)}.")
    return number


def _is_flag(value: object) -> bool:
    """Whether a value is True or False, Python's or another library's."""
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))


def check_list(name: str, value: object, of: str = "values") -> list[Any]:
    """``value`` as a list: lists, tuples, generators, arrays, tensors and Series are.

    Text, mappings and frames are none.
    """
    many_columns = getattr(value, "ndim", 1) != 1 and not isinstance(value, Sequence)
    if (
        isinstance(value, (str, bytes, bytearray, Mapping))
        or many_columns
        or not isinstance(value, Iterable)
    ):
        raise ParameterError(f"{name} must be a list of {of}, not {shown(value)}.")
    to_list = getattr(value, "tolist", None)
    return list(to_list() if callable(to_list) else value)
