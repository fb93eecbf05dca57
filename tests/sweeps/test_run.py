"""Sweeps: every task once, whatever is killed, broken or stopped on the way."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from analysis import ExportError, ModelError, ParameterError, load_model, load_names, score_heads
from analysis.sweeps import questions as asking
from analysis.sweeps.questions import Question
from analysis.sweeps.run import _answer, _planned, _run, _written_out, sweep, sweep_frame
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


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    """The address of a Dask cluster whose one worker is a thread of this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint ``A`` of one layer with two heads, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return saved("A", planted.NAMES)


def saved(folder: str, words: Sequence[str], n_layer: int = 1) -> Path:
    """A checkpoint whose MLP writes so much that its activation tells in what layer 1 reads."""
    import torch

    tokenizer = checkpoints.make_tokenizer(words)
    model = checkpoints.gpt2_model(len(tokenizer), n_layer=n_layer, n_head=2)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.weight.mul_(1000)
    return checkpoints.save_checkpoint(model, tokenizer, Path(folder))


def answers(folder: Path) -> dict[str, float]:
    """Each answer's file and when it was written."""
    return {path.name: path.stat().st_mtime for path in folder.glob("*.parquet")}


def wait_for(folder: Path, n: int, process: subprocess.Popen[bytes]) -> None:
    """Until so many answers are there."""
    for _ in range(6000):
        if len(answers(folder)) >= n:
            return
        assert process.poll() is None, "it ended first"
        time.sleep(0.1)
    pytest.fail(f"no {n} answers")


@pytest.mark.slow
def test_a_worker_killed_a_model_broken_and_a_stop_in_the_middle(
    models: list[Path], here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In processes of their own until the stop; what is left is done in this process."""
    from analysis.cli.sweep import main

    folder = tmp_path / "sweep"
    asked = [*map(str, models), "--folder", str(folder)]
    command = [sys.executable, "-m", "analysis.cli.sweep", *asked, "--workers", "2"]
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
        wait_for(folder, 6, process)
        process.send_signal(signal.SIGINT)
        process.wait(600)  # a few seconds, where nothing else runs
        assert process.returncode == 130
    first = answers(folder)
    assert 6 <= len(first) < 29
    capsys.readouterr()
    assert main([*asked, "--cluster", here]) == 1
    said = capsys.readouterr().out
    assert said.count("failed:") == 1
    assert str(models[3]) in said
    last = answers(folder)
    assert len(last) == 29
    assert f", {len(first)} kept" in said, "a task was done twice"
    (failure,) = folder.glob("*.json")
    assert json.loads(failure.read_text())["model"] == str(models[3])
    assert not list(folder.glob(".writing-*"))
    table = sweep_frame(folder)
    assert table["model"].nunique() == 29
    assert len(table) == 29 * 12
    # What a worker's process answered is what the function answers in this one.
    (of_a_worker,) = pd.read_parquet(folder / min(first))["model"].unique()
    assert_answers(table[table["model"] == of_a_worker], of_a_worker)


def assert_answers(found: pd.DataFrame, folder: str, **parameters: Any) -> None:
    """That these are exactly the scores that the function gives of a model in a folder."""
    model = load_model(folder)
    expected = score_heads(model, load_names(model), **parameters).to_frame()
    found = found.set_index(["layer", "head"])[expected.columns]
    pd.testing.assert_frame_equal(found, expected, check_index_type=False, check_exact=True)


@pytest.mark.slow
def test_answers_are_those_of_the_functions_and_the_same_weights_are_asked_once(
    models: list[Path], here: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in models[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    questions: list[Question | str] = [Question("static", {"k": 2}), "eigenvalue"]
    assert pickle.loads(pickle.dumps(questions)) == questions  # as for a worker's process
    result = sweep([str(models[0]), str(copy)], questions, tmp_path / "sweep", cluster=here)
    assert sorted(result.tasks["status"]) == ["done", "done", "same weights", "same weights"]
    assert_answers(sweep_frame(result, "static k=2"), str(models[0]), k=2)
    again = sweep([str(models[0])], questions, result.folder)
    assert list(again.tasks["status"]) == ["kept", "kept"]


@pytest.mark.slow
def test_a_pattern_is_written_out_in_the_order_of_its_numbers(models: list[Path]) -> None:
    here = models[0].parent
    found = list(_written_out([str(here / "step-*")]))
    assert found == list(map(str, models))
    with pytest.raises(ParameterError, match="fits"):
        list(_written_out([str(here / "none-*")]))


def test_a_pattern_of_folders_may_have_an_at_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def listed(repo: str) -> list[str]:
        asked.append(repo)
        return ["step10", "step2", "main"]

    monkeypatch.setattr("analysis.sweeps.run.list_revisions", listed)
    for name in ("x@2", "x@10", "y@1"):
        (tmp_path / name).mkdir()
    folders = [str(tmp_path / "x@2"), str(tmp_path / "x@10")]
    assert list(_written_out([f"{tmp_path}/x@*"])) == folders
    with pytest.raises(ParameterError, match="no checkpoint fits"):
        list(_written_out([f"{tmp_path}/z@*"]))
    assert not asked
    assert list(_written_out(["org/m@step*"])) == ["org/m@step2", "org/m@step10"]
    monkeypatch.chdir(tmp_path)
    assert list(_written_out(["y@?"])) == ["y@1"]
    assert list(_written_out(["gpt2-xl@step1?"])) == ["gpt2-xl@step10"]
    assert asked == ["org/m", "openai-community/gpt2-xl"]


def test_a_slash_at_the_end_of_a_folder_is_no_part_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where without it the name would be a hub's."""
    monkeypatch.chdir(tmp_path)
    for name in ("step-9", "step-10", "gpt2"):
        Path(name).mkdir()
    assert list(_written_out(["step-*/"])) == ["step-9", "step-10"]
    assert list(_written_out(["./step-9//", "gpt2/", "/"])) == ["./step-9", "gpt2/", "/"]


def test_only_stars_and_question_marks_are_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs[1]/step-1", "runs1/step-1", "what?", "whatX"):
        Path(name).mkdir(parents=True)
    assert list(_written_out(["runs[1]/step-*"])) == ["runs[1]/step-1"]
    assert list(_written_out(["what?"])) == ["what?"]  # there is a folder of that very name
    with pytest.raises(ParameterError, match="no checkpoint fits"):
        list(_written_out(["runs[12]/step-*"]))


NAMES = tuple(planted.NAMES[:8])


def copying_of(frame: pd.DataFrame, model: str) -> list[float]:
    return list(frame[frame["model"] == model]["copying_score"])


def scores_now(folder: str, k: int = 60) -> list[float]:
    """What the model in a folder answers, asked without a sweep."""
    return list(score_heads(load_model(folder), list(NAMES), k=k).to_frame()["copying_score"])


@pytest.mark.slow
def test_the_tokenizer_is_part_of_the_model(made: Path, here: str) -> None:
    saved("B", tuple(reversed(planted.NAMES)))
    weights = [Path(folder, "model.safetensors").read_bytes() for folder in "AB"]
    assert weights[0] == weights[1]
    expected = {folder: scores_now(folder) for folder in "AB"}
    assert expected["A"] != expected["B"]
    result = sweep(["A", "B"], [Question("static", {"k": 60}, NAMES)], "sweep", cluster=here)
    assert list(result.tasks["status"]) == ["done", "done"]
    found = sweep_frame(result)
    assert {folder: copying_of(found, folder) for folder in "AB"} == expected


@pytest.mark.slow
def test_the_configuration_is_part_of_the_model(made: Path, here: str) -> None:
    saved("A", planted.NAMES, n_layer=2)
    question = Question("static", {"k": 60}, NAMES)
    first = sweep(["A"], [question], "sweep", cluster=here)
    config = json.loads((made / "config.json").read_text())
    config["_name_or_path"] = "elsewhere"
    (made / "config.json").write_text(json.dumps(config, indent=7))
    assert list(sweep(["A"], [question], "sweep", cluster=here).tasks["status"]) == ["kept"]
    config["activation_function"] = "relu"
    (made / "config.json").write_text(json.dumps(config))
    second = sweep(["A"], [question], "sweep", cluster=here)
    assert list(second.tasks["status"]) == ["done"]
    assert copying_of(sweep_frame(second), "A") == scores_now("A")
    assert copying_of(sweep_frame(first), "A") != copying_of(sweep_frame(second), "A")
    with pytest.warns(UserWarning, match="1 older answer in sweep left out"):
        in_folder = sweep_frame("sweep")
    assert copying_of(in_folder, "A") == scores_now("A")


@pytest.mark.slow
def test_questions_of_other_names_are_told_apart(made: Path, here: str) -> None:
    asked = [Question("static", {"k": 60}, names) for names in (NAMES[:4], NAMES[4:])]
    found = sweep_frame(sweep(["A"], asked, "sweep", cluster=here))
    assert not found.duplicated(["model", "question", "layer", "head"]).any()
    for question in asked:
        expected = score_heads(load_model("A"), list(question.names or ()), k=60).to_frame()
        (label,) = sweep_frame("sweep", question)["question"].unique()
        of_it = found[found["question"] == label]
        assert list(of_it["copying_score"]) == list(expected["copying_score"])


@pytest.mark.slow
def test_what_is_given_twice_is_asked_once(made: Path, here: str) -> None:
    said_otherwise = Question("eigenvalue", {"embedding": "embedding"})
    asked = [said_otherwise, "eigenvalue", "eigenvalue"]
    result = sweep(["A", "A"], asked, "sweep", cluster=here)
    assert result.tasks.to_dict("list") == {
        "model": ["A"],
        "question": ["eigenvalue"],
        "status": ["done"],
        "reason": [""],
    }
    assert result.summary == "1 answer of 1 model."
    assert len(sweep_frame(result, "eigenvalue")) == 2
    with pytest.raises(ParameterError, match=r"no answer to 'eigenvalues'.*eigenvalue"):
        sweep_frame(result, "eigenvalues")


@pytest.mark.slow
def test_two_sweeps_at_a_time_on_one_cluster_both_get_their_answers(made: Path, here: str) -> None:
    """Into two folders; the cluster begins when both have handed out the same task."""
    from distributed import Client, Event

    stores = [Store(Path(folder).resolve()) for folder in ("one", "two")]
    handed_out: set[Path] = set()

    def run(store: Store) -> dict[str, dict[str, str]]:
        tasks = list(_planned(["A"], [Question("eigenvalue")], store, [], {}))
        with Client(here, set_as_default=False) as client:
            return _run(client, tasks, store, [], lambda: handed_out.add(store.folder))

    with Client(here, set_as_default=False) as client, ThreadPoolExecutor(2) as pool:
        busy = client.submit(lambda: Event("both").wait(120))
        done = [pool.submit(run, store) for store in stores]
        while len(handed_out) < 2:
            time.sleep(0.01)
        Event("both", client).set()
        busy.result()
    for store, found in zip(stores, done, strict=True):
        (key,) = found.result()
        assert store.has(key)


@pytest.mark.slow
def test_an_answer_is_found_under_the_name_that_was_asked_for(made: Path, here: str) -> None:
    made.rename("B")
    sweep(["B"], ["eigenvalue"], "sweep", cluster=here)
    Path("B").rename("A")
    result = sweep(["A"], ["eigenvalue"], "sweep", cluster=here)
    assert list(result.tasks["status"]) == ["kept"]
    found = sweep_frame(result)
    assert set(found["model"]) == set(found["title"]) == {"A"}


@pytest.mark.slow
def test_answers_of_other_code_are_left_out(
    made: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(asking, "code_checksum", lambda: "an earlier version")
        patch.setattr(asking, "IMPORTED_CODE", "an earlier version")
        sweep(["A"], ["eigenvalue"], "sweep", cluster=here)
        assert len(sweep_frame("sweep")) == 2
    with pytest.raises(ParameterError, match="other versions of the code"):
        sweep_frame("sweep")
    result = sweep(["A"], ["eigenvalue"], "sweep", cluster=here)
    assert list(result.tasks["status"]) == ["done"]
    with pytest.warns(UserWarning, match="1 older answer in sweep left out"):
        assert len(sweep_frame("sweep")) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(sweep_frame(result)) == 2
    for file in Path("sweep").glob("*.parquet"):
        file.unlink()
    with pytest.raises(ParameterError, match="no answers"):
        sweep_frame(result)


@pytest.mark.slow
def test_answers_about_other_shipped_names_are_left_out(
    made: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ships(n: int, model: str) -> None:
        Path("names.csv").write_text("\n".join(["name,count", *(f"{x},9" for x in NAMES[:n])]))
        sweep([model], ["static", Question("static", names=NAMES)], "sweep", cluster=here)

    monkeypatch.setattr("analysis.names.NAMES_CSV", Path("names.csv"))
    ships(8, "A")
    saved("B", tuple(reversed(planted.NAMES)))
    ships(5, "B")
    with pytest.warns(UserWarning, match=r"1 older answer in sweep.*or of data/names\.csv"):
        found = sweep_frame("sweep")
    asked = found.groupby(["model", "question"])["n_names"].first()
    assert asked["B", "static"] == 5
    assert ("A", "static") not in asked
    assert (asked.drop(("B", "static")) == 8).all() and len(asked) == 3
    assert not {"code", "names_file"} & set(found)
    Path("names.csv").write_text("name,count\nMary,2\n")
    for file in Path("sweep").glob("*.parquet"):
        if pd.read_parquet(file)["question"].iloc[0] != "static":
            file.unlink()
    with pytest.raises(ParameterError, match=r"other versions of the code or of data/names\.csv"):
        sweep_frame("sweep")


@pytest.mark.slow
def test_a_failure_is_forgotten_once_there_is_an_answer(made: Path, here: str) -> None:
    made.rename("elsewhere")
    for question in ("eigenvalue", Question("static", names=("two words",))):
        sweep([str(made.resolve()), "elsewhere"], [question], "sweep", cluster=here)
    reasons = [json.loads(file.read_text()) for file in Path("sweep").glob("*.json")]
    assert len(reasons) == 3  # neither question for what is not there, and not those names
    Path("elsewhere").rename("A")
    assert str(made.resolve()) in {reason["model"] for reason in reasons}
    sweep([str(made.resolve())], ["eigenvalue"], "sweep", cluster=here)
    left = [json.loads(file.read_text())["question"] for file in Path("sweep").glob("*.json")]
    assert len(left) == 2
    assert all(question.startswith("static (1 name,") for question in left)


def test_a_folder_has_the_answers_of_the_last_sweep_whose_weights_were_there_before(
    made: Path,
) -> None:
    store, weights = Store(Path("sweep").resolve()), made / "model.safetensors"
    first = weights.read_bytes()
    statuses, checksums = [], []
    for content in (first, first[:-4] + b"\0\0\0\0", first):
        weights.write_bytes(content)
        rows: list[dict[str, str]] = []
        for task in _planned(["A"], [Question("eigenvalue")], store, rows, {}):
            _answer(str(store.folder), task)
        statuses += [row["status"] for row in rows]
        with warnings.catch_warnings(record=True):
            (checksum,) = sweep_frame(store.folder)["checksum"].unique()
        checksums.append(checksum)
    assert statuses == ["kept"]
    assert checksums[0] == checksums[2] != checksums[1]


def test_a_folder_never_gives_the_weights_of_one_model_for_those_of_another(made: Path) -> None:
    """``A`` was asked first with the weights that ``B`` alone has now."""
    store = Store(Path("sweep").resolve())
    shutil.copytree(made, "B")

    def ask() -> list[str]:
        rows: list[dict[str, str]] = []
        for task in _planned(["A", "B"], [Question("eigenvalue")], store, rows, {}):
            _answer(str(store.folder), task)
        return [row["status"] for row in rows]

    assert ask() == ["same weights"]
    weights = made / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert ask() == ["kept"]  # B, and A is done
    assert ask() == ["kept", "kept"]
    found = sweep_frame(store.folder)
    own = {name: load_model(name).identity for name in ("A", "B")}
    for name, rows in found.groupby("model"):
        assert set(rows["checksum"]) == {own[name].checksum}
        assert set(rows["title"]) == {own[name].title}
    assert len(found) == 2 * 2


@pytest.mark.parametrize("name", ["x@y", "~/x@y"])
def test_a_folder_with_an_at_in_its_name_has_no_revision(
    made: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = made.rename("x@y").absolute()
    monkeypatch.setenv("HOME", str(Path.cwd()))
    (task,) = _planned([name], [Question("eigenvalue")], Store(Path("sweep")), [], {})
    assert (task.model, task.revision) == (str(there), None)


def test_a_folder_is_found_by_a_worker_whose_working_folder_is_another(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(Path("sweep").resolve())
    (task,) = _planned(["A"], [Question("eigenvalue")], store, [], {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    _answer(str(store.folder), task)
    assert set(sweep_frame(store.folder)["model"]) == {"A"}


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("config.json", '"layer_norm_epsilon": 1e-05', '"layer_norm_epsilon": 5.0'),
        ("tokenizer.json", "\u0120Mary", "\u0120Marie"),
        ("model.safetensors", "", ""),
        ("names.csv", "Mary", "Marie"),
    ],
)
def test_what_changes_under_way_gives_no_answer(
    made: Path, file: str, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("names.csv").write_text("name,count\nMary,2\nJohn,1\n")
    monkeypatch.setattr("analysis.names.NAMES_CSV", Path("names.csv"))
    store = Store(Path("sweep").resolve())
    (task,) = _planned(["A"], [Question("static")], store, [], {})
    path = Path(file) if file == "names.csv" else made / file
    if file == "model.safetensors":
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    else:
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(ModelError, match="changed while the sweep ran"):
        _answer(str(store.folder), task)
    assert not store.folder.exists()


def test_code_that_this_process_does_not_run_gives_no_answer(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edited since it was imported here, or planned by a process that runs another version."""
    store = Store(Path("sweep").resolve())
    with monkeypatch.context() as patch:
        patch.setattr(asking, "code_checksum", lambda: "edited")
        (task,) = _planned(["A"], [Question("eigenvalue")], store, [], {})
    with pytest.raises(ModelError, match="code was changed while the sweep ran"):
        _answer(str(store.folder), task)
    assert not store.folder.exists()


def test_the_command_says_why_no_model_has_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.cli.sweep import main
    from analysis.sweeps.run import SweepResult

    rows = [
        {"model": "A", "question": "eigenvalue", "status": "kept", "reason": ""},
        {"model": "A", "question": "static", "status": "failed", "reason": "no names"},
    ]
    about = {"model": "A", "question": "eigenvalue", "title": "A", "checksum": "0", "n_layers": 1}
    index = pd.MultiIndex.from_tuples([(0, 0)], names=["layer", "head"])
    Store(tmp_path).keep("key", pd.DataFrame({"eigenvalue_score": [0.5]}, index), about)
    result = SweepResult(tmp_path, pd.DataFrame(rows), {"key": {"model": "A", "title": "A"}})
    monkeypatch.setattr("analysis.cli.sweep.sweep", lambda *_, **__: result)
    assert main(["A", "--questions", "static", "eigenvalue"]) == 1
    assert "failed: A, static: no names" in capsys.readouterr().out


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ParameterError, match="question must be one of"):
        Question("weather")
    with pytest.raises(ParameterError, match="no parameter kk"):
        Question("static", {"kk": 1})
    with pytest.raises(ParameterError, match="at least one"):
        sweep([])
    with pytest.raises(ParameterError, match="leave it out"):
        sweep(["gpt2"], cluster="tcp://127.0.0.1:1", n_workers=2)


def test_a_folder_that_cannot_be_written_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.sweeps.run._planned", lambda *_: pytest.fail("planned first"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        ExportError, match=r"file cannot be .* \(File exists\): give another folder"
    ):
        sweep(["gpt2"], folder=tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
