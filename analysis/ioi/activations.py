"""One run of the model over the prompts, and of it only what the measurements read.

Everything about a head is read at END, the position that predicts the answer, so that hundreds of
prompts are kept in tens of megabytes and each question about heads becomes linear algebra. The
model runs in float64 throughout (``models.precision``), and what is kept is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.embeddings import mlp_reads_attention
from analysis.errors import ArchitectureError, ParameterError
from analysis.exact.arithmetic import concatenated
from analysis.models.admission import check_additive
from analysis.models.precision import exact_forward, is_largest, plain_settings
from analysis.progress import progress_bar
from analysis.prompts.indirect_object import IOIPrompts
from analysis.tokenizers import encode, tokenizer_fingerprint
from analysis.weights import check_finite

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

RUN_TOGETHER = 25
"""Prompts that go through the model at once, filled up to the longest."""


@dataclass(frozen=True, eq=False)
class Activations:
    """What one run over n prompts leaves, on the processor.

    Attributes:
        z: float64 ``[n, n_layers, n_heads, d_head]``, what each head read at END, before W_O.
        resid_final: float64 ``[n, d_model]``, the residual stream at END before the final norm.
        mlp_input: float64 ``[n, n_layers, d_model]``, what reaches each MLP and its norm at END.
        attention: float64 ``[n, n_layers, n_heads, 3]``, from END to IO, S1 and S2.
        resid_post_0_at_names: float64 ``[n, 3, d_model]``, the residual stream after the first
            block at IO, S1 and S2.
        io_logit: float64 ``[n]``.
        s_logit: float64 ``[n]``.
        io_is_argmax: whether IO has the largest logit (``precision.is_largest``).
        is_near_tie: where it has, whether another token is too near to tell apart.
    """

    z: Float[Tensor, "n n_layers n_heads d_head"]
    resid_final: Float[Tensor, "n d_model"]
    mlp_input: Float[Tensor, "n n_layers d_model"]
    attention: Float[Tensor, "n n_layers n_heads 3"]
    resid_post_0_at_names: Float[Tensor, "n 3 d_model"]
    io_logit: Float[Tensor, "n"]
    s_logit: Float[Tensor, "n"]
    io_is_argmax: Bool[Tensor, "n"]
    is_near_tie: Bool[Tensor, "n"]

    @property
    def logit_difference(self) -> Float[Tensor, "n"]:
        """Logit of IO less that of S, float64."""
        return self.io_logit - self.s_logit


@plain_settings()
def run_prompts(
    model: TransformerBridge,
    prompts: IOIPrompts,
    *,
    counterfactual: bool = False,
) -> Activations:
    """Run the prompts, or their counterfactuals, once.

    Of counterfactuals, too, IO and S stay the prompts'.

    Raises:
        ArchitectureError: the model's architecture is not supported, or its device has no float64.
        ParameterError: the prompts were made for a model with other tokens.
    """
    check_measurable(model)
    _check_made_for(model, prompts)
    tokens = prompts.counterfactual_tokens if counterfactual else prompts.tokens
    before_mlps = mlp_inputs(model)
    parts = []
    what = "counterfactuals" if counterfactual else "prompts"
    with progress_bar(len(prompts), f"running {what}", "prompt") as bar, exact_forward(model):
        for rows in torch.arange(len(prompts)).split(RUN_TOGETHER):
            parts.append(_run_together(model, prompts, tokens, rows, before_mlps))
            bar.update(len(rows))
    return concatenated(parts)


def _check_made_for(model: TransformerBridge, prompts: IOIPrompts) -> None:
    """Refuse prompts of another tokenizer."""
    first = prompts.frame.iloc[0]
    ids = encode(model.tokenizer, first["text"])
    start, stop = int(prompts.prepend_bos), first["end_position"] + 1
    known = not prompts.tokenizer or prompts.tokenizer == tokenizer_fingerprint(model.tokenizer)
    if not known or ids != prompts.tokens[0, start:stop].tolist():
        raise ParameterError(
            "the prompts were made for a model with other tokens; make them for this one: "
            "ioi_prompts(model, ...)."
        )


def check_measurable(model: TransformerBridge) -> None:
    """Refuse a model whose way from a head to the logits is not final norm and W_U alone."""
    check_additive(model)
    check_finite(model)
    if bool(model.b_U.any()):
        raise ArchitectureError(
            f"{model.cfg.model_name} has an unembedding bias, which the measurements of its heads "
            "do not know; use another model."
        )


def mlp_inputs(model: TransformerBridge) -> list[str]:
    """For each layer, the hook that sees what reaches the MLP and its norm.

    The residual stream after the attention; in a parallel block what the attention reads too. The
    attention's output is not added up here, for Bloom's holds the residual stream already.
    """
    point = "ln2.hook_in" if mlp_reads_attention(model) else "hook_in"
    return [f"blocks.{layer}.{point}" for layer in range(model.cfg.n_layers)]


def _run_together(
    model: TransformerBridge,
    prompts: IOIPrompts,
    all_tokens: Int[Tensor, "n longest"],
    asked: Int[Tensor, "n_asked"],
    before_mlps: Sequence[str],
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
    attention: dict[int, Tensor] = {}
    mlp_input: dict[int, Tensor] = {}
    kept: dict[str, Tensor] = {}

    def read_attention(layer: int) -> Any:
        def hook(value: Tensor, hook: Any) -> None:
            attention[layer] = value[batch[:, None], :, end[:, None], names].mT.cpu()

        return hook

    def read_end(into: dict[Any, Tensor], key: int | str) -> Any:
        def hook(value: Tensor, hook: Any) -> None:
            into[key] = value[batch, end].cpu()

        return hook

    def read_at_names(value: Tensor, hook: Any) -> None:
        kept["resid_post_0_at_names"] = value[batch[:, None], names].cpu()

    def only_end(value: Tensor, hook: Any) -> Tensor:
        return value[batch, end][:, None]  # spares the logits of all other positions

    layers = range(model.cfg.n_layers)
    hooks: list[tuple[str | Callable[..., Any], Callable[..., Any]]] = [
        *((f"blocks.{layer}.attn.hook_z", read_end(z, layer)) for layer in layers),
        *((f"blocks.{layer}.attn.hook_pattern", read_attention(layer)) for layer in layers),
        *((name, read_end(mlp_input, layer)) for layer, name in enumerate(before_mlps)),
        ("blocks.0.hook_out", read_at_names),
        ("ln_final.hook_in", read_end(kept, "resid_final")),
        ("unembed.hook_in", only_end),
    ]
    logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, 0].cpu()
    io = logits[batch, prompts.column("io_token")[rows]]
    io_is_argmax, is_near_tie = is_largest(io, logits)
    found = Activations(
        z=torch.stack([z[layer] for layer in layers], dim=1),
        **kept,
        mlp_input=torch.stack([mlp_input[layer] for layer in layers], dim=1),
        attention=torch.stack([attention[layer] for layer in layers], dim=1),
        io_logit=io,
        s_logit=logits[batch, prompts.column("s_token")[rows]],
        io_is_argmax=io_is_argmax,
        is_near_tie=is_near_tie,
    )
    return Activations(**{name: value[:n] for name, value in vars(found).items()})
