"""A hub that means harm, and passwords: what is not done, and not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import ModelError, ParameterError
from analysis.models import fetch_checkpoint
from analysis.models import load as models
from analysis.models.checkpoint import Checkpoint
from analysis.models.hub import hub_checkpoint
from analysis.models.hub_errors import masked
from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests.loopback_hub import Answer, LoopbackHub, Repository, point_at, written

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = PINNED[GPT2_SMALL]


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


# --- passwords -----------------------------------------------------------------------------------


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
    monkeypatch.setattr(models, "packaged_checkpoint", lambda *_: Checkpoint(saved, packaged))
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
