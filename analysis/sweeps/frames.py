"""What may be read out of a table of answers: one score of each head of each model, and its name.

A table of ``sweep_frame`` may hold several questions, training runs and models of one title. What
is drawn or counted must not mix them.
"""

from __future__ import annotations

import pandas as pd

from analysis.errors import ParameterError
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE
from analysis.validation import listed

STEP = r"step-?(\d+)$"
"""The end of the name of a checkpoint that is named after its training step."""

_SHOWN = 4
"""Names that an error lists."""


def one_score_each(scores: pd.DataFrame, by: str = "model") -> pd.DataFrame:
    """The rows that have both scores, one for each head of each model.

    ``by`` is the column that tells models apart, or checkpoints: ``model`` or ``step``.
    """
    columns = [COPYING_SCORE, SUPPRESSION_SCORE]
    found = scores.dropna(subset=columns) if set(columns) <= set(scores) else scores.iloc[:0]
    if found.empty:
        raise ParameterError(
            f"no answer here has the columns {' and '.join(columns)}: "
            "ask the models the question 'static'."
        )
    if found.duplicated([by, "layer", "head"]).any():
        listed = [
            f"{column}s {_listed(found[column])}"
            for column in ("question", "model")
            if column in found and found[column].nunique() > 1
        ]
        raise ParameterError(
            f"heads have several scores for one {by}{': ' if listed else ''}{', '.join(listed)}. "
            "Choose one of each, such as sweep_frame(result, 'static')."
        )
    if "question" in found and found["question"].nunique() > 1:
        raise ParameterError(
            f"these scores answer several questions: {_listed(found['question'])}. "
            "Choose one, such as sweep_frame(result, 'static')."
        )
    return found


def of_one_run(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows that have both scores, one for each head at each ``step`` of one training run.

    The names of the models, where there are any, say which run a checkpoint is of: a name without
    its step.
    """
    if "model" in scores:
        runs = scores["model"].str.replace(STEP, "", regex=True).unique()
        if len(runs) > 1:
            raise ParameterError(
                f"these are checkpoints of {len(runs)} training runs ({_listed(runs)}): take one, "
                f"such as scores[scores['model'].str.startswith({runs[0]!r})]."
            )
    return one_score_each(scores, "step")


def model_labels(scores: pd.DataFrame) -> pd.Series:
    """What to call the model of each row: its title where no other has it, else its own name."""
    models = scores["model" if "model" in scores else "title"].astype(str)
    titles = scores["title" if "title" in scores else "model"].astype(str)
    pairs = pd.DataFrame({"model": models, "title": titles}).drop_duplicates("model")
    shared = pairs["title"].duplicated(keep=False)
    labels = pairs["title"].where(~shared, pairs["model"])
    if labels.duplicated().any():  # one model's title is another one's name
        labels = pairs["model"]
    return models.map(dict(zip(pairs["model"], labels, strict=True)))


def _listed(values: object) -> str:
    return listed(list(dict.fromkeys(map(str, values))), _SHOWN)  # type: ignore[call-overload]
