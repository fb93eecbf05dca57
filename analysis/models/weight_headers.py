"""What the weight files themselves say they hold, held against the config before memory is taken.

A safetensors file begins with a header: the name, type and shape of every tensor in it. Reading
it costs nothing, so a config that describes another model, or one far larger than its files, is
refused before a single weight is allocated.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import torch

from analysis.errors import ArchitectureError, ModelError, first_line
from analysis.models.checkpoint import CONFIG
from analysis.models.tensor_files import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from analysis.models.tensor_files import TensorPlace

_KNOWN_BUFFERS = re.compile(
    r"(^|\.)((attn|attention)\.(bias|masked_bias)"  # old masks of GPT-2, GPT-J and GPT-NeoX
    r"|rotary_emb\.(inv_freq|cos_cached|sin_cached|embed_positions)"
    r"|attn\.embed_positions)$"
)
"""Tensors of older files that are computed, not learned: leaving them out changes no result."""


def is_computed(name: str) -> bool:
    """Whether a tensor is a mask or a table of positions, which models now compute themselves."""
    return _KNOWN_BUFFERS.search(name) is not None


def check_described(config: Any, stored: Mapping[str, TensorPlace], title: str) -> None:
    """Refuse a config whose model is not the one in the files, and weights that are no floats.

    The model is built without memory (on torch's ``meta`` device) and its shapes are compared.
    """
    from transformers import AutoModelForCausalLM

    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(layers, int) or not 1 <= layers <= len(stored):
        raise ModelError(
            f"{CONFIG} of {title} says {layers} layers, and its files hold {len(stored)} tensors "
            "in all: use another copy of the model."
        )
    try:
        with torch.device("meta"):
            described = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    except Exception as error:  # sizes that do not divide, or overflow, or are no numbers
        raise ModelError(
            f"{CONFIG} of {title} describes no model ({first_line(error)}): replace it."
        ) from error
    left_out = described._keys_to_ignore_on_load_unexpected or ()  # by the architecture itself
    for name, place in stored.items():
        unread = is_computed(name) or any(re.search(pattern, name) for pattern in left_out)
        if place.dtype not in DTYPES and not unread:
            raise ArchitectureError(
                f"{title}: {name} is stored as {place.dtype}, which is no floating dtype of 16 "
                "bits or more: use the original model."
            )
    prefix = f"{described.base_model_prefix}."
    shapes = {name: tuple(weight.shape) for name, weight in described.named_parameters()}
    for name, place in stored.items():
        expected = shapes.get(name) or shapes.get(prefix + name)
        if expected is not None and expected != place.shape:
            raise ModelError(
                f"{CONFIG} of {title} gives {name} the shape {list(expected)}, and its file holds "
                f"{list(place.shape)}: use files that belong together."
            )
    n_described = sum(math.prod(shape) for shape in shapes.values())
    n_stored = sum(math.prod(place.shape) for place in stored.values())
    if n_described > n_stored:
        lacking = [n for n in shapes if n not in stored and n.removeprefix(prefix) not in stored]
        first = f" ({lacking[0]} first)" if lacking else ""
        raise ModelError(
            f"the files of {title} lack {len(lacking) or 'some'} of its weights{first}: {CONFIG} "
            f"describes {n_described:,} numbers, and they hold {n_stored:,}; replace the "
            "checkpoint."
        )


def check_all_read(missing: Iterable[str], unread: Iterable[str], title: str) -> None:
    """Refuse a model of which a weight was missing, or had a weight that was not read.

    transformers leaves the former random, and the latter out.
    """
    if lacking := sorted(missing):
        raise ModelError(
            f"the files of {title} lack {len(lacking)} of its weights ({lacking[0]} first): "
            "replace the checkpoint."
        )
    if extra := sorted(name for name in unread if not is_computed(name)):
        advice = (
            "merge the adapter into the model first (merge_and_unload() of peft)"
            if any("lora" in name.lower() for name in extra)
            else f"correct {CONFIG}, or use another copy of the model"
        )
        raise ArchitectureError(
            f"the files of {title} hold {len(extra)} weights that a model with its {CONFIG} does "
            f"not have ({', '.join(extra[:3])}{', …' if len(extra) > 3 else ''}), and leaving them "
            f"out would change what the heads write: {advice}."
        )
