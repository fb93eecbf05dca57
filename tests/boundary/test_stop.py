"""Ctrl-C ends at once whatever is being waited for, and leaves nothing half-written.

Each task runs in a process of its own, which hears Ctrl-C as a terminal's does. A stop of a sweep
is tested in ``tests/sweeps``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import pytest
from tqdm.auto import tqdm

from analysis import export_figure
from analysis.models.hub import hub_checkpoint
from tests import checkpoints
from tests.loopback_hub import Answer, LoopbackHub, Repository, point_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

LONG = 60.0
"""Seconds that each task would wait if nobody stopped it."""
SOON = 20.0
"""Seconds within which it ends, on a machine that may be busy; it needs a fraction of one."""


def ended_by_ctrl_c(task: Callable[[], object], begun: Callable[[], bool]) -> float:
    """Start a task, stop it once it has begun, and return the seconds that it took to end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside the hub's thread
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # Stopped while it holds the lock of all processes' bars, it would keep it for good.
            tqdm.set_lock(threading.RLock())
            task()
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        wait_until(begun)
        start = time.monotonic()
        os.kill(child, signal.SIGINT)
        status: list[int] = []

        def gone() -> bool:
            pid, code = os.waitpid(child, os.WNOHANG)
            status.extend([code] if pid else [])
            return bool(pid)

        wait_until(gone)
        assert os.waitstatus_to_exitcode(status[0]) == 130
        child = 0
        return time.monotonic() - start
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG / 2
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["sleep 60", "while true; do :; done", "trap '' INT; sleep 60"])
def test_an_export_with_a_browser_that_hangs(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, begun, made = tmp_path / "browser", tmp_path / "begun", tmp_path / "made"
    browser.write_text(f"#!/bin/sh\necho $$ > {begun}.new; mv {begun}.new {begun}\n{script}\n")
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(browser))
    made.mkdir()
    (made / "f.html").write_text("of before")
    figure = go.Figure(go.Bar(x=[1], y=[2]))
    took = ended_by_ctrl_c(
        lambda: export_figure(figure, made / "f", ["html", "png"]), begun.is_file
    )
    assert took < SOON
    assert files_in(made) == {"f.html"}
    assert (made / "f.html").read_text() == "of before"
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    tokenizer = checkpoints.make_tokenizer()
    model = checkpoints.gpt2_model(len(tokenizer), n_layer=1, n_embd=8, n_head=2)
    served = checkpoints.save_checkpoint(model, tokenizer, tmp_path / "served")
    with LoopbackHub({"team/model": Repository(served)}) as running:
        point_at(running.url, tmp_path / "cache", monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", LONG)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", LONG)
        yield running


def load() -> object:
    return hub_checkpoint("team/model", None, "model")


@pytest.mark.slow
def test_a_download_that_drips(hub: LoopbackHub, tmp_path: Path) -> None:
    body = (tmp_path / "served" / "config.json").read_bytes()  # for a minute
    hub.file = Answer(200, {"X-Repo-Commit": "1" * 40}, body, delay=0.1, pieces=len(body))
    cache = tmp_path / "cache"
    took = ended_by_ctrl_c(load, lambda: bool(list(cache.rglob("*.incomplete"))))
    assert took < SOON
    assert not list(cache.glob("*/snapshots"))
    assert all(name.endswith((".incomplete", ".lock")) for name in files_in(cache))
    hub.file = None
    load()  # no lock is in the way, and what came is continued


@pytest.mark.parametrize("kind", ["listing", "file"])
def test_a_hub_that_does_not_answer(hub: LoopbackHub, tmp_path: Path, kind: str) -> None:
    setattr(hub, kind, Answer(delay=LONG))
    asked = "/api/models/" if kind == "listing" else "/resolve/"
    took = ended_by_ctrl_c(load, lambda: any(asked in request for request in hub.requests))
    assert took < SOON
    assert all(name.endswith((".incomplete", ".lock")) for name in files_in(tmp_path / "cache"))
    setattr(hub, kind, None)
    load()
