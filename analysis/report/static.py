"""Sentences and small tables computed from scores, so that words hold for any model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.errors import ParameterError
from analysis.heads import head_name, listed_heads
from analysis.ioi.head_classes import HeadClass
from analysis.static.head_scores import (
    COPYING_SCORE,
    HIGH,
    SUPPRESSION_SCORE,
    HeadScores,
    check_scores_of,
    high_heads,
)
from analysis.static.scores import score_heads
from analysis.validation import check_choice, check_int

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def below_high(score: float) -> str:
    """Two digits; what is below ``HIGH`` is not shown as ``HIGH``, nor what is above 0 as 0."""
    text = f"{score:.2f}"
    if score < HIGH and text == f"{HIGH:.2f}":
        return f"{math.floor(score * 1000) / 1000:.3f}"
    if score > 0 and float(text) == 0:
        return np.format_float_positional(score, precision=1, fractional=False)
    return text


def counted(n: int, one: str) -> str:
    """A count with its noun: ``1 head``, ``2 heads``, ``3,000 names``."""
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}s"


def strongest_heads(scores: HeadScores, by: str = COPYING_SCORE, n: int = 10) -> pd.DataFrame:
    """The n heads highest ``by`` one of ``scores.score_columns``; ties by layer and head.

    Returns:
        The two scores, and ``names`` (how many of how many counted for ``by``).
    """
    check_choice("by", by, scores.score_columns)
    n = check_int("n", n)
    counts = scores.n_in_bottom_k if by == SUPPRESSION_SCORE else scores.n_in_top_k
    frame = scores.to_frame().assign(count=counts.ravel())
    top = frame.sort_values(by, ascending=False, kind="stable").head(n)
    top["names"] = [f"{count} of {scores.n_pairs}" for count in top.pop("count")]
    return top.round(3)


def tied_ranks(scores: pd.Series) -> pd.Series:
    """Place of each head by a score, from 1 for the highest, as text; ties share ``4 to 144``."""
    first, last = (scores.rank(ascending=False, method=m).astype(int) for m in ("min", "max"))
    text = [str(a) if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True)]
    return pd.Series(text, index=scores.index)


def strongest_head(scores: HeadScores, by: str = COPYING_SCORE) -> tuple[int, int]:
    """Layer and head of the highest score; ``by`` is one of ``scores.score_columns``."""
    layer, head = scores.to_frame()[by].idxmax()
    return int(layer), int(head)


def compare_settings(
    model: TransformerBridge, scores: HeadScores, ks: Sequence[int] = (1, 5, 10)
) -> pd.DataFrame:
    """What k and the first MLP change; the other setting of the first MLP is scored here.

    Args:
        model: the model that was scored.
        scores: with ranks up to the largest of ``ks``; also what is correlated with.
        ks: values of k.

    Returns:
        A row for each ``k`` and ``first_mlp``: the heads that copy (suppress) at least half of the
        names, or answer half of another relation's pairs, as text with their number, the highest
        scores, and the Pearson correlation with ``scores`` over heads.

    Raises:
        ParameterError: ``ks`` is no list of k, or ``scores`` are of another model or keep no ranks
            up to the largest of ``ks``.
    """
    if not isinstance(ks, Sequence) or not len(ks):
        raise ParameterError(f"ks must be a list of at least one k, such as [1, 5], not {ks!r}.")
    check_scores_of(model, scores)
    here = [scores.at_k(k) for k in ks]
    there = score_heads(
        model, scores.pairs, k=max(ks), first_mlp=not scores.first_mlp, max_rank=max(ks)
    )
    every = sorted([*here, *map(there.at_k, ks)], key=lambda one: not one.first_mlp)
    of_top, of_bottom = (scores.to_frame()[score] for score in scores.score_columns)
    copiers = "copying heads" if scores.relation == "copying" else "answering heads"
    rows = {}
    for one in every:
        top, bottom = (one.to_frame()[score] for score in one.score_columns)
        rows[one.k, one.first_mlp] = {
            copiers: _how_many_and_which(top),
            "suppressing heads": _how_many_and_which(bottom),
            "highest score": top.max(),
            "highest suppression": bottom.max(),
            "r of scores": top.corr(of_top),
            "r of suppressions": bottom.corr(of_bottom),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").round(3)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["k", "first_mlp"])
    return table


def _how_many_and_which(scores: pd.Series) -> str:
    """The heads that score one half or more, the highest first: ``2: 29.1, 29.2``."""
    strong = high_heads(scores)
    return f"{len(strong)}: {listed_heads(strong, 5)}" if len(strong) else "0"


def key_observations(scores: HeadScores, classes: pd.DataFrame) -> list[str]:
    """What the two heatmaps show, each sentence computed; ``classes`` may have no rows."""
    frame = scores.to_frame()
    copying = scores.relation == "copying"
    one, many, what = ("copies", "copy", "names") if copying else ("answers", "answer", "pairs")
    said = [
        _strong_heads(frame, scores.score_columns[0], one, many, what),
        _strong_heads(frame, SUPPRESSION_SCORE, "suppresses", "suppress", what),
        *_where(frame),
        _both(frame, many, what),
    ]
    if len(classes):
        said += _how_classes_fall(frame, classes)
    else:
        said.append(f"No head classes are published for {scores.model.title}, so none are drawn.")
    return said


def _strong_heads(frame: pd.DataFrame, by: str, one: str, many: str, what: str) -> str:
    """How many heads do it for at least half of the names, and which."""
    ordered = frame[by].sort_values(ascending=False, kind="stable")
    strong = high_heads(ordered)
    if not len(strong):
        return f"No head of {len(frame)} {one} at least half of the {what}; {_highest(ordered)}."
    return (
        f"{len(strong)} of {len(frame)} heads {one if len(strong) == 1 else many} at least half of "
        f"the {what} ({listed_heads(strong)}); the median head's {by.replace('_', ' ')} is "
        f"{frame[by].median():.3f}."
    )


def _highest(ordered: pd.Series) -> str:
    """The highest of scores in descending order, and every head that has it."""
    most, name = float(ordered.iloc[0]), str(ordered.name).replace("_", " ")
    if most == 0:
        return f"all heads have a {name} of 0"
    heads = ordered.index[ordered == most]
    return (
        f"the highest {name} is {below_high(most)}, of head{'s' if len(heads) > 1 else ''} "
        f"{listed_heads(heads)}"
    )


def _where(frame: pd.DataFrame) -> list[str]:
    """In which layers the heads lie that do either for at least half of the names."""
    strong = frame[(frame >= HIGH).any(axis=1)]
    last = int(frame.index.get_level_values("layer").max())
    if not len(strong) or last == 0:
        return []
    layers = strong.index.get_level_values("layer")
    if len(strong) == 1:
        return [f"Head {head_name(*strong.index[0])} is in layer {layers[0]} of 0 to {last}."]
    where = (
        f"layer {layers[0]}"
        if layers.nunique() == 1
        else f"layers {layers.min()} to {layers.max()}"
    )
    upper = int((layers > last / 2).sum())
    return [
        f"These {len(strong)} heads are in {where} of 0 to {last}; {upper} of {len(strong)} "
        f"{'is' if upper == 1 else 'are'} in the upper half."
    ]


def _both(frame: pd.DataFrame, many: str, what: str) -> str:
    """Heads that do both."""
    both = frame.index[(frame > 0.1).all(axis=1)]
    which = f"{len(both)} ({listed_heads(both)})" if len(both) else "none"
    text = f"Heads that both {many} and suppress more than a tenth of the {what}: {which}."
    if (frame.nunique() == 1).any():  # a constant correlates with nothing
        return text
    first, second = (ranks for _, ranks in frame.rank().items())
    # Pearson's of ranks is Spearman's; asked for by name, it loads scipy, for half a second.
    return f"{text} Spearman's correlation over all heads: {first.corr(second):+.2f}."


def _how_classes_fall(frame: pd.DataFrame, classes: pd.DataFrame) -> list[str]:
    """How the heads of each class rank, published and measured ones apart."""
    said = []
    for head_class, by in (
        (HeadClass.NAME_MOVER, frame.columns[0]),
        (HeadClass.NEGATIVE_NAME_MOVER, SUPPRESSION_SCORE),
        (HeadClass.BACKUP_NAME_MOVER, frame.columns[0]),
    ):
        ranks = tied_ranks(frame[by])
        of_class = classes[classes["class"] == head_class]
        for origin, found in of_class.groupby("origin", sort=False):
            each = ", ".join(
                f"{head_name(*head)}: {below_high(frame.loc[head, by])} (number {ranks[head]})"
                for head in found.index
            )
            said.append(
                f"{str(origin).capitalize()} {head_class} heads by {by.replace('_', ' ')}: {each}."
            )
    return said
