"""What a head is given for a token: the effective embeddings of the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.errors import ParameterError
from analysis.norms import normalise
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

EMBEDDINGS = ("embedding", "mlp", "block")
"""Effective embeddings in use, as ``effective_embedding`` names them."""


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
    model: TransformerBridge, tokens: Int[Tensor, "n"], kind: str
) -> Float[Tensor, "n d_model"]:
    """A token's vector after the first block, in one of the ways in use.

    Args:
        model: readable (``check_readable``).
        tokens: token ids.
        kind: ``embedding``: ``W_E[s]``. ``mlp``: ``MLP₀(norm₀(W_E[s]))`` alone (MAPS). ``block``:
            ``W_E[s]`` with everything that the first block adds to it, its attention heads each
            attending to the token itself, biases included, no position (McDougall et al., arXiv
            2310.04625, section 3).

    Returns:
        float64, where float64 can be computed.
    """
    E, device = embedding_matrix(model), float64_device(model)
    x = torch.empty(len(tokens), E.shape[1], dtype=torch.float64, device=device)
    for part, of in zip(x.split(SOURCE_BLOCK), tokens.split(SOURCE_BLOCK), strict=True):
        if kind != "embedding":  # the last block is filled up with its last token
            of = torch.cat([of, of[-1:].expand(SOURCE_BLOCK - len(of))])
        embedded = E[of.to(E.device)].to(device).double()
        if kind == "mlp":
            embedded = _first_mlp(model, embedded)
        elif kind == "block":
            embedded = _first_block(model, embedded)
        part.copy_(embedded[: len(part)])
    return x


def _first_block(
    model: TransformerBridge, x: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_model"]:
    """The first block's output for sequences of one token."""
    attention = model.blocks[0].attn
    V, O = value_weights(model, 0).to(x), output_weights(model, 0).to(x)  # noqa: E741
    value = torch.einsum("nd,gdh->ngh", normalise(model, model.blocks[0].ln1, x), V)
    if attention.b_V is not None:
        value = value + attention.b_V.detach().to(x).view(V.shape[0], V.shape[2])
    value = value.repeat_interleave(O.shape[0] // V.shape[0], dim=1)
    written = torch.einsum("nhe,hed->nd", value, O)
    if attention.b_O is not None:
        written = written + attention.b_O.detach().to(x)
    mlp_input = x if model.cfg.parallel_attn_mlp else x + written
    return x + written + _first_mlp(model, mlp_input)


def _first_mlp(
    model: TransformerBridge, x: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_model"]:
    """The first block's norm and MLP, in float64, plain or gated."""
    from transformers.activations import ACT2FN

    mlp = model.blocks[0].mlp
    config: Any = model.original_model.config
    activation = ACT2FN[getattr(config, "activation_function", None) or config.hidden_act]

    def affine(x: Tensor, weight: str, bias: str) -> Tensor:
        y = x @ getattr(mlp, weight).detach().to(x)
        b = getattr(mlp, bias, None)
        return y if b is None else y + b.detach().to(x)

    x = normalise(model, getattr(model.blocks[0], MLP_NORM[str(model.cfg.architecture)]), x)
    hidden = affine(x, "W_in", "b_in")
    if model.cfg.gated_mlp:
        hidden = activation(affine(x, "W_gate", "b_gate")) * hidden
    else:
        hidden = activation(hidden)
    return affine(hidden, "W_out", "b_out")
