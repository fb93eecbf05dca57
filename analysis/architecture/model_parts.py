"""Where a model keeps the parts that the scores read, and its blocks as transformers builds them.

Two sources say everything, so that no family is written out here:

* transformer_lens' adapter of the architecture names the parts: which module embeds, attends,
  unembeds;
* transformers builds a block from the model's config, without memory for its weights, and the
  weights at hand are put into it. So a norm, an MLP or a router is run by the model's own code.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from analysis.errors import ArchitectureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CPU = torch.device("cpu")
_WRAPPER = "_original_component."
"""What transformer_lens puts into the names of parameters that transformers gave."""


@dataclass(frozen=True)
class ModelPaths:
    """Names of a model's modules, as transformers gives them.

    Attributes:
        embedding: of tokens (``model.embed_tokens``).
        positions: of learned positions, or None.
        blocks: the list of blocks (``model.layers``).
        attention: within a block (``self_attn``).
        norm: within a block, the norm before its attention, or None (OLMo 2).
        mlp: within a block, the module whose output is what the MLP adds to the residual stream:
            the MLP, its last layer, or the norm after it.
        unembedding: ``lm_head``.
        unread: parameters within a block's attention that make queries and keys only.
    """

    embedding: str
    positions: str | None
    blocks: str
    attention: str
    norm: str | None
    mlp: str
    unembedding: str
    unread: tuple[str, ...]

    def block(self, layer: int) -> str:
        """The name of one block."""
        return f"{self.blocks}.{layer}"

    def attention_of(self, layer: int) -> str:
        """The name of one block's attention."""
        return f"{self.block(layer)}.{self.attention}"

    def unread_of(self, layer: int) -> tuple[str, ...]:
        """Beginnings of the names of the parameters that make one block's queries and keys only."""
        return tuple(f"{self.attention_of(layer)}.{part}" for part in self.unread)


def model_paths(adapter: Any) -> ModelPaths:
    """The names that transformer_lens' adapter of an architecture knows.

    Args:
        adapter: ``bridge.adapter``.

    Raises:
        ArchitectureError: it has no blocks of attention and MLP.
    """
    mapping = adapter.get_component_mapping()
    try:
        block = mapping["blocks"].submodules
        attention, mlp = block["attn"], block["mlp"]
        after = block.get("ln2_post")
        last = after or (mlp if mlp.name else mlp.submodules["out"])
        fused = "qkv" in attention.submodules
        unread = (
            () if fused else tuple(f"{attention.submodules[part].name}." for part in ("q", "k"))
        )
        return ModelPaths(
            embedding=mapping["embed"].name,
            positions=mapping["pos_embed"].name if "pos_embed" in mapping else None,
            blocks=mapping["blocks"].name,
            attention=attention.name,
            norm=block["ln1"].name if "ln1" in block else None,
            mlp=last.name,
            unembedding=mapping["unembed"].name,
            unread=unread,
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise ArchitectureError(
            f"{adapter.cfg.model_name} is a {adapter.cfg.architecture}, which has no blocks of "
            f"attention heads and an MLP (transformer_lens names no {error})."
        ) from error


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers by the names that transformers gives them."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return {name.replace(_WRAPPER, ""): tensor.detach() for name, tensor in named}


def one_block(
    config: Any,
    paths: ModelPaths,
    layer: int,
    tensor: Callable[[str], Tensor | None],
    device: torch.device = _CPU,
) -> PreTrainedModel:
    """A plain transformers model with one block only, that of ``layer``.

    Args:
        config: of the whole model; it is not changed.
        paths: where the parts are.
        layer: the block to build; it is block 0 of the result.
        tensor: gives a parameter by its name in the whole model. None stands for zeros, which
            take no memory.
        device: where the tensors are.
    """
    mine, whole = f"{paths.block(0)}.", f"{paths.block(layer)}."
    # Models choose a block's parts by its number (MLP or experts), so it is taken from all blocks.
    rest, blocks = _SKELETONS.of(config, paths)
    copies: dict[int, Any] = {}  # what both refer to, as the config, is copied once
    model = copy.deepcopy(rest, copies)
    replace_submodule(model, paths.blocks, nn.ModuleList([copy.deepcopy(blocks[layer], copies)]))
    _leave_one_layer(model.config, layer, len(blocks))
    return _filled(model, lambda name: tensor(name.replace(mine, whole, 1)), device)


def dimensions(config: Any, paths: ModelPaths, layer: int) -> dict[str, int]:
    """How many dimensions each parameter of the model ``one_block`` has, by its name there."""
    rest, blocks = _SKELETONS.of(config, paths)
    named = [
        *rest.named_parameters(remove_duplicate=False),
        *blocks[layer].named_parameters(paths.block(0), remove_duplicate=False),
    ]
    return {name: parameter.ndim for name, parameter in named}


def first_block(config: Any) -> PreTrainedModel:
    """A plain transformers model of zeros with the first block only; ``config`` is not changed."""
    config = copy.copy(config)  # attributes are replaced, none is changed
    _leave_one_layer(config, 0, config.num_hidden_layers)
    return plain_model(config, lambda _: None)


def plain_model(
    config: Any, tensor: Callable[[str], Tensor | None], device: torch.device = _CPU
) -> PreTrainedModel:
    """A transformers model on given weights, in evaluation mode, with eager attention and experts.

    Args:
        config: of the model.
        tensor: gives a parameter by its name, kept as it is; None stands for zeros, which take no
            memory.
        device: where the tensors are, and where computed buffers go.
    """
    return _filled(_empty_model(config), tensor, device)


def _empty_model(config: Any) -> Any:
    """A transformers model whose parameters take no memory; it has a copy of ``config``."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    empty = init_empty_weights(include_buffers=False)
    with empty, NoDraws(), torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_config(
            copy.deepcopy(config),
            attn_implementation="eager",
            experts_implementation="eager",
            dtype=torch.float32,
        )


class _Skeletons:
    """The last two models built without memory, each as its blocks and all the rest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[Any, list[nn.Module]]] = {}

    def of(self, config: Any, paths: ModelPaths) -> tuple[Any, list[nn.Module]]:
        """The model of ``config`` without its blocks, and these; neither is to be changed."""
        key = f"{paths.blocks} {type(config).__name__} {config.to_json_string(use_diff=False)}"
        with self._lock:
            if key not in self._kept:
                model = _empty_model(config)
                blocks = list(model.get_submodule(paths.blocks).children())
                replace_submodule(model, paths.blocks, nn.ModuleList())
                if len(self._kept) == 2:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[key] = model, blocks
            return self._kept[key]


_SKELETONS = _Skeletons()


def _filled(model: Any, tensor: Callable[[str], Tensor | None], device: torch.device) -> Any:
    """``model`` with its parameters, in evaluation mode."""
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        try:
            found = tensor(name)
        except KeyError as error:
            raise ArchitectureError(
                f"{type(model).__name__} is built with a parameter {name} here, which the model "
                "does not have; use another model."
            ) from error
        value = torch.zeros((), device=device).expand(parameter.shape) if found is None else found
        set_parameter(model, name, value)
    return model.to(device).eval()


class NoDraws(TorchFunctionMode):
    """Draws no first weights, which the model's own replace: they are zeros, or hold no memory.

    To draw them takes longer than all the rest. transformers has ``no_init_weights`` for this,
    which changes torch for other threads too, and leaves what it finds in memory.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func``, unless it would fill a tensor with random numbers."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            filled = args[0] if args else kwargs.get("tensor")
            if isinstance(filled, Tensor):
                with torch.no_grad():
                    return filled if filled.is_meta else filled.zero_()
        return func(*args, **kwargs)


_DRAWS = frozenset(
    {
        *("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"),
        *("xavier_normal_", "xavier_uniform_"),
    }
)


def _leave_one_layer(config: Any, layer: int, n_layers: int) -> None:
    """Let ``config`` be that of a model whose only block is that of ``layer``, as it runs."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == n_layers:  # one entry to a layer
            setattr(config, name, [value[layer]])
    config.num_hidden_layers = 1


def set_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Let ``value`` be a parameter, whatever was there; nothing is copied."""
    path, _, own = name.rpartition(".")
    setattr(model.get_submodule(path), own, nn.Parameter(value, requires_grad=False))


def switch_sinks_off(attention: nn.Module) -> None:
    """Let no attention go to sinks (GPT-OSS), so that a lone token attends to itself alone."""
    for name, parameter in list(attention.named_parameters()):
        if name.rpartition(".")[2] == "sinks":
            off = torch.full(parameter.shape, -1e9, device=parameter.device)  # float16 ends before
            set_parameter(attention, name, off)


class _StoppedError(Exception):
    """Thrown out of a forward pass once what was asked for is known."""


@dataclass
class Probe:
    """What one module was given and gave.

    Attributes:
        given: its hidden states.
        gave: its output.
    """

    given: Tensor | None = None
    gave: Tensor | None = None


@contextlib.contextmanager
def probed(
    module: nn.Module,
    *,
    instead: Tensor | None = None,
    stop_before: bool = False,
    stop: bool = True,
) -> Iterator[Probe]:
    """Watch ``module`` during a forward pass, which ends as soon as the module has run.

    Args:
        module: whichever.
        instead: hidden states that it is given in place of its own.
        stop_before: end before it runs.
        stop: end after it has run.
    """
    probe = Probe()
    parameters = list(inspect.signature(module.forward).parameters)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A module that adds the residual stream to its own output is given zeros for it.
        args, kwargs, hidden = _without_residual(parameters, args, kwargs, instead)
        probe.given = hidden.detach().clone()
        if stop_before:
            raise _StoppedError
        return args, kwargs

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        hidden = output[0] if isinstance(output, (tuple, list)) else output
        probe.gave = hidden.detach().clone()
        if stop:
            raise _StoppedError

    handles = [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after),
    ]
    try:
        with contextlib.suppress(_StoppedError):
            yield probe
    finally:
        for handle in handles:
            handle.remove()


def _without_residual(
    parameters: list[str],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    instead: Tensor | None,
) -> tuple[tuple[Any, ...], dict[str, Any], Tensor]:
    """Arguments with ``residual`` zero and the hidden states replaced; and the hidden states."""
    values, kwargs = list(args), dict(kwargs)
    first = "hidden_states" if "hidden_states" in kwargs else None
    hidden: Tensor = kwargs[first] if first else values[0]
    if instead is not None:
        hidden = instead.reshape(hidden.shape)
        if first:
            kwargs[first] = hidden
        else:
            values[0] = hidden
    if "residual" in kwargs:
        kwargs["residual"] = torch.zeros_like(kwargs["residual"])
    elif "residual" in parameters and parameters.index("residual") < len(values):
        at = parameters.index("residual")
        values[at] = torch.zeros_like(values[at])
    return tuple(values), kwargs, hidden


class GivenAttention(nn.Module):
    """Stands for an attention module and writes what it is told, or nothing.

    Attributes:
        written: its output, or None for zeros.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.written: Tensor | None = None
        self.names = list(inspect.signature(attention.forward).parameters)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """What is written; with the residual stream where the attention would have added it."""
        given = dict(zip(self.names, args, strict=False)) | kwargs
        hidden = given["hidden_states"] if "hidden_states" in given else args[0]
        written = self.written
        written = torch.zeros_like(hidden) if written is None else written.reshape(hidden.shape)
        residual = given.get("residual")
        return (written + residual if isinstance(residual, Tensor) else written), None


def replace_submodule(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` in place of a submodule."""
    parent, _, own = path.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
