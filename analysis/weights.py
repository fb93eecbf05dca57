"""The weights that the scores read: OV matrices, unembedding, and what enters them.

Everything is the model as published: nothing folded into other weights, nothing centred, no
attention biases, no final norm (MAPS, arXiv 2412.11965, section 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.errors import ArchitectureError, WeightsError
from analysis.heads import check_heads
from analysis.validation import check_model

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


def embedding_matrix(model: TransformerBridge) -> Float[Tensor, "d_vocab d_model"]:
    """W_E."""
    return model.W_E.detach()


def unembedding_matrix(model: TransformerBridge) -> Float[Tensor, "d_model d_vocab"]:
    """W_U."""
    return model.W_U.detach()


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
    W_U = unembedding_matrix(model)
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


def float64_device(model: TransformerBridge) -> torch.device:
    """The model's device where it computes float64, else the processor."""
    device = embedding_matrix(model).device
    return torch.device("cpu") if device.type == "mps" else device


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
