"""Made-up scores of GPT-2 and of another model, for the figures."""

from __future__ import annotations

import numpy as np

from analysis.provenance import GPT2_SMALL, ModelIdentity
from analysis.static.head_scores import HeadScores
from tests.made_up import scores_from_counts

GPT2 = ModelIdentity(GPT2_SMALL, "GPT-2")
OTHER = ModelIdentity("smollm2-135m", "SmolLM2-135M-Instruct")


def scores_of(
    n_in_top_k: np.ndarray,
    n_in_bottom_k: np.ndarray | None = None,
    *,
    n_pairs: int = 100,
    relation: str = "copying",
    model: ModelIdentity = OTHER,
) -> HeadScores:
    return scores_from_counts(
        n_in_top_k, n_in_bottom_k, n_pairs=n_pairs, relation=relation, model=model
    )


def gpt2_scores(*suppressing: tuple[int, int]) -> HeadScores:
    top = np.full((12, 12), 10)
    bottom = np.zeros((12, 12), dtype=int)
    for head in suppressing:
        bottom[head] = 11
    return scores_of(top, bottom, model=GPT2)


def blank(n_layers: int, n_heads: int) -> HeadScores:
    return scores_of(np.zeros((n_layers, n_heads), dtype=int))
