"""Weights that are changed in place are noticed, however they are changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.errors import WeightsError
from analysis.exact.prepared import SIDE, fingerprint
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.planted import MAKERS, NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOKENIZER = checkpoints.make_tokenizer(NAMES)

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


def double_unembedding(bridge: TransformerBridge) -> None:
    bridge.original_model.get_output_embeddings().weight.data[40:200].mul_(-2)


def exchange_heads(bridge: TransformerBridge) -> None:
    weight = bridge.blocks[1].attn.o.weight.data
    heads = weight.view(len(weight), bridge.cfg.n_heads, -1)
    heads.copy_(heads[:, [2, 3, 0, 1]].clone())


@pytest.mark.slow
@pytest.mark.parametrize("change", [double_unembedding, exchange_heads])
def test_weights_changed_between_two_calls_are_noticed(
    change: Callable[[TransformerBridge], None],
) -> None:
    """Also where torch's own count of changes does not move, as with ``.data`` and numpy."""
    model = MAKERS["llama"](len(TOKENIZER))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    bridge = planted.boot(copy.deepcopy(model), TOKENIZER)
    before = score_heads(bridge, NAMES, 5)
    changed = planted.boot(copy.deepcopy(model), TOKENIZER)
    for one in (bridge, changed):
        change(one)
    found, expected = score_heads(bridge, NAMES, 5), score_heads(changed, NAMES, 5)
    assert not np.array_equal(found.in_top_k, before.in_top_k)
    assert np.array_equal(found.in_top_k, expected.in_top_k)
    assert np.array_equal(found.in_bottom_k, expected.in_bottom_k)
    bridge.original_model.get_output_embeddings().weight.detach().numpy()[3, 3] = np.nan
    with pytest.raises(WeightsError):
        score_heads(bridge, NAMES, 5)
