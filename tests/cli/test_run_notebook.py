"""`make figures MODEL=... K=...`: parameters checked, the notebook run beside the committed one."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from analysis.cli import run_notebook
from analysis.cli.run_notebook import main, parse_assignments
from analysis.errors import AnalysisError, ParameterError
from analysis.provenance import ModelIdentity

KNOWN = ["model_name", "k", "first_mlp", "names_file"]


def test_assignments_are_read_as_the_types_they_look_like() -> None:
    given = ["MODEL=gpt2-medium", "K=5", "First_MLP=false", "NAMES_FILE=a=b.csv"]
    assert parse_assignments(given, KNOWN) == {
        "model_name": "gpt2-medium",
        "k": 5,
        "first_mlp": False,
        "names_file": "a=b.csv",
    }


def test_a_model_is_always_text() -> None:
    assert parse_assignments(["MODEL=1.5"], KNOWN) == {"model_name": "1.5"}


def test_a_path_is_meant_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "names.csv").write_text("name\nMary\n")
    monkeypatch.chdir(tmp_path)
    assert parse_assignments(["MODEL=models/mine", "NAMES_FILE=names.csv"], KNOWN) == {
        "model_name": str(tmp_path / "models" / "mine"),
        "names_file": str(tmp_path / "names.csv"),
    }


@pytest.mark.parametrize("given", ["KK=5", "K", "=5", "TOPK=3"])
def test_what_sets_no_parameter_is_an_error_that_lists_them(given: str) -> None:
    with pytest.raises(ParameterError, match="MODEL, K, FIRST_MLP, NAMES_FILE"):
        parse_assignments([given], KNOWN)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook with parameters that needs no model."""
    monkeypatch.setattr(run_notebook, "BUILD", tmp_path / "build")
    monkeypatch.setattr(
        run_notebook, "fetch_model", lambda name: ModelIdentity(f"found {name}", "Found")
    )
    book = nbformat.v4.new_notebook()
    book.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    book.cells = [
        nbformat.v4.new_code_cell('model_name = "auto"\nk = 1', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from analysis.errors import NamesError\n"
            "if k == 0:\n    raise NamesError('no name is left')\n"
            "from analysis.models.hub_listing import HubError\n"
            "if k == 7:\n    raise HubError('no such model', 'check the name')\n"
            "if k < 0:\n    raise RuntimeError('a bug')\n"
            "print(model_name, k)"
        ),
    ]
    path = tmp_path / "01_small.ipynb"
    nbformat.write(book, path)
    return path


def test_it_runs_with_the_parameters_and_leaves_the_notebook_as_it_was(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = notebook.read_bytes()
    assert main([str(notebook), "K=5"]) == 0
    assert notebook.read_bytes() == before
    assert "found auto 5" in capsys.readouterr().out
    executed = nbformat.read(notebook.parent / "build" / notebook.name, as_version=4)
    assert executed.cells[-1].outputs[0].text == "found auto 5\n"


def test_an_error_of_the_package_is_one_line_and_a_status(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(notebook), "K=0"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: no name is left"
    assert main([str(notebook), "K=7"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: no such model: check the name."
    with pytest.raises(Exception, match="a bug") as caught:
        main([str(notebook), "K=-1"])
    assert not isinstance(caught.value, AnalysisError)


def test_a_wrong_parameter_is_said_before_anything_runs(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_notebook, "fetch_model", lambda _: pytest.fail("fetched first"))
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


def test_a_value_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ParameterError, match=r"K=\[ cannot be read"):
        parse_assignments(["K=["], KNOWN)


def test_only_what_looks_like_a_path_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gpt2", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_assignments(["MODEL=gpt2"], KNOWN) == {"model_name": "gpt2"}
    assert parse_assignments(["MODEL=./gpt2"], KNOWN) == {"model_name": str(tmp_path / "gpt2")}
    assert parse_assignments(["FIGURE_NAME=mine"], ["figure_name"]) == {"figure_name": "mine"}
