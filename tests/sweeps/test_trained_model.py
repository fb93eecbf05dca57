"""The small GPT-2 that notebook 7 trains: what its training lowers."""

from __future__ import annotations

import pytest
import torch

from analysis.sweeps.trained_model import (
    NameText,
    TrainingRun,
    _loss,
    _new_model,
    make_tokenizer,
    names_of_the_text,
)


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
