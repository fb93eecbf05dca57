"""One run of the model over the prompts, and of it only what the measurements read.

Everything about a head is read at END, the position that predicts the answer, so that hundreds of
prompts are kept in tens of megabytes and each question about heads becomes linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.errors import ArchitectureError, ParameterError
from analysis.progress import progress_bar
from analysis.prompts.indirect_object import IOIPrompts
from analysis.weights import MLP_NORM, check_finite, check_runnable

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

RUN_TOGETHER = 25
"""Prompts that go through the model at once, always so many and filled up to the longest: float32
rounding may depend on the number of rows, and no number may on how many prompts there are."""

Replaced = Mapping[tuple[int, int], Float[Tensor, "n d_head"]]
"""By (layer, head), what stands for a head's z at END, for every prompt."""


@dataclass(frozen=True, eq=False)
class Activations:
    """What one run over n prompts leaves, on the processor.

    Attributes:
        z: float32 ``[n, n_layers, n_heads, d_head]``, what each head read at END, before W_O.
        final: float32 ``[n, d_model]``, the residual stream at END before the final norm.
        mlp_input: float64 ``[n, n_layers, d_model]``, the residual stream at END that the norm
            before each layer's MLP read.
        attention: float32 ``[n, n_layers, n_heads, 3]``, from END to IO, S1 and S2.
        named: float32 ``[n, 3, d_model]``, the residual stream after the first block at IO, S1
            and S2.
        io_logit: float32 ``[n]``.
        s_logit: float32 ``[n]``.
        io_is_argmax: whether IO has the largest logit of all tokens.
    """

    z: Float[Tensor, "n n_layers n_heads d_head"]
    final: Float[Tensor, "n d_model"]
    mlp_input: Float[Tensor, "n n_layers d_model"]
    attention: Float[Tensor, "n n_layers n_heads 3"]
    named: Float[Tensor, "n 3 d_model"]
    io_logit: Float[Tensor, "n"]
    s_logit: Float[Tensor, "n"]
    io_is_argmax: Bool[Tensor, "n"]

    @property
    def logit_difference(self) -> Float[Tensor, "n"]:
        """Logit of IO less that of S, float64."""
        return self.io_logit.double() - self.s_logit.double()


@torch.no_grad()
def run_prompts(
    model: TransformerBridge,
    prompts: IOIPrompts,
    *,
    counterfactual: bool = False,
    replaced: Replaced | None = None,
) -> Activations:
    """Run the prompts, or their counterfactuals, once.

    Args:
        model: raw weights, from ``load_model``.
        prompts: made for this model.
        counterfactual: run the sentences with the three other names; IO and S stay the prompts'.
        replaced: heads whose z at END is replaced in the run, and by what.

    Raises:
        ArchitectureError: the model's parts would not be read rightly.
        ParameterError: the prompts were made for a model with other tokens.
    """
    check_measurable(model)
    _check_made_for(model, prompts)
    tokens = prompts.counterfactual_tokens if counterfactual else prompts.tokens
    parts = []
    what = "counterfactuals" if counterfactual else "prompts"
    with progress_bar(len(prompts), f"running {what}", "prompt") as bar:
        for rows in torch.arange(len(prompts)).split(RUN_TOGETHER):
            parts.append(_run_together(model, prompts, tokens, rows, replaced or {}))
            bar.update(len(rows))
    return Activations(
        **{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    )


def _check_made_for(model: TransformerBridge, prompts: IOIPrompts) -> None:
    """Refuse prompts of another tokenizer."""
    first = prompts.frame.iloc[0]
    ids = model.tokenizer([first["text"]], add_special_tokens=False)["input_ids"][0]
    start, stop = int(prompts.prepend_bos), first["end_position"] + 1
    if list(ids) != prompts.tokens[0, start:stop].tolist():
        raise ParameterError(
            "the prompts were made for a model with other tokens; make them for this one: "
            "ioi_prompts(model, ...)."
        )


def check_measurable(model: TransformerBridge) -> None:
    """Refuse a model whose way from a head to the logits is not final norm and W_U alone.

    Raises:
        ArchitectureError: the architecture is unknown here, weights were processed, the model is
            in training mode, or the unembedding has a bias.
        WeightsError: a weight is NaN or infinite.
    """
    check_runnable(model)
    check_finite(model)
    if bool(model.b_U.any()):
        raise ArchitectureError(
            f"{model.cfg.model_name} has an unembedding bias, which the measurements of its heads "
            "do not know; use another model."
        )


def _run_together(
    model: TransformerBridge,
    prompts: IOIPrompts,
    all_tokens: Int[Tensor, "n longest"],
    asked: Int[Tensor, "n_asked"],
    replaced: Replaced,
) -> Activations:
    """One pass; where fewer prompts are asked for, the last of them fills it up."""
    n = len(asked)
    rows = torch.cat([asked, asked[-1:].expand(RUN_TOGETHER - n)])
    end = prompts.column("end_position")[rows]
    names = torch.stack(
        [prompts.column(f"{name}_position")[rows] for name in ("io", "s1", "s2")], dim=1
    )
    batch = torch.arange(len(rows))
    tokens = all_tokens[rows].to(model.W_E.device)
    z: dict[int, Tensor] = {}
    mlp_input: dict[int, Tensor] = {}
    attention: dict[int, Tensor] = {}
    kept: dict[str, Tensor] = {}

    def read_z(layer: int) -> Any:
        heads = {h: value[rows] for (at, h), value in replaced.items() if at == layer}

        def hook(value: Tensor, hook: Any) -> Tensor:
            if heads:
                value = value.clone()
                for head, instead in heads.items():
                    value[batch, end, head] = instead.to(value)
            z[layer] = value[batch, end].float().cpu()
            return value

        return hook

    def read_mlp_input(layer: int) -> Any:
        def hook(value: Tensor, hook: Any) -> None:
            mlp_input[layer] = value[batch, end].double().cpu()

        return hook

    def read_attention(layer: int) -> Any:
        def hook(value: Tensor, hook: Any) -> None:
            attention[layer] = value[batch[:, None], :, end[:, None], names].mT.float().cpu()

        return hook

    def read_named(value: Tensor, hook: Any) -> None:
        kept["named"] = value[batch[:, None], names].float().cpu()

    def read_final(value: Tensor, hook: Any) -> None:
        kept["final"] = value[batch, end].float().cpu()

    def only_end(value: Tensor, hook: Any) -> Tensor:
        return value[batch, end][:, None]  # spares the logits of all other positions

    layers = range(model.cfg.n_layers)
    mlp_norm = MLP_NORM[str(model.cfg.architecture)]
    hooks: list[tuple[str | Callable[..., Any], Callable[..., Any]]] = [
        *((f"blocks.{layer}.attn.hook_z", read_z(layer)) for layer in layers),
        *((f"blocks.{layer}.{mlp_norm}.hook_in", read_mlp_input(layer)) for layer in layers),
        *((f"blocks.{layer}.attn.hook_pattern", read_attention(layer)) for layer in layers),
        ("blocks.0.hook_out", read_named),
        ("ln_final.hook_in", read_final),
        ("unembed.hook_in", only_end),
    ]
    logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, 0].float().cpu()
    io = logits[batch, prompts.column("io_token")[rows]]
    found = Activations(
        z=torch.stack([z[layer] for layer in layers], dim=1),
        final=kept["final"],
        mlp_input=torch.stack([mlp_input[layer] for layer in layers], dim=1),
        attention=torch.stack([attention[layer] for layer in layers], dim=1),
        named=kept["named"],
        io_logit=io,
        s_logit=logits[batch, prompts.column("s_token")[rows]],
        io_is_argmax=io >= logits.max(dim=1).values,
    )
    return Activations(**{name: value[:n] for name, value in vars(found).items()})
