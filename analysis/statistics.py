"""Intervals and correlations, each in one place."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95


def mean_interval(
    values: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first axis and Student's interval for it.

    Args:
        values: float64 ``[n, ...]``; one value alone has the interval from -∞ to ∞.
        confidence: of the interval.

    Returns:
        Mean, lower and upper end, each ``[...]``.
    """
    from scipy.stats import t

    n = len(values)
    mean = values.mean(axis=0)
    if n == 1:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    margin = t.ppf((1 + confidence) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - margin, mean + margin


def wilson_interval(counts: np.ndarray | int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval for shares, each end ``[...]`` in [0, 1].

    Args:
        counts: of successes, whole numbers ``[...]``.
        n: of trials.
    """
    # In closed form: statsmodels has it too, but takes longer to import than a figure to draw.
    share, z2 = np.asarray(counts) / n, NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2
    middle = share + z2 / (2 * n)
    reach = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n)
    low, high = (middle - reach) / (1 + z2 / n), (middle + reach) / (1 + z2 / n)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the last axis, NaN where either is constant."""
    x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
    # Rounding of the mean leaves a constant a hair away from 0.
    lengths = [np.where(np.abs(v).max(-1) > 1e-9, np.sqrt((v * v).sum(-1)), np.nan) for v in (x, y)]
    return np.asarray((x * y).sum(-1) / (lengths[0] * lengths[1]))


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation over the last axis; ties share their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))
