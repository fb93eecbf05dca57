"""Build a model's explorer as a page and open it in the browser.

``python -m analysis.cli.explore gpt2`` is what ``make explore MODEL=gpt2`` calls.
"""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cli.run_notebook import BUILD
from analysis.errors import AnalysisError
from analysis.models.load import AUTO

if TYPE_CHECKING:
    from analysis.explorer.results import Results


def main(arguments: Sequence[str]) -> int:
    """Build and open; returns the exit status."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: python -m analysis.cli.explore [MODEL]")
        return 2
    try:
        name = arguments[0] if arguments and arguments[0] else AUTO
        page = build_page(build_results(name), BUILD)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(page)
    webbrowser.open(page.resolve().as_uri())
    return 0


def build_results(name: str, *, measured: bool = False) -> Results:
    """Score a model's heads with both settings of the first MLP, for a page.

    Args:
        name: of the model, as ``load_model`` takes it.
        measured: make every measurement too, which runs the model for minutes.

    Raises:
        AnalysisError: the model cannot be loaded or scored.
    """
    from analysis.explorer.evidence import measure_all
    from analysis.explorer.results import N_HEADS_WITH_TOKENS, collect
    from analysis.models import load_model

    model = load_model(name)
    results = collect(model, first_mlp=(True, False), n_heads_with_tokens=N_HEADS_WITH_TOKENS)
    return results.with_evidence(measure_all(model, results.scores)) if measured else results


def build_page(results: Results, folder: Path) -> Path:
    """Write a model's explorer under the model's name; returns the page.

    Raises:
        ExportError: the page cannot be written.
    """
    from analysis.explorer.page import write_page
    from analysis.explorer.results import file_name

    return write_page(results, folder / f"{file_name(results.scores.model)}_explorer.html")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
