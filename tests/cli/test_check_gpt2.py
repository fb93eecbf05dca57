"""The comparison with what is published of GPT-2, as far as a small GPT-2 on loopback goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import torch

from analysis.cli.check_gpt2 import (
    FAILED,
    FOUND,
    MISSED,
    OUT_OF_REACH,
    compare_ranks,
    main,
    verdict,
)
from analysis.ioi.head_classes import HeadClass, published_classes
from analysis.models.load import PINNED
from analysis.provenance import GPT2_SMALL
from tests import checkpoints, ioi_models
from tests.loopback_hub import LoopbackHub, Repository, point_at
from tests.planted import boot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PUBLISHED = published_classes("gpt2")["class"]
MOVERS = [*PUBLISHED.index[PUBLISHED == HeadClass.NAME_MOVER]]
NEGATIVES = [*PUBLISHED.index[PUBLISHED == HeadClass.NEGATIVE_NAME_MOVER]]
COPY_SUPPRESSING = {(8, 10): 149, (10, 7): 115, (11, 10): 542}
"""Mean ranks published by McDougall et al."""


def serve(model: PreTrainedModel, folder: Path) -> LoopbackHub:
    checkpoints.save_checkpoint(model, ioi_models.make_tokenizer(), folder)
    return LoopbackHub({GPT2_SMALL: Repository(folder, commit=PINNED[GPT2_SMALL])})


def planted(movers: list[tuple[int, int]], negatives: list[tuple[int, int]]) -> PreTrainedModel:
    return ioi_models.planted_gpt2(
        ioi_models.make_tokenizer(),
        movers=movers,
        negatives=negatives,
        backups=[(11, 2)],
        n_layers=12,
        n_heads=12,
    )


@pytest.mark.parametrize("missing", [0, 1])
def test_planted_heads_at_the_published_places(
    missing: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    movers = MOVERS[missing:]
    with serve(planted(movers, NEGATIVES), tmp_path / "gpt2") as hub:
        point_at(hub.url, tmp_path / "cache", monkeypatch)
        status = main(["--prompts", "64"])
    said = capsys.readouterr().out
    if missing:
        assert status == MISSED
        assert "Missed 1 of 5 published (negative) name movers: 9.6." in said
    else:
        assert status == FOUND
        assert "All 5 published name movers and negative name movers are found." in said
    for word in ("published", "measured", "rank of copying_score", "copy_score", "growth", "10.7"):
        assert word in said
    ranks = said[said.index("mean_rank") :].splitlines()
    assert len(ranks) >= 5 and "115" in said  # three heads under two lines of header


def test_a_random_gpt2_is_missing_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = len(ioi_models.make_tokenizer())
    model = checkpoints.gpt2_model(words, n_layer=12, n_head=12, n_embd=48)
    with serve(model, tmp_path / "gpt2") as hub:
        point_at(hub.url, tmp_path / "cache", monkeypatch)
        assert main(["--prompts", "32"]) == MISSED
    said = capsys.readouterr().out
    assert "Missed 5 of 5" in said
    assert "does not do the task" in said


def test_without_gpt2_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackHub({}) as hub:
        url = hub.url
    point_at(url, tmp_path / "cache", monkeypatch)
    assert main([]) == OUT_OF_REACH == 3
    assert capsys.readouterr().err.startswith("GPT-2 is not in reach, so nothing was compared: ")


def test_a_model_that_cannot_be_measured_is_another_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = checkpoints.make_tokenizer()  # knows no word of the prompts
    folder = tmp_path / "gpt2"
    checkpoints.save_checkpoint(checkpoints.gpt2_model(len(tokenizer)), tokenizer, folder)
    with LoopbackHub({GPT2_SMALL: Repository(folder, commit=PINNED[GPT2_SMALL])}) as hub:
        point_at(hub.url, tmp_path / "cache", monkeypatch)
        assert main(["--prompts", "8"]) == FAILED
    assert "error: no places for the prompts" in capsys.readouterr().err


def test_only_required_heads_decide() -> None:
    table = pd.DataFrame(
        {"published": [HeadClass.NAME_MOVER, HeadClass.BACKUP_NAME_MOVER], "found": [True, False]},
        index=pd.MultiIndex.from_tuples([(9, 9), (9, 0)], names=["layer", "head"]),
    )
    assert verdict(table) == FOUND


@torch.no_grad()
def test_ranks_are_those_after_the_first_block_with_norms() -> None:
    """Against the model's own modules, each token alone and without its position."""
    tokenizer = checkpoints.make_tokenizer()
    hf = checkpoints.gpt2_model(len(tokenizer), n_layer=12, n_head=12, n_embd=48)
    hf.transformer.wpe.weight.zero_()
    blocks, W_U = hf.transformer.h, hf.lm_head.weight.T
    after_block = hf(torch.arange(len(tokenizer))[:, None], output_hidden_states=True)
    x = after_block.hidden_states[1][:, 0]
    expected = {}
    for layer, head in COPY_SUPPRESSING:
        attention, norm = blocks[layer].attn, blocks[layer].ln_1
        W_V = attention.c_attn.weight[:, 96:].unflatten(1, (12, 4))[:, head]
        W_O = attention.c_proj.weight.unflatten(0, (12, 4))[head]
        written = (norm(x) - norm.bias) @ W_V @ W_O
        centred = written - written.mean(1, keepdim=True)
        logits = centred * hf.transformer.ln_f.weight @ W_U
        expected[layer, head] = float((logits < logits.diagonal()[:, None]).sum(1).float().mean())
    table = compare_ranks(boot(hf, tokenizer))
    assert table["published"].to_dict() == COPY_SUPPRESSING
    assert table["mean_rank"].to_dict() == pytest.approx(expected, abs=0.2)
