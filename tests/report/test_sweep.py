"""Tables and sentences on many models: no two models, runs or questions become one."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import ParameterError
from analysis.report.sweep import models_side_by_side, when_heads_come_up, with_steps


def answers(model: str, title: str, *scores: float, question: str = "static") -> pd.DataFrame:
    """Answers of a model of one layer: a copying score for each head."""
    frame = pd.DataFrame({"copying_score": scores, "head": range(len(scores))})
    return frame.assign(
        model=model,
        title=title,
        question=question,
        n_layers=1,
        layer=0,
        suppression_score=0.0,
        n_names=8,
    )


def test_models_of_one_title_have_a_row_each() -> None:
    models = [
        answers("runs/a/final", "final", 0.75, 0.25),
        answers("runs/b/final", "final", 0.0),
        answers("gpt2", "GPT-2", 1.0, 1.0, 1.0),
    ]
    table = models_side_by_side(pd.concat(models))
    assert table["heads"].to_dict() == {"runs/a/final": 2, "runs/b/final": 1, "GPT-2": 3}
    assert list(table["copiers"]) == [1, 0, 3]


def test_a_title_that_is_another_models_name_calls_neither() -> None:
    models = [
        answers("runs/gpt2", "gpt2", 1.0),
        answers("gpt2", "GPT-2", 0.0),
        answers("openai-community/gpt2", "GPT-2", 0.0, 0.0),
    ]
    table = models_side_by_side(pd.concat(models))
    assert table["heads"].to_dict() == {"runs/gpt2": 1, "gpt2": 1, "openai-community/gpt2": 2}


def test_heads_are_counted_once_whatever_else_was_asked() -> None:
    other = answers("A", "A", 0.0, 0.0, question="eigenvalue")
    other = other.drop(columns=["copying_score", "suppression_score", "n_names"])
    table = models_side_by_side(pd.concat([other, answers("A", "A", 1.0, 0.0)]))
    assert table.loc["A", ["heads", "names", "copiers"]].tolist() == [2, 8, 1]
    twice = [answers("A", "A", 1.0), answers("A", "A", 1.0, question="static k=10")]
    with pytest.raises(ParameterError, match=r"several scores.*static, static k=10"):
        models_side_by_side(pd.concat(twice))
    with pytest.raises(ParameterError, match="no answer here"):
        models_side_by_side(other)


def test_sentences_on_several_runs_are_refused() -> None:
    runs = [
        answers(f"runs/{run}/step-{step}", f"step-{step}", score)
        for run, first in (("a", 0), ("b", 20))
        for step, score in ((first, 0.0), (first + 10, 1.0))
    ]
    with pytest.raises(ParameterError, match="runs/a/, runs/b/"):
        when_heads_come_up(with_steps(pd.concat(runs)))
    said = when_heads_come_up(with_steps(pd.concat(runs[2:])))
    assert "seen at step 30" in said[0]


def test_a_score_below_half_is_not_shown_as_half() -> None:
    below = answers("run/step-0", "A", 0.4999, 0.1)
    said = when_heads_come_up(with_steps(below))
    assert said[0] == (
        "No head copies half of the names at any checkpoint; at the last one the highest "
        "score is 0.499, of head 0.0."
    )
    assert said[1].endswith("at the last one all heads score 0.")
    table = models_side_by_side(below)
    assert table.loc["A", "highest copying score"].startswith("0.499 ")
    assert table.loc["A", "highest suppression score"] == "all heads score 0"
    least = models_side_by_side(answers("A", "A", 0.0, 1 / 779))
    assert least.loc["A", "highest copying score"] == "0.001 (0.1, depth 0.00)"


def test_heads_that_come_up_together_are_named_together() -> None:
    steps = [(0, (0.1, 0.1, 0.0)), (10, (0.6, 0.2, 0.9)), (20, (0.7, 0.3, 0.6))]
    run = pd.concat([answers(f"run/step-{step}", "A", *scores) for step, scores in steps])
    said = when_heads_come_up(with_steps(run))
    assert said[0] == (
        "The first heads that copy half of the names are 0.0, 0.2, seen at step 10; at the last "
        "checkpoint the highest score is 0.70, of head 0.0."
    )
