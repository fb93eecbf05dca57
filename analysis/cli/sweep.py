"""Ask many models the same questions: what ``make sweep MODELS=...`` calls.

``python -m analysis.cli.sweep gpt2 gpt2-medium 'EleutherAI/pythia-160m@step*' --questions static``
writes one Parquet file for each model and question into ``build/sweep`` and prints the heads that
copy and suppress most. A second run does only what is missing. Exit status: 0 where every task has
its answer, 1 where some failed (each with its reason printed), 130 after a stop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from analysis.cli.exit_status import exit_status
from analysis.sweeps.questions import QUESTIONS
from analysis.sweeps.run import SweepResult, sweep, sweep_frame


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep, print what became of each task, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.cli.sweep", description=__doc__)
    parser.add_argument("models", nargs="+", help="names, folders or patterns such as repo@step*")
    parser.add_argument("--questions", nargs="+", default=["static"], help=", ".join(QUESTIONS))
    parser.add_argument("--folder", default="build/sweep", help="for the answers")
    parser.add_argument("--cluster", help="address or scheduler file of a running Dask cluster")
    parser.add_argument("--workers", type=int, help="processes on this machine")
    options = parser.parse_args(arguments)
    return exit_status(
        lambda: _sweep(options), "stopped; what is done is kept, and the next run does the rest"
    )


def _sweep(options: argparse.Namespace) -> int:
    result = sweep(
        options.models,
        options.questions,
        options.folder,
        cluster=options.cluster,
        n_workers=options.workers,
    )
    failed = result.tasks[result.tasks["status"] == "failed"]
    print(result)
    for task in failed.itertuples():
        print(f"failed: {task.model}, {task.question}: {task.reason}")
    answered = result.tasks[result.tasks["status"].isin(["done", "kept"])]
    if "static" in set(answered["question"]):
        print(_strongest(result))
    return int(len(failed) > 0)


def _strongest(result: SweepResult) -> str:
    """The best copier and the strongest suppressor of each model, as text."""
    table = sweep_frame(result, "static")
    lines = []
    for model, heads in table.groupby("model", sort=False):
        said = [
            f"{score.replace('_', ' ')} {row[score]:.2f} ({row['layer']}.{row['head']})"
            for score in ("copying_score", "suppression_score")
            for row in [heads.loc[heads[score].idxmax()]]
        ]
        lines.append(f"{model}: highest {', '.join(said)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
