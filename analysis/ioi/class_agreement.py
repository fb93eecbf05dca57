"""How well does a score of heads find the heads of a class?

A score ranks all heads; a class is a set of them. Over all cut-offs of the ranking:

- **AUROC** is the chance that a head of the class has a higher score than one outside it, ties
  counted half (Fawcett, *An introduction to ROC analysis*, 2006); 0.5 is a ranking at random.
- **average precision** is the precision at each cut-off, weighted by the gain in recall, without
  interpolation; a ranking at random has about the class's share of all heads. With a handful of
  heads among hundreds it tells more than AUROC (Saito & Rehmsmeier, *PLOS ONE* 10(3), 2015).

There are no intervals: the heads are all the heads of the model, not a sample of more, and a class
has one to eight of them, for which the bootstrap's 95 % interval holds the truth in 12 % to 75 % of
cases. Instead, a permutation p-value says how often a class of this size, placed at random, would
be found as well. Groups of heads that share a key-value head are moved as wholes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.errors import ParameterError
from analysis.heads import head_name
from analysis.ioi.head_classes import HeadClass
from analysis.statistics import group_arrangements
from analysis.validation import check_int, check_seed

WANTED = (
    HeadClass.NAME_MOVER,
    HeadClass.NEGATIVE_NAME_MOVER,
    HeadClass.BACKUP_NAME_MOVER,
    HeadClass.BACKUP_NEGATIVE_NAME_MOVER,
    HeadClass.SUBJECT_SUPPRESSOR,
)


def agreement_with_classes(
    scores: pd.DataFrame,
    classes: pd.DataFrame,
    wanted: Sequence[str] = WANTED,
    *,
    heads_per_group: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC and average precision of every score for every class.

    Args:
        scores: one row for each head of the model, indexed by ``layer`` and ``head`` in ascending
            order; every column is a score, and a higher score stands for "in the class".
        classes: from ``published_classes`` or ``measured_classes``.
        wanted: classes to look for; those without heads are left out.
        heads_per_group: heads that share one key-value head (1 without grouped queries).
        seed: of the random arrangements, where these are too many to go through.

    Returns:
        Indexed by ``class`` and ``score``: ``heads`` (in the class), ``auroc`` and
        ``average_precision``, each with its ``_p`` (one-sided permutation p-value), ``exact``
        (whether that went through all arrangements) and ``chance`` (average precision of a ranking
        at random).

    Raises:
        ParameterError: a score is missing for a head, a class holds a head without scores, the
            heads do not come in groups of that size, or the seed is none.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    seed = check_seed(seed)
    heads_per_group = check_int("heads_per_group", heads_per_group)
    if len(scores) % heads_per_group:
        raise ParameterError(
            f"{len(scores)} heads do not make groups of {heads_per_group}; heads_per_group is "
            "the number of heads divided by that of key-value heads."
        )
    rng = np.random.default_rng(seed)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for head_class in wanted:
        member = _members(scores, classes, head_class)
        m = int(member.sum())
        if m in (0, len(member)):
            continue
        arrangements = group_arrangements(member, heads_per_group, rng)
        observed = np.flatnonzero(member)
        for name in scores:
            values = scores[name].to_numpy(dtype=np.float64)
            auroc, precision = auroc_of(values), average_precision_of(values)
            rows[str(head_class), str(name)] = {
                "heads": m,
                "auroc": roc_auc_score(member, values),
                "auroc_p": arrangements.p_value(auroc, observed),
                "average_precision": average_precision_score(member, values),
                "average_precision_p": arrangements.p_value(precision, observed),
                "exact": arrangements.exact,
                "chance": m / len(member),
            }
    columns = ["heads", "auroc", "auroc_p", "average_precision", "average_precision_p"]
    columns += ["exact", "chance"]
    keys = list(rows)
    index = pd.MultiIndex.from_arrays(
        [[key[level] for key in keys] for level in (0, 1)], names=["class", "score"]
    )
    table = pd.DataFrame(list(rows.values()), columns=columns, index=index)
    return table.astype({"heads": int, "exact": bool})


def auroc_of(
    values: Float[np.ndarray, "n"],
) -> Callable[[Int[np.ndarray, "m n_members"]], Float[np.ndarray, "m"]]:
    """AUROC of one score for many possible classes at once."""
    from scipy.stats import rankdata

    ranks = rankdata(values)

    def auroc(members: Int[np.ndarray, "m n_members"]) -> Float[np.ndarray, "m"]:
        m = members.shape[1]
        wins = ranks[members].sum(1) - m * (m + 1) / 2
        return np.asarray(wins / (m * (len(values) - m)))

    return auroc


def average_precision_of(
    values: Float[np.ndarray, "n"],
) -> Callable[[Int[np.ndarray, "m n_members"]], Float[np.ndarray, "m"]]:
    """Average precision of one score for many possible classes at once."""
    from scipy.stats import rankdata

    called = rankdata(-values, method="max")  # heads with at least this head's score

    def average_precision(members: Int[np.ndarray, "m n_members"]) -> Float[np.ndarray, "m"]:
        cut = np.sort(called[members], axis=1)
        hits = (cut[:, None, :] <= cut[:, :, None]).sum(2)
        return np.asarray((hits / cut).mean(1))

    return average_precision


def precision_recall(
    scores: pd.DataFrame, classes: pd.DataFrame, head_class: str = HeadClass.NAME_MOVER
) -> pd.DataFrame:
    """Precision and recall of every score at every cut-off, for one class.

    Returns:
        Columns ``score`` (its name), ``threshold`` (heads with at least that value are called
        members), ``recall`` and ``precision``, the highest threshold of each score first; no rows
        for a class without heads, which has no recall.
    """
    from sklearn.metrics import precision_recall_curve

    member = _members(scores, classes, head_class)
    if not member.any():
        numbers = {column: np.zeros(0) for column in ("threshold", "recall", "precision")}
        return pd.DataFrame({"score": pd.Series(dtype=str), **numbers})
    parts = []
    for name in scores:
        values = scores[name].to_numpy(dtype=np.float64)
        precision, recall, threshold = precision_recall_curve(member, values)
        parts.append(
            pd.DataFrame(
                {
                    "score": name,
                    "threshold": threshold[::-1],
                    "recall": recall[-2::-1],  # the last point is sklearn's own, at recall 0
                    "precision": precision[-2::-1],
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
        Indexed by ``layer`` and ``head``, the highest score first: ``in_class``, ``place`` (1 is
        the highest score), the score and the columns of ``explain``.
    """
    member = _members(scores, classes, head_class)
    place = scores[by].rank(ascending=False, method="max").astype(int)
    differ = member != (place <= member.sum()).to_numpy()
    table = pd.DataFrame({"in_class": member, "place": place, by: scores[by]}).join(
        explain[[column for column in explain if column != by]]
    )
    return table[differ].sort_values("place", kind="stable")


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
