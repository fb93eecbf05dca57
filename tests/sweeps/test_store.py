"""Answers on disk: whole, in the folder of that name, and read from it alone."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import ExportError, ParameterError
from analysis.sweeps.run import sweep_frame
from analysis.sweeps.store import Store


def test_an_answer_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    index = pd.MultiIndex.from_tuples([(0, 0), (0, 1)], names=["layer", "head"])
    answer = pd.DataFrame({"copying_score": np.array([0.25, 1.0])}, index)
    about = {"model": "m", "title": "M", "checksum": "0", "question": "static", "n_layers": 1}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(ExportError, match="No space left on device"):
            store.keep("key", answer, about)
    assert not list(tmp_path.iterdir())
    store.keep("key", answer, about)
    assert sweep_frame(tmp_path)["copying_score"].tolist() == [0.25, 1.0]


def test_a_damaged_answer_is_said_when_it_is_kept(tmp_path: Path) -> None:
    Store(tmp_path).answer_file("key").write_bytes(b"PAR1")
    with pytest.raises(ParameterError, match=r"cannot be read .*remove the damaged file"):
        Store(tmp_path).renew("key")


def test_answers_from_before_a_failure_are_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    index = pd.MultiIndex.from_tuples([(0, 0)], names=["layer", "head"])
    about = {"model": "m", "title": "M", "checksum": "0", "question": "static", "n_layers": 1}
    store.keep("key", pd.DataFrame({"copying_score": [0.25]}, index), about)
    store.keep_failure("m", "eigenvalue", "there is no answer to this")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep_frame(tmp_path)
    store.keep_failure("m", "static", "the weights are others now, and hold NaN")
    with pytest.warns(UserWarning, match=r"these failed, .* is from before: m \(static\)\."):
        assert len(sweep_frame(tmp_path)) == 1


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    usual = os.umask(0o027)
    try:
        Store(tmp_path).keep_failure("m", "static", "why")
    finally:
        os.umask(usual)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.slow
def test_the_folder_of_answers_is_no_pattern(tmp_path: Path) -> None:
    index = pd.MultiIndex.from_tuples([(0, 0)], names=["layer", "head"])
    about = {"title": "M", "checksum": "0", "question": "static", "n_layers": 1}
    folders = ["z*", "z?", "z[1]", "z1", "[z"]
    for name in folders:
        answer = pd.DataFrame({"copying_score": [0.25]}, index)
        Store(tmp_path / name).keep("key", answer, about | {"model": name})
    for name in folders:
        assert sweep_frame(tmp_path / name)["model"].tolist() == [name]


def test_the_folders_names_are_no_columns(tmp_path: Path) -> None:
    folder = tmp_path / "model=gpt2" / "layer=3" / "copying_score=1"
    index = pd.MultiIndex.from_tuples([(0, 0)], names=["layer", "head"])
    about = {"model": "M", "title": "M", "checksum": "0", "question": "static", "n_layers": 1}
    Store(folder).keep("key", pd.DataFrame({"copying_score": [0.25]}, index), about)
    (row,) = sweep_frame(folder).to_dict("records")
    assert (row["model"], row["layer"], row["copying_score"]) == ("M", 0, 0.25)


def test_a_folder_without_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no answers"):
        sweep_frame(tmp_path)
