"""What a checkpoint's ``config.json`` says, and what of it is heard.

A config is somebody else's file. transformers takes more from it than sizes: the name of an
attention implementation that is fetched from the hub and run, code to import, another weight file
to read. So it is

1. read as JSON and checked (``check_config``): a supported architecture with heads, nothing
   quantized. This needs neither weights nor transformers, so a repository on the hub is refused
   before anything large is downloaded;
2. cleared of every field that names code or files, at every level (``clean_config``);
3. only then given to transformers (``model_config``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from analysis.errors import ArchitectureError, ModelError, first_line
from analysis.models.building import load_libraries
from analysis.models.checkpoint import CONFIG
from analysis.models.families import check_architecture

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES_CODE = re.compile(
    r"_?(\w+_)?implementation(_internal)?"  # attn_, experts_: a kernel "owner/name" of the hub
    r"|auto_map|custom_pipelines|custom_generate|trust_remote_code|code_revision"
    r"|kernel_config|_?use_kernels|kernels?"
    r"|transformers_weights|gguf_file|_?name_or_path|base_model_name_or_path|_commit_hash"
    r"|adapter_\w+|peft_config|output_attentions|output_hidden_states|torchscript"
    r"|num_labels|id2label|label2id"  # a table of any size is made of these
)
"""Fields that make transformers run, fetch or read something that the checkpoint names, or that
change what a model returns, or that take memory for nothing. None says how the weights are to be
read."""

_CHANGES_WEIGHTS = ("quantization_config", "compression_config", "per_layer_config", "pruned_heads")
_DEPTH = 20


def check_config(raw: Mapping[str, Any], title: str) -> None:
    """Refuse a config that no supported model has."""
    kind = raw.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(f"{CONFIG} of {title} has no model_type: save the model again.")
    named = raw.get("architectures")
    if not (named is None or (isinstance(named, list) and all(isinstance(a, str) for a in named))):
        raise ModelError(f"architectures in {CONFIG} of {title} is not a list: save it again.")
    for field in _CHANGES_WEIGHTS:
        if _anywhere(raw, field):
            what = "pruned or set layer by layer" if field.startswith("p") else "quantized"
            raise ArchitectureError(
                f"the weights of {title} are {what} ({field} in {CONFIG}), so the published ones "
                "cannot be read from it: use the original model."
            )
    check_architecture(raw, title)
    heads = next((raw[key] for key in ("num_attention_heads", "n_head") if key in raw), None)
    if heads is not None and (isinstance(heads, bool) or not isinstance(heads, int) or heads < 1):
        raise ArchitectureError(
            f"{title} ({kind}) has no attention heads ({heads!r:.200}): use another model."
        )


def _anywhere(raw: Any, field: str, depth: int = _DEPTH) -> bool:
    """Whether a field is set to something, at any level."""
    if depth == 0:
        raise ModelError(f"{CONFIG} is nested more than {_DEPTH} levels deep: replace it.")
    if isinstance(raw, dict):
        return bool(raw.get(field)) or any(_anywhere(v, field, depth - 1) for v in raw.values())
    return isinstance(raw, list) and any(_anywhere(v, field, depth - 1) for v in raw)


def clean_config(raw: Any) -> Any:
    """The config without the fields that name code or files, at every level."""
    if isinstance(raw, dict):
        return {
            key: clean_config(value)
            for key, value in raw.items()
            if not _NAMES_CODE.fullmatch(str(key))
        }
    return [clean_config(value) for value in raw] if isinstance(raw, list) else raw


def model_config(raw: Mapping[str, Any], title: str) -> Any:
    """The config as transformers has it, from the fields that say what the model is."""
    check_config(raw, title)
    load_libraries()
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = raw["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ArchitectureError(
            f"transformers does not know the model type {kind!r:.200} of {title}: use another "
            "model."
        )
    expected = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    architecture = (raw.get("architectures") or [expected])[0]
    if architecture != expected:
        raise ModelError(
            f"{CONFIG} of {title} calls the model {architecture}, and its type {kind!r:.200}, "
            f"which is {expected}: save the model again."
        )
    try:
        config = CONFIG_MAPPING[kind].from_dict(
            clean_config(raw) | {"architectures": [architecture]}
        )
    except Exception as error:  # transformers raises many kinds, none of them its own
        raise ModelError(
            f"{CONFIG} of {title} cannot be read ({first_line(error)}): replace it."
        ) from error
    if getattr(config, "reorder_and_upcast_attn", False):
        config.reorder_and_upcast_attn = False  # GPT-2: same logits, but in float32 only
    if not getattr(config.get_text_config(), "num_attention_heads", None):
        raise ArchitectureError(f"{title} ({kind}) has no attention heads: use another model.")
    return config
