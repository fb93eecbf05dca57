"""What a head is given for a token: the effective embeddings of the papers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.architecture.blocks import Block, block_without_attention, block_without_biases
from analysis.architecture.float64 import HELD_BYTES
from analysis.architecture.readable import ReadableModel
from analysis.errors import WeightsError
from analysis.tokenizers import token_texts
from analysis.validation import check_choice
from analysis.weights import (
    SOURCE_BLOCK,
    check_finite,
    embedding_matrix,
    float64_device,
    is_finite,
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
    """Refuse a kind that ``effective_embedding`` does not know."""
    check_choice("embedding", kind, EMBEDDINGS)


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

    In a block with parallel attention and MLP (GPT-NeoX, GPT-J) the MLP reads ``W_E`` alone.

    All of it is what the model's own modules compute, in float64. So ``W_E`` is the embedding as it
    enters the first block: with the model's scale (Gemma, Granite), norm (Bloom) or projection (OPT
    350m). ``MLP₀`` ends with the norm after the MLP where there is one (Gemma 2, OLMo 2); a
    constant that scales what it adds (Granite) counts in the last two kinds only.

    Args:
        model: readable (``admit``).
        tokens: token ids.
        kind: one of ``EMBEDDINGS``.
        folded: whether the heads' weights have their norms folded in. Folding moves the norm's
            bias into ``b_V``, so ``A`` is then without it too.

    Returns:
        float64, where float64 can be computed. A token's vector is computed among always the same
        number of tokens, so it does not depend on which others are asked for; routed experts, which
        take their tokens out of these, keep it to 1e-12.

    Raises:
        WeightsError: a vector, or a weight that it is made of, holds NaN or infinity.
    """
    E, device = embedding_matrix(model), float64_device(model)
    reader = weight_reader(model)
    block = block_without_attention(reader, E.shape[1])
    attending = (
        block_without_biases(reader, E.shape[1], folded=folded)
        if kind in ("first_block_adds", "block")
        else None
    )
    x = torch.empty(len(tokens), model.cfg.d_model, dtype=torch.float64, device=device)
    for part, of in zip(x.split(SOURCE_BLOCK), tokens.split(SOURCE_BLOCK), strict=True):
        # The last block is filled up with its last token.
        of = torch.cat([of, of[-1:].expand(SOURCE_BLOCK - len(of))])
        rows = E[of.to(E.device)].to(device)
        part.copy_(_vectors(block, attending, rows, kind)[: len(part)])
    _check_vectors(model, tokens, x, kind)
    return x


def _check_vectors(
    model: ReadableModel, tokens: Int[Tensor, "n"], x: Float[Tensor, "n d_model"], kind: str
) -> None:
    """Refuse NaN and infinity, which would be among everyone's largest and smallest logits."""
    if is_finite(x):
        return
    check_finite(model)  # names the weight, where it is one
    token = int(tokens[~x.isfinite().all(1).to(tokens.device)][0])
    (text,) = token_texts(model.tokenizer, [token])
    raise WeightsError(
        f"{model.cfg.model_name}: the source vector ({kind}) of token {token} ({text!r:.200}) "
        "holds NaN or infinity though no weight does, as where a norm has no epsilon above 0; "
        "load an intact checkpoint, or mend its config.json."
    )


def _vectors(
    block: Block, attending: Block | None, rows: Float[Tensor, "n d_embedding"], kind: str
) -> Float[Tensor, "n d_model"]:
    """The effective embedding of one kind for rows of W_E."""
    if kind == "embedding":
        return block.embedded(rows)
    if attending is None:
        mlp = block.mlp(rows)
        return mlp if kind == "mlp" else block.embedded(rows) + mlp
    output = block.output(rows, attending.attended(rows))
    return output if kind == "block" else output - block.embedded(rows)


@torch.no_grad()
def mlp_output(
    model: ReadableModel, x: Float[Tensor, "n d_model"], layer: int
) -> Float[Tensor, "n d_model"]:
    """What a block's MLP adds to float64 residual streams ``x``, through its own norms."""
    d_embedding = embedding_matrix(model).shape[1]
    block = block_without_attention(weight_reader(model), d_embedding, layer, keep_bytes=HELD_BYTES)
    return torch.cat([block.mlp_of(part) for part in x.split(SOURCE_BLOCK)])


@torch.no_grad()
def mlp_reads_attention(model: ReadableModel) -> bool:
    """Whether a block's MLP reads what its heads write; not so in parallel blocks (GPT-NeoX).

    Found by running the first block with its attention made to write something.
    """
    E = embedding_matrix(model)
    block = block_without_attention(weight_reader(model), E.shape[1])
    rows = E[:1].to(float64_device(model))
    x, mlp = block.embedded(rows), block.mlp(rows)
    written = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype, device=x.device).square()[None]
    unmoved = block.output(rows, written) - x - written
    return not torch.allclose(unmoved, mlp, rtol=1e-9, atol=1e-9 * float(mlp.abs().max()))
