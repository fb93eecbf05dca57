"""Exports in processes of their own, which import no more than an export needs."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from analysis.export import whole_files
from analysis.export.files import export_figure
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests.made_up import scores_from_counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.static.head_scores import HeadScores

SPAWN = multiprocessing.get_context("spawn")
DATA = ("svg", "csv", "json")
"""Endings of a small set, in the order in which the files are moved into their places."""
N_EXPORTS = 10
TIME_LIMIT_S = 60.0


def scores_with(planted: int, title: str = "GPT-2") -> HeadScores:
    """Scores of GPT-2's shape: head 9.9 copies, head 10.7 suppresses ``planted`` of 100 names."""
    top, bottom = np.zeros((2, 12, 12), dtype=int)
    top[9, 9] = bottom[10, 7] = planted
    identity = ModelIdentity(GPT2_SMALL, title, revision="abc")
    return scores_from_counts(top, bottom, model=identity, provenance={"seed": 1, "time": "now"})


def export_set(stem: Path, planted: int) -> None:
    """Write the files of ``DATA``: scores of so many planted names, and a picture of one point.

    The picture is as small as can be: what is tested is how the files come into their places.
    """
    fig = go.Figure(go.Scatter(x=[0], y=[planted]), layout={"width": 300, "height": 200})
    export_figure(fig, stem, DATA[:1], scores=scores_with(planted))


def export_and_die(stem: Path, moves: int) -> None:
    """Export, and kill this process when it wants to move one file more."""
    move, count = os.replace, 0

    def counted(source: Path, target: Path) -> None:
        nonlocal count
        if count == moves:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        move(source, target)

    whole_files.os.replace = counted  # type: ignore[attr-defined]
    export_set(stem, 99)


def export_often(stem: Path, planted: int) -> None:
    """Write the same set again and again."""
    for _ in range(N_EXPORTS):
        export_set(stem, planted)


def exit_codes(target: Callable[..., None], *arguments: tuple[object, ...]) -> list[int | None]:
    """Run a function of this module in a process for each set of arguments, all at once."""
    processes = [SPAWN.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIME_LIMIT_S)
    return [process.exitcode for process in processes]
