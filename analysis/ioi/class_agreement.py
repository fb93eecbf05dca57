"""How well does a score of heads find the heads of a class?

A score ranks all heads; a class is a set of them. Over all cut-offs of the ranking:

- **AUROC** is the chance that a head of the class has a higher score than one outside it, ties
  counted half (Fawcett, *An introduction to ROC analysis*, 2006); 0.5 is a ranking at random.
- **average precision** is the precision at each cut-off, weighted by the gain in recall, without
  interpolation; a ranking at random has about the class's share of all heads. With a handful of
  heads among hundreds it tells more than AUROC (Saito & Rehmsmeier, *PLOS ONE* 10(3), 2015).

Intervals are percentiles over bootstrap draws of heads, those of the class and the others drawn
apart, so that every draw has as many of each. They say how much rests on single heads; one head in
a class leaves only the others to vary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.errors import ParameterError
from analysis.heads import head_name
from analysis.ioi.head_classes import HeadClass

WANTED = (
    HeadClass.NAME_MOVER,
    HeadClass.NEGATIVE_NAME_MOVER,
    HeadClass.BACKUP_NAME_MOVER,
    HeadClass.BACKUP_NEGATIVE_NAME_MOVER,
)


def agreement_with_classes(
    scores: pd.DataFrame,
    classes: pd.DataFrame,
    wanted: Sequence[str] = WANTED,
    *,
    n_draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC and average precision of every score for every class.

    Args:
        scores: one row for each head of the model, indexed by ``layer`` and ``head``; every column
            is a score, and a higher score stands for "in the class".
        classes: from ``published_classes`` or ``measured_classes``.
        wanted: classes to look for; those without heads are left out.
        n_draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Indexed by ``class`` and ``score``: ``heads`` (in the class), ``auroc`` and
        ``average_precision``, each with the ends ``_low`` and ``_high`` of its 95 % interval, and
        ``chance`` (average precision of a ranking at random).

    Raises:
        ParameterError: a score is missing for a head, or a class holds a head without scores.
    """
    rng = np.random.default_rng(seed)
    rows = {}
    for head_class in wanted:
        member = _members(scores, classes, head_class)
        n, m = len(member), int(member.sum())
        if m in (0, n):
            continue
        weights = np.zeros((n_draws + 1, n))
        weights[0] = 1  # the heads as they are
        weights[1:, member] = rng.multinomial(m, np.full(m, 1 / m), size=n_draws)
        weights[1:, ~member] = rng.multinomial(n - m, np.full(n - m, 1 / (n - m)), size=n_draws)
        for name in scores:
            values = scores[name].to_numpy(dtype=np.float64)
            row: dict[str, float] = {"heads": m}
            for kind, drawn in (
                ("auroc", _auroc(values, member, weights)),
                ("average_precision", _average_precision(values, member, weights)),
            ):
                low, high = np.percentile(drawn[1:], [2.5, 97.5])
                row |= {kind: drawn[0], f"{kind}_low": low, f"{kind}_high": high}
            rows[str(head_class), str(name)] = row | {"chance": m / n}
    columns = ["heads"]
    for kind in ("auroc", "average_precision"):
        columns += [kind, f"{kind}_low", f"{kind}_high"]
    index = pd.MultiIndex.from_tuples(rows, names=["class", "score"]) if rows else None
    if index is None:
        index = pd.MultiIndex.from_arrays([[], []], names=["class", "score"])
    table = pd.DataFrame(list(rows.values()), columns=[*columns, "chance"], index=index)
    return table.astype({"heads": int})


def precision_recall(
    scores: pd.DataFrame, classes: pd.DataFrame, head_class: str = HeadClass.NAME_MOVER
) -> pd.DataFrame:
    """Precision and recall of every score at every cut-off, for one class.

    Returns:
        Columns ``score`` (its name), ``threshold`` (heads with at least that value are called
        members), ``recall`` and ``precision``, the highest threshold of each score first.
    """
    member = _members(scores, classes, head_class)
    parts = []
    for name in scores:
        values = scores[name].to_numpy(dtype=np.float64)
        hits, called, last = _cut_offs(values, member, np.ones((1, len(member))))
        parts.append(
            pd.DataFrame(
                {
                    "score": name,
                    "threshold": np.sort(values)[::-1][last],
                    "recall": hits[0] / max(int(member.sum()), 1),
                    "precision": hits[0] / called[0],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def disagreements(
    scores: pd.DataFrame, classes: pd.DataFrame, head_class: str, by: str, explain: pd.DataFrame
) -> pd.DataFrame:
    """The heads on which a score and a class differ.

    Of a class with m heads these are its heads that are not among the m highest scores, and the
    heads among these that are not in the class. Equal scores share the last of their places, so
    that heads tied at 0 are not among the highest.

    Args:
        scores: as :func:`agreement_with_classes` takes them.
        classes: as it takes them.
        head_class: the class.
        by: the column of ``scores``.
        explain: numbers to set beside them, indexed as the scores are.

    Returns:
        Indexed by ``layer`` and ``head``, the highest score first: ``in_class``, ``rank`` (1 is the
        highest score), the score and the columns of ``explain``.
    """
    member = _members(scores, classes, head_class)
    rank = scores[by].rank(ascending=False, method="max").astype(int)
    differ = member != (rank <= member.sum()).to_numpy()
    table = pd.DataFrame({"in_class": member, "rank": rank, by: scores[by]}).join(
        explain[[column for column in explain if column != by]]
    )
    return table[differ].sort_values("rank", kind="stable")


def _members(scores: pd.DataFrame, classes: pd.DataFrame, head_class: str) -> np.ndarray:
    """Which heads are in the class, as bool ``[n_heads]``, if all have finite scores."""
    heads = classes.index[classes["class"] == head_class]
    absent = [head_name(*head) for head in heads if head not in scores.index]
    if absent:
        raise ParameterError(f"there are no scores for {', '.join(absent)}, of class {head_class}.")
    unknown = [str(name) for name in scores if not np.isfinite(scores[name]).all()]
    if unknown:
        raise ParameterError(f"{', '.join(unknown)} is missing for some heads; leave it out.")
    return np.asarray(scores.index.isin(heads))


def _auroc(values: np.ndarray, member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC with each row of ``weights`` ``[n_draws, n_heads]``."""
    inside, outside = values[member][:, None], values[~member][None]
    wins = (inside > outside) + 0.5 * (inside == outside)
    w_in, w_out = weights[:, member], weights[:, ~member]
    return ((w_in @ wins) * w_out).sum(1) / (w_in.sum(1) * w_out.sum(1))


def _average_precision(values: np.ndarray, member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision with each row of ``weights`` ``[n_draws, n_heads]``."""
    hits, called, _ = _cut_offs(values, member, weights)
    gained = np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return (gained * precision).sum(1) / hits[:, -1]


def _cut_offs(
    values: np.ndarray, member: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heads of the class, and heads at all, above each cut-off; equal scores are cut together.

    Returns:
        Two float64 ``[n_draws, n_cut_offs]``, and the last place in the ranking of each cut-off.
    """
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    hits = np.cumsum(weights[:, order] * member[order], axis=1)[:, last]
    return hits, np.cumsum(weights[:, order], axis=1)[:, last], last
