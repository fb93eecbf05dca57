"""CSV files of names: what is read, and what is refused with the line that is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from analysis.errors import NamesError
from analysis.name_files import read_names


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("name\nMary\nJohn\n", ["Mary", "John"]),
        ("name,sex\r\nMary,F\r\n\r\nJohn,M", ["Mary", "John"]),
        ("\ufeffname\nMary\n", ["Mary"]),
        ('sex,name\nF,"O, Neil"\n', ["O, Neil"]),
        ("name\nNA\nnull\nTrue\n007\n1e5\n", ["NA", "null", "True", "007", "1e5"]),
        (" name ,n\nMary,1\n", ["Mary"]),
    ],
)
def test_what_is_right_is_read_as_text(tmp_path: Path, content: str, names: list[str]) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(content.encode())
    assert read_names(path) == names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name,sex\nMary,F,7065\nJohn,M,1\n", "line 2: 3 cells under a header of 2"),
        (b"name,sex\nMary,F\nJohn\n", "line 3: 1 cell under a header of 2"),
        (b"name\nMary,\n", "line 2: 2 cells under a header of 1"),
        (b"name,\nMary,\n", "line 1: a column of the header has no title"),
        (b"name,sex\nMary,F,\n", "line 2: 3 cells under a header of 2"),
        (b"name,sex,\nMary,F\n", "line 1: a column of the header has no title"),
        (b"name,name\nMary,Anna\n", "has 2 columns 'name'"),
        (b"name;sex\nMary;F\n", "separate the columns with commas, not ';'"),
        (b"Name\nMary\n", "has no column 'name', only Name; rename"),
        (b'name\n"Mary\nJohn\n', "this is no CSV"),
        (b'name\n"Mary"x\n', "line 2: this is no CSV"),
        (b"name\nMary\nZo\xeb\n", "line 3: this is not UTF-8"),
        (b"name\nMary\nJo\0hn\n", "line 3: this is no text"),
        ("name\nMary\n".encode("utf-16"), "line 1: this is not UTF-8"),
        (gzip.compress(b"name\nMary\n", mtime=0), "is compressed; unpack it"),
        (b"PK\x03\x04broken", "is compressed"),
        (b"\x28\xb5\x2f\xfd", "is compressed"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"name\n" + b"x" * 2000, "line 2: a cell has more than 1,000"),
        (b"name\n" + b"x" * 200_000, "line 2: this is no CSV .field larger"),
    ],
)
def test_what_is_wrong_is_refused_and_the_line_is_named(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(content)
    with pytest.raises(NamesError, match=said):
        read_names(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(NamesError, match="there is no file of names"):
            read_names(path)


def test_a_file_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.csv").write_text("name\nMary\n")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for reader in ("open", "read_bytes", "read_text"):
        monkeypatch.setattr(Path, reader, refused)
    with pytest.raises(NamesError, match="Permission denied"):
        read_names(tmp_path / "names.csv")


def test_a_file_too_large_for_names_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.name_files.MAX_BYTES", 5)
    (tmp_path / "names.csv").write_text("name\nMary\n")
    with pytest.raises(NamesError, match="and a list of names at most"):
        read_names(tmp_path / "names.csv")
