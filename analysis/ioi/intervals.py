"""Confidence intervals over prompts."""

from __future__ import annotations

import numpy as np
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

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
    n = len(values)
    mean = values.mean(axis=0)
    if n == 1:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    margin = t.ppf((1 + confidence) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - margin, mean + margin


def share_interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval for a share of ``count`` out of ``n``."""
    low, high = proportion_confint(count, n, alpha=1 - confidence, method="wilson")
    return float(low), float(high)
