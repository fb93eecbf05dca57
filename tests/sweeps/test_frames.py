"""What one table of answers may hold."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import ParameterError
from analysis.report.sweep import models_side_by_side, when_heads_come_up
from analysis.sweeps.frames import of_one_run, one_score_each


def test_scores_for_two_questions_are_no_one_table() -> None:
    rows = [("run/step-1", 1, "static", 0.5), ("run/step-2", 2, "static k=10", 1.0)]
    frame = pd.DataFrame(rows, columns=["model", "step", "question", "copying_score"]).assign(
        title="M", layer=0, head=0, n_layers=1, suppression_score=0.0, n_names=8
    )
    for read in (one_score_each, of_one_run, models_side_by_side, when_heads_come_up):
        with pytest.raises(ParameterError, match=r"several questions: static, static k=10\."):
            read(frame)
        read(frame.assign(question="static"))
        read(frame.drop(columns="question"))
