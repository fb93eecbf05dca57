"""What the measurements say, in sentences and small tables that hold for any model."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.heads import head_name
from analysis.ioi.head_classes import HeadClass
from analysis.ioi.measured_classes import HeadMeasurements
from analysis.report.static import tied_ranks
from analysis.validation import check_int

SHOWN = [
    "class",
    "direct_effect",
    "effect_share",
    "attention_io",
    "attention_s1",
    "attention_s2",
    "correlation",
    "copy_score",
    "negative_copy_score",
]
"""Columns of the tables."""


def findings(measured: HeadMeasurements) -> list[str]:
    """The measured classes and what they rest on, each sentence computed."""
    said = [str(measured.performance)]
    if not measured.performance.solved:
        return [*said, "Its heads are measured all the same, but none is given a class."]
    for head_class in (HeadClass.NAME_MOVER, HeadClass.NEGATIVE_NAME_MOVER):
        heads = measured.heads(head_class)
        total = measured.numbers.loc[heads, "effect_share"].sum()
        together = f"; their direct effects add up to {total:+.0%} of the logit difference"
        said.append(f"{_plural(head_class)}: {_names(heads)}{together if heads else ''}.")
    return [*said, *_takeover(measured)]


def _takeover(measured: HeadMeasurements) -> list[str]:
    """What happens without the name movers."""
    if measured.logit_difference_after is None:
        return ["Without a name mover nothing is removed, so no backup can be found."]
    before = measured.performance.logit_difference
    lost = measured.numbers.loc[list(measured.ablated), "direct_effect"].sum()
    said = [
        f"Without the name movers, whose direct effects add up to {lost:.2f}, the logit "
        f"difference goes from {before:.2f} to {measured.logit_difference_after:.2f}."
    ]
    grown = most_changed(measured, 3)["growth"]
    changes = ", ".join(f"{head_name(*head)} by {change:+.2f}" for head, change in grown.items())
    said.append(f"Of the other heads' direct effects these change most: {changes}.")
    growth = measured.numbers["growth"].drop(index=list(measured.ablated))
    negative = growth.loc[measured.heads(HeadClass.NEGATIVE_NAME_MOVER)]
    eased = ", of which the negative name movers, now less against it, {:+.2f}"
    said.append(
        f"All other heads' direct effects together change by {growth.sum():+.2f}"
        f"{eased.format(negative.sum()) if negative.sum() > 0 else ''}."
    )
    for head_class in (HeadClass.BACKUP_NAME_MOVER, HeadClass.BACKUP_NEGATIVE_NAME_MOVER):
        said.append(f"{_plural(head_class)}: {_names(measured.heads(head_class))}.")
    return said


def what_scores_find(
    measured: HeadMeasurements,
    agreement: pd.DataFrame,
    copying: pd.DataFrame,
    suppression: pd.DataFrame,
) -> list[str]:
    """How far scores from the weights tell what heads do when the model runs.

    Args:
        measured: with its classes.
        agreement: of ``all_scores.agreement_of_all``.
        copying: copying scores of every head, the first column being the static score.
        suppression: suppression scores likewise.
    """
    said = []
    for head_class, scores, kind in (
        (HeadClass.NAME_MOVER, copying, "copying"),
        (HeadClass.NEGATIVE_NAME_MOVER, suppression, "suppression"),
    ):
        heads = measured.heads(head_class)
        if not heads:
            continue
        static = scores.columns[0]
        place = tied_ranks(scores[static])
        each = ", ".join(f"{head_name(*head)} is number {place[head]}" for head in heads)
        said.append(f"{_plural(head_class)} by static {kind} score, of {len(place)}: {each}.")
        found = agreement.loc[str(head_class)]
        row = found.loc[static]
        said.append(
            f"Its AUROC for them is {row['auroc']:.2f} ({row['auroc_low']:.2f} to "
            f"{row['auroc_high']:.2f}), its average precision {row['average_precision']:.2f} "
            f"({row['average_precision_low']:.2f} to {row['average_precision_high']:.2f}; at "
            f"random {row['chance']:.2f})."
        )
        others = found.drop(index="task", errors="ignore")["average_precision"]
        best = others.index[others == others.max()]
        said.append(f"Highest average precision, {others.max():.2f}: {'; '.join(best)}.")
    remarks = strongest_effects(measured, 5)["remark"] if measured.performance.solved else {}
    outside = ", ".join(f"{head_name(*head)} ({text})" for head, text in remarks.items() if text)
    if outside:
        said.append(f"Of the {len(remarks)} largest direct effects, in no class: {outside}.")
    return said


def strongest_effects(measured: HeadMeasurements, n: int = 10) -> pd.DataFrame:
    """The n heads with the largest direct effects of either sign, and what else is known of them.

    Returns:
        The columns of ``SHOWN`` and ``remark``, what keeps a head from a class.
    """
    n = check_int("n", n)
    order = measured.numbers["direct_effect"].abs().sort_values(ascending=False, kind="stable")
    return with_remarks(measured).loc[order.index[:n], [SHOWN[0], "remark", *SHOWN[1:]]].round(3)


def most_changed(measured: HeadMeasurements, n: int = 8) -> pd.DataFrame:
    """The n heads whose direct effect changes most once the name movers are removed.

    Returns:
        ``class``, ``direct_effect`` (before), ``effect_after``, ``growth`` with its interval,
        ``copy_score`` and ``negative_copy_score``; the removed heads left out.
    """
    n = check_int("n", n)
    others = measured.numbers.drop(index=list(measured.ablated)).dropna(subset="growth")
    order = others["growth"].abs().sort_values(ascending=False, kind="stable").index[:n]
    columns = ["class", "direct_effect", "effect_after", "growth", "growth_low", "growth_high"]
    return others.loc[order, [*columns, "copy_score", "negative_copy_score"]].round(3)


def with_remarks(measured: HeadMeasurements) -> pd.DataFrame:
    """The measured numbers with a column ``remark``: why a head is no (negative) name mover.

    Empty for heads in a class, and for all where the task is not solved.
    """
    numbers = measured.numbers
    remarks = [
        ""
        if row["class"] or not measured.performance.solved
        else _remark(row, measured.thresholds.min_direct_effect, measured.thresholds.min_copy_score)
        for _, row in numbers.iterrows()
    ]
    return numbers.assign(remark=remarks)


def _remark(row: pd.Series, effect: float, copying: float) -> str:
    """The first of the rules that a head fails."""
    tied_ranks = {"IO": row["attention_io"], "S1": row["attention_s1"], "S2": row["attention_s2"]}
    most = max(tied_ranks, key=lambda name: tied_ranks[name])
    suppresses = row["negative_copy_score"] > row["copy_score"]
    writes = "suppresses names" if suppresses else "writes names"
    if abs(row["effect_share"]) < effect:
        return "little direct effect"
    if max(row["copy_score"], row["negative_copy_score"]) < copying:
        return "neither writes nor suppresses names"
    if most != "IO":
        return f"{writes}, attends to {most} most"
    if row["direct_effect_low"] <= 0 <= row["direct_effect_high"]:
        return f"{writes}, but the interval of its direct effect includes 0"
    return f"{writes}, yet its direct effect has the other sign"


def _plural(head_class: HeadClass) -> str:
    return f"{str(head_class).capitalize()}s"


def _names(heads: Iterable[tuple[int, int]]) -> str:
    return ", ".join(head_name(*head) for head in heads) or "none"
