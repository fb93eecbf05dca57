"""Logits are compared with the target's as one number after another is, however many are held."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from analysis.exact import open_pairs
from tests.exact.layers import Layer, answers


@settings(max_examples=60, deadline=None)
@given(
    n=st.sampled_from([1, 16, 31, 32, 160]),
    tolerance=st.integers(0, 2),
    most=st.sampled_from([-4, 0, 3, 6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_logits_near_the_target_are_found_wherever_they_are(
    n: int, tolerance: int, most: int, seed: int
) -> None:
    """From rows of which nearly nothing comes near the target to rows of which everything does."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-4, 5, (7, n), generator=generator).float()
    target = torch.full((7,), float(most))
    larger, row, token = open_pairs._compare(logits, target, torch.full((7,), float(tolerance)))
    assert larger.tolist() == (logits > most + tolerance).sum(1).tolist()
    near = (logits - most).abs() <= tolerance
    assert sorted(map(list, zip(row.tolist(), token.tolist(), strict=True))) == (
        near.nonzero().tolist()
    )


@pytest.mark.parametrize("k", [1, 40, 400])
@pytest.mark.parametrize("held", [0, 100])
def test_no_more_comparisons_are_held_than_there_is_room_for(
    held: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers tie so often that float64 is asked again and again on the way."""
    generator = torch.Generator().manual_seed(9)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=generator).float()

    targets = torch.randint(0, 2000, (50,), generator=generator)
    layer = Layer(whole(50, 6).double(), targets, whole(1, 6, 3), whole(2, 3, 6), whole(6, 2000))
    larger, smaller = layer.ranks()
    monkeypatch.setattr(open_pairs, "NEAR_HELD", held)
    top, bottom = answers(layer.decide(k, tile=4000))
    assert torch.equal(top, larger < k) and torch.equal(bottom, smaller < k)
    assert 0 < int(top.sum()) < top.numel()
