"""Causal language models written out in numpy, float64: what an exact forward pass must give.

Read a Hugging Face model with ``PlainModel`` before it is booted: the bridge takes it apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
import torch

from tests import checkpoints

Array = np.ndarray


def qwen2_model(vocabulary: int, **changes: Any) -> Any:
    """A random Qwen2-shaped model: as Llama's, with biases on queries, keys and values."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return _random(Qwen2ForCausalLM, Qwen2Config, vocabulary, changes)


def mistral_model(vocabulary: int, **changes: Any) -> Any:
    """A random Mistral-shaped model: as Llama's, with a head dimension of its own."""
    from transformers import MistralConfig, MistralForCausalLM

    options = {"head_dim": 16, "sliding_window": None} | changes
    return _random(MistralForCausalLM, MistralConfig, vocabulary, options)


def _random(kind: Any, config: Any, vocabulary: int, changes: dict[str, Any]) -> Any:
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    model = kind(config(**(sizes | changes))).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


MAKERS: dict[str, Callable[..., Any]] = {
    "gpt2": checkpoints.gpt2_model,
    "gpt_neox": checkpoints.gpt_neox_model,
    "llama": checkpoints.llama_model,
    "qwen2": qwen2_model,
    "mistral": mistral_model,
}


class PlainModel:
    """The weights of a model in float64, and its forward pass.

    Attributes:
        z: of the last call, each layer's ``[n, length, n_heads, d_head]``.
        patterns: of the last call, each layer's attention ``[n, n_heads, length, length]``.
    """

    def __init__(self, model: Any) -> None:
        self.config = model.config
        self.kind = model.config.model_type
        self.weights = {
            name: value.detach().double().numpy().copy()
            for name, value in model.state_dict().items()
        }
        self.z: list[Array] = []
        self.patterns: list[Array] = []

    def __call__(self, tokens: torch.Tensor) -> Array:
        """Logits ``[n, length, d_vocab]``."""
        self.z, self.patterns = [], []
        run = {"gpt2": self._gpt2, "gpt_neox": self._gpt_neox}.get(self.kind, self._llama)
        return run(tokens.numpy())

    def _affine(self, x: Array, name: str) -> Array:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        conv = self.kind == "gpt2" and name != "lm_head"
        y = x @ (weight if conv else weight.T)
        return y if bias is None else y + bias

    def _layer_norm(self, x: Array, name: str) -> Array:
        c = self.config
        eps = c.layer_norm_epsilon if self.kind == "gpt2" else c.layer_norm_eps
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _rms_norm(self, x: Array, name: str) -> Array:
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config.rms_norm_eps)
        return x * self.weights[f"{name}.weight"]

    def _attend(self, q: Array, k: Array, v: Array) -> Array:
        """Each ``[n, length, heads, d_head]``; the heads' z, side by side."""
        group = q.shape[2] // k.shape[2]
        k, v = (np.repeat(x, group, axis=2) for x in (k, v))
        scores = np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(q.shape[3])
        scores = np.where(np.tri(q.shape[1], dtype=bool), scores, -np.inf)
        pattern = scipy.special.softmax(scores, axis=-1)
        z = np.einsum("nhqk,nkhd->nqhd", pattern, v)
        self.z.append(z)
        self.patterns.append(pattern)
        return z.reshape(*z.shape[:2], -1)

    def _rotate(self, x: Array, share: float = 1.0) -> Array:
        n = int(x.shape[3] * share)
        base = self.config.rope_parameters["rope_theta"]
        angle = np.arange(x.shape[1])[:, None] * base ** (-np.arange(0, n, 2) / n)
        cos, sin = (np.tile(f(angle), 2)[:, None] for f in (np.cos, np.sin))
        turned, rest = x[..., :n], x[..., n:]
        swapped = np.concatenate([-turned[..., n // 2 :], turned[..., : n // 2]], axis=-1)
        return np.concatenate([turned * cos + swapped * sin, rest], axis=-1)

    def _gpt2(self, tokens: Array) -> Array:
        W_E = self.weights["transformer.wte.weight"]
        x = W_E[tokens] + self.weights["transformer.wpe.weight"][: tokens.shape[1]]
        for layer in range(self.config.n_layer):
            at = f"transformer.h.{layer}"
            qkv = self._affine(self._layer_norm(x, f"{at}.ln_1"), f"{at}.attn.c_attn")
            heads = qkv.reshape(*tokens.shape, 3, self.config.n_head, -1)
            x = x + self._affine(self._attend(*np.moveaxis(heads, 2, 0)), f"{at}.attn.c_proj")
            inner = self._affine(self._layer_norm(x, f"{at}.ln_2"), f"{at}.mlp.c_fc")
            gelu = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
            x = x + self._affine(gelu, f"{at}.mlp.c_proj")
        return self._affine(self._layer_norm(x, "transformer.ln_f"), "lm_head")

    def _gpt_neox(self, tokens: Array) -> Array:
        c = self.config
        share = c.rope_parameters.get("partial_rotary_factor", 1.0)
        x = self.weights["gpt_neox.embed_in.weight"][tokens]
        for layer in range(c.num_hidden_layers):
            at = f"gpt_neox.layers.{layer}"
            normed = self._layer_norm(x, f"{at}.input_layernorm")
            qkv = self._affine(normed, f"{at}.attention.query_key_value")
            heads = qkv.reshape(*tokens.shape, c.num_attention_heads, 3, -1)
            q, k, v = np.moveaxis(heads, 3, 0)
            z = self._attend(self._rotate(q, share), self._rotate(k, share), v)
            normed = self._layer_norm(x, f"{at}.post_attention_layernorm")
            inner = self._affine(normed, f"{at}.mlp.dense_h_to_4h")
            gelu = inner / 2 * (1 + scipy.special.erf(inner / np.sqrt(2)))
            written = self._affine(z, f"{at}.attention.dense")
            x = x + written + self._affine(gelu, f"{at}.mlp.dense_4h_to_h")
        x = self._layer_norm(x, "gpt_neox.final_layer_norm")
        return x @ self.weights[next(n for n in self.weights if n.startswith("embed_out")
                                     or n.startswith("lm_head"))].T  # fmt: skip

    def _llama(self, tokens: Array) -> Array:
        c = self.config
        x = self.weights["model.embed_tokens.weight"][tokens]
        for layer in range(c.num_hidden_layers):
            at = f"model.layers.{layer}"
            normed = self._rms_norm(x, f"{at}.input_layernorm")
            q, k, v = (
                self._affine(normed, f"{at}.self_attn.{n}_proj").reshape(*tokens.shape, heads, -1)
                for n, heads in zip(
                    "qkv", (c.num_attention_heads, *[c.num_key_value_heads] * 2), strict=True
                )
            )
            z = self._attend(self._rotate(q), self._rotate(k), v)
            x = x + self._affine(z, f"{at}.self_attn.o_proj")
            normed = self._rms_norm(x, f"{at}.post_attention_layernorm")
            gate = self._affine(normed, f"{at}.mlp.gate_proj")
            gated = gate / (1 + np.exp(-gate)) * self._affine(normed, f"{at}.mlp.up_proj")
            x = x + self._affine(gated, f"{at}.mlp.down_proj")
        return self._affine(self._rms_norm(x, "model.norm"), "lm_head")
