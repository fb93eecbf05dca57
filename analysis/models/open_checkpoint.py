"""A name -> a checkpoint that is read layer by layer, from a folder, a package or the hub.

What is on disk is read where it lies; all bytes of its weight files are read once, for their
checksum. Of a model on the hub only the tensors that static scores read are fetched: embedding and
unembedding, the first block's norm and MLP, and every layer's values, outputs and norms. Out of the
hub's reach, a whole copy in the cache is read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.models.building import building_a_model, load_libraries
from analysis.models.checkpoint import (
    CONFIG,
    INDEX,
    WEIGHTS,
    Checkpoint,
    needed_files,
    read_json,
    shard_names,
)
from analysis.models.config import check_config, model_config
from analysis.models.hub import check_repository, verify_file
from analysis.models.hub_download import fetch_blob, link_snapshot
from analysis.models.hub_errors import HubBusyError, HubUnreachableError
from analysis.models.hub_listing import Listing, ask_hub
from analysis.models.hub_ranges import hub_tensors
from analysis.models.lazy_checkpoint import LazyCheckpoint, lazy_checkpoint
from analysis.models.load import (
    PINNED,
    TITLES,
    Asked,
    asked_for,
    check_folder,
    find_checkpoint,
    folder_identity,
)
from analysis.models.packaged import cache_folder
from analysis.models.tensor_files import local_tensors
from analysis.models.tokenizer import load_tokenizer
from analysis.provenance import ModelIdentity

if TYPE_CHECKING:
    from analysis.architecture.readable import ModelOrName, ReadableModel


def open_checkpoint(name: str | os.PathLike[str], *, revision: str | None = None) -> LazyCheckpoint:
    """Set up the reading of a model that may be larger than memory.

    Args:
        name: a folder, a hub id (``meta-llama/Llama-3.1-8B``), or ``smollm2-135m``.
        revision: branch, tag or commit of a hub model.

    Returns:
        A checkpoint for ``score_heads``, ``score_vocabulary`` and ``eigenvalue_scores``. A model
        on the hub is fetched as far as these read it: how much, is said before it starts.

    Raises:
        ModelError: it cannot be found, or a file is damaged.
        ArchitectureError: it is not supported.
        ParameterError: the name or the revision makes no sense.
    """
    asked = asked_for(name, revision)
    with building_a_model():
        if asked.kind == "folder":
            return _from_folder(asked.folder)
        if asked.kind != "hub":
            return _opened(find_checkpoint(asked, load_libraries))
        return _from_hub(asked)


def readable_model(model: ModelOrName) -> ReadableModel:
    """``model`` itself, or the checkpoint that a name or folder stands for."""
    if isinstance(model, (str, os.PathLike)):
        opened: Any = open_checkpoint(model)
        return opened
    return model


def _from_folder(folder: Path) -> LazyCheckpoint:
    """A folder's checkpoint, known by the checksum of its weights as ``load_model`` knows it."""
    check_folder(folder)
    name = folder.resolve().name
    opened = _opened(Checkpoint(folder, ModelIdentity(name, name, source="folder")))
    opened.identity = folder_identity(folder)  # last, once nothing speaks against the checkpoint
    opened.cfg.model_name = opened.identity.name
    return opened


def _opened(checkpoint: Checkpoint) -> LazyCheckpoint:
    folder, title = checkpoint.folder, checkpoint.identity.title
    config = model_config(read_json(folder / CONFIG), title)
    tokenizer = load_tokenizer(folder, title, config)
    return lazy_checkpoint(checkpoint.identity, config, tokenizer, local_tensors(folder))


def _from_hub(asked: Asked) -> LazyCheckpoint:
    repo, revision = asked.repo, asked.revision or PINNED.get(asked.repo)
    check_repository(repo, revision)
    try:
        listing = ask_hub(repo, revision)
    except (HubUnreachableError, HubBusyError):  # a whole copy in the cache will do
        return _opened(find_checkpoint(asked))
    title = TITLES.get(repo, repo.rsplit("/", 1)[-1])
    small = _small_files(repo, revision, title, listing)
    identity = ModelIdentity(repo, title, revision=listing.commit, source="hub")
    weights = [WEIGHTS] if WEIGHTS in listing.files else shard_names(small / INDEX)
    files = hub_tensors(repo, listing, weights, cache_folder() / "tensors")
    config = model_config(read_json(small / CONFIG), title)
    opened = lazy_checkpoint(identity, config, load_tokenizer(small, title, config), files)
    files.prepare(opened.needed())
    return opened


def _small_files(repo: str, revision: str | None, title: str, listing: Listing) -> Path:
    """The folder with config, tokenizer and index, fetched and checked as ``load_model`` does."""
    needed = set(needed_files(listing.files, f"the model {repo}")) - {WEIGHTS}
    check_config(read_json(fetch_blob(repo, listing, CONFIG)), title)
    blobs = [(name, fetch_blob(repo, listing, name)) for name in sorted(needed)]
    folder = link_snapshot(repo, revision, listing.commit, blobs)
    for name in needed:
        verify_file(folder / name, listing.files[name])
    return folder
