"""The weights that the scores read: OV matrices, unembedding, and what enters them.

Everything is the model as published: nothing folded into other weights, nothing centred, no
attention biases, no final norm (MAPS, arXiv 2412.11965, section 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.checks import check_heads, check_model
from analysis.errors import ArchitectureError, ParameterError, WeightsError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MLP_NORM = {
    "GPT2LMHeadModel": "ln2",
    "GPTNeoXForCausalLM": "ln2",
    "GPTJForCausalLM": "ln1",  # one norm feeds the attention and the MLP
    "LlamaForCausalLM": "ln2",
    "MistralForCausalLM": "ln2",
    "Qwen2ForCausalLM": "ln2",
}
"""Architectures that are read rightly (the tests hold each against plain Hugging Face modules),
and the norm of a block that feeds its MLP."""

EMBEDDINGS = ("embedding", "mlp", "block")
"""Effective embeddings in use, as ``effective_embedding`` names them."""

SOURCE_BLOCK = 512
"""Source tokens whose MLP activations are held at once, always so many: rounding may depend on the
number of rows, and a token's vector must not depend on which others are asked for."""

FINITE_BLOCK = 1 << 22
"""Numbers looked at together for NaN and infinity."""


def check_readable(model: TransformerBridge) -> None:
    """Refuse a model whose weights these functions would not read rightly.

    Raises:
        ArchitectureError: the architecture is not one of ``MLP_NORM``, the model has no attention
            heads, or its weights were folded or centred (``enable_compatibility_mode``).
    """
    check_model(model)
    architecture = str(model.cfg.architecture)
    if architecture not in MLP_NORM:
        raise ArchitectureError(
            f"{model.cfg.model_name} is a {architecture}, whose first MLP and norms are not known "
            f"to be read rightly here; the scores know {', '.join(MLP_NORM)}."
        )
    if model.compatibility_mode or model._weights_processed:
        raise ArchitectureError(
            f"{model.cfg.model_name} has processed weights (folded or centred by TransformerLens); "
            "the scores are defined on raw weights: load the model again with load_model."
        )
    if model.cfg.n_layers < 1 or model.cfg.n_heads < 1:
        raise ArchitectureError(f"{model.cfg.model_name} has no attention heads to score.")
    for layer in range(model.cfg.n_layers):
        V, O = value_weights(model, layer), output_weights(model, layer)  # noqa: E741
        n_kv, d_model, d_head = V.shape
        if n_kv == 0 or O.shape[0] % n_kv or O.shape[1:] != (d_head, d_model):
            raise ArchitectureError(
                f"{model.cfg.model_name}: W_V of layer {layer} has shape {tuple(V.shape)} and W_O "
                f"{tuple(O.shape)}, which do not make attention heads."
            )


def check_runnable(model: TransformerBridge) -> None:
    """Refuse a model that cannot be read, or that would run differently each time.

    Raises:
        ArchitectureError: as ``check_readable``, or the model is in training mode, where dropout
            changes what heads write.
    """
    check_readable(model)
    if any(module.training for module in model.original_model.modules()):
        raise ArchitectureError(
            f"{model.cfg.model_name} is in training mode, where dropout changes what heads write: "
            "call model.eval() first."
        )


def value_weights(
    model: TransformerBridge, layer: int
) -> Float[Tensor, "n_kv_heads d_model d_head"]:
    """W_V of one layer, a matrix for each key-value head."""
    return _per_head(model, layer, "W_V")


def output_weights(model: TransformerBridge, layer: int) -> Float[Tensor, "n_heads d_head d_model"]:
    """W_O of one layer, a matrix for each head."""
    return _per_head(model, layer, "W_O")


def ov_weights(
    model: TransformerBridge, layer: int, head: int
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]]:
    """W_V and W_O of one head in float64; with grouped queries, W_V is that of the head's group.

    Raises:
        ParameterError: the head does not exist.
    """
    ((layer, head),) = check_heads([(layer, head)], model.cfg.n_layers, model.cfg.n_heads)
    V, O = value_weights(model, layer), output_weights(model, layer)  # noqa: E741
    device = float64_device(model)
    group = O.shape[0] // V.shape[0]
    return V[head // group].to(device).double(), O[head].to(device).double()


def _per_head(model: TransformerBridge, layer: int, name: str) -> Tensor:
    weight = getattr(model.blocks[layer].attn, name)
    if weight is None or weight.ndim != 3:
        raise ArchitectureError(
            f"{model.cfg.model_name}: {name} of layer {layer} cannot be read head by head."
        )
    return weight.detach()


def embedding(model: TransformerBridge) -> Float[Tensor, "d_vocab d_model"]:
    """W_E."""
    return model.W_E.detach()


def unembedding(model: TransformerBridge) -> Float[Tensor, "d_model d_vocab"]:
    """W_U."""
    return model.W_U.detach()


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
    E, device = embedding(model), float64_device(model)
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


def folded_value_weights(
    model: TransformerBridge, layer: int
) -> Float[Tensor, "n_kv_heads d_model d_head"]:
    """W_V of one layer with the norm before it folded in: scaled by its weight, and centred.

    A LayerNorm takes out its input's mean, so W_V sees the same with each column's mean gone; an
    RMSNorm does not. float32.
    """
    W_V = value_weights(model, layer)
    return torch.stack([_fold(model, model.blocks[layer].ln1, W).to(W_V.device) for W in W_V])


def folded_unembedding(model: TransformerBridge) -> Float[Tensor, "d_model d_vocab"]:
    """W_U with the final norm folded in, centred over the vocabulary; float32."""
    W_U = unembedding(model)
    rows = torch.empty(W_U.shape[1], W_U.shape[0], dtype=torch.float32, device=W_U.device)
    blocks = [slice(start, start + SOURCE_BLOCK) for start in range(0, len(rows), SOURCE_BLOCK)]
    total = torch.zeros(W_U.shape[0], dtype=torch.float64, device=float64_device(model))
    for s in blocks:
        total += _fold64(model, model.ln_final, W_U[:, s]).sum(1)
    for s in blocks:
        folded = _fold64(model, model.ln_final, W_U[:, s]) - (total / len(rows))[:, None]
        rows[s] = folded.T.float().to(rows.device)
    return rows.T


def _fold(
    model: TransformerBridge, norm: Any, W: Float[Tensor, "d_model m"]
) -> Float[Tensor, "d_model m"]:
    return _fold64(model, norm, W).float()


def _fold64(
    model: TransformerBridge, norm: Any, W: Float[Tensor, "d_model m"]
) -> Float[Tensor, "d_model m"]:
    device = float64_device(model)
    folded = W.to(device).double() * norm.weight.detach().to(device).double()[:, None]
    return folded if model.cfg.uses_rms_norm else folded - folded.mean(0, keepdim=True)


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


def float64_device(model: TransformerBridge) -> torch.device:
    """The model's device where it computes float64, else the processor."""
    device = embedding(model).device
    return torch.device("cpu") if device.type == "mps" else device


def normalise(
    model: TransformerBridge, norm: Any, x: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"]:
    """LayerNorm or RMSNorm of float64 ``x``; Hugging Face's RMSNorm falls back to float32."""
    gain, bias = norm_parameters(model, norm, x.device)
    eps = float(model.cfg.eps)
    if model.cfg.uses_rms_norm:
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gain
    return torch.nn.functional.layer_norm(x, gain.shape, gain, bias, eps)


def norm_parameters(
    model: TransformerBridge, norm: Any, device: torch.device
) -> tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"] | None]:
    """Gain and bias of a norm in float64; RMSNorm has no bias."""
    gain = norm.weight.detach().to(device).double()
    if model.cfg.uses_rms_norm or norm.bias is None:
        return gain, None
    return gain, norm.bias.detach().to(device).double()


def centred(
    model: TransformerBridge, x: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"]:
    """What the model's norms make of ``x`` before they scale it: LayerNorm takes the mean away."""
    return x if model.cfg.uses_rms_norm else x - x.mean(-1, keepdim=True)


def check_finite(model: TransformerBridge) -> None:
    """Refuse NaN and infinity anywhere in the weights.

    Raises:
        WeightsError: names the layer and head, or the parameter where no head owns it.
    """
    suspects = {
        name: p.detach()
        for name, p in model.original_model.named_parameters()
        if not _is_finite(p.detach())
    }
    if not suspects:
        return
    for layer in range(model.cfg.n_layers):
        for name in ("W_V", "W_O", "W_Q", "W_K"):
            for head, weight in enumerate(_per_head(model, layer, name)):
                if not _is_finite(weight):
                    kind = "key-value head" if name in ("W_K", "W_V") else "head"
                    raise WeightsError(
                        f"{model.cfg.model_name}: {name} of layer {layer}, {kind} {head} holds NaN "
                        "or infinity; load an intact checkpoint."
                    )
        biases = model.blocks[layer].attn.b_V
        for head, bias in enumerate([] if biases is None else biases):
            if not _is_finite(bias.detach()):
                raise WeightsError(
                    f"{model.cfg.model_name}: b_V of layer {layer}, key-value head {head} holds "
                    "NaN or infinity; load an intact checkpoint."
                )
    for name, p in suspects.items():
        if not _is_finite(p):
            parameter = name.replace("_original_component.", "")
            raise WeightsError(
                f"{model.cfg.model_name}: {parameter} holds NaN or infinity; load an intact "
                "checkpoint."
            )


def _is_finite(weight: Tensor) -> bool:
    """Whether every number is; blocks at a time, for a sum is sooner had than a mask."""
    for block in weight.reshape(-1).split(FINITE_BLOCK):
        if not bool(block.float().sum().isfinite()) and not bool(block.isfinite().all()):
            return False
    return True
