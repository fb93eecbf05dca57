"""Bars are there, and can be silenced, in terminals and in notebooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tqdm.notebook
import tqdm.std

from analysis import progress
from analysis.progress import lasting_bar, progress_bar


@pytest.mark.parametrize("bars", [tqdm.std.tqdm, tqdm.notebook.tqdm])
@pytest.mark.parametrize("make", [progress_bar, lasting_bar])
@pytest.mark.parametrize(("said", "off"), [("1", True), ("0", False), (None, False)])
def test_the_environment_silences_bars(
    bars: type, make: Callable[..., Any], said: str | None, off: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(progress, "tqdm", bars)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    if said is not None:
        monkeypatch.setenv("TQDM_DISABLE", said)
    with make(3, "work", "step") as bar:
        assert bar.disable is off
        bar.update(3)
