"""Sweeps: every task once, whatever is killed, broken or stopped on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from analysis import ExportError, ParameterError, load_model, load_names, score_heads
from analysis.sweeps.questions import Question
from analysis.sweeps.run import sweep, sweep_frame
from analysis.sweeps.store import Store
from tests import checkpoints, planted

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Thirty small checkpoints, each with other weights; the fourth one's weights are cut off."""
    import torch

    folder = tmp_path_factory.mktemp("models")
    tokenizer = checkpoints.make_tokenizer(planted.NAMES)
    found = []
    for i in range(30):
        model = checkpoints.gpt2_model(len(tokenizer))
        with torch.no_grad():
            model.transformer.wte.weight.add_(0.01 * i)
        found.append(checkpoints.save_checkpoint(model, tokenizer, folder / f"step-{i}"))
    weights = found[3] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return found


def answers(folder: Path) -> dict[str, float]:
    """Each answer's file and when it was written."""
    return {path.name: path.stat().st_mtime for path in folder.glob("*.parquet")}


def wait_for(folder: Path, n: int, process: subprocess.Popen[bytes]) -> None:
    """Until so many answers are there."""
    for _ in range(1200):
        if len(answers(folder)) >= n:
            return
        assert process.poll() is None, "it ended first"
        time.sleep(0.1)
    pytest.fail(f"no {n} answers")


@pytest.mark.slow
def test_a_worker_killed_a_model_broken_and_a_stop_in_the_middle(
    models: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    command = [sys.executable, "-m", "analysis.cli.sweep", *map(str, models)]
    command += ["--folder", str(folder), "--workers", "2"]
    options = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}}
    # Where the tests run in the background, SIGINT is ignored, and a child would inherit that.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, **options, **heard) as process:  # type: ignore[call-overload]
        wait_for(folder, 3, process)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[0].kill()
        wait_for(folder, 10, process)
        process.send_signal(signal.SIGINT)
        process.wait(60)  # a few seconds, where nothing else runs
        assert process.returncode == 130
    first = answers(folder)
    assert 10 <= len(first) < 29
    ended = subprocess.run(command, **options, capture_output=True, text=True)  # type: ignore[call-overload]
    assert ended.returncode == 1
    assert ended.stdout.count("failed:") == 1
    assert str(models[3]) in ended.stdout
    last = answers(folder)
    assert len(last) == 29
    assert {name: last[name] for name in first} == first, "a task was done twice"
    (failure,) = folder.glob("*.json")
    assert json.loads(failure.read_text())["model"] == str(models[3])
    assert not list(folder.glob(".writing-*"))
    table = sweep_frame(folder)
    assert table["model"].nunique() == 29
    assert len(table) == 29 * 12


@pytest.mark.slow
def test_answers_are_those_of_the_functions_and_the_same_weights_are_asked_once(
    models: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in models[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    questions: list[Question | str] = [Question("static", {"k": 2}), "eigenvalue"]
    result = sweep([str(models[0]), str(copy)], questions, tmp_path / "sweep", n_workers=1)
    assert sorted(result.tasks["status"]) == ["done", "done", "same weights", "same weights"]
    found = sweep_frame(result, "static k=2").set_index(["layer", "head"])
    model = load_model(str(models[0]))
    expected = score_heads(model, load_names(model), k=2).to_frame()
    pd.testing.assert_frame_equal(
        found[expected.columns], expected, check_index_type=False, check_exact=True
    )
    again = sweep([str(models[0])], questions, result.folder)
    assert list(again.tasks["status"]) == ["kept", "kept"]


def test_a_pattern_is_written_out_in_the_order_of_its_numbers(models: list[Path]) -> None:
    from analysis.sweeps.run import _written_out

    found = list(_written_out([str(models[0].parent / "step-*")]))
    assert found == list(map(str, models))
    with pytest.raises(ParameterError, match="fits"):
        list(_written_out([str(models[0].parent / "none-*")]))


def test_what_decides_an_answer_decides_its_key() -> None:
    key = Question("static").key("a" * 64)
    assert key == Question("static", {"k": 1}).key("a" * 64)
    others = [
        Question("static", {"k": 2}).key("a" * 64),
        Question("static", names=("Mary",)).key("a" * 64),
        Question("static").key("b" * 64),
        Question("vocabulary").key("a" * 64),
    ]
    assert len({key, *others}) == 5


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ParameterError, match="question must be one of"):
        Question("weather")
    with pytest.raises(ParameterError, match="no parameter kk"):
        Question("static", {"kk": 1})
    with pytest.raises(ParameterError, match="at least one"):
        sweep([])
    with pytest.raises(ParameterError, match="leave it out"):
        sweep(["gpt2"], cluster="tcp://127.0.0.1:1", n_workers=2)


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


def test_a_folder_without_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no answers"):
        sweep_frame(tmp_path)
