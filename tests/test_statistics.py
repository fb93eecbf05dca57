"""Intervals against closed forms, and by simulation: how often does each hold the truth?"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score, roc_auc_score

from analysis.ioi.class_agreement import auroc_of, average_precision_of
from analysis.statistics import (
    Arrangements,
    cluster_mean_interval,
    cluster_share_interval,
    group_arrangements,
    pearson,
    percentile_interval,
    resampled_counts,
    spearman,
    wilson_interval,
)


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of independent values: each is a cluster."""
    return cluster_mean_interval(values, np.arange(len(values)))


N_SIMULATED = 2000
"""Coverage of 95 % is then known to about one in a hundred (two standard errors)."""
Z = 1.959964  # of the normal distribution, for 95 %


def test_students_interval_of_three_values() -> None:
    # Two degrees of freedom: t = (2p - 1) / sqrt(2p(1 - p)) with p = 0.975, so 4.3027.
    t = 0.95 / (2 * 0.975 * 0.025) ** 0.5
    values = np.array([[1.0, 10.0], [2.0, 10.0], [3.0, 10.0]])  # deviation 1 and 0
    mean, low, high = mean_interval(values)
    assert mean.tolist() == [2, 10]
    assert low == pytest.approx([2 - t / 3**0.5, 10])
    assert high == pytest.approx([2 + t / 3**0.5, 10])


def test_students_interval_of_two_values() -> None:
    # One degree of freedom: t = tan(π(p - 1/2)) with p = 0.975; the standard error is 1.
    t = np.tan(np.pi * 0.475)
    assert mean_interval(np.array([0.0, 2.0])) == pytest.approx((1, 1 - t, 1 + t))


def test_one_value_has_no_bounds() -> None:
    assert tuple(map(float, mean_interval(np.array([3.0])))) == (3, -np.inf, np.inf)


@pytest.mark.parametrize(("count", "n"), [(8, 10), (1, 30), (150, 200)])
def test_wilsons_ends_are_the_shares_that_a_count_is_just_compatible_with(
    count: int, n: int
) -> None:
    low, high = wilson_interval(count, n)
    assert low < count / n < high
    for end in (low, high):
        assert abs(count / n - end) == pytest.approx(Z * (end * (1 - end) / n) ** 0.5)


def test_wilsons_interval_of_none_and_of_all() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0, Z**2 / (10 + Z**2)))
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + Z**2), 1))


def test_clusters_of_one_value_are_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=(9, 2))
    mean, low, high = cluster_mean_interval(values, np.array(list("abcdefghi")))
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert np.allclose([low, high], [expected.low, expected.high])
    assert np.allclose(mean, values.mean(0))


def test_equal_clusters_are_students_interval_of_their_means() -> None:
    values = np.random.default_rng(0).normal(size=24)
    clusters = np.arange(24) % 6
    means = np.array([values[clusters == g].mean() for g in range(6)])
    assert np.allclose(cluster_mean_interval(values, clusters), mean_interval(means))


def test_one_cluster_alone_says_nothing() -> None:
    one = np.zeros(5)
    assert tuple(map(float, cluster_mean_interval(np.arange(5.0), one))) == (2, -np.inf, np.inf)
    assert cluster_share_interval(np.array([True] * 5), one) == (0, 1)


def test_a_share_counts_for_as_many_trials_as_its_clusters_tell() -> None:
    """Trials that repeat within clusters count once; t with 9 degrees of freedom replaces z."""
    results = np.array([True] * 8 + [False] * 2)
    low, high = cluster_share_interval(np.repeat(results, 7), np.repeat(np.arange(10), 7))
    t = scipy.stats.t.ppf(0.975, 9)
    for end in (low, high):  # the variance of 10 trials with the divisor 9
        assert abs(0.8 - end) == pytest.approx(t * (end * (1 - end) / 9) ** 0.5)
    low, high = cluster_share_interval(np.ones(30, dtype=bool), np.arange(30) % 10)
    assert low == pytest.approx(10 / (10 + t**2))
    assert high == 1


def simulated_prompts(
    rng: np.random.Generator, n_templates: int, n_each: int, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Many samples of prompts ``[n_simulated, n]`` whose templates differ, and the templates."""
    templates = np.repeat(np.arange(n_templates), n_each)
    own = rng.normal(size=(N_SIMULATED, n_templates))[:, templates] * spread
    return own + rng.normal(size=(N_SIMULATED, len(templates))), templates


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_a_mean_over_prompts_is_covered_where_templates_differ(spread: float) -> None:
    values, templates = simulated_prompts(np.random.default_rng(0), 16, 12, spread)
    _, low, high = cluster_mean_interval(values.T, templates)
    assert 0.935 < np.mean((low < 0) & (high > 0)) < 0.97
    if spread:
        _, low, high = mean_interval(values.T)
        assert np.mean((low < 0) & (high > 0)) < 0.8, "as if prompts were independent"


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("share", [0.6, 0.9, 0.97])
def test_a_share_of_prompts_is_covered_where_templates_differ(share: float, alike: float) -> None:
    rng = np.random.default_rng(1)
    n_templates, n_each = 16, 12
    if alike:  # intraclass correlation of a beta-binomial
        a, b = share * (1 - alike) / alike, (1 - share) * (1 - alike) / alike
        of_template = rng.beta(a, b, size=(N_SIMULATED, n_templates))
    else:
        of_template = np.full((N_SIMULATED, n_templates), share)
    templates = np.repeat(np.arange(n_templates), n_each)
    right = rng.random((N_SIMULATED, n_templates * n_each)) < of_template[:, templates]
    ends = np.array([cluster_share_interval(row, templates) for row in right])
    covered = np.mean((ends[:, 0] <= share) & (share <= ends[:, 1]))
    assert 0.93 < covered <= 0.99
    if alike:
        low, high = wilson_interval(right.sum(1), right.shape[1])
        assert np.mean((low <= share) & (share <= high)) < 0.89, "as if they were independent"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_a_share_of_names_is_covered(share: float) -> None:
    counts = np.random.default_rng(2).binomial(256, share, size=N_SIMULATED)
    low, high = wilson_interval(counts, 256)
    assert 0.93 < np.mean((low <= share) & (share <= high)) < 0.98


@pytest.mark.slow
def test_a_bootstrap_of_clusters_covers_the_correlation_of_heads() -> None:
    """Heads come in groups of three that are alike, as heads of one key-value head are."""
    rng = np.random.default_rng(3)
    covered, n_simulated, n_groups = [], 200, 40
    groups = np.repeat(np.arange(n_groups), 3)
    for _ in range(n_simulated):
        x, y = rng.normal(size=(2, n_groups))
        y = 0.6 * x + 0.8 * y  # the population's correlation is 0.6 between groups
        noise = 0.3 * rng.normal(size=(2, len(groups)))
        x, y = x[groups] + noise[0], y[groups] + noise[1]
        counts = resampled_counts(groups, 400, rng)
        assert (counts.reshape(400, n_groups, 3) == counts[:, ::3, None]).all()
        # As many values in every resample, since groups are of one size.
        drawn = np.repeat(np.tile(np.arange(len(groups)), 400), counts.ravel()).reshape(400, -1)
        interval = percentile_interval(pearson(x[drawn], y[drawn]))
        covered.append(interval.low <= 0.6 / 1.09 <= interval.high)
    assert 0.88 < np.mean(covered) <= 0.99


def test_resamples_without_a_value_are_counted() -> None:
    found = percentile_interval(np.array([np.nan, 1.0, 2.0, np.nan]))
    assert (found.low, found.high, found.undefined) == pytest.approx((1.025, 1.975, 0.5))
    assert percentile_interval(np.full(3, np.nan)).undefined == 1


@pytest.mark.parametrize(("n_groups", "size", "held"), [(7, 1, [0, 4]), (5, 3, [0, 1, 9])])
def test_all_arrangements_are_there_once_as_often(
    n_groups: int, size: int, held: list[int]
) -> None:
    member = np.zeros(n_groups * size, dtype=bool)
    member[held] = True
    found = group_arrangements(member, size, np.random.default_rng(0))
    assert found.exact
    sets, counts = np.unique(np.sort(found.members, axis=1), axis=0, return_counts=True)
    assert len({*counts.tolist()}) == 1
    if size == 1:
        assert {*map(tuple, sets.tolist())} == {*combinations(range(7), 2)}
    else:  # two of a group and one of another: 5 · 4 groups, 3 · 3 places
        assert len(sets) == 5 * 4 * 3 * 3
        per_group = np.apply_along_axis(np.bincount, 1, sets // 3, minlength=5)
        assert (np.sort(per_group, axis=1) == [0, 0, 0, 1, 2]).all()


def test_a_sample_of_arrangements_has_the_right_shape_and_no_place_twice() -> None:
    member = np.zeros(270, dtype=bool)
    member[[0, 1, 2, 100, 180]] = True
    found = group_arrangements(member, 3, np.random.default_rng(0))
    assert not found.exact and found.members.shape == (9_999, 5)
    in_order = np.sort(found.members, axis=1)
    assert (np.diff(in_order, axis=1) > 0).all() and in_order.max() < 270
    groups = [len({*row}) for row in (in_order // 3).tolist()]
    assert {*groups} == {3}


def test_a_p_value_counts_the_observed_arrangement() -> None:
    members = np.arange(10)[:, None]
    exact, sampled = Arrangements(members, True), Arrangements(members, False)
    observed = np.array([8])
    assert exact.p_value(lambda m: m[:, 0].astype(float), observed) == 0.2
    assert sampled.p_value(lambda m: m[:, 0].astype(float), observed) == pytest.approx(3 / 11)


def test_aurocs_and_precisions_of_many_classes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 8, size=30).astype(float)
    members = np.array([rng.choice(30, 4, replace=False) for _ in range(40)])
    labels = [np.isin(np.arange(30), row) for row in members]
    for ours, theirs in (
        (auroc_of(values), roc_auc_score),
        (average_precision_of(values), average_precision_score),
    ):
        assert np.allclose(ours(members), [theirs(label, values) for label in labels])


@pytest.mark.slow
@pytest.mark.parametrize(("n_members", "group_size"), [(1, 1), (4, 1), (3, 3)])
@pytest.mark.parametrize("statistic", [auroc_of, average_precision_of])
def test_p_values_are_below_a_level_no_more_often_than_that_level(
    n_members: int, group_size: int, statistic: object
) -> None:
    """Scores and classes of heads that both depend on the group, but not on each other."""
    rng = np.random.default_rng(4)
    n_groups, n_simulated = 24, 400
    p = []
    for _ in range(n_simulated):
        groups = rng.normal(size=n_groups).repeat(group_size)
        values = groups + 0.1 * rng.normal(size=len(groups))
        member = np.zeros(len(groups), dtype=bool)
        first = rng.integers(n_groups) * group_size  # with groups, the class is one of them
        places = range(first, first + 3) if group_size > 1 else rng.permutation(24)[:n_members]
        member[list(places)] = True
        found = group_arrangements(member, group_size, rng)
        p.append(found.p_value(statistic(values), np.flatnonzero(member)))  # type: ignore[operator]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 2.5 * (level * (1 - level) / 400) ** 0.5
    assert np.mean(np.array(p) <= 0.5) > 0.3, "not merely conservative"


def test_pearson_and_spearman_are_scipys() -> None:
    x, y = np.random.default_rng(0).integers(0, 5, size=(2, 3, 20)).astype(float)
    for i in range(3):
        assert pearson(x, y)[i] == pytest.approx(scipy.stats.pearsonr(x[i], y[i]).statistic)
        assert spearman(x, y)[i] == pytest.approx(scipy.stats.spearmanr(x[i], y[i]).statistic)
    assert np.isnan(pearson(np.ones(4), np.arange(4.0)))
