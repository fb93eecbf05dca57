"""Load a language model with its raw weights, from the hub, a folder or a package.

``load_model`` turns a name into a verified local checkpoint folder (``hub``, ``packaged`` or the
folder itself) and that folder into a TransformerBridge (``bridge``). Only safetensors are read,
remote code never runs, and once the folder is there no network is touched.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from analysis.errors import ModelError, ParameterError
from analysis.models.bridge import build_bridge
from analysis.models.checkpoint import (
    Checkpoint,
    check_safetensors,
    folder_files,
    needed_files,
    weight_files,
    weights_checksum,
)
from analysis.models.hub import hub_checkpoint
from analysis.models.hub_listing import HubError
from analysis.models.packaged import NAME as PACKAGED
from analysis.models.packaged import TITLE as PACKAGED_TITLE
from analysis.models.packaged import packaged_checkpoint
from analysis.provenance import GPT2_SMALL, ModelIdentity

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

AUTO = "auto"
ALIASES = {
    "gpt2": GPT2_SMALL,
    "gpt2-small": GPT2_SMALL,
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
}
TITLES = {
    GPT2_SMALL: "GPT-2",
    "openai-community/gpt2-medium": "GPT-2 Medium",
    "openai-community/gpt2-large": "GPT-2 Large",
    "openai-community/gpt2-xl": "GPT-2 XL",
}
PINNED = {GPT2_SMALL: "607a30d783dfa663caf39e06633721c8d4cfcd7e"}
"""Commits that are used where no other revision is asked for."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def load_model(
    name: str = AUTO,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TransformerBridge:
    """Load a model with its raw weights: nothing folded, nothing centred.

    Args:
        name: ``gpt2``, ``gpt2-medium``, ``gpt2-large``, ``gpt2-xl`` or any other hub id; a local
            folder with a saved checkpoint and tokenizer; ``smollm2-135m``, which a Python package
            carries, quantised to 4 bits; or ``auto``: GPT-2 from the local cache or the hub and,
            where neither has it, the packaged model, with one printed sentence that says so.
        revision: branch, tag or commit of a hub model; ``gpt2`` is pinned unless one is given.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: float32, float16, bfloat16 or float64.

    Returns:
        The model in evaluation mode, no parameter asking for gradients; what it is, is known to
        ``analysis.provenance.model_identity``.

    Raises:
        ModelError: the model cannot be found, fetched, verified or loaded.
        ArchitectureError: transformer_lens does not know it, or it has no attention heads.
        ParameterError: a parameter is of the wrong type or the device is not there.
    """
    target = check_device(device)
    if dtype not in DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
        raise ParameterError(f"dtype must be one of torch's {names}, not {dtype!r}.")
    return build_bridge(_find(name, revision), target, dtype)


def fetch_model(name: str = AUTO, revision: str | None = None) -> ModelIdentity:
    """Download, convert and verify a model, with progress in the terminal, without building it.

    Args:
        name: as ``load_model`` takes it.
        revision: as ``load_model`` takes it.

    Returns:
        What was found; ``load_model`` loads it again by this name.

    Raises:
        ModelError: the model cannot be found, fetched or verified.
        ParameterError: a parameter is of the wrong type.
    """
    return _find(name, revision).identity


def check_device(device: str) -> torch.device:
    """The torch device of that name.

    Raises:
        ParameterError: it is unknown or this machine does not have it.
    """
    advice = "use 'cpu', 'cuda', 'cuda:N' or 'mps', whichever this machine has"
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ParameterError(f"device {device!r} is unknown: {advice}.") from error
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if target.type not in available:
        raise ParameterError(f"device {device!r} is unknown: {advice}.")
    if (target.index or 0) >= available[target.type]:
        raise ParameterError(f"device {device!r} is not available on this machine: {advice}.")
    return target


def _find(name: str, revision: str | None) -> Checkpoint:
    """The verified local checkpoint of a model, fetched if need be."""
    if not isinstance(name, str) or not name.strip():
        raise ParameterError(
            f"a model's name must be text such as 'gpt2' or a folder, not {name!r}."
        )
    if revision is not None and (not isinstance(revision, str) or not revision.strip()):
        raise ParameterError(f"revision must be a branch, tag or commit, not {revision!r}.")
    repo = ALIASES.get(name)
    if repo is None and (name in (AUTO, PACKAGED) or _is_path(name)):
        if revision is not None:
            raise ParameterError(f"revision is for models of the hub, which {name!r} is not.")
        if name == AUTO:
            return _auto()
        return packaged_checkpoint() if name == PACKAGED else _folder(Path(name).expanduser())
    try:
        return _from_hub(repo or name, revision)
    except HubError as error:
        close = difflib.get_close_matches(name.lower(), [*ALIASES, PACKAGED, AUTO], n=1, cutoff=0.5)
        if repo is None and close:
            error.advice += f"; or did you mean {close[0]!r}?"
        raise


def _is_path(name: str) -> bool:
    """Whether ``name`` is meant as a path: it exists, or no hub id looks like it."""
    marks = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    return marks or Path(name).exists()


def _from_hub(repo: str, revision: str | None) -> Checkpoint:
    title = TITLES.get(repo, repo.rsplit("/", 1)[-1])
    return hub_checkpoint(repo, revision or PINNED.get(repo), title)


def _auto() -> Checkpoint:
    """GPT-2 where the cache or the hub has it, else the packaged model, said in one sentence."""
    try:
        return _from_hub(GPT2_SMALL, None)
    except HubError as error:
        print(
            f"{TITLES[GPT2_SMALL]} is not at hand: {error.reason}; "
            f"{PACKAGED_TITLE}, which a Python package carries, is used instead."
        )
    return packaged_checkpoint()


def _folder(folder: Path) -> Checkpoint:
    """A local folder, checked; its checksum is that of its weights."""
    if not folder.exists():
        raise ModelError(f"the folder {folder} does not exist: check the path.")
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder: give the folder that holds the checkpoint.")
    needed_files(folder_files(folder), f"the folder {folder}")
    files = weight_files(folder)
    for path in files:
        check_safetensors(path)
    name = folder.resolve().name
    checksum = weights_checksum(files)
    return Checkpoint(folder, ModelIdentity(name, name, checksum=checksum, source="folder"))
