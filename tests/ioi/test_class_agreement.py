"""AUROC and average precision against plain counting, their intervals, and the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import ParameterError
from analysis.ioi.class_agreement import agreement_with_classes, disagreements, precision_recall
from analysis.ioi.head_classes import HeadClass

MOVER = HeadClass.NAME_MOVER


def heads(n_layers: int, n_heads: int) -> pd.MultiIndex:
    return pd.MultiIndex.from_product([range(n_layers), range(n_heads)], names=["layer", "head"])


def classes_of(members: list[tuple[int, int]], head_class: str = MOVER) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(members, names=["layer", "head"])
    return pd.DataFrame({"class": str(head_class)}, index=index)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    members=st.sets(st.integers(0, 11), min_size=1, max_size=11),
)
def test_both_numbers_are_those_of_plain_counting(values: list[int], members: set[int]) -> None:
    index = heads(3, 4)
    scores = pd.DataFrame({"a": values}, index=index)
    classes = classes_of([index[m] for m in sorted(members)])
    row = agreement_with_classes(scores, classes, n_draws=3).loc[(str(MOVER), "a")]
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
    assert table.loc["perfect", ["auroc_low", "auroc", "average_precision_low"]].tolist() == [1] * 3
    assert table.loc["blind", "auroc"] == 0.5
    assert table.loc["blind", "average_precision"] == pytest.approx(0.03)
    assert table.loc["wrong", "auroc_high"] == 0


def test_intervals_hold_the_value_and_come_from_the_seed() -> None:
    rng = np.random.default_rng(1)
    index = heads(12, 12)
    members = [index[i] for i in range(0, 144, 12)]
    scores = pd.DataFrame({"a": rng.normal(size=144)}, index=index)
    scores.loc[members, "a"] += 1
    first, again = (agreement_with_classes(scores, classes_of(members), seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    row = first.iloc[0]
    for kind in ("auroc", "average_precision"):
        assert row[f"{kind}_low"] < row[kind] < row[f"{kind}_high"]


@pytest.mark.parametrize("one_in_class", [True, False])
def test_intervals_are_those_of_the_binomial_distribution(one_in_class: bool) -> None:
    """One head of the class against 100 others, or 100 of the class against one.

    Of the pairs 60 in 100 are in the right order; only the 100 heads can be drawn differently.
    """
    right, wrong = (0.0, 2.0) if one_in_class else (2.0, 0.0)
    index = heads(101, 1)
    scores = pd.DataFrame({"a": [1.0, *[right] * 60, *[wrong] * 40]}, index=index)
    classes = classes_of(list(index[:1] if one_in_class else index[1:]))
    row = agreement_with_classes(scores, classes, n_draws=4000).iloc[0]

    def average_precision(share: float) -> float:
        if one_in_class:  # the others in the wrong order stand before it
            return 1 / (1 + 100 * (1 - share))
        return share + (1 - share) * 100 / 101  # those behind the one have precision 100 of 101

    assert row["auroc"] == 0.6
    assert row["average_precision"] == pytest.approx(average_precision(0.6))
    shares = scipy.stats.binom(100, 0.6).ppf([0.025, 0.975]) / 100
    assert shares.tolist() == [0.5, 0.69]
    for end, share in zip(("low", "high"), shares, strict=True):
        less, more = share - 0.011, share + 0.011  # draws may miss it by one head
        assert less < row[f"auroc_{end}"] < more
        assert average_precision(less) < row[f"average_precision_{end}"] < average_precision(more)


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


def test_disagreements_are_listed_with_what_explains_them() -> None:
    scores = pd.DataFrame({"a": [4, 3, 2, 1]}, index=heads(2, 2))
    explain = pd.DataFrame({"direct_effect": [0.1, 0.2, 0.3, 0.4]}, index=heads(2, 2))
    table = disagreements(scores, classes_of([(0, 0), (1, 1)]), MOVER, "a", explain)
    assert table.index.tolist() == [(0, 1), (1, 1)]
    assert table["in_class"].tolist() == [False, True]
    assert table["rank"].tolist() == [2, 4]
    assert table["direct_effect"].tolist() == [0.2, 0.4]
    assert disagreements(scores, classes_of([(0, 0)]), MOVER, "a", explain).empty
