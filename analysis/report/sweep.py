"""Tables and sentences on many models, computed from the answers of a sweep."""

from __future__ import annotations

import pandas as pd

from analysis.errors import ParameterError
from analysis.heads import head_name, listed_heads
from analysis.report.static import below_high
from analysis.static.head_scores import COPYING_SCORE, HIGH, SUPPRESSION_SCORE
from analysis.sweeps.frames import STEP, model_labels, of_one_run, one_score_each


def with_steps(scores: pd.DataFrame) -> pd.DataFrame:
    """The answers of checkpoints that are named after their step, with a column ``step``.

    Args:
        scores: of ``sweep_frame``; models that are no such checkpoint are left out.

    Raises:
        ParameterError: no model is named ``...step-100``, ``...step100`` or the like.
    """
    steps = scores["model"].str.extract(STEP, expand=False)
    if steps.isna().all():
        raise ParameterError("no model of this sweep is named after its training step.")
    found = scores[steps.notna()].assign(step=steps.dropna().astype(int))
    return found.sort_values(["step", "layer", "head"], kind="stable").reset_index(drop=True)


def when_heads_come_up(scores: pd.DataFrame) -> list[str]:
    """At which checkpoint the first copiers and the first suppressors are seen.

    Args:
        scores: of ``with_steps``, of one training run.

    Raises:
        ParameterError: they are of several runs, or a head has no score or several at one step.
    """
    scores = of_one_run(scores).sort_values(["step", "layer", "head"], kind="stable")
    said = []
    for score, one, many in (
        (COPYING_SCORE, "copies", "copy"),
        (SUPPRESSION_SCORE, "suppresses", "suppress"),
    ):
        strong = scores[scores[score] >= HIGH]
        last = scores[scores["step"] == scores["step"].max()]
        most = last[score].max()
        best = last[last[score] == most]
        now = (
            f"the highest score is {below_high(most)}, of head{'s' if len(best) > 1 else ''} "
            f"{_heads(best)}"
            if most > 0
            else "all heads score 0"
        )
        if strong.empty:
            said.append(
                f"No head {one} half of the names at any checkpoint; at the last one {now}."
            )
            continue
        step = int(strong["step"].min())
        first = strong[strong["step"] == step]
        who = (
            f"The first head that {one} half of the names is"
            if len(first) == 1
            else f"The first heads that {many} half of the names are"
        )
        said.append(f"{who} {_heads(first)}, seen at step {step:,}; at the last checkpoint {now}.")
    return said


def _heads(rows: pd.DataFrame) -> str:
    """The heads of some rows by name."""
    return listed_heads(pd.MultiIndex.from_frame(rows[["layer", "head"]].astype(int)))


def models_side_by_side(scores: pd.DataFrame) -> pd.DataFrame:
    """What share of each model's heads copy and suppress, and how deep they lie.

    Args:
        scores: of ``sweep_frame``.

    Returns:
        ``heads``, ``names`` (asked about), ``copiers`` and ``suppressors`` (heads that do it for
        at least half of the names), ``share of copiers``, ``share of suppressors``, and the
        highest score of each kind with its head and depth (0 the first layer, 1 the last; words
        where all heads score 0), indexed by ``model``: its title, or the name that it was asked
        for by where others have that title.

    Raises:
        ParameterError: no row has the scores, or a head has several.
    """
    scores = one_score_each(scores)
    rows = {}
    for label, heads in scores.groupby(model_labels(scores), sort=False):
        row: dict[str, object] = {"heads": len(heads), "names": int(heads["n_names"].iloc[0])}
        for score, many in ((COPYING_SCORE, "copiers"), (SUPPRESSION_SCORE, "suppressors")):
            n = int((heads[score] >= HIGH).sum())
            best = heads.loc[heads[score].idxmax()]
            depth = best["layer"] / max(best["n_layers"] - 1, 1)
            row |= {
                many: n,
                f"share of {many}": f"{n / len(heads):.1%}",
                f"highest {score.replace('_', ' ')}": f"{below_high(best[score])} "
                f"({head_name(int(best['layer']), int(best['head']))}, depth {depth:.2f})"
                if best[score] > 0
                else "all heads score 0",
            }
        rows[str(label)] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
