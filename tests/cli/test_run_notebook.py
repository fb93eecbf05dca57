"""`make figures MODEL=... K=...`: parameters checked, the notebook run beside the committed one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from analysis.cli import run_cells, run_notebook
from analysis.cli.run_notebook import main, parse_assignments
from analysis.dynamic.null_heads import MIN_DRAWS
from analysis.errors import AnalysisError, ParameterError

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
KNOWN = {
    "model_name": "auto",
    "k": 1,
    "first_mlp": True,
    "names_file": None,
    "formats": ["html", "png"],
    "ks": [1, 5],
    "min_direct_effect": 0.05,
    "n_tokens": None,
    "figure_name": None,
    "prompt": "When",
    "seed": 0,
    "head": None,
    "null_draws": 20,
    "embedding": "mlp",
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("MODEL=1.5", {"model_name": "1.5"}),
        ("K=5", {"k": 5}),
        ("K=010", {"k": 10}),
        ("K=1_000", {"k": 1000}),
        ("First_MLP=false", {"first_mlp": False}),
        ("FIRST_MLP=True", {"first_mlp": True}),
        ("NAMES_FILE=None", {"names_file": None}),
        ("FIGURE_NAME=2024-01-01", {"figure_name": "2024-01-01"}),
        ("FIGURE_NAME=007", {"figure_name": "007"}),
        ("FIGURE_NAME=yes", {"figure_name": "yes"}),
        ("FORMATS=html,svg", {"formats": ["html", "svg"]}),
        ("FORMATS=['html', \"svg\"]", {"formats": ["html", "svg"]}),
        ("FORMATS=png", {"formats": ["png"]}),
        ("FORMATS=.PNG;svg", {"formats": ["png", "svg"]}),
        ("KS=[1, 010]", {"ks": [1, 10]}),
        ("MIN_DIRECT_EFFECT=1e-2", {"min_direct_effect": 0.01}),
        ("N_TOKENS=None", {"n_tokens": None}),
        ("N_TOKENS=500", {"n_tokens": 500}),
        ("HEAD=[9, 6]", {"head": [9, 6]}),
        ("HEAD=9,6", {"head": [9, 6]}),
        ("SEED=0", {"seed": 0}),
        ("PROMPT=yes: {no} 'q' $x #y", {"prompt": "yes: {no} 'q' $x #y"}),
    ],
)
def test_the_type_of_the_default_decides(given: str, expected: dict[str, object]) -> None:
    assert parse_assignments([given], KNOWN) == expected


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_parameter_of_every_notebook_takes_its_default(notebook: Path) -> None:
    _, defaults = run_notebook._parameters(run_notebook._read(notebook)["cells"])
    assert defaults
    for name, default in defaults.items():
        text = str(default)
        # A folder is meant from where the command runs.
        expected = os.path.abspath(default) if name == "folder" else default
        assert parse_assignments([f"{name}={text}"], defaults) == {name: expected}, name
        if isinstance(default, float):  # every fraction is a share
            assert parse_assignments([f"{name}=0.5"], defaults) == {name: 0.5}
            with pytest.raises(ParameterError, match="from 0 to 1"):
                parse_assignments([f"{name}=1.5"], defaults)
        if name == "null_draws":
            with pytest.raises(ParameterError, match=f"at least {MIN_DRAWS}"):
                parse_assignments([f"{name}={MIN_DRAWS - 1}"], defaults)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("K=abc", "K='abc' cannot be read: a whole number is needed, such as 1"),
        ("K=", "K='' cannot be read"),
        ("K=0", "K must be a number of at least 1, not 0"),
        ("K=-3", "K must be a number of at least 1"),
        ("K=1.0", "cannot be read"),
        ("K=1e3", "cannot be read"),
        ("K=0x10", "cannot be read"),
        ("K=١", "cannot be read"),
        ("K=" + "9" * 5000, "cannot be read"),
        ("K=None", "cannot be read"),
        ("K=true", "cannot be read"),
        ("KS=[1, 0]", "KS must be a number of at least 1, not 0"),
        ("KS=[1, [2]]", "cannot be read"),
        ("KS=[]", "cannot be read: a list is needed"),
        ("FIRST_MLP=1", "cannot be read: true or false is needed"),
        ("FIRST_MLP=", "cannot be read"),
        ("MIN_DIRECT_EFFECT=nan", "cannot be read"),
        ("MIN_DIRECT_EFFECT=inf", "cannot be read"),
        ("MIN_DIRECT_EFFECT=2", "MIN_DIRECT_EFFECT must be a number from 0 to 1"),
        ("N_TOKENS=many", "cannot be read"),
        ("N_TOKENS=0", "of at least 1"),
        ("SEED=-1", "SEED must be a number of at least 0"),
        ("NULL_DRAWS=19", "of at least 20"),
        ("HEAD=9", r"must be \[layer, head\]"),
        ("HEAD=a,b", "cannot be read"),
        ("EMBEDDING=mpl", "EMBEDDING must be one of"),
        ("FIGURE_NAME=a\0b", "holds NUL"),
        ("FIGURE_NAME=\ud800", "half a character"),
        ("FIGURE_NAME=fig.jpg", "jpg is not written"),
        ("FORMATS=xyz", "unknown format 'xyz'"),
        ("NAMES_FILE=missing.csv", "missing.csv"),
        ("MODEL=", "MODEL must be a hub id"),
    ],
)
def test_a_value_of_another_type_or_range_is_refused(given: str, said: str) -> None:
    with pytest.raises(AnalysisError, match=said):
        parse_assignments([given], KNOWN)


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(ParameterError, match="K is given twice"):
        parse_assignments(["K=1", "k=2"], KNOWN)


GIVEN_TO_MAKE = [
    "NAMES_FILE=#1 names.csv",
    "PROMPT=it costs $5 and $(shell false) ${HOME} $$",
    "FIGURE_NAME=a'b\"c`d`",
    "MODEL=C:\\models\\mine",
    "K=5",
    "RIGHT_NAME=two  spaces; and & more | here",
]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_what_is_given_to_make_arrives_as_it_was_given(tmp_path: Path) -> None:
    script = "from analysis.cli.run_notebook import make_assignments as m; import os, json; "
    script += "print(json.dumps(m(os.environ['MAKEFLAGS'])))"
    (tmp_path / "Makefile").write_text(f'all:\n\t@"{sys.executable}" -c "{script}"\n')
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    environment["PYTHONPATH"] = str(Path(run_notebook.__file__).parents[2])
    for flags in ([], ["-s", "-j2"]):
        done = subprocess.run(
            ["make", *flags, "-C", str(tmp_path), "PYTHON=python3.11", *GIVEN_TO_MAKE],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        line = next(line for line in done.stdout.splitlines() if line.startswith("["))
        assert sorted(json.loads(line)) == sorted(GIVEN_TO_MAKE)


def test_a_path_is_meant_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for names in ("names.csv", "a=b.csv", "#1 names.csv"):
        (tmp_path / names).write_text("name\nMary\n")
        assert parse_assignments(["MODEL=models/mine", f"NAMES_FILE={names}"], KNOWN) == {
            "model_name": str(tmp_path / "models" / "mine"),
            "names_file": str(tmp_path / names),
        }


def test_a_figure_is_written_where_and_as_its_name_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with a folder from here, not from the notebook's; one with an ending in its format."""
    monkeypatch.chdir(tmp_path)
    for given, expected in {
        "FIGURE_NAME=paper/fig1": {"figure_name": f"{tmp_path}/paper/fig1"},
        "FIGURE_NAME=paper/": {"figure_name": f"{tmp_path}/paper/"},
        "FIGURE_NAME=/elsewhere/fig": {"figure_name": "/elsewhere/fig"},
        "FIGURE_NAME=fig.pdf": {"figure_name": "fig.pdf", "formats": ["pdf"]},
    }.items():
        assert parse_assignments([given], KNOWN) == expected
    both = parse_assignments(["FIGURE_NAME=fig.pdf", "FORMATS=png"], KNOWN)
    assert both == {"figure_name": "fig.pdf", "formats": ["png"]}


@pytest.mark.parametrize("given", ["KK=5", "K", "=5", "TOPK=3"])
def test_what_sets_no_parameter_is_an_error_that_lists_them(given: str) -> None:
    with pytest.raises(ParameterError, match="MODEL, K, FIRST_MLP, NAMES_FILE, FORMATS"):
        parse_assignments([given], KNOWN)


KERNELS: list[dict[str, str] | None] = [
    {"name": "python3", "display_name": "Python 3", "language": "python"},
    {"name": "deleted-environment", "display_name": "Gone", "language": "python"},
    {"name": "ir", "display_name": "R", "language": "R"},
    None,
]
"""What a notebook says of its kernel: the usual, and what no longer holds."""


@pytest.fixture
def notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A notebook with parameters that needs no model."""
    monkeypatch.setattr(run_notebook, "BUILD", tmp_path / "build")
    book = nbformat.v4.new_notebook()
    kernel = getattr(request, "param", KERNELS[0])
    if kernel is not None:
        book.metadata["kernelspec"] = kernel
    book.cells = [
        nbformat.v4.new_code_cell('model_name = "auto"\nk = 1', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from analysis.errors import NamesError\n"
            "if k == 4:\n    raise NamesError('no name is left')\n"
            "from analysis.models.hub_errors import HubError\n"
            "if k == 7:\n    raise HubError('no such model', 'check the name')\n"
            "if k == 9:\n    raise RuntimeError('a bug')\n"
            "if k == 10:\n    raise SystemExit\n"
            "if k == 11:\n    raise SystemExit('enough')\n"
            "print(model_name, k)"
        ),
    ]
    path = tmp_path / "01_small.ipynb"
    nbformat.write(book, path)
    return path


@pytest.mark.parametrize("notebook", KERNELS, indirect=True)
def test_it_runs_with_the_parameters_and_leaves_the_notebook_as_it_was(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = notebook.read_bytes()
    assert main([str(notebook), "K=5"]) == 0
    assert notebook.read_bytes() == before
    assert "auto 5" in capsys.readouterr().out
    executed = nbformat.read(notebook.parent / "build" / notebook.name, as_version=4)
    assert executed.cells[-1].outputs[0].text == "auto 5\n"


def test_an_error_of_the_package_is_one_line_and_a_status(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(notebook), "K=4"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: no name is left"
    assert main([str(notebook), "K=7"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: no such model: check the name."
    with pytest.raises(Exception, match="a bug") as caught:
        main([str(notebook), "K=9"])
    assert not isinstance(caught.value, AnalysisError)


def test_a_folder_called_as_the_model_that_no_hub_has_is_named(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(notebook.parent)
    (notebook.parent / "mymodel").mkdir()
    for given, hint in (("mymodel", "; or did you mean ./mymodel?"), ("another", ".")):
        assert main([str(notebook), "K=7", f"MODEL={given}"]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == f"error: no such model: check the name{hint}"


def test_a_file_in_the_way_of_the_folder_is_said_first(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (notebook.parent / "build").write_text("in the way")
    assert main([str(notebook), "K=4"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: cannot write to the folder ") and said.count("\n") == 1
    assert (notebook.parent / "build").read_text() == "in the way"


def test_a_folder_in_the_way_of_the_executed_notebook_is_said_first(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cells, "run_cells", lambda *_: pytest.fail("ran first"))
    (notebook.parent / "build" / notebook.name).mkdir(parents=True)
    assert main([str(notebook), "K=5"]) == 1
    assert "there is a folder of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("k", "last"), [(5, "error: cannot write "), (4, "error: no name is left")]
)
def test_a_full_disk_leaves_the_notebook_executed_before_and_hides_no_error(
    k: int,
    last: str,
    notebook: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut_off(path: Path, content: bytes | str, **_: object) -> None:
        path.open("wb").close()
        raise OSError(28, "No space left on device")

    executed = notebook.parent / "build" / notebook.name
    assert main([str(notebook)]) == 0
    before = executed.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", cut_off)
    monkeypatch.setattr(Path, "write_text", cut_off)
    assert main([str(notebook), f"K={k}"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and said.splitlines()[-1].startswith(last)
    assert executed.read_bytes() == before


@pytest.mark.parametrize(("k", "end"), [(10, ""), (11, ": enough")])
def test_a_cell_that_ends_the_run_is_no_success(
    k: int, end: str, notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(notebook), f"K={k}"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: a cell ended the run before the last cell{end}"


def test_a_wrong_parameter_is_said_before_anything_runs(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cells, "run_cells", lambda *_: pytest.fail("ran first"))
    assert main([str(notebook), "MODLE=gpt2"]) == 1
    assert "Did you mean MODEL" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["nope.ipynb", ".", "README.md"])
def test_what_is_no_notebook_is_an_error(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert main([given]) == 1
    assert "there is no notebook" in capsys.readouterr().err


def test_a_wrong_value_is_said_before_anything_is_loaded(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cells, "run_cells", lambda *_: pytest.fail("ran first"))
    for given in ("K=0", "K=abc"):
        assert main([str(notebook), given]) == 1
        assert capsys.readouterr().err.startswith("error: K")


@pytest.mark.parametrize(
    "damaged", ["{", "[]", '{"nbformat": 4, "cells": [{}]}', '{"nbformat": 4}']
)
def test_a_notebook_that_is_damaged_is_said(
    damaged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.ipynb").write_text(damaged)
    assert main([str(tmp_path / "bad.ipynb")]) == 1
    assert "cannot be read as a notebook" in capsys.readouterr().err


def test_only_what_looks_like_a_path_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gpt2", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_assignments(["MODEL=gpt2"], KNOWN) == {"model_name": "gpt2"}
    assert parse_assignments(["MODEL=./gpt2"], KNOWN) == {"model_name": str(tmp_path / "gpt2")}
    assert parse_assignments(["FIGURE_NAME=mine"], {"figure_name": None}) == {"figure_name": "mine"}


def test_models_and_folders_of_a_sweep_are_meant_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"checkpoints": None, "models": ["smollm2-135m"], "folder": "../build/sweep"}
    for name in ("ckpt", "gpt2", "runs/step-1", "runs[1]/step-1"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    for given, expected in {
        "CHECKPOINTS=./ckpt": f"{here}/ckpt",
        "CHECKPOINTS=runs/step-*": f"{here}/runs/step-*",
        "CHECKPOINTS=runs[1]/step-*": f"{here}/runs[1]/step-*",
        "CHECKPOINTS=EleutherAI/pythia-160m@step*": "EleutherAI/pythia-160m@step*",
        "CHECKPOINTS=None": None,
        "MODELS=./ckpt, gpt2,org/model": [f"{here}/ckpt", "gpt2", "org/model"],
        "FOLDER=./out": f"{here}/out",
        "FOLDER=out": f"{here}/out",
        "FOLDER=/elsewhere": "/elsewhere",
    }.items():
        assert list(parse_assignments([given], known).values()) == [expected], given


def test_what_is_computed_is_no_parameter() -> None:
    source = "x = max(1, 2)\nk = 1\ny = (1, 2)\nz = k + 1\nname = 'a'"
    cell = {"metadata": {"tags": ["parameters"]}, "source": source}
    assert run_notebook._parameters([cell]) == (0, {"k": 1, "name": "a"})
    with pytest.raises(ParameterError, match="cell of parameters is no Python"):
        run_notebook._parameters([cell | {"source": "k = "}])
