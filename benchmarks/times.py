"""How long a reader waits: whole processes, from the command to its end.

``python benchmarks/times.py [WHAT ...]`` with some of ``figures``, ``first``, ``show`` and numbers
of notebooks such as ``02``, which are printed alone; all of them if none is given.
The packaged model is in its cache before anything is timed. ``make bench`` writes the table to
``results.md``. Time of the processor is what the processes used, of both cores together: on a
machine that does other work it says more than seconds of the clock.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from sections import markdown, met, other_work, write_section

from analysis.models import fetch_checkpoint

ROOT = Path(__file__).parents[1]
MODEL = "smollm2-135m"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIRST = f"""\
from analysis import load_model
from analysis.static.scores import target_ranks
print(target_ranks(load_model({MODEL!r}), ["Mary"], heads=[(23, 2)]))"""
SHOW = """\
import os, time
import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from analysis.export.display import show_figure
from analysis.plots.heatmaps import plot_heatmaps
from tests.made_up import scores_from_counts
InteractiveShell.instance().display_pub.publish = lambda *_, **__: None
fig = plot_heatmaps(scores_from_counts(np.arange(270).reshape(30, 9) // 3))
for _ in range(6):
    start = time.perf_counter(), time.process_time()
    show_figure(fig)
    print(time.perf_counter() - start[0], time.process_time() - start[1])"""
LIMITS = {"figures": "10", "first": "4", "show": "0.3", "02": "12"}
"""Seconds that a reader should wait at most, on two idle cores."""


def main(asked: list[str]) -> None:
    """Measure and write the table."""
    fetch_checkpoint(MODEL)
    rows = []
    for what in asked or ["figures", "first", "show", *(path.name[:2] for path in NOTEBOOKS)]:
        rows += _rows(what)
        print(rows[-1], flush=True)
    if asked:  # the table is of all
        return
    write_section(
        "How long a reader waits",
        f"{markdown(rows)}\n\nWhole processes on the packaged model, from its cache; medians of "
        f"the runs. {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
        f"{other_work(torch.get_num_threads())}. Made by `benchmarks/times.py`.",
    )


def _rows(what: str) -> list[dict[str, object]]:
    if what == "show":
        printed = _run([sys.executable, "-c", SHOW])[3]
        first, *later = [tuple(map(float, line.split())) for line in printed.splitlines()]
        return [
            _row("`show_figure`, the first time", [first[0]], [first[1]], None, ""),
            _row(
                "`show_figure`, after that",
                [wall for wall, _ in later],
                [cpu for _, cpu in later],
                None,
                LIMITS["show"],
            ),
        ]
    if what == "first":
        name, command = "a first score of one head", [sys.executable, "-c", FIRST]
    else:
        number = "03" if what == "figures" else what
        (notebook,) = [path for path in NOTEBOOKS if path.name.startswith(number)]
        name = "`make figures`" if what == "figures" else f"notebook {notebook.stem}"
        runner = [sys.executable, "-m", "analysis.cli.run_notebook", str(notebook)]
        command = [*runner, f"MODEL={MODEL}"]
    runs = [_run(command) for _ in range(3 if what in LIMITS else 1)]
    said = statistics.median(run[2] for run in runs)
    return [
        _row(name, [run[0] for run in runs], [run[1] for run in runs], said, LIMITS.get(what, ""))
    ]


def _row(
    name: str, walls: list[float], cpus: list[float], said: float | None, limit: str
) -> dict[str, object]:
    return {
        "what": name,
        "seconds": f"{statistics.median(walls):.2f}",
        "fewest": f"{min(walls):.2f}",
        "processor, s": f"{statistics.median(cpus):.2f}",
        "first words after, s": "" if said is None else f"{said:.2f}",
        "runs": len(walls),
        "goal": limit,
        "met": met(statistics.median(walls), limit),
    }


def _run(command: list[str]) -> tuple[float, float, float, str]:
    """Seconds, seconds of the processor, seconds to the first output, and the output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "NAME_HEADS_FIGURES": folder, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout
        first = process.stdout.read(1)
        said = time.perf_counter() - start
        printed = (first + process.stdout.read()).decode()
        if process.wait():
            raise RuntimeError(f"{command} failed: {printed[-500:]}")
        took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, cpu, said, printed


if __name__ == "__main__":
    main(sys.argv[1:])
