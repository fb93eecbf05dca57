"""Results made up from numbers, for tests of what is drawn and said of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.names import TokenPairs
from analysis.provenance import ModelIdentity
from analysis.static.head_scores import HeadScores

MODEL = ModelIdentity("m", "M")


def made_up_pairs(n: int, relation: str = "copying") -> TokenPairs:
    """N sources with themselves as targets, or for another relation with the next."""
    words, tokens = tuple(f"n{i}" for i in range(n)), tuple(range(n))
    shift = 0 if relation == "copying" else 1
    targets = words[shift:] + words[:shift]
    target_tokens = tokens[shift:] + tokens[:shift]
    return TokenPairs(words, targets, tokens, target_tokens, n, pd.DataFrame())


def scores_from_counts(
    n_in_top_k: np.ndarray,
    n_in_bottom_k: np.ndarray | None = None,
    *,
    n_pairs: int = 100,
    relation: str = "copying",
    model: ModelIdentity = MODEL,
    provenance: dict[str, object] | None = None,
) -> HeadScores:
    """Scores with these counts; the first so many pairs of each head count."""
    n_in_bottom_k = np.zeros_like(n_in_top_k) if n_in_bottom_k is None else n_in_bottom_k
    top, bottom = (np.arange(n_pairs) < counts[..., None] for counts in (n_in_top_k, n_in_bottom_k))
    pairs = made_up_pairs(n_pairs, relation)
    return HeadScores(top, bottom, pairs, 1, True, model, provenance or {})
