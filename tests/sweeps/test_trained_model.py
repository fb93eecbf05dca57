"""The small GPT-2 that notebook 7 trains: what its training lowers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis import ParameterError
from analysis.sweeps.trained_model import (
    NameText,
    TrainingRun,
    _loss,
    _new_model,
    make_tokenizer,
    names_of_the_text,
    train,
)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n_heads": 3}, "n_heads must divide d_model, and 3 does not divide 64"),
        ({"steps": ()}, r"steps must be one or more that ascend, .* not \(\)"),
        ({"steps": (2, 0)}, r"steps must be one or more that ascend, .* not \(2, 0\)"),
        ({"steps": (0, 2, 2)}, "steps must be one or more that ascend"),
        ({"steps": (-1, 2)}, "a step must be a whole number of at least 0, not -1"),
        ({"steps": 5}, "steps must be a list"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"n_names": 5}, "n_names must be a whole number of at least 6"),
        ({"batch": 0}, "batch must be a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
    ],
)
def test_a_run_that_cannot_be_trained_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        TrainingRun(**wrong)


def test_every_path_that_is_returned_is_a_checkpoint_of_its_step(tmp_path: Path) -> None:
    run = TrainingRun(n_layers=1, n_heads=2, d_model=8, n_names=6, batch=2, steps=(0, 1))
    usual = os.umask(0o027)
    try:
        found = train(tmp_path / "runs", run)
    finally:
        os.umask(usual)
    assert (tmp_path / "runs").stat().st_mode & 0o777 == 0o750  # others may look, as the umask says
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in found] == ["small-gpt2-step-0000", "small-gpt2-step-0001"]
    assert all((path / "config.json").is_file() for path in found)
    same = TrainingRun(1, 2, 8, 6, 2, steps=list(np.arange(2)))  # type: ignore[arg-type]
    assert same == run and train(tmp_path / "runs", same) == found


def test_the_loss_is_the_mean_over_every_token_that_is_said() -> None:
    names = names_of_the_text(12)
    tokenizer = make_tokenizer(names)
    model = _new_model(TrainingRun(n_names=12), tokenizer)
    tokens = NameText(tokenizer, names, seed=0).batch(16)
    with torch.no_grad():
        likely = model(tokens[:, :-1]).logits.log_softmax(2)
        found = float(_loss(model, tokens))
    each = likely.gather(2, tokens[:, 1:, None])[..., 0]
    said = tokens[:, 1:] != 0
    assert 0.2 < said.double().mean() < 0.9
    assert found == pytest.approx(-float(each[said].mean()), rel=1e-12)
