"""How far static and dynamic scores agree, and how sure one can be of it.

The unit of a correlation is a head: its static score against its dynamic score, per template, and
pooled, where a head appears once for each template. Two questions are asked of each.

1. Would other names of the same kind give the same correlation on these heads? A bootstrap over
   names: static and dynamic scores are computed again from the same resampled names. A correlation
   of scores that are shares of finitely many names is biased towards 0, and a resample is biased
   once more, so that the percentiles of the resamples can miss the truth every time. The interval
   is the *basic* one, from 2r − r*(97.5 %) to 2r − r*(2.5 %), cut at ±1, which takes this bias out
   (Davison & Hinkley, *Bootstrap Methods and their Application*, 1997, section 5.2); it can lie
   above r. In simulations it covers in 83 % (60 names, unrelated scores) to 95 % of cases, in 91 %
   for 780 names and similar heads. Spearman's correlation gets no interval: most heads' scores are
   near 0 and tied there for any finite number of names, and neither interval covers as it says.
2. How much does it depend on single heads? Every key-value group of heads is left out in turn, and
   the smallest and the largest correlation are given. Heads of one group share W_V, so they are
   left out together. This is a range and no interval: a few heads copy and hundreds do not, and
   with so few a bootstrap over heads covers far less than it says.

``tests/dynamic/test_coverage.py`` shows how often each covers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analysis.dynamic.scores import CONTEXTS, DynamicScores
from analysis.errors import ParameterError
from analysis.provenance import is_same_model
from analysis.static.head_scores import HeadScores
from analysis.statistics import pearson, percentile_interval, resampled_counts, spearman
from analysis.validation import check_int, check_seed

POOLED = "all templates"
OUTLIER = 3.0
"""Studentized residual from which a head is said to be off the line."""
ON_THE_LINE = 1e-9
"""Residuals, and leverages' distances from 1, below this are rounding errors."""


def agreement(
    static: HeadScores, dynamic: DynamicScores, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Correlate static with dynamic scores over heads.

    Args:
        static: of the same names and k, from ``score_heads``.
        dynamic: of any templates.
        n_resamples: of the bootstrap over names.
        seed: of the resampling; the same seed gives the same intervals.

    Returns:
        A row for each ``context``, ``template`` (and ``POOLED``) and ``kind`` (a score's column).
        Columns ``pearson`` and ``spearman``, in [-1, 1], NaN where all heads score the same; and
        of Pearson's ``pearson_names_low`` and ``_high`` (95 % over names),
        ``pearson_names_undefined`` (share of resamples in which all heads score the same, which
        are not in the interval), ``pearson_heads_low`` and ``_high`` (the range over which it
        moves as each key-value group is left out) and ``pearson_heads_undefined`` (share of groups
        without which all heads score the same).

    Raises:
        ParameterError: the names, k or models of the two differ, ``n_resamples`` is below 1, or
            the seed is none.
    """
    seed = check_seed(seed)
    asked = [
        (s.k, tuple(names.source_tokens), tuple(names.target_tokens))
        for s, names in ((static, static.pairs), (dynamic, dynamic.names))
    ]
    if asked[0] != asked[1] or not is_same_model(static.model, dynamic.model):
        raise ParameterError("static and dynamic scores must be of the same model, names and k.")
    n_resamples = check_int("n_resamples", n_resamples)
    rng = np.random.default_rng(seed)
    counts = resampled_counts(np.arange(len(static.pairs)), n_resamples, rng).T
    n_groups = static.in_top_k[..., 0].size // dynamic.group_size
    rows = {}
    for key, x, y in _compared(static, dynamic):
        # [n_templates, n_heads, n_names] each; x repeats itself.
        resampled = [_counts(answers, counts) for answers in (x, y)]
        counted = [answers.sum(2).astype(np.float64) for answers in (x, y)]
        r, rho = (float(f(counted[0].ravel(), counted[1].ravel())) for f in (pearson, spearman))
        interval = basic_interval(r, pearson(*resampled))
        without = _without_groups(counted[0], counted[1], n_groups)
        known = without[~np.isnan(without)]
        ends = (known.min(), known.max()) if len(known) else (np.nan, np.nan)
        row = {"pearson": r, "spearman": rho}
        for over, values in (
            ("names", interval),
            ("heads", (*ends, 1 - len(known) / len(without))),
        ):
            for end, value in zip(("low", "high", "undefined"), values, strict=True):
                row[f"pearson_{over}_{end}"] = float(value)
        rows[key] = row
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["context", "template", "kind"])
    return frame


def basic_interval(
    r: float, resampled: Float[np.ndarray, "n_resamples"]
) -> tuple[float, float, float]:
    """The basic bootstrap interval (95 %) of a correlation; a resample's is NaN where undefined.

    Returns:
        Lower and upper end, and the share of undefined resamples.
    """
    found = percentile_interval(resampled)
    low, high = np.clip([2 * r - found.high, 2 * r - found.low], -1, 1)
    return float(low), float(high), found.undefined


def _without_groups(
    x: Float[np.ndarray, "n_templates n_heads"],
    y: Float[np.ndarray, "n_templates n_heads"],
    n_groups: int,
) -> Float[np.ndarray, "n_groups"]:
    """The correlation without each group of neighbouring heads; NaN where there is no other."""
    if n_groups == 1:
        return np.array([np.nan])
    group = np.arange(x.shape[1]) // (x.shape[1] // n_groups)
    kept = np.stack([np.flatnonzero(group != left_out) for left_out in range(n_groups)])
    a, b = (v[:, kept].swapaxes(0, 1).reshape(n_groups, -1) for v in (x, y))
    return pearson(a, b)


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
    answers: Bool[np.ndarray, "n_templates n_heads n_names"],
    times: Int[np.ndarray, "n_names n_resamples"],
) -> Float[np.ndarray, "n_resamples n"]:
    """Names that count for each head (of each template), for resampled names."""
    # Whole numbers below 2^24 are exact in float32.
    flat = answers.reshape(-1, answers.shape[2]).astype(np.float32)
    return np.asarray((flat @ times.astype(np.float32)).T, dtype=np.float64)


def head_table(static: pd.DataFrame, dynamic: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Each head's static and pooled dynamic score, and how far it is off the fitted line.

    Args:
        static: ``HeadScores.to_frame(intervals=True)``.
        dynamic: ``DynamicScores.to_frame()`` of one context, the level ``context`` gone.
        kind: ``copying_score`` or ``suppression_score``.

    Returns:
        Columns ``static``, ``low``, ``high`` (Wilson, 95 %), ``dynamic`` (mean over templates),
        ``fitted``, ``residual`` (studentized), indexed by ``layer`` and ``head``. Where no line is
        to be fitted, for there are fewer than 3 heads or all have one static score, ``fitted`` is
        the mean and ``residual`` NaN. It is NaN too for a head that the line must pass through
        (leverage 1: all others have one static score), and 0 for one on the line, both within
        ``ON_THE_LINE``, where a quotient would be of rounding errors.
    """
    table = pd.DataFrame(
        {
            "static": static[kind],
            "low": static[f"{kind}_low"],
            "high": static[f"{kind}_high"],
            "dynamic": dynamic[kind].groupby(["layer", "head"]).mean(),
        }
    )
    if len(table) < 3 or table["static"].nunique() == 1:
        return table.assign(fitted=table["dynamic"].mean(), residual=np.nan)
    import statsmodels.api as sm

    fit = sm.OLS(table["dynamic"], sm.add_constant(table["static"], has_constant="add")).fit()
    influence = fit.get_influence()
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.array(influence.resid_studentized_internal)
    residual[np.abs(fit.resid) < ON_THE_LINE] = 0
    residual[1 - influence.hat_matrix_diag < ON_THE_LINE] = np.nan
    return table.assign(fitted=fit.fittedvalues, residual=residual)
