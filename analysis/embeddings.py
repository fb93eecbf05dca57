"""What a head is given for a token: the effective embeddings of the papers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.errors import ParameterError
from analysis.first_block import first_block
from analysis.weights import (
    SOURCE_BLOCK,
    ReadableModel,
    embedding_matrix,
    float64_device,
    weight_reader,
)

EMBEDDINGS = ("embedding", "mlp", "block")
"""Effective embeddings in use, as ``effective_embedding`` names them."""


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
    kind = "mlp" if layer > 0 and first_mlp else "embedding"
    return effective_embedding(model, tokens, kind)


def check_embedding(kind: str) -> None:
    """Refuse a kind that ``effective_embedding`` does not know.

    Raises:
        ParameterError: it is unknown.
    """
    if kind not in EMBEDDINGS:
        raise ParameterError(f"embedding must be one of {', '.join(EMBEDDINGS)}, not {kind!r}.")


@torch.no_grad()
def effective_embedding(
    model: ReadableModel, tokens: Int[Tensor, "n"], kind: str
) -> Float[Tensor, "n d_model"]:
    """A token's vector after the first block, in one of the ways in use.

    Args:
        model: readable (``check_readable``).
        tokens: token ids.
        kind: ``embedding``: ``W_E[s]`` as it enters the first block: with the model's own scale
            (Gemma, Granite), norm (Bloom) or projection (OPT 350m), without position. ``mlp``:
            ``MLP₀(norm₀(W_E[s]))`` alone (MAPS), through a norm after the MLP where there is one
            (Gemma 2, OLMo 2); a constant that scales it (Granite) is left out. ``block``:
            ``W_E[s]`` with everything that the first block adds to it, its attention heads each
            attending to the token itself, biases included, no position (McDougall et al., arXiv
            2310.04625, section 3).

    Returns:
        float64, where float64 can be computed.
    """
    E, device = embedding_matrix(model), float64_device(model)
    x = torch.empty(len(tokens), model.cfg.d_model, dtype=torch.float64, device=device)
    block = first_block(weight_reader(model), "as it is" if kind == "block" else "silent")
    run = {"embedding": block.embedded, "mlp": block.mlp, "block": block.block}[kind]
    for part, of in zip(x.split(SOURCE_BLOCK), tokens.split(SOURCE_BLOCK), strict=True):
        # The last block is filled up with its last token.
        of = torch.cat([of, of[-1:].expand(SOURCE_BLOCK - len(of))])
        part.copy_(run(E[of.to(E.device)].to(device))[: len(part)])
    return x
