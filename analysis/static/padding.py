"""Rows of the vocabulary that are tokens, and those that only pad it to a round number."""

from __future__ import annotations

from analysis.architecture.readable import ReadableModel
from analysis.weights import unembedding_matrix


def n_real_tokens(model: ReadableModel) -> int:
    """Rows of W_U that stand for a token of the model's tokenizer; the rest are padding.

    Vocabularies are often padded at the end (Pythia: 50,304 rows for 50,277 tokens). Padding rows
    were never trained as tokens; as competitors they would take ranks from tokens that a model can
    say. A model without a tokenizer has no known padding.
    """
    d_vocab = int(unembedding_matrix(model).shape[1])
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return d_vocab
    added = max(getattr(tokenizer, "added_tokens_decoder", {}), default=-1)
    return min(d_vocab, max(len(tokenizer), added + 1))
