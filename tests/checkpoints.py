"""Small checkpoints for tests: GPT-2-, GPT-NeoX- and Llama-shaped models, and their tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tests.word_lists import NAMES as NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

END = "<|endoftext|>"


def make_tokenizer(words: Sequence[str] = NAMES) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer in which each word with one leading space is one token.

    Any other text falls into bytes, so it can be encoded and decoded too. The vocabulary is
    ``END`` (also BOS and padding), the 256 bytes, then `` word`` for every word in order.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelled = [byte_level.pre_tokenize_str(f" {word}")[0][0] for word in words]
    vocabulary = {token: index for index, token in enumerate([END, *alphabet, *spelled])}
    # ignore_merges: a word of the vocabulary is taken whole, so no prefix of it is a token.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END
    )


def sentencepiece_like(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before every text, as Mistral's and Llama 2's do."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "▁", *"0123456789;->", "▁the", *(f"▁{word}" for word in words)]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], 0))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", pad_token="<s>"
    )


def gpt2_model(vocabulary: int, **changes: Any) -> PreTrainedModel:
    """A random GPT-2-shaped model: learned positions, LayerNorm, tied embeddings."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": 3, "n_head": 4, "n_embd": 32, "n_positions": 64}
    return _random(GPT2LMHeadModel, GPT2Config(**(_tokens(vocabulary) | sizes | changes)))


def gpt_neox_model(vocabulary: int, **changes: Any) -> PreTrainedModel:
    """A random GPT-NeoX-shaped model: rotary positions, parallel blocks, untied embeddings."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = _sizes() | {"intermediate_size": 64}
    return _random(GPTNeoXForCausalLM, GPTNeoXConfig(**(_tokens(vocabulary) | sizes | changes)))


def llama_model(vocabulary: int, **changes: Any) -> PreTrainedModel:
    """A random Llama-shaped model: RMSNorm, gated MLP, two query heads to a key-value head."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = _sizes() | {"intermediate_size": 48, "num_key_value_heads": 2}
    return _random(LlamaForCausalLM, LlamaConfig(**(_tokens(vocabulary) | sizes | changes)))


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | None, folder: Path
) -> Path:
    """Save weights as safetensors, config and tokenizer into ``folder``, and return it."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def _tokens(vocabulary: int) -> dict[str, int]:
    return {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def _sizes() -> dict[str, int]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }


def _random(kind: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    """A model far from the small initial weights, so that every part matters.

    numpy draws them: torch's random numbers depend on the processor in their last digits.
    """
    torch.manual_seed(0)
    model = kind(config).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.from_numpy(0.1 * rng.standard_normal(tuple(weight.shape)))
            norm = weight.ndim == 1 and name.endswith("weight")  # gains are about 1
            weight.copy_(drawn + 1 if norm else drawn)
    return model
