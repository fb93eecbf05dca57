"""The committed notebooks are short, ran in one go, and have their parameters in one place."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

# The first code cell of every notebook: quiet where the package is installed.
FIRST_CELL = """\
from importlib.util import find_spec

assert find_spec("analysis"), (
    "This notebook needs the package name-heads: run %pip install FOLDER with the folder of its "
    "repository, then restart the kernel."
)"""


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebooks_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:2]) for path in NOTEBOOKS]
    assert numbers[0] in (0, 1)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_it_ran_from_top_to_bottom_without_an_error(notebook: Any) -> None:
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_it_starts_with_a_question_the_package_and_one_parameters_cell(notebook: Any) -> None:
    assert notebook.cells[0].cell_type == "markdown"
    first, parameters = code(notebook)[:2]
    assert first.source == FIRST_CELL
    tagged = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [parameters]
    models = "models = [" if "Many models" in notebook.cells[0].source else 'model_name = "auto"'
    assert models in parameters.source


def test_its_cells_are_short_and_hold_no_logic(notebook: Any) -> None:
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 15, cell.source
        assert not re.search(r"^\s*(def|class|while|if|try|with)\b", cell.source, re.M)


def test_the_first_cell_is_quiet_here_and_one_sentence_elsewhere(tmp_path: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *options, "-c", FIRST_CELL]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    here = run()
    assert (here.returncode, here.stdout, here.stderr) == (0, "", "")
    elsewhere = run("-I", "-S")  # the standard library alone
    assert elsewhere.returncode == 1
    assert elsewhere.stderr.splitlines()[-1].startswith(
        "AssertionError: This notebook needs the package name-heads: run %pip install"
    )
