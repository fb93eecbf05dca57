"""Load a language model with its raw weights, from the hub, a folder or a package.

The way goes down: what was asked for (``asked_for``), a verified local checkpoint folder of it
(``hub``, ``packaged`` or ``check_folder``), and that folder as a TransformerBridge (``bridge``).
Only safetensors are read, remote code never runs, and once the folder is there no network is
touched.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from analysis.errors import ModelError, ParameterError
from analysis.models.bridge import build_bridge
from analysis.models.building import building_a_model, load_libraries
from analysis.models.checkpoint import (
    CONFIG,
    Checkpoint,
    check_safetensors,
    folder_files,
    needed_files,
    read_json,
    weight_files,
)
from analysis.models.checksums import weights_checksum
from analysis.models.config import check_config
from analysis.models.hub import hub_checkpoint
from analysis.models.hub_errors import HubError, HubUnreachableError
from analysis.models.packaged import NAME as PACKAGED
from analysis.models.packaged import TITLE as PACKAGED_TITLE
from analysis.models.packaged import packaged_checkpoint
from analysis.provenance import GPT2_SMALL, ModelIdentity
from analysis.validation import check_path, check_text, shown

if TYPE_CHECKING:
    from collections.abc import Callable

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
PUBLISHED_WEIGHTS = {"248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707": GPT2_SMALL}
"""Models whose ``model.safetensors`` has this SHA-256 (the hub's listing of the pinned commit), so
that a copy in any folder is known for what it is."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Asked:
    """What a name means: ``auto``, ``package``, ``folder`` or ``hub``, and which of these."""

    kind: str
    repo: str = ""
    revision: str | None = None
    folder: Path = Path()


def load_model(
    name: str | os.PathLike[str] = AUTO,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TransformerBridge:
    """Load a model with its raw weights: nothing folded, nothing centred.

    Safe to call from several threads; torch's global random state stays as it was.

    Args:
        name: ``gpt2``, ``gpt2-medium``, ``gpt2-large``, ``gpt2-xl`` or any other hub id, also as
            ``id@revision``; a local folder, as text or Path, with a saved checkpoint and
            tokenizer; ``smollm2-135m``, which a Python package carries, quantised to 4 bits; or
            ``auto``: GPT-2 from the local cache or the hub and, where the hub cannot be reached,
            the packaged model, with one printed sentence that says so.
        revision: branch, tag or commit of a hub model; ``gpt2`` is pinned unless one is given.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: float32, float16, bfloat16 or float64.

    Returns:
        The model in evaluation mode, no parameter asking for gradients; its attribute
        ``identity`` (``analysis.provenance.ModelIdentity``) says what it is.

    Raises:
        ModelError: the model cannot be found, fetched, verified or loaded.
        ArchitectureError: it is not supported, or its files hold weights or ids that it has no
            place for.
        ParameterError: a parameter is of the wrong type or the device is not there.
    """
    target = check_device(device)
    if not isinstance(dtype, torch.dtype) or dtype not in DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
        raise ParameterError(f"dtype must be one of torch's {names}, not {shown(dtype)}.")
    asked = asked_for(name, revision)
    with building_a_model():
        return build_bridge(find_checkpoint(asked, load_libraries), target, dtype)


def fetch_checkpoint(
    name: str | os.PathLike[str] = AUTO, revision: str | None = None
) -> Checkpoint:
    """Download, convert and verify what ``load_model`` would load, without building it."""
    asked = asked_for(name, revision)
    with building_a_model():
        return find_checkpoint(asked)


def check_device(device: str | torch.device) -> torch.device:
    """The torch device of that name."""
    advice = "use 'cpu', 'cuda', 'cuda:N' or 'mps', whichever this machine has"
    try:
        target = torch.device(device)
    except Exception as error:  # RuntimeError, TypeError, UnicodeEncodeError
        raise ParameterError(f"device {shown(device)} is unknown: {advice}.") from error
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if target.type not in available:
        raise ParameterError(f"device {shown(device)} is unknown: {advice}.")
    if (target.index or 0) >= available[target.type]:
        raise ParameterError(f"device {shown(device)} is not available on this machine: {advice}.")
    return target


def asked_for(name: str | os.PathLike[str], revision: str | None) -> Asked:
    """What a name and a revision mean, checked before anything is looked for."""
    if revision is not None and (not isinstance(revision, str) or not revision.strip()):
        raise ParameterError(f"revision must be a branch, tag or commit, not {shown(revision)}.")
    what = "a hub id such as 'gpt2', or a folder"
    if isinstance(name, str):
        name = check_text("name", name, what)
    if not isinstance(name, (str, os.PathLike)) or (isinstance(name, str) and not name.strip()):
        raise ParameterError(f"name must be {what}, not {shown(name)}.")
    if isinstance(name, str) and "://" in name:
        raise ParameterError(f"name must be {what}, not an address: {shown(name)}.")
    if not isinstance(name, str) or (name not in (AUTO, PACKAGED, *ALIASES) and _is_path(name)):
        asked = Asked("folder", folder=check_path("name", name))
    elif name in (AUTO, PACKAGED):
        asked = Asked("auto" if name == AUTO else "package")
    else:
        repo, at, suffix = name.partition("@")
        if at and (revision is not None or not suffix):
            raise ParameterError(
                f"give one revision: {name!r:.200} and revision={revision!r:.200}."
            )
        repo = ALIASES.get(repo, repo)
        return Asked("hub", repo, suffix or revision)
    if revision is not None:
        raise ParameterError(f"revision is for models of the hub, which {shown(name)} is not.")
    return asked


def _is_path(name: str) -> bool:
    """Whether ``name`` is meant as a path: it exists, or no hub id looks like it."""
    if name.startswith((".", "/", "~")) or "\\" in name or name.partition("@")[0].count("/") > 1:
        return True
    try:
        return Path(name).exists()
    except OSError:  # longer than a path can be
        return False


def find_checkpoint(asked: Asked, meanwhile: Callable[[], object] = lambda: None) -> Checkpoint:
    """The verified local checkpoint of what was asked for, fetched if need be.

    ``meanwhile`` is called while the packaged model is verified.
    """
    if asked.kind == "package":
        return packaged_checkpoint(meanwhile)
    if asked.kind == "folder":
        check_folder(asked.folder)
        return Checkpoint(asked.folder, folder_identity(asked.folder))
    if asked.kind == "hub":
        return _from_hub(asked.repo, asked.revision)
    return _auto(meanwhile)


def _auto(meanwhile: Callable[[], object]) -> Checkpoint:
    """GPT-2 where the cache or the hub has it, else the packaged model, said in one sentence.

    Only where no hub can be reached: a hub that refuses, a proxy or a login page is something for
    the reader to decide about.
    """
    try:
        return _from_hub(GPT2_SMALL, None)
    except HubUnreachableError as error:
        print(
            f"{TITLES[GPT2_SMALL]} is not at hand: {error.reason}; "
            f"{PACKAGED_TITLE}, which a Python package carries, is used instead."
        )
    except HubError as error:
        error.advice += f"; or use load_model({PACKAGED!r}), which needs no hub"
        raise
    return packaged_checkpoint(meanwhile)


def _from_hub(repo: str, revision: str | None) -> Checkpoint:
    title = TITLES.get(repo, repo.rsplit("/", 1)[-1])
    old_ids = [alias for alias, known in ALIASES.items() if known == repo]
    try:
        return hub_checkpoint(
            repo,
            revision or PINNED.get(repo),
            title,
            any_cached=revision is None,
            old_ids=old_ids,
        )
    except HubError as error:
        known = [*ALIASES, PACKAGED, AUTO]
        close = difflib.get_close_matches(repo.lower(), known, n=1, cutoff=0.6)
        if repo not in TITLES and close:
            error.advice += f"; or did you mean {close[0]!r}?"
        raise


def check_folder(folder: Path) -> None:
    """Check that a local folder holds a whole checkpoint, without reading its weights."""
    try:
        is_there, is_folder = folder.exists(), folder.is_dir()
    except OSError as error:
        raise ModelError(f"{folder} cannot be read ({error.strerror}): check the path.") from error
    if not is_there:
        raise ModelError(f"the folder {folder} does not exist: check the path.")
    if not is_folder:
        raise ModelError(f"{folder} is not a folder: give the folder that holds the checkpoint.")
    needed_files(folder_files(folder), f"the folder {folder}")
    check_config(read_json(folder / CONFIG), folder.resolve().name)
    for path in weight_files(folder):
        check_safetensors(path)


def folder_identity(folder: Path) -> ModelIdentity:
    """Which model a folder holds; its checksum is that of its weights, all of which are read."""
    name = folder.resolve().name
    checksum = weights_checksum(weight_files(folder))
    known = PUBLISHED_WEIGHTS.get(checksum)
    title = TITLES.get(known, known) if known else name
    return ModelIdentity(known or name, title, checksum=checksum, source="folder")
