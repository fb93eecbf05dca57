"""From scores to places on a colour scale: linear, lifted for small scores, or by rank.

A heatmap shows places, its colour bar is labelled with the scores that stand there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.errors import ParameterError
from analysis.plots.texts import tick_step
from analysis.validation import check_choice, check_number, shown

SCALES = ("linear", "sqrt", "rank")
_MOST_TICKS = 6
_LABEL_SHARE = 0.07
"""Of the bar's length, from label to label."""


@dataclass(frozen=True)
class ColourScale:
    """How one panel turns scores into places on its colour bar.

    Attributes:
        kind: ``linear`` (a place is a score), ``sqrt`` (0 at ``vmin`` and 1 at ``vmax``, small
            differences near ``vmin`` enlarged) or ``rank`` (0 for the lowest score, 1 for the
            highest, ties share their mean rank).
        vmin: the score at the bar's lower end, ``vmax`` that at its upper end.
    """

    kind: str = "linear"
    vmin: float = 0.0
    vmax: float = 1.0

    def ends(self) -> tuple[float, float]:
        """The places at the two ends of the bar."""
        return (self.vmin, self.vmax) if self.kind == "linear" else (0.0, 1.0)

    def places(self, scores: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Where each score stands, float64."""
        if self.kind == "linear":
            return scores
        if self.kind == "sqrt":
            share = (scores - self.vmin) / (self.vmax - self.vmin)
            return np.asarray(np.sqrt(np.clip(share, 0.0, 1.0)))
        return _mean_ranks(scores)

    def ticks(self, scores: np.ndarray) -> tuple[list[float], list[str]]:
        """Places and labels of the bar's ticks; those by rank depend on all scores shown."""
        if self.kind == "rank":
            # A tick for each fifth of the heads, at the score that stands there.
            places = _mean_ranks(scores).ravel()
            order = np.argsort(places, kind="stable")
            chosen: dict[float, str] = {}
            for wanted in np.linspace(0, 1, _MOST_TICKS):
                at = order[np.abs(places[order] - wanted).argmin()]
                chosen[float(places[at])] = f"{scores.ravel()[at]:.3f}"
            return _apart(chosen)
        if self.kind == "sqrt":
            shares = np.array([0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
            values = self.vmin + shares * (self.vmax - self.vmin)
            digits = max(2, -math.floor(math.log10(0.01 * (self.vmax - self.vmin)) + 1e-9))
            labels = [f"{value:.{digits}f}" for value in values]
            return _apart(dict(zip(np.sqrt(shares).tolist(), labels, strict=True)))
        step = tick_step(self.vmax - self.vmin, _MOST_TICKS - 1)
        first, last = math.ceil(self.vmin / step - 1e-9), math.floor(self.vmax / step + 1e-9)
        values = np.array([n * step for n in range(first, last + 1)])
        digits = max(1, -math.floor(math.log10(step) + 1e-9))
        return [round(v, 10) for v in values.tolist()], [f"{value:.{digits}f}" for value in values]


def colour_scale(kind: str, vmin: object, vmax: object) -> ColourScale:
    """A colour scale from ``vmin`` (0 if None) to ``vmax`` (1 if None), if it can be one."""
    check_choice("scale", kind, SCALES)
    if kind == "rank" and (vmin is not None or vmax is not None):
        raise ParameterError("a scale by rank has no vmin and vmax: leave them out.")
    low = 0.0 if vmin is None else check_number("vmin", vmin, 0, 1, "a score")
    high = 1.0 if vmax is None else check_number("vmax", vmax, 0, 1, "a score")
    if high - low < 1e-6:
        raise ParameterError(f"vmin must be below vmax, not {shown(vmin)} against {shown(vmax)}.")
    return ColourScale(kind, low, high)


def _mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 0 for the lowest score to 1 for the highest; ties share their mean."""
    from scipy.stats import rankdata

    ranks = rankdata(scores).reshape(scores.shape)
    ranks -= ranks.min()
    return np.asarray(ranks / (ranks.max() or 1.0))


def _apart(ticks: dict[float, str]) -> tuple[list[float], list[str]]:
    """The ticks in order: both ends, and between them those whose labels touch no other."""
    places = sorted(ticks)
    kept = places[:1]
    for place in places[1:-1]:
        if min(place - kept[-1], places[-1] - place) >= _LABEL_SHARE:
            kept.append(place)
    kept += places[1:][-1:]
    return kept, [ticks[place] for place in kept]
