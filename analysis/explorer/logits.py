"""All of a head's logits for what it writes, in float64, and the most extreme of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.exact.arithmetic import slices
from analysis.static.padding import n_real_tokens
from analysis.weights import unembedding_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

BLOCK = 4096
"""Tokens whose logits or vectors are held at once."""


def token_texts(model: TransformerBridge, tokens: Int[np.ndarray, "n"] | list[int]) -> list[str]:
    """The text of each token by itself."""
    return list(model.tokenizer.batch_decode([[int(token)] for token in tokens]))


def token_unembeddings(model: TransformerBridge) -> Float[Tensor, "d_model n_tokens"]:
    """W_U without the columns that only pad the vocabulary, which ranks leave out too."""
    return unembedding_matrix(model)[:, : n_real_tokens(model)]


def logits_of(
    written: Float[Tensor, "*n d_model"], W_U: Float[Tensor, "d_model d_vocab"]
) -> Float[Tensor, "*n d_vocab"]:
    """``written·W_U`` in float64, without a float64 copy of W_U."""
    logits = torch.empty(*written.shape[:-1], W_U.shape[1], dtype=torch.float64)
    for s in slices(W_U.shape[1], BLOCK):
        logits[..., s] = (written @ W_U[:, s].to(written.device).double()).cpu()
    return logits


def extreme_frames(
    model: TransformerBridge, logits: Float[Tensor, "d_vocab"], n: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The n tokens of the largest and of the smallest logits; equal ones in the order of their ids.

    Returns:
        Columns ``token`` (text) and ``logit`` (float64), the most extreme first.
    """
    frames = []
    for largest in (True, False):
        edge = logits.topk(n, largest=largest).values[-1]
        ids = (logits >= edge if largest else logits <= edge).nonzero()[:, 0]
        order = ids[logits[ids].argsort(descending=largest, stable=True)[:n]]
        texts = token_texts(model, order.tolist())
        frames.append(pd.DataFrame({"token": texts, "logit": logits[order].numpy()}))
    most, least = frames
    return most, least
