"""The hub, played by a small one on loopback: fetching, caching, verifying, and its absence."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import ModelError
from analysis.models import hub_listing, load_model
from analysis.models.checksums import sha256_of
from analysis.models.hub import hub_checkpoint
from analysis.models.hub_download import fetch_blob, link_snapshot
from analysis.models.hub_errors import HubError, HubUnreachableError
from analysis.models.hub_listing import ask_hub, list_revisions
from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL
from tests import checkpoints
from tests.loopback_hub import LoopbackHub, Repository, point_at

if TYPE_CHECKING:
    pass

COMMIT = PINNED[GPT2_SMALL]


def cached_files(tmp_path: Path) -> set[str]:
    snapshots = (tmp_path / "cache").glob("models--*/snapshots/*/*")
    return {path.name for path in snapshots if path.is_file()}


def test_a_pinned_commit_is_fetched_once_and_then_needs_no_hub(
    hub: LoopbackHub, repository: Repository
) -> None:
    first = hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert sorted(hub.downloads()) == sorted(path.name for path in repository.folder.iterdir())
    assert first.identity.name == GPT2_SMALL
    assert first.identity.revision == COMMIT
    assert first.identity.source == "hub"
    assert first.identity.checksum == sha256_of(repository.folder / "model.safetensors")
    hub.requests.clear()
    assert hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2") == first
    assert hub.requests == []
    hub.stop()
    assert hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2") == first


def test_a_branch_is_asked_for_each_time_and_comes_from_the_cache_with_the_hub_gone(
    hub: LoopbackHub,
) -> None:
    first = hub_checkpoint("team/other", None, "other")
    assert first.identity.revision == COMMIT
    hub.requests.clear()
    assert hub_checkpoint("team/other", None, "other") == first
    assert hub.requests and not hub.downloads()
    hub.stop()
    assert hub_checkpoint("team/other", None, "other") == first


def test_what_the_cache_lacks_is_said_to_be_the_revision_and_not_the_model(
    hub: LoopbackHub,
) -> None:
    hub_checkpoint("team/other", None, "other")
    hub.stop()
    with pytest.raises(HubUnreachableError, match=r"and revision 'step7' of team/other is not in"):
        hub_checkpoint("team/other", "step7", "other")
    with pytest.raises(HubUnreachableError, match=r"which revisions team/other has: .* or name"):
        list_revisions("team/other")


def test_a_branch_that_moved_is_fetched_anew(hub: LoopbackHub, repository: Repository) -> None:
    hub_checkpoint("team/other", None, "other")
    repository.commit = "2" * 40
    assert hub_checkpoint("team/other", None, "other").identity.revision == "2" * 40
    hub.stop()
    assert hub_checkpoint("team/other", None, "other").identity.revision == "2" * 40


def test_files_that_loading_does_not_read_stay_on_the_hub(
    hub: LoopbackHub, repository: Repository
) -> None:
    unread = {"pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "model.onnx", "README.md"}
    for name in unread | {"model.fp16.safetensors"}:
        (repository.folder / name).write_bytes(b"never read")
    hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert not set(hub.downloads()) & (unread | {"model.fp16.safetensors"})


def test_a_model_with_weights_only_as_pickle_is_refused_before_any_download(
    hub: LoopbackHub, repository: Repository
) -> None:
    (repository.folder / "model.safetensors").rename(repository.folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"openai-community/gpt2 has its weights only as pickle"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert hub.downloads() == []


def test_shards_are_fetched_and_a_missing_one_is_fetched_again(
    hub: LoopbackHub, repository: Repository, tmp_path: Path
) -> None:
    (repository.folder / "model.safetensors").unlink()
    tokenizer = checkpoints.make_tokenizer()
    checkpoints.gpt2_model(len(tokenizer)).save_pretrained(
        repository.folder, max_shard_size="100KB"
    )
    shards = sorted(path.name for path in repository.folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    first = hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert set(shards) < set(hub.downloads())
    (first.folder / shards[0]).resolve().unlink()
    hub.requests.clear()
    assert hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2") == first
    assert shards[0] in hub.downloads() and shards[1] not in hub.downloads()


def test_an_interrupted_download_is_taken_up_again(
    hub: LoopbackHub, repository: Repository, tmp_path: Path
) -> None:
    tokenizer = (repository.folder / "tokenizer.json").read_bytes()
    repository.sent["tokenizer.json"] = tokenizer[:-5]
    with pytest.raises(ModelError):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert cached_files(tmp_path) == set(), "a folder with a config is whole"
    repository.sent.clear()
    hub.requests.clear()
    hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert "model.safetensors" not in hub.downloads()
    assert {"model.safetensors", "tokenizer.json"} < cached_files(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_download_is_noticed_and_not_kept(
    hub: LoopbackHub, repository: Repository, tmp_path: Path, name: str, damage: str
) -> None:
    good = (repository.folder / name).read_bytes()
    repository.sent[name] = good[:-9] if damage == "truncated" else good[:-9] + b"\x01" * 9
    with pytest.raises(ModelError, match=name) as caught:
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert "load it again" in str(caught.value)
    assert name not in cached_files(tmp_path)
    repository.sent.clear()
    hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_file_in_the_cache_is_noticed_with_the_hub_gone(
    hub: LoopbackHub, name: str, damage: str
) -> None:
    blob = (hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2").folder / name).resolve()
    good = blob.read_bytes()
    blob.write_bytes(good[:-9] if damage == "truncated" else good[:-9] + b" " * 9)
    requests = len(hub.requests)
    with pytest.raises(ModelError) as caught:
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert name in str(caught.value) and f"delete {blob}" in str(caught.value)
    assert len(hub.requests) == requests
    blob.unlink()  # as told
    hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert blob.read_bytes() == good


def test_a_blob_that_links_into_a_shared_store_is_judged_by_its_own_name(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    """huggingface_hub may keep blobs once for all repositories, under names of another hash."""
    first = hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    blob = (first.folder / "model.safetensors").resolve()
    blob.rename(tmp_path / ("f" * 64))
    blob.symlink_to(tmp_path / ("f" * 64))
    assert hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2") == first
    (tmp_path / ("f" * 64)).write_bytes(b"altered")
    with pytest.raises(ModelError, match=f"delete {tmp_path / ('f' * 64)}"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


def test_a_shard_that_leads_out_of_the_folder_is_refused(
    hub: LoopbackHub, repository: Repository
) -> None:
    (repository.folder / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": "../../secret.safetensors"}}
    (repository.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lists '\.\./\.\./secret"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


def test_what_the_hub_refuses_is_said(hub: LoopbackHub, repository: Repository) -> None:
    with pytest.raises(
        HubError, match=r"'team/nothing' is no folder here, and the hub \S+ knows no"
    ):
        hub_checkpoint("team/nothing", None, "nothing")
    with pytest.raises(HubError, match="team/other has no revision 'step9'"):
        hub_checkpoint("team/other", "step9", "other")
    with pytest.raises(HubError, match="neither a folder nor a possible hub id"):
        hub_checkpoint("what is this?", None, "this")
    repository.gated = True
    with pytest.raises(HubError, match="accepted its terms: accept them"):
        hub_checkpoint("team/other", None, "other")


def test_another_process_may_link_the_same_file_meanwhile(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between this one's look and its link."""
    make_link = Path.symlink_to

    def second(link: Path, target: str) -> None:
        for name in ("config.json", "model.safetensors"):
            if link.name.startswith(name) and not link.with_name(name).exists():
                make_link(link.with_name(name), target)
        make_link(link, target)

    monkeypatch.setattr(Path, "symlink_to", second)
    folder = hub_checkpoint("team/other", None, "other").folder
    assert all(path.is_symlink() and path.suffix != ".new" for path in folder.iterdir())


def test_nothing_is_written_into_a_cache_that_has_everything(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a cache that several people read must not be."""
    listing = ask_hub("team/other", None)
    blobs = [(name, fetch_blob("team/other", listing, name)) for name in listing.files]
    folder = link_snapshot("team/other", None, COMMIT, blobs)
    for writes in ("unlink", "symlink_to", "write_text", "replace"):
        monkeypatch.setattr(Path, writes, lambda *_, **__: pytest.fail("written"))
    blobs = [(name, fetch_blob("team/other", listing, name)) for name in listing.files]
    assert link_snapshot("team/other", None, COMMIT, blobs) == folder


def test_a_cache_that_cannot_be_written_is_said(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"cannot be written .*: make room or set HF_HUB_CACHE"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


def test_a_hub_that_refuses_connections_is_answered_at_once(hub: LoopbackHub) -> None:
    hub.stop()
    start = time.monotonic()
    with pytest.raises(HubUnreachableError) as caught:
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert time.monotonic() - start < 20  # huggingface_hub's own attempts take 23 s
    assert "connect to the hub, or use load_model('smollm2-135m')" in str(caught.value)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds after which a hub is given up, a tenth of the usual three."""
    assert hub_listing.DEADLINE == 3
    monkeypatch.setattr(hub_listing, "DEADLINE", 0.3)
    return 0.3


@pytest.mark.slow
def test_a_hub_that_never_answers_is_given_up_after_a_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: float
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        point_at(f"http://127.0.0.1:{port}", tmp_path / "cache", monkeypatch)
        start = time.monotonic()
        with pytest.raises(HubUnreachableError, match=r"no answer within 0\.3 seconds"):
            hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
        assert impatient <= time.monotonic() - start < 20


@pytest.mark.slow
def test_a_name_look_up_that_hangs_is_given_up_after_a_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: float
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(60))
    point_at("http://hub.invalid", tmp_path / "cache", monkeypatch)
    start = time.monotonic()
    with pytest.raises(HubUnreachableError, match=r"no answer within 0\.3 seconds"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert time.monotonic() - start < 30


def test_offline_mode_is_named_and_sends_nothing(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match="offline mode is set by HF_HUB_OFFLINE"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert hub.requests == []


@pytest.mark.slow
def test_threads_that_load_at_once_each_get_their_model(hub: LoopbackHub, saved: Path) -> None:
    import torch

    tokens = torch.tensor([[0, 257, 20]])
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float32] * 2
    alone = {dtype: load_model(saved, dtype=dtype)(tokens) for dtype in set(dtypes)}
    torch.manual_seed(7)
    expected = torch.get_rng_state()
    results: list[Any] = [None] * len(dtypes)

    def load(i: int) -> None:
        try:
            model = load_model(saved if i % 2 else "team/other", dtype=dtypes[i])
            results[i] = model(tokens)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=load, args=(i,)) for i in range(len(dtypes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for dtype, result in zip(dtypes, results, strict=True):
        assert isinstance(result, torch.Tensor), result
        assert torch.equal(result, alone[dtype])
    assert torch.equal(torch.get_rng_state(), expected)
    assert torch.get_default_dtype() == torch.float32
