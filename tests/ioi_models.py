"""Small models for the indirect-object task: a tokenizer that knows its words, and planted heads.

``planted_gpt2`` is GPT-2-shaped. Its weights make a head of layer 0 write the name said last, the
subject, at END; name movers attend to whichever name that is not, and write it; negative heads do
the same with the opposite sign; backups do what name movers do unless that name has been written
already.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from analysis.prompts.indirect_object import OBJECTS, PLACES, TEMPLATES
from tests import checkpoints, planted

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

NAMES = planted.NAMES
N = len(NAMES)
Heads = Iterable[tuple[int, int]]


SAID = re.findall(r"[A-Za-z]+", re.sub(r"{\w+}", " ", " ".join(TEMPLATES)))
WORDS = [*NAMES, *dict.fromkeys([*SAID, *PLACES, *OBJECTS])]
"""Every name and word of the prompts."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Every name and word of the prompts is one token after a space."""
    return checkpoints.make_tokenizer(WORDS)


def random_model(kind: str) -> TransformerBridge:
    """A ``gpt2``-, ``gpt-neox``- or ``llama``-shaped model with random weights."""
    tokenizer = make_tokenizer()
    model = planted.MAKERS[kind](len(tokenizer))
    return planted.boot(model, tokenizer, name=f"random-{kind}")


@functools.cache
def shared_model(kind: str) -> TransformerBridge:
    """``random_model`` once for all tests of a process, none of which changes it."""
    return random_model(kind)


def planted_bridge(**options: Any) -> TransformerBridge:
    """``planted_gpt2`` as a bridge."""
    tokenizer = make_tokenizer()
    return planted.boot(planted_gpt2(tokenizer, **options), tokenizer, name="planted-ioi")


@torch.no_grad()
def planted_gpt2(
    tokenizer: PreTrainedTokenizerFast,
    *,
    movers: Heads = ((1, 0),),
    negatives: Heads = ((2, 1),),
    backups: Heads = ((2, 2),),
    shyness: float = 3.0,
    n_layers: int = 3,
    n_heads: int = 4,
) -> PreTrainedModel:
    """A GPT-2-shaped model with planted heads among small random ones.

    ``shyness`` is how much a backup turns away where the name has been written already.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    d_head = N + 4
    d_model = n_heads * d_head
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=n_layers,
        n_head=n_heads,
        n_embd=d_model,
        n_inner=8,
        n_positions=64,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).eval()
    # Orthonormal directions without a mean, which LayerNorm would take away.
    basis = torch.linalg.qr(torch.cat([torch.ones(d_model, 1), torch.randn(d_model, d_model)], 1))
    directions = basis.Q.T[1:]
    name, subject, answer = directions[:N], directions[N : 2 * N], directions[2 * N : 3 * N]
    is_name, place, noise = directions[3 * N], directions[3 * N + 1], directions[3 * N + 2 :]
    size = (d_model / 2) ** 0.5  # of each of two equal parts, once normalised

    tokens = planted.name_tokens(tokenizer, NAMES)
    W_E = torch.randn(len(tokenizer), len(noise)) @ noise
    W_E *= (2**0.5) / W_E.norm(dim=1, keepdim=True)
    W_E[tokens] = name + is_name
    model.transformer.wte.weight.copy_(W_E)
    model.transformer.wpe.weight.copy_(0.002 * torch.arange(64)[:, None] * place)
    model.lm_head.weight.mul_(0.1)
    model.lm_head.weight[tokens] = answer

    def head(layer: int, number: int) -> dict[str, torch.Tensor]:
        attention = model.transformer.h[layer].attn
        weight = attention.c_attn.weight.unflatten(1, (3, n_heads, d_head))
        bias = attention.c_attn.bias.unflatten(0, (3, n_heads, d_head))
        parts = {kind: weight[:, i, number] for i, kind in enumerate("QKV")}
        parts["O"] = attention.c_proj.weight.unflatten(0, (n_heads, d_head))[number]
        for part in parts.values():
            part.zero_()
        return parts | {"b_Q": bias[0, number]}

    scale = d_head**0.5
    last_name = head(0, 0)
    last_name["b_Q"][N] = scale
    last_name["K"][:, N] = 60 / size * is_name + place / (0.002 * size)
    last_name["V"][:, :N] = name.T / size
    last_name["O"][:N] = 1.4 * subject

    gain = 2 / len(tuple(movers))
    kinds = [(movers, gain, 0.0), (negatives, -0.4 * gain, 0.0), (backups, gain, shyness)]
    for heads, written, shy in kinds:
        for layer, number in heads:
            planted_head = head(layer, number)
            planted_head["b_Q"][N] = 8 * scale
            planted_head["K"][:, N] = is_name / size
            planted_head["K"][:, :N] = name.T / size
            planted_head["Q"][:, :N] = -(20 * subject + 20 * shy * answer).T * scale / size
            planted_head["V"][:, :N] = name.T / size
            planted_head["O"][:N] = written * answer
    return model
