"""A hub that refuses, is slow or wants a login: what is said, and that nothing waits for ever."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from analysis.models import fetch_checkpoint, load_model
from analysis.models import load as models
from analysis.models.hub import hub_checkpoint
from analysis.models.hub_errors import HubError, HubUnreachableError
from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL
from tests.loopback_hub import Answer, LoopbackHub, Repository, point_at, written

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = PINNED[GPT2_SMALL]
LONG = 60.0
"""Seconds that a hub hangs which is to be given up sooner, even by a busy machine."""
join = threading.Thread.join


# --- told apart ----------------------------------------------------------------------------------

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
        monkeypatch.setattr(models, "packaged_checkpoint", lambda *_: pytest.fail("another model"))
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
