"""A notebook's code cells, run one after another in this very Python.

No kernel is started, so libraries are loaded once, what cells print is seen at once, and an error
is the error itself. Outputs are kept as a notebook holds them (nbformat 4).
"""

from __future__ import annotations

import base64
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.formatters import format_display_data
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

if TYPE_CHECKING:
    from typing import TextIO

Cell = dict[str, Any]


def run_cells(
    cells: list[Cell], folder: Path, announce: Callable[[Cell], None] = lambda cell: None
) -> None:
    """Run the code cells and give each its outputs and its number, in place.

    ``announce`` is called with each cell, of words or of code, when its turn comes. What a cell
    raises comes out, and cells after it are left without outputs.
    """
    for cell in cells:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    with contextlib.chdir(folder), _shell() as (shell, publisher):
        number = 0
        for cell in cells:
            announce(cell)
            if cell["cell_type"] != "code":
                continue
            number += 1
            cell["execution_count"] = number
            _run(shell, publisher, cell)


class _Shell(InteractiveShell):
    """One that leaves errors to be raised."""

    def _leave(self, *_: object, **__: object) -> None:
        """Nothing: the error is raised by ``run_cells``."""

    showtraceback = showsyntaxerror = showindentationerror = _leave


class _Publisher(DisplayPublisher):
    """Keeps what ``display`` shows."""

    outputs: list[dict[str, Any]] = []  # noqa: RUF012 -- each cell brings its own

    def publish(self, data: Any, metadata: Any = None, *_: Any, **__: Any) -> None:
        self.outputs.append(_output("display_data", data, metadata))


@contextlib.contextmanager
def _shell() -> Iterator[tuple[InteractiveShell, _Publisher]]:
    """A shell in which ``display`` and a cell's last value are kept; gone afterwards."""
    before = sys.displayhook
    shell = _Shell.instance(config=Config(HistoryManager={"enabled": False}))
    publisher = shell.display_pub = _Publisher(parent=shell)
    try:
        with warnings.catch_warnings():
            # To a cell that raises SystemExit the shell says how to leave a shell.
            warnings.filterwarnings("ignore", "To exit: use 'exit'", UserWarning)
            yield shell, publisher
    finally:
        sys.displayhook = before
        shell.restore_sys_module_state()
        _Shell.clear_instance()


def _run(shell: InteractiveShell, publisher: _Publisher, cell: Cell) -> None:
    outputs: list[dict[str, Any]] = cell["outputs"]
    publisher.outputs = outputs

    source = "".join(cell["source"])

    def keep(value: object) -> None:
        # The value of a cell that ends in a semicolon is not shown, as in a kernel.
        if value is not None and not DisplayHook.semicolon_at_end_of_expression(
            shell.transform_cell(source)
        ):
            data, metadata = format_display_data(value)
            result = _output("execute_result", data, metadata)
            outputs.append(result | {"execution_count": cell["execution_count"]})

    shell.display_trap.hook = keep
    with contextlib.redirect_stdout(_Copied(sys.stdout, outputs)):
        done = shell.run_cell(source, store_history=False)
    error = done.error_before_exec or done.error_in_exec
    if error is not None:
        outputs.append(
            {
                "output_type": "error",
                "ename": type(error).__name__,
                "evalue": str(error),
                "traceback": [],
            }
        )
        raise error


class _Copied:
    """Standard output that is written on and kept."""

    def __init__(self, terminal: TextIO, outputs: list[dict[str, Any]]) -> None:
        self._terminal, self._outputs = terminal, outputs

    def write(self, text: str) -> int:
        last = self._outputs[-1] if self._outputs else {}
        if last.get("name") != "stdout":
            last = {"output_type": "stream", "name": "stdout", "text": ""}
            self._outputs.append(last)
        last["text"] += text
        return self._terminal.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)


def _output(kind: str, data: dict[str, Any], metadata: dict[str, Any] | None) -> dict[str, Any]:
    ready = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in data.items()
    }
    return {"output_type": kind, "data": ready, "metadata": metadata or {}}
