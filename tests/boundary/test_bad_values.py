"""Bad values at every public function and file reader: only the package's own errors, and soon.

``make test`` throws some thousand. ``NAME_HEADS_TRIES=10000`` throws that many drawn ones.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import os
import time
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

import analysis
from analysis.ablation.curve import AblationCurve
from analysis.errors import AnalysisError
from analysis.explorer.results import collect
from analysis.explorer.widget import Explorer
from analysis.ioi.measured_classes import measure_heads
from analysis.provenance import ModelIdentity
from analysis.sweeps.store import Store
from tests import checkpoints, planted
from tests.boundary.bad_values import PINNED, VALUES, csv_files, json_files
from tests.word_lists import MADE_UP_NAMES as NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

SLOWEST = 3.0
"""Seconds of processor time that a try may take, which other programs do not add to."""
TRIES = int(os.environ.get("NAME_HEADS_TRIES", "0"))

# --- what the good values are ---------------------------------------------------------------------


@cache
def model() -> Any:
    tokenizer = checkpoints.make_tokenizer((*NAMES, *["book", "letter", "map", "lake", "garden"]))
    made = checkpoints.gpt2_model(len(tokenizer), n_layer=2, n_embd=16, n_head=2)
    return planted.boot(made, tokenizer, name="tiny")


@cache
def scores() -> Any:
    return analysis.score_heads(model(), NAMES, max_rank=5)


@cache
def vocabulary_scores() -> Any:
    return analysis.score_vocabulary(model(), n_tokens=9)


@cache
def figure() -> Any:
    return analysis.plot_heatmaps(scores())


@cache
def prompts() -> Any:
    return analysis.ioi_prompts(model(), 2, names=NAMES, templates=[" {A} and {B}: {S} to"])


@cache
def measured() -> Any:
    return measure_heads(model(), prompts())


@cache
def card() -> Any:
    return analysis.head_card(model(), (1, 1), NAMES)


@cache
def explorer() -> Any:
    return Explorer(model(), collect(model(), NAMES))


@cache
def curve() -> Any:
    """Made up, for its methods: removing heads takes long."""
    keys = [("zero", "names copied", kind, 0, n) for kind in ("given", "random") for n in (0, 1)]
    index = pd.MultiIndex.from_tuples(keys, names=["mode", "task", "heads", "draw", "removed"])
    frame = pd.DataFrame({"accuracy": 1.0, "change": 0.0}, index=index)
    identity = ModelIdentity("tiny", "tiny")
    return AblationCurve(frame, pd.DataFrame(), ((0, 0),), "names copied", 32, identity, {})


GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "ablation_curve": lambda: {
        "model": model(),
        "names": NAMES[:3],  # too few, which is said last: removing heads takes long
        "heads": [(0, 0)],
        "removed": [0, 1],
        "controls": [],
    },
    "attention_on": lambda: {"model": model(), "head": (0, 0), "prompt": " Anel met Anio"},
    "dynamic_scores": lambda: {"model": model(), "names": NAMES, "templates": ["No <X>"]},
    "eigenvalue_scores": lambda: {"model": model()},
    "explore": lambda: {"model": model(), "names": NAMES[:2]},
    "export_figure": lambda: {"fig": figure(), "stem": "figure", "formats": []},
    "export_site": lambda: {"site": "site"},
    "head_card": lambda: {"model": model(), "head": (0, 0), "names": NAMES[:2]},
    "ioi_prompts": lambda: {
        "model": model(),
        "n": 2,
        "names": NAMES,
        "templates": [" {A} and {B}: {S} to"],
    },
    "load_model": lambda: {"name": "/nowhere"},
    "load_names": lambda: {"model": model(), "names": NAMES},
    "load_pairs": lambda: {"model": model(), "pairs": "/nowhere"},
    "measure_all": lambda: {"model": model(), "scores": scores()},
    "measure_heads": lambda: {"model": model(), "prompts": prompts()},
    "measured_classes": lambda: {"model": model(), "prompts": prompts()},
    "plot_heatmaps": lambda: {"scores": scores()},
    "published_classes": dict,
    "rank_vocabulary": lambda: {"model": model(), "n_tokens": 9},
    "score_heads": lambda: {"model": model(), "names": NAMES},
    "score_vocabulary": lambda: {"model": model(), "n_tokens": 9},
    "show_figure": dict,
    "sweep": lambda: {"models": ["/nowhere"], "folder": "sweep"},
    "sweep_frame": lambda: {"source": "/nowhere"},
    "top_tokens": lambda: {"model": model(), "head": (0, 0), "token": "Anel"},
    "Question": lambda: {"name": "static"},
    "Question.ask": lambda: {"self": analysis.Question("static")},
    "Question.key": lambda: {"self": analysis.Question("static")},
    "AblationCurve.given": lambda: {"self": curve(), "mode": "zero"},
    "AblationCurve.random_band": lambda: {"self": curve(), "mode": "zero", "column": "change"},
    "Explorer.save_page": lambda: {"self": explorer()},
    "HeadCard.changes_most": lambda: {"self": card()},
    "HeadCard.on_prompt": lambda: {"self": card(), "prompt": " Anel met Anio"},
    "HeadCard.writes_for": lambda: {"self": card(), "word": "Anel"},
    "HeadCard.written_from": lambda: {"self": card(), "word": "Anel"},
    "HeadMeasurements.heads": lambda: {"self": measured()},
    "HeadMeasurements.with_thresholds": lambda: {"self": measured()},
    "HeadScores.at_k": lambda: {"self": scores()},
    "HeadScores.names_of": lambda: {"self": scores()},
    "HeadScores.to_frame": lambda: {"self": scores()},
    "IOIPrompts.column": lambda: {"self": prompts()},
    "TokenPairs.place": lambda: {"self": scores().pairs},
    "VocabularyScores.tokens_of": lambda: {"self": vocabulary_scores(), "head": (0, 0)},
}
"""What a reader may call, with values that are in order; one of them at a time is replaced."""

MADE_BY_READERS = {"Question"}
"""Public classes that a reader makes; the others are what functions return."""


def function_of(name: str) -> Callable[..., Any]:
    found: Any = analysis
    for part in name.split("."):
        found = getattr(found, part)
    return found


def parameters_of(name: str) -> list[str]:
    kinds = inspect.signature(function_of(name)).parameters.values()
    return [p.name for p in kinds if p.name != "self" and "VAR" not in p.kind.name]


def public_calls() -> set[str]:
    """Every function of the public face, and every public method that takes a parameter."""
    found = set(MADE_BY_READERS)
    for name in analysis.__all__:
        thing = getattr(analysis, name)
        if not isinstance(thing, type):
            found.add(name)
        elif not issubclass(thing, Exception):
            ours = [base for base in thing.__mro__ if base.__module__.startswith("analysis.")]
            methods = {method: f for base in reversed(ours) for method, f in vars(base).items()}
            for method, function in methods.items():
                whole = f"{name}.{method}"
                if not method.startswith("_") and inspect.isfunction(function):
                    found |= {whole} if parameters_of(whole) else set()
    return found


def test_no_public_function_is_forgotten() -> None:
    assert set(GOOD) == public_calls()


FOUND: dict[str, list[tuple[str, Any]]] = {
    "attention_on": [("prompt", "é" * 5000), ("prompt", "\ud800"), ("head", (True, False))],
    "ablation_curve": [("heads", np.array(3)), ("modes", [np.zeros(2)]), ("n_draws", 10**30)],
    "dynamic_scores": [("templates", [[]]), ("templates", ["\ud800 <X>"])],
    "export_figure": [("formats", "é" * 5000), ("formats", np.array(3))],
    "export_site": [("site", None), ("explorers", [None]), ("missing", [3])],
    "head_card": [("first_mlp", 3), ("results", "x"), ("model", None)],
    "explore": [("evidence", 3)],
    "ioi_prompts": [("n", 10**30), ("seed", 10**30), ("templates", np.array(3))],
    "load_model": [("name", "\ud800"), ("name", "a\0b"), ("device", "\ud800")],
    "plot_heatmaps": [("panels", np.array(3)), ("title", np.array(3))],
    "published_classes": [("model", "\ud800")],
    "score_heads": [("model", "a\0b"), ("model", "x" * 5000)],
    "score_vocabulary": [("seed", 10**30), ("embedding", np.zeros(2))],
    "sweep": [("models", ["\0*"]), ("n_workers", 0), ("folder", None), ("cluster", "nowhere")],
    "sweep_frame": [("source", None), ("question", np.zeros(2))],
    "Question": [("parameters", {"k": object()}), ("parameters", 3), ("names", "Mary")],
    "Question.ask": [("model", None)],
    "TokenPairs.place": [("source", np.zeros((2, 3)))],
    "VocabularyScores.tokens_of": [("which", np.zeros(2)), ("head", np.ones(2) / 2)],
}
"""The smallest values that once ended in another library's error, or in none."""

# --- every parameter ------------------------------------------------------------------------------

N_PARAMETERS = sum(len(parameters_of(name)) for name in GOOD)
FILES: tuple[str, ...] = (
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "index",
    "weights",
    "names",
)
FILES += ("notebook", "answers", "tensors")
SHARES = N_PARAMETERS + 6 * len(FILES)


def some(n: int, share: int) -> settings:
    """So many tries, or the share of ``TRIES``."""
    return settings(
        max_examples=max(1, -(-TRIES * share // SHARES)) if TRIES else n,
        deadline=None,
        database=None,
        derandomize=not TRIES,
        suppress_health_check=list(HealthCheck),
    )


def only_our_errors(call: Callable[[], Any], what: str) -> None:
    """Call; an error must be the package's, and come soon."""
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except AnalysisError as error:
            str(error).encode()  # can be shown and written
            assert len(str(error)) < 4000, f"{what}: {len(str(error))} characters"
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    took = time.process_time() - start
    assert took < SLOWEST, f"{what} took {took:.1f} s"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, no hub, and nothing that is fetched or drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("analysis.models.load._auto", lambda: pytest.fail("nothing asks for it"))
    monkeypatch.setattr("analysis.export.display.display", lambda *_, **__: None)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_bad_parameter_is_refused_in_our_words(name: str, nowhere: Path) -> None:
    function, parameters = function_of(name), parameters_of(name)

    def try_one(parameter: str, value: Any) -> None:
        if isinstance(value, str) and value == "auto":
            return
        asked = {**GOOD[name](), parameter: value}
        kinds = inspect.signature(function).parameters
        first = [asked.pop(p) for p in kinds if p == "self" or (kinds[p].kind.name[-4:] == "ONLY"
                 and kinds[p].kind.name[:3] == "POS")]  # fmt: skip
        shown = f"{name}({parameter}={value!r:.300})"
        only_our_errors(lambda: function(*first, **asked), shown)

    for parameter, value in FOUND.get(name, ()):
        try_one(parameter, value)
    for number, parameter in enumerate(parameters):
        for value in PINNED if TRIES else PINNED[(len(name) + number) % 10 :: 10]:
            try_one(parameter, value)

    @some(len(parameters), len(parameters))
    @given(st.sampled_from(parameters), VALUES)
    def try_many(parameter: str, value: Any) -> None:
        try_one(parameter, value)

    try_many()
    left = [path for path in nowhere.rglob("*") if path.name.endswith((".new", ".incomplete"))]
    left += list(nowhere.rglob(".writing-*"))
    assert not left, f"half-written: {left}"


# --- every file reader ----------------------------------------------------------------------------

READ_BY = {
    "name_files": "names",
    "models.checkpoint": "config.json",
    "models.bridge": "weights",
    "models.tokenizer": "tokenizer.json",
    "models.tensor_files": "weights",
    "models.hub_ranges": "tensors",
    "explorer.notebook_page": "notebook",
    "sweeps.store": "answers",
    # What follows reads the package's own files alone, or those of a caller byte for byte.
    "cli.run_notebook": "",  # tests/cli/test_run_notebook.py damages one
    "explorer.page": "",
    "explorer.site": "",
    "export.chromium": "",
    "export.html_page": "",
    "export.whole_files": "",
    "ioi.head_classes": "",
    "models.hub_download": "",
    "models.lazy_checkpoint": "",
    "models.checksums": "",
    "models.packaged": "",  # held by its own checksum
    "report.published_numbers": "",
    "sweeps.questions": "",
    "sweeps.trained_model": "",
}
"""By module that reads files, those of ``FILES`` that it reads."""

_READS = {"read_text", "read_bytes", "open", "safe_open", "from_file", "from_pretrained"}
_READS |= {"read_csv", "read_json_lines", "read_table", "load", "fromfile", "memmap", "execute"}
_NO_FILES = {"widget", "explore"}  # their open() opens a view and a browser


def modules_that_read() -> set[str]:
    """Modules of the package that call something which reads a file."""
    package = Path(analysis.__file__).parent
    found = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "attr", getattr(called, "id", None))
            of_nbformat = name == "read" and ast.unparse(called).startswith("nbformat")
            if (name in _READS or of_nbformat) and file.stem not in _NO_FILES:
                found.add(".".join(file.relative_to(package).with_suffix("").parts))
    return found


@pytest.mark.slow
def test_no_file_reader_is_forgotten() -> None:
    assert modules_that_read() == set(READ_BY)
    assert set(READ_BY.values()) - {""} <= set(FILES)


@cache
def checkpoint(folder: Path) -> Path:
    tokenizer = checkpoints.make_tokenizer()
    made = checkpoints.gpt2_model(len(tokenizer), n_layer=1, n_embd=8, n_head=2)
    return checkpoints.save_checkpoint(made, tokenizer, folder)


def damaged(whole: bytes, first: int = 600) -> st.SearchStrategy[bytes]:
    """A file cut off, or with a few other bytes near its beginning."""
    cut = st.integers(0, len(whole)).map(lambda n: whole[:n])
    spots = st.tuples(st.integers(0, first), st.binary(min_size=1, max_size=4))
    return st.one_of(cut, spots.map(lambda s: whole[: s[0]] + s[1] + whole[s[0] + len(s[1]) :]))


def broken_files(kind: str, path: Path) -> st.SearchStrategy[bytes]:
    if kind == "names":
        return csv_files()
    if kind in ("weights", "tensors", "answers"):
        return damaged(path.read_bytes())
    if kind == "index":
        return json_files({"metadata": {}, "weight_map": {"a": "b.safetensors"}})
    return json_files(json.loads(path.read_text()))


def prepared(kind: str, folder: Path) -> tuple[Path, Callable[[], Any]]:
    """A whole file of a kind, and what reads it."""
    if kind == "names":
        return folder / "names.csv", lambda: analysis.load_names(model(), folder / "names.csv")
    if kind == "notebook":
        cells = [nbformat.v4.new_markdown_cell("# One"), nbformat.v4.new_code_cell("1")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "one.ipynb")
        site = folder / "site"
        return folder / "one.ipynb", lambda: analysis.export_site(site, notebooks=folder)
    if kind == "answers":
        answer = analysis.eigenvalue_scores(model())
        about = {"model": "a", "question": "eigenvalue", "title": "A", "checksum": "0"}
        Store(folder).keep("key", answer, about | {"n_layers": 2})
        return folder / "key.parquet", lambda: analysis.sweep_frame(folder)
    made = checkpoint(folder / "model")
    if kind == "index":
        (made / "model.safetensors").rename(made / "elsewhere.safetensors")
        return made / "model.safetensors.index.json", lambda: analysis.load_model(made)
    if kind == "tensors":
        return made / "model.safetensors", lambda: analysis.score_heads(made, NAMES)
    name = "model.safetensors" if kind == "weights" else kind
    return made / name, lambda: analysis.load_model(made)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_broken_file_is_refused_in_our_words(kind: str, nowhere: Path) -> None:
    path, read = prepared(kind, nowhere)

    @some(8, 6)
    @given(broken_files(kind, path))
    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        only_our_errors(read, f"{kind} {content[:200]!r}")

    try_one()
