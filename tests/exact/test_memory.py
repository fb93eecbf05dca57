"""Scoring keeps to its memory budget, whatever the vocabulary, the names and the heads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scoring_memory.py"
BUDGET = 64 << 20
DOUBLED: tuple[dict[str, int], ...] = ({"d_vocab": 20_000}, {"n_pairs": 60_000}, {"n_layers": 6})

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its peak"
)


def peaks(budget: int, *cases: dict[str, int]) -> list[int]:
    """Bytes by which the process grew for each case."""
    # Freed memory goes back at once, so that the peak is what is held and not what is kept.
    malloc = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(budget), json.dumps(cases)],
        env=os.environ | malloc | {"TQDM_DISABLE": "1", "PYTHONPATH": str(SCRIPT.parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(run.stdout))


@pytest.mark.slow
def test_memory_stays_within_the_budget_with_everything_doubled() -> None:
    for case, peak in zip(DOUBLED, peaks(BUDGET, *DOUBLED), strict=True):
        assert peak < BUDGET, (case, peak)


@pytest.mark.slow
def test_it_is_the_budget_that_bounds_it() -> None:
    """With room for all sources at once, twice the names take more than the small budget."""
    (peak,) = peaks(1 << 30, DOUBLED[1])
    assert peak > BUDGET
