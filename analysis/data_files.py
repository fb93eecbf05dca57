"""The data files of ``data/``, wherever the package is installed."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path


def data_file(name: str) -> Path:
    """Path of a file of ``data/`` (``names.csv``), which a wheel carries as ``analysis/data/``."""
    with as_file(files("analysis")) as package:
        shipped = package / "data" / name
        return shipped if shipped.is_file() else package.parent / "data" / name  # a checkout
