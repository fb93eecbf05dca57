"""Compare the figures that the notebooks have just drawn with the committed ones.

``python -m tests.committed_figures DRAWN`` is run by ``make test`` after the notebooks, whose
comparison sees what cells show and not the files that they write. It ends with 1 where a file of
``figures/`` is not what its notebook draws, byte for byte, or is drawn by none.
"""

from __future__ import annotations

import sys
from pathlib import Path

COMMITTED = Path(__file__).parents[1] / "figures"
NOT_OF_NOTEBOOKS = "scorer_growth."
"""Drawn by ``make bench``: times, which no other run repeats."""


def differences(drawn: Path, committed: Path = COMMITTED) -> list[str]:
    """A sentence for each file that is not the same in both folders."""
    names = {
        file.name
        for folder in (drawn, committed)
        for file in folder.iterdir()
        if not file.name.startswith((".", NOT_OF_NOTEBOOKS))
    }
    found = []
    for name in sorted(names):
        if not (drawn / name).is_file():
            found.append(f"{name} is in figures/, and no notebook draws it")
        elif not (committed / name).is_file():
            found.append(f"{name} is drawn by a notebook, and is not in figures/")
        elif (drawn / name).read_bytes() != (committed / name).read_bytes():
            found.append(f"{name} is not what its notebook draws")
    return found


def main(drawn: Path) -> int:
    """Print what differs; 0 where nothing does."""
    found = differences(drawn)
    for sentence in found:
        print(sentence)
    if found:
        print("Run `make notebooks`, look at the figures, and commit them.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
