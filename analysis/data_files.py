"""The data files of ``data/``, wherever the package is installed."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path


def data_file(name: str) -> Path:
    """Path of a file of ``data/``: beside the package in a checkout, inside it in a wheel."""
    with as_file(files("analysis")) as package:
        inside = package / "data" / name
        return inside if inside.is_file() else package.parent / "data" / name
