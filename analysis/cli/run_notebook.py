"""Run a notebook with other parameters, leaving the committed file as it is.

``python -m analysis.cli.run_notebook notebooks/03_heatmaps.ipynb MODEL=gpt2-medium K=5`` is what
``make figures MODEL=gpt2-medium K=5`` calls. The executed notebook is kept under ``build/``.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from analysis.errors import AnalysisError, ParameterError
from analysis.models import fetch_model
from analysis.models.load import AUTO

BUILD = Path("build")
"""In the folder from which the command is called."""


def main(arguments: Sequence[str]) -> int:
    """Run one notebook; returns the exit status."""
    if not arguments:
        print("usage: python -m analysis.cli.run_notebook NOTEBOOK [PARAMETER=VALUE ...]")
        return 2
    try:
        run(Path(arguments[0]), arguments[1:])
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def run(notebook: Path, assignments: Sequence[str]) -> Path:
    """Run a notebook by papermill, with its own parameters unless others are given.

    Args:
        notebook: the committed notebook; it is read, never written.
        assignments: ``NAME=VALUE`` in any letter case; values are read as YAML (numbers,
            true/false, text).

    Returns:
        The executed notebook, under ``build/``.

    Raises:
        ParameterError: there is no such notebook, or it has no such parameter.
        AnalysisError: whatever the notebook's cells raise of this package's errors.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    if notebook.suffix != ".ipynb" or not notebook.is_file():
        raise ParameterError(f"there is no notebook {str(notebook)!r}; give one of notebooks/.")
    known = {
        name: entry["default"] for name, entry in papermill.inspect_notebook(str(notebook)).items()
    }
    parameters = parse_assignments(assignments, list(known))
    # Fetched here, where a terminal shows the progress of a download.
    model = str(parameters.get("model_name", yaml.safe_load(known["model_name"])))
    found = fetch_model(model)
    if model == AUTO:
        parameters["model_name"] = found.name

    BUILD.mkdir(exist_ok=True)
    executed = (BUILD / notebook.name).resolve()  # papermill goes into the notebook's folder
    os.environ.setdefault("TQDM_DISABLE", "1")  # in the cells; papermill's own bar stays
    try:
        result = papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters=parameters,
            cwd=str(notebook.parent),
            kernel_name="python3",
            config=Config(KernelManager={"transport": "ipc"}),  # over TCP the kernel warns
        )
    except PapermillExecutionError as error:
        if error.ename in _names_of(AnalysisError):
            raise AnalysisError(error.evalue) from None
        raise
    for cell in result.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                print(output.text, end="")
    return executed


def parse_assignments(assignments: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Turn ``K=5`` into ``{"k": 5}``, for a notebook that has these parameters.

    ``MODEL`` is short for ``model_name``. The path of a model or of a file of names, meant from
    here while the notebook runs in its own folder, is made absolute.

    Raises:
        ParameterError: an assignment has no ``=``, names a parameter that is not known, or cannot
            be read.
    """
    parameters: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().lower()
        name = "model_name" if name == "model" else name
        if not equals or name not in known:
            choices = ["MODEL" if p == "model_name" else p.upper() for p in known]
            close = difflib.get_close_matches(name.upper(), choices, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ParameterError(
                f"{assignment!r} does not set a parameter of this notebook.{hint} Give NAME=VALUE "
                f"with one of {', '.join(choices)}."
            )
        parameters[name] = _value(name, text)
    return parameters


def _value(name: str, text: str) -> Any:
    """A parameter as the notebook takes it."""
    if name == "model_name":
        # A bare word is no path, lest a folder that happens to be called gpt2 stand for GPT-2.
        return _absolute(text) if os.sep in text or text.startswith((".", "~")) else text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ParameterError(
            f"{name.upper()}={text} cannot be read: give a number, text, true or false, or a list "
            "such as [1, 5]."
        ) from None
    return _absolute(value) if name == "names_file" and isinstance(value, str) else value


def _absolute(path: str) -> str:
    """A path that exists from here on, whatever the folder; any other text as it is."""
    here = Path(path).expanduser()
    return str(here.resolve()) if path and here.exists() else path


def _names_of(kind: type[Exception]) -> set[str]:
    """The names of an error and of all errors that are one."""
    return {kind.__name__}.union(*(_names_of(special) for special in kind.__subclasses__()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
