"""Correlations and their bootstrap, and Wilson's intervals."""

from __future__ import annotations

import warnings
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings

from analysis.dynamic.agreement import OUTLIER, POOLED, agreement, head_table
from analysis.dynamic.scores import CONTEXTS, DynamicScores
from analysis.errors import ParameterError
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE, HeadScores
from analysis.statistics import pearson, spearman, wilson_interval
from tests.made_up import MODEL, made_up_pairs, scores_from_counts

N_LAYERS, N_HEADS, N_NAMES = 4, 5, 60
TEMPLATES = ("one <X>", "two <X>")
SCORES = (COPYING_SCORE, SUPPRESSION_SCORE)


def made_up(seed: int, noise: float) -> tuple[HeadScores, DynamicScores]:
    """Static scores, and dynamic ones that differ from them for a share of the names."""
    rng = np.random.default_rng(seed)
    shares = rng.random((2, N_LAYERS, N_HEADS, 1))
    top, bottom = rng.random((2, N_LAYERS, N_HEADS, N_NAMES)) < shares
    names = made_up_pairs(N_NAMES)
    shape = (len(TEMPLATES), len(CONTEXTS), N_LAYERS, N_HEADS, N_NAMES)
    other, flip = rng.random((2, *shape)) < 0.5, rng.random((2, *shape)) < noise
    moved = [np.where(flip[i], other[i], answers) for i, answers in enumerate((top, bottom))]
    return (
        HeadScores(top, bottom, names, 1, True, MODEL, {}),
        DynamicScores(moved[0], moved[1], TEMPLATES, names, 1, MODEL, {}),
    )


# ---- correlations


values = hnp.arrays(np.float64, st.integers(3, 20), elements=st.integers(0, 9).map(float))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_correlations_are_scipys(data: st.DataObject) -> None:
    x = data.draw(values)
    y = data.draw(hnp.arrays(np.float64, len(x), elements=st.integers(0, 9).map(float)))
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(pearson(x, y)) and np.isnan(spearman(x, y))
        return
    assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y)[0], abs=1e-9)
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y)[0], abs=1e-9)


def test_the_table_holds_every_comparison_and_its_plain_correlation() -> None:
    static, dynamic = made_up(0, 0.3)
    table = agreement(static, dynamic, n_resamples=20)
    assert list(table.index.names) == ["context", "template", "kind"]
    assert len(table) == len(CONTEXTS) * (len(TEMPLATES) + 1) * len(SCORES)
    for c, context in enumerate(CONTEXTS):
        for kind, x, y in (
            ("copying_score", static.in_top_k, dynamic.in_top_k[:, c]),
            ("suppression_score", static.in_bottom_k, dynamic.in_bottom_k[:, c]),
        ):
            x, y = x.mean(-1).ravel(), y.mean(-1).reshape(len(TEMPLATES), -1)
            for t, template in enumerate(TEMPLATES):
                found = table.loc[(context, template, kind)]
                assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(x, y[t])[0])
                assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(x, y[t])[0])
            pooled = scipy.stats.pearsonr(np.tile(x, len(TEMPLATES)), y.ravel())[0]
            assert table.loc[(context, POOLED, kind), "pearson"] == pytest.approx(pooled)


def test_equal_answers_correlate_fully_in_every_resample() -> None:
    table = agreement(*made_up(1, 0.0), n_resamples=50)
    undefined = [column for column in table if column.endswith("undefined")]
    assert np.allclose(table.drop(columns=undefined), 1.0)
    assert (table[undefined] == 0).all(axis=None)


def test_the_same_seed_gives_the_same_intervals_and_they_hold_the_estimate() -> None:
    static, dynamic = made_up(2, 0.4)
    table = agreement(static, dynamic, n_resamples=300, seed=3)
    pd.testing.assert_frame_equal(table, agreement(static, dynamic, n_resamples=300, seed=3))
    assert not table.equals(agreement(static, dynamic, n_resamples=300, seed=4))
    assert (table["pearson_heads_low"] <= table["pearson"]).all()
    assert (table["pearson_heads_high"] >= table["pearson"]).all()
    assert (table["pearson_names_low"] < table["pearson_names_high"]).all()
    assert (table["pearson_names_high"] > table["pearson"]).all(), "r is biased towards 0"


def test_resampling_names_is_as_doing_it_by_hand() -> None:
    static, dynamic = made_up(5, 0.4)
    table = agreement(static, dynamic, n_resamples=40, seed=9)
    drawn = np.random.default_rng(9).multinomial(N_NAMES, np.full(N_NAMES, 1 / N_NAMES), size=40)
    by_hand = []
    for times in drawn:
        which = np.repeat(np.arange(N_NAMES), times)
        x, y = static.in_top_k[..., which].mean(-1), dynamic.in_top_k[0, 1][..., which].mean(-1)
        by_hand.append(scipy.stats.pearsonr(x.ravel(), y.ravel())[0])
    row = table.loc[("without", TEMPLATES[0], "copying_score")]
    low, high = np.quantile(by_hand, [0.025, 0.975])
    assert row["pearson_names_low"] == pytest.approx(2 * row["pearson"] - high)
    assert row["pearson_names_high"] == pytest.approx(min(1, 2 * row["pearson"] - low))


@pytest.mark.parametrize("group_size", [1, 5])
def test_groups_of_heads_are_left_out_with_all_their_templates(group_size: int) -> None:
    static, dynamic = made_up(6, 0.4)
    dynamic = replace(dynamic, group_size=group_size)
    table = agreement(static, dynamic, n_resamples=2)
    x = static.in_top_k.mean(-1).ravel()
    for c, context in enumerate(CONTEXTS):
        of_templates = dynamic.in_top_k[:, c].mean(-1).reshape(len(TEMPLATES), -1)
        for template, y in ((TEMPLATES[1], of_templates[1:]), (POOLED, of_templates)):
            by_hand = []
            for first in range(0, len(x), group_size):
                which = np.setdiff1d(np.arange(len(x)), np.arange(first, first + group_size))
                pair = np.tile(x[which], len(y)), y[:, which].ravel()
                by_hand.append(np.corrcoef(*pair)[0, 1])
            row = table.loc[(context, template, "copying_score")]
            ends = row["pearson_heads_low"], row["pearson_heads_high"]
            assert ends == pytest.approx((min(by_hand), max(by_hand)))


def test_how_often_a_correlation_is_undefined_is_said() -> None:
    """One head alone copies one name: without the head, or the name, all heads score the same."""
    static, dynamic = made_up(0, 0.0)
    for answers in (static.in_top_k, dynamic.in_top_k):
        answers[...] = False
        answers[..., 2, 3, 7] = True
    table = agreement(static, dynamic, n_resamples=2000)
    row = table.loc[("with", TEMPLATES[0], "copying_score")]
    assert row["pearson"] == pytest.approx(1)
    assert row["pearson_heads_undefined"] == pytest.approx(1 / (N_LAYERS * N_HEADS))
    left_out = (1 - 1 / N_NAMES) ** N_NAMES
    assert row["pearson_names_undefined"] == pytest.approx(left_out, abs=0.04)


def test_scores_of_other_names_cannot_be_compared() -> None:
    static, dynamic = made_up(0, 0.1)
    other = replace(static, pairs=made_up_pairs(7))
    with pytest.raises(ParameterError, match="same model, names and k"):
        agreement(other, dynamic)
    with pytest.raises(ParameterError, match="same model, names and k"):
        agreement(replace(static, k=2), dynamic)
    with pytest.raises(ParameterError, match="n_resamples"):
        agreement(static, dynamic, n_resamples=0)


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    static, dynamic = made_up(0, 0.1)
    with pytest.raises(ParameterError, match="seed must be a whole number from 0"):
        agreement(static, dynamic, n_resamples=2, seed=seed)  # type: ignore[arg-type]


# ---- single heads


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_wilsons_interval_is_the_root_of_its_equation(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    low, high = (float(end[0]) for end in wilson_interval(np.array([count]), n))
    assert 0 <= low <= count / n + 1e-12 and count / n - 1e-12 <= high <= 1
    z = scipy.stats.norm.ppf(0.975)
    for end in (low, high):
        if 1e-12 < end < 1 - 1e-12:
            assert abs(count / n - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5, abs=1e-7)


def test_the_frame_can_show_its_intervals() -> None:
    rng = np.random.default_rng(0)
    top, bottom = rng.integers(0, 101, size=(2, 3, 4))
    scores = scores_from_counts(top, bottom)
    frame = scores.to_frame(intervals=True)
    assert list(frame.columns) == [*SCORES, *(f"{k}_{e}" for k in SCORES for e in ("low", "high"))]
    pd.testing.assert_frame_equal(frame[list(SCORES)], scores.to_frame())
    low, high = wilson_interval(bottom.ravel(), 100)
    assert np.array_equal(frame["suppression_score_low"], low)
    assert np.array_equal(frame["suppression_score_high"], high)


def test_a_head_off_the_line_has_a_large_residual() -> None:
    scores, dynamic = made_up(0, 0.0)
    dynamic.in_top_k[:, 1, 2, 3] = ~dynamic.in_top_k[:, 1, 2, 3]
    frame = dynamic.to_frame().xs("without", level="context")
    table = head_table(scores.to_frame(intervals=True), frame, "copying_score")
    assert table["residual"].abs().idxmax() == (2, 3)


def test_the_table_of_heads_is_fitted_by_hand() -> None:
    counts, n = np.array([[0, 20, 90], [50, 100, 35]]), 100
    static = scores_from_counts(counts).to_frame(intervals=True)
    rng = np.random.default_rng(0)
    of_templates = rng.random((2, counts.size))
    index = pd.MultiIndex.from_product(
        [TEMPLATES, range(2), range(3)], names=["template", "layer", "head"]
    )
    table = head_table(
        static, pd.DataFrame({"copying_score": of_templates.ravel()}, index), "copying_score"
    )
    x, y = counts.ravel() / n, (of_templates[0] + of_templates[1]) / 2
    assert table["static"].to_numpy() == pytest.approx(x)
    assert table["dynamic"].to_numpy() == pytest.approx(y)
    z = scipy.stats.norm.ppf(0.975)  # Wilson: |x - p| = z·√(p(1-p)/n), solved for p
    middle = (x + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(x * (1 - x) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert table["low"].to_numpy() == pytest.approx(middle - half, abs=1e-9)
    assert table["high"].to_numpy() == pytest.approx(middle + half, abs=1e-9)
    slope, intercept = np.polyfit(x, y, 1)
    off = y - intercept - slope * x
    leverage = 1 / len(x) + (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    deviation = np.sqrt((off**2).sum() / (len(x) - 2))
    assert table["fitted"].to_numpy() == pytest.approx(intercept + slope * x)
    assert table["residual"].to_numpy() == pytest.approx(off / deviation / np.sqrt(1 - leverage))


@pytest.mark.parametrize("counts", [[[40]], [[0, 40]], [[30, 30], [30, 30]]])
def test_where_no_line_can_be_fitted_the_mean_is_and_no_head_is_off_it(
    counts: list[list[int]],
) -> None:
    static = scores_from_counts(np.array(counts)).to_frame(intervals=True)
    ran = np.linspace(0.2, 0.8, len(static))
    dynamic = pd.concat({t: pd.DataFrame({"copying_score": ran}, static.index) for t in TEMPLATES})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = head_table(static, dynamic, "copying_score")
    assert table["fitted"].to_numpy() == pytest.approx(np.full(len(static), ran.mean()))
    assert table["dynamic"].to_numpy() == pytest.approx(ran)
    assert table["residual"].isna().all() and (table.dtypes == np.float64).all()


def test_residuals_are_not_made_of_rounding_errors() -> None:
    counts = np.zeros((12, 12), int)
    counts[1, 1] = 17
    static = scores_from_counts(counts).to_frame(intervals=True)
    dynamic = pd.concat({"one": static[["copying_score"]]}, names=["template"])
    residual = head_table(static, dynamic, "copying_score")["residual"]
    assert np.isnan(residual.pop((1, 1)))  # leverage 1: the line passes through it
    assert (residual == 0).all()

    dynamic.loc["one", 2, 2] = 0.01
    residual = head_table(static, dynamic, "copying_score")["residual"]
    assert np.isnan(residual.pop((1, 1)))
    assert residual[residual.abs() > OUTLIER].index.tolist() == [(2, 2)]


def test_one_group_of_heads_leaves_no_range_over_heads() -> None:
    static, dynamic = made_up(2, 0.3)
    one = replace(static, in_top_k=static.in_top_k[:1], in_bottom_k=static.in_bottom_k[:1])
    ran = replace(
        dynamic,
        in_top_k=dynamic.in_top_k[:, :, :1],
        in_bottom_k=dynamic.in_bottom_k[:, :, :1],
        group_size=N_HEADS,
    )
    table = agreement(one, ran, n_resamples=20)
    assert table[["pearson_heads_low", "pearson_heads_high"]].isna().all(axis=None)
    assert (table["pearson_heads_undefined"] == 1).all()
    assert table["pearson"].notna().all()
