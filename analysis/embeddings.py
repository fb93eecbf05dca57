"""What a head is given for a token: the effective embeddings of the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.errors import ParameterError
from analysis.norms import norm_parameters, normalise
from analysis.weights import (
    MLP_NORM,
    SOURCE_BLOCK,
    embedding_matrix,
    float64_device,
    output_weights,
    value_weights,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

EMBEDDINGS = ("embedding", "mlp", "embedding_plus_mlp", "first_block_adds", "block")
"""Effective embeddings in use, as ``effective_embedding`` names and defines them."""


def embedding_at_layer(kind: str, layer: int) -> str:
    """The effective embedding that a head of ``layer`` reads where later heads read ``kind``.

    Heads of layer 0 run before the first MLP, so they read ``W_E``. The copy-suppression
    repository gives every layer the same vector, so ``first_block_adds`` holds for layer 0 too.
    """
    return kind if layer > 0 or kind == "first_block_adds" else "embedding"


@torch.no_grad()
def source_vectors(
    model: TransformerBridge, tokens: Int[Tensor, "n"], *, layer: int, first_mlp: bool = True
) -> Float[Tensor, "n d_model"]:
    """What a head of ``layer`` is given for each source token.

    ``W_E[s]`` in layer 0; ``MLP₀(norm₀(W_E[s]))`` in every later layer, or ``W_E[s]`` there too
    with ``first_mlp=False`` (MAPS, section 3.1).

    Returns:
        float64 on the model's device (on the processor for mps, which has no float64). All of it
        is computed in float64, whatever the weights' dtype.
    """
    return effective_embedding(
        model, tokens, embedding_at_layer("mlp" if first_mlp else "embedding", layer)
    )


def check_embedding(kind: str) -> None:
    """Refuse a kind that ``effective_embedding`` does not know.

    Raises:
        ParameterError: it is unknown.
    """
    if kind not in EMBEDDINGS:
        raise ParameterError(f"embedding must be one of {', '.join(EMBEDDINGS)}, not {kind!r}.")


@torch.no_grad()
def effective_embedding(
    model: TransformerBridge, tokens: Int[Tensor, "n"], kind: str, *, folded: bool = False
) -> Float[Tensor, "n d_model"]:
    """A token's vector after the first block, in one of the ways that papers define.

    With ``A`` the first block's attention where each token attends to itself alone, without
    positions, ``b_V`` and ``b_O``, and ``MLP₀`` the MLP with its norm and biases:

    ====================  ==================================  ====================================
    kind                  vector                              used by
    ====================  ==================================  ====================================
    embedding             W_E                                 MAPS for layer 0 (arXiv 2412.11965);
                                                              Elhage et al., 2021
    mlp                   MLP₀(W_E)                           MAPS for later layers, section 3.1
    embedding_plus_mlp    W_E + MLP₀(W_E)                     copy suppression (arXiv 2310.04625),
                                                              appendix
    first_block_adds      A(W_E) + MLP₀(W_E + A(W_E))         copy suppression, the authors'
                                                              repository: published mean ranks
                                                              (10.7: 114.888)
    block                 W_E + first_block_adds              copy suppression, OV ranks in
                                                              distribution (10.7: 116.82)
    ====================  ==================================  ====================================

    In a block with parallel attention and MLP (GPT-NeoX, GPT-J) the MLP reads ``W_E`` alone.

    Args:
        model: readable (``check_readable``).
        tokens: token ids.
        kind: one of ``EMBEDDINGS``.
        folded: whether the heads' weights have their norms folded in. Folding moves the norm's
            bias into ``b_V``, so ``A`` is then without it too.

    Returns:
        float64, where float64 can be computed.
    """
    E, device = embedding_matrix(model), float64_device(model)
    x = torch.empty(len(tokens), E.shape[1], dtype=torch.float64, device=device)
    for part, of in zip(x.split(SOURCE_BLOCK), tokens.split(SOURCE_BLOCK), strict=True):
        if kind != "embedding":  # the last block is filled up with its last token
            of = torch.cat([of, of[-1:].expand(SOURCE_BLOCK - len(of))])
        embedded = E[of.to(E.device)].to(device).double()
        part.copy_(_vector(model, embedded, kind, folded)[: len(part)])
    return x


def _vector(
    model: TransformerBridge, x: Float[Tensor, "n d_model"], kind: str, folded: bool
) -> Float[Tensor, "n d_model"]:
    """The effective embedding of one kind for token embeddings ``x``."""
    if kind == "embedding":
        return x
    if kind == "mlp":
        return mlp_output(model, x)
    if kind == "embedding_plus_mlp":
        return x + mlp_output(model, x)
    attended = _first_attention(model, x, folded)
    added = attended + mlp_output(model, x if model.cfg.parallel_attn_mlp else x + attended)
    return added if kind == "first_block_adds" else x + added


def _first_attention(
    model: TransformerBridge, x: Float[Tensor, "n d_model"], folded: bool
) -> Float[Tensor, "n d_model"]:
    """What the heads of layer 0 write where each token attends to itself, without biases."""
    V, O = value_weights(model, 0).to(x), output_weights(model, 0).to(x)  # noqa: E741
    norm = model.blocks[0].ln1
    normed = normalise(model, norm, x)
    if folded:
        bias = norm_parameters(model, norm, x.device)[1]
        normed = normed if bias is None else normed - bias
    value = torch.einsum("nd,gdh->ngh", normed, V)
    value = value.repeat_interleave(O.shape[0] // V.shape[0], dim=1)
    return torch.einsum("nhe,hed->nd", value, O)


def mlp_output(
    model: TransformerBridge, x: Float[Tensor, "n d_model"], layer: int = 0
) -> Float[Tensor, "n d_model"]:
    """A block's norm and MLP of float64 ``x``, plain or gated."""
    from transformers.activations import ACT2FN

    block = model.blocks[layer]
    mlp = block.mlp
    config: Any = model.original_model.config
    activation = ACT2FN[getattr(config, "activation_function", None) or config.hidden_act]

    def affine(x: Tensor, weight: str, bias: str) -> Tensor:
        y = x @ getattr(mlp, weight).detach().to(x)
        b = getattr(mlp, bias, None)
        return y if b is None else y + b.detach().to(x)

    x = normalise(model, getattr(block, MLP_NORM[str(model.cfg.architecture)]), x)
    hidden = affine(x, "W_in", "b_in")
    if model.cfg.gated_mlp:
        hidden = activation(affine(x, "W_gate", "b_gate")) * hidden
    else:
        hidden = activation(hidden)
    return affine(hidden, "W_out", "b_out")
