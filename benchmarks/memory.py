"""The memory that scoring takes, measured from outside the scoring process.

``python benchmarks/memory.py`` starts a process that loads a model, waits, scores and waits again;
this one reads the other's resident memory before, and its peak after.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def status(process: int, line: str) -> int:
    """Bytes on one line of a process's status."""
    for row in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if row.startswith(line):
            return int(row.split()[1]) * 1024
    raise KeyError(line)


def measure(which: str) -> tuple[float, float] | None:
    """GiB held before scoring, and by how many the peak while scoring is above; None off Linux.

    Args:
        which: ``names``, ``ranks`` (names with ranks up to 100) or ``vocabulary``.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    child = subprocess.Popen(
        [sys.executable, __file__, which], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the scoring process has no pipes.")
    child.stdout.readline()  # the model is loaded
    Path(f"/proc/{child.pid}/clear_refs").write_text("5", encoding="utf-8")
    before = status(child.pid, "VmRSS")
    child.stdin.write("score\n")
    child.stdin.flush()
    child.stdout.readline()  # it is scored
    peak = status(child.pid, "VmHWM")
    child.communicate("end\n")
    return before / 2**30, (peak - before) / 2**30


def score(which: str) -> None:
    """The scoring process: load, wait, score, wait."""
    from analysis import load_model, load_names, score_heads, score_vocabulary

    model = load_model("smollm2-135m")
    names = load_names(model)
    print("loaded", flush=True)
    sys.stdin.readline()
    if which == "vocabulary":
        score_vocabulary(model)
    else:
        score_heads(model, names, max_rank=100 if which == "ranks" else None)
    print("scored", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        score(sys.argv[1])
    else:
        for kind in ("names", "ranks", "vocabulary"):
            print(kind, measure(kind))
