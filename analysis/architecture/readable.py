"""What a model must have for its weights to be read: loaded, or read layer by layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from analysis.architecture.model_parts import ModelPaths


class ReadableModel(Protocol):
    """A model whose weights can be read: a loaded one, or a checkpoint read layer by layer."""

    @property
    def cfg(self) -> Any:
        """Transformer_lens' configuration."""

    @property
    def blocks(self) -> Any:
        """By layer, a block with its attention (``attn``) and norms."""

    @property
    def tokenizer(self) -> Any:
        """The model's."""

    @property
    def W_E(self) -> Any:
        """The embedding matrix ``[d_vocab, d_embedding]``."""

    @property
    def W_U(self) -> Any:
        """The unembedding matrix ``[d_embedding, d_vocab]``."""

    @property
    def adapter(self) -> Any:
        """Transformer_lens' adapter of the architecture."""

    @property
    def original_model(self) -> Any:
        """Transformers' model, or what stands for it; it has the ``config``."""


ModelOrName: TypeAlias = ReadableModel | str | os.PathLike[str]
"""A model, or the name or folder of one that is then read layer by layer."""


class WeightReader(Protocol):
    """Weights by the names that transformers gives them, for a model's own modules to run on."""

    @property
    def paths(self) -> ModelPaths:
        """Where the parts are."""

    @property
    def hf_config(self) -> Any:
        """Transformers' config of the whole model."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are: where float64 can be computed."""

    def tensor(self, name: str) -> Tensor:
        """A parameter of the whole model by transformers' name, without a copy."""
