"""A planted model, its results, and the browser that looks at them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from analysis.explorer.evidence import Evidence, measure
from analysis.explorer.results import Results, collect
from tests.planted import NAMES, planted_model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


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


RELATIONS = {
    "swapped": [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[0]), (NAMES[2], NAMES[3])],
    "next": list(itertools.pairwise(NAMES)),
}


@pytest.fixture(scope="session")
def related(planted: TransformerBridge) -> Results:
    """Two relations beside the names, and nothing measured."""
    return collect(planted, list(NAMES), relations=RELATIONS)


@pytest.fixture(scope="session")
def marked(results: Results) -> Results:
    """A head of every class that is marked, and one that is not."""
    rows = [
        ((1, 1), "name mover", "measured"),
        ((1, 0), "negative name mover", "measured"),
        ((0, 0), "backup name mover", "measured"),
        ((0, 3), "backup negative name mover", "measured"),
        ((2, 2), "subject suppressor", "measured"),
        ((1, 1), "name mover", "published"),
        ((1, 0), "negative name mover", "published"),
        ((0, 1), "backup name mover", "published"),
        ((0, 2), "backup name mover", "published"),  # suppresses: on both panels
        ((2, 0), "induction", "published"),
    ]
    classes = pd.DataFrame(
        [(name, "planted", "a source", origin) for _, name, origin in rows],
        columns=["class", "model", "source", "origin"],
        index=pd.MultiIndex.from_tuples([head for head, *_ in rows], names=["layer", "head"]),
    )
    return results.with_evidence(replace(results.evidence, classes=classes))
