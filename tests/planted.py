"""Small models in memory, their weights as plain matrices, and heads planted to copy or suppress.

Whatever is read here comes from Hugging Face's parameters and modules alone, so that it can stand
against what ``analysis`` reads through transformer_lens. Read (or plant) before ``boot``: the
bridge takes the model's modules apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tests import checkpoints
from tests.word_lists import NAMES as FIRST_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

NAMES = (*FIRST_NAMES, "Paul", "Emma", "Henry", "Alice", "Simon", "Clara", "Oscar", "Ruth")
COPYING = ((0, 1), (1, 1), (2, 3))
"""Heads (layer, head) that ``plant`` makes copy."""
SUPPRESSING = ((0, 2), (1, 0), (2, 2))
"""Heads that ``plant`` makes suppress; in a group of heads, they share W_V with a copying head."""

MAKERS: dict[str, Callable[..., PreTrainedModel]] = {
    "gpt2": checkpoints.gpt2_model,
    "gpt-neox": checkpoints.gpt_neox_model,
    "llama": checkpoints.llama_model,
}


def boot(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype = torch.float32,
    name: str = "in-memory",
) -> TransformerBridge:
    """The model as a bridge with raw weights, in evaluation mode, without gradients."""
    from transformer_lens.model_bridge import TransformerBridge

    # Without these transformer_lens would look for the tokenizer's files.
    tokenizer.init_kwargs.update(name_or_path="", add_bos_token=True)
    bridge = TransformerBridge.boot_transformers(
        name, hf_model=model, tokenizer=tokenizer, dtype=dtype
    )
    return bridge.eval().requires_grad_(False)


def name_tokens(tokenizer: PreTrainedTokenizerFast, names: Iterable[str] = NAMES) -> Tensor:
    """The token of each name with its leading space."""
    return torch.tensor([tokenizer.encode(f" {name}")[0] for name in names])


def layers(model: PreTrainedModel) -> Sequence[torch.nn.Module]:
    """The model's blocks."""
    inner = getattr(model, model.base_model_prefix)
    return inner.h if hasattr(inner, "h") else inner.layers


def value_matrices(model: PreTrainedModel, layer: int) -> Tensor:
    """W_V of every key-value head, ``[n_kv, d_model, d_head]``, a view of the model's parameter."""
    block, heads = layers(model)[layer], model.config.num_attention_heads
    match model.config.model_type:
        case "gpt2":  # [d_model, 3 * n_heads * d_head]: queries, keys, values
            together = block.attn.c_attn.weight.unflatten(1, (3, heads, -1))
            return together[:, 2].transpose(0, 1)
        case "gpt_neox":  # [n_heads * 3 * d_head, d_model]: a head's query, key and value
            together = block.attention.query_key_value.weight.unflatten(0, (heads, 3, -1))
            return together[:, 2].transpose(1, 2)
        case "gptj":
            return block.attn.v_proj.weight.unflatten(0, (heads, -1)).transpose(1, 2)
    kv_heads = model.config.num_key_value_heads
    return block.self_attn.v_proj.weight.unflatten(0, (kv_heads, -1)).transpose(1, 2)


def output_matrices(model: PreTrainedModel, layer: int) -> Tensor:
    """W_O of every head, ``[n_heads, d_head, d_model]``, a view of the model's parameter."""
    block, heads = layers(model)[layer], model.config.num_attention_heads
    match model.config.model_type:
        case "gpt2":
            return block.attn.c_proj.weight.unflatten(0, (heads, -1))
        case "gpt_neox":
            weight = block.attention.dense.weight
        case "gptj":
            weight = block.attn.out_proj.weight
        case _:
            weight = block.self_attn.o_proj.weight
    return weight.unflatten(1, (heads, -1)).permute(1, 2, 0)


def ov_matrices(model: PreTrainedModel, layer: int) -> list[tuple[Tensor, Tensor]]:
    """(W_V, W_O) of every head; heads of a group have one W_V."""
    W_V, W_O = value_matrices(model, layer), output_matrices(model, layer)
    group = len(W_O) // len(W_V)
    return [(W_V[head // group], W_O[head]) for head in range(len(W_O))]


def mlp_norm(model: PreTrainedModel) -> torch.nn.Module:
    """The norm before the first block's MLP."""
    name = {"gpt2": "ln_2", "gptj": "ln_1"}.get(model.config.model_type, "post_attention_layernorm")
    return getattr(layers(model)[0], name)


def first_mlp(model: PreTrainedModel, x: Tensor) -> Tensor:
    """The first block's norm and MLP by the model's own modules.

    Only RMSNorm is written out: Hugging Face's computes in float32 whatever it is given.
    """
    norm = mlp_norm(model)
    if isinstance(norm, torch.nn.LayerNorm):
        x = norm(x)
    else:
        x = norm.weight * x / (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    return layers(model)[0].mlp(x)


@torch.no_grad()
def plant(
    model: PreTrainedModel,
    sources: Tensor,
    targets: Tensor | None = None,
    *,
    with_first_mlp: bool = True,
    copying: Iterable[tuple[int, int]] = COPYING,
    suppressing: Iterable[tuple[int, int]] = SUPPRESSING,
) -> None:
    """Make some heads write each source's target (by default itself) most, others least.

    Every source gets a unit vector c of d_head numbers. A planted W_V takes the source vectors,
    which are linearly independent, to these; W_O takes c to the logit c·c' for the target of each
    source c'. So the target's own logit is 1 and every other target's smaller. All other tokens
    get short unembeddings, hence logits near 0. A suppressing head has W_O negated.
    """
    targets = sources if targets is None else targets
    W_E, W_U = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    other = torch.ones(len(W_U), dtype=torch.bool)
    other[targets] = False
    W_U[other] *= 0.1
    embedded = W_E[sources].double()
    later = first_mlp(model.double(), embedded) if with_first_mlp else embedded
    model.float()
    d_head = output_matrices(model, 0).shape[1]
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(len(sources), d_head, dtype=torch.float64, generator=generator)
    codes /= codes.norm(dim=1, keepdim=True)
    written = codes.T @ torch.linalg.pinv(W_U[targets].double().T)
    signs = dict.fromkeys(copying, 1) | dict.fromkeys(suppressing, -1)
    for (layer, head), sign in signs.items():
        W_V, W_O = ov_matrices(model, layer)[head]
        W_V.copy_(torch.linalg.pinv(later if layer else embedded) @ codes)
        W_O.copy_(sign * written)


def planted_model(kind: str) -> TransformerBridge:
    """A ``gpt2``-, ``gpt-neox``- or ``llama``-shaped model that copies and suppresses ``NAMES``."""
    tokenizer = checkpoints.make_tokenizer(NAMES)
    model = MAKERS[kind](len(tokenizer))
    plant(model, name_tokens(tokenizer))
    return boot(model, tokenizer, name=f"planted-{kind}")
