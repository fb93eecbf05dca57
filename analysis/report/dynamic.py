"""How far can the weights be trusted? Sentences computed from agreement and causal checks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.ablation.curve import MIN_ACCURACY, AblationCurve
from analysis.dynamic.agreement import OUTLIER, POOLED, head_table
from analysis.dynamic.null_heads import (
    AT_LEAST,
    FDR,
    NULLS,
    OTHER_TARGETS,
    NullComparison,
    significant_heads,
    which_significant,
)
from analysis.dynamic.one_prompt import rounded
from analysis.dynamic.scores import DynamicScores
from analysis.errors import ParameterError
from analysis.heads import head_name, listed_heads
from analysis.plots.static_dynamic import compared_columns
from analysis.report.static import counted
from analysis.static.head_scores import COPYING_SCORE, HIGH, SUPPRESSION_SCORE

MODE = "mean"
"""The ablation that is spoken of first, where it was measured."""


def trust_in_weights(
    table: pd.DataFrame,
    null: NullComparison,
    copying: AblationCurve,
    suppressing: AblationCurve,
) -> list[str]:
    """The answer to the notebook's question in Markdown, each sentence computed.

    Of ``agreement``'s table and of curves without the best copying and the best suppressing heads.

    Raises:
        ParameterError: the scores are of a relation other than copying.
    """
    kinds = (COPYING_SCORE, SUPPRESSION_SCORE)
    if not set(kinds) <= {*table.index.get_level_values(-1)} & {*null.frame}:
        raise ParameterError(
            "these sentences are about names that are copied, and the scores are of another "
            "relation: read correlation_table and null_table."
        )
    return [
        *(_correlation(table, kind) for kind in kinds),
        *(_standing_out(null, kind) for kind in kinds),
        _removal(copying, null),
        *_control(copying),
        _raised(suppressing, null),
    ]


def what_was_run(dynamic: DynamicScores) -> str:
    """A Markdown sentence: prompts, precision and near-ties of the dynamic scores."""
    near = dynamic.n_near_ties
    pairs = f"**{near}** pairs of logits were" if near > 1 else "**1** pair of logits was"
    ties = pairs if near else "No two logits were"
    return (
        f"{dynamic.model.title}: {counted(len(dynamic.names), 'name')} in "
        f"{counted(len(dynamic.templates), 'template')}, run in float64. {ties} too near each "
        "other to tell apart."
    )


def correlation_table(table: pd.DataFrame) -> pd.DataFrame:
    """``agreement`` for reading: each correlation, its interval and its range, two digits.

    Returns:
        Text columns ``Pearson``, ``95 % over names``, ``any group of heads left out`` (both of
        Pearson's) and ``Spearman``, indexed as the table is.
    """
    columns = {
        "Pearson": [_digits(r) for r in table["pearson"]],
        "95 % over names": [_span(row, "names") for _, row in table.iterrows()],
        "any group of heads left out": [_span(row, "heads") for _, row in table.iterrows()],
        "Spearman": [_digits(r) for r in table["spearman"]],
    }
    return pd.DataFrame(columns, index=table.index)


def off_the_line(static: pd.DataFrame, dynamic: pd.DataFrame) -> pd.DataFrame:
    """Heads far off the fitted line, farthest first, as ``plot_static_dynamic`` takes both frames.

    Returns:
        Columns ``static``, ``dynamic``, ``fitted`` (two digits), indexed by ``kind``, ``layer``
        and ``head``.

    Raises:
        ParameterError: as ``compared_columns`` raises it.
    """
    parts = {}
    for kind in compared_columns(static, dynamic):
        table = head_table(static, dynamic, kind)
        far = table[table["residual"].abs() > OUTLIER]
        order = (far["dynamic"] - far["fitted"]).abs().sort_values(ascending=False).index
        shown = far.loc[order, ["static", "dynamic", "fitted"]]
        parts[kind] = pd.DataFrame(
            {name: rounded(shown[name].to_numpy(), 2) for name in shown}, index=shown.index
        )
    return pd.concat(parts, names=["kind"])


def what_context_changes(static: pd.DataFrame, dynamic: pd.DataFrame) -> list[str]:
    """Markdown sentences: the best head by the weights, and by what is written with context.

    Args:
        static: ``HeadScores.to_frame()``.
        dynamic: ``DynamicScores.to_frame()`` with context, the level ``context`` gone.

    Raises:
        ParameterError: as ``compared_columns`` raises it.
    """
    said = []
    ran = dynamic.groupby(level=["layer", "head"]).mean()
    for kind in compared_columns(static, dynamic):
        what = kind.removesuffix("_score").capitalize()
        weights, context = static[kind], ran[kind].round(9)
        if not weights.any():
            said.append(f"**{what}.** By the weights all heads score 0.")
            continue
        best, highest = (scores.index[scores == scores.max()] for scores in (weights, context))
        first = f"**{what}.** {_score_most(best)} by the weights, {_percent(weights[best])}"
        if not context.any():
            said.append(f"{first}; with context all heads score 0.")
            continue
        end = (
            "no head scores more with context"
            if best.isin(highest).any()
            else f"with context {_score_most(highest)}, {_percent(context[highest])} "
            f"({_percent(weights[highest])} by the weights)"
        )
        said.append(f"{first}, and {_percent(context[best])} with context; {end}.")
    return said


def _score_most(heads: pd.Index) -> str:
    """``9.6 scores most``, ``9.6, 10.0 score most``."""
    return f"{listed_heads(heads)} {'scores' if len(heads) == 1 else 'score'} most"


def _percent(scores: pd.Series) -> str:
    """The score of all these heads, or from which to which they score."""
    low, high = f"{scores.min():.0%}", f"{scores.max():.0%}"
    return low if low == high else f"{low} to {high}"


def null_table(null: NullComparison) -> pd.DataFrame:
    """How random scores compare, by null and kind of score.

    Returns:
        Columns ``random scores``, ``highest``, ``above 0`` (text shares) and ``significant heads``
        (q at most ``FDR``), indexed by ``null`` and ``kind``.
    """
    rows = {}
    for (name, kind), row in null.nulls.iterrows():
        rows[name, kind] = {
            "random scores": f"{int(row['n_random']):,}",
            "highest": f"{row['highest']:.1%}",
            "above 0": f"{row['share_above_0']:.1%}",
            "significant heads": int((null.frame[f"{kind}_q {name}"] <= FDR).sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["null", "kind"])


def _correlation(table: pd.DataFrame, kind: str) -> str:
    what = "Copying" if kind == COPYING_SCORE else "Suppression"
    without, ran = (table.loc[(context, POOLED, kind)] for context in ("without", "with"))
    if np.isnan(without["pearson"]) and np.isnan(ran["pearson"]):
        return f"**{what}.** No correlation can be computed: all heads score the same."
    with_context = (
        "With context no correlation can be computed: all heads score the same."
        if np.isnan(ran["pearson"])
        else f"With context r is {_digits(ran['pearson'])} ({_spans(ran)})."
    )
    if np.isnan(without["pearson"]):
        return (
            f"**{what}.** Without context no correlation of static and dynamic scores can be "
            f"computed: all heads score the same. {with_context}"
        )
    return (
        f"**{what}.** Without context, static and dynamic scores correlate with r = "
        f"**{_digits(without['pearson'])}** ({_spans(without)}); by ranks, in which every head "
        f"counts alike, with ρ = **{_digits(without['spearman'])}**. {with_context}"
    )


def _spans(row: pd.Series) -> str:
    return (
        f"95 % interval over names {_span(row, 'names')}; with any group of heads left out "
        f"{_span(row, 'heads')}"
    )


def _span(row: pd.Series, over: str) -> str:
    low, high, undefined = (row[f"pearson_{over}_{end}"] for end in ("low", "high", "undefined"))
    if np.isnan(low):
        return "undefined"
    note = f", undefined in {undefined:.0%}" if undefined > 0 else ""
    return f"{_digits(low)} to {_digits(high)}{note}"


def _digits(value: float) -> str:
    """Two digits; what is below 1 is not shown as 1, and nothing as -0.00."""
    value = round(value, 9)  # 0.9999999999999998 is 1, rounded on the way
    if 0.995 <= abs(value) < 1:
        return f"{np.trunc(value * 1000) / 1000:.3f}"
    return f"{value:z.2f}"


def _standing_out(null: NullComparison, kind: str) -> str:
    one, what = ("copies", "copy") if kind == COPYING_SCORE else ("suppresses", "suppress")
    frame = null.frame
    by_null = [f"{int((frame[f'{kind}_q {name}'] <= FDR).sum())} against {name}" for name in NULLS]
    found = frame.index[frame[f"{kind}_q"] <= FDR]
    enough = int((frame.loc[found, kind] >= AT_LEAST).sum())
    highest = null.nulls.loc[(OTHER_TARGETS, kind), "highest"]
    half = int((frame[kind] >= HIGH).sum())
    return (
        f"**Chance.** Heads that {what} more names than chance (false discovery rate {FDR:.0%}): "
        f"{', '.join(by_null)}; against all three {len(found)} of {len(frame)}, of which {enough} "
        f"{one if enough == 1 else what} at least {AT_LEAST:.0%} of the names. The model's own "
        f"heads, asked about other names, reach {highest:.1%}. Half of the names or more: "
        f"{counted(half, 'head')}."
    )


def _removed(curve: AblationCurve, null: NullComparison, kind: str) -> str:
    """Which heads were removed; a remark where some are not significant."""
    what = "copying" if kind == COPYING_SCORE else "suppressing"
    significant = which_significant(null, kind)
    removed = significant.loc[list(curve.heads)]
    weak = removed.index[~removed]
    remark = ""
    if not significant.any() and list(curve.heads) == significant_heads(null, kind, 1):
        remark = (
            f"No {what} head is significant and scores {AT_LEAST:.0%}; the best-scored is removed. "
        )
    elif len(weak):
        verbs = ("is", "scores") if len(weak) == 1 else ("are", "score")
        remark = "{} {} not significant or {} below {:.0%}. ".format(
            listed_heads(weak), *verbs, AT_LEAST
        )
    heads = ", ".join(head_name(*head) for head in curve.heads)
    many = counted(len(removed), "head" if len(weak) else f"{what} head")
    return f"{remark}Without {many} ({heads})"


def _removal(curve: AblationCurve, null: NullComparison) -> str:
    first = _first_mode(curve)
    lead = f"**Removing copying heads** ({first} ablation, {counted(curve.n_prompts, 'prompt')})."
    if not curve.heads:
        return f"{lead} No head copies a single name, so none is removed."
    before = curve.given(first).iloc[0]
    others = [mode for mode in curve.modes if mode != first]
    weak = before["accuracy"] < MIN_ACCURACY
    return " ".join(
        [
            f"{lead} {_removed(curve, null, COPYING_SCORE)}, accuracy at copying names goes from "
            f"**{before['accuracy']:.0%}** ({_shares(before)}) to {_left(curve, first)}.",
            *(f"By {mode} ablation it goes to {_left(curve, mode)}." for mode in others),
            *(["The model can hardly do this task, so this shows little."] if weak else []),
        ]
    )


def _first_mode(curve: AblationCurve) -> str:
    return MODE if MODE in curve.modes else curve.modes[0]


def _left(curve: AblationCurve, mode: str) -> str:
    """The accuracy that is left, and that with as many random heads removed."""
    after, band = curve.given(mode).iloc[-1], curve.random_band(mode, "accuracy").iloc[-1]
    return (
        f"**{after['accuracy']:.0%}** ({_shares(after)}); with as many random heads removed, to "
        f"{band['low']:.0%} to {band['high']:.0%} ({_draws(curve)})"
    )


def _draws(curve: AblationCurve) -> str:
    return f"5th to 95th percentile of {counted(curve.n_draws, 'draw')}"


def _shares(row: pd.Series) -> str:
    return f"95 %: {row['accuracy_low']:.0%} to {row['accuracy_high']:.0%}"


def _control(curve: AblationCurve) -> list[str]:
    if not curve.heads or not len(curve.controls):
        return []
    parts = []
    for name, row in curve.controls.iterrows():
        before, after = (curve.given(_first_mode(curve), str(name)).iloc[i] for i in (0, -1))
        parts.append(
            f"{name} goes from {before['accuracy']:.0%} to {after['accuracy']:.0%} "
            f"({_shares(after)}; {row['shared']:.0%} of its own best heads are among the removed)"
        )
    chosen = curve.control
    verdict = (
        f"The control is {chosen}: fair, and of the fair ones the nearest in accuracy."
        if chosen
        else "None of these is a fair control by the stated rules, so that a general loss is not "
        "ruled out."
    )
    return [f"**Other tasks**, with the same heads removed: {'; '.join(parts)}. {verdict}"]


def _raised(curve: AblationCurve, null: NullComparison) -> str:
    lead = "**Removing suppressing heads.**"
    if not curve.heads:
        return f"{lead} No head suppresses a single name, so none is removed."
    mode = _first_mode(curve)
    row = curve.given(mode).iloc[-1]
    band = curve.random_band(mode, "change").iloc[-1]
    change, low, high = (row[c] for c in ("change", "change_low", "change_high"))
    verb = "rises" if change > 0 else "falls"
    sure = "" if low * high > 0 else ", which is not distinguishable from no change"
    effect = f"{verb} by **{abs(change):.2f}** nats (95 %: {low:z.2f} to {high:z.2f}){sure}"
    if abs(change) < 0.005:
        effect = f"changes by less than 0.005 nats (95 %: {low:z.2f} to {high:z.2f})"
    return (
        f"{lead} {_removed(curve, null, SUPPRESSION_SCORE)}, the name's log-probability {effect}; "
        f"with random heads removed it changes by {band['low']:z.2f} to {band['high']:z.2f} "
        f"({_draws(curve)})."
    )
