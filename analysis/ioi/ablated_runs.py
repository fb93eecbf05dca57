"""Runs in which some heads' z at END is replaced, many at the cost of few.

Replacing z at END changes nothing at earlier positions, so what comes before END is read once per
prompt, its keys and values kept, and END alone runs again for every set of replaced heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.exact.arithmetic import slices
from analysis.heads import HeadPair
from analysis.ioi.activations import check_measurable, mlp_inputs
from analysis.models.precision import exact_forward, plain_settings
from analysis.progress import progress_bar
from analysis.prompts.indirect_object import IOIPrompts
from analysis.prompts.prefix_cache import PrefixCache, build_prefix_cache, prefix_kwargs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Replaced = Mapping[HeadPair, Float[Tensor, "n d_head"]]
"""What stands for a head's z at END, for every prompt."""

PROMPTS_TOGETHER = 50
"""Prompts, all of one length, whose keys and values are held at once."""
ROWS_TOGETHER = 200
"""Prompts, times the cases that they are run for, that go through the model at once."""


@dataclass(frozen=True, eq=False)
class AtEnd:
    """What path patching reads of one run over n prompts, on the processor.

    Attributes:
        z: ``[n, n_layers, n_heads, d_head]``, every head's z at END.
        mlp_input: ``[n, n_layers, d_model]``, what reaches each MLP and its norm at END.
        resid_final: ``[n, d_model]``, the residual stream at END before the final norm.
        logit_difference: float64 ``[n]``, logit of IO less that of S.
    """

    z: Float[Tensor, "n n_layers n_heads d_head"]
    mlp_input: Float[Tensor, "n n_layers d_model"]
    resid_final: Float[Tensor, "n d_model"]
    logit_difference: Float[Tensor, "n"]


@plain_settings()
def run_with_replaced(
    model: TransformerBridge,
    prompts: IOIPrompts,
    cases: Sequence[Replaced],
    *,
    counterfactual: bool = False,
) -> list[AtEnd]:
    """Run the prompts, or their counterfactuals, once for each case of heads whose z is replaced.

    Of counterfactuals, too, IO and S stay the prompts'.
    """
    check_measurable(model)
    tokens = prompts.counterfactual_tokens if counterfactual else prompts.tokens
    end = prompts.column("end_position")
    found: list[list[AtEnd]] = [[] for _ in cases]
    order: list[Tensor] = []
    before_mlps = mlp_inputs(model)
    what = "running prompts without some heads"
    with progress_bar(len(prompts), what, "prompt") as bar, exact_forward(model):
        for length in end.unique().tolist():
            for rows in (end == length).nonzero()[:, 0].split(PROMPTS_TOGETHER):
                order.append(rows)
                last = tokens[rows, length : length + 1].to(model.W_E.device)
                before = build_prefix_cache(
                    model, tokens[rows, :length].to(model.W_E.device), following=last
                )
                n_together = max(1, ROWS_TOGETHER // len(rows))
                for some in slices(len(cases), n_together):
                    runs = _run_end(model, prompts, rows, last, before, cases[some], before_mlps)
                    for parts, run in zip(found[some], runs, strict=True):
                        parts.append(run)
                bar.update(len(rows))
    place = torch.cat(order).argsort()
    return [
        AtEnd(**{name: torch.cat([vars(p)[name] for p in parts])[place] for name in vars(parts[0])})
        for parts in found
    ]


def _run_end(
    model: TransformerBridge,
    prompts: IOIPrompts,
    rows: Int[Tensor, "n_some"],
    last: Int[Tensor, "n_some 1"],
    before: PrefixCache | None,
    cases: Sequence[Replaced],
    before_mlps: Sequence[str],
) -> list[AtEnd]:
    """One pass over the ends of some prompts, once for each case."""
    n = len(rows)
    kept: dict[str, Tensor] = {}

    def replace(layer: int) -> Callable[..., Any]:
        def hook(z: Tensor, hook: Any) -> Tensor:
            z = z.clone()
            for case, replaced in enumerate(cases):
                for (at, head), instead in replaced.items():
                    if at == layer:
                        z[case * n : (case + 1) * n, -1, head] = instead[rows].to(z)
            kept[f"z{layer}"] = z[:, -1].double().cpu()
            return z

        return hook

    def keep(name: str) -> Callable[..., Any]:
        def hook(value: Tensor, hook: Any) -> None:
            kept[name] = value[:, -1].double().cpu()

        return hook

    layers = range(model.cfg.n_layers)
    hooks: list[tuple[str | Callable[..., Any], Callable[..., Any]]] = [
        *((f"blocks.{layer}.attn.hook_z", replace(layer)) for layer in layers),
        *((name, keep(name)) for name in before_mlps),
        ("ln_final.hook_in", keep("resid_final")),
    ]
    everything = prefix_kwargs(before, torch.arange(n, device=last.device).repeat(len(cases)))
    ends = last.repeat(len(cases), 1)
    logits = model.run_with_hooks(ends, fwd_hooks=hooks, **everything)[:, -1].double().cpu()
    io, s = (
        prompts.column(f"{name}_token")[rows, None].repeat(len(cases), 1) for name in ("io", "s")
    )
    whole = {
        "z": torch.stack([kept[f"z{layer}"] for layer in layers], dim=1),
        "mlp_input": torch.stack([kept[name] for name in before_mlps], dim=1),
        "resid_final": kept["resid_final"],
        "logit_difference": (logits.gather(1, io) - logits.gather(1, s))[:, 0],
    }
    return [
        AtEnd(**{name: value[case] for name, value in whole.items()})
        for case in slices(len(ends), n)
    ]
