"""Every result says what made it: model, dtype, parameters, versions and time."""

from __future__ import annotations

import contextlib
import copy
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch

from analysis.errors import ParameterError
from analysis.provenance import (
    ModelIdentity,
    check_made_of,
    is_same_model,
    model_identity,
    provenance_of,
    set_identity,
    timeless,
)

IDENTITY = ModelIdentity("team/model", "model", revision="0" * 40, source="hub")


def a_model(name: str | None = "toy") -> Any:
    module: Any = torch.nn.Linear(2, 2)
    module.cfg = SimpleNamespace(model_name=name, dtype=torch.bfloat16)
    return module


def test_a_model_keeps_its_identity_and_so_does_a_copy() -> None:
    model = a_model()
    set_identity(model, IDENTITY)
    assert model_identity(model) == model_identity(copy.deepcopy(model)) == IDENTITY


@pytest.mark.parametrize(
    ("made_of", "same"),
    [
        (ModelIdentity("other", "other", checksum="a" * 64), True),  # another name for it
        (ModelIdentity("team/model", "model", checksum="b" * 64), False),
        (ModelIdentity("team/model", "model", source="folder"), False),
        (ModelIdentity("toy", "toy"), False),
    ],
)
def test_results_of_another_model_are_refused(made_of: ModelIdentity, same: bool) -> None:
    model = a_model()
    set_identity(model, ModelIdentity("team/model", "model", checksum="a" * 64))
    if same:
        check_made_of(model, made_of, "the scores")
        return
    with pytest.raises(ParameterError, match=r"the scores were made of .* this model is model"):
        check_made_of(model, made_of, "the scores")


@pytest.mark.parametrize(
    ("parts_of", "same"),
    [
        (ModelIdentity("team/model", "model", revision="0" * 40, source="hub"), True),
        (ModelIdentity("team/model", "model", revision="1" * 40, source="hub"), False),
        (ModelIdentity("team/other", "model", revision="0" * 40, source="hub"), False),
    ],
)
def test_a_commit_read_in_parts_is_the_commit_that_was_loaded(
    parts_of: ModelIdentity, same: bool
) -> None:
    """Of single tensors from the hub no checksum of the files is known."""
    whole = ModelIdentity("team/model", "model", "0" * 40, checksum="a" * 64, source="hub")
    assert is_same_model(parts_of, whole) == is_same_model(whole, parts_of) == same
    model = a_model()
    set_identity(model, whole)
    with contextlib.nullcontext() if same else pytest.raises(ParameterError, match="were made of"):
        check_made_of(model, parts_of, "the scores")


def test_a_model_of_others_is_known_by_its_configured_name() -> None:
    assert model_identity(a_model()) == ModelIdentity("toy", "toy")
    assert model_identity(a_model(None)).name == "unnamed model"
    strange = a_model()
    strange.identity = torch.nn.Identity()
    assert model_identity(strange).name == "toy"


def test_the_description_is_json_and_holds_the_parameters_in_order() -> None:
    model = a_model()
    set_identity(model, IDENTITY)
    made = provenance_of(model, {"k": 3, "seed": 0})
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert list(made) == ["model", "dtype", "k", "seed", "versions", "time"]
    assert (made["k"], made["dtype"]) == (3, "bfloat16")
    assert made["model"] == {
        "name": "team/model",
        "title": "model",
        "revision": "0" * 40,
        "checksum": None,
        "source": "hub",
        "note": "",
    }
    versions = made["versions"]
    assert isinstance(versions, dict)
    assert versions["numpy"] == numpy.__version__
    age = datetime.now(UTC) - datetime.fromisoformat(str(made["time"]))
    assert timedelta(0) <= age < timedelta(minutes=5)


def test_without_its_times_a_description_is_the_same_every_time() -> None:
    made = provenance_of(a_model(), {"k": 3})
    later = made | {"time": "2031-01-01T00:00:00+00:00"}
    assert timeless({"static": later, "seed": 0}) == timeless({"static": made, "seed": 0})
    assert timeless(made) == {key: value for key, value in made.items() if key != "time"}
