"""A tensor that is not what its annotation says fails in the tests."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError

from tests.array_annotations import check_package

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
import torch
from jaxtyping import Float, Int
from torch import Tensor
if TYPE_CHECKING:
    from elsewhere import Model

def product(x: Float[Tensor, "n d"], W: Float[Tensor, "d k"], n: int = 1) -> Float[Tensor, "n k"]:
    return x @ W

def lies(model: Model, tokens: list[Int[Tensor, "n"]]) -> Float[Tensor, "n"]:
    return tokens[0]

def cut(x: Float[Tensor, "n d"], n: int, *, like: Float[Tensor, "n"] | None = None) -> Float[
    Tensor, "n d"
]:
    return x[:n]

@dataclass(frozen=True)
class Result:
    values: Float[Tensor, "n"]
    name: str
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    (tmp_path / "annotated_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    check_package("annotated_module")
    yield importlib.import_module("annotated_module")
    del sys.modules["annotated_module"]


def test_arrays_are_checked_and_nothing_else(module: object) -> None:
    import torch

    product, result = module.product, module.Result  # type: ignore[attr-defined]
    assert product(torch.ones(2, 3), torch.ones(3, 4), n="many").shape == (2, 4)
    assert result(torch.ones(2), name=3).name == 3
    with pytest.raises(TypeCheckError):
        product(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(TypeCheckError):
        product(torch.ones(2, 3, dtype=torch.int64), torch.ones(3, 4))
    with pytest.raises(TypeCheckError):
        module.lies(None, [torch.ones(2, dtype=torch.int64)])  # type: ignore[attr-defined]
    with pytest.raises(TypeCheckError):
        result(torch.ones(2, 2), name="")


def test_a_call_that_differs_from_checked_ones_in_any_array_is_checked(module: object) -> None:
    import torch

    cut, lies = module.cut, module.lies  # type: ignore[attr-defined]
    for _ in range(2):
        assert cut(torch.ones(3, 2), 3, like=torch.ones(3)).shape == (3, 2)
        assert cut(n=2, x=torch.ones(2, 2)).shape == (2, 2)
        with pytest.raises(TypeCheckError, match="return"):
            cut(torch.ones(3, 2), 2)
        with pytest.raises(TypeCheckError, match="like"):
            cut(torch.ones(3, 2), 3, like=torch.ones(2))
        with pytest.raises(TypeCheckError, match="x is a"):
            cut(torch.ones(3, 2, dtype=torch.int32), 3)
        with pytest.raises(TypeCheckError, match="x is a"):
            cut([[1.0]], 1)
        with pytest.raises(TypeCheckError, match="tokens"):
            lies(None, [torch.ones(2)])


def test_the_package_under_test_is_checked() -> None:
    import torch

    from analysis.architecture.norms import centred

    with pytest.raises(TypeCheckError):
        centred(None, torch.ones(2, dtype=torch.int64))  # type: ignore[arg-type]
