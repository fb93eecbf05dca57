"""How far static and dynamic scores agree, and how sure one can be of it.

The unit of a correlation is a head: its static score against its dynamic score, per template, and
pooled, where a head appears once for each template. Two bootstraps answer two questions. Over
names: would other names of the same kind give the same correlation on these heads? Static and
dynamic score are recomputed from the same resampled names. Over heads: how much does it hang on
single heads? When pooled, a resampled head brings all its templates along. Intervals are
percentiles (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.dynamic.scores import CONTEXTS, DynamicScores
from analysis.errors import ParameterError
from analysis.static.head_scores import HeadScores
from analysis.statistics import pearson, spearman
from analysis.validation import check_int

POOLED = "all templates"
CONFIDENCE = 0.95
OUTLIER = 3.0
"""Studentized residual from which a head is said to be off the line."""


def agreement(
    static: HeadScores, dynamic: DynamicScores, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Correlate static with dynamic scores over heads, with 95 % intervals.

    Args:
        static: of the same names and k, from ``score_heads``.
        dynamic: of any templates.
        n_resamples: of each bootstrap.
        seed: of the resampling; the same seed gives the same intervals.

    Returns:
        A row for each ``context``, ``template`` (and ``POOLED``) and ``kind`` (score or
        suppression). Columns ``pearson`` and ``spearman``, each followed by ``_names_low``,
        ``_names_high``, ``_heads_low``, ``_heads_high``. NaN where all heads score the same.

    Raises:
        ParameterError: the names, k or models of the two differ, or ``n_resamples`` is below 1.
    """
    asked = [
        (s.model, s.k, tuple(names.source_tokens), tuple(names.target_tokens))
        for s, names in ((static, static.pairs), (dynamic, dynamic.names))
    ]
    if asked[0] != asked[1]:
        raise ParameterError("static and dynamic scores must be of the same model, names and k.")
    n_resamples = check_int("n_resamples", n_resamples)
    n_heads, n_names = static.in_top_k[..., 0].size, len(static.pairs)
    rng = np.random.default_rng(seed)
    multiplicities = rng.multinomial(n_names, np.full(n_names, 1 / n_names), size=n_resamples).T
    heads = rng.integers(n_heads, size=(n_resamples, n_heads))
    rows = {}
    for key, x, y in _compared(static, dynamic):
        # [n_templates, n_heads, n_names] each; x repeats itself.
        resampled = [_counts(answers, multiplicities) for answers in (x, y)]
        counted = [answers.sum(2).astype(np.float64) for answers in (x, y)]
        redrawn = [counts[:, heads].swapaxes(0, 1).reshape(n_resamples, -1) for counts in counted]
        row = {}
        for name, correlate in (("pearson", pearson), ("spearman", spearman)):
            row[name] = float(correlate(counted[0].ravel(), counted[1].ravel()))
            for over, (a, b) in (("names", resampled), ("heads", redrawn)):
                row[f"{name}_{over}_low"], row[f"{name}_{over}_high"] = _ends(correlate(a, b))
        rows[key] = row
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["context", "template", "kind"])
    return frame


def _compared(
    static: HeadScores, dynamic: DynamicScores
) -> Iterator[tuple[tuple[str, str, str], np.ndarray, np.ndarray]]:
    """What is compared with what: static and dynamic answers ``[templates, heads, names]``."""
    n = len(static.pairs)
    for c, context in enumerate(CONTEXTS):
        answers = ((s.in_top_k, s.in_bottom_k) for s in (static, dynamic))
        for kind, x, y in zip(static.score_columns, *answers, strict=True):
            x, y = x.reshape(1, -1, n), y[:, c].reshape(len(dynamic.templates), -1, n)
            for t, template in enumerate(dynamic.templates):
                yield (context, template, kind), x, y[t : t + 1]
            yield (context, POOLED, kind), np.broadcast_to(x, y.shape), y


def _counts(
    answers: Bool[np.ndarray, "n_templates n_heads n_names"], multiplicities: np.ndarray
) -> Float[np.ndarray, "n_resamples n"]:
    """Names that count for each head (of each template), for resampled names."""
    # Whole numbers below 2^24 are exact in float32.
    flat = answers.reshape(-1, answers.shape[2]).astype(np.float32)
    return np.asarray((flat @ multiplicities.astype(np.float32)).T, dtype=np.float64)


def _ends(values: Float[np.ndarray, "n_resamples"]) -> tuple[float, float]:
    """Percentile interval, leaving out resamples in which all heads score the same."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def head_table(static: pd.DataFrame, dynamic: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Each head's static and pooled dynamic score, and how far it is off the fitted line.

    Args:
        static: ``HeadScores.to_frame(intervals=True)``.
        dynamic: ``DynamicScores.to_frame()`` of one context, the level ``context`` gone.
        kind: ``copying_score`` or ``suppression_score``.

    Returns:
        Columns ``static``, ``low``, ``high`` (Wilson, 95 %), ``dynamic`` (mean over templates),
        ``fitted``, ``band`` (half-width of the mean's 95 % interval), ``residual`` (studentized),
        indexed by ``layer`` and ``head``.
    """
    import statsmodels.api as sm

    table = pd.DataFrame(
        {
            "static": static[kind],
            "low": static[f"{kind}_low"],
            "high": static[f"{kind}_high"],
            "dynamic": dynamic[kind].groupby(["layer", "head"]).mean(),
        }
    )
    fit = sm.OLS(table["dynamic"], sm.add_constant(table["static"], has_constant="add")).fit()
    predicted = fit.get_prediction()
    low, high = predicted.conf_int(alpha=0.05).T
    return table.assign(
        fitted=predicted.predicted_mean,
        band=(high - low) / 2,
        residual=fit.get_influence().resid_studentized_internal,
    )
