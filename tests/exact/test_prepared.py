"""Weights that are changed in place are noticed, however they are changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from analysis.errors import WeightsError
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.planted import MAKERS, NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOKENIZER = checkpoints.make_tokenizer(NAMES)


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
