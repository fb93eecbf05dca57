"""Words about scores follow from the scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.ioi.head_classes import MEASURED, published_classes
from analysis.provenance import GPT2_SMALL, ModelIdentity
from analysis.report.markdown import bullets
from analysis.report.static import (
    below_high,
    key_observations,
    strongest_head,
    strongest_heads,
)
from analysis.static.head_scores import HeadScores
from tests.made_up import scores_from_counts


def scores(top: dict[tuple[int, int], int], bottom: dict[tuple[int, int], int]) -> HeadScores:
    """Scores of a model of 12 × 12 heads over 100 names, zero but for those given."""
    n_in_top_k, n_in_bottom_k = np.zeros((2, 12, 12), dtype=np.int64)
    for head, count in top.items():
        n_in_top_k[head] = count
    for head, count in bottom.items():
        n_in_bottom_k[head] = count
    model = ModelIdentity(GPT2_SMALL, "GPT-2")
    return scores_from_counts(n_in_top_k, n_in_bottom_k, model=model)


PLANTED = scores({(9, 6): 90, (10, 0): 60, (1, 2): 20}, {(10, 7): 80, (1, 2): 11})


def test_strongest_heads_come_in_order_with_their_counts() -> None:
    table = strongest_heads(PLANTED, "copying_score", 3)
    assert list(table.index) == [(9, 6), (10, 0), (1, 2)]
    assert list(table["names"]) == ["90 of 100", "60 of 100", "20 of 100"]
    assert strongest_head(PLANTED) == (9, 6)
    assert strongest_head(PLANTED, "suppression_score") == (10, 7)


def test_observations_name_the_heads_and_layers_of_the_scores() -> None:
    said = " ".join(key_observations(PLANTED, pd.DataFrame(columns=["class"])))
    assert "2 of 144 heads copy at least half of the names (9.6, 10.0)" in said
    assert "1 of 144 heads suppresses at least half of the names (10.7)" in said
    assert "layers 9 to 10 of 0 to 11; 3 of 3 are in the upper half" in said
    assert "more than a tenth of the names: 1 (1.2)" in said
    assert "No head classes are published" in said


def test_observations_rank_the_published_heads() -> None:
    said = " ".join(key_observations(PLANTED, published_classes(GPT2_SMALL)))
    assert "9.6: 0.90 (number 1)" in said
    assert "10.7: 0.80 (number 1)" in said
    assert "9.9: 0.00 (number 4 to 144)" in said


@pytest.mark.filterwarnings("error")
def test_a_model_without_any_such_head_is_spoken_of_too() -> None:
    said = " ".join(key_observations(scores({}, {(0, 0): 3}), pd.DataFrame(columns=["class"])))
    assert "No head of 144 copies at least half" in said
    assert "No head of 144 suppresses at least half of the names; the highest suppression" in said
    assert "nan" not in said


def test_a_score_below_half_is_not_shown_as_half() -> None:
    counts = np.array([[0, 0], [499, 499], [3, 0]])
    said = key_observations(
        scores_from_counts(counts, n_pairs=1000), pd.DataFrame(columns=["class"])
    )
    assert said[0] == (
        "No head of 6 copies at least half of the names; the highest copying score is 0.499, of "
        "heads 1.0, 1.1."
    )
    shown = {0.494: "0.49", 0.496: "0.496", 0.49999: "0.499", 0.5: "0.50", 0.996: "1.00"}
    shown |= {0.0: "0.00", 1 / 779: "0.001", 0.0049: "0.005", 0.00021: "0.0002", 0.005: "0.01"}
    assert {score: below_high(score) for score in shown} == shown


def test_the_highest_score_is_not_shown_as_zero() -> None:
    counts = np.array([[0, 1], [0, 0]])
    said = key_observations(
        scores_from_counts(counts, n_pairs=779), pd.DataFrame(columns=["class"])
    )
    assert said[0].endswith("the highest copying score is 0.001, of head 0.1.")


def test_where_all_heads_score_zero_none_is_the_highest() -> None:
    said = key_observations(scores({}, {}), pd.DataFrame(columns=["class"]))
    assert said[1] == (
        "No head of 144 suppresses at least half of the names; all heads have a suppression score "
        "of 0."
    )


def test_it_is_said_which_heads_lie_where() -> None:
    none = pd.DataFrame(columns=["class"])
    assert "Head 9.6 is in layer 9 of 0 to 11." in key_observations(scores({(9, 6): 90}, {}), none)
    (where,) = [one for one in key_observations(PLANTED, none) if "upper half" in one]
    assert where.startswith("These 3 heads are in layers 9 to 10")
    (where,) = [
        one
        for one in key_observations(scores({(9, 6): 90, (0, 1): 90}, {}), none)
        if "upper half" in one
    ]
    assert where.endswith("1 of 2 is in the upper half.")


def test_published_and_measured_heads_are_ranked_apart() -> None:
    published = published_classes(GPT2_SMALL)
    movers = published[published["class"] == "name mover"]
    measured = movers.iloc[:1].assign(origin=MEASURED).rename(index={9: 1, 6: 2})
    said = " ".join(key_observations(PLANTED, pd.concat([published, measured])))
    assert "Published name mover heads by copying score: 9.6: 0.90 (number 1), 9.9: 0.00" in said
    assert "Measured name mover heads by copying score: 1.2: 0.20 (number 3)." in said
    assert said.count("1.2: 0.20") == 1


def test_a_relation_is_answered_and_not_copied() -> None:
    counts = np.array([[5, 0], [95, 40], [70, 10]])
    relation = scores_from_counts(counts, counts, relation="relation")
    said = " ".join(key_observations(relation, pd.DataFrame(columns=["class"])))
    assert "2 of 6 heads answer at least half of the pairs" in said
    assert "median head's relation score" in said
    assert "both answer and suppress more than a tenth of the pairs" in said
    assert "cop" not in said
    one = scores_from_counts(counts, n_pairs=180, relation="relation")
    said = " ".join(key_observations(one, pd.DataFrame(columns=["class"])))
    assert "1 of 6 heads answers at least half" in said


def test_observations_as_markdown_keep_every_character() -> None:
    text = bullets(["a_b *c* <img onerror=x> $1", "9.6 and 10.0"], escape=True).data
    assert text == "- a\\_b \\*c\\* \\<img onerror=x\\> \\$1\n- 9.6 and 10.0"
