"""Build ``site/``: explorers, exported figures and notebooks as pages that need no network.

``python -m analysis.cli.site smollm2-135m gpt2`` is what ``make site`` calls. A model that cannot
be loaded is named on the index as missing, and the others are built.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.cli.explore import build_page, build_results
from analysis.errors import AnalysisError
from analysis.explorer.page import write_page
from analysis.explorer.site import Missing, export_site
from analysis.models.load import AUTO

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> int:
    """Build the site; returns the exit status."""
    if any(argument.startswith("-") for argument in arguments):
        print("usage: python -m analysis.cli.site [MODEL ...]")
        return 2
    site = ROOT / "site"
    pages, missing, every = [], [], []
    try:
        for name in [argument for argument in arguments if argument] or [AUTO]:
            try:
                every.append(build_results(name, measured=True))
                pages.append(build_page(every[-1], site))
            except AnalysisError as error:
                missing.append(Missing(name, str(error)))
                print(f"{name}: {error}", file=sys.stderr)
        if len(every) > 1:
            pages.append(write_page(every, site / "all_models_explorer.html"))
        index = export_site(
            site,
            explorers=pages,
            figures=ROOT / "figures",
            notebooks=ROOT / "notebooks",
            missing=missing,
        )
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(index)
    return 0 if pages else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
