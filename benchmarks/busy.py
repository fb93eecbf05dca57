"""Scoring beside a busy neighbour: one core taken, or a second program on all cores.

``make bench`` writes its table into ``results.md``. The neighbour multiplies matrices on as many
threads as it is given until it is ended.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import torch
from sections import markdown, write_section

from analysis import load_model, load_names, score_heads

REPEATS = 5
NEIGHBOUR = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
print("busy", flush=True)
while True:
    a @ b
"""


def measure() -> list[dict[str, object]]:
    """Seconds of ``score_heads`` for each number of threads and each neighbour."""
    model = load_model("smollm2-135m")
    names = load_names(model)
    cores = torch.get_num_threads()
    score_heads(model, names)
    rows = []
    for neighbour in dict.fromkeys((0, 1, cores)):
        process = None
        if neighbour:
            process = subprocess.Popen(
                [sys.executable, "-c", NEIGHBOUR, str(neighbour)], stdout=subprocess.PIPE
            )
            if process.stdout is not None:
                process.stdout.readline()
        try:
            for threads in dict.fromkeys((1, cores)):
                torch.set_num_threads(threads)
                times = []
                for _ in range(REPEATS):
                    start = time.perf_counter()
                    score_heads(model, names)
                    times.append(time.perf_counter() - start)
                rows.append(
                    {
                        "neighbour's threads": neighbour,
                        "our threads": threads,
                        "seconds (median)": f"{statistics.median(times):.2f}",
                        "most": f"{max(times):.2f}",
                    }
                )
        finally:
            torch.set_num_threads(cores)
            if process is not None:
                process.kill()
                process.wait()
    return rows


def main() -> None:
    """Measure, and write the table."""
    table = markdown(measure())
    write_section(
        "The scorer beside a busy neighbour",
        f"{table}\n\nSmolLM2-135M, all names, k = 1, on {torch.get_num_threads()} cores. The "
        "neighbour multiplies matrices without a pause. Made by `make bench`.",
    )
    print(table)


if __name__ == "__main__":
    main()
