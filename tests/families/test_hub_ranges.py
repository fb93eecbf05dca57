"""Only the bytes that are needed come from the hub, whole, unchanged and once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.errors import AnalysisError, ModelError
from analysis.models import hub_ranges
from analysis.models.hub_errors import HubError, HubUnreachableError
from analysis.models.hub_listing import ask_hub
from analysis.models.hub_ranges import HubTensors, hub_tensors
from analysis.models.load import load_model
from analysis.models.open_checkpoint import open_checkpoint
from analysis.static.scores import score_heads
from analysis.weights import value_weights
from tests import checkpoints, planted
from tests.families.tiny import tiny_model
from tests.loopback_hub import Answer, LoopbackHub, Repository, point_at

TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)
REPO = "someone/model"


def repository(folder: Path, name: str = "llama", shard: str = "20KB") -> Repository:
    model = tiny_model(name, len(TOKENIZER))
    model.save_pretrained(folder, max_shard_size=shard)
    TOKENIZER.save_pretrained(folder)
    return Repository(folder)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub({REPO: repository(tmp_path / "repository")}) as hub:
        point_at(hub.url, tmp_path / "hub", monkeypatch)
        monkeypatch.setenv("NAME_HEADS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hub_ranges, "PAUSE", 0.01)
        yield hub


def tensor_bytes(hub: LoopbackHub) -> int:
    return sum(end - start for _, start, end in hub.ranges)


@pytest.mark.slow
def test_scores_are_those_of_the_whole_model(
    served: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    found = score_heads(open_checkpoint(REPO), planted.NAMES, k=2)
    said = capsys.readouterr().out
    expected = score_heads(load_model(str(served.repositories[REPO].folder)), planted.NAMES, k=2)
    assert np.array_equal(found.in_top_k, expected.in_top_k)
    assert np.array_equal(found.in_bottom_k, expected.in_bottom_k)
    assert f"GB from {REPO} at 111111111111" in said
    assert not any(name.endswith(".safetensors") for name in _whole_files(served))


@pytest.mark.slow
def test_two_readers_at_a_time_fetch_a_tensor_once(
    served: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes while the first has half of it."""
    half, fetched = threading.Event(), HubTensors.read_range

    def slowly(self: HubTensors, file: str, start: int, end: int) -> Iterator[bytes]:
        whole = b"".join(fetched(self, file, start, end))
        yield whole[: len(whole) // 2]
        if end - start > 1000:
            half.set()
            time.sleep(0.3)
        yield whole[len(whole) // 2 :]

    name = "model.layers.1.self_attn.o_proj.weight"
    listing = ask_hub(REPO, None)
    readers = [hub_tensors(REPO, listing, _shards(served), tmp_path / "cache") for _ in range(2)]
    monkeypatch.setattr(HubTensors, "read_range", slowly)
    before = len(served.ranges)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(readers[0].tensor, name)
        assert half.wait(60)
        second = pool.submit(readers[1].tensor, name)
        found = [first.result(), second.result()]
    model = tiny_model("llama", len(TOKENIZER))
    for tensor in found:
        assert torch.equal(tensor, model.get_parameter(name))
    assert len(served.ranges) == before + 1


def _shards(hub: LoopbackHub) -> list[str]:
    return sorted(file.name for file in hub.repositories[REPO].folder.glob("*.safetensors"))


def _whole_files(hub: LoopbackHub) -> list[str]:
    in_parts = [name for name, _, _ in hub.ranges]
    return [name for name in hub.downloads() if name not in in_parts]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mixtral"])
def test_the_bytes_requested_are_those_of_the_needed_tensors(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needed, by hand: everything but queries, keys, and the MLPs of later layers."""
    with LoopbackHub({REPO: repository(tmp_path / "r", name, "5GB")}) as hub:
        point_at(hub.url, tmp_path / "hub", monkeypatch)
        monkeypatch.setenv("NAME_HEADS_CACHE", str(tmp_path / "cache"))
        opened = open_checkpoint(REPO)
        score_heads(opened, planted.NAMES)
        places = opened.files.places
        later = tuple(f".{layer}.{part}" for layer in (1, 2) for part in ("mlp", "block_sparse"))
        needed = {
            tensor: place.n_bytes
            for tensor, place in places.items()
            if not any(part in tensor for part in ("q_proj", "k_proj", "wpe", *later))
        }
        assert sum(needed.values()) < 0.9 * sum(place.n_bytes for place in places.values())
        headers = [r for r in hub.ranges if r[2] <= min(p.start for p in places.values())]
        fetched = tensor_bytes(hub) - sum(end - start for _, start, end in headers)
        assert sum(needed.values()) <= fetched <= 1.02 * sum(needed.values())


@pytest.mark.slow
def test_what_is_in_the_cache_is_not_asked_for_again(served: LoopbackHub) -> None:
    first = open_checkpoint(REPO).files
    served.ranges.clear()
    opened = open_checkpoint(REPO)
    score_heads(opened, planted.NAMES)
    assert served.ranges == []
    assert isinstance(first, HubTensors) and isinstance(opened.files, HubTensors)
    assert opened.files.checksums == first.checksums
    assert all(len(digest) == 64 for digest in first.checksums.values())


@pytest.mark.slow
def test_a_connection_that_breaks_is_taken_up_where_it_ended(served: LoopbackHub) -> None:
    whole = repository_bytes(served)
    held = served.repositories[REPO]
    for file in held.folder.glob("*.safetensors"):
        held.break_after[file.name] = [1000, 500]
    opened = open_checkpoint(REPO)
    broken = [n for n in held.break_after.values() if len(n) < 2]
    assert broken
    found = score_heads(opened, planted.NAMES)
    expected = score_heads(load_model(str(held.folder)), planted.NAMES)
    assert np.array_equal(found.in_top_k, expected.in_top_k)
    starts = {(name, start) for name, start, _ in served.ranges}
    assert len(starts) == len(served.ranges)  # nothing was asked for from its beginning twice
    assert whole == repository_bytes(served)


def repository_bytes(hub: LoopbackHub) -> int:
    folder = hub.repositories[REPO].folder
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


@pytest.mark.slow
def test_a_later_run_takes_up_what_an_earlier_one_left(served: LoopbackHub) -> None:
    held = served.repositories[REPO]
    for file in held.folder.glob("*.safetensors"):
        held.break_after[file.name] = [1000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(HubError, match="what came is kept"):
        open_checkpoint(REPO)
    held.break_after.clear()
    served.ranges.clear()
    score_heads(open_checkpoint(REPO), planted.NAMES)
    parts = {start for _, start, _ in served.ranges}
    assert any((start - 1000) in _tensor_starts(served) for start in parts)


def _tensor_starts(hub: LoopbackHub) -> set[int]:
    from analysis.models.tensor_files import local_tensors

    return {place.start for place in local_tensors(hub.repositories[REPO].folder).places.values()}


def test_the_index_says_which_files_hold_the_weights(served: LoopbackHub) -> None:
    """Shards of any name, whatever an earlier upload left; one that is not there is named."""
    folder, name = served.repositories[REPO].folder, "model.layers.0.self_attn.v_proj.weight"
    index = folder / "model.safetensors.index.json"
    shards = _shards(served)
    for i, shard in enumerate(shards):
        (folder / shard).rename(folder / f"pytorch_{shard}")
        left = {key: -tensor for key, tensor in load_file(folder / f"pytorch_{shard}").items()}
        save_file(left, folder / f"model-{i:05}-of-00099.safetensors")
    index.write_text(index.read_text().replace("model-0", "pytorch_model-0"))
    expected = tiny_model("llama", len(TOKENIZER)).get_parameter(name)
    assert torch.equal(open_checkpoint(REPO).files.tensor(name), expected)
    (folder / f"pytorch_{shards[-1]}").unlink()
    with pytest.raises(ModelError, match=f"lists pytorch_{shards[-1]} in its index"):
        open_checkpoint(REPO)


def test_a_shard_that_changed_meanwhile_is_noticed(served: LoopbackHub) -> None:
    held = served.repositories[REPO]
    file = sorted(held.folder.glob("*.safetensors"))[-1]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    held.sent[file.name] = bytes(content)
    with pytest.raises(ModelError, match=f"{file.name} of {REPO} changed on the hub"):
        open_checkpoint(REPO)


@pytest.mark.slow
def test_a_tensor_damaged_in_the_cache_is_noticed_and_removed(
    served: LoopbackHub, tmp_path: Path
) -> None:
    open_checkpoint(REPO)
    largest = max((tmp_path / "cache").rglob("*.tensor"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[7] ^= 1
    largest.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="is damaged in the cache and was removed"):
        score_heads(open_checkpoint(REPO), planted.NAMES)
    score_heads(open_checkpoint(REPO), planted.NAMES)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_small_file_damaged_in_the_cache_is_refused_as_load_model_does(
    served: LoopbackHub, tmp_path: Path, name: str
) -> None:
    """Of the same size and valid as it is: only its checksum tells."""
    open_checkpoint(REPO)
    (cached,) = (tmp_path / "hub").rglob(f"snapshots/*/{name}")
    content = cached.read_bytes()
    blob = cached.resolve()
    blob.write_bytes(content.replace(b"1e-06", b"1e-02").replace(b"Mary", b"Maja"))
    assert len(cached.read_bytes()) == len(content) and cached.read_bytes() != content
    for read in (open_checkpoint, load_model):
        with pytest.raises(ModelError, match=f"{name} in the cache is damaged"):
            read(REPO)


def test_a_whole_copy_in_the_cache_is_read_with_the_hub_gone(served: LoopbackHub) -> None:
    loaded = load_model(REPO)
    served.stop()
    opened = open_checkpoint(REPO)
    assert opened.identity == loaded.identity
    assert torch.equal(value_weights(opened, 1), value_weights(loaded, 1))


def test_without_a_copy_the_hub_that_is_gone_is_said(served: LoopbackHub) -> None:
    open_checkpoint(REPO)  # which keeps tensors, not the files
    served.stop()
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        open_checkpoint(REPO)


def test_latent_attention_is_refused_before_any_weight_is_asked_for(
    served: LoopbackHub,
) -> None:
    config = served.repositories[REPO].folder / "config.json"
    config.write_text('{"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"}')
    with pytest.raises(ModelError, match="no head has a W_V"):
        open_checkpoint(REPO)
    assert served.ranges == []


# --- a hub that refuses, drips or fills the disk --------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(429, {"Retry-After": "3600"}), "takes no more requests .* wait 3,600 seconds"),
        (Answer(403), "forbids access"),
        (Answer(407), "the proxy before the hub"),
        (
            Answer(503),
            r"broke off \(the hub \(\S+\) .* \(it answered with HTTP status 503\)\): "
            "run this again; what came is kept",
        ),
        (Answer(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), "sends no parts"),
    ],
)
def test_a_part_that_is_refused_is_said_and_not_asked_for_again_and_again(
    served: LoopbackHub, answer: Answer, said: str
) -> None:
    listing = ask_hub(REPO, None)
    served.file = answer
    served.requests.clear()
    with pytest.raises(ModelError, match=said):
        hub_tensors(REPO, listing, _shards(served), Path("unused"))
    assert len(served.requests) == (hub_ranges.ATTEMPTS if answer.status == 503 else 1)


@pytest.mark.slow
def test_parts_that_only_drip_are_given_up(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = open_checkpoint(REPO)
    assert isinstance(opened.files, HubTensors)
    monkeypatch.setattr("analysis.models.hub_download.WINDOW", 0.2)
    monkeypatch.setattr("analysis.models.hub_download.SLOWEST", 1000)
    place = max(opened.files.places.values(), key=lambda place: place.n_bytes)
    file = opened.files.files[place.file]
    headers = {
        "X-Repo-Commit": opened.files.commit,
        "Content-Range": f"bytes {place.start}-{place.end - 1}/{file.size}",
    }
    body = b" " * place.n_bytes
    served.file = Answer(206, headers, body, delay=0.05, pieces=len(body))
    with pytest.raises(HubError, match=rf"of {REPO} broke off \(only \d+ bytes came in"):
        list(opened.files.read_range(place.file, place.start, place.end))


@pytest.mark.slow
def test_a_full_disk_and_a_password_are_treated_as_in_whole_downloads(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    listing = ask_hub(REPO, None)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ModelError, match=r"the cache folder \S+ is full: .*NAME_HEADS_CACHE"):
            hub_tensors(REPO, listing, _shards(served), tmp_path / "tensors")
    point_at(served.url.replace("://", "://me:secret@"), tmp_path / "hub", monkeypatch)
    served.stop()
    with pytest.raises(HubError) as caught:
        hub_tensors(REPO, listing, _shards(served), tmp_path / "tensors")
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["a/../b", "../x/y", "a--b/c", "a b", "team/model@", "", "\0"])
def test_a_name_that_is_none_is_refused_before_anything(served: LoopbackHub, name: str) -> None:
    with pytest.raises(AnalysisError):
        open_checkpoint(name)
    assert served.requests == []
