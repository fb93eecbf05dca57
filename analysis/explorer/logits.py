"""The most extreme of a head's logits, as the explorer shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from analysis.static.padding import n_real_tokens
from analysis.static.top_tokens import extreme_ids
from analysis.tokenizers import token_texts
from analysis.weights import unembedding_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def token_unembeddings(model: TransformerBridge) -> Float[Tensor, "d_model n_tokens"]:
    """W_U without the columns that only pad the vocabulary, which ranks leave out too."""
    return unembedding_matrix(model)[:, : n_real_tokens(model)]


def extreme_frames(
    model: TransformerBridge, logits: Float[Tensor, "d_vocab"], n: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The n tokens of the largest and of the smallest logits; equal ones in the order of their ids.

    Returns:
        Columns ``token`` (text) and ``logit`` (float64), the most extreme first.
    """
    frames = []
    for largest in (True, False):
        ids = extreme_ids(logits, n, largest=largest)
        texts = token_texts(model.tokenizer, ids.tolist())
        frames.append(pd.DataFrame({"token": texts, "logit": logits[ids].numpy()}))
    most, least = frames
    return most, least


def side_by_side(most: pd.DataFrame, least: pd.DataFrame) -> pd.DataFrame:
    """Both of ``extreme_frames`` in one table, the tokens quoted so that their spaces are seen."""
    both = {"most": most, "least": least}
    quoted = {end: part.assign(token=part["token"].map(repr)) for end, part in both.items()}
    return pd.concat(quoted, axis=1)
