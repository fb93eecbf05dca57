"""What a head is given for a token: the effective embeddings of the papers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.errors import ParameterError
from analysis.first_block import FirstBlock, first_block
from analysis.norms import norm_parameters
from analysis.weights import (
    SOURCE_BLOCK,
    ReadableModel,
    block_norm,
    embedding_matrix,
    float64_device,
    output_weights,
    value_weights,
    weight_reader,
)

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
    model: ReadableModel, tokens: Int[Tensor, "n"], *, layer: int, first_mlp: bool = True
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
    model: ReadableModel, tokens: Int[Tensor, "n"], kind: str, *, folded: bool = False
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

    In a block with parallel attention and MLP (GPT-NeoX, GPT-J) the MLP reads ``W_E`` alone. ``W_E``
    is the embedding as it enters the first block: with the model's own scale (Gemma, Granite), norm
    (Bloom) or projection (OPT 350m), without position. ``MLP₀`` goes through the norm after the MLP
    where there is one (Gemma 2, OLMo 2); a constant that scales it (Granite) is left out.

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
    x = torch.empty(len(tokens), model.cfg.d_model, dtype=torch.float64, device=device)
    silent = kind in ("embedding", "mlp", "embedding_plus_mlp")
    block = first_block(
        weight_reader(model),
        "silent" if silent else "without biases",
        _norm_bias_written(model) if folded and not silent else None,
    )
    for part, of in zip(x.split(SOURCE_BLOCK), tokens.split(SOURCE_BLOCK), strict=True):
        # The last block is filled up with its last token.
        of = torch.cat([of, of[-1:].expand(SOURCE_BLOCK - len(of))])
        part.copy_(_vector(block, E[of.to(E.device)].to(device), kind)[: len(part)])
    return x


def _vector(
    block: FirstBlock, rows: Float[Tensor, "n d_embedding"], kind: str
) -> Float[Tensor, "n d_model"]:
    """The effective embedding of one kind for rows of the embedding matrix."""
    match kind:
        case "embedding":
            return block.embedded(rows)
        case "mlp":
            return block.mlp(rows)
        case "embedding_plus_mlp":
            return block.embedded(rows) + block.mlp(rows)
        case "block":
            return block.block(rows)
        case _:
            return block.block(rows) - block.embedded(rows)


def _norm_bias_written(model: ReadableModel) -> Float[Tensor, "d_model"] | None:
    """What the heads of layer 0 write for the bias of the norm before them, all together."""
    norm = block_norm(model, 0, "ln1")
    if norm is None:
        return None
    _, bias = norm_parameters(model, norm, float64_device(model))
    if bias is None:
        return None
    V, O = value_weights(model, 0).to(bias), output_weights(model, 0).to(bias)  # noqa: E741
    value = torch.einsum("d,gdh->gh", bias, V).repeat_interleave(len(O) // len(V), dim=0)
    return torch.einsum("he,hed->d", value, O)
