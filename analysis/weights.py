"""The weights that the scores read: OV matrices, unembedding, and what enters them.

Everything is the model as published: nothing folded into other weights, nothing centred, no
attention biases, no final norm (MAPS, arXiv 2412.11965, section 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.architecture.model_parts import ModelPaths, model_paths, named_tensors
from analysis.architecture.norms import norm_parameters, takes_mean_away
from analysis.architecture.readable import ReadableModel, WeightReader
from analysis.errors import ArchitectureError, ModelError, WeightsError
from analysis.heads import chosen_heads

SOURCE_BLOCK = 512
"""Source tokens whose MLP activations are held at once, always this many: rounding may depend on
the number of rows, and a token's vector must not depend on which others are asked for."""

FINITE_BLOCK = 1 << 22
"""Numbers looked at together for NaN and infinity."""


@dataclass(frozen=True)
class LoadedWeights:
    """The weights of a loaded model by transformers' names; float64 is computed on ``device``."""

    paths: ModelPaths
    hf_config: Any
    tensors: Mapping[str, Tensor]
    device: torch.device

    def tensor(self, name: str) -> Tensor:
        """A parameter, where float64 is computed."""
        return self.tensors[name].to(self.device)


def weight_reader(model: ReadableModel) -> WeightReader:
    """The weights of a model by transformers' names; a checkpoint reads its own."""
    if hasattr(model, "tensor") and hasattr(model, "hf_config"):
        reader: Any = model
        return reader
    return LoadedWeights(
        model_paths(model.adapter),
        model.original_model.config,
        named_tensors(model.original_model),
        float64_device(model),
    )


def value_weights(model: ReadableModel, layer: int) -> Float[Tensor, "n_kv_heads d_model d_head"]:
    """W_V of one layer, a matrix for each key-value head."""
    return _per_head(model, layer, "W_V")


def output_weights(model: ReadableModel, layer: int) -> Float[Tensor, "n_heads d_head d_model"]:
    """W_O of one layer, a matrix for each head: from what the head mixes to the residual stream.

    In families whose attention is followed by a norm of its own (Gemma 2 and 3, OLMo 2, EXAONE 4,
    GLM-4) the norm stands between W_O and the residual stream. Its gain, a weight, multiplies W_O
    here (float64). Its scale is a positive number that depends on what all heads write together:
    it changes no order of logits, and like every norm's scale it is left out (MAPS, section 2).
    """
    W_O = attention_output_weights(model, layer)
    gain = attention_norm_gain(model, layer)
    return W_O if gain is None else W_O.to(gain) * gain


def attention_output_weights(
    model: ReadableModel, layer: int
) -> Float[Tensor, "n_heads d_head d_model"]:
    """W_O of one layer as the attention module itself holds it, a matrix for each head."""
    return _per_head(model, layer, "W_O")


def attention_norm_gain(model: ReadableModel, layer: int) -> Float[Tensor, "d_model"] | None:
    """Float64 gain of the norm between a layer's attention and the residual stream, if any."""
    norm = block_norm(model, layer, "ln1_post")
    return None if norm is None else norm_parameters(model, norm, float64_device(model))[0]


def block_norm(model: ReadableModel, layer: int, name: str) -> Any:
    """A norm of a block: ``ln1`` before its attention, ``ln1_post`` after it, ``ln2``; or None."""
    return dict(model.blocks[layer].named_children()).get(name)


def ov_weights(
    model: ReadableModel, layer: int, head: int
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]]:
    """W_V and W_O of one head in float64; with grouped queries, W_V is that of the head's group."""
    ((layer, head),) = chosen_heads(model, [(layer, head)])
    V, O = value_weights(model, layer), output_weights(model, layer)  # noqa: E741
    device = float64_device(model)
    group = O.shape[0] // V.shape[0]
    return V[head // group].to(device).double(), O[head].to(device).double()


def _per_head(model: ReadableModel, layer: int, name: str) -> Tensor:
    weight = getattr(model.blocks[layer].attn, name)
    if weight is None or weight.ndim != 3:
        raise ArchitectureError(
            f"{model.cfg.model_name}: {name} of layer {layer} cannot be read head by head."
        )
    return weight.detach()


def embedding_matrix(model: ReadableModel) -> Float[Tensor, "d_vocab d_embedding"]:
    """W_E, as wide as the residual stream but for models that project it (OPT 350m)."""
    return torch.as_tensor(model.W_E).detach()


def unembedding_matrix(model: ReadableModel) -> Float[Tensor, "d_model d_vocab"]:
    """W_U; where a projection stands before it (OPT 350m), the product of the two, in float32.

    A bias of the unembedding (GPT-J, Phi, CodeGen) is the same for every head and source, so the
    static scores leave it out like all others.
    """
    W_U = torch.as_tensor(model.W_U).detach()
    if W_U.shape[0] == model.cfg.d_model:
        return W_U
    out = weight_reader(model).tensor(projection_name(model))
    return (out.double().T @ W_U.to(out.device).double()).float().to(W_U.device)


def projection_name(model: ReadableModel) -> str:
    """The parameter that projects the residual stream to the width of the unembedding."""
    reader = weight_reader(model)
    name = reader.paths.embedding.rpartition(".")[0] + ".project_out.weight"
    try:
        reader.tensor(name)
    except (KeyError, ModelError):
        raise ArchitectureError(
            f"{model.cfg.model_name}: the unembedding is {model.W_U.shape[0]} wide, the residual "
            f"stream {model.cfg.d_model}, and no projection between them is known."
        ) from None
    return name


def folded_value_weights(
    model: ReadableModel, layer: int
) -> Float[Tensor, "n_kv_heads d_model d_head"]:
    """W_V of one layer with the norm before it folded in: scaled by its weight, and centred.

    A LayerNorm takes out its input's mean, so W_V sees the same with each column's mean gone; an
    RMSNorm does not. float32.
    """
    W_V, norm = value_weights(model, layer), block_norm(model, layer, "ln1")
    return torch.stack([_fold64(model, norm, W).float().to(W_V.device) for W in W_V])


def folded_unembedding(model: ReadableModel) -> Float[Tensor, "d_model d_vocab"]:
    """W_U with the final norm folded in, centred over the vocabulary; float32."""
    W_U = unembedding_matrix(model)
    rows = torch.empty(W_U.shape[1], W_U.shape[0], dtype=torch.float32, device=W_U.device)
    blocks = W_U.split(SOURCE_BLOCK, dim=1)
    total = torch.zeros(W_U.shape[0], dtype=torch.float64, device=float64_device(model))
    for block in blocks:
        total += _fold64(model, final_norm(model), block).sum(1)
    for block, some in zip(blocks, rows.split(SOURCE_BLOCK), strict=True):
        folded = _fold64(model, final_norm(model), block) - (total / len(rows))[:, None]
        some.copy_(folded.T.float())
    return rows.T


def final_norm(model: ReadableModel) -> Any:
    """The norm before the unembedding, or None where transformer_lens names none (OPT)."""
    return getattr(model, "ln_final", None)


def _fold64(
    model: ReadableModel, norm: Any, W: Float[Tensor, "d_model m"]
) -> Float[Tensor, "d_model m"]:
    """``W`` with the norm before it folded in; as it is where there is no such norm (OLMo 2)."""
    device = float64_device(model)
    W = W.to(device).double()
    if norm is None:
        return W
    folded = W * norm_parameters(model, norm, device)[0][:, None]
    return folded - folded.mean(0, keepdim=True) if takes_mean_away(model, norm) else folded


def float64_device(model: ReadableModel) -> torch.device:
    """The model's device where it computes float64, else the processor."""
    device = embedding_matrix(model).device
    return torch.device("cpu") if device.type == "mps" else device


def check_finite(model: ReadableModel) -> None:
    """Refuse NaN and infinity anywhere in the weights, naming the head or else the parameter."""
    for what, weight in _named_weights(model):
        if not is_finite(weight):
            raise WeightsError(
                f"{model.cfg.model_name}: {what} holds NaN or infinity; load an intact checkpoint."
            )


def _named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """What an error calls a weight, and the weight: those of heads first."""
    if not isinstance(model, torch.nn.Module):
        yield "W_U", unembedding_matrix(model)  # all else it looks at as it is read
        return
    bridge: Any = model
    named = bridge.original_model.named_parameters()
    suspects = {name: p.detach() for name, p in named if not is_finite(p.detach())}
    if not suspects:
        return
    for layer in range(bridge.cfg.n_layers):
        for name in ("W_V", "W_O", "W_Q", "W_K"):
            kind = "key-value head" if name in ("W_K", "W_V") else "head"
            for head, weight in enumerate(_per_head(bridge, layer, name)):
                yield f"{name} of layer {layer}, {kind} {head}", weight
        biases = bridge.blocks[layer].attn.b_V
        for head, bias in enumerate([] if biases is None else biases):
            yield f"b_V of layer {layer}, key-value head {head}", bias.detach()
    for name, p in suspects.items():
        yield name.replace("_original_component.", ""), p


def is_finite(weight: Tensor) -> bool:
    """Whether every number is finite; in blocks, for a sum is quicker than a mask."""
    for block in weight.reshape(-1).split(FINITE_BLOCK):
        if not bool(block.float().sum().isfinite()) and not bool(block.isfinite().all()):
            return False
    return True
