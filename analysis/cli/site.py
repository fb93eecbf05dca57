"""Build ``site/``: explorers, exported figures and notebooks as pages that need no network.

``python -m analysis.cli.site smollm2-135m gpt2`` is what ``make site`` calls. The pages are written
to ``site/`` of the current folder, and the figures and notebooks are those of its ``figures/`` and
``notebooks/``, where there are such folders. A model that cannot be loaded is named on the index as
missing, and the others are built.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.cli.exit_status import exit_status
from analysis.cli.explore import add_options, build_page, build_results, check_options
from analysis.errors import AnalysisError
from analysis.explorer.notebook_page import read_notebook
from analysis.explorer.page import write_page
from analysis.explorer.site import Missing, export_site
from analysis.models.load import AUTO

ALL_MODELS = "all_models_explorer.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.cli.site", description=__doc__)
    parser.add_argument("models", nargs="*", default=[AUTO], help="names, hub ids or folders")
    add_options(parser, folder=Path("site"))
    options = parser.parse_args(arguments)
    return exit_status(lambda: _build(options))


def _build(options: argparse.Namespace) -> int:
    check_options(options)
    figures, notebooks = (
        path if path.is_dir() else None for path in (Path("figures"), Path("notebooks"))
    )
    for path in notebooks.glob("*.ipynb") if notebooks else ():
        read_notebook(path)  # one that is damaged is told before any model is measured
    pages, missing, every = [], [], []
    taken = {ALL_MODELS}
    for name in options.models:
        try:
            every.append(build_results(name, options, measured=True))
            pages.append(build_page(every[-1], options.folder, taken))
        except AnalysisError as error:
            missing.append(Missing(name, str(error)))
            print(f"{name}: {error}", file=sys.stderr)
    if len(every) > 1:
        pages.append(write_page(every, options.folder / ALL_MODELS))
    index = export_site(
        options.folder, explorers=pages, figures=figures, notebooks=notebooks, missing=missing
    )
    print(index)
    return 0 if pages else 1


if __name__ == "__main__":
    sys.exit(main())
