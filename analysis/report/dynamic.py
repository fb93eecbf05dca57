"""How far can the weights be trusted? Sentences computed from agreement and causal checks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.ablation.curve import MAX_CLEAN, MIN_ACCURACY, AblationCurve
from analysis.dynamic.agreement import OUTLIER, POOLED, head_table
from analysis.dynamic.null_heads import AT_LEAST, FDR, are_significant
from analysis.heads import head_name
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE

ENOUGH = 0.95
"""A correlation without context from which the weights are said to tell what heads write."""


def trust_in_weights(
    table: pd.DataFrame,
    null: pd.DataFrame,
    copying: AblationCurve,
    suppressing: AblationCurve,
    mode: str = "mean",
) -> list[str]:
    """The answer to the notebook's question, each sentence computed.

    Args:
        table: of ``agreement``.
        null: of ``against_random_heads``.
        copying: best-copying heads removed.
        suppressing: best-suppressing heads removed.
        mode: ablation that is spoken of.
    """
    said = [_correlation(table, kind) for kind in (COPYING_SCORE, SUPPRESSION_SCORE)]
    said += [_standing_out(null, kind) for kind in (COPYING_SCORE, SUPPRESSION_SCORE)]
    return [
        *said,
        _removal(copying, null, mode),
        _control(copying, mode),
        _raised(suppressing, null, mode),
    ]


def correlation_table(table: pd.DataFrame) -> pd.DataFrame:
    """``agreement`` as a reader wants it: each correlation with its two intervals, two digits.

    Args:
        table: of ``agreement``.

    Returns:
        Text columns ``Pearson``, ``Pearson, 95 % over names``, ``Pearson, 95 % over heads`` and the
        same for Spearman, indexed
        as the table is.
    """
    columns = {}
    for name in ("pearson", "spearman"):
        columns[name.title()] = [f"{r:.2f}" for r in table[name]]
        for over in ("names", "heads"):
            columns[f"{name.title()}, 95 % over {over}"] = [
                _span(row, over, name) for _, row in table.iterrows()
            ]
    return pd.DataFrame(columns, index=table.index)


def off_the_line(static: pd.DataFrame, dynamic: pd.DataFrame) -> pd.DataFrame:
    """Heads far off the fitted line, farthest first.

    Args:
        static: ``HeadScores.to_frame(intervals=True)``.
        dynamic: ``DynamicScores.to_frame()`` of one context, the level ``context`` gone.

    Returns:
        Columns ``static``, ``dynamic``, ``fitted`` (two digits), indexed by ``kind``, ``layer``
        and ``head``.
    """
    parts = {}
    for kind in (COPYING_SCORE, SUPPRESSION_SCORE):
        table = head_table(static, dynamic, kind)
        far = table[table["residual"].abs() > OUTLIER]
        order = (far["dynamic"] - far["fitted"]).abs().sort_values(ascending=False).index
        parts[kind] = far.loc[order, ["static", "dynamic", "fitted"]].round(2)
    return pd.concat(parts, names=["kind"])


def _correlation(table: pd.DataFrame, kind: str) -> str:
    what = "Copying" if kind == COPYING_SCORE else "Suppression"
    alone, ran = (table.loc[(context, POOLED, kind)] for context in ("without", "with"))
    text = f"{what}: Pearson's correlation of weights and writing"
    if np.isnan(alone["pearson"]):
        return f"{text} cannot be computed, since all heads score the same."
    verdict = "reached" if alone["pearson"] >= ENOUGH else "not reached"
    with_context = (
        "cannot be computed with context, since all heads score the same there"
        if np.isnan(ran["pearson"])
        else f"{ran['pearson']:.2f} with context ({_span(ran, 'names')}, {_span(ran, 'heads')})"
    )
    return (
        f"{text} is {alone['pearson']:.2f} without "
        f"context (95 % over names {_span(alone, 'names')}, over heads {_span(alone, 'heads')}; "
        f"{ENOUGH} is {verdict}) and {with_context}."
    )


def _span(row: pd.Series, over: str, name: str = "pearson") -> str:
    return f"{row[f'{name}_{over}_low']:.2f} to {row[f'{name}_{over}_high']:.2f}"


def _standing_out(null: pd.DataFrame, kind: str) -> str:
    one, many = ("copies", "copy") if kind == COPYING_SCORE else ("suppresses", "suppress")
    found = null.index[null[f"{kind}_q"] <= FDR]
    half = int((null[kind] >= 0.5).sum())
    few = int((null.loc[found, kind] < AT_LEAST).sum())
    return (
        f"{len(found)} of {len(null)} heads {one if len(found) == 1 else many} more names than "
        f"heads of random weights do (false discovery rate {FDR:.0%}; of "
        f"{null.attrs['n_random']:,} random scores the highest is {null.attrs['highest']:.1%}), "
        f"{few} of them less than {AT_LEAST:.0%} of the names; {half} of all heads "
        f"{one if half == 1 else many} half of the names or more."
    )


def _removing(curve: AblationCurve, null: pd.DataFrame, kind: str, how: str = "") -> str:
    """How a sentence on removed heads begins; before it a remark where they do not stand out."""
    n = len(curve.heads)
    what = "copying" if kind == COPYING_SCORE else "suppressing"
    out = are_significant(null, kind, curve.heads)
    remark = (
        f"No {what} head stands out and scores {AT_LEAST:.0%}; the best-scored is removed all the "
        "same. "
    )
    heads = ", ".join(head_name(*head) for head in curve.heads)
    return (
        f"{'' if out else remark}Removing {n} {f'{what} ' if out else ''}"
        f"head{'s' if n != 1 else ''} ({heads}{how})"
    )


def _removal(curve: AblationCurve, null: pd.DataFrame, mode: str) -> str:
    accuracy = curve.given(mode)["accuracy"]
    band = curve.random_band(mode, "accuracy").iloc[-1]
    removing = _removing(curve, null, COPYING_SCORE, f"; {mode} ablation")
    hardly = accuracy.iloc[0] < MIN_ACCURACY
    return (
        f"{removing} takes the accuracy of copying names, on "
        f"{curve.n_prompts} prompts, from {accuracy.iloc[0]:.0%} to {accuracy.iloc[-1]:.0%}; as "
        f"many random heads leave {band['low']:.0%} to {band['high']:.0%}."
        + (" The model hardly does this task, so this tells little." if hardly else "")
    )


def _control(curve: AblationCurve, mode: str) -> str:
    said = []
    for name, row in curve.controls.iterrows():
        accuracy = curve.given(mode, str(name))["accuracy"]
        said.append(
            f"{name} {accuracy.iloc[0]:.0%} to {accuracy.iloc[-1]:.0%} (shares {row['shared']:.0%} "
            f"of the heads; on up to {MAX_CLEAN} prompts, nothing removed, its accuracy is "
            f"{row['gap']:.0%} off that of copying names)"
        )
    chosen = curve.control
    verdict = (
        f"the fair control nearest in accuracy is {chosen}"
        if chosen
        else "none is a fair control by the stated rules, so they are shown and not leant on"
    )
    return f"The same heads removed on other tasks: {'; '.join(said)}. Of these, {verdict}."


def _raised(curve: AblationCurve, null: pd.DataFrame, mode: str) -> str:
    change = curve.given(mode)["change"].iloc[-1]
    band = curve.random_band(mode, "change").iloc[-1]
    removing = _removing(curve, null, SUPPRESSION_SCORE)
    effect = (
        f"{'raises' if change > 0 else 'lowers'} the name's log-probability by "
        f"{abs(change):.1f} nats"
        if abs(change) >= 0.05
        else "leaves the name's log-probability as it is, to a tenth of a nat"
    )
    low, high = (round(float(band[end]), 1) + 0.0 for end in ("low", "high"))
    return f"{removing} {effect}; random heads change it by {low} to {high}."
