"""Who takes over when the name movers are gone?

Wang et al. (arXiv 2211.00593, section 3.4) knock the name movers out and measure the direct effects
again: heads that did little before now do the work. Here a head is knocked out by mean ablation at
END, the only position from which a name mover reaches the answer: in every run, over the prompts
and over the counterfactuals, its z is replaced by its mean over the counterfactuals of the same
template. All heads after it see the change; then the direct effects are measured as before, with
everything between a head and the logits frozen to the run without the name movers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.ioi.activations import Activations, Replaced, run_prompts
from analysis.ioi.direct_effects import path_effects
from analysis.prompts.indirect_object import IOIPrompts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, eq=False)
class AfterRemoval:
    """The model without some heads.

    Attributes:
        removed: their (layer, head).
        effects: float64 ``[n, n_layers, n_heads]``, direct effects on each prompt; of a removed
            head exactly 0.
        logit_difference: float64 ``[n]``.
    """

    removed: tuple[tuple[int, int], ...]
    effects: Float[Tensor, "n n_layers n_heads"]
    logit_difference: Float[Tensor, "n"]


def after_removal(
    model: TransformerBridge,
    prompts: IOIPrompts,
    counterfactual: Activations,
    heads: Iterable[tuple[int, int]],
) -> AfterRemoval:
    """Measure the direct effects again without some heads.

    Args:
        model: the model of the run.
        prompts: that were run.
        counterfactual: their counterfactuals' run, of the whole model.
        heads: to remove, (layer, head).
    """
    removed = tuple((int(layer), int(head)) for layer, head in heads)
    means = template_means(prompts, counterfactual, removed)
    clean = run_prompts(model, prompts, replaced=means)
    other = run_prompts(model, prompts, counterfactual=True, replaced=means)
    return AfterRemoval(removed, path_effects(model, prompts, clean, other), clean.logit_difference)


def template_means(
    prompts: IOIPrompts, counterfactual: Activations, heads: Iterable[tuple[int, int]]
) -> Replaced:
    """For each prompt, each head's mean z over the counterfactuals of the prompt's template."""
    template = prompts.column("template")
    means = {}
    for layer, head in heads:
        z = counterfactual.z[:, layer, head].double()
        sums = torch.zeros(int(template.max()) + 1, z.shape[1], dtype=z.dtype)
        sums.index_add_(0, template, z)
        counts = template.bincount(minlength=len(sums)).clamp_min(1)
        means[layer, head] = (sums / counts[:, None])[template]
    return means
