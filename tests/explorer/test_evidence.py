"""Every measured number is what its own line of Python returns, and every view has both panels."""

from __future__ import annotations

import ast
import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load_names, score_heads
from analysis.dynamic.scores import dynamic_scores
from analysis.explorer.cards import card_of
from analysis.explorer.evidence import MEASUREMENTS, Evidence, measure, measure_all, views_of
from analysis.explorer.results import Results, collect
from analysis.ioi.measured_classes import measured_classes
from analysis.prompts.indirect_object import OBJECTS, PLACES
from analysis.prompts.templates import TEMPLATES
from tests import checkpoints, ioi_models, planted

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


def test_rows_that_pad_the_vocabulary_are_not_drawn() -> None:
    tokenizer = checkpoints.make_tokenizer(planted.NAMES)
    padded = planted.boot(checkpoints.llama_model(len(tokenizer) + 30), tokenizer)
    scores = collect(padded, list(planted.NAMES)).scores
    evidence = measure(padded, scores, "vocabulary")
    assert evidence.measures[0].note.startswith(f"share of {len(tokenizer)} tokens")


def test_the_notes_say_what_was_asked(
    model: Any, found: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = found.evidence.column("dynamic_with_copying_score").note
    n = min(60, found.scores.n_pairs)
    assert note == f"mean over {len(TEMPLATES)} templates, {n} names, k = 1"
    fewer = functools.partial(dynamic_scores, templates=TEMPLATES[:2])
    monkeypatch.setattr("analysis.dynamic.scores.dynamic_scores", fewer)
    again = measure(model, found.scores.at_k(2), "dynamic").column("dynamic_with_copying_score")
    assert again.note == f"mean over 2 templates, {n} names, k = 2"
    null = found.evidence.column("copying_score_q").note
    assert null.endswith(f"{found.scores.n_pairs} names, k = 1, first MLP on")
