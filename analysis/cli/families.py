"""``python -m analysis.cli.families``: the families of models that the tests hold.

``--markdown`` prints the table as the README shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

import pandas as pd

from analysis.models.families import families_table

HEADINGS = ("Family", "Architecture", "What is special", "Notebooks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="families", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    chosen = parser.parse_args(arguments)
    table = families_table()
    try:
        print(markdown(table) if chosen.markdown else table.to_string(), flush=True)
    except BrokenPipeError:  # whoever reads, such as ``head``, has read enough
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.close()  # else it is flushed once more at the end
    return 0


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, a row to a family."""
    rows = [HEADINGS, ("---",) * len(HEADINGS)]
    for name, row in table.iterrows():
        runs = row["notebooks"] + (f" ({row['not_run']})" if row["not_run"] else "")
        rows.append((str(name), f"`{row['architecture']}`", row["special"], runs))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
