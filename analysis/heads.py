"""Attention heads as (layer, head) pairs: checking, choosing, naming and indexing them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from analysis.errors import ParameterError
from analysis.validation import check_int, listed, shown

if TYPE_CHECKING:
    from analysis.architecture.readable import ReadableModel

HeadPair = tuple[int, int]
"""(layer, head), both counted from 0."""


def head_name(layer: int, head: int) -> str:
    """``layer.head``, as the papers write it."""
    return f"{layer}.{head}"


def all_heads(n_layers: int, n_heads: int) -> tuple[HeadPair, ...]:
    """Every (layer, head), layer by layer."""
    return tuple((layer, head) for layer in range(n_layers) for head in range(n_heads))


def head_index(heads: Iterable[HeadPair]) -> pd.MultiIndex:
    """Heads as the index of a frame, with the levels ``layer`` and ``head``."""
    return pd.MultiIndex.from_tuples(list(heads), names=["layer", "head"])


def head_pairs(index: pd.Index) -> list[HeadPair]:
    """The (layer, head) of a frame's index, as whole numbers."""
    return [(int(layer), int(head)) for layer, head in index.to_list()]


def listed_heads(heads: pd.Index, limit: int = 8) -> str:
    """Heads by name, ``9.6, 10.0 and 3 more`` where there are more than the limit."""
    return listed([head_name(*head) for head in heads], limit)


def check_heads(
    heads: Iterable[HeadPair], n_layers: int, n_heads: int, *, none_ok: bool = False
) -> tuple[HeadPair, ...]:
    """The heads as pairs of ints in the order given, if each exists and none comes twice.

    The numbers may be numpy's or torch's.
    """
    try:
        checked = tuple((_whole(layer), _whole(head)) for layer, head in heads)
    except (TypeError, ValueError, ParameterError):
        if isinstance(heads, list) and len(heads) == 1:
            raise ParameterError(
                f"a head is (layer, head), such as (23, 2), not {shown(heads[0])}."
            ) from None
        raise ParameterError(
            f"heads must be a list of pairs, such as [(9, 9), (10, 0)], not {shown(heads)}."
        ) from None
    if not checked and none_ok:
        return ()
    if not checked:
        raise ParameterError("no head is given: give at least one (layer, head).")
    if len(checked) > n_layers * n_heads:
        raise ParameterError(
            f"{len(checked)} heads are given, more than the {n_layers * n_heads} of the model."
        )
    absent = [
        head_name(layer, head)
        for layer, head in checked
        if not (0 <= layer < n_layers and 0 <= head < n_heads)
    ]
    if absent:
        raise ParameterError(
            f"no such head: {', '.join(absent[:9])}; the model has layers 0 to {n_layers - 1} with "
            f"heads 0 to {n_heads - 1} each."
        )
    if twice := sorted({head for head in checked if checked.count(head) > 1}):
        raise ParameterError(f"a head can be given once; given more than once: {twice}.")
    return checked


def check_head(head: HeadPair, n_layers: int, n_heads: int) -> HeadPair:
    """One head as a pair of ints, if it exists (:func:`check_heads`)."""
    return check_heads([head], n_layers, n_heads)[0]


def _whole(value: object) -> int:
    """A whole number of any size and sign; True and False are none."""
    return check_int("a layer or head", value, -(1 << 70))


def chosen_heads(model: ReadableModel, heads: Iterable[HeadPair] | None) -> tuple[HeadPair, ...]:
    """The (layer, head) pairs in ascending order; all of the model's if None."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    if heads is None:
        return all_heads(n_layers, n_heads)
    return tuple(sorted(check_heads(heads, n_layers, n_heads)))
