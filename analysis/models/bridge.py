"""A verified checkpoint folder as a TransformerBridge, read locally and without remote code.

1. The config is checked, and cleared of what could run code (``config``).
2. The headers of the weight files are held against it, before memory is taken (``weight_headers``).
3. transformers reads the weights; none may be missing, and none left out.
4. The tokenizer is held against its own file (``tokenizer``), and its ids against the embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from analysis.errors import ArchitectureError, ModelError, first_line
from analysis.models.building import building_a_model
from analysis.models.checkpoint import ADAPTER, CONFIG, Checkpoint, read_json
from analysis.models.config import model_config
from analysis.models.fingerprint import set_loaded
from analysis.models.tensor_files import local_tensors
from analysis.models.tokenizer import LOCAL, check_ids, load_tokenizer
from analysis.models.weight_headers import check_all_read, check_described

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.provenance import ModelIdentity


def build_bridge(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> TransformerBridge:
    """Read the weights and the tokenizer of a verified folder and boot the bridge on them.

    Args:
        checkpoint: a folder with config, safetensors weights and tokenizer.
        device: where the weights go.
        dtype: what they are converted to.

    Returns:
        The model with raw weights, in evaluation mode, no parameter asking for gradients, its
        ``identity`` the checkpoint's.

    Raises:
        ArchitectureError: the model is not supported, needs remote code, is quantized, or its
            files hold weights or ids that it has no place for, or weights of a dtype that is not
            read.
        ModelError: the files do not belong together.
    """
    from transformers.utils import logging

    title, folder = checkpoint.identity.title, checkpoint.folder
    config = model_config(read_json(folder / CONFIG), title)
    if (folder / ADAPTER).exists():  # transformers would apply it where peft is installed
        raise ModelError(f"{folder} holds an adapter ({ADAPTER}): move it out of the folder.")
    check_described(config, local_tensors(folder).places, title)
    tokenizer = load_tokenizer(folder, title, config)
    logging.disable_progress_bar()
    hf_model = _weights(checkpoint, config, dtype)
    check_ids(tokenizer, len(hf_model.get_input_embeddings().weight), title)
    model = boot(hf_model, tokenizer, checkpoint.identity, device, dtype)
    set_loaded(model, checkpoint.identity)
    return model


def boot(
    hf_model: nn.Module,
    tokenizer: Any,
    identity: ModelIdentity,
    device: torch.device,
    dtype: torch.dtype,
) -> TransformerBridge:
    """transformer_lens' view of a transformers model, in evaluation mode and without gradients.

    Raises:
        ArchitectureError: it has none.
    """
    from transformer_lens.model_bridge import TransformerBridge

    try:
        with building_a_model():
            bridge = TransformerBridge.boot_transformers(
                "./model",  # no hub id, and none of transformer_lens's old aliases
                hf_model=hf_model.to(device),
                tokenizer=tokenizer,
                device=device,
                dtype=dtype,
            )
    except Exception as error:  # transformer_lens raises many kinds
        raise ArchitectureError(
            f"transformer_lens cannot read {identity.title} ({first_line(error)}): use another "
            "model."
        ) from error
    bridge.cfg.model_name = identity.name
    return bridge.eval().requires_grad_(False)


def wrapped_part(adapter: Any, hf_model: nn.Module, name: str) -> Any:
    """One part of a transformers model as ``boot`` would wrap it, an order of time sooner.

    Args:
        adapter: of a booted model of the same architecture.
        hf_model: it is changed.
        name: transformer_lens' name of the part, such as ``blocks``.

    Returns:
        The part in evaluation mode and without gradients; None where the architecture has none.
    """
    from transformer_lens.model_bridge.component_setup import setup_components

    mapping, holder = adapter.get_component_mapping(), nn.Module()
    if name not in mapping:
        return None
    with building_a_model():
        adapter.prepare_model(hf_model)
        setup_components({name: mapping[name]}, holder, adapter, hf_model)
    return holder.eval().requires_grad_(False).get_submodule(name)


def _weights(checkpoint: Checkpoint, config: Any, dtype: torch.dtype) -> Any:
    """The transformers model, all of the checkpoint's weights read and every one of its own."""
    from transformers import AutoModelForCausalLM

    title = checkpoint.identity.title
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation="eager",  # ours, whatever the config asks for
            experts_implementation="eager",
            **LOCAL,
        )
    except Exception as error:  # transformers raises many kinds, none of them its own
        raise ModelError(
            f"{title} in {checkpoint.folder} cannot be loaded ({first_line(error)}): "
            "check that its files belong together."
        ) from error
    model, report = loaded
    check_all_read(report["missing_keys"], report["unexpected_keys"], title)
    return model
