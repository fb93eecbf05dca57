"""Where figures are written: other answers, another name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from analysis.export import places
from analysis.export.places import figure_stem
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests.made_up import scores_from_counts

SCORES = scores_from_counts(
    *np.zeros((2, 12, 12), dtype=int),
    model=ModelIdentity(GPT2_SMALL, "GPT-2", revision="abc"),
    provenance={"dtype": "float32", "padding_rows_left_out": 27},
)


def stem(**made: object) -> str:
    return figure_stem(replace(SCORES, provenance=SCORES.provenance | made)).name


def test_counted_padding_and_another_dtype_have_names_of_their_own() -> None:
    usual = stem()
    assert usual == figure_stem(replace(SCORES, provenance={})).name
    assert usual == stem(padding_rows_left_out=0)
    rest = usual.removeprefix("gpt2_heatmaps")
    counted = stem(padding_rows_left_out=0, padding_rows_counted=27)
    assert counted == f"gpt2_heatmaps_with_padding{rest}"
    assert stem(dtype="bfloat16") == f"gpt2_heatmaps_bfloat16{rest}"


def test_only_in_a_checkout_are_figures_written_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NAME_HEADS_FIGURES", raising=False)
    installed = tmp_path / "analysis" / "export" / "places.py"
    installed.parent.mkdir(parents=True)
    shutil.copy(places.__file__, installed)
    assert run_path(str(installed))["FIGURES"] == Path("figures")
    (tmp_path / "pyproject.toml").touch()
    assert run_path(str(installed))["FIGURES"] == tmp_path / "figures"
