"""Published numbers: the tables of the project, and tolerances that let pass and refuse."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.cli.check_gpt2 import COPIERS_OFF, EXTRA, FOUND, MISSED, verdict
from analysis.errors import ClassesError
from analysis.report.published_numbers import (
    QUANTITIES,
    Comparison,
    compare_attribution,
    compare_copiers,
    compare_mean_ranks,
    published_numbers,
)


def series(values: dict[tuple[int, int], float]) -> pd.Series:
    return pd.Series(values).rename_axis(["layer", "head"])


def test_every_published_quantity_is_there() -> None:
    counts = {quantity: len(published_numbers(quantity)) for quantity in QUANTITIES}
    assert counts == {
        "mean_rank": 9,
        "direct_logit_attribution": 14,
        "eigenvalue_score": 8,
        "static_copier": 6,
    }
    assert published_numbers("mean_rank")[(10, 7)] == 114.888
    assert published_numbers("direct_logit_attribution")[(11, 10)] == -0.970


def test_a_table_without_its_columns_or_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("quantity,layer,value\nmean_rank,1,2\n")
    with pytest.raises(ClassesError, match=r"a\.csv lacks the columns head"):
        published_numbers("mean_rank", tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("quantity,layer,head,value\nmean_rank,1,1,2\n")
    with pytest.raises(ClassesError, match="no row of the quantity eigenvalue_score"):
        published_numbers("eigenvalue_score", tmp_path / "b.csv")


def test_ranks_at_both_ends_are_held_closely() -> None:
    published = series({(10, 7): 115.0, (9, 9): 49982.0})
    assert compare_mean_ranks(published, published + 2).misses == ()
    near = compare_mean_ranks(published, series({(10, 7): 119.0, (9, 9): 49982.0}))
    assert near.misses == ("10.7: published mean rank 115, ours 119.",)
    far = compare_mean_ranks(published, series({(10, 7): 115.0, (9, 9): 49970.0}))
    assert far.misses == ("9.9: published mean rank 49982, ours 49970.",)
    assert len(compare_mean_ranks(published, published.iloc[:1]).misses) == 1, "a rank is missing"


def test_attributions_are_shares_with_signs_and_an_order() -> None:
    published = series({(9, 9): 3.0, (9, 6): 1.4, (10, 0): 0.6, (8, 6): -0.08, (10, 7): -1.9})
    same = compare_attribution(published, published * 2, 7.1, 3.55)
    assert same.misses == ()
    small = published.copy()
    small[(8, 6)] = 0.05
    assert compare_attribution(published, small, 3.55, 3.55).misses == (), "too small to tell"
    turned = published.copy()
    turned[(10, 0)] = -0.1
    (miss,) = compare_attribution(published, turned, 3.55, 3.55).misses
    assert miss.startswith("10.0: published sign of the attribution 0.169")
    large = published.copy()
    large[(9, 6)] = 3.2
    misses = compare_attribution(published, large, 3.55, 3.55).misses
    assert misses[0].startswith("9.6: published share 0.394, ours 0.901")
    order = compare_attribution(published, published[::-1].set_axis(published.index), 3.55, 3.55)
    assert any("the order of the heads agrees by" in miss for miss in order.misses)


def test_copiers_may_change_places_but_not_be_others() -> None:
    heads = [(39, 4), (22, 20), (35, 17), (26, 13), (24, 16), (28, 15)]
    published = published_numbers("static_copier")
    assert [*published.index] == heads
    scores = series({head: 1 - 0.1 * place for place, head in enumerate([*heads, (0, 0)])})
    assert compare_copiers(published, scores).misses == ()
    swapped = scores.copy()
    swapped[[(39, 4), (22, 20)]] = [0.9, 1.0]
    assert compare_copiers(published, swapped).misses == ()
    lost = scores.copy()
    lost[[(39, 4), (22, 20)]] = [0.0, 0.1]
    assert len(compare_copiers(published, lost).misses) == 2
    others = pd.concat([scores, series({(1, h): 2.0 for h in range(3)})])
    assert "3 of the 6 published copiers" in compare_copiers(published, others).misses[0]


def test_the_first_kind_of_miss_decides_the_status() -> None:
    def some(*misses: str) -> Comparison:
        return Comparison("a", pd.DataFrame(), "b", misses)

    assert verdict({MISSED: some(), EXTRA: some()}) == FOUND
    assert verdict({MISSED: some("x"), EXTRA: some("y")}) == MISSED
    assert verdict({MISSED: some(), EXTRA: some("y"), COPIERS_OFF: some("z")}) == EXTRA
