"""Weights that are changed in place are noticed, however they are changed, and results say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from analysis.dynamic.null_heads import compare_with_nulls
from analysis.errors import ParameterError
from analysis.models.fingerprint import SIDE, fingerprint
from analysis.models.load import load_model
from analysis.provenance import ModelIdentity, is_same_model, set_identity
from analysis.static.scores import score_heads
from tests import checkpoints
from tests.planted import NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_HEADS, D_HEAD = 8, 32
WIDTHS = [48, 768, 3 * SIDE]
"""With the least all is hashed as it is; with the others in squares, and a rest."""


def heads(W: Tensor) -> Tensor:
    return W.view(N_HEADS, D_HEAD, -1)


def negated(W: Tensor, head: int) -> Tensor:
    W = W.clone()
    heads(W)[head].neg_()
    return W


def exchanged(W: Tensor, one: int, other: int) -> Tensor:
    flat = W.flatten().clone()
    flat[[one, other]] = flat[[other, one]]
    return flat.view_as(W)


def with_one_bit_more(W: Tensor) -> Tensor:
    W = W.clone()
    W.view(torch.uint8).flatten()[4321] ^= 1
    return W


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "one bit": with_one_bit_more,
    "two weights exchanged": lambda W: exchanged(W, 17, 4001),
    "neighbours exchanged": lambda W: exchanged(W, 100, 101),
    "a head negated": lambda W: negated(W, 3),
    "all negated": lambda W: -W,
    "heads exchanged": lambda W: heads(W)[[2, 3, 0, 1, 4, 5, 7, 6]].reshape(W.shape),
    "rows in another order": lambda W: W.flip(0),
    "columns in another order": lambda W: W.roll(1, dims=1),
    "backwards": lambda W: W.flatten().flip(0).view_as(W),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_is_of_every_bit_in_its_place(
    change: str, width: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(width)
    for _ in range(5):
        W = torch.randn(N_HEADS * D_HEAD, width).to(dtype)
        changed = CHANGES[change](W)
        parameters = torch.nn.ParameterList(
            torch.nn.Parameter(p, requires_grad=False) for p in (W, torch.ones(7))
        )
        model: Any = SimpleNamespace(original_model=parameters)
        before = fingerprint(model)
        assert fingerprint(model) == before
        W.copy_(changed)
        assert fingerprint(model) != before


@pytest.fixture
def loaded(tmp_path: Path) -> TransformerBridge:
    tokenizer = checkpoints.make_tokenizer(NAMES)
    model = checkpoints.gpt2_model(len(tokenizer))
    return load_model(checkpoints.save_checkpoint(model, tokenizer, tmp_path / "mine"))


def test_results_of_changed_weights_do_not_give_the_checkpoints_checksum(
    loaded: TransformerBridge,
) -> None:
    before = score_heads(loaded, NAMES)
    assert before.model == loaded.identity and before.model.checksum
    weight = loaded.original_model.get_output_embeddings().weight.data
    row, found = weight[5].clone(), []
    for factor in (2, 3):
        weight[5] = factor * row
        found.append(score_heads(loaded, NAMES).model)
    weight[5] = row
    for changed in found:
        assert changed.checksum is changed.revision is None
        assert changed.title == f"{before.model.title}, weights changed"
        assert not is_same_model(changed, before.model)
    assert not is_same_model(*found), "two changes are two models"
    assert score_heads(loaded, NAMES).model == before.model, "and back again"


def test_scores_from_before_a_change_are_another_models(loaded: TransformerBridge) -> None:
    before = score_heads(loaded, NAMES)
    loaded.original_model.get_output_embeddings().weight.data[5] *= 2
    with pytest.raises(ParameterError, match=r"is mine, weights changed .*: make them of"):
        compare_with_nulls(loaded, before)


def test_an_identity_that_somebody_gave_is_theirs(loaded: TransformerBridge) -> None:
    mine = ModelIdentity("mine", "My edited model")
    set_identity(loaded, mine)
    loaded.original_model.get_output_embeddings().weight.data[5] *= 2
    assert score_heads(loaded, NAMES).model == mine
