"""What the model's own first block makes of token embeddings, in float64.

The block is transformers' own (``model_parts.one_block``), run on sequences of one token with no
position. So norms with 1 + w, embedding scales and norms, projections, gates, parallel blocks,
norms after the MLP and routed experts are whatever the model's code makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.float64 import Float64Mode
from analysis.model_parts import (
    SilentAttention,
    one_block,
    probed,
    replace_submodule,
    set_parameter,
)

if TYPE_CHECKING:
    from analysis.weights import WeightReader

Attention = Literal["silent", "without biases", "as it is"]


@dataclass(frozen=True)
class FirstBlock:
    """A model's first block, ready to be run.

    Attributes:
        hf_model: transformers' model with this block alone.
        reader: where its weights came from.
        attention: ``silent``: the attention writes nothing. ``without biases``: each token attends
            to itself, and b_V and b_O are left out. ``as it is``: likewise, with biases.
    """

    hf_model: Any
    reader: WeightReader
    attention: Attention

    @torch.no_grad()
    def embedded(self, rows: Float[Tensor, "n d_embedding"]) -> Float[Tensor, "n d_model"]:
        """What enters the first block, positions left out.

        Args:
            rows: rows of the embedding matrix, as many as will fill one pass.
        """
        return self._run(rows, "", before=True)

    @torch.no_grad()
    def mlp(self, rows: Float[Tensor, "n d_embedding"]) -> Float[Tensor, "n d_model"]:
        """What the first MLP adds to the residual stream, its own norms before and after it."""
        return self._run(rows, self.reader.paths.mlp)

    @torch.no_grad()
    def block(self, rows: Float[Tensor, "n d_embedding"]) -> Float[Tensor, "n d_model"]:
        """What leaves the first block."""
        return self._run(rows, "")

    def _run(self, rows: Tensor, part: str, before: bool = False) -> Tensor:
        paths = self.reader.paths
        table = self.hf_model.get_submodule(paths.embedding)
        table.padding_idx = None  # the rows are not the vocabulary's
        set_parameter(self.hf_model, f"{paths.embedding}.weight", rows)
        module = self.hf_model.get_submodule(f"{paths.block(0)}.{part}".rstrip("."))
        tokens = torch.arange(len(rows), device=rows.device)[:, None]
        with Float64Mode(), probed(module, stop_before=before) as probe:
            self.hf_model(input_ids=tokens, use_cache=False)
        found = probe.given if before else probe.gave
        if found is None:  # the forward pass never came to the module
            raise RuntimeError(f"{type(self.hf_model).__name__} does not run its {part}.")
        return found.reshape(len(rows), -1).double()


def first_block(
    reader: WeightReader,
    attention: Attention = "silent",
    left_out_of_attention: Float[Tensor, "d_model"] | None = None,
) -> FirstBlock:
    """Build the first block of a model from its weights; no weight is copied.

    Args:
        reader: of the weights.
        attention: what of the attention is run.
        left_out_of_attention: subtracted from what the attention writes for every token.
    """
    paths = reader.paths
    of_attention = f"{paths.block(0)}.{paths.attention}."
    left_out = [f"{paths.embedding}.", f"{paths.unembedding}."]
    left_out += [f"{paths.positions}."] if paths.positions else []
    left_out += [of_attention] if attention == "silent" else []
    left_out += [of_attention + name for name in paths.unread]

    def tensor(name: str) -> Tensor | None:
        if name.startswith(tuple(left_out)):
            return None
        if attention == "without biases" and name.startswith(of_attention):
            return None if name.endswith("bias") else reader.tensor(name)
        return reader.tensor(name)

    hf_model = one_block(reader.hf_config, paths, 0, tensor)
    if attention == "silent":
        path = f"{paths.block(0)}.{paths.attention}"
        replace_submodule(hf_model, path, SilentAttention(hf_model.get_submodule(path)))
    elif left_out_of_attention is not None:

        def subtract(_: Any, __: Any, output: Any) -> Any:
            written, *rest = output if isinstance(output, tuple) else (output,)
            written = written - left_out_of_attention
            return (written, *rest) if isinstance(output, tuple) else written

        hf_model.get_submodule(of_attention.rstrip(".")).register_forward_hook(subtract)
    return FirstBlock(hf_model, reader, attention)
