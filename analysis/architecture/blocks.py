"""What the model's own blocks make of token embeddings and residual streams, in float64.

A block is transformers' own (``model_parts.one_block``), run on sequences of one token with no
position. So norms with 1 + w, embedding scales and norms, projections, gates, parallel blocks,
norms after the MLP and routed experts are whatever the model's code makes of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.architecture.float64 import Float64Mode
from analysis.architecture.model_parts import (
    GivenAttention,
    ModelPaths,
    one_block,
    probed,
    replace_submodule,
    set_parameter,
    switch_sinks_off,
)

if TYPE_CHECKING:
    from analysis.architecture.readable import WeightReader


@dataclass(frozen=True)
class Block:
    """One block of a model, ready to be run.

    Attributes:
        hf_model: transformers' model with this block alone.
        paths: where its parts are.
        d_embedding: width of the embedding matrix.
        mode: under which it runs; what it keeps is kept from one run to the next.
    """

    hf_model: Any
    paths: ModelPaths
    d_embedding: int
    mode: Float64Mode = field(default_factory=Float64Mode)

    @torch.no_grad()
    def embedded(self, rows: Float[Tensor, "n d_embedding"]) -> Float[Tensor, "n d_model"]:
        """What enters the first block for rows of W_E, positions left out."""
        return self._run(rows, "", before=True)

    @torch.no_grad()
    def mlp(self, rows: Float[Tensor, "n d_embedding"]) -> Float[Tensor, "n d_model"]:
        """What the MLP adds to the residual stream, its own norms before and after it."""
        return self._run(rows, self.paths.mlp)

    @torch.no_grad()
    def mlp_of(self, residual: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """What the MLP adds to a residual stream that enters the block."""
        rows = residual.new_zeros(len(residual), self.d_embedding)
        return self._run(rows, self.paths.mlp, residual=residual)

    @torch.no_grad()
    def attended(self, rows: Float[Tensor, "n d_embedding"]) -> Float[Tensor, "n d_model"]:
        """The attention module's output, each token attending to itself."""
        return self._run(rows, self.paths.attention)

    @torch.no_grad()
    def output(
        self,
        rows: Float[Tensor, "n d_embedding"],
        written: Float[Tensor, "n d_model"],
    ) -> Float[Tensor, "n d_model"]:
        """What leaves a block of ``block_without_attention``, its attention writing ``written``."""
        given = self.hf_model.get_submodule(self.paths.attention_of(0))
        given.written = written
        try:
            return self._run(rows, "")
        finally:
            given.written = None

    def _run(
        self, rows: Tensor, part: str, before: bool = False, residual: Tensor | None = None
    ) -> Tensor:
        table = self.hf_model.get_submodule(self.paths.embedding)
        table.padding_idx = None  # the rows are not the vocabulary's
        set_parameter(self.hf_model, f"{self.paths.embedding}.weight", rows)
        block = self.hf_model.get_submodule(self.paths.block(0))
        module = block.get_submodule(part) if part else block
        tokens = torch.arange(len(rows), device=rows.device)[:, None]
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.mode)
            if residual is not None:
                stack.enter_context(probed(block, instead=residual, stop=False))
            probe = stack.enter_context(probed(module, stop_before=before))
            self.hf_model(input_ids=tokens, use_cache=False)
        found = probe.given if before else probe.gave
        if found is None:  # the forward pass never came to the module
            raise RuntimeError(f"{type(self.hf_model).__name__} does not run its {part}.")
        return found.reshape(len(rows), -1).double()


def block_without_attention(
    reader: WeightReader, d_embedding: int, layer: int = 0, *, keep_bytes: int = 0
) -> Block:
    """A block whose attention writes nothing, or what it is told.

    No weight is copied but into float64, and ``keep_bytes`` of these copies are kept between runs.
    """
    inside = f"{reader.paths.attention_of(layer)}."
    block = _built(reader, d_embedding, layer, lambda name: name.startswith(inside))
    path = reader.paths.attention_of(0)
    given = GivenAttention(block.hf_model.get_submodule(path))
    replace_submodule(block.hf_model, path, given)
    return replace(block, mode=Float64Mode(keep_bytes=keep_bytes))


def block_without_biases(reader: WeightReader, d_embedding: int, *, folded: bool) -> Block:
    """The first block, its attention without b_V, b_O and sinks.

    ``folded`` leaves out the bias of the norm before the attention too, which folding moves into
    b_V.
    """
    paths = reader.paths
    inside, unread = f"{paths.attention_of(0)}.", paths.unread_of(0)
    norm_bias = f"{paths.block(0)}.{paths.norm}.bias"

    def left_out(name: str) -> bool:
        bias = name.startswith(inside) and name.endswith("bias")
        return bias or (folded and name == norm_bias) or name.startswith(unread)

    block = _built(reader, d_embedding, 0, left_out)
    switch_sinks_off(block.hf_model.get_submodule(paths.attention_of(0)))
    return block


def _built(
    reader: WeightReader, d_embedding: int, layer: int, left_out: Callable[[str], bool]
) -> Block:
    """A block on a reader's weights, without embedding, positions and unembedding."""
    paths = reader.paths
    named = (paths.embedding, paths.unembedding, paths.positions)
    outside = tuple(f"{name}." for name in named if name)

    def tensor(name: str) -> Tensor | None:
        return None if name.startswith(outside) or left_out(name) else reader.tensor(name)

    hf_model = one_block(reader.hf_config, paths, layer, tensor, reader.device)
    return Block(hf_model, paths, d_embedding)
