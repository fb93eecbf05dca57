"""Where each head looks from END, and what it writes for it.

Two questions of Wang et al. (arXiv 2211.00593, section 3.1 and figure 3) for every head:

1. How much does END attend to IO, S1 and S2?
2. Does the head write a name the more, the more it attends to that name? The correlation, over
   prompts and their two names, of the attention to a name with the logit that the head writes for
   it: near 1 for a name mover, near -1 for a head that acts against the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.heads import all_heads, head_index
from analysis.ioi.activations import Activations
from analysis.ioi.attribution import logits_written
from analysis.prompts.indirect_object import IOIPrompts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def attention_and_output(
    model: TransformerBridge, prompts: IOIPrompts, clean: Activations
) -> pd.DataFrame:
    """Mean attention from END to the names, and its correlation with what is written for them.

    Returns:
        Indexed by ``layer`` and ``head``: ``attention_io``, ``attention_s1``, ``attention_s2``
        (means over prompts, in [0, 1]) and ``correlation`` (Pearson's, NaN where either side never
        varies).
    """
    mean = clean.attention.double().mean(0)
    attention, written = _per_name(model, prompts, clean)
    a, w = (x.flatten(0, 1) - x.flatten(0, 1).mean(0) for x in (attention, written))
    lengths = a.square().sum(0).sqrt() * w.square().sum(0).sqrt()
    correlation = (a * w).sum(0) / torch.where(lengths > 0, lengths, torch.nan)
    return pd.DataFrame(
        {
            "attention_io": mean[..., 0].flatten().numpy(),
            "attention_s1": mean[..., 1].flatten().numpy(),
            "attention_s2": mean[..., 2].flatten().numpy(),
            "correlation": correlation.flatten().numpy(),
        },
        index=head_index(all_heads(*correlation.shape)),
    )


def attention_points(
    model: TransformerBridge,
    prompts: IOIPrompts,
    clean: Activations,
    heads: Iterable[tuple[int, int]],
) -> pd.DataFrame:
    """The points of the scatter for some heads: two for each prompt, its IO and its S.

    Returns:
        Columns ``layer``, ``head``, ``prompt``, ``name`` (``IO`` or ``S``), ``attention`` (to S it
        is the sum over S1 and S2) and ``written`` (logit that the head writes for the name).
    """
    attention, written = _per_name(model, prompts, clean)
    parts = []
    for layer, head in heads:
        for number, name in enumerate(("IO", "S")):
            columns = {
                "layer": layer,
                "head": head,
                "prompt": prompts.frame.index,
                "name": name,
                "attention": attention[:, number, layer, head].numpy(),
                "written": written[:, number, layer, head].numpy(),
            }
            parts.append(pd.DataFrame(columns))
    columns_of_none = ["layer", "head", "prompt", "name", "attention", "written"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns_of_none)


def _per_name(
    model: TransformerBridge, prompts: IOIPrompts, clean: Activations
) -> tuple[Float[Tensor, "n 2 n_layers n_heads"], Float[Tensor, "n 2 n_layers n_heads"]]:
    """Attention to IO and to S (at both its places), and the logit written for each."""
    attention = clean.attention.double()
    written = [
        logits_written(model, clean, prompts.column(token)) for token in ("io_token", "s_token")
    ]
    return (
        torch.stack([attention[..., 0], attention[..., 1:].sum(-1)], dim=1),
        torch.stack(written, dim=1),
    )
