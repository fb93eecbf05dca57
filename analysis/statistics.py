"""Intervals, correlations and permutation tests, each in one place.

``tests/test_statistics.py`` shows by simulation how often each interval holds the truth, and how
often each p-value is below a level where nothing is to be found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations, product
from math import comb, perm
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

CONFIDENCE = 0.95
N_PERMUTATIONS = 9_999
"""Random arrangements of a permutation test that has too many to go through."""
MOST_ARRANGEMENTS = 50_000
"""Arrangements of a permutation test that are all gone through."""


def cluster_mean_interval(
    values: Float[np.ndarray, "n *rest"], clusters: Shaped[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Mean over the first axis and a 95 % interval that knows that values come in clusters.

    With residuals summed within each of G clusters, the variance of the mean is
    ``G/(G-1)·Σ_g(Σ_{i∈g}(x_i - mean))²/n²``, and the interval is Student's with G - 1 degrees of
    freedom (Liang & Zeger, *Biometrika* 73, 1986, with the usual correction for few clusters).
    Where every cluster holds one value it is Student's interval.

    Args:
        values: float64.
        clusters: of each value, of any type; one cluster alone gives -∞ to ∞.

    Returns:
        Mean, lower and upper end.
    """
    mean = np.asarray(values.mean(axis=0))
    sums, n_clusters = _cluster_sums(values - mean, clusters)
    if n_clusters == 1:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    variance = n_clusters / (n_clusters - 1) * np.square(sums).sum(axis=0) / len(values) ** 2
    margin = _students_quantile(n_clusters - 1) * np.sqrt(variance)
    return mean, np.asarray(mean - margin), np.asarray(mean + margin)


def wilson_interval(
    counts: Int[np.ndarray, "..."] | int, n: int
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Wilson's 95 % interval for shares of independent trials, each end in [0, 1]."""
    # In closed form: statsmodels has it too, but takes longer to import than a figure to draw.
    share, z2 = np.asarray(counts) / n, NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2
    middle = share + z2 / (2 * n)
    reach = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n)
    low, high = (middle - reach) / (1 + z2 / n), (middle + reach) / (1 + z2 / n)
    return np.asarray(np.clip(low, 0.0, 1.0)), np.asarray(np.clip(high, 0.0, 1.0))


def cluster_share_interval(
    successes: Bool[np.ndarray, "n"], clusters: Shaped[np.ndarray, "n"]
) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of trials that come in clusters, each end in [0, 1].

    The n trials count for n divided by the design effect, which is the variance of the share with
    clusters over that without, and at least 1; and the normal quantile becomes Student's with one
    degree of freedom less than there are clusters (after Korn & Graubard, *Survey Methodology* 24,
    1998). Where all trials have one result the design effect cannot be known, and each cluster
    counts for one trial. Clusters are taken to be of about one size, as prompts are drawn here:
    where one of them holds most of the trials, the interval covers less than it says.

    Args:
        successes: of each trial.
        clusters: of each trial, of any type; one cluster alone gives 0 to 1.
    """
    n, share = len(successes), float(np.mean(successes))
    sums, n_clusters = _cluster_sums(successes - share, clusters)
    if n_clusters == 1:
        return 0.0, 1.0
    plain = share * (1 - share) / n
    if plain > 0:
        clustered = n_clusters / (n_clusters - 1) * float(np.square(sums).sum()) / n**2
        effective = n / max(clustered / plain, 1.0)
    else:
        effective = float(n_clusters)
    z2 = _students_quantile(n_clusters - 1) ** 2 / effective
    middle, margin = share + z2 / 2, np.sqrt(z2 * share * (1 - share) + z2**2 / 4)
    low, high = (middle - margin) / (1 + z2), (middle + margin) / (1 + z2)
    return float(max(low, 0.0)), float(min(high, 1.0))


def _students_quantile(freedom: int) -> float:
    """How many standard errors a two-sided interval of Student's reaches."""
    from scipy.special import stdtrit  # scipy.stats.t is this in a wrapper that takes longer

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _cluster_sums(
    values: Float[np.ndarray, "n *rest"], clusters: Shaped[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n_clusters *rest"], int]:
    """Sums within clusters, and how many clusters there are."""
    names, number = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, number.ravel(), values)
    return sums, len(names)


@dataclass(frozen=True)
class PercentileInterval:
    """A bootstrap's interval, and how much of the bootstrap it rests on.

    Attributes:
        low: lower end, NaN where no resample has a value.
        high: upper end.
        undefined: share of resamples without a value (a correlation of a constant is none). These
            are not in the interval, so that it holds given that the value exists.
    """

    low: float
    high: float
    undefined: float


def percentile_interval(values: Float[np.ndarray, "n_resamples"]) -> PercentileInterval:
    """Percentiles of a bootstrap (Efron & Tibshirani, 1993, chapter 13)."""
    known = values[~np.isnan(values)]
    undefined = 1 - len(known) / len(values)
    if not len(known):
        return PercentileInterval(float("nan"), float("nan"), undefined)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return PercentileInterval(float(low), float(high), undefined)


def resampled_counts(
    clusters: Shaped[np.ndarray, "n"], n_resamples: int, rng: np.random.Generator
) -> Int[np.ndarray, "n_resamples n"]:
    """How often each value comes in each resample of a bootstrap that draws whole clusters."""
    names, number = np.unique(clusters, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    return np.asarray(drawn[:, number.ravel()])


@dataclass(frozen=True)
class Arrangements:
    """Places that the members of a class could hold, were the class independent of the scores.

    Attributes:
        members: int64 ``[n_arrangements, n_members]``, places of the members.
        exact: whether these are all arrangements; else they are a random sample of them.
    """

    members: Int[np.ndarray, "n_arrangements n_members"]
    exact: bool

    def p_value(
        self,
        statistic: Callable[[Int[np.ndarray, "m n_members"]], Float[np.ndarray, "m"]],
        observed: Int[np.ndarray, "n_members"],
    ) -> float:
        """Share of arrangements whose statistic is at least the observed one.

        Exact where all arrangements are at hand. Where they are a sample, the observed one counts
        as one of them, which keeps the p-value valid: (b + 1)/(B + 1) (Phipson & Smyth, 2010).
        """
        least = float(statistic(observed[None])[0])
        n_reached = int((statistic(self.members) >= least - 1e-12).sum())
        if self.exact:
            return n_reached / len(self.members)
        return (n_reached + 1) / (len(self.members) + 1)


def group_arrangements(
    member: Bool[np.ndarray, "n"], group_size: int, rng: np.random.Generator
) -> Arrangements:
    """Arrangements of a class among places that come in groups of one size.

    Groups are exchanged as wholes, and then the places within each group, since the places of a
    group are not independent: heads of one key-value group share W_V. With groups of one place
    these are all subsets of the class's size.

    Args:
        member: which places the class holds.
        group_size: divides n; a group is that many places in a row.
        rng: draws the sample where the arrangements are too many.
    """
    n_groups = len(member) // group_size
    sizes = member.reshape(n_groups, group_size).sum(1)
    sizes = np.sort(sizes[sizes > 0])[::-1]
    within = [comb(group_size, int(size)) for size in sizes]
    n_arrangements = perm(n_groups, len(sizes)) * int(np.prod(within, dtype=object))
    if n_arrangements <= MOST_ARRANGEMENTS:
        inside = [
            np.concatenate([np.asarray(c) + i * group_size for i, c in enumerate(choice)])
            for choice in product(*(combinations(range(group_size), int(s)) for s in sizes))
        ]
        slot, offset = np.divmod(np.array(inside), group_size)
        groups = np.array(list(permutations(range(n_groups), len(sizes))))
        # [orders of groups, choices within groups, members]
        places = groups[:, slot] * group_size + offset
        return Arrangements(places.reshape(-1, places.shape[-1]), exact=True)
    slot = np.repeat(np.arange(len(sizes)), sizes)
    groups = _draws_without_replacement(n_groups, len(sizes), rng)[:, slot]
    offsets = np.concatenate(
        [_draws_without_replacement(group_size, int(size), rng) for size in sizes], axis=1
    )
    return Arrangements(groups * group_size + offsets, exact=False)


def _draws_without_replacement(
    n: int, m: int, rng: np.random.Generator
) -> Int[np.ndarray, "n_permutations m"]:
    """M of n, in random order, for each arrangement of the sample."""
    order = np.argsort(rng.random((N_PERMUTATIONS, n)), axis=1)
    return np.asarray(order[:, :m])


def pearson(x: Float[np.ndarray, "... n"], y: Float[np.ndarray, "... n"]) -> np.ndarray:
    """Pearson's correlation over the last axis, NaN where either is constant."""
    x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
    # Rounding of the mean leaves a constant a hair away from 0.
    lengths = [np.where(np.abs(v).max(-1) > 1e-9, np.sqrt((v * v).sum(-1)), np.nan) for v in (x, y)]
    return np.asarray((x * y).sum(-1) / (lengths[0] * lengths[1]))


def spearman(x: Float[np.ndarray, "... n"], y: Float[np.ndarray, "... n"]) -> np.ndarray:
    """Spearman's correlation over the last axis; ties share their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))
