"""Build a model's explorer as a page and open it in the browser.

``python -m analysis.cli.explore gpt2 --relation capitals.csv`` is what
``make explore MODEL=gpt2 RELATIONS=capitals.csv`` calls.
"""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from analysis.cli.exit_status import exit_status
from analysis.cli.run_notebook import BUILD
from analysis.errors import ParameterError
from analysis.export.whole_files import as_export_error
from analysis.models.load import AUTO
from analysis.name_files import read_pairs
from analysis.validation import check_int, check_path, shown

if TYPE_CHECKING:
    from analysis.explorer.results import Results


def main(arguments: Sequence[str] | None = None) -> int:
    """Build and open; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.cli.explore", description=__doc__)
    parser.add_argument("model", nargs="?", default=AUTO, help="a name, hub id or folder")
    parser.add_argument("--measure", action="store_true", help="run the model too, for minutes")
    add_options(parser, folder=BUILD)
    options = parser.parse_args(arguments)
    return exit_status(lambda: _open(options))


def _open(options: argparse.Namespace) -> int:
    check_options(options)
    results = build_results(options.model or AUTO, options, measured=options.measure)
    page = build_page(results, options.folder)
    print(page)
    webbrowser.open(page.resolve().as_uri())
    return 0


def add_options(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Add what every command that builds pages takes; ``folder`` is where they go by default."""
    parser.add_argument("--folder", type=Path, default=folder, help="for the pages")
    parser.add_argument("--k", type=int, default=1, help="shown first, from 1 to 100")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="on which every head's attention is kept; may be given more than once",
    )
    parser.add_argument(
        "--relation",
        action="append",
        default=[],
        type=Path,
        metavar="CSV",
        help="a file with the columns source and target; may be given more than once",
    )


def check_options(options: argparse.Namespace) -> None:
    """Refuse, before a model is loaded, what could not be scored or written afterwards."""
    _check_folder(check_path("folder", options.folder))
    for path in named_files(options.relation).values():
        read_pairs(path)
    from analysis.explorer.on_prompt import check_prompt
    from analysis.explorer.payload import MAX_RANK

    check_int("k", options.k, 1, MAX_RANK, "the explorer's ranks")
    for prompt in options.prompt:
        check_prompt(prompt)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written; one that is not there yet is not made."""
    with as_export_error(f"to the folder {folder}", "choose another place with --folder."):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        TemporaryFile(dir=there).close()


def build_results(name: str, options: argparse.Namespace, *, measured: bool) -> Results:
    """Score a model's heads with both settings of the first MLP, for a page.

    ``measured`` makes every measurement too, which runs the model for minutes.
    """
    relations = named_files(options.relation)
    from analysis.explorer.measuring import measure_all
    from analysis.explorer.on_prompt import EXAMPLE
    from analysis.explorer.results import N_HEADS_WITH_TOKENS, collect
    from analysis.models import load_model

    model = load_model(name)
    results = collect(
        model,
        k=options.k,
        first_mlp=(True, False),
        relations=relations,
        n_heads_with_tokens=N_HEADS_WITH_TOKENS,
        prompts=options.prompt or [EXAMPLE],
    )
    return results.with_evidence(measure_all(model, results.scores)) if measured else results


def named_files(files: Sequence[Path]) -> dict[str, Path]:
    """Relations by the names of their files, no two of which may be the same."""
    named: dict[str, Path] = {}
    for path in files:
        if path.stem in named:
            raise ParameterError(
                f"two relations are called {shown(path.stem)} ({named[path.stem]} and {path}): "
                "rename one."
            )
        named[path.stem] = path
    return named


def build_page(results: Results, folder: Path, taken: set[str] | None = None) -> Path:
    """Write a model's explorer under the model's name; returns the page.

    ``taken`` are names of pages that stay, to which this one's is added.
    """
    from analysis.explorer.page import write_page
    from analysis.explorer.results import file_name
    from analysis.export.places import EXPLORER, free_name

    name = f"{file_name(results.scores.model)}{EXPLORER}.html"
    return write_page(results, folder / free_name(name, set() if taken is None else taken))


if __name__ == "__main__":
    sys.exit(main())
