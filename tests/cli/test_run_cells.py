"""A notebook's cells in this process: outputs are kept in order, and errors are raised."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from analysis.cli.run_cells import run_cells


def code(*sources: str) -> list[dict[str, Any]]:
    return [nbformat.v4.new_code_cell(source) for source in sources]


def test_outputs_are_kept_in_order_and_printed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = code(
        "from IPython.display import display\n"
        "print('one'); print('two')\ndisplay({'text/plain': 'shown'}, raw=True)\nprint('three')\n7",
        "import os\nos.getcwd(), __name__",
        "%time 3 + 4;",
        "1 + 1;  # of no interest",
    )
    run_cells(cells, tmp_path)
    assert capsys.readouterr().out.startswith("one\ntwo\nthree\n")
    first = cells[0]["outputs"]
    kinds = [output["output_type"] for output in first]
    assert kinds == ["stream", "display_data", "stream", "execute_result"]
    assert first[0]["text"] == "one\ntwo\n"
    assert [first[at]["data"] for at in (1, 3)] == [{"text/plain": "shown"}, {"text/plain": "7"}]
    place = cells[1]["outputs"][0]["data"]["text/plain"]
    assert "".join(place.split()) == f"({str(tmp_path)!r},'__main__')"
    assert "Wall time" in cells[2]["outputs"][0]["text"]
    assert cells[3]["outputs"] == []
    book = nbformat.v4.new_notebook(cells=cells)
    nbformat.validate(nbformat.from_dict(book))


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1/0", ZeroDivisionError),
        ("1 +", SyntaxError),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
        ("raise SystemExit", SystemExit),
    ],
)
def test_an_error_is_raised_and_ends_the_run(
    source: str, error: type[BaseException], tmp_path: Path
) -> None:
    cells = code("print('before')", source, "print('after')")
    cells[2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "of yesterday"}]
    with pytest.raises(error):
        run_cells(cells, tmp_path)
    assert [len(cell["outputs"]) for cell in cells] == [1, 1, 0]
    assert cells[1]["outputs"][0]["ename"] == error.__name__


def test_nothing_of_the_shell_stays_behind(tmp_path: Path) -> None:
    before = (sys.stdout, sys.displayhook, sys.modules["__main__"], Path.cwd())
    run_cells(code("x = 1"), tmp_path)
    assert before == (sys.stdout, sys.displayhook, sys.modules["__main__"], Path.cwd())
    assert not InteractiveShell.initialized()


def test_each_step_is_announced(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_markdown_cell("# Title"), *code("1")]
    seen: list[str] = []
    run_cells(cells, tmp_path, lambda cell: seen.append(cell["source"]))
    assert seen == ["# Title", "1"]
