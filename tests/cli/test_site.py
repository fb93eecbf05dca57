"""The commands build their pages, and say which model could not be built."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.cli import explore, site
from analysis.explorer.measuring import MEASUREMENTS
from tests.planted import NAMES, planted_model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """``planted`` is a small model of few names; any other is missing."""
    from analysis.errors import ModelError
    from analysis.names import load_names

    def load_model(name: str) -> TransformerBridge:
        if name != "planted":
            raise ModelError(f"{name} is not here: <b>download it</b>.")
        return planted_model("llama")

    monkeypatch.setattr("analysis.models.load_model", load_model)
    monkeypatch.setattr(
        "analysis.explorer.results.load_names", lambda model: load_names(model, list(NAMES))
    )
    # Sixteen names are too few for dynamic scores, nothing here does the task, and random heads
    # take their time.
    asked = {what: MEASUREMENTS[what] for what in ("vocabulary", "eigenvalue")}
    monkeypatch.setattr("analysis.explorer.measuring.MEASUREMENTS", asked)


@pytest.mark.slow
@pytest.mark.usefixtures("loads")
def test_explore_writes_the_page_and_opens_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    (tmp_path / "swapped.csv").write_text("source,target\nMary,John\n")
    relation = str(tmp_path / "swapped.csv")
    assert explore.main(["planted", "--folder", str(tmp_path), "--relation", relation]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert opened == [page.resolve().as_uri()] and page.parent == tmp_path
    assert "name-copying heads" in page.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("loads")
def test_the_site_is_built_of_the_models_at_hand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("figures", "notebooks"):
        (tmp_path / folder).mkdir()
    assert site.main(["planted", "absent", "planted"]) == 0
    said = capsys.readouterr()
    index = Path(said.out.strip()).read_text()
    assert "absent is not here" in said.err
    assert "absent: " in index and "<b>download" not in index
    assert (tmp_path / "site" / "all_models_explorer.html").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("loads")
def test_models_of_one_name_have_pages_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    built = explore.build_results
    k = iter((3, 4))  # tells the two apart

    def build_results(name: str, options: argparse.Namespace, **given: bool) -> Results:
        options.k = next(k)
        return built(name, options, **given)

    monkeypatch.setattr("analysis.cli.site.build_results", build_results)
    assert site.main(["planted", "planted"]) == 0
    index = Path(capsys.readouterr().out.strip())
    links = re.findall(r'href="([\w-]+)_explorer.html"', index.read_text())
    name, second, every = links
    assert (second, every) == (f"{name}_2", "all_models")
    for stem, shown in ((name, "k = 3"), (second, "k = 4")):
        assert shown in (index.parent / f"{stem}_explorer.html").read_text()


@pytest.mark.usefixtures("loads")
def test_a_missing_model_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert explore.main(["absent"]) == 1
    assert capsys.readouterr().err == "error: absent is not here: <b>download it</b>.\n"
    assert explore.main(["planted", "--relation", "nowhere.csv"]) == 1
    assert "nowhere.csv" in capsys.readouterr().err


def test_relations_of_one_name_are_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("analysis.models.load_model", lambda name: pytest.fail("loaded first"))
    twice = ["planted", "--relation", "a/pairs.csv", "--relation", "b/pairs.csv"]
    for command in (explore, site):
        assert command.main(twice) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: two relations are called 'pairs'")
        assert said.endswith("rename one.\n")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--k", "500"], "k must be a whole number from 1 to 100"),
        (["--prompt", " "], "the prompt is empty"),
        (["--relation", "lost.csv"], "there is no file of pairs 'lost.csv'; give a CSV file with "
         "the columns 'source' and 'target', or a list of pairs."),
        (["--relation", "names.csv"], "has the columns 'source' and 'target'."),
        (["--folder", "names.csv/sub"], "cannot write to the folder names.csv/sub"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("analysis.models.load_model", lambda name: pytest.fail("loaded first"))
    Path("names.csv").write_text("name\nMary\n")
    for command in (explore, site):
        assert command.main(["planted", *given]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["names.csv"]


def test_a_damaged_notebook_is_told_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("analysis.models.load_model", lambda name: pytest.fail("loaded first"))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00.ipynb").write_text("<<<<<<< HEAD")
    assert site.main(["planted"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: notebooks/00.ipynb cannot be read as a notebook")
    assert not (tmp_path / "site").exists()


def test_make_explore_measures_too() -> None:
    root = Path(__file__).parents[2]
    for given, expected in ((["MEASURE=1"], True), ([], False)):
        lines = subprocess.run(
            ["make", "-n", "-o", ".venv/.ready", "explore", "MODEL=gpt2", *given],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "analysis.cli.explore" in lines and (" --measure " in lines) == expected


@pytest.mark.parametrize("target", ["explore", "site"])
def test_make_hands_k_on(target: str) -> None:
    ran = subprocess.run(
        ["make", "-o", ".venv/.ready", target, f"PY={sys.executable}", "K=500"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert ran.returncode and "error: k must be a whole number from 1 to 100" in ran.stderr
