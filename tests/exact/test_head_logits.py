"""The parts of the exact scorer: factors, comparisons of rows, extreme tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.exact import vocabulary
from analysis.exact.arithmetic import compare_rows
from analysis.exact.factors import factor_error, orthonormal_rows
from analysis.exact.vocabulary import Vocabulary


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e7, 1e12], ids=str)
@pytest.mark.parametrize("shape", [(8, 64), (64, 100), (8, 8), (12, 5)], ids=str)
def test_factors_are_orthonormal_and_multiply_back(
    condition: float, shape: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(len(str(condition)) + shape[0])
    u, _, v = torch.linalg.svd(
        torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False
    )
    n = min(shape)
    W = (u * torch.logspace(0, -torch.tensor(condition).log10().item(), n, dtype=u.dtype)) @ v
    R, Q = orthonormal_rows(W)
    assert Q.shape == (n, shape[1])
    assert (Q @ Q.T - torch.eye(n, dtype=W.dtype)).norm() <= factor_error(W)
    assert (R @ Q - W).norm() <= factor_error(W) * W.norm()


@pytest.mark.parametrize("kind", ["zeros", "a zero row", "twice the same row"])
def test_weights_of_lower_rank_are_factored_too(kind: str) -> None:
    W = torch.arange(24, dtype=torch.float64).reshape(4, 6).cos()
    if kind == "zeros":
        W = W * 0
    elif kind == "a zero row":
        W[2] = 0
    else:
        W[3] = W[0]
    R, Q = orthonormal_rows(W)
    assert (Q @ Q.T - torch.eye(4, dtype=W.dtype)).norm() <= 1e-12
    assert (R @ Q - W).norm() <= 1e-12 * max(1.0, float(W.norm()))


@pytest.mark.slow
@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4),
    bounds=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=4, max_size=4),
)
def test_rows_are_compared_as_one_number_after_another_is(
    rows: list[list[int]], bounds: list[tuple[int, int]]
) -> None:
    below = [low for low, _ in bounds[: len(rows)]]
    above = [low + width for low, width in bounds[: len(rows)]]
    larger, smaller, row, column = compare_rows(
        torch.tensor(rows).float(), torch.tensor(below).float(), torch.tensor(above).float()
    )
    assert larger.tolist() == [
        sum(v > high for v in r) for r, high in zip(rows, above, strict=True)
    ]
    assert smaller.tolist() == [sum(v < low for v in r) for r, low in zip(rows, below, strict=True)]
    between = [
        (i, j) for i, r in enumerate(rows) for j, v in enumerate(r) if below[i] <= v <= above[i]
    ]
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == between


@pytest.mark.parametrize(("keep_bytes", "every"), [(1 << 20, 1), (0, 4)])
def test_extreme_tokens_are_those_of_a_sort_of_the_tokens_looked_at(
    keep_bytes: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "SAMPLED_FROM", 0)
    generator = torch.Generator().manual_seed(1)
    W_U, directions = (torch.randn(n, m, generator=generator) for n, m in ((8, 999), (3, 8)))
    most, least = Vocabulary(W_U, keep_bytes).extreme_tokens(directions, 20)
    order = (directions @ W_U[:, ::every]).argsort(dim=1, descending=True) * every
    assert torch.equal(most, order[:, :20])
    assert torch.equal(least, order.flip(1)[:, :20])
