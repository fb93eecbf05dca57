"""What the indirect-object measurements say, in sentences and tables for any model."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.heads import HeadPair, head_name, head_pairs
from analysis.ioi.head_classes import HeadClass
from analysis.ioi.measured_classes import CLASS_COLUMNS, HeadMeasurements
from analysis.ioi.performance import TaskPerformance
from analysis.prompts.indirect_object import IOIPrompts
from analysis.report.static import below_high, tied_ranks
from analysis.validation import check_int

WORK_SHOWN = ["direct_effect", "effect_share", "attention_io", "attention_s1", "attention_s2"]
WORK_SHOWN += ["copy_score", "negative_copy_score"]
"""Columns of the table of direct effects."""

CLASSES_SAID = (
    HeadClass.NAME_MOVER,
    HeadClass.NEGATIVE_NAME_MOVER,
    HeadClass.SUBJECT_SUPPRESSOR,
)
"""Classes whose direct effects are summed in a sentence."""
BACKUPS_SAID = (HeadClass.BACKUP_NAME_MOVER, HeadClass.BACKUP_NEGATIVE_NAME_MOVER)


def shown_prompts(prompts: IOIPrompts, n: int = 4) -> pd.DataFrame:
    """The first n prompts, whole, in quotes, and the answer with its leading space.

    Returns:
        Columns ``order``, ``prompt``, ``answer`` and ``counterfactual``.
    """
    some = prompts.frame.head(check_int("n", n))
    return pd.DataFrame(
        {
            "order": some["order"],
            "prompt": some["text"].map(repr),
            "answer": [repr(f" {name}") for name in some["io"]],
            "counterfactual": some["counterfactual"].map(repr),
        }
    )


def findings(measured: HeadMeasurements) -> list[str]:
    """The measured classes and what they rest on, each sentence computed."""
    said = [str(measured.performance)]
    if not measured.performance.solved:
        return [*said, f"No head is given a class, because {_unsolved(measured.performance)}."]
    for head_class in CLASSES_SAID:
        heads = measured.heads(head_class)
        total = measured.numbers["effect_share"].loc[heads].sum()
        together = f"; direct effects add up to {total:+.0%} of the logit difference"
        said.append(f"{_plural(head_class)}: {_names(heads)}{together if heads else ''}.")
    return [*said, *_after_ablation(measured)]


def _unsolved(performance: TaskPerformance) -> str:
    """Why there are no classes: too little is known, or the model is no better than chance."""
    if performance.failed:
        return "the model does not solve the task"
    return "it is not shown that the model solves the task"


def _after_ablation(measured: HeadMeasurements) -> list[str]:
    """What happens without the heads that were ablated, name movers when they were measured."""
    movers = measured.heads(HeadClass.NAME_MOVER)
    if measured.logit_difference_after is None:
        if not movers:
            return ["There is no name mover to ablate, so no backup can be found."]
        return [
            "No head was ablated, because none was a name mover by the thresholds of the "
            "measurement, so no backup can be found."
        ]
    removed = (
        "the name movers"
        if set(movers) == set(measured.ablated)
        else f"{_names(measured.ablated)} (ablated as name movers by other thresholds)"
    )
    before = measured.performance.logit_difference
    lost = measured.numbers["direct_effect"].loc[list(measured.ablated)].sum()
    said = [
        f"Without {removed}, whose direct effects add up to {lost:z.2f}, the logit "
        f"difference goes from {before:z.2f} to {measured.logit_difference_after:z.2f}."
    ]
    others = most_changed(measured, len(measured.numbers)).drop(
        list(measured.ablated), errors="ignore"
    )
    grown = others["growth"].head(3)
    changes = ", ".join(
        f"{head_name(*head)} by {change:+z.2f}"
        for head, change in zip(head_pairs(grown.index), grown, strict=True)
    )
    if changes:
        said.append(f"Of the other heads' direct effects these change most: {changes}.")
    said.extend(f"{_plural(name)}: {_names(measured.heads(name))}." for name in BACKUPS_SAID)
    backups = {head for name in BACKUPS_SAID for head in measured.heads(name)}
    same = sorted(head for head in backups if not output_changes(measured, head))
    if same:
        said.append(
            f"In the first ablated layer, so that they write what they wrote: {_names(same)}; what "
            "grows is what later MLPs and the final norm make of it."
        )
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
        (HeadClass.SUBJECT_SUPPRESSOR, suppression, "suppression"),
    ):
        heads = measured.heads(head_class)
        if not heads:
            continue
        static = str(scores.columns[0])
        rank = tied_ranks(scores[static])
        each = ", ".join(f"{head_name(*head)} is number {rank.loc[head]}" for head in heads)
        said.append(f"{_plural(head_class)} by static {kind} score, of {len(rank)}: {each}.")
        row = agreement.loc[(str(head_class), static)]
        how = "all" if row["exact"] else "random"
        said.append(
            f"The static {kind} score finds them with an AUROC of {row['auroc']:.3f} and an "
            f"average precision of {row['average_precision']:.2f} (at random "
            f"{below_high(row['chance'])}); {_p(row['average_precision_p'])}, the share of {how} "
            "placements of the class that are found as well."
        )
    strongest = strongest_effects(measured, 5)
    unclassed = strongest[(strongest["class"] == "") & (strongest["remark"] != "")]
    outside = [
        f"{head_name(*head)} ({remark})"
        for head, remark in zip(head_pairs(unclassed.index), unclassed["remark"], strict=True)
    ]
    if outside:
        said.append(f"Of the 5 largest direct effects, in no class: {', '.join(outside)}.")
    return said


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.00005 else f"p = {value:.4f}"


def agreement_table(agreement: pd.DataFrame) -> pd.DataFrame:
    """AUROC and average precision with their p-values, to the digits that matter."""
    columns = ["heads", "auroc", "auroc_p", "average_precision", "average_precision_p", "chance"]
    return agreement[columns].round(
        {"auroc": 3, "auroc_p": 4, "average_precision": 2, "average_precision_p": 4, "chance": 3}
    )


def strongest_effects(measured: HeadMeasurements, n: int = 10) -> pd.DataFrame:
    """The n heads with the largest direct effects of either sign, and what else is known of them.

    Returns:
        ``class`` (both classes where there are two), ``remark`` (what keeps a head from a class)
        and the columns of ``WORK_SHOWN``.
    """
    n = check_int("n", n)
    order = measured.numbers["direct_effect"].abs().sort_values(ascending=False, kind="stable")
    table = with_remarks(measured).loc[order.index[:n]].assign(**{"class": class_names(measured)})
    return table[["class", "remark", *WORK_SHOWN]].round(3)


def class_names(measured: HeadMeasurements) -> pd.Series:
    """Both classes of every head in words, empty for none."""
    return measured.numbers[list(CLASS_COLUMNS)].agg(
        lambda row: ", ".join(name for name in row if name), axis=1
    )


def most_changed(measured: HeadMeasurements, n: int = 8) -> pd.DataFrame:
    """The n heads whose direct effect changes most once the name movers are ablated.

    A name mover is among them where others were ablated without it.

    Returns:
        ``class``, ``direct_effect`` (before), ``effect_after``, ``growth`` with its interval,
        ``output_changed`` (whether what the head writes can change: a head in the first ablated
        layer writes what it wrote, and only what later layers make of that changes),
        ``copy_score`` and ``negative_copy_score``; no rows where no head was ablated.
    """
    n = check_int("n", n)
    numbers = measured.numbers.dropna(subset=["growth"])
    order = numbers["growth"].abs().sort_values(ascending=False, kind="stable").index[:n]
    columns = ["class", "direct_effect", "effect_after", "growth", "growth_low", "growth_high"]
    table = numbers.loc[order].assign(
        **{"class": class_names(measured).loc[order]},
        output_changed=[output_changes(measured, head) for head in head_pairs(order)],
    )
    return table[[*columns, "output_changed", "copy_score", "negative_copy_score"]].round(3)


def output_changes(measured: HeadMeasurements, head: HeadPair) -> bool:
    """Whether the head stands in a later layer than the first of the others that were ablated."""
    others = [other for other in measured.ablated if other != head]
    return bool(others) and head[0] > min(others)[0]


def with_remarks(measured: HeadMeasurements) -> pd.DataFrame:
    """The measured numbers with a column ``remark``: what keeps a head from the class of a mover.

    Empty for (negative) name movers and subject suppressors, and for all heads where the task is
    not solved. A backup may have a remark.
    """
    numbers = measured.numbers
    classed = numbers[CLASS_COLUMNS[0]] != ""
    lines = measured.thresholds
    remarks = [
        ""
        if done or not measured.performance.solved
        else _remark(row, lines.min_direct_effect, lines.min_copy_score)
        for done, (_, row) in zip(classed, numbers.iterrows(), strict=True)
    ]
    return numbers.assign(remark=remarks)


def _remark(row: pd.Series, min_direct_effect: float, min_copy_score: float) -> str:
    """The first of the rules that a head fails."""
    subject = {"S1": float(row["attention_s1"]), "S2": float(row["attention_s2"])}
    most = max(subject, key=lambda name: subject[name])
    suppresses = row["negative_copy_score"] > row["copy_score"]
    writes = "suppresses names" if suppresses else "copies names"
    if abs(row["effect_share"]) < min_direct_effect:
        return "small direct effect"
    if max(row["copy_score"], row["negative_copy_score"]) < min_copy_score:
        return "low copy scores"
    if row["direct_effect_low"] <= 0 <= row["direct_effect_high"]:
        return f"{writes}, but the interval of its direct effect includes 0"
    if row["attention_io"] < subject[most]:
        return f"{writes}, attends to {most} most"
    if row["attention_io"] == subject[most]:
        return f"{writes}, attends to IO no more than to {most}"
    return f"{writes}, but its direct effect has the other sign"


def _plural(head_class: HeadClass) -> str:
    return f"{str(head_class).capitalize()}s"


def _names(heads: Iterable[HeadPair]) -> str:
    return ", ".join(head_name(*head) for head in heads) or "none"
