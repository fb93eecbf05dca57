"""A hub that refuses, is slow, wants a login or means harm: what is said, and what is not done."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import ModelError, ParameterError
from analysis.models import fetch_checkpoint, load_model
from analysis.models import load as models
from analysis.models.checkpoint import Checkpoint
from analysis.models.hub import hub_checkpoint
from analysis.models.hub_download import fetch_blob, repository_folder
from analysis.models.hub_errors import HubError, HubUnreachableError, masked
from analysis.models.hub_listing import ask_hub
from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests import checkpoints
from tests.loopback_hub import Answer, LoopbackHub, Repository, point_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = PINNED[GPT2_SMALL]
LONG = 60.0
"""Seconds that a hub hangs which is to be given up sooner, even by a busy machine."""
join = threading.Thread.join


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = checkpoints.make_tokenizer()
    folder = tmp_path_factory.mktemp("gpt2")
    model = checkpoints.gpt2_model(len(tokenizer))
    return checkpoints.save_checkpoint(model, tokenizer, folder / "saved")


@pytest.fixture
def repository(saved: Path, tmp_path: Path) -> Repository:
    return Repository(shutil.copytree(saved, tmp_path / "served"), COMMIT)


@pytest.fixture
def hub(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackHub]:
    with LoopbackHub({GPT2_SMALL: repository, "team/other": repository}) as running:
        point_at(running.url, tmp_path / "cache", monkeypatch)
        yield running


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- told apart ---------------------------------------------------------------------------------

REFUSALS = [
    (
        Answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
        r"does not accept your access token \(Invalid credentials in Authorization header\): it is "
        r"wrong or has expired; log in again with `hf auth login`, or unset HF_TOKEN",
    ),
    (
        Answer(401, {"X-Error-Message": 'User Access Token "mine" is expired'}),
        r"does not accept your access token \(User Access Token \"mine\" is expired\)",
    ),
    (
        Answer(
            401,
            {
                "X-Error-Code": "GatedRepo",
                "X-Error-Message": "Access to model lab/token-mixer is restricted. Please log in.",
            },
        ),
        "only to those who have accepted its terms: accept them",
    ),
    (Answer(401, {"X-Error-Code": "RepoNotFound"}), "knows no model of that name"),
    (Answer(403, {"X-Error-Message": "no scope"}), r"forbids access .*403: no scope\): use an acc"),
    (Answer(407), r"the proxy before the hub .*407\): put a user and password into HTTPS_PROXY"),
    (Answer(429, {"Retry-After": "3600"}), r"no more requests .*429\): wait 3,600 seconds"),
    (Answer(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), "may be the login page"),
    (Answer(200, {"Content-Type": "application/json"}, b'{"hello": 1}'), "may be the login page"),
    (Answer(302, {"Location": "https://login.invalid/"}), "login page|cannot be reached"),
    (Answer(418), r"refused the request .*418"),
]


@pytest.mark.parametrize(("answer", "said"), REFUSALS)
def test_each_refusal_has_its_own_sentence_and_auto_does_not_change_the_model(
    hub: LoopbackHub, answer: Answer, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.listing = answer
    start = time.monotonic()
    with pytest.raises(HubError, match=said):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    if answer.status != 302:
        monkeypatch.setattr(models, "packaged_checkpoint", lambda: pytest.fail("another model"))
        with pytest.raises(HubError, match=r"or use load_model\('smollm2-135m'\)"):
            load_model()
    assert time.monotonic() - start < LONG / 2
    assert written(tmp_path / "cache") == set()


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_hub_that_has_failed_itself_counts_as_out_of_reach(hub: LoopbackHub, status: int) -> None:
    hub.listing = Answer(status, {"Retry-After": "3600"})
    with pytest.raises(HubUnreachableError, match=f"HTTP status {status}"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(429, {"Retry-After": "3600"}),
        *(Answer(status) for status in (401, 403, 404, 407, 503)),
    ],
)
def test_a_download_that_is_refused_ends_at_once(hub: LoopbackHub, answer: Answer) -> None:
    hub.file = answer
    start = time.monotonic()
    with pytest.raises(HubError, match=f"HTTP status {answer.status}|no model of that name"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert time.monotonic() - start < LONG / 2


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere", "address 'nowhere' cannot be used"),
        ("http://host:port", "cannot be used|cannot be reached"),
        ("ftp://host", "cannot be used"),
        ("http://", "cannot be used|cannot be reached"),
        ("http://me:secret@host:port", "cannot be used|cannot be reached"),
        ("ftp://me:secret@host", "cannot be used"),
        ("me:secret@nowhere", "cannot be used"),
    ],
)
def test_an_address_that_is_none_is_said(
    address: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(address, tmp_path / "cache", monkeypatch)
    with pytest.raises(HubError, match=said) as raised:
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert "secret" not in str(raised.value)


# --- nothing waits for ever ----------------------------------------------------------------------


def test_a_token_that_cannot_be_sent_is_said(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ab…cd")
    with pytest.raises(HubError, match=r"access token holds a character .* unset HF_TOKEN"):
        fetch_checkpoint("team/other")
    assert hub.requests == []


@pytest.mark.slow
def test_a_slow_mirror_is_heard_where_the_reader_asks_for_patience(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.models.hub_listing.DEADLINE", 0.3)
    hub.listing = Answer(503, delay=LONG)
    with pytest.raises(HubUnreachableError, match=r"no answer within 0\.3 seconds; for a slow mir"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    hub.listing = Answer(503, delay=0.5)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", LONG)
    with pytest.raises(HubUnreachableError, match="HTTP status 503"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


@pytest.mark.slow
def test_a_time_out_of_the_http_client_is_said_as_ours_is(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two end after the same time, and either may be first."""
    monkeypatch.setattr(threading.Thread, "join", lambda thread, _: join(thread, LONG))
    monkeypatch.setattr("analysis.models.hub_listing.DEADLINE", 0.3)
    hub.listing = Answer(503, delay=LONG)
    with pytest.raises(HubUnreachableError, match=r"no answer within 0\.3 seconds; for a slow mir"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


@pytest.mark.slow
def test_a_file_of_which_no_byte_comes_is_given_up(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    hub.file = Answer(delay=LONG)
    start = time.monotonic()
    with pytest.raises(HubError, match=r"the download of config\.json .* failed"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert time.monotonic() - start < LONG / 2


def test_an_address_that_contains_407_is_no_proxys_answer(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_on_a_port_with("407", {GPT2_SMALL: repository}) as hub:
        point_at(hub.url, tmp_path / "cache", monkeypatch)
        hub.file = Answer(200, {"Content-Length": "1000"}, b"breaks off")
        with pytest.raises(HubError, match=r"the download of config\.json .* failed"):
            hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    with pytest.raises(HubUnreachableError, match=r"http://127\.0\.0\.1:\d*407\d*\) cannot be"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")


def hub_on_a_port_with(digits: str, repositories: dict[str, Repository]) -> LoopbackHub:
    for port in range(int(digits) * 100, int(digits) * 100 + 100):
        with contextlib.suppress(OSError):  # the port is in use
            return LoopbackHub(repositories, port)
    pytest.fail("no port is free")


def test_a_proxy_that_wants_a_login_before_an_https_hub_is_told_apart(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session

    for name in ("https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    close_session()  # the next one reads the proxy anew
    try:
        with pytest.raises(HubError, match=r"the proxy before the hub \(https://hub\.invalid\)"):
            hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    finally:
        close_session()
    assert hub.requests == ["CONNECT hub.invalid:443"]


@pytest.mark.slow
def test_a_file_that_only_drips_is_given_up(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, repository: Repository
) -> None:
    monkeypatch.setattr("analysis.models.hub_download.WINDOW", 0.3)
    monkeypatch.setattr("analysis.models.hub_download.SLOWEST", 1000)
    body = (repository.folder / "config.json").read_bytes()
    # For a minute and more:
    hub.file = Answer(200, {"X-Repo-Commit": COMMIT}, body, delay=0.1, pieces=len(body))
    start = time.monotonic()
    with pytest.raises(HubError, match=r"failed \(only \d+ bytes came in"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert time.monotonic() - start < LONG / 2


def test_what_came_of_a_file_is_continued(
    hub: LoopbackHub, repository: Repository, tmp_path: Path
) -> None:
    """The loopback hub sends whole files only: a 200 in place of a 206 begins anew."""
    hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    link = next((tmp_path / "cache").glob("models--*/snapshots/*/model.safetensors"))
    blob, content = link.resolve(), link.read_bytes()
    blob.with_name(f"{blob.name}.incomplete").write_bytes(content[:1000])
    link.unlink()
    blob.unlink()
    hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert link.read_bytes() == content


# --- a hub that means harm -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "listed",
    [
        {"sha": "../../../outside"},
        {"sha": "1" * 39 + "/"},
        {"sha": "main"},
        {"siblings": [{"rfilename": "../outside", "size": 1, "blobId": "1" * 40}]},
        {"siblings": [{"rfilename": "/outside", "size": 1, "blobId": "1" * 40}]},
        {"siblings": [{"rfilename": "a/../../outside", "size": 1, "blobId": "1" * 40}]},
        {"siblings": [{"rfilename": "a\\..\\outside", "size": 1, "blobId": "1" * 40}]},
        {"siblings": [{"rfilename": "config.json", "size": 1, "blobId": "../../../outside"}]},
        {"siblings": [{"rfilename": "config.json", "size": -1, "blobId": "1" * 40}]},
        {
            "siblings": [
                {"rfilename": "config.json", "size": 1, "lfs": {"sha256": "../x", "size": 1}}
            ]
        },
    ],
)
def test_a_listing_that_could_lead_out_of_the_cache_is_refused(
    hub: LoopbackHub, repository: Repository, tmp_path: Path, listed: dict[str, Any]
) -> None:
    repository.listed = listed
    before = written(tmp_path)
    with pytest.raises(ModelError):
        hub_checkpoint("team/other", None, "other")
    assert written(tmp_path) == before
    assert hub.downloads() == []


@pytest.mark.parametrize("etag", ["../../../../outside", "/outside", "a" * 40, "x"])
def test_an_etag_never_becomes_a_path(
    hub: LoopbackHub, repository: Repository, tmp_path: Path, etag: str
) -> None:
    repository.etags["model.safetensors"] = etag
    with pytest.raises(ModelError, match="with another checksum than it lists"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert not list(tmp_path.rglob("*outside*"))
    assert not [path for path in written(tmp_path / "cache") if "model.safetensors" in path]


def test_a_file_larger_than_listed_is_not_written_on_and_on(
    hub: LoopbackHub, repository: Repository, tmp_path: Path
) -> None:
    repository.sent["config.json"] = b" " * 5_000_000
    with pytest.raises(ModelError, match="came damaged"):
        hub_checkpoint(GPT2_SMALL, COMMIT, "GPT-2")
    assert written(tmp_path / "cache") <= {p for p in written(tmp_path / "cache") if "lock" in p}


@pytest.mark.parametrize("repo", ["a/../b", "../x", "a--b/c", "a/b/c@d", "-x", "a b", "x" * 300])
def test_an_id_that_is_none_is_refused_before_anything(hub: LoopbackHub, repo: str) -> None:
    with pytest.raises((ParameterError, ModelError)):
        hub_checkpoint(repo, None, "it")
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["../x", "a/../b", "/etc", "a\\b", "a//b", "x" * 300, "\0"])
def test_a_revision_that_is_no_name_is_refused_before_anything(
    hub: LoopbackHub, revision: str
) -> None:
    with pytest.raises(ParameterError, match="revision must be"):
        hub_checkpoint("team/other", revision, "it")
    assert hub.requests == []


# --- passwords ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:secret@host/x", "http://***@host/x"),
        ("(https://secret@host)", "(https://***@host)"),
        ("http://me:se@cret@host/x@main", "http://***@host/x@main"),
        ("'me:secret@host' is no address", "'***@host' is no address"),
        ("me:secret@host:8080/x", "***@host:8080/x"),
        ("no address a@b", None),
        ("no secret in team/model@main: at 10:30", None),
        (f"token hf_{'aB3' * 12} refused", "token hf_*** refused"),
        (f"token hf_oauth_{'aB3' * 12}.x-y_z refused", "token hf_*** refused"),
        ("delete /scratch/hf_cache/hub/.locks, lab/hf_small", None),
    ],
)
def test_credentials_are_masked_and_nothing_else(text: str, expected: str | None) -> None:
    assert masked(text) == (expected or text)


@pytest.mark.parametrize(
    "answer", [None, Answer(401), Answer(403), Answer(429), Answer(503), Answer(200)]
)
def test_a_password_in_the_address_is_never_shown(
    hub: LoopbackHub,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: Answer | None,
) -> None:
    import traceback

    point_at(hub.url.replace("://", "://me:secret@"), tmp_path / "cache", monkeypatch)
    packaged = ModelIdentity(models.PACKAGED, models.PACKAGED_TITLE, source="package")  # type: ignore[attr-defined]
    monkeypatch.setattr(models, "packaged_checkpoint", lambda: Checkpoint(saved, packaged))
    shown = ""
    for kind in ("listing", "file"):
        hub.listing = hub.file = None
        setattr(hub, kind, answer)
        if answer is None and kind == "file":
            hub.stop()
        try:
            fetch_checkpoint("auto" if kind == "listing" else "team/other")
        except ModelError as error:
            shown += str(error) + "".join(traceback.format_exception(error))
    shown += "".join(capsys.readouterr())
    assert "secret" not in shown


# --- what the cache has ---------------------------------------------------------------------------


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


# --- threads --------------------------------------------------------------------------------------


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
