"""A CSV file of names, read strictly: what a table's reader may guess, this one does not.

A row longer than the header would shift every column, a compressed file would be unpacked on a
guess, and "NA" would be no name. Here each of these is an error that names the line, or a name.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from analysis.errors import NamesError

COLUMN = "name"
PAIR_COLUMNS = ("source", "target")
MAX_BYTES = 100_000_000
MAX_CELL = 1_000
"""Characters of one cell; no name is longer, and a tokenizer takes 100 bytes of memory for each."""

_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def read_names(path: Path) -> list[str]:
    """The column ``name`` of a CSV file: UTF-8, commas, one header, every row as long as it.

    Lines without any cell are skipped.
    """
    return [name for (name,) in _read(path, (COLUMN,))]


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """The columns ``source`` and ``target`` of a CSV file, read as :func:`read_names` reads."""
    return [(source, target) for source, target in _read(path, PAIR_COLUMNS)]


def _read(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The cells of some columns, line by line."""
    text = _text(path, columns)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    found: list[tuple[str, ...]] = []
    try:
        for row in rows:
            if not row:
                continue
            if header is None:
                header = _checked_header(path, row, columns)
                continue
            if len(row) != len(header):
                raise NamesError(
                    f"{path}, line {rows.line_num}: {len(row)} cell{'s' * (len(row) > 1)} under a "
                    f"header of {len(header)} ({', '.join(header)[:80]}); put names that hold a "
                    "comma in double quotes, and give every row as many cells as the header."
                )
            if any(len(cell) > MAX_CELL for cell in row):
                raise NamesError(
                    f"{path}, line {rows.line_num}: a cell has more than {MAX_CELL:,} characters, "
                    "so it is no name; check for a missing line break or quote."
                )
            found.append(tuple(row[header.index(column)] for column in columns))
    except csv.Error as error:
        raise NamesError(
            f"{path}, line {rows.line_num}: this is no CSV ({error}); check its quotes and line "
            "breaks."
        ) from error
    if header is None:
        needed = " and ".join(map(repr, columns))
        raise NamesError(
            f"{path} is empty; its first line must hold the column{'s' * (len(columns) > 1)} "
            f"{needed}."
        )
    return found


def _checked_header(path: Path, row: list[str], columns: tuple[str, ...]) -> list[str]:
    header = [cell.strip() for cell in row]
    for column in columns:
        if header.count(column) > 1:
            raise NamesError(
                f"{path} has {header.count(column)} columns {column!r}; keep one of them."
            )
    lacking = [column for column in columns if column not in header]
    if not lacking and not all(header):
        raise NamesError(
            f"{path}, line 1: a column of the header has no title; remove the commas that are too "
            "many, or name the column."
        )
    if lacking:
        column, shown = lacking[0], ", ".join(header)[:80]
        separated = next((s for s in (";", "\t", "|") if column in shown.split(s)), None)
        hint = (
            f"separate the columns with commas, not {separated!r}"
            if separated
            else "it holds pairs, which load_pairs reads"
            if set(PAIR_COLUMNS) <= set(header)
            else "rename the column that holds the names"
            if columns == (COLUMN,)
            else f"a file of pairs has the columns {' and '.join(map(repr, columns))}"
        )
        raise NamesError(f"{path} has no column {column!r}, only {shown}; {hint}.")
    return header


def _text(path: Path, columns: tuple[str, ...]) -> str:
    """The file's text, if it is a file, of a size and encoding that a list of names has."""
    try:
        if not path.is_file():
            kind, titles = ("names", "a column 'name'")
            if columns == PAIR_COLUMNS:
                kind, titles = ("pairs", "the columns 'source' and 'target'")
            raise NamesError(
                f"there is no file of {kind} {str(path)!r}; give a CSV file with {titles}, or a "
                f"list of {kind}."
            )
        if (size := path.stat().st_size) > MAX_BYTES:
            raise NamesError(
                f"{path} has {size / 1e6:,.0f} MB, and a list of names at most "
                f"{MAX_BYTES / 1e6:,.0f}; give a smaller file."
            )
        content = path.read_bytes()
    except OSError as error:
        raise NamesError(
            f"{str(path)!r:.200} cannot be read ({error.strerror}); check the path and its "
            "permissions."
        ) from error
    if content.startswith(_COMPRESSED):
        raise NamesError(f"{path} is compressed; unpack it first.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NamesError(
            f"{path}, line {line}: this is not UTF-8 text; save the file as UTF-8."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise NamesError(f"{path}, line {line}: this is no text, it holds NUL; give a CSV file.")
    return text
