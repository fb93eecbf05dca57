"""A checkpoint that is read one layer at a time and never held whole.

``LazyCheckpoint`` has the reading interface of a loaded model (``architecture.readable``), so
that ``score_heads``, ``score_vocabulary`` and ``eigenvalue_scores`` take either:

1. the config alone says what the model is; it is built without memory;
2. for each layer that is asked for, a model of one block is built on the tensors of that layer,
   straight from the mapped files, and transformer_lens wraps the block as it does a loaded
   model's. Queries and keys are left out. So W_V and W_O are the same numbers, read by the same
   code;
3. the next layer takes its place.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from analysis.architecture.model_parts import (
    ModelPaths,
    dimensions,
    first_block,
    model_paths,
    one_block,
    plain_model,
)
from analysis.errors import ArchitectureError, ModelError, WeightsError, first_line
from analysis.models.bridge import boot, wrapped_part
from analysis.models.checkpoint import CONFIG
from analysis.models.tensor_files import DTYPES, TensorFiles
from analysis.models.tokenizer import check_ids
from analysis.models.weight_headers import check_all_read, check_described
from analysis.provenance import ModelIdentity
from analysis.weights import is_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LAYER = re.compile(r"^(.*?\.)?(\d+)\.")
"""A tensor of a block: the first number in its name is the layer."""


@dataclass(eq=False)
class LazyCheckpoint:
    """A checkpoint on disk or on the hub, with the reading interface of a loaded model.

    Attributes:
        identity: which model it is.
        hf_config: transformers' config of the whole model.
        tokenizer: the model's.
        files: its tensors.
        cfg: transformer_lens' configuration of the whole model.
        adapter: transformer_lens' adapter of the architecture.
        paths: where the parts are.
        stored_as: by transformers' name of a parameter, its name in the files.
        admission: what ``analysis.models.admission`` found, once it has looked.
    """

    identity: ModelIdentity
    hf_config: Any
    tokenizer: Any
    files: TensorFiles
    cfg: Any
    adapter: Any
    paths: ModelPaths
    stored_as: Mapping[str, str]
    admission: Any = None
    _block: tuple[int, Any] | None = field(default=None, repr=False)
    _converted: tuple[int, dict[str, Tensor]] | None = field(default=None, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def blocks(self) -> LazyBlocks:
        """The blocks, each read when it is asked for."""
        return LazyBlocks(self)

    @property
    def original_model(self) -> Any:
        """What stands for transformers' model: it has the config, and no weights."""
        return SimpleNamespace(config=self.hf_config, parameters=list)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return torch.device("cpu")

    @property
    def W_E(self) -> Tensor:
        """The embedding matrix ``[d_vocab, d_embedding]``, mapped."""
        return self.tensor(f"{self.paths.embedding}.weight")

    @property
    def W_U(self) -> Tensor:
        """The unembedding matrix ``[d_embedding, d_vocab]``, mapped."""
        name = f"{self.paths.unembedding}.weight"
        if name not in self.stored_as and self.hf_config.get_text_config().tie_word_embeddings:
            name = f"{self.paths.embedding}.weight"
        return self.tensor(name).T

    @cached_property
    def ln_final(self) -> Any:
        """The norm before the unembedding, or None where transformer_lens names none."""
        with self._lock:
            norms = [name for name in self._names_of(0) if not _LAYER.match(name)]
            return wrapped_part(self.adapter, self._one_block(0, norms), "ln_final")

    def tensor(self, name: str) -> Tensor:
        """A parameter of the whole model by transformers' name, mapped and not copied.

        Raises:
            ModelError: the checkpoint does not hold it.
        """
        if name in self.stored_as:
            return self.files.tensor(self.stored_as[name])
        layer = _LAYER.match(name)
        made = {} if layer is None else self._converted_block(int(layer[2]))
        if name not in made:
            raise ModelError(f"{self.identity.title} lacks {name}: fetch the checkpoint again.")
        return made[name]

    def block(self, layer: int) -> Any:
        """A block as transformer_lens wraps it, with weights; the last one is kept."""
        with self._lock:
            if self._block is None or self._block[0] != layer:
                self._block = None  # let go before the next is read
                hf_model = self._one_block(layer, self._names_of(layer))
                self._block = layer, wrapped_part(self.adapter, hf_model, "blocks")[0]
            return self._block[1]

    def _one_block(self, layer: int, names: Sequence[str]) -> PreTrainedModel:
        """Transformers' model with one block only, that of ``layer``, and these of its tensors."""
        self.files.prepare([self.stored_as[name] for name in names if name in self.stored_as])
        tensors = {name: self.tensor(name) for name in names}
        for name, tensor in tensors.items():
            if not is_finite(tensor):
                raise WeightsError(
                    f"{self.identity.title}: {name} holds NaN or infinity; load an intact "
                    "checkpoint."
                )
        return one_block(_few_tokens(self.hf_config), self.paths, layer, tensors.get)

    def _names_of(self, layer: int) -> list[str]:
        """Parameters that a layer's heads and norms read: no queries, keys, MLP or embedding."""
        mine, whole = f"{self.paths.block(0)}.", f"{self.paths.block(layer)}."
        inside, unread = f"{self.paths.attention_of(0)}.", self.paths.unread_of(0)
        found = []
        for name, n_dimensions in dimensions(self.hf_config, self.paths, layer).items():
            attention = name.startswith(inside) and not name.startswith(unread)
            norm = n_dimensions == 1 and not name.startswith(f"{self.paths.unembedding}.")
            if attention or (norm and not name.startswith(inside)):
                found.append(name.replace(mine, whole, 1))
        return found

    def needed(self) -> list[str]:
        """Names in the files of all tensors that static scores read, folded weights included."""
        first, unread = f"{self.paths.block(0)}.", self.paths.unread_of(0)
        if self.paths.positions:
            unread += (f"{self.paths.positions}.",)
        names = dimensions(self.hf_config, self.paths, 0)
        wanted = [name for name in names if not name.startswith(unread)]
        for layer in range(1, int(self.cfg.n_layers)):
            wanted += self._names_of(layer)
        found = [self.stored_as.get(name) for name in wanted]
        if any(n is None for n, name in zip(found, wanted, strict=True) if name.startswith(first)):
            found += self._parts_of(0)  # transformers makes the block's experts of these
        return list(dict.fromkeys(name for name in found if name is not None))

    def _parts_of(self, layer: int) -> list[str]:
        """Names in the files of a block's tensors, its attention left out."""
        inside = f".{self.paths.attention}."
        matches = ((name, _LAYER.match(name)) for name in self.files.places)
        return [n for n, m in matches if m is not None and int(m[2]) == layer and inside not in n]

    def _converted_block(self, layer: int) -> dict[str, Tensor]:
        """Parameters of a block that transformers makes of several stored tensors (experts)."""
        with self._lock:
            if self._converted is None or self._converted[0] != layer:
                self._converted = layer, self._convert(layer)
            return self._converted[1]

    def _convert(self, layer: int) -> dict[str, Tensor]:
        import transformers

        names = self._parts_of(layer)
        self.files.prepare(names)
        stored = {
            _LAYER.sub(lambda m: f"{m[1] or ''}0.", name, count=1): self.files.tensor(name)
            for name in names
        }
        config = _few_tokens(self.hf_config)
        config.num_hidden_layers = 1
        kind: Any = getattr(transformers, str(self.cfg.architecture))
        model, report = kind.from_pretrained(
            None, config=config, state_dict=stored, output_loading_info=True
        )
        mine, whole = f"{self.paths.block(0)}.", f"{self.paths.block(layer)}."
        missing = set(report["missing_keys"])
        return {
            name.replace(mine, whole, 1): parameter.detach()
            for name, parameter in model.named_parameters()
            if name.startswith(mine) and name not in missing
        }


@dataclass(frozen=True)
class LazyBlocks:
    """The blocks of a checkpoint."""

    checkpoint: LazyCheckpoint

    def __len__(self) -> int:
        return int(self.checkpoint.cfg.n_layers)

    def __getitem__(self, layer: int) -> Any:
        """A block as transformer_lens holds it, its attention and norms with weights."""
        if not 0 <= layer < len(self):
            raise IndexError(layer)
        block = self.checkpoint.block(layer)
        if not hasattr(block, "attn"):
            cfg = self.checkpoint.cfg
            raise ArchitectureError(
                f"{cfg.model_name} ({cfg.architecture}) has no attention in layer {layer}: use "
                "another model."
            )
        return block

    def __iter__(self) -> Iterator[Any]:
        return (self[layer] for layer in range(len(self)))


def lazy_checkpoint(
    identity: ModelIdentity, hf_config: Any, tokenizer: Any, files: TensorFiles
) -> LazyCheckpoint:
    """Set up the reading of a checkpoint; no weight is read.

    Args:
        identity: which model it is.
        hf_config: as transformers has it, checked.
        tokenizer: the model's.
        files: its tensors.

    Raises:
        ArchitectureError: transformer_lens cannot boot the architecture, or the files hold weights
            or ids that the model has no place for, or weights of a dtype that is not read.
        ModelError: the config describes another model than the files hold.
    """
    title = identity.title
    check_described(hf_config, files.places, title)
    try:
        known, unread = stored_names(hf_config, files.places)
        first = first_block(hf_config)
    except Exception as error:  # such as an initial deviation that is no number
        raise ModelError(
            f"{CONFIG} of {title} describes no model ({first_line(error)}): replace it."
        ) from error
    check_all_read((), unread, title)
    bridge = boot(first, tokenizer, identity, torch.device("cpu"), torch.float32)
    cfg = copy.copy(bridge.cfg)
    cfg.n_layers = hf_config.get_text_config().num_hidden_layers
    paths = model_paths(bridge.adapter)
    if (table := known.get(f"{paths.embedding}.weight")) is not None:
        check_ids(tokenizer, files.places[table].shape[0], title)
    stored = [place.dtype for place in files.places.values() if place.dtype in DTYPES]
    if stored:
        cfg.dtype = DTYPES[max(set(stored), key=stored.count)]
    return LazyCheckpoint(
        identity,
        hf_config,
        tokenizer,
        files,
        cfg,
        bridge.adapter,
        paths,
        known,
    )


def stored_names(hf_config: Any, names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """By transformers' name of each parameter, its name in the files.

    transformers knows which parameters older or published files name otherwise. Those that it makes
    of several tensors (experts) are not among the answers.

    Args:
        hf_config: of the whole model.
        names: in the files.

    Returns:
        The names, and those in the files that the model has no place for.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        rename_source_key,
    )

    skeleton = plain_model(hf_config, lambda _: None)
    own = dict(skeleton.named_parameters(remove_duplicate=False))
    rules = get_model_conversion_mapping(skeleton)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    ignored = skeleton._keys_to_ignore_on_load_unexpected or ()  # by the architecture itself
    found, unread = {}, []
    for name in names:
        renamed, made_of_several = rename_source_key(
            name, renamings, converters, skeleton.base_model_prefix, own
        )
        if made_of_several is not None:
            continue
        if renamed in own:
            found[renamed] = name
        elif not any(re.search(pattern, name) for pattern in ignored):
            unread.append(name)
    return found, unread


def _few_tokens(config: Any) -> Any:
    """The config of a model with a tiny vocabulary, whose embeddings take no memory and no time.

    transformer_lens joins the embeddings of tokens and positions while it looks for hooks.
    """
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.vocab_size, text.pad_token_id = 8, None
    return config
