"""The same answers as on another processor, and a comparison that sees a single changed one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest

from tests.portable import ROOT, compare
from tests.processors import environment, settings

RELATIVE = 1e-12
FLOATS = {"z", "likely zero", "likely mean", "ioi z", "ioi attention", "ioi io_logit"}


@pytest.mark.slow
def test_every_answer_is_the_same_under_every_setting_of_the_processor(tmp_path: Path) -> None:
    alike: dict[frozenset[tuple[str, str]], list[str]] = {}
    for setting in settings().values():
        instructions = {name: setting[name] for name in setting if not name.endswith("_THREADS")}
        alike.setdefault(frozenset(instructions.items()), []).append(setting["OMP_NUM_THREADS"])
    running: list[tuple[str, Any]] = []
    for number, (variables, threads) in enumerate(alike.items()):
        stem = str(tmp_path / str(number))
        command = [sys.executable, "-m", "tests.answers_of_a_tiny_model", stem, *threads]
        subprocess.run(command, cwd=ROOT, env=environment(dict(variables)), check=True)
        for n in threads:
            running.append((f"{dict(variables)}, {n} threads", np.load(f"{stem}-{n}.npz")))
    assert len(running) == len(settings()) >= 3  # without AVX2: the oldest instructions, and MKL's
    (first, expected), *others = running
    assert {int(found["threads"]) for _, found in running} == {1, 2}
    rounded_otherwise = 0
    for name, found in others:
        assert set(found) == set(expected)
        for key in set(found) - {"threads"}:
            if key.split(" ", 1)[1] in FLOATS:
                scale = np.abs(expected[key]).max()
                difference = np.abs(found[key] - expected[key]).max() / scale
                assert difference <= RELATIVE, (first, name, key, difference)
                rounded_otherwise += difference > 0
            else:
                assert np.array_equal(found[key], expected[key]), (first, name, key)
    assert rounded_otherwise, "the settings make a difference, if a small one"


CELLS = {
    "name": "frame = dynamic_scores(model, NAMES, k=1).to_frame() * len(NAMES)\n"
    'frame.groupby(["context", "layer", "head"])["copying_score"].sum().astype(int)',
    "rank": 'top_logits_of_head(model, "Ael", (1, 1), n=2)["larger logits"]',
    "class": '{f"{la}.{h}": "copies" if h == 1 else "does not" for la in (1, 2) for h in (1, 2)}',
}
SETUP = """from analysis.dynamic.one_prompt import top_logits_of_head
from analysis.dynamic.scores import dynamic_scores
from tests import checkpoints, planted
NAMES = tuple(f"{a}{b}" for a in "ABCDEFGH" for b in ("an", "el", "io", "us"))
tokenizer = checkpoints.make_tokenizer(NAMES)
model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)"""


def executed(sources: Sequence[str]) -> Any:
    """A notebook of these cells, run once."""
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": ROOT}}
                          ).execute()  # fmt: skip


def one_more(text: str) -> str:
    """The text with one number, or one class, changed to its neighbour."""
    if "copies" in text:
        return text.replace("'copies'", "'does not'", 1)
    lines = text.splitlines()
    last = next(i for i in reversed(range(len(lines))) if lines[i].split()[-1].isdigit())
    number = lines[last].split()[-1]
    lines[last] = lines[last][: len(lines[last]) - len(number)] + str(int(number) + 1)
    return "\n".join(lines)


@pytest.mark.slow
def test_one_name_one_rank_or_one_class_off_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell stands twice, as it was and with one answer changed to its neighbour."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = executed((SETUP, *CELLS.values()))
    for kind, cell in zip(CELLS, notebook.cells[1:], strict=True):
        changed = nbformat.from_dict(cell)
        changed.id = f"{cell.id}-changed"
        changed.source += f"  # another {kind}"
        (output,) = changed.outputs
        before = output.data["text/plain"]
        output.data = {"text/plain": one_more(before)}
        assert output.data["text/plain"] != before
        notebook.cells.append(changed)
    changed_too = tmp_path / "answers.ipynb"
    nbformat.write(notebook, changed_too)
    report = tmp_path / "report.xml"
    setting = next(iter(settings().values()))
    assert compare(
        [str(changed_too)], setting, ["-n0", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    )
    outcomes = {
        int(case.get("name", "").split("Cell ")[1]): case.find("failure") is not None
        for case in ElementTree.parse(report).iter("testcase")
    }
    n = len(CELLS)
    assert outcomes == {number: number > n for number in range(1 + 2 * n)}
    unchanged = tmp_path / "unchanged" / "answers.ipynb"
    unchanged.parent.mkdir()
    cell = nbformat.v4.new_code_cell("{'copies': 1}", execution_count=1)
    cell.outputs = [
        nbformat.v4.new_output("execute_result", {"text/plain": cell.source}, execution_count=1)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), unchanged)
    assert compare([str(unchanged)], setting, ["-n0"]) == 0
