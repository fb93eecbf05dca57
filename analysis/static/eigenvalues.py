"""The eigenvalue copying score of a head's full OV circuit.

``W_E·W_V·W_O·W_U`` maps tokens to logits; a head copies in general where its eigenvalues are
positive. The score is ``Re(Σλ)/Σ|λ|``, from -1 to 1 (Elhage et al., *A Mathematical Framework for
Transformer Circuits*, 2021, "Summarizing OV/QK matrices").
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from analysis.architecture.readable import ModelOrName, ReadableModel
from analysis.embeddings import check_embedding, effective_embedding, embedding_at_layer
from analysis.exact.arithmetic import slices
from analysis.heads import all_heads, head_index
from analysis.models.admission import admit
from analysis.models.open_checkpoint import readable_model
from analysis.progress import progress_bar
from analysis.static.padding import n_real_tokens
from analysis.validation import check_flag
from analysis.weights import (
    check_finite,
    float64_device,
    folded_unembedding,
    folded_value_weights,
    output_weights,
    unembedding_matrix,
    value_weights,
)

BLOCK = 4096
"""Tokens whose vectors are held at once."""


@torch.no_grad()
def eigenvalue_scores(
    model: ModelOrName, *, embedding: str = "embedding", folded: bool = False
) -> pd.DataFrame:
    """Eigenvalue copying score of every head.

    The d_vocab × d_vocab circuit has the nonzero eigenvalues of the d_head × d_head matrix
    ``W_O·(W_U·W_E)·W_V``, which is what is decomposed, in float64. Rows that only pad the
    vocabulary are no tokens, and are left out.

    Args:
        model: raw weights, from ``load_model``; or a name or folder, read layer by layer.
        embedding: what stands for W_E: ``embedding`` (W_E itself, as Elhage et al. take it),
            ``mlp``, ``embedding_plus_mlp``, ``first_block_adds`` or ``block``
            (``analysis.embeddings``).
        folded: fold norms into W_V and W_U and centre them.

    Returns:
        float64 column ``eigenvalue_score`` in [-1, 1], indexed by ``layer`` and ``head``; 0 for a
        head all of whose eigenvalues are 0.

    Raises:
        ParameterError: the embedding is unknown.
        ArchitectureError: the model's weights would be misread.
        WeightsError: a weight is NaN or infinite.
    """
    model = readable_model(model)
    admit(model)
    check_embedding(embedding)
    check_flag("folded", folded)
    check_finite(model)
    W_U = (folded_unembedding if folded else unembedding_matrix)(model)[:, : n_real_tokens(model)]
    if folded:
        W_U = W_U - W_U.mean(dim=1, keepdim=True)  # over these tokens alone
    value = folded_value_weights if folded else value_weights
    device = float64_device(model)
    scores = np.zeros((model.cfg.n_layers, model.cfg.n_heads))
    kind, M = "", torch.empty(0)
    for layer in range(model.cfg.n_layers):
        needed = embedding_at_layer(embedding, layer)
        if kind != needed:
            kind, M = needed, _token_to_logit(model, W_U, needed, folded)
        W_V = value(model, layer).to(device).double()
        W_O = output_weights(model, layer).to(device).double()
        W_V = W_V.repeat_interleave(len(W_O) // len(W_V), dim=0)
        eigenvalues = torch.linalg.eigvals((W_O @ M @ W_V).cpu())
        total = eigenvalues.abs().sum(1)
        scores[layer] = torch.where(total > 0, eigenvalues.sum(1).real / total, 0.0).numpy()
    index = head_index(all_heads(*scores.shape))
    return pd.DataFrame({"eigenvalue_score": scores.ravel()}, index=index)


def _token_to_logit(
    model: ReadableModel, W_U: torch.Tensor, kind: str, folded: bool
) -> torch.Tensor:
    """``W_U·X`` for the effective embeddings X of all tokens, float64 ``[d_model, d_model]``."""
    total = torch.zeros(())
    n_tokens = W_U.shape[1]
    with progress_bar(n_tokens, f"embedding tokens ({kind})", "token") as bar:
        for s in slices(n_tokens, BLOCK):
            tokens = torch.arange(s.start, s.stop)
            x = effective_embedding(model, tokens, kind, folded=folded)
            total = total.to(x) + W_U[:, s].to(x) @ x
            bar.update(len(tokens))
    return total
