"""Figures of many models: each model its own points, each run its own lines."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import ParameterError
from analysis.plots.sweep import N_NAMED, plot_by_depth, plot_over_training


def answer(model: str, score: float, **columns: object) -> pd.DataFrame:
    """The answer of a model with one head."""
    made: dict[str, object] = {
        "model": model,
        "title": model.rpartition("/")[2],
        "question": "static",
    }
    made |= {"n_layers": 1, "layer": 0, "head": 0}
    made |= {"copying_score": score, "suppression_score": 0.0}
    return pd.DataFrame([made | columns])


def test_models_of_one_title_have_a_colour_each() -> None:
    models = [answer("runs/a/final", 0.25), answer("runs/b/final", 0.75), answer("c/other", 1.0)]
    fig = plot_by_depth(pd.concat(models), "")
    shown = [trace for trace in fig.data if trace.showlegend]
    assert {trace.name: list(trace.y) for trace in shown} == {
        "runs/a/final": [0.25],
        "runs/b/final": [0.75],
        "other": [1.0],
    }
    assert len({trace.marker.color for trace in shown}) == 3


def test_answers_to_two_questions_are_not_drawn_as_one() -> None:
    two = [answer("A", 0.25), answer("A", 0.75, question="static k=10")]
    with pytest.raises(ParameterError, match=r"several scores.*static, static k=10"):
        plot_by_depth(pd.concat(two), "")
    with pytest.raises(ParameterError, match=r"several scores.*static, static k=10"):
        plot_over_training(pd.concat(two).assign(step=0), "")


@pytest.mark.parametrize("second", [0, 10], ids=["same steps", "other steps"])
def test_two_training_runs_are_not_drawn_as_one(second: int) -> None:
    runs = [
        answer(f"{run}{step}", score, step=step)
        for run, score, first in (("org/m@step", 1.0, 0), ("org/m-deduped@step", 0.0, second))
        for step in (first, first + 5)
    ]
    with pytest.raises(ParameterError, match=r"2 training runs \(org/m@, org/m-deduped@\)"):
        plot_over_training(pd.concat(runs), "")
    fig = plot_over_training(pd.concat(runs[:2]), "")
    assert list(fig.data[0].x) == [0, 5]
    assert list(fig.data[0].y) == [1.0, 1.0]


def run_of(ends: dict[int, tuple[float, float]]) -> pd.DataFrame:
    """A run of two checkpoints; by head, the two scores at its end."""
    return pd.concat(
        answer("run", copying * step, head=head, step=step, suppression_score=suppression * step)
        for step in (0, 1)
        for head, (copying, suppression) in ends.items()
    )


def test_a_head_has_one_colour_in_both_panels() -> None:
    ends = {head: (0.9 - 0.05 * head, 0.05 + 0.05 * head) for head in range(12)}
    fig = plot_over_training(run_of(ends), "")
    looks = {}
    for panel in ("x", "x2"):
        named = [trace for trace in fig.data if trace.showlegend and trace.xaxis == panel]
        looks[panel] = {trace.name: (trace.line.color, trace.line.dash) for trace in named}
        assert len(looks[panel]) == len(set(looks[panel].values())) == N_NAMED
    assert len(set((looks["x"] | looks["x2"]).values())) == 2 * N_NAMED
    fig = plot_over_training(run_of({0: (0.9, 0.1), 1: (0.1, 0.9)}), "")
    shown: dict[str, set[str]] = {}
    for trace in fig.data:
        shown.setdefault(trace.name, set()).add(trace.line.color)
    assert [len(colours) for colours in shown.values()] == [1, 1]
    assert shown["0.0"] != shown["0.1"]


def test_heads_that_end_at_0_have_no_name() -> None:
    fig = plot_over_training(run_of({0: (0.5, 0), 1: (0, 0), 2: (0, 0)}), "")
    assert [(trace.name, trace.xaxis) for trace in fig.data if trace.showlegend] == [("0.0", "x")]
    assert len(fig.data) == 6, "every head has its line"
    silent = plot_over_training(run_of({0: (0, 0)}), "")
    assert [trace.showlegend for trace in silent.data] == [False, False]


@pytest.mark.parametrize(
    ("names", "title"),
    [
        ({"model": "cache/<small>-step-{}", "title": "<small>-step-{}"}, "&lt;small&gt;: over"),
        ({"model": "org/pythia@step{}", "title": "Pythia"}, "Pythia: over"),
        ({"model": "org/pythia@step{}", "title": "title {}"}, "pythia: over"),
        ({"model": "runs/a/step{}"}, "a: over"),
        ({}, "over"),
    ],
)
def test_the_figure_of_a_run_names_it(names: dict[str, str], title: str) -> None:
    checkpoints = [
        answer("", 0.5, step=step)
        .drop(columns=["model", "title"])
        .assign(**{column: name.format(step) for column, name in names.items()})
        for step in (0, 10)
    ]
    assert plot_over_training(pd.concat(checkpoints), "over").layout.title.text == title


def test_a_models_name_is_neither_markup_nor_a_variable() -> None:
    (trace, _) = plot_by_depth(answer("run<b>7 %{y}", 0.25), "").data
    assert trace.name == "run&lt;b&gt;7 %{y}"
    assert trace.hovertemplate.startswith("run&lt;b&gt;7 &#37;{y} <b>%{text}</b>: %{y:.2f}")
