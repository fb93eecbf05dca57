"""How often the intervals of notebook 5 hold the truth, by simulation of heads and names.

A simulated head copies each name of an endless list with its own chance, static and dynamic. The
truth is the correlation of these chances over the heads. A tenth of the heads copies much, the
others next to nothing, as in real models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm

from analysis.dynamic.agreement import agreement, basic_interval
from analysis.dynamic.scores import CONTEXTS, DynamicScores
from analysis.static.head_scores import HeadScores
from analysis.statistics import pearson, percentile_interval, spearman, wilson_interval
from tests.made_up import MODEL, made_up_pairs, scores_from_counts

N_HEADS, N_NAMES = 60, 200
REPEATS = 150
KINDS = ("equal", "similar", "half unrelated")


def chances(
    kind: str, rng: np.random.Generator, n: int = N_HEADS, share: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Static and dynamic chances of n heads: a tenth copies much, or each with this chance."""
    low, high = rng.beta(0.3, 60, n), rng.beta(1, 1.5, n)
    much = np.arange(n) < n // 10 if share is None else rng.random(n) < share
    static = np.where(much, high, low)
    match kind:
        case "equal":
            return static, static
        case "similar":
            return static, np.clip(static * rng.normal(1, 0.1, n), 0, 1)
    return static, np.where(rng.random(n) < 0.5, static, rng.permutation(static))


def answers(
    static: np.ndarray, dynamic: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which names are copied; most are copied by the same head in both ways."""
    u, v = rng.random((2, len(static), N_NAMES))
    v = np.where(rng.random(u.shape) < 0.7, u, v)
    return u < static[:, None], v < dynamic[:, None]


def scores(top: np.ndarray, ran: np.ndarray) -> tuple[HeadScores, DynamicScores]:
    """Results that hold these answers, one layer of heads, one template, both contexts alike."""
    pairs = made_up_pairs(N_NAMES)
    static = scores_from_counts(np.zeros((1, len(top)), int), n_pairs=N_NAMES)
    static.in_top_k[0] = top
    shape = (1, len(CONTEXTS), 1, len(top), N_NAMES)
    both = np.broadcast_to(ran, shape).copy()
    empty = np.zeros(shape, dtype=bool)
    return static, DynamicScores(both, empty, ("a <X>",), pairs, 1, MODEL, {})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_over_names_covers(kind: str) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(REPEATS):
        static, dynamic = chances(kind, rng)
        truth = float(pearson(static, dynamic))
        table = agreement(*scores(*answers(static, dynamic, rng)), n_resamples=200, seed=seed)
        row = table.loc[("with", "a <X>", "copying_score")]
        covered.append(row["pearson_names_low"] <= truth <= row["pearson_names_high"] + 1e-12)
    assert np.mean(covered) >= 0.90, np.mean(covered)


def simulated(
    kind: str, correlate: Callable[[np.ndarray, np.ndarray], np.ndarray], over: str
) -> dict[str, float]:
    """How often the percentile and the basic interval of a bootstrap cover."""
    rng = np.random.default_rng(1)
    covered: dict[str, list[bool]] = {"percentile": [], "basic": []}
    of_all_heads = float(correlate(*chances(kind, np.random.default_rng(2), 100_000, 0.03)))
    for _ in range(REPEATS):
        # Of real models' heads, even fewer copy than a tenth.
        static, dynamic = chances(kind, rng, share=0.03 if over == "heads" else None)
        truth = float(correlate(static, dynamic))
        top, ran = answers(static, dynamic, rng)
        if over == "heads":  # the truth is that of endlessly many heads, names being endless too
            estimate, truth = truth, of_all_heads
            which = rng.integers(N_HEADS, size=(200, N_HEADS))
            resampled = correlate(static[which], dynamic[which])
        else:
            times = rng.multinomial(N_NAMES, np.full(N_NAMES, 1 / N_NAMES), size=200).T
            estimate = float(correlate(top.sum(1) * 1.0, ran.sum(1) * 1.0))
            resampled = correlate((top @ times).T * 1.0, (ran @ times).T * 1.0)
        percentile = percentile_interval(resampled)
        low, high, _ = basic_interval(estimate, resampled)
        covered["percentile"].append(percentile.low <= truth <= percentile.high)
        covered["basic"].append(low <= truth <= high + 1e-12)
    return {name: float(np.mean(found)) for name, found in covered.items()}


@pytest.mark.slow
def test_percentiles_over_names_do_not_cover() -> None:
    """Why the basic interval is used."""
    assert simulated("equal", pearson, "names")["percentile"] < 0.1


@pytest.mark.slow
def test_no_bootstrap_of_spearmans_correlation_covers() -> None:
    """Why it has no interval."""
    assert max(simulated("similar", spearman, "names").values()) < 0.85


def test_no_bootstrap_over_heads_covers() -> None:
    """Why a range is given instead of an interval."""
    assert max(simulated("half unrelated", pearson, "heads").values()) < 0.9


def test_the_usual_band_of_the_fitted_line_does_not_cover() -> None:
    """Why the line is drawn without one."""
    rng = np.random.default_rng(0)
    many = chances("half unrelated", np.random.default_rng(2), 100_000, 0.1)
    slope, intercept = np.polyfit(*many, 1)
    covered = []
    for _ in range(REPEATS):
        static, dynamic = chances("half unrelated", rng, share=0.1)
        fit = sm.OLS(dynamic, sm.add_constant(static)).fit()
        low, high = fit.get_prediction([[1.0, 0.8]]).conf_int(alpha=0.05)[0]
        covered.append(low <= intercept + slope * 0.8 <= high)
    assert np.mean(covered) < 0.85


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9])
def test_wilsons_interval_of_a_static_score_covers(share: float) -> None:
    """On the average over shares near this one: at a single share it goes up and down with n."""
    rng = np.random.default_rng(0)
    truth = share * rng.uniform(0.8, 1.1, size=4000)
    low, high = wilson_interval(rng.binomial(779, truth), 779)
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.995
