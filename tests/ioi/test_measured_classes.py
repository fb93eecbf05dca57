"""Measured classes: planted heads are found, random models have none, thresholds decide."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.errors import ParameterError
from analysis.heads import HeadPair
from analysis.ioi import measured_classes as classes_module
from analysis.ioi.ablated_runs import run_with_replaced
from analysis.ioi.activations import run_prompts
from analysis.ioi.backups import template_means
from analysis.ioi.head_classes import COLUMNS, MEASURED, HeadClass, check_classes, published_classes
from analysis.ioi.measured_classes import (
    HeadMeasurements,
    Thresholds,
    classify,
    measure_heads,
    measured_classes,
)
from analysis.prompts.indirect_object import ioi_prompts
from analysis.provenance import GPT2_SMALL, ModelIdentity, set_identity, timeless
from analysis.report.ioi import findings, most_changed, strongest_effects, with_remarks
from tests import ioi_models

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PLANTED = {
    (1, 0): HeadClass.NAME_MOVER,
    (2, 1): HeadClass.NEGATIVE_NAME_MOVER,
    (2, 2): HeadClass.BACKUP_NAME_MOVER,
}


@pytest.fixture(scope="module")
def model() -> TransformerBridge:
    return ioi_models.planted_bridge()


@pytest.fixture(scope="module")
def measured(model: TransformerBridge) -> HeadMeasurements:
    return measure_heads(model, ioi_prompts(model, 128))


@pytest.mark.slow
def test_planted_heads_are_classed_right(measured: HeadMeasurements) -> None:
    assert measured.classes["class"].to_dict() == PLANTED
    assert measured.ablated == ((1, 0),) and measured.performance.n_templates == 16
    numbers = measured.numbers
    assert numbers.loc[(1, 0), "attention_io"] > 0.9
    assert numbers.loc[(1, 0), "correlation"] > 0.9
    assert numbers.loc[(2, 1), "correlation"] < -0.9
    assert numbers.loc[(1, 0), "copy_score"] == 1
    assert numbers.loc[(2, 1), "negative_copy_score"] == 1
    assert abs(numbers.loc[(2, 2), "direct_effect"]) < numbers.loc[(2, 2), "effect_after"] / 4


@pytest.mark.slow
def test_planted_heads_are_found_wherever_they_are() -> None:
    places = {"movers": [(1, 2), (2, 0)], "negatives": [(3, 3), (2, 1)], "backups": [(3, 1)]}
    model = ioi_models.planted_bridge(**places, n_layers=4)
    classes = measured_classes(model, ioi_prompts(model, 96, seed=7))
    found = {kind: sorted(classes.index[classes["class"] == kind]) for kind in PLANTED.values()}
    assert list(found.values()) == [sorted(heads) for heads in places.values()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "gpt-neox", "llama"])
def test_a_random_model_has_none(kind: str) -> None:
    model = ioi_models.shared_model(kind)
    measured = measure_heads(model, ioi_prompts(model, 64))
    assert not measured.performance.solved
    assert measured.classes.empty
    assert measured.ablated == ()
    assert "solves the task" not in findings(measured)[0]
    assert "No head is given a class" in findings(measured)[1]
    # No head has what a name mover has, whatever the model's accuracy is.
    found = classify(measured.numbers, 0.1, Thresholds())
    assert not found.isin(list(PLANTED.values())).any(axis=None)
    assert np.isfinite(measured.numbers["direct_effect"]).all()


@pytest.mark.slow
def test_a_model_that_may_have_guessed_has_no_classes(model: TransformerBridge) -> None:
    measured = measure_heads(model, ioi_prompts(model, 3))
    performance = measured.performance
    # Three right of three: Wilson's interval for chance 1/2 begins at 3 / (3 + 1.96²) = 0.44.
    assert performance.accuracy == 1 and performance.logit_difference_interval[0] > 0
    assert not performance.solved
    by_numbers = classify(measured.numbers, performance.logit_difference, Thresholds())
    assert by_numbers.loc[(1, 0), "class"] == HeadClass.NAME_MOVER
    assert by_numbers.loc[(2, 1), "class"] == HeadClass.NEGATIVE_NAME_MOVER

    assert (measured.numbers[["class", "backup_class"]] == "").all(axis=None)
    assert measured.classes.empty
    assert measured.ablated == () and measured.logit_difference_after is None
    removal = measured.numbers[["effect_after", "growth", "growth_low", "growth_high"]]
    assert removal.isna().all(axis=None)
    assert measured.with_thresholds(Thresholds(min_copy_score=0.1)).classes.empty
    assert findings(measured) == [
        str(performance),
        "No head is given a class, because it is not shown that the model solves the task.",
    ]


@pytest.mark.parametrize("solved", [True, False])
def test_a_user_is_told_why_there_are_no_classes(
    measured: HeadMeasurements, monkeypatch: pytest.MonkeyPatch, solved: bool
) -> None:
    performance = replace(measured.performance, accuracy_interval=(0.6 if solved else 0.4, 1.0))
    given = replace(measured, performance=performance).with_thresholds(Thresholds())
    monkeypatch.setattr(classes_module, "measure_heads", lambda *args, **kwargs: given)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        classes = measured_classes(None)  # type: ignore[arg-type]
    assert classes.empty != solved
    said = [(str(w.message), w.filename) for w in warned]
    assert said == ([] if solved else [(f"{performance} So no head is given a class.", __file__)])


@pytest.mark.slow
def test_classes_can_be_drawn_like_published_ones(
    model: TransformerBridge, measured: HeadMeasurements
) -> None:
    classes = measured.classes
    assert list(classes.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert list(published_classes("gpt2").columns) == list(COLUMNS)
    check_classes(classes, measured.model, model.cfg.n_layers, model.cfg.n_heads)
    assert set(classes["origin"]) == {MEASURED}
    assert set(classes["source"]) == {"indirect-object task, 128 prompts, seed 0"}
    both = pd.concat([published_classes("gpt2"), classes.assign(model=GPT2_SMALL)])
    check_classes(both, ModelIdentity(GPT2_SMALL, "GPT-2"), 12, 12)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(
    model: TransformerBridge, measured: HeadMeasurements
) -> None:
    again = measure_heads(model, ioi_prompts(model, 128))
    assert again.numbers.equals(measured.numbers)
    assert str(again.performance) == str(measured.performance)
    assert timeless(again.provenance) == timeless(measured.provenance)


def test_thresholds_decide(measured: HeadMeasurements) -> None:
    difference = measured.performance.logit_difference

    def found(**lines: float) -> set[str]:
        classes = classify(measured.numbers, difference, Thresholds(**lines))
        return {*classes["class"], *classes["backup_class"]}

    assert {*PLANTED.values()} <= found()
    assert HeadClass.NEGATIVE_NAME_MOVER not in found(min_direct_effect=1.0)
    assert HeadClass.BACKUP_NAME_MOVER not in found(min_backup_gain=1.0)
    for wrong in (
        {"min_direct_effect": -0.1},
        {"min_copy_score": 1.5},
        {"min_backup_gain": float("nan")},
    ):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            Thresholds(**wrong)


def one_head(**changes: float) -> pd.DataFrame:
    """A head that is a name mover unless changed."""
    head = {
        "direct_effect": 1.0,
        "direct_effect_low": 0.8,
        "direct_effect_high": 1.2,
        "attention_io": 0.6,
        "attention_s1": 0.1,
        "attention_s2": 0.1,
        "copy_score": 0.9,
        "negative_copy_score": 0.0,
        "effect_after": 0.0,
        "growth": -1.0,
        "growth_low": -1.2,
    }
    index = pd.MultiIndex.from_tuples([(0, 0)], names=["layer", "head"])
    return pd.DataFrame([head | changes], index=index)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, HeadClass.NAME_MOVER),
        ({"direct_effect": 0.1}, ""),
        ({"direct_effect_low": -0.1}, ""),
        ({"attention_s2": 0.7}, ""),
        ({"copy_score": 0.4}, ""),
        (
            {
                "direct_effect": -1.0,
                "direct_effect_low": -1.2,
                "direct_effect_high": -0.8,
                "copy_score": 0.0,
                "negative_copy_score": 0.9,
            },
            HeadClass.NEGATIVE_NAME_MOVER,
        ),
        (
            {"direct_effect": 0.0, "effect_after": 0.5, "growth": 0.5, "growth_low": 0.4},
            HeadClass.BACKUP_NAME_MOVER,
        ),
        (
            {
                "direct_effect": 0.0,
                "effect_after": 0.5,
                "growth": 0.5,
                "growth_low": 0.4,
                "copy_score": 0.0,
                "negative_copy_score": 0.9,
            },
            HeadClass.BACKUP_NEGATIVE_NAME_MOVER,
        ),
        # It only stops acting against the name: that is no taking over.
        ({"direct_effect": -0.5, "effect_after": 0.0, "growth": 0.5, "growth_low": 0.4}, ""),
        # It did nearly all of it before.
        (
            {
                "direct_effect": 1.0,
                "attention_s1": 0.7,
                "effect_after": 1.3,
                "growth": 0.3,
                "growth_low": 0.2,
            },
            "",
        ),
    ],
)
def test_the_rules(changes: dict[str, float], expected: str) -> None:
    assert classes_of(changes) == ({expected} - {""})


def classes_of(changes: dict[str, float]) -> set[str]:
    """Both classes of one head, empty ones left out; the logit difference is 4."""
    return {*classify(one_head(**changes), 4.0, Thresholds()).iloc[0]} - {""}


SUBJECT = {"attention_s2": 0.7, "copy_score": 0.0, "negative_copy_score": 0.9}


def test_a_subject_suppressor_lowers_the_name_that_it_attends_to() -> None:
    assert classes_of(SUBJECT) == {HeadClass.SUBJECT_SUPPRESSOR}
    assert classes_of(SUBJECT | {"attention_s1": 0.8, "attention_s2": 0.0}) == {
        HeadClass.SUBJECT_SUPPRESSOR
    }
    for violation in (
        {"direct_effect": 0.19},
        {"direct_effect": -1.0, "direct_effect_high": -0.5},
        {"direct_effect_low": -0.1},
        {"attention_io": 0.8},
        {"negative_copy_score": 0.4},
    ):
        assert classes_of(SUBJECT | violation) == set(), violation


def test_a_head_can_be_a_name_mover_and_a_backup() -> None:
    more = {"direct_effect": 0.5, "effect_after": 1.0, "growth": 0.5, "growth_low": 0.4}
    assert classes_of(more) == {HeadClass.NAME_MOVER, HeadClass.BACKUP_NAME_MOVER}
    assert classes_of(more | {"growth": 0.2}) == {HeadClass.NAME_MOVER}


@pytest.mark.slow
def test_a_name_mover_that_takes_over_from_another_has_two_rows() -> None:
    """1.0 writes all of the answer; 2.0 does too, but less where the name is written already."""
    heads = {"movers": [(1, 0)], "negatives": [], "backups": [(2, 0)]}
    model = ioi_models.planted_bridge(**heads, shyness=0.3)
    measured = measure_heads(model, ioi_prompts(model, 64))
    assert measured.ablated == ((1, 0), (2, 0))
    both = measured.classes["class"].loc[[(2, 0)]].tolist()
    assert both == [HeadClass.NAME_MOVER, HeadClass.BACKUP_NAME_MOVER]
    assert measured.heads(HeadClass.BACKUP_NAME_MOVER) == [(2, 0)]
    # 1.0 comes first, so that it writes the same without 2.0.
    assert measured.classes["class"].loc[[(1, 0)]].tolist() == [HeadClass.NAME_MOVER]
    assert np.isnan(measured.numbers.loc[(1, 0), "growth"])
    check_classes(measured.classes, measured.model, 3, 4)


NEGATIVE = {
    "direct_effect": -1.0,
    "direct_effect_low": -1.2,
    "direct_effect_high": -0.8,
    "copy_score": 0.0,
    "negative_copy_score": 0.9,
}
BACKUP = {"direct_effect": 0.0, "effect_after": 0.5, "growth": 0.5, "growth_low": 0.4}
BACKUP_NEGATIVE = BACKUP | {"copy_score": 0.0, "negative_copy_score": 0.9}


@pytest.mark.parametrize(
    ("head", "expected", "violations"),
    [
        (
            NEGATIVE,
            HeadClass.NEGATIVE_NAME_MOVER,
            [
                {"direct_effect": -0.19},
                {"direct_effect_high": 0.1},
                {"attention_s1": 0.7},
                {"attention_s2": 0.7},
                {"negative_copy_score": 0.4},
            ],
        ),
        (
            BACKUP,
            HeadClass.BACKUP_NAME_MOVER,
            [
                {"direct_effect": -0.45, "effect_after": 0.05},
                {"direct_effect": 0.05, "effect_after": 0.12, "growth": 0.07, "growth_low": 0.06},
                {"direct_effect": 0.19, "effect_after": 0.28, "growth": 0.09, "growth_low": 0.08},
                {"growth_low": -0.1},
                {"copy_score": 0.4},
            ],
        ),
        (
            BACKUP_NEGATIVE,
            HeadClass.BACKUP_NEGATIVE_NAME_MOVER,
            [{"growth_low": -0.1}, {"negative_copy_score": 0.4}],
        ),
    ],
)
def test_each_condition_of_a_rule_can_fail_alone(
    head: dict[str, float], expected: str, violations: list[dict[str, float]]
) -> None:
    # With a logit difference of 4 an effect must be 0.2, and what is taken over 0.08.
    assert classes_of(head) == {expected}
    for violation in violations:
        assert classes_of(head | violation) == set(), violation


def test_findings_are_computed(measured: HeadMeasurements) -> None:
    said = findings(measured)
    assert said[0] == str(measured.performance)
    assert said[1].startswith("Name movers: 1.0; direct effects add up to +")
    assert said[2].startswith("Negative name movers: 2.1; direct effects add up to -")
    assert said[3] == "Subject suppressors: none."
    assert "2.2 by +" in said[5]
    assert said[6:] == ["Backup name movers: 2.2.", "Backup negative name movers: none."]
    table = strongest_effects(measured, 4)
    assert list(table.index[:2]) == [(1, 0), (2, 1)]
    assert with_remarks(measured).loc[(0, 3), "remark"] == "small direct effect"
    assert most_changed(measured, 1).index.tolist() == [(2, 2)]


@pytest.mark.slow
def test_what_the_ablated_heads_own_layer_writes_does_not_change() -> None:
    model = ioi_models.planted_bridge(
        movers=[(1, 0), (2, 0)], negatives=[(2, 1)], backups=[(3, 2)], n_layers=4
    )
    prompts = ioi_prompts(model, 96)
    measured = measure_heads(model, prompts)
    assert measured.ablated == ((1, 0), (2, 0))
    other = run_prompts(model, prompts, counterfactual=True)
    changed: dict[tuple[HeadPair, ...], torch.Tensor] = {}
    for first, last in ((0, 2), (0, 1), (1, 2)):
        case = measured.ablated[first:last]
        (run,) = run_with_replaced(model, prompts, [template_means(prompts, other, case)])
        changed[case] = (run.z - measured.clean.z.double()).abs().amax((0, 3)) > 1e-9
    table = most_changed(measured, 16)
    # The first mover, whose only companion is in a later layer, is not measured again.
    assert set(table.index) == {(n, h) for n in (1, 2, 3) for h in range(4)} - {(1, 0)}
    for head, row in table.iterrows():
        case = tuple(one for one in measured.ablated if one != head)
        assert row["output_changed"] == bool(changed[case][head]), head
    assert not any("first ablated layer" in sentence for sentence in findings(measured))
    beside = measured.numbers["backup_class"].copy()
    beside[1, 3] = HeadClass.BACKUP_NAME_MOVER
    in_layer = replace(measured, numbers=measured.numbers.assign(backup_class=beside))
    assert "they write what they wrote: 1.3;" in findings(in_layer)[-1]


def test_other_thresholds_are_drawn_through_the_same_numbers(measured: HeadMeasurements) -> None:
    loose = measured.with_thresholds(Thresholds(min_copy_score=0.0))
    expected = classify(
        measured.numbers, measured.performance.logit_difference, Thresholds(min_copy_score=0.0)
    )
    assert loose.numbers[["class", "backup_class"]].equals(expected)
    columns = measured.numbers.columns.drop(["class", "backup_class"])
    assert loose.numbers[columns].equals(measured.numbers[columns])
    assert {*measured.classes.index} <= {*loose.classes.index}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((16,), "prompts must be what ioi_prompts returns"), ((None, 0.05), "thresholds must be")],
)
def test_what_is_neither_prompts_nor_thresholds_is_refused(
    model: TransformerBridge, arguments: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(ParameterError, match=said):
        measured_classes(model, *arguments)


@pytest.mark.slow
def test_a_model_knows_its_identity(model: TransformerBridge) -> None:
    set_identity(model, ModelIdentity("planted", "Planted"))
    classes = measured_classes(model, ioi_prompts(model, 32))
    assert set(classes["model"]) == {"planted"}
