"""AUROC and average precision against plain counting, their intervals, and the tables."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from analysis.errors import ParameterError
from analysis.ioi.class_agreement import agreement_with_classes, disagreements, precision_recall
from analysis.ioi.head_classes import HeadClass

MOVER = HeadClass.NAME_MOVER


def heads(n_layers: int, n_heads: int) -> pd.MultiIndex:
    return pd.MultiIndex.from_product([range(n_layers), range(n_heads)], names=["layer", "head"])


def classes_of(members: list[tuple[int, int]], head_class: str = MOVER) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(members, names=["layer", "head"])
    return pd.DataFrame({"class": str(head_class)}, index=index)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    members=st.sets(st.integers(0, 11), min_size=1, max_size=11),
)
def test_both_numbers_are_those_of_plain_counting(values: list[int], members: set[int]) -> None:
    index = heads(3, 4)
    scores = pd.DataFrame({"a": values}, index=index)
    classes = classes_of([index[m] for m in sorted(members)])
    row = agreement_with_classes(scores, classes).loc[(str(MOVER), "a")]
    inside = [values[m] for m in members]
    outside = [v for i, v in enumerate(values) if i not in members]
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    assert row["auroc"] == pytest.approx(wins / len(inside) / len(outside))
    average, before = 0.0, 0.0
    for cut in sorted(set(values), reverse=True):
        hits = sum(v >= cut for v in inside)
        recall = hits / len(inside)
        average += (recall - before) * hits / sum(v >= cut for v in values)
        before = recall
    assert row["average_precision"] == pytest.approx(average)
    assert (row["heads"], row["chance"]) == (len(members), len(members) / 12)


def test_a_perfect_and_a_blind_score() -> None:
    index = heads(10, 10)
    member = np.zeros(100)
    member[[3, 30, 77]] = 1
    scores = pd.DataFrame({"perfect": member, "blind": 0.5, "wrong": -member}, index=index)
    classes = classes_of([index[i] for i in (3, 30, 77)])
    table = agreement_with_classes(scores, classes).loc[str(MOVER)]
    assert table.loc["perfect", ["auroc", "average_precision"]].tolist() == [1, 1]
    assert table.loc["blind", "auroc"] == 0.5
    assert table.loc["blind", "average_precision"] == pytest.approx(0.03)
    assert table.loc["blind", ["auroc_p", "average_precision_p"]].tolist() == [1, 1]
    assert table.loc["wrong", "auroc"] == 0 and table.loc["wrong", "auroc_p"] == 1


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(0, 6), min_size=8, max_size=8),
    members=st.sets(st.integers(0, 7), min_size=1, max_size=3),
)
def test_p_values_are_those_of_all_classes_of_that_size(
    values: list[int], members: set[int]
) -> None:
    """Every subset of the class's size, each scored by scikit-learn."""
    index = heads(2, 4)
    scores = pd.DataFrame({"a": values}, index=index)
    row = agreement_with_classes(scores, classes_of([index[m] for m in members])).iloc[0]
    for name, score in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        reached = []
        for subset in combinations(range(8), len(members)):
            member = np.isin(np.arange(8), subset)
            reached.append(score(member, values) >= row[name] - 1e-9)
        assert row[f"{name}_p"] == pytest.approx(np.mean(reached))
    assert row["exact"]


def test_the_best_of_n_heads_has_a_p_value_of_one_in_n() -> None:
    scores = pd.DataFrame({"a": np.arange(270.0)}, index=heads(30, 9))
    row = agreement_with_classes(scores, classes_of([(29, 8)])).iloc[0]
    assert row["auroc_p"] == row["average_precision_p"] == pytest.approx(1 / 270)


def test_heads_of_a_group_are_moved_together() -> None:
    """Three heads of one group are one finding in 90, not one in C(270, 3)."""
    scores = pd.DataFrame({"a": np.arange(270.0)}, index=heads(30, 9))
    classes = classes_of([(29, 6), (29, 7), (29, 8)])
    together = agreement_with_classes(scores, classes, heads_per_group=3).iloc[0]
    assert together["auroc_p"] == pytest.approx(1 / 90) and together["exact"]
    alone = agreement_with_classes(scores, classes).iloc[0]
    assert alone["auroc_p"] == pytest.approx(1e-4) and not alone["exact"]
    with pytest.raises(ParameterError, match="270 heads do not make groups of 4"):
        agreement_with_classes(scores, classes, heads_per_group=4)


def test_many_arrangements_are_sampled_from_the_seed() -> None:
    rng = np.random.default_rng(1)
    scores = pd.DataFrame({"a": rng.normal(size=144)}, index=heads(12, 12))
    classes = classes_of(list(scores.index[:12]))
    first, again = (agreement_with_classes(scores, classes, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not first["exact"].any()


def test_classes_without_heads_are_left_out() -> None:
    scores = pd.DataFrame({"a": range(4)}, index=heads(2, 2))
    empty = agreement_with_classes(scores, classes_of([(0, 0)], "induction"))
    assert empty.empty
    assert empty.index.names == ["class", "score"]


def test_heads_and_scores_that_are_missing_are_refused() -> None:
    scores = pd.DataFrame({"a": [0.0, 1.0, 2.0, float("nan")]}, index=heads(2, 2))
    with pytest.raises(ParameterError, match=r"no scores for 2\.0, of class name mover"):
        agreement_with_classes(scores, classes_of([(2, 0)]))
    with pytest.raises(ParameterError, match="a is missing for some heads"):
        agreement_with_classes(scores, classes_of([(1, 0)]))


def test_curves_end_at_full_recall() -> None:
    scores = pd.DataFrame({"a": [4, 3, 3, 1], "b": [1, 2, 3, 4]}, index=heads(2, 2))
    curves = precision_recall(scores, classes_of([(0, 0), (0, 1)]))
    a = curves[curves["score"] == "a"]
    assert a["threshold"].tolist() == [4, 3, 1]
    assert a["recall"].tolist() == [0.5, 1, 1]
    assert a["precision"].tolist() == [1, 2 / 3, 0.5]
    assert curves[curves["score"] == "b"]["recall"].tolist() == [0, 0, 0.5, 1]


@pytest.mark.filterwarnings("error")
def test_a_class_without_heads_has_no_curve() -> None:
    scores = pd.DataFrame({"a": [4, 3, 3, 1], "b": [1, 2, 3, 4]}, index=heads(2, 2))
    curves = precision_recall(scores, classes_of([(0, 0)]), HeadClass.BACKUP_NAME_MOVER)
    assert curves.empty
    assert list(curves) == list(precision_recall(scores, classes_of([(0, 0)])))


def test_disagreements_are_listed_with_what_explains_them() -> None:
    scores = pd.DataFrame({"a": [4, 3, 2, 1]}, index=heads(2, 2))
    explain = pd.DataFrame({"direct_effect": [0.1, 0.2, 0.3, 0.4]}, index=heads(2, 2))
    table = disagreements(scores, classes_of([(0, 0), (1, 1)]), MOVER, "a", explain)
    assert table.index.tolist() == [(0, 1), (1, 1)]
    assert table["in_class"].tolist() == [False, True]
    assert table["place"].tolist() == [2, 4]
    assert table["direct_effect"].tolist() == [0.2, 0.4]
    assert disagreements(scores, classes_of([(0, 0)]), MOVER, "a", explain).empty


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    scores, classes = pd.DataFrame({"a": range(4)}, heads(1, 4)), classes_of([(0, 0)])
    with pytest.raises(ParameterError, match="seed must be a whole number from 0"):
        agreement_with_classes(scores, classes, seed=seed)  # type: ignore[arg-type]
