"""Every score of this project side by side, to be held against measured classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis.dynamic.scores import dynamic_scores
from analysis.ioi.class_agreement import agreement_with_classes
from analysis.ioi.head_classes import HeadClass
from analysis.ioi.measured_classes import HeadMeasurements
from analysis.names import TokenPairs
from analysis.prompts.templates import MIN_NAMES
from analysis.static.eigenvalues import eigenvalue_scores
from analysis.static.scores import score_heads
from analysis.static.vocabulary import score_vocabulary
from analysis.validation import check_int

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

COPYING = (HeadClass.NAME_MOVER, HeadClass.BACKUP_NAME_MOVER)
"""Classes that copying scores are to find."""
SUPPRESSING = (
    HeadClass.NEGATIVE_NAME_MOVER,
    HeadClass.SUBJECT_SUPPRESSOR,
    HeadClass.BACKUP_NEGATIVE_NAME_MOVER,
)
"""Classes that suppression scores are to find."""


def all_scores(
    model: TransformerBridge,
    names: TokenPairs,
    measured: HeadMeasurements,
    *,
    n_tokens: int = 1000,
    n_dynamic: int = 60,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copying and suppression scores of every head, by every method.

    Args:
        model: that was measured.
        names: for the static scores.
        measured: brings the copy scores of the task.
        n_tokens: sources drawn for the whole-vocabulary score.
        n_dynamic: how many of the names, taken evenly, for the dynamic scores; all if fewer.

    Returns:
        Two frames indexed by ``layer`` and ``head`` with the same columns: ``static, k = 1``,
        ``static, k = 10``, ``vocabulary``, ``eigenvalue, embedding`` and ``eigenvalue, mlp`` (by
        ``effective_embedding``; negated for suppression),
        ``dynamic, without context`` (the head attends to the name alone) and ``dynamic, with
        context`` (means over templates), and ``task`` (copy score and its negative twin). A higher
        score stands for more copying in the first frame, for more suppression in the second.
    """
    n_dynamic = min(check_int("n_dynamic", n_dynamic, MIN_NAMES), len(names))
    places = [i * len(names) // n_dynamic for i in range(n_dynamic)]
    running = dynamic_scores(model, names[places]).means()
    vocabulary = score_vocabulary(model, n_tokens=n_tokens).to_frame()
    eigenvalue = {
        kind: eigenvalue_scores(model, embedding=kind)["eigenvalue_score"]
        for kind in ("embedding", "mlp")
    }
    static = {k: score_heads(model, names, k=k).to_frame() for k in (1, 10)}
    frames = []
    for by, of_vocabulary, sign, of_task in (
        ("copying_score", "copied", 1, "copy_score"),
        ("suppression_score", "suppressed", -1, "negative_copy_score"),
    ):
        columns = {
            "static, k = 1": static[1][by],
            "static, k = 10": static[10][by],
            "vocabulary": vocabulary[of_vocabulary],
            **{f"eigenvalue, {kind}": sign * value for kind, value in eigenvalue.items()},
            "dynamic, without context": running.xs("without", level="context")[by],
            "dynamic, with context": running.xs("with", level="context")[by],
            "task": measured.numbers[of_task],
        }
        frames.append(pd.DataFrame(columns))
    return frames[0], frames[1]


def agreement_of_all(
    copying: pd.DataFrame,
    suppression: pd.DataFrame,
    classes: pd.DataFrame,
    *,
    heads_per_group: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Each class by the scores that are to find it, as ``agreement_with_classes`` gives it.

    The agreement of ``task`` with measured classes is circular: it is part of the class definition.
    """
    tables = [
        agreement_with_classes(scores, classes, wanted, heads_per_group=heads_per_group, seed=seed)
        for scores, wanted in ((copying, COPYING), (suppression, SUPPRESSING))
    ]
    return pd.concat([table for table in tables if len(table)] or tables[:1])
