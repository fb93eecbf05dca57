"""A planted model, its results, and the browser that looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.explorer.evidence import Evidence, measure
from analysis.explorer.results import Results, collect
from tests.browser import axe, chromium
from tests.planted import NAMES, planted_model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

__all__ = ["axe", "chromium"]


@pytest.fixture(scope="session")
def planted() -> TransformerBridge:
    return planted_model("llama")


@pytest.fixture(scope="session")
def measured(planted: TransformerBridge) -> Evidence:
    scores = collect(planted, list(NAMES)).scores
    evidence = None
    for what in ("null", "vocabulary", "eigenvalue"):
        evidence = measure(planted, scores, what, evidence)
    assert evidence is not None
    return evidence


@pytest.fixture(scope="session")
def results(planted: TransformerBridge, measured: Evidence) -> Results:
    return collect(
        planted,
        list(NAMES),
        first_mlp=(True, False),
        evidence=measured,
        n_heads_with_tokens=6,
    )
