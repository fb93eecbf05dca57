"""The parts of a family's tiny model, written out by hand from Hugging Face's parameters.

Nothing here goes through transformer_lens or ``analysis``: where a family keeps its values, what
its norms compute, which of them stand where, is written down once more, as formulas in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import layer_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn
    from transformers import PreTrainedModel

NORM_BEFORE_MLP = {
    "gpt2": "ln_2",
    "gpt_bigcode": "ln_2",
    "gpt_neo": "ln_2",
    "gptj": "ln_1",
    "codegen": "ln_1",
    "opt": "final_layer_norm",
    "mpt": "norm_2",
    "phi": "input_layernorm",
    "cohere": "input_layernorm",
    "cohere2": "input_layernorm",
    "gemma2": "pre_feedforward_layernorm",
    "gemma3_text": "pre_feedforward_layernorm",
    "olmo2": None,
    "olmo3": None,
    "exaone4": None,
}
"""``post_attention_layernorm`` for all others."""
NORM_AFTER = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo3": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "exaone4": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "glm4": ("post_self_attn_layernorm", "post_mlp_layernorm"),
}
"""Norms after the attention and after the MLP."""
ONE_PLUS_W = {"gemma", "gemma2", "gemma3_text", "nemotron"}
RMS = {
    *("llama", "mistral", "ministral3", "mixtral", "qwen2", "qwen3", "qwen3_moe", "phi3"),
    *("olmo2", "olmo3", "olmoe", "gemma", "gemma2", "gemma3_text", "smollm3", "granite"),
    *("glm", "glm4", "seed_oss", "arcee", "exaone4", "gpt_oss"),
}
"""Families with RMSNorm; all others have a LayerNorm."""


def layers(model: PreTrainedModel) -> Any:
    """The model's blocks."""
    inner = getattr(model, model.base_model_prefix)
    inner = getattr(inner, "decoder", inner)
    return next(getattr(inner, name) for name in ("h", "layers", "blocks") if hasattr(inner, name))


def n_heads(model: PreTrainedModel) -> int:
    """Attention heads of a layer."""
    config = model.config
    return config.n_heads if config.model_type == "mpt" else config.num_attention_heads


def norm(model: PreTrainedModel, module: nn.Module, x: Tensor) -> Tensor:
    """One of the model's norms, as a formula."""
    kind = model.config.model_type
    names = ("eps", "variance_epsilon")
    eps = next((getattr(module, name) for name in names if hasattr(module, name)), 1e-5)
    weight: Any = getattr(module, "weight", None)
    gain = torch.ones(x.shape[-1]).double() if weight is None else weight.double()
    gain = 1 + gain if kind in ONE_PLUS_W else gain
    if kind in RMS:
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain
    bias: Any = getattr(module, "bias", None)
    return layer_norm(x, x.shape[-1:], gain, None if bias is None else bias.double(), eps)


def embedded(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """What enters the first block for each token, positions left out."""
    table: Any = model.get_input_embeddings()
    x = table.weight[tokens].double()
    match model.config.model_type:
        case "gemma" | "gemma2" | "gemma3_text":
            return x * model.config.hidden_size**0.5
        case "granite":
            return x * model.config.embedding_multiplier
        case "bloom":
            return norm(model, model.transformer.word_embeddings_layernorm, x)
        case "opt" if model.model.decoder.project_in is not None:
            return x @ model.model.decoder.project_in.weight.double().T
    return x


def first_mlp(model: PreTrainedModel, x: Tensor) -> Tensor:
    """What the first MLP adds to a residual stream ``x`` to which no attention was added."""
    block: Any = layers(model)[0]
    kind, config = model.config.model_type, model.config
    name = NORM_BEFORE_MLP.get(kind, "post_attention_layernorm")
    if (kind == "falcon" and config.parallel_attn) or (
        kind == "stablelm" and (config.use_parallel_residual)
    ):
        name = "input_layernorm"
    if kind == "opt" and not config.do_layer_norm_before:
        name = "self_attn_layer_norm"
    x = x if name is None else norm(model, getattr(block, name), x)
    x = _mlp(model, block, x)
    return norm(model, getattr(block, NORM_AFTER[kind][1]), x) if kind in NORM_AFTER else x


def _mlp(model: PreTrainedModel, block: Any, x: Tensor) -> Tensor:
    """The MLP in float64, by its own linear layers; experts by the module itself."""
    kind = model.config.model_type
    match kind:
        case "opt":
            return _linear(block.fc2, block.activation_fn(_linear(block.fc1, x)))
        case "bloom":
            hidden = _linear(block.mlp.dense_h_to_4h, x)
            return _linear(
                block.mlp.dense_4h_to_h, torch.nn.functional.gelu(hidden, approximate="tanh")
            )
        case "mpt":
            hidden = torch.nn.functional.gelu(_linear(block.ffn.up_proj, x))
            return _linear(block.ffn.down_proj, hidden)
    mlp = block.mlp.double()
    found = mlp(x[None])
    mlp.float()
    return (found[0] if isinstance(found, tuple) else found)[0].double()


def _linear(module: nn.Module, x: Tensor) -> Tensor:
    weight: Any = module.weight
    bias: Any = module.bias
    y = x @ weight.double().T
    return y if bias is None else y + bias.double()


def attention_of(model: PreTrainedModel, layer: int) -> Any:
    """The attention module that holds the projections."""
    block: Any = layers(model)[layer]
    if model.config.model_type == "gpt_neo":
        return block.attn.attention
    names = ("attn", "attention", "self_attn", "self_attention")
    return next(getattr(block, name) for name in names if hasattr(block, name))


def value_matrices(model: PreTrainedModel, layer: int) -> Tensor:
    """W_V of every key-value head, ``[n_kv, d_model, d_head]``, a view of the model's parameter."""
    attention, config = attention_of(model, layer), model.config
    heads = n_heads(model)
    kv = getattr(config, "num_key_value_heads", None) or heads
    match config.model_type:
        case "gpt2":  # columns: queries, keys, values
            return attention.c_attn.weight.unflatten(1, (3, heads, -1))[:, 2].transpose(0, 1)
        case "gpt_bigcode":  # rows: queries of all heads, one key, one value
            d_head = config.hidden_size // heads
            return attention.c_attn.weight[-d_head:].T[None]
        case "gpt_neox":  # rows: a head's query, key, value, then the next head's
            return attention.query_key_value.weight.unflatten(0, (heads, 3, -1))[:, 2].mT
        case "bloom":
            return attention.query_key_value.weight.unflatten(0, (heads, 3, -1))[:, 2].mT
        case "falcon":
            if config.multi_query:  # rows: queries of all heads, one key, one value
                return attention.query_key_value.weight.unflatten(0, (heads + 2, -1))[-1:].mT
            return attention.query_key_value.weight.unflatten(0, (heads, 3, -1))[:, 2].mT
        case "mpt":  # rows: queries, keys, values
            return attention.Wqkv.weight.unflatten(0, (3, heads, -1))[2].mT
        case "phi3":  # rows: queries, fewer keys, fewer values
            d_head = config.hidden_size // heads
            return attention.qkv_proj.weight[-kv * d_head :].unflatten(0, (kv, -1)).mT
        case "codegen":  # rows: four parts, each with queries, values, keys
            return attention.qkv_proj.weight.unflatten(0, (heads, 3, -1))[:, 1].mT
    return attention.v_proj.weight.unflatten(0, (kv, -1)).mT


def output_matrices(model: PreTrainedModel, layer: int) -> Tensor:
    """W_O of every head, ``[n_heads, d_head, d_model]``, a view of the model's parameter."""
    attention, heads = attention_of(model, layer), n_heads(model)
    if model.config.model_type == "gpt2":
        return attention.c_proj.weight.unflatten(0, (heads, -1))
    names = ("o_proj", "out_proj", "dense", "c_proj")
    weight = next(getattr(attention, name) for name in names if hasattr(attention, name)).weight
    return weight.unflatten(1, (heads, -1)).permute(1, 2, 0)


def attention_gain(model: PreTrainedModel, layer: int) -> Tensor:
    """Gain of the norm after a layer's attention, ``[d_model]``; ones where there is none."""
    kind = model.config.model_type
    if kind not in NORM_AFTER:
        return torch.ones(model.config.hidden_size, dtype=torch.float64)
    weight: Any = getattr(layers(model)[layer], NORM_AFTER[kind][0]).weight.double()
    return 1 + weight if kind in ONE_PLUS_W else weight


def unembedding(model: PreTrainedModel) -> Tensor:
    """W_U ``[d_model, d_vocab]``, through a projection where there is one."""
    head: Any = model.get_output_embeddings()
    W_U = head.weight.double().T
    out = getattr(getattr(getattr(model, "model", None), "decoder", None), "project_out", None)
    return W_U if out is None else out.weight.double().T @ W_U


@torch.no_grad()
def logits_of_heads(model: PreTrainedModel, tokens: Tensor, *, first_mlp_too: bool) -> Tensor:
    """Every logit of every head: ``[n_layers, n_heads, n_tokens, d_vocab]``, float64."""
    first = embedded(model, tokens)
    later = first_mlp(model, first) if first_mlp_too else first
    W_U, found = unembedding(model), []
    for layer in range(len(layers(model))):
        x = later if layer else first
        W_V, W_O = value_matrices(model, layer).double(), output_matrices(model, layer).double()
        W_O = W_O * attention_gain(model, layer)
        heads = range(len(W_O))
        group = len(W_O) // len(W_V)
        found.append(torch.stack([x @ W_V[h // group] @ W_O[h] @ W_U for h in heads]))
    return torch.stack(found)


@torch.no_grad()
def plant(
    model: PreTrainedModel,
    sources: Tensor,
    copying: Sequence[tuple[int, int]],
    suppressing: Sequence[tuple[int, int]],
) -> None:
    """Let some heads write each source most and others write it least (see ``tests.planted``)."""
    table: Any = model.get_output_embeddings()
    other = torch.ones(len(table.weight), dtype=torch.bool)
    other[sources] = False
    table.weight[other] *= 0.1
    first = embedded(model, sources)
    later = first_mlp(model, first)
    d_head = output_matrices(model, 0).shape[1]
    codes = torch.randn(len(sources), d_head, generator=torch.Generator().manual_seed(0)).double()
    codes /= codes.norm(dim=1, keepdim=True)
    written = codes.T @ torch.linalg.pinv(unembedding(model)[:, sources])
    signs = dict.fromkeys(copying, 1) | dict.fromkeys(suppressing, -1)
    for (layer, head), sign in signs.items():
        W_V, W_O = value_matrices(model, layer), output_matrices(model, layer)
        group = len(W_O) // len(W_V)
        W_V[head // group].copy_(torch.linalg.pinv(later if layer else first) @ codes)
        W_O[head].copy_(sign * written / attention_gain(model, layer))
