"""Bad values at every public function and file reader: only the package's own errors.

``make test`` throws some hundred. ``NAME_HEADS_TRIES=10000`` throws that many in all.
"""

from __future__ import annotations

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
import pytest
from hypothesis import HealthCheck, given, settings

import analysis
from analysis.errors import AnalysisError
from tests import checkpoints
from tests.boundary.bad_values import VALUES, csv_files, json_files
from tests.planted import NAMES, planted_model

if TYPE_CHECKING:
    from collections.abc import Callable

SLOWEST = 20.0
"""Seconds after which a try counts as hanging, on a machine that may be busy."""


@cache
def model() -> Any:
    return planted_model("gpt2")


@cache
def scores() -> Any:
    return analysis.score_heads(model(), list(NAMES))


@cache
def figure() -> Any:
    return analysis.plot_heatmaps(scores())


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]] = {
    name: (lambda name=name: getattr(analysis, name), good)  # type: ignore[misc]
    for name, good in {
        "load_model": lambda: {"name": "/nowhere"},
        "load_names": lambda: {"model": model(), "names": list(NAMES)},
        "score_heads": lambda: {"model": model(), "names": list(NAMES)},
        "score_vocabulary": lambda: {"model": model()},
        "rank_vocabulary": lambda: {"model": model()},
        "eigenvalue_scores": lambda: {"model": model()},
        "ioi_prompts": lambda: {"model": model(), "n": 2},
        "published_classes": dict,
        "plot_heatmaps": lambda: {"scores": scores()},
        "export_figure": lambda: {"fig": figure(), "stem": "figure", "formats": ["html"]},
        "dynamic_scores": lambda: {"model": model(), "names": list(NAMES)},
        "ablation_curve": lambda: {
            "model": model(),
            "names": [],  # refused at once; removing heads takes longer than a try may
            "heads": [(0, 0)],
        },
        "measured_classes": lambda: {"model": model()},
    }.items()
}
CASES = [
    (name, parameter)
    for name in FUNCTIONS
    for parameter in inspect.signature(getattr(analysis, name)).parameters
    if inspect.signature(getattr(analysis, name)).parameters[parameter].kind.name[:3] != "VAR"
]
"""Every parameter of every public function."""

READERS = ("config.json", "tokenizer_config.json", "tokenizer.json", "index", "weights", "names")
TRIES = int(os.environ.get("NAME_HEADS_TRIES", "0"))
PER_CASE = max(1, TRIES // (len(CASES) + len(READERS)) + 1) if TRIES else 6


def some(n: int = PER_CASE) -> settings:
    return settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=not TRIES,
        suppress_health_check=list(HealthCheck),
    )


def only_our_errors(call: Callable[[], Any], what: str) -> None:
    """Call; an error must be the package's, and come soon."""
    start = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except AnalysisError as error:
            str(error).encode()  # can be shown and written
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert time.monotonic() - start < SLOWEST, f"{what} took {time.monotonic() - start:.1f} s"


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_a_bad_parameter_is_refused_in_our_words(
    name: str, parameter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    if (name, parameter) == ("load_model", "name"):
        monkeypatch.setattr("analysis.models.load.packaged_checkpoint", lambda: pytest.skip())
    function, good = FUNCTIONS[name]
    kinds = inspect.signature(getattr(analysis, name)).parameters

    @some()
    @given(VALUES)
    def try_one(value: Any) -> None:
        asked = {**good(), parameter: value}
        positional = [asked.pop(p) for p in kinds if kinds[p].kind.name == "POSITIONAL_ONLY"]
        only_our_errors(lambda: function()(*positional, **asked), f"{name}({parameter}={value!r})")

    try_one()
    left = [path for path in tmp_path.rglob("*") if path.name.endswith((".new", ".incomplete"))]
    assert not left, f"half-written: {left}"


@cache
def checkpoint(folder: Path) -> Path:
    tokenizer = checkpoints.make_tokenizer()
    model = checkpoints.gpt2_model(len(tokenizer), n_layer=1, n_embd=8, n_head=2)
    return checkpoints.save_checkpoint(model, tokenizer, folder)


def broken_files(reader: str, folder: Path) -> st.SearchStrategy[bytes]:
    if reader == "names":
        return csv_files()
    if reader == "weights":
        whole = (folder / "model.safetensors").read_bytes()
        cut = st.integers(0, len(whole)).map(lambda n: whole[:n])
        spots = st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=4))
        return st.one_of(cut, spots.map(lambda s: whole[: s[0]] + s[1] + whole[s[0] + len(s[1]) :]))
    if reader == "index":
        return json_files({"metadata": {}, "weight_map": {"a": "b.safetensors"}})
    return json_files(json.loads((folder / reader).read_text()))


@pytest.mark.parametrize("reader", READERS)
def test_a_broken_file_is_refused_in_our_words(
    reader: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")
    names = folder / "names.csv"
    path = {
        "weights": folder / "model.safetensors",
        "names": names,
        "index": folder / "model.safetensors.index.json",
    }.get(reader, folder / reader)
    before = path.read_bytes() if path.is_file() else b""

    @some(PER_CASE if TRIES else 12)
    @given(broken_files(reader, folder))
    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        if reader == "names":
            only_our_errors(lambda: analysis.load_names(model(), names), f"names {content!r}")
        else:
            only_our_errors(lambda: analysis.load_model(folder), f"{reader} {content[:200]!r}")

    if reader == "index":
        (folder / "model.safetensors").rename(folder / "elsewhere.safetensors")
    try:
        try_one()
    finally:
        path.write_bytes(before)
