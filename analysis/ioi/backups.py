"""Which heads take over when the name movers are gone?

Wang et al. (arXiv 2211.00593, section 3.4) ablate the name movers and measure the direct effects
again: heads that did little before now do the work. Ablation here is mean ablation at END, the only
position from which a name mover reaches the answer: in every run, over the prompts and over the
counterfactuals, its z is replaced by its mean over the counterfactuals of the same template. All
heads after it see the change; then direct effects are measured as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.heads import HeadPair
from analysis.ioi.ablated_runs import Replaced, run_with_replaced
from analysis.ioi.activations import Activations
from analysis.ioi.direct_effects import path_effects
from analysis.prompts.indirect_object import IOIPrompts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, eq=False)
class AfterAblation:
    """The model without some heads.

    Attributes:
        ablated: their (layer, head).
        effects: float64 ``[n, n_chosen]``, direct effects on each prompt, in logits, of the heads
            asked for; of an ablated head exactly 0.
        logit_difference: float64 ``[n]``.
    """

    ablated: tuple[HeadPair, ...]
    effects: Float[Tensor, "n n_chosen"]
    logit_difference: Float[Tensor, "n"]


def effects_after_ablation(
    model: TransformerBridge,
    prompts: IOIPrompts,
    counterfactual: Activations,
    cases: Sequence[Sequence[HeadPair]],
    *,
    heads: Sequence[Sequence[HeadPair]],
    freeze_mlps: bool = False,
) -> list[AfterAblation]:
    """Measure direct effects again without some heads: of each case, those that are asked for.

    The counterfactuals' run is of the whole model.
    """
    means = [template_means(prompts, counterfactual, ablated) for ablated in cases]
    clean = run_with_replaced(model, prompts, means)
    other = run_with_replaced(model, prompts, means, counterfactual=True)
    return [
        AfterAblation(
            tuple((int(layer), int(head)) for layer, head in ablated),
            path_effects(model, prompts, c, o, heads=wanted, freeze_mlps=freeze_mlps),
            c.logit_difference,
        )
        for ablated, wanted, c, o in zip(cases, heads, clean, other, strict=True)
    ]


def template_means(
    prompts: IOIPrompts, counterfactual: Activations, heads: Iterable[HeadPair]
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
