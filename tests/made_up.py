"""Results made up from numbers, for tests of what is drawn and said of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.head_scores import HeadScores
from analysis.identity import ModelIdentity
from analysis.names import TokenPairs

MODEL = ModelIdentity("m", "M")


def made_up_pairs(n: int, relation: str = "copying") -> TokenPairs:
    """N sources with themselves as targets, or for another relation with the next."""
    words, tokens = tuple(f"n{i}" for i in range(n)), tuple(range(n))
    shift = 0 if relation == "copying" else 1
    targets = words[shift:] + words[:shift]
    target_tokens = tokens[shift:] + tokens[:shift]
    return TokenPairs(words, targets, tokens, target_tokens, n, pd.DataFrame())


def scores_from_counts(
    n_top: np.ndarray,
    n_bottom: np.ndarray | None = None,
    *,
    n_pairs: int = 100,
    relation: str = "copying",
    model: ModelIdentity = MODEL,
    provenance: dict[str, object] | None = None,
) -> HeadScores:
    """Scores with these counts; the first so many pairs of each head count."""
    n_bottom = np.zeros_like(n_top) if n_bottom is None else n_bottom
    top, bottom = (np.arange(n_pairs) < counts[..., None] for counts in (n_top, n_bottom))
    pairs = made_up_pairs(n_pairs, relation)
    return HeadScores(top, bottom, pairs, 1, True, model, provenance or {})
