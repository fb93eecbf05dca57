"""What is said of the indirect-object task holds where little was measured or other lines drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from analysis.ioi.measured_classes import HeadMeasurements, Thresholds, name_movers
from analysis.ioi.performance import TaskPerformance
from analysis.report.ioi import findings, most_changed, strongest_effects, with_remarks
from tests.made_up import MODEL

STRICT, LOOSE = Thresholds(min_direct_effect=1), Thresholds(min_direct_effect=0.05)
HEADS = pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0)], names=["layer", "head"])
ENDS = {"low": -0.1, "high": 0.1}
"""Of an interval, from what it is of."""


def measured(thresholds: Thresholds, *, accuracy_low: float = 0.9) -> HeadMeasurements:
    """Heads 0.0 and 1.0 copy names at END, with 1 and 2 of 4 logits; all grow by 0.1."""
    numbers = pd.DataFrame(
        {
            "direct_effect": [1.0, 0.0, 2.0],
            "attention_io": [0.9, 0.1, 0.9],
            "attention_s1": 0.05,
            "attention_s2": 0.05,
            "copy_score": [1.0, 0.0, 1.0],
            "negative_copy_score": 0.0,
        },
        index=HEADS,
    )
    ends = {f"direct_effect_{end}": numbers["direct_effect"] + by for end, by in ENDS.items()}
    numbers = numbers.assign(**ends, effect_share=numbers["direct_effect"] / 4)
    performance = TaskPerformance("M", 8, 1, (accuracy_low, 1), 4, (3, 5), 1)
    ablated = name_movers(numbers, 4, thresholds) if performance.solved else []
    growth = 0.1 if ablated else float("nan")
    after: dict[str, Any] = {"effect_after": numbers["direct_effect"] + growth, "growth": growth}
    after |= {f"growth_{end}": growth + by for end, by in ENDS.items()}
    unknown: Any = None
    return HeadMeasurements(
        numbers=numbers.assign(**after, **{"class": "", "backup_class": ""}),
        performance=performance,
        ablated=tuple(ablated),
        logit_difference_after=1.5 if ablated else None,
        thresholds=thresholds,
        freeze_mlps=False,
        heads_per_group=1,
        model=MODEL,
        prompts=unknown,
        clean=unknown,
        provenance={},
    ).with_thresholds(thresholds)


def test_where_no_head_was_ablated_none_has_changed() -> None:
    nothing = most_changed(measured(STRICT))
    assert nothing.empty and nothing.index.names == ["layer", "head"]
    assert list(nothing) == list(most_changed(measured(LOOSE)))
    assert len(most_changed(measured(LOOSE), 2)) == 2
    assert len(strongest_effects(measured(STRICT))) == 3


def test_the_heads_that_were_ablated_are_named_whatever_the_thresholds() -> None:
    same = findings(measured(LOOSE))
    assert same[1].startswith("Name movers: 1.0, 0.0; direct")
    assert same[4].startswith("Without the name movers, whose direct effects add up to 3.00, the")

    stricter = findings(measured(LOOSE).with_thresholds(STRICT))
    assert stricter[1] == "Name movers: none."
    assert stricter[4].startswith(
        "Without 0.0, 1.0 (ablated as name movers by other thresholds), whose direct effects add "
        "up to 3.00, the logit difference goes from 4.00 to 1.50."
    )

    nothing = findings(measured(STRICT))
    assert nothing[1] == "Name movers: none."
    assert nothing[4:] == ["There is no name mover to ablate, so no backup can be found."]

    looser = findings(measured(STRICT).with_thresholds(LOOSE))
    assert looser[1].startswith("Name movers: 1.0, 0.0; direct")
    assert looser[4:] == [
        "No head was ablated, because none was a name mover by the thresholds of the measurement, "
        "so no backup can be found."
    ]


def test_what_is_next_to_nothing_has_no_sign() -> None:
    of = measured(LOOSE)
    said = findings(replace(of, numbers=of.numbers.assign(growth=-0.001)))
    assert "these change most: 0.1 by +0.00." in " ".join(said)


def test_too_few_prompts_do_not_say_that_the_task_is_not_solved() -> None:
    said = findings(measured(LOOSE, accuracy_low=0.4))
    assert "may solve the task, but 8 prompts are too few to tell" in said[0]
    assert said[1:] == [
        "No head is given a class, because it is not shown that the model solves the task."
    ]


@pytest.mark.parametrize(
    ("high", "why"),
    [
        (0.6, "it is not shown that the model solves the task"),
        (0.5, "the model does not solve the task"),
    ],
)
def test_a_model_that_guesses_is_not_said_to_fail(high: float, why: str) -> None:
    of = measured(LOOSE)
    guessing = replace(of.performance, accuracy=0.45, accuracy_interval=(0.3, high))
    said = findings(replace(of, performance=guessing))
    assert said[1:] == [f"No head is given a class, because {why}."]


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ((0.2, 0.2, 0.2), "copies names, attends to IO no more than to S1"),
        ((0.2, 0.1, 0.2), "copies names, attends to IO no more than to S2"),
        ((0.1, 0.2, 0.3), "copies names, attends to S2 most"),
        ((0.3, 0.2, 0.1), "copies names, but its direct effect has the other sign"),
    ],
)
def test_a_remark_names_what_keeps_a_head_from_its_class(
    attention: tuple[float, float, float], said: str
) -> None:
    of = measured(LOOSE)
    columns = ["attention_io", "attention_s1", "attention_s2"]
    of.numbers.loc[(1, 0), columns] = attention
    of.numbers.loc[(1, 0), "class"] = ""
    assert with_remarks(of).loc[(1, 0), "remark"] == said
