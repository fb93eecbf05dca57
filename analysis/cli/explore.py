"""Build a model's explorer as a page and open it in the browser.

``python -m analysis.cli.explore gpt2`` is what ``make explore MODEL=gpt2`` calls.
"""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from analysis.cli.run_notebook import BUILD
from analysis.errors import AnalysisError
from analysis.models.load import AUTO


def main(arguments: Sequence[str]) -> int:
    """Build and open; returns the exit status."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: python -m analysis.cli.explore [MODEL]")
        return 2
    try:
        page = build_page(arguments[0] if arguments and arguments[0] else AUTO)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(page)
    webbrowser.open(page.resolve().as_uri())
    return 0


def build_page(name: str, folder: Path = BUILD, *, measured: bool = False) -> Path:
    """Score a model's heads and write its explorer.

    Args:
        name: of the model, as ``load_model`` takes it.
        folder: where the page is written.
        measured: make every measurement too, which runs the model for minutes.

    Returns:
        The page.

    Raises:
        AnalysisError: the model cannot be loaded or scored, or the page cannot be written.
    """
    from analysis.explorer.evidence import measure_all
    from analysis.explorer.page import write_page
    from analysis.explorer.results import N_HEADS_WITH_TOKENS, collect, file_name
    from analysis.models import load_model

    model = load_model(name)
    results = collect(model, first_mlp=(True, False), n_heads_with_tokens=N_HEADS_WITH_TOKENS)
    if measured:
        results = results.with_evidence(measure_all(model, results.scores))
    return write_page(results, folder / f"{file_name(results.scores.model)}_explorer.html")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
