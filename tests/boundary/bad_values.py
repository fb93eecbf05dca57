"""A grammar of bad values: what a notebook, a script or a damaged file may hand to a function."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import torch

_TEXTS: tuple[str, ...] = ("", " ", "\0", "a\0b", "\ud800", "x\udfff", "../x", "/", "~nobody9")
_TEXTS += ("None", "nan", "<X>")
_TEXTS += ("{", "{A}", "%s", "$HOME", "#", "'", '"', "\\", "a" * 300, "a/" * 3000, "é" * 5000)
TEXTS = st.one_of(st.sampled_from(_TEXTS), st.text(max_size=20))
_NUMBERS: tuple[Any, ...] = (0, -1, 1, 2, 10**6, 10**30, -(10**30), True, False, 0.5, -0.0, 1e-320)
_NUMBERS += (1e308, math.nan, math.inf, -math.inf, 1 + 2j, np.int64(-1), np.int8(3))
_NUMBERS += (np.float32("nan"), np.bool_(True), np.uint64(2**64 - 1))
NUMBERS = st.one_of(st.sampled_from(_NUMBERS), st.integers(-(2**70), 2**70), st.floats())
ATOMS = st.one_of(
    st.none(),
    TEXTS,
    NUMBERS,
    st.binary(max_size=8),
    st.sampled_from([object(), int, len, Ellipsis, NotImplemented, Path("/nowhere"), Path()]),
)
ARRAYS = st.sampled_from(
    [
        np.zeros(0), np.zeros((2, 3)), np.array(3), np.array(["a", "b"]), np.array([None, 1]),
        torch.zeros(0), torch.zeros(2, 2), torch.tensor(1), torch.tensor(math.nan),
        torch.tensor([1, 2]), torch.zeros(1, dtype=torch.bool),
        pd.Series([1, None]), pd.Series(["Mary"]), pd.Series([], dtype=float),
        pd.DataFrame({"name": ["Mary"]}), pd.DataFrame(), pd.NA, pd.NaT, pd.Timestamp(0),
    ]
)  # fmt: skip
PINNED: tuple[Any, ...] = (
    None, True, "", " ", "\0", "\ud800", "../x", "a" * 300, "é" * 5000, "1", 0, -1, 1, 2,
    10**6, 10**30, -(10**30), 0.5, math.nan, math.inf, 1 + 2j, np.int64(2),
    np.float32("nan"), np.bool_(True), b"x", object(), Ellipsis, Path("/nowhere"), [], [()],
    [None], ["Mary", 3], [(0, 0)], [[0, True]], [(10**30, 0)], [{}], {}, {"a": object()},
    {"k": math.nan}, [[[]]], np.zeros((2, 3)), np.array(3), np.array([None, 1]),
    torch.zeros(2, 2), torch.tensor(1), torch.tensor([1, 2]), pd.Series([1, None]),
    pd.Series(["Mary"]), pd.DataFrame({"name": ["Mary"]}), pd.NA, pd.Timestamp(0), range(3),
    {1, 2}, np.random.default_rng(0), "http://a:b@c", "a\nb",
)  # fmt: skip
"""One value of each kind, thrown at every parameter each time."""

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(ATOMS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
        st.lists(inner, max_size=3).map(iter),
    ),
    max_leaves=6,
)
"""Any of it, alone or in containers."""

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def json_files(draw: st.DrawFn, whole: dict[str, Any]) -> bytes:
    """A JSON file with one field changed, dropped or nested, or bytes that are no JSON."""
    kind = draw(st.sampled_from(["changed", "changed", "dropped", "deep", "bytes", "cut"]))
    text = json.dumps(whole)
    if kind == "changed":
        field = draw(st.one_of(st.sampled_from(sorted(whole)), st.text(max_size=5)))
        text = json.dumps(whole | {field: draw(JSON_VALUES)})
    elif kind == "dropped":
        field = draw(st.sampled_from(sorted(whole)))
        text = json.dumps({key: value for key, value in whole.items() if key != field})
    elif kind == "deep":
        depth = draw(st.sampled_from([3, 100, 50_000]))
        text = '{"a":' * depth + "1" + "}" * depth
    elif kind == "cut":
        text = text[: draw(st.integers(0, len(text)))]
    else:
        return draw(st.binary(max_size=60))
    return text.encode("utf-8", "surrogatepass")


def csv_files() -> st.SearchStrategy[bytes]:
    """Tables with rows of other lengths, stray quotes, NUL and bytes that are no text."""
    cells = st.one_of(
        st.sampled_from(["Mary", "John", "", '"', '"a', "a,b", "\0", "\ud800", ";", "NA", "name"]),
        st.text(max_size=6),
    )
    rows = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=5)
    tables = rows.map(lambda lines: "\n".join(["name", *lines]).encode("utf-8", "surrogatepass"))
    return st.one_of(tables, st.binary(max_size=80), tables.map(lambda t: b"\xff\xfe" + t))
