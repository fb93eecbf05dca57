"""A small GPT-2, and a hub on loopback that serves it as GPT-2 and as ``team/other``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL
from tests import checkpoints
from tests.loopback_hub import LoopbackHub, Repository, point_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = PINNED[GPT2_SMALL]


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
