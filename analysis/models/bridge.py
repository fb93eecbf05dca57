"""A verified checkpoint folder as a TransformerBridge, read locally and without remote code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.errors import ArchitectureError, ModelError
from analysis.models.checkpoint import CONFIG, Checkpoint, first_line, read_json
from analysis.provenance import set_identity

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""With these, transformers neither asks the hub nor runs code that a checkpoint brings."""


def build_bridge(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> TransformerBridge:
    """Read the weights and the tokenizer of a verified folder and boot the bridge on them.

    Args:
        checkpoint: a folder with config, safetensors weights and tokenizer.
        device: where the weights go.
        dtype: what they are converted to.

    Returns:
        The model with raw weights, in evaluation mode, no parameter asking for gradients.

    Raises:
        ArchitectureError: the model needs remote code, is no causal language model, has no
            attention heads, is quantized, or transformer_lens does not know it.
        ModelError: the files do not belong together.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers.utils import logging

    title = checkpoint.identity.title
    config = _config(checkpoint)
    logging.disable_progress_bar()
    try:
        hf_model = _weights(checkpoint, config, dtype).to(device)
        tokenizer = _tokenizer(checkpoint)
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds, none of them its own
        raise ModelError(
            f"{title} in {checkpoint.folder} cannot be loaded ({first_line(error)}): "
            "check that its files belong together."
        ) from error
    try:
        model = TransformerBridge.boot_transformers(
            str(checkpoint.folder),  # a name could be one of transformer_lens's old aliases
            hf_model=hf_model,
            tokenizer=tokenizer,
            device=device,
            dtype=dtype,
        )
    except Exception as error:
        raise ArchitectureError(
            f"transformer_lens cannot read {title} ({first_line(error)}): use another model."
        ) from error
    model.cfg.model_name = checkpoint.identity.name
    model.eval()
    model.requires_grad_(False)
    set_identity(model, checkpoint.identity)
    return model


def _config(checkpoint: Checkpoint) -> Any:
    """The model's config, if it is a causal language model with heads that can be read.

    Raises:
        ArchitectureError: it is not.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources.transformers import (
        get_hf_model_class_for_architecture,
    )
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    title = checkpoint.identity.title
    raw = read_json(checkpoint.folder / CONFIG)
    kind = raw.get("model_type")
    if kind not in CONFIG_MAPPING:
        if "auto_map" in raw:
            raise ArchitectureError(
                f"{title} needs code from its repository to be run, which never happens here: "
                "use a model that transformers knows by itself."
            )
        raise ArchitectureError(
            f"transformers does not know the model type {kind!r} of {title}: use another model."
        )
    if raw.get("quantization_config"):
        raise ArchitectureError(
            f"the weights of {title} are quantized, so the published ones cannot be read from it: "
            "use the original model."
        )
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder, **_LOCAL)
    except Exception as error:
        raise ModelError(
            f"{checkpoint.folder / CONFIG} cannot be read ({first_line(error)}): replace it."
        ) from error
    if not getattr(config.get_text_config(), "num_attention_heads", None):
        raise ArchitectureError(f"{title} ({kind}) has no attention heads: use another model.")
    architecture = next(iter(config.architectures or ()), None)
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise ArchitectureError(
            f"transformer_lens does not know the architecture {architecture} of {title}: "
            "use another model."
        )
    if get_hf_model_class_for_architecture(architecture) is not AutoModelForCausalLM:
        raise ArchitectureError(
            f"{title} ({architecture}) is not a causal language model: use another model."
        )
    return config


def _weights(checkpoint: Checkpoint, config: Any, dtype: torch.dtype) -> Any:
    """The transformers model, every one of its weights read from the checkpoint."""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        **_LOCAL,
    )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would leave them random
        raise ModelError(
            f"{checkpoint.folder} lacks {len(missing)} of the weights of "
            f"{checkpoint.identity.title} ({missing[0]} first): replace the checkpoint."
        )
    return model


def _tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer as transformer_lens wants it: putting its BOS token first, if it has one."""
    import transformers

    folder = checkpoint.folder
    settings = folder / "tokenizer_config.json"
    raw = read_json(settings) if settings.is_file() else {}
    needs_code = "AutoTokenizer" in (raw.get("auto_map") or {})
    if needs_code and not hasattr(transformers, str(raw.get("tokenizer_class"))):
        # transformers would quietly take another tokenizer in its place.
        raise ArchitectureError(
            f"the tokenizer of {checkpoint.identity.title} needs code from its repository to be "
            "run, which never happens here: use another model."
        )
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, add_bos_token=True, **_LOCAL)
    except ValueError:  # it has none, or one that cannot be put first
        return transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)
