"""The table of families as it is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.cli.families import main
from analysis.models.families import FAMILIES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [[], ["--markdown"]])
def test_every_family_is_printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for family in FAMILIES:
        assert family.architecture in printed
        assert family.special in printed


def test_markdown_has_a_row_to_a_family(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--markdown"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(FAMILIES) + 2
    assert {line.count(" | ") for line in lines} == {3}


def test_the_readme_shows_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--markdown"])
    assert capsys.readouterr().out in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_reader_that_has_read_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "analysis.cli.families"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
