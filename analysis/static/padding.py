"""Rows of the vocabulary that are tokens, and those that only pad it to a round number."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from jaxtyping import Float
from torch import Tensor

from analysis.architecture.readable import ReadableModel
from analysis.models.tokenizer import highest_id
from analysis.weights import unembedding_matrix

_HIGHEST: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()
"""By tokenizer, how many tokens it had when it was asked, and the highest id then: to ask takes a
tenth of a second with a large vocabulary."""


def n_real_tokens(model: ReadableModel) -> int:
    """Rows of W_U up to the last that stands for a token of the model's tokenizer.

    Vocabularies are often padded at the end (Pythia: 50,304 rows for 50,277 tokens). Padding rows
    were never trained as tokens; as competitors they would take ranks from tokens that a model can
    say. Ids may have gaps, so that the highest one counts and not how many there are. A model
    without a tokenizer has no known padding.
    """
    d_vocab = int(unembedding_matrix(model).shape[1])
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return d_vocab
    n_tokens, highest = _HIGHEST.get(tokenizer, (-1, -1))
    if n_tokens != len(tokenizer):  # tokens can be added
        highest = highest_id(tokenizer)
        _HIGHEST[tokenizer] = len(tokenizer), highest
    return min(d_vocab, highest + 1)


def token_unembeddings(model: ReadableModel) -> Float[Tensor, "d_model n_tokens"]:
    """W_U without the columns that only pad the vocabulary, which ranks leave out too."""
    return unembedding_matrix(model)[:, : n_real_tokens(model)]
