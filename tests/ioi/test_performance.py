"""How well a model does the task is said with the intervals that there are."""

from __future__ import annotations

import math

import pytest

from analysis.ioi.performance import TaskPerformance

NONE = (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (1, "1 prompt is too few to tell: of 1 prompt it prefers the right name in 100.0%, by a "),
        (3, "3 prompts are too few to tell: of 3 prompts it prefers the right name in 100.0%, by "),
    ],
)
def test_one_cluster_of_prompts_gives_no_interval(n: int, said: str) -> None:
    text = str(TaskPerformance("M", n, 1, (0, 1), 2, NONE, 1))
    what = "one prompt gives" if n == 1 else "prompts of one template give"
    assert f"M may solve the task, but {said}" in text
    assert f"logit difference of 2.00 ({what} no interval); in 100%" in text


def test_intervals_are_said_where_there_are_any() -> None:
    assert str(TaskPerformance("M", 9, 1, (0.7, 1), 2, (1.5, 2.5), 0.5)) == (
        "M solves the task: of 9 prompts it prefers the right name in 100.0% (95 % interval 70.0% "
        "to 100.0%), by a mean logit difference of 2.00 (1.50 to 2.50); in 50% that name is the "
        "likeliest of all tokens."
    )
