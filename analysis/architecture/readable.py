"""What the functions that read weights ask of a model, loaded or not."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from analysis.architecture.model_parts import ModelPaths


class ReadableModel(Protocol):
    """A model whose weights can be read: a loaded one, or a checkpoint read layer by layer.

    Attributes:
        cfg: transformer_lens' configuration.
        blocks: by layer, a block with its attention (``attn``) and norms.
        tokenizer: the model's.
        W_E: the embedding matrix ``[d_vocab, d_embedding]``.
        W_U: the unembedding matrix ``[d_embedding, d_vocab]``.
        adapter: transformer_lens' adapter of the architecture.
        original_model: transformers' model, or what stands for it; it has the ``config``.
    """

    cfg: Any
    blocks: Any
    tokenizer: Any
    W_E: Any
    W_U: Any
    adapter: Any
    original_model: Any


class WeightReader(Protocol):
    """Weights by the names that transformers gives them, for a model's own modules to run on."""

    @property
    def paths(self) -> ModelPaths:
        """Where the parts are."""

    @property
    def hf_config(self) -> Any:
        """Transformers' config of the whole model."""

    def tensor(self, name: str) -> Tensor:
        """A parameter of the whole model by transformers' name, without a copy."""
