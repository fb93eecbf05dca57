"""The identities that hold on the weights of a model that is read correctly.

1. **attention**: for a single token Σ_heads (x·W_V + b_V)·W_O + b_O is what transformers' attention
   module gives for x, in float64, for every layer;
2. **first block**: what ``effective_embedding`` gives is what the loaded model's own modules give
   when they run, the attention's output being zero;
3. **unembedding**: W_U applied to a final residual stream, after the final norm, orders the
   vocabulary as the model's logits do (a scale or a soft-cap keeps the order), in float64;
4. **logits** (for what runs the model): transformer_lens' logits are those of transformers;
5. **residual stream** (for direct effects): each block adds Σ_heads z·W_O + b_O and its MLP's
   output to the residual stream as they are, with no norm or factor between;
6. **direct path** (likewise): the final norm and W_U make the logits of the final residual stream,
   with no scale, bias or soft-cap.

All run in float64, the model as it is loaded included.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from analysis.architecture.float64 import Float64Mode
from analysis.architecture.model_parts import (
    one_block,
    plain_model,
    probed,
    set_parameter,
    switch_sinks_off,
)
from analysis.architecture.norms import normalise
from analysis.architecture.readable import ReadableModel, WeightReader
from analysis.embeddings import effective_embedding
from analysis.errors import AnalysisError, ArchitectureError, first_line
from analysis.weights import (
    attention_output_weights,
    embedding_matrix,
    final_norm,
    float64_device,
    projection_name,
    unembedding_matrix,
    value_weights,
    weight_reader,
)

N_TOKENS = 8
"""Tokens whose first block is compared."""
N_LOGITS = 4096
"""Tokens, at most, whose logits are compared."""

_EXACT = 1e-6
"""Largest relative difference of what is computed in float64 both times."""
_HALF = 3e-2
"""The same for a model in half precision, some of whose computed buffers (positions, a scale of the
embedding) are rounded to its dtype when it is cast."""


_T = TypeVar("_T")


def refuses_errors(what_fails: str) -> Callable[[Callable[[Any], _T]], Callable[[Any], _T]]:
    """Let a function of a model refuse it where the libraries raise an error of their own."""

    def decorate(function: Callable[[Any], _T]) -> Callable[[Any], _T]:
        @functools.wraps(function)
        def refusing(model: Any) -> _T:
            try:
                return function(model)
            except (AnalysisError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # transformers and transformer_lens raise many kinds
                raise ArchitectureError(
                    f"{model.cfg.model_name} ({model.cfg.architecture}) is not scored, since its "
                    f"{what_fails} ({first_line(error)}); use another model."
                ) from error

        return refusing

    return decorate


def _limit(model: ReadableModel) -> float:
    return _EXACT if embedding_matrix(model).dtype in (torch.float32, torch.float64) else _HALF


@dataclass(frozen=True)
class Identity:
    """One identity, as found.

    Attributes:
        name: ``attention``, ``first block``, ``unembedding``, ``logits``, ``residual stream`` or
            ``direct path``.
        error: largest difference, relative to the size of what was compared.
        limit: the largest that is admitted.
        where: what was compared.
    """

    name: str
    error: float
    limit: float
    where: str

    @property
    def holds(self) -> bool:
        """Whether the error is within the limit; not if it is NaN."""
        return self.error <= self.limit


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-300))


def layers_compared(model: ReadableModel) -> list[int]:
    """Layers to look at: all of a loaded model, first and last of a checkpoint on disk."""
    n_layers = model.cfg.n_layers
    return list(range(n_layers)) if isinstance(model, nn.Module) else sorted({0, n_layers - 1})


@refuses_errors("attention fails on one token")
@torch.no_grad()
def attention_identity(model: ReadableModel) -> Identity:
    """Number 1, its worst layer."""
    reader, device = weight_reader(model), float64_device(model)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, model.cfg.d_model, dtype=torch.float64, generator=generator).to(device)
    worst = -1.0
    for layer in layers_compared(model):
        theirs = _attention_output(reader, layer, x)
        ours = _sum_of_heads(model, layer, x.flatten())
        error = _relative_error(ours, theirs)
        if not error <= worst:  # NaN too
            worst = error
    where = "the sum over heads of x·W_V·W_O and the attention module's output"
    return Identity("attention", worst, _EXACT, where)


def _attention_output(reader: WeightReader, layer: int, x: Tensor) -> Tensor:
    """What transformers' attention module gives for one token."""
    paths = reader.paths
    inside, unread = f"{paths.attention_of(layer)}.", paths.unread_of(layer)

    def tensor(name: str) -> Tensor | None:
        read = name.startswith(inside) and not name.startswith(unread)
        return reader.tensor(name) if read else None

    hf_model = one_block(reader.hf_config, paths, layer, tensor, reader.device)
    attention = hf_model.get_submodule(paths.attention_of(0))
    switch_sinks_off(attention)
    token = torch.zeros(1, 1, dtype=torch.long, device=x.device)
    with Float64Mode(), probed(attention, instead=x) as probe:
        hf_model(input_ids=token, use_cache=False)
    if probe.gave is None:
        raise ArchitectureError(f"the attention of layer {layer} does not run in its block.")
    return probe.gave.flatten()


def _sum_of_heads(model: ReadableModel, layer: int, x: Tensor) -> Tensor:
    V = value_weights(model, layer).to(x)
    O = attention_output_weights(model, layer).to(x)  # noqa: E741
    attention = model.blocks[layer].attn
    values = torch.einsum("d,gdh->gh", x, V)
    if attention.b_V is not None:
        values = values + attention.b_V.detach().to(x).reshape(values.shape)
    values = values.repeat_interleave(O.shape[0] // V.shape[0], dim=0)
    written = torch.einsum("gh,ghd->d", values, O)
    return written if attention.b_O is None else written + attention.b_O.detach().to(x)


@refuses_errors("first block fails")
@torch.no_grad()
def first_block_identities(model: ReadableModel) -> list[Identity]:
    """Number 2: the embedding and the MLP, against the model as it runs."""
    if not isinstance(model, nn.Module):
        return []  # the modules that a checkpoint's vectors come from are the model's own already
    found = []
    d_vocab = embedding_matrix(model).shape[0]
    tokens = torch.linspace(0, d_vocab - 1, min(N_TOKENS, d_vocab)).long()
    for kind, what in (
        ("embedding", "the embedding that enters the first block"),
        ("mlp", "the first MLP's output"),
    ):
        ours = effective_embedding(model, tokens, kind)
        error = _relative_error(ours, _as_run(model, tokens, kind).to(ours))
        where = f"{what} and that of the model as it runs"
        found.append(Identity("first block", error, _limit(model), where))
    return found


def _as_run(model: Any, tokens: Tensor, kind: str) -> Tensor:
    """What enters the first block, or what its MLP adds, when the loaded model runs."""
    block = model.blocks[0]
    parts = dict(block.named_children())
    module = block if kind == "embedding" else parts.get("ln2_post") or _last_layer(parts["mlp"])
    ids = tokens.to(embedding_matrix(model).device)[:, None]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_evaluating(model.original_model))
        stack.enter_context(Float64Mode())
        stack.enter_context(_zeroed(block.attn.o))
        if hasattr(model, "pos_embed"):
            stack.enter_context(_zeroed(model.pos_embed))
        probe = stack.enter_context(probed(module, stop_before=kind == "embedding"))
        model.original_model(input_ids=ids, use_cache=False)
    found = probe.given if kind == "embedding" else probe.gave
    if found is None:
        raise ArchitectureError(f"{model.cfg.model_name} does not run its first block's {kind}.")
    return found.reshape(len(tokens), -1).double()


def _last_layer(mlp: nn.Module) -> nn.Module:
    """The layer that writes an MLP's output; the MLP itself where experts do."""
    out = dict(mlp.named_children()).get("out")
    return mlp if out is None else out


@contextlib.contextmanager
def _zeroed(module: nn.Module) -> Iterator[None]:
    """Let a module's output be zero."""

    def zero(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (torch.zeros_like(output[0]), *output[1:])
        return torch.zeros_like(output)

    handle = module.register_forward_hook(zero)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, whatever each module was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@refuses_errors("unembedding fails")
@torch.no_grad()
def unembedding_identity(model: ReadableModel) -> Identity:
    """Number 3."""
    reader, device = weight_reader(model), float64_device(model)
    paths = reader.paths
    W_U = unembedding_matrix(model)
    chosen = torch.linspace(0, W_U.shape[1] - 1, min(N_LOGITS, W_U.shape[1])).long()
    named = (paths.blocks, paths.embedding, paths.unembedding, paths.positions)
    left_out = tuple(f"{name}." for name in named if name)
    hf_model = one_block(
        reader.hf_config,
        paths,
        0,
        lambda name: None if name.startswith(left_out) else reader.tensor(name),
        device,
    )
    parent, _, own = paths.blocks.rpartition(".")
    setattr(hf_model.get_submodule(parent), own, nn.ModuleList())  # straight to the final norm
    generator = torch.Generator().manual_seed(0)
    table: Any = hf_model.get_submodule(paths.embedding)
    table.padding_idx = None
    rows = torch.randn(4, embedding_matrix(model).shape[1], generator=generator).to(device)
    set_parameter(hf_model, f"{paths.embedding}.weight", rows)
    raw = torch.as_tensor(model.W_U).detach()[:, chosen.to(W_U.device)].T.to(device)
    set_parameter(hf_model, f"{paths.unembedding}.weight", raw)
    last = paths.unembedding
    if raw.shape[1] != model.cfg.d_model:
        last = projection_name(model).removesuffix(".weight")
    tokens = torch.arange(len(rows), device=device)[:, None]
    with Float64Mode(), probed(hf_model.get_submodule(last), stop=False) as probe:
        logits = hf_model(input_ids=tokens, use_cache=False).logits[:, -1, : len(chosen)]
    if probe.given is None:
        raise ArchitectureError(f"{model.cfg.model_name} does not run its unembedding.")
    final = probe.given.reshape(len(rows), -1).double()
    ours = final @ W_U[:, chosen.to(W_U.device)].to(final)
    sorted_logits = logits.double().gather(1, ours.argsort(dim=1))
    falls = (sorted_logits.cummax(1).values - sorted_logits).amax(1)
    ranges = sorted_logits.amax(1) - sorted_logits.amin(1)
    error = float((falls / ranges.clamp_min(1e-300)).max())
    where = "the order of W_U's logits and that of the model's own"
    return Identity("unembedding", error, _EXACT, where)


@refuses_errors("forward pass fails")
@torch.no_grad()
def logits_identity(model: Any) -> Identity:
    """Number 4."""
    reader = weight_reader(model)
    E = embedding_matrix(model)
    hf_model = plain_model(
        reader.hf_config, lambda name: reader.tensor(name).to(E.device), E.device
    )
    ids = torch.linspace(0, E.shape[0] - 1, 12, device=E.device).long()[None]
    with Float64Mode():
        theirs = hf_model(input_ids=ids, use_cache=False).logits[0].double()
        ours = model(ids)[0].double()
    error = float((ours - theirs).abs().max() / (theirs.max() - theirs.min()).clamp_min(1e-300))
    where = "the logits of transformer_lens and of transformers"
    return Identity("logits", error, _limit(model), where)


@refuses_errors("forward pass fails")
@torch.no_grad()
def direct_identities(model: Any) -> list[Identity]:
    """Numbers 5 and 6."""
    E = embedding_matrix(model)
    ids = torch.linspace(0, E.shape[0] - 1, 6, device=E.device).long()[None]
    with Float64Mode():
        logits, cache = model.run_with_cache(ids)
    worst = 0.0
    for layer in range(model.cfg.n_layers):
        at = f"blocks.{layer}"
        W_O = attention_output_weights(model, layer).double()
        z = cache[f"{at}.attn.hook_z"][0].double().reshape(ids.shape[1], *W_O.shape[:2])
        added = torch.einsum("phe,hed->pd", z, W_O) + cache[f"{at}.hook_mlp_out"][0].double()
        bias = model.blocks[layer].attn.b_O
        added = added if bias is None else added + bias.detach().double()
        change = cache[f"{at}.hook_out"][0].double() - cache[f"{at}.hook_in"][0].double()
        error = _relative_error(added, change)
        worst = error if not error <= worst else worst
    where = "what a block adds to the residual stream and the sum of its heads and MLP"
    stream = Identity("residual stream", worst, _limit(model), where)
    final = cache[f"blocks.{model.cfg.n_layers - 1}.hook_out"][0].double()
    W_U = unembedding_matrix(model).to(final)
    error = _relative_error(normalise(final_norm(model), final) @ W_U, logits[0].double())
    where = "the logits and W_U applied to the final norm of the residual stream"
    return [stream, Identity("direct path", error, _limit(model), where)]
