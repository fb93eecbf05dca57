"""Every measured number is what its own line of Python returns, and every view has both panels."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load_names, score_heads
from analysis.explorer.cards import card_of
from analysis.explorer.evidence import MEASUREMENTS, Evidence, measure_all, views_of
from analysis.explorer.results import Results, collect
from analysis.ioi.measured_classes import measured_classes
from analysis.prompts.indirect_object import OBJECTS, PLACES
from tests import ioi_models

WORDS = [*ioi_models.NAMES, *PLACES, *OBJECTS]
FRAME_COLUMN = {"vocabulary_copied": "copied", "vocabulary_suppressed": "suppressed"}


@pytest.fixture(scope="module")
def model() -> Any:
    return ioi_models.planted_bridge()


@pytest.fixture(scope="module")
def found(model: Any) -> Results:
    results = collect(model, WORDS)
    return results.with_evidence(measure_all(model, results.scores))


def returned(lines: str, scope: dict[str, Any]) -> pd.DataFrame:
    """The value of the last of some lines of Python."""
    *before, last = ast.parse(lines).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(before, []), "lines", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "lines", "eval"), scope)


def test_each_number_is_what_its_lines_return(model: Any, found: Results) -> None:
    scope = {
        "model": model,
        "names": load_names(model, WORDS),
        "scores": score_heads(model, WORDS),
    }
    frames: dict[str, pd.DataFrame] = {}
    assert set(found.evidence.done) == set(MEASUREMENTS)
    assert {one.group for one in found.evidence.measures} == {
        one.group for one in MEASUREMENTS.values()
    }
    for one in found.evidence.measures:
        if one.python not in frames:
            frames[one.python] = returned(one.python, scope)
        frame, column = frames[one.python], FRAME_COLUMN.get(one.key, one.key)
        if one.group == "dynamic":
            _, context, column = one.key.split("_", 2)
            frame = frame.xs(context, level="context")
        np.testing.assert_array_equal(one.values, frame[column].to_numpy(), one.key)
        for end, values in (("low", one.low), ("high", one.high)):
            if values is not None:
                np.testing.assert_array_equal(values, frame[f"{column}_{end}"].to_numpy(), one.key)
        for head in ((0, 0), (1, 0), (2, 1)):
            row = card_of(model, head, found).table.loc[one.key]
            assert row["value"] == pytest.approx(frame.loc[head, column], abs=0, nan_ok=True)


def test_every_view_is_offered_once_all_is_measured(found: Results) -> None:
    views = views_of(found.evidence, copying=True)
    assert [view["key"] for view in views] == [
        "static", "without", "with", "vocabulary", "effects", "copy", "attention"
    ]  # fmt: skip
    keys = {one.key for one in found.evidence.measures}
    assert {view[side] for view in views[1:] for side in ("left", "right")} <= keys
    assert len(views_of(Evidence(), copying=True)) == 1


def test_the_classes_are_the_measured_ones(model: Any, found: Results) -> None:
    assert found.evidence.classes is not None
    expected = measured_classes(model)["class"]
    assert found.evidence.classes["class"].to_dict() == expected.to_dict()
    assert expected.loc[(1, 0)] == "name mover"
