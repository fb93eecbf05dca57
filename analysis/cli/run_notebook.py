"""Run a notebook with other parameters, leaving the committed file as it is.

``python -m analysis.cli.run_notebook notebooks/03_heatmaps.ipynb MODEL=gpt2-medium K=5`` is what
``make figures MODEL=gpt2-medium K=5`` calls. With ``--make`` the parameters are read from the
variable MAKEFLAGS, in which make hands its command line down without a shell in between: ``$``,
quotes, ``#`` and spaces stay what they are. The executed notebook is kept under ``build/``.

The type of a parameter's default in the notebook decides how a value is read, and its range is
checked, before anything is loaded. Cells run in this process (``run_cells``).
"""

from __future__ import annotations

import ast
import difflib
import gc
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from analysis.cli.exit_status import exit_status
from analysis.errors import AnalysisError, ExportError, ParameterError
from analysis.export.whole_files import as_export_error, write_whole
from analysis.name_files import read_names
from analysis.validation import check_choice, check_text, fitting_folders, shown

BUILD = Path("build")
"""In the folder from which the command is called."""
LEAST = {"seed": 0, "head": 0, "null_draws": 20}
"""The smallest value of a whole number; 1 of any other."""


def main(arguments: Sequence[str]) -> int:
    """Run one notebook; returns the exit status."""
    given = [argument for argument in arguments if argument != "--make"]
    if not given:
        print("usage: python -m analysis.cli.run_notebook NOTEBOOK [--make] [PARAMETER=VALUE ...]")
        return 2
    flags = os.environ.get("MAKEFLAGS", "") if len(given) < len(arguments) else ""
    try:
        return exit_status(lambda: _run(Path(given[0]), [*given[1:], *make_assignments(flags)]))
    except SystemExit as end:
        said = f": {end.code}" if end.code is not None else ""
        print(f"error: a cell ended the run before the last cell{said}", file=sys.stderr)
        return 1


def _run(notebook: Path, assignments: Sequence[str]) -> int:
    run(notebook, assignments)
    return 0


def make_assignments(flags: str) -> list[str]:
    """The variables of make's command line, as the shell gave them to make.

    In MAKEFLAGS they follow a `` -- ``, separated by spaces, with a backslash before spaces and
    backslashes and each ``$`` twice. Those that make itself uses (PYTHON) are left out.
    """
    _, dashes, text = f" {flags}".partition(" -- ")
    words = re.findall(r"(?:\\.|[^\s\\])+", text) if dashes else []
    plain = [re.sub(r"\\(.)", r"\1", word).replace("$$", "$") for word in words]
    return [word for word in plain if not re.match(r"(PYTHON|VENV|PY)\s*:?=", word)]


def run(notebook: Path, assignments: Sequence[str]) -> Path:
    """Run a notebook with its own parameters unless others are given; returns it as executed.

    The committed notebook is read, never written. Assignments are ``NAME=VALUE`` in any letter
    case, each read as the notebook's default is.
    """
    book = _read(notebook)
    place, defaults = _parameters(book["cells"])
    parameters = parse_assignments(assignments, defaults)
    kept = f"to the folder {BUILD}, where the executed notebook is kept"
    with as_export_error(kept, "make room, or call from another folder."):
        BUILD.mkdir(exist_ok=True)
        TemporaryFile(dir=BUILD).close()
    executed = (BUILD / notebook.name).resolve()
    if executed.is_dir():
        raise ExportError(
            f"cannot write {executed}, where the executed notebook is kept: there is a folder of "
            "that name; rename it."
        )
    _say(f"{notebook.stem}: loading libraries")
    from analysis.cli.run_cells import run_cells

    if parameters:
        book["cells"].insert(place + 1, _injected(parameters))

    def announce(cell: dict[str, Any]) -> None:
        heading = re.match(r"#+ +(?:\d+\. )?(.+)", "".join(cell["source"]))
        if cell["cell_type"] == "markdown" and heading:
            _say(f"{notebook.stem}: {heading[1]}")

    try:
        run_cells(book["cells"], notebook.parent, announce)
    except BaseException as error:
        try:
            _keep(book, executed)
        except ExportError as second:  # to what a cell raised
            _say(f"error: {second}")
        if isinstance(error, AnalysisError):
            _hint_at_folder(error, parameters.get("model_name", ""))
        raise
    return _keep(book, executed)


def _hint_at_folder(error: AnalysisError, model: str) -> None:
    """Let a hub's error over a bare word name the folder that it may have been meant for."""
    from analysis.models.hub_errors import HubError

    if isinstance(error, HubError) and os.sep not in model and os.path.isdir(model):
        error.advice += f"; or did you mean ./{model}?"


def _keep(book: Mapping[str, Any], path: Path) -> Path:
    return write_whole(path, json.dumps(book, indent=1, ensure_ascii=False).encode())


def _say(line: str) -> None:
    """One line of progress, seen at once."""
    print(line, file=sys.stderr, flush=True)


def _read(notebook: Path) -> dict[str, Any]:
    """A notebook file as its JSON."""
    if notebook.suffix != ".ipynb" or not notebook.is_file():
        raise ParameterError(f"there is no notebook {str(notebook)!r}; give one of notebooks/.")
    try:
        book = json.loads(notebook.read_text(encoding="utf-8"))
        whole = book["nbformat"] == 4 and all(
            {"cell_type", "metadata", "source"} <= cell.keys() for cell in book["cells"]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ParameterError(f"{notebook} cannot be read as a notebook; restore the committed one.")
    return dict(book)


def _parameters(cells: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """Where the cell of parameters stands, and its defaults; -1 and nothing if there is none.

    What is computed, or of a type that no command line gives, is no parameter.
    """
    for place, cell in enumerate(cells):
        if "parameters" in cell["metadata"].get("tags", ()):
            try:
                lines = ast.parse("".join(cell["source"])).body
            except (SyntaxError, ValueError):
                raise ParameterError(
                    "the notebook's cell of parameters is no Python; restore the committed one."
                ) from None
            return place, {
                target.id: default
                for line in lines
                if isinstance(line, ast.Assign)
                for default in _literal(line.value)
                for target in line.targets
                if isinstance(target, ast.Name)
            }
    return -1, {}


def _literal(value: ast.expr) -> list[Any]:
    """What an expression says, if it is a default that can be given another value; else nothing."""
    try:
        default = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return []
    return [default] if default is None or type(default) in {str, *_READERS} else []


def _injected(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A cell that sets parameters."""
    return {
        "cell_type": "code",
        "id": "injected-parameters",
        "metadata": {"tags": ["injected-parameters"]},
        "source": "\n".join(f"{name} = {value!r}" for name, value in parameters.items()),
        "outputs": [],
        "execution_count": None,
    }


def parse_assignments(assignments: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``K=5`` into ``{"k": 5}``, for a notebook whose parameters have these defaults.

    ``MODEL`` is short for ``model_name``. The path of a model, of a file of names, of a figure or
    of a folder, meant from here while the notebook runs in its own folder, is made absolute. A
    figure's name with the ending of a format asks for that format alone, unless others are given.
    """
    parameters: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().lower()
        name = "model_name" if name == "model" else name
        if not equals or name not in defaults:
            choices = ["MODEL" if p == "model_name" else p.upper() for p in defaults]
            close = difflib.get_close_matches(name.upper(), choices, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ParameterError(
                f"{shown(assignment)} does not set a parameter of this notebook.{hint} Give "
                f"NAME=VALUE with one of {', '.join(choices)}."
            )
        if name in parameters:
            raise ParameterError(f"{name.upper()} is given twice; give it once.")
        parameters[name] = _value(name, text, defaults[name])
    if (figure := parameters.get("figure_name")) and "formats" in defaults:
        _, ending = _checked_stem(figure)
        return ({"formats": [ending]} if ending else {}) | parameters
    return parameters


def _value(name: str, text: str, default: Any) -> Any:
    """A parameter as the notebook takes it: of its default's type, in its range."""
    check_text(name.upper(), text)
    if name == "model_name":
        if not text.strip():
            raise ParameterError("MODEL must be a hub id such as gpt2, or a folder, not empty.")
        return _model(text)
    if name == "folder" and text.strip():  # it may be made only there
        return os.path.abspath(os.path.expanduser(text))
    if default is None:
        return _optional(name, text)
    if isinstance(default, str):
        if name == "embedding":
            from analysis.embeddings import EMBEDDINGS

            check_choice("EMBEDDING", text, EMBEDDINGS)
        return text
    read = _READERS[type(default)]
    try:
        value = read(text.strip(), default)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise ParameterError(
            f"{name.upper()}={shown(text)} cannot be read: {_EXPECTED[type(default)]} is needed, "
            f"such as {default!r}."
        ) from None
    _check_range(name, value)
    if name == "formats":
        from analysis.export.places import checked_formats

        return checked_formats(" ".join(value))
    return [_model(item) for item in value] if name == "models" else value


def _optional(name: str, text: str) -> Any:
    """A parameter that is None by default: a count, a head or text; None where that is said."""
    if text.strip() in ("", "None", "none", "null"):
        return None
    if name.startswith("n_"):
        return _value(name, text, 1)
    if name == "head":
        head = _value(name, text, [0, 0])
        if len(head) != 2:
            raise ParameterError(f"HEAD={text} must be [layer, head], such as [9, 6].")
        return head
    if name == "checkpoints":
        return _model(text)
    if name == "figure_name":
        stem, _ = _checked_stem(text)
        in_figures = stem.parent == Path()
        return text if in_figures else os.path.join(os.getcwd(), os.path.expanduser(text))
    if name == "names_file":
        read_names(Path(path := _absolute(text)))
        return path
    return text


def _checked_stem(text: str) -> tuple[Path, str | None]:
    from analysis.export.places import checked_stem  # which loads pandas and plotly

    return checked_stem(text)


def _read_int(text: str, default: int) -> int:
    if not re.fullmatch(r"[+-]?\d+(_\d+)*", text, re.ASCII):
        raise ValueError
    return int(text)


def _read_float(text: str, default: float) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError
    return value


def _read_flag(text: str, default: bool) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _read_list(text: str, default: list[Any]) -> list[Any]:
    """``[1, 5]``, ``1,5`` or ``html, svg``: items of the type of the default's first."""
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    items = [item.strip().strip("'\"") for item in inside.split(",") if item.strip()]
    if not items or any(set(item) & set("[]{}") for item in items):
        raise ValueError
    of = default[0] if default else ""
    return [item if isinstance(of, str) else _READERS[type(of)](item, of) for item in items]


_READERS: dict[type, Any] = {
    bool: _read_flag,
    int: _read_int,
    float: _read_float,
    list: _read_list,
}
_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


def _check_range(name: str, value: Any) -> None:
    """Refuse a number outside its range: counts are at least 1, seeds 0; a fraction is a share."""
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, (str, bool)):
            continue
        least, most = (0, 1) if isinstance(number, float) else (LEAST.get(name, 1), math.inf)
        if not least <= number <= most:
            limit = "from 0 to 1" if most == 1 else f"of at least {least}"
            raise ParameterError(f"{name.upper()} must be a number {limit}, not {number}.")


def _model(text: str) -> str:
    """A model's name, or the path or pattern of folders that are here.

    A bare word is no path, lest a folder that happens to be called gpt2 stand for GPT-2.
    """
    if os.sep not in text and not text.startswith((".", "~")):
        return text
    if set(text) & set("*?") and fitting_folders(text):
        return os.path.abspath(os.path.expanduser(text))
    return _absolute(text)


def _absolute(path: str) -> str:
    """A path that exists from here on, whatever the folder; any other text as it is."""
    try:
        here = Path(path).expanduser()
        return str(here.resolve()) if path and here.exists() else path
    except (OSError, RuntimeError):  # longer than a path can be, or of no known user
        return path


if __name__ == "__main__":
    gc.set_threshold(10_000)  # libraries make a million objects, all of which stay
    sys.exit(main(sys.argv[1:]))
