"""What the hub's cache has, and what is downloaded into it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import ModelError, ParameterError
from analysis.models import fetch_checkpoint, load_model
from analysis.models.hub import hub_checkpoint
from analysis.models.hub_download import fetch_blob, repository_folder
from analysis.models.hub_errors import HubError, HubUnreachableError
from analysis.models.hub_listing import ask_hub
from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests.loopback_hub import LoopbackHub, Repository

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = PINNED[GPT2_SMALL]


def test_another_commit_or_an_old_id_in_the_cache_is_used_offline(
    hub: LoopbackHub, repository: Repository, tmp_path: Path
) -> None:
    repository.commit = "3" * 40
    hub_checkpoint(GPT2_SMALL, None, "GPT-2")
    hub.stop()
    with pytest.warns(UserWarning, match=r"GPT-2 at commit 3333333 is used, .* not 607a30d"):
        assert fetch_checkpoint("gpt2").identity.revision == "3" * 40
    home = tmp_path / "cache" / "models--openai-community--gpt2"
    home.rename(home.with_name("models--gpt2"))
    with pytest.warns(UserWarning, match="which is in the cache"):
        assert fetch_checkpoint("gpt2").identity == ModelIdentity(
            GPT2_SMALL, "GPT-2", "3" * 40, fetch_checkpoint("gpt2").identity.checksum, "hub"
        )
    with pytest.raises(HubUnreachableError):  # an asked for commit is never exchanged
        fetch_checkpoint("gpt2", revision="4" * 40)


def test_a_revision_can_stand_behind_the_name(hub: LoopbackHub) -> None:
    assert fetch_checkpoint("team/other@main").identity.revision == COMMIT
    assert fetch_checkpoint(f"gpt2@{COMMIT}").identity.revision == COMMIT
    for name in ("team/other@", "team/other@main"):
        with pytest.raises(ParameterError, match="give one revision"):
            fetch_checkpoint(name, revision="main")
    with pytest.raises(HubError, match="has no revision 'v9'"):
        fetch_checkpoint("team/other@v9")


@pytest.mark.slow
@pytest.mark.parametrize(
    "shards",
    [
        ["part-a.safetensors"],
        ["weights.v2.safetensors", "rest.safetensors"],
        ["pytorch_model-00001-of-00002.safetensors", "pytorch_model-00002-of-00002.safetensors"],
    ],
)
def test_shards_are_found_by_the_index_whatever_they_are_called(
    hub: LoopbackHub, repository: Repository, shards: list[str]
) -> None:
    from safetensors.torch import load_file, save_file

    whole = repository.folder / "model.safetensors"
    weights = load_file(whole)
    whole.unlink()
    place = {name: shards[number % len(shards)] for number, name in enumerate(sorted(weights))}
    for shard in shards:
        held = {name: weights[name].clone() for name in weights if place[name] == shard}
        save_file(held, repository.folder / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": place}
    (repository.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    load_model("team/other")
    assert set(shards) <= set(hub.downloads())
    hub.requests.clear()
    hub.stop()
    assert fetch_checkpoint("team/other").identity.revision == COMMIT


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["BertForMaskedLM"], "model_type": "bert"},
        {"architectures": ["MambaForCausalLM"], "model_type": "mamba"},
        {"quantization_config": {"bits": 4}},
    ],
)
def test_what_is_not_supported_is_refused_from_its_config_alone(
    hub: LoopbackHub, repository: Repository, change: dict[str, Any]
) -> None:
    path = repository.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match="use "):
        fetch_checkpoint("team/other")
    assert hub.downloads() == ["config.json"]


def test_a_full_disk_is_said_before_the_download(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(
        ModelError,
        match=r"needs .* MB, and the disk of the hub's cache folder \S+ "
        r"has 0\.0 MB left: make room, or set HF_HUB_CACHE",
    ):
        fetch_checkpoint("team/other")


def test_what_came_of_a_file_needs_no_room_again(
    hub: LoopbackHub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, name = ask_hub("team/other", None), "model.safetensors"
    content = (saved / name).read_bytes()
    blobs = repository_folder("team/other") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{listing.files[name].digest}.incomplete").write_bytes(content[:-10])
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert fetch_blob("team/other", listing, name).read_bytes() == content


def test_a_disk_that_fills_up_is_said(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.models.hub_download._receive", full)
    with pytest.raises(ModelError, match="is full: make room, or set HF_HUB_CACHE"):
        fetch_checkpoint("team/other")
