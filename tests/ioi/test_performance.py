"""How well a model does the task is said with the intervals that there are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.ioi.performance import TaskPerformance
from analysis.statistics import cluster_share_interval

NONE = (-math.inf, math.inf)


def test_one_prompt_gives_no_interval() -> None:
    assert str(TaskPerformance("M", 1, 1, (0, 1), 2, NONE, 1)) == (
        "M may solve the task, but 1 prompt is too few to tell: of 1 prompt it prefers the right "
        "name in 100.0%, by a mean logit difference of 2.00 (one prompt gives no interval); in "
        "100% that name is the likeliest of all tokens."
    )


@pytest.mark.parametrize("n_templates", range(1, 9))
def test_few_templates_are_blamed_and_not_the_number_of_prompts(n_templates: int) -> None:
    """All of 280 answers are right, and the interval for clusters knows how little that says."""
    clusters = np.arange(280) % n_templates if n_templates > 1 else np.arange(280)
    interval = cluster_share_interval(np.ones(280, dtype=bool), clusters)
    said = str(TaskPerformance("M", 280, 1, interval, 2, (1, 3), 1, n_templates))
    few = (
        f"M may solve the task, but 280 prompts of {n_templates} templates are too few to tell "
        "(it takes at least 7 templates, or one alone): of 280"
    )
    assert said.startswith(few if 2 <= n_templates <= 6 else "M solves the task: of 280")


@pytest.mark.parametrize("n_templates", [1, 16])
def test_few_prompts_are_blamed_where_there_are_templates_enough(n_templates: int) -> None:
    text = str(TaskPerformance("M", 32, 0.6, (0.4, 0.8), 2, (-1, 5), 0.5, n_templates))
    assert text.startswith("M may solve the task, but 32 prompts are too few to tell: of 32")


@pytest.mark.parametrize(
    ("accuracy", "interval", "difference", "ends", "said"),
    [
        (0.0, (0, 1), -2.0, NONE, "is not shown to do the task"),
        (0.5, (0.328, 0.672), 0.1, (-1, 1.2), "is not shown to do the task"),
        (0.3, (0.1, 0.5), 0.1, (-1, 1.2), "does not do the task"),
        (0.6, (0.4, 0.8), -1.0, (-2, 0), "does not do the task"),
    ],
)
def test_a_model_fails_only_where_it_is_shown(
    accuracy: float,
    interval: tuple[float, float],
    difference: float,
    ends: tuple[float, float],
    said: str,
) -> None:
    performance = TaskPerformance("M", 32, accuracy, interval, difference, ends, 0)
    assert str(performance).startswith(f"M {said}: of 32 prompts")
    assert performance.failed == (said == "does not do the task") and not performance.solved


def test_intervals_are_said_where_there_are_any() -> None:
    assert str(TaskPerformance("M", 9, 1, (0.7, 1), 2, (1.5, 2.5), 0.5)) == (
        "M solves the task: of 9 prompts it prefers the right name in 100.0% (95 % interval 70.0% "
        "to 100.0%), by a mean logit difference of 2.00 (1.50 to 2.50); in 50% that name is the "
        "likeliest of all tokens."
    )
