"""Path patching: what each head does to the logit difference by its direct path.

Wang et al., *Interpretability in the Wild* (arXiv 2211.00593, section 3.1), patch the path from a
head to the logits:

1. Run the prompt, and its counterfactual, in which no name is said twice.
2. Run the prompt again with the head's z at END taken from the counterfactual. The queries, keys
   and values of all later heads keep what they were in (1), so those heads write what they wrote.
3. The later MLPs are computed again from what now reaches them, and so is the final norm.
4. The direct effect is the logit difference D of IO and S in (1) less that in (3).

A positive effect raises the logit difference; the paper plots the change that patching makes, which
has the opposite sign.

Only END changes, so steps 2 and 3 follow one vector per head and prompt through the later MLPs:

    δ ← (z'_lh - z_lh)·W_O
    δ ← δ + MLP_m(r_m + δ) - MLP_m(r_m)        for every later MLP m, with r_m its input in (1)
    effect = D(r) - D(r + δ)                    with r the final residual at END in (1)

``freeze_mlps=True`` leaves the second line out: the effect through the residual stream alone. The
two are different quantities, and can differ in sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.architecture.norms import normalise
from analysis.embeddings import mlp_output, mlp_reads_attention
from analysis.heads import HeadPair, all_heads, chosen_heads, head_index
from analysis.ioi.ablated_runs import AtEnd
from analysis.ioi.activations import Activations
from analysis.ioi.attribution import head_outputs, unembedding_rows
from analysis.progress import progress_bar
from analysis.prompts.indirect_object import IOIPrompts
from analysis.statistics import cluster_mean_interval
from analysis.validation import check_flag

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CHANGES_BYTES = 64 << 20
"""Changes that are followed at once: as many prompts as let one layer's take no more than this."""


@torch.no_grad()
def path_effects(
    model: TransformerBridge,
    prompts: IOIPrompts,
    clean: Activations | AtEnd,
    counterfactual: Activations | AtEnd,
    *,
    heads: Sequence[HeadPair] | None = None,
    freeze_mlps: bool = False,
) -> Float[Tensor, "n n_chosen"]:
    """Direct effect of heads on every prompt's logit difference.

    Args:
        model: that was run.
        prompts: that were run.
        clean: the run over them.
        counterfactual: the run over their counterfactuals.
        heads: (layer, head) pairs; all heads if None, and none if empty.
        freeze_mlps: whether later MLPs keep what they wrote in the clean run; Wang et al. compute
            them again.

    Returns:
        float64, in logits; heads in ascending order of layer and head.

    Raises:
        ParameterError: a head does not exist, or ``freeze_mlps`` is not True or False.
    """
    check_flag("freeze_mlps", freeze_mlps)
    chosen = chosen_heads(model, heads) if heads is None or len(heads) else ()
    if not chosen:
        return torch.empty(len(prompts), 0, dtype=torch.float64)
    by_layer: dict[int, list[int]] = {}
    for layer, head in chosen:
        by_layer.setdefault(layer, []).append(head)
    direction = unembedding_rows(model, prompts.column("io_token")) - unembedding_rows(
        model, prompts.column("s_token")
    )

    def difference(residual: Tensor, rows: Tensor) -> Tensor:
        return torch.einsum("hnd,nd->hn", normalise(model.ln_final, residual), direction[rows])

    final = clean.resid_final
    effects = torch.empty(len(prompts), len(chosen), dtype=torch.float64)
    sequential = mlp_reads_attention(model)
    first, n_layers = min(by_layer), model.cfg.n_layers
    n_together = max(1, CHANGES_BYTES // (8 * len(chosen) * model.cfg.d_model))
    chunks = torch.arange(len(prompts)).split(n_together)
    with progress_bar(len(chunks) * (n_layers - first), "path patching", "layer") as bar:
        for rows in chunks:
            changes = torch.empty(len(chosen), len(rows), model.cfg.d_model, dtype=torch.float64)
            n = 0  # heads whose change is under way
            for layer in range(first, n_layers):
                before = n
                if these := by_layer.get(layer):
                    z = (c.z[rows, layer] for c in (counterfactual, clean))
                    written = head_outputs(model, layer, next(z) - next(z))
                    n += len(these)
                    changes[before:n] = written[:, these].transpose(0, 1)
                if not freeze_mlps:
                    # In a parallel block the MLP reads what the block's heads read, not their sum.
                    reached = changes[: n if sequential else before]
                    reached += _mlp_response(model, layer, clean.mlp_input[rows, layer], reached)
                bar.update()
            whole = difference(final[None, rows], rows)
            effects[rows] = (whole - difference(final[rows] + changes, rows)).T
    return effects


def _mlp_response(
    model: TransformerBridge,
    layer: int,
    x: Float[Tensor, "n d_model"],
    changes: Float[Tensor, "n_chosen n d_model"],
) -> Float[Tensor, "n_chosen n d_model"]:
    """What an MLP writes for its changed inputs, less what it wrote for ``x``."""
    both = torch.cat([x, (x + changes).flatten(0, 1)])
    written = mlp_output(model, both, layer)
    return written[len(x) :].view_as(changes) - written[: len(x)]


def every_head(
    model: TransformerBridge, effects: Float[Tensor, "n n_all_heads"]
) -> Float[Tensor, "n n_layers n_heads"]:
    """Effects of all heads, layer by layer."""
    return effects.unflatten(1, (model.cfg.n_layers, model.cfg.n_heads))


def over_prompts(
    prompts: IOIPrompts, **values: Float[Tensor, "n n_layers n_heads"]
) -> pd.DataFrame:
    """Means over prompts with 95 % intervals, in which the prompts of a template are one cluster.

    Returns:
        For each keyword a column of its name and the columns ``_low`` and ``_high``, indexed by
        ``layer`` and ``head``.
    """
    clusters = prompts.clusters
    columns: dict[str, np.ndarray] = {}
    index = None
    for name, value in values.items():
        index = head_index(all_heads(*value.shape[1:])) if index is None else index
        mean, low, high = cluster_mean_interval(value.numpy(), clusters)
        columns |= {name: mean.ravel(), f"{name}_low": low.ravel(), f"{name}_high": high.ravel()}
    return pd.DataFrame(columns, index=index)
