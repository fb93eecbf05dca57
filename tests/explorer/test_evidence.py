"""Every measured number is what its own line of Python returns, and every view has both panels."""

from __future__ import annotations

import ast
import functools
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load_names, score_heads
from analysis.dynamic.scores import dynamic_scores
from analysis.errors import ParameterError
from analysis.explorer.cards import card_of
from analysis.explorer.evidence import Evidence, views_of
from analysis.explorer.measuring import MEASUREMENTS, first_evidence, measure, measure_all
from analysis.explorer.results import Results, collect
from analysis.explorer.widget import explore
from analysis.ioi.measured_classes import measured_classes
from analysis.prompts.indirect_object import OBJECTS, PLACES
from analysis.prompts.templates import TEMPLATES
from tests import checkpoints, ioi_models, planted
from tests.families.tiny import tiny_model

WORDS = [*ioi_models.NAMES, *PLACES, *OBJECTS]
FRAME_COLUMN = {"vocabulary_copied": "copied", "vocabulary_suppressed": "suppressed"}


@pytest.fixture(scope="module")
def model() -> Any:
    return ioi_models.planted_bridge()


@pytest.fixture(scope="module")
def found(model: Any) -> Results:
    results = collect(model, WORDS)
    return results.with_evidence(measure_all(model, results.scores))


@pytest.mark.slow
def test_what_an_architecture_does_not_allow_is_left_out() -> None:
    tokenizer = ioi_models.make_tokenizer()
    gemma = planted.boot(tiny_model("gemma2", len(tokenizer)), tokenizer)
    with pytest.warns(UserWarning, match="^not measured: .* residual stream"):
        evidence = measure_all(gemma, score_heads(gemma, WORDS))
    assert set(MEASUREMENTS) - set(evidence.done) == {"dynamic", "causal"}
    assert evidence.measures


def test_what_the_tokens_do_not_allow_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = checkpoints.make_tokenizer(ioi_models.NAMES)
    model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    scores = score_heads(model, ioi_models.NAMES)
    causal = {"causal": MEASUREMENTS["causal"]}
    monkeypatch.setattr("analysis.explorer.measuring.MEASUREMENTS", causal)
    with pytest.warns(UserWarning, match="^not measured: .* no places for the prompts"):
        assert measure_all(model, scores).done == ()


def note_of(evidence: Evidence, key: str) -> str:
    (note,) = (one.note for one in evidence.measures if one.key == key)
    return note


def returned(lines: str, scope: dict[str, Any]) -> pd.DataFrame:
    """The value of the last of some lines of Python."""
    *before, last = ast.parse(lines).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(before, []), "lines", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "lines", "eval"), scope)


@pytest.mark.slow
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


@pytest.mark.slow
def test_every_view_is_offered_once_all_is_measured(found: Results) -> None:
    views = views_of(found.evidence, copying=True)
    assert [view["key"] for view in views] == [
        "static", "without", "with", "vocabulary", "effects", "copy", "attention"
    ]  # fmt: skip
    keys = {one.key for one in found.evidence.measures}
    assert {view[side] for view in views[1:] for side in ("left", "right")} <= keys
    assert len(views_of(Evidence(), copying=True)) == 1


@pytest.mark.slow
def test_the_classes_are_the_measured_ones(model: Any, found: Results) -> None:
    assert found.evidence.classes is not None
    expected = measured_classes(model)["class"]
    assert found.evidence.classes["class"].to_dict() == expected.to_dict()
    assert expected.loc[(1, 0)] == "name mover"


@pytest.mark.slow
def test_rows_that_pad_the_vocabulary_are_not_drawn() -> None:
    tokenizer = checkpoints.make_tokenizer(planted.NAMES)
    padded = planted.boot(checkpoints.llama_model(len(tokenizer) + 30), tokenizer)
    scores = collect(padded, list(planted.NAMES)).scores
    evidence = measure(padded, scores, "vocabulary")
    assert evidence.measures[0].note.startswith(f"share of {len(tokenizer)} tokens")


def test_the_notes_say_what_was_asked(
    model: Any, found: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = note_of(found.evidence, "dynamic_with_copying_score")
    n = min(60, found.scores.n_pairs)
    assert note == f"mean over {len(TEMPLATES)} templates, {n} names, k = 1"
    fewer = functools.partial(dynamic_scores, templates=TEMPLATES[:2])
    monkeypatch.setattr("analysis.dynamic.scores.dynamic_scores", fewer)
    again = note_of(measure(model, found.scores.at_k(2), "dynamic"), "dynamic_with_copying_score")
    assert again == f"mean over 2 templates, {n} names, k = 2"
    null = note_of(found.evidence, "copying_score_q")
    assert null.endswith(f"{found.scores.n_pairs} names, k = 1, first MLP on")


@pytest.fixture(scope="module")
def small() -> Any:
    return planted.planted_model("llama")


@pytest.mark.slow
def test_evidence_of_another_model_is_refused(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(planted.NAMES)
    other = planted.planted_model("gpt2")
    evidence = measure(other, collect(other, names).scores, "eigenvalue")
    own = collect(small, names)
    cut = replace(evidence.measures[0], values=evidence.measures[0].values[:4])
    refused = (evidence, Evidence((cut,)), replace(first_evidence(small), measures=(cut,)))
    monkeypatch.setattr("analysis.explorer.results.score_heads", lambda *_, **__: pytest.fail())
    for wrong in refused:
        for join in (
            lambda wrong=wrong: explore(small, names, evidence=wrong),
            lambda wrong=wrong: collect(small, names, evidence=wrong),
            lambda wrong=wrong: own.with_evidence(wrong),
            lambda wrong=wrong: measure(small, own.scores, "eigenvalue", wrong),
        ):
            with pytest.raises(ParameterError, match="another model"):
                join()


@pytest.mark.slow
def test_numbers_of_other_names_come_with_lines_that_return_them(small: Any) -> None:
    names = list(planted.NAMES)
    scores = collect(small, names).scores
    evidence = measure(small, scores, "null")
    for asked, k, first_mlp in ((names[:6], 1, True), (names, 5, True), (names, 1, False)):
        shown = collect(small, asked, k=k, first_mlp=first_mlp, evidence=evidence)
        measures = shown.evidence.beside(shown.scores)
        (lines,) = {one.python for one in measures}
        scope = {"model": small, "names": load_names(small, asked), "scores": shown.scores}
        if len(asked) == 6:  # the same lines make all of them
            frame = returned(lines, scope)
            first = lines
        assert lines == first
        for one in measures:
            np.testing.assert_array_equal(one.values, frame[one.key].to_numpy())
            assert "16 names, k = 1, first MLP on" in one.note
            assert ("names of its own: " + ", ".join(names[:3]) in one.note) == (len(asked) == 6)
        # With what it was measured of, everything is as it was.
        assert shown.evidence.beside(scores) == evidence.measures


@pytest.mark.slow
def test_dynamic_scores_of_other_names_too(
    model: Any, found: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = functools.partial(dynamic_scores, templates=TEMPLATES[:1])
    for place in ("analysis.dynamic.scores.dynamic_scores", "analysis.dynamic_scores"):
        monkeypatch.setattr(place, fewer, raising=False)
    pairs = list(itertools.pairwise(WORDS))
    for asked in (WORDS, pairs):
        evidence = measure(model, score_heads(model, asked), "dynamic")
        results = collect(model, WORDS[:4], k=3, evidence=evidence)
        shown = results.evidence.beside(results.scores)[0]
        frame = returned(shown.python, {"model": model, "names": load_names(model, WORDS[:4])})
        column = shown.key.split("_", 2)[2]
        expected = frame.xs("without", level="context")[column]
        np.testing.assert_array_equal(shown.values, expected.to_numpy())


@pytest.mark.slow
def test_measurements_of_a_relation_are_not_called_copying(small: Any) -> None:
    pairs = list(itertools.pairwise(planted.NAMES))
    results = collect(small, pairs)
    assert results.sets[0].label == "Given pairs"
    titles = [one.title for one in measure(small, results.scores, "null").measures]
    assert titles == ["q-value, relation", "q-value, suppression"]


def test_dynamic_scores_of_a_relation_are_not_called_copying(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = functools.partial(dynamic_scores, templates=TEMPLATES[:1])
    monkeypatch.setattr("analysis.dynamic.scores.dynamic_scores", fewer)
    scores = score_heads(model, list(itertools.pairwise(WORDS)))
    titles = {one.title.split()[0] for one in measure(model, scores, "dynamic").measures}
    assert titles == {"Relation", "Suppression"}
