"""What each head adds to the logit difference by itself: path patching, and attribution.

Path patching from a head to the logits (after Wang et al., *Interpretability in the Wild*,
arXiv 2211.00593, section 3.1) runs the prompt once more with one change: the head's output at END
is what it was on the counterfactual, while everything between the head and the logits, all other
heads and all MLPs, is frozen to what it was on the prompt. So the change reaches the logits through
the residual stream alone, and only the final norm, its scale included, is computed afresh. (Wang et
al. freeze the other heads only: their direct path may also run through later MLPs, which are
computed afresh. Effects are then larger or smaller by what those MLPs make of the change.)

    direct effect of head (l, h) = D(r) - D(r + (z'_lh - z_lh)·W_O)

with the final residual r of the prompt at END, the head's z on the prompt and z' on the
counterfactual, and D(r) the logit difference of IO and S that the final norm and W_U make of r.
Positive heads raise the logit difference; the paper plots the change that patching makes, which has
the opposite sign. Because nothing between is computed, one run over the prompts and one over the
counterfactuals give every head.

Direct logit attribution, beside it, is the part z·W_O of r sent through the final norm with the
scale that it had, and through W_U. It needs no counterfactual, and is linear: all parts of r add up
to the logit difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.architecture.norms import centred, norm_parameters, normalise
from analysis.heads import all_heads, head_index
from analysis.ioi.activations import Activations, run_prompts
from analysis.prompts.indirect_object import IOIPrompts
from analysis.statistics import mean_interval
from analysis.weights import output_weights, unembedding_matrix

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def direct_effects(model: TransformerBridge, prompts: IOIPrompts) -> pd.DataFrame:
    """Direct effect and direct logit attribution of every head.

    Returns:
        Indexed by ``layer`` and ``head``, in logits: ``direct_effect`` and ``attribution``, means
        over prompts, each with the ends ``_low`` and ``_high`` of its 95 % interval.
    """
    clean = run_prompts(model, prompts)
    other = run_prompts(model, prompts, counterfactual=True)
    return over_prompts(
        direct_effect=path_effects(model, prompts, clean, other),
        attribution=attributions(model, prompts, clean),
    )


@torch.no_grad()
def path_effects(
    model: TransformerBridge,
    prompts: IOIPrompts,
    clean: Activations,
    counterfactual: Activations,
) -> Float[Tensor, "n n_layers n_heads"]:
    """Direct effect of every head on every prompt's logit difference, float64, in logits."""
    readout = _readout(model, prompts.column("io_token")) - _readout(
        model, prompts.column("s_token")
    )

    def difference(residual: Tensor) -> Tensor:
        return torch.einsum("n...d,nd->n...", normalise(model, model.ln_final, residual), readout)

    final = clean.resid_final.double()
    before = difference(final)[:, None]
    effects = []
    for layer in range(model.cfg.n_layers):
        change = (counterfactual.z[:, layer].double() - clean.z[:, layer].double()).contiguous()
        effects.append(before - difference(final[:, None] + _written(model, layer, change)))
    return torch.stack(effects, dim=1)


@torch.no_grad()
def attributions(
    model: TransformerBridge, prompts: IOIPrompts, clean: Activations
) -> Float[Tensor, "n n_layers n_heads"]:
    """Direct logit attribution of every head to the logit difference, float64, in logits."""
    return logits_written(model, clean, prompts.column("io_token")) - logits_written(
        model, clean, prompts.column("s_token")
    )


@torch.no_grad()
def logits_written(
    model: TransformerBridge, clean: Activations, tokens: Int[Tensor, "n"]
) -> Float[Tensor, "n n_layers n_heads"]:
    """What every head at END adds to the logit of each prompt's token.

    The final norm keeps the scale that it had in the run; its bias belongs to no head.
    """
    gain, _ = norm_parameters(model, model.ln_final, torch.device("cpu"))
    scale = _scale(model, clean.resid_final.double())
    direction = centred(model, gain * _readout(model, tokens)) / scale[:, None]
    return torch.stack(
        [
            torch.einsum(
                "nhd,nd->nh", _written(model, layer, clean.z[:, layer].double()), direction
            )
            for layer in range(model.cfg.n_layers)
        ],
        dim=1,
    )


def over_prompts(**values: Float[Tensor, "n n_layers n_heads"]) -> pd.DataFrame:
    """Means over prompts with their intervals.

    Returns:
        For each keyword a column of its name and the columns ``_low`` and ``_high``, indexed by
        ``layer`` and ``head``.
    """
    columns: dict[str, np.ndarray] = {}
    for name, value in values.items():
        mean, low, high = mean_interval(value.numpy())
        columns |= {name: mean.ravel(), f"{name}_low": low.ravel(), f"{name}_high": high.ravel()}
    return pd.DataFrame(columns, index=head_index(all_heads(*value.shape[1:])))


def _written(
    model: TransformerBridge, layer: int, z: Float[Tensor, "n n_heads d_head"]
) -> Float[Tensor, "n n_heads d_model"]:
    """``z·W_O`` of each head of a layer."""
    W_O = output_weights(model, layer).to(z)
    return torch.einsum("nhk,hkd->nhd", z, W_O)


def _readout(model: TransformerBridge, tokens: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
    """Columns of W_U."""
    W_U = unembedding_matrix(model)
    return W_U[:, tokens.to(W_U.device)].T.cpu().double()


def _scale(model: TransformerBridge, x: Float[Tensor, "n d_model"]) -> Float[Tensor, "n"]:
    """What the final norm divides by."""
    return (centred(model, x).square().mean(-1) + float(model.cfg.eps)).sqrt()
