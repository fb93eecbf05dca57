"""Rows of padding: those beyond the last id of the tokenizer, however many tokens it has."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from analysis.static.padding import n_real_tokens
from analysis.static.scores import score_heads
from tests import checkpoints, planted

WORDS = planted.NAMES
FIRST_WORD = 1 + 256  # after END and the bytes
N_ROWS = 400
GAP = 50


def with_a_gap() -> PreTrainedTokenizerFast:
    """Every word's id is 50 higher than it would be, with nothing in between."""
    whole = json.loads(checkpoints.make_tokenizer(WORDS).backend_tokenizer.to_str())
    ids = whole["model"]["vocab"]
    whole["model"]["vocab"] = {t: i + GAP * (i >= FIRST_WORD) for t, i in ids.items()}
    end = checkpoints.END
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(whole)),
        bos_token=end,
        eos_token=end,
        pad_token=end,
    )


def of(tokenizer: Any, rows: int = N_ROWS) -> Any:
    return planted.boot(checkpoints.gpt2_model(rows), tokenizer)


def test_a_token_beyond_a_gap_is_a_token() -> None:
    model = of(with_a_gap())
    last = FIRST_WORD + GAP + len(WORDS) - 1
    assert model.tokenizer.encode(f" {WORDS[-1]}") == [last]
    assert len(model.tokenizer) == last + 1 - GAP
    assert n_real_tokens(model) == last + 1
    scores = score_heads(model, WORDS, k=2)
    assert scores.n_pairs == len(WORDS)
    assert scores.provenance["vocabulary_size"] == last + 1
    assert scores.provenance["padding_rows_left_out"] == N_ROWS - last - 1


@pytest.mark.parametrize("rows", [FIRST_WORD + len(WORDS), N_ROWS])
def test_rows_beyond_the_last_token_are_padding(rows: int) -> None:
    assert n_real_tokens(of(checkpoints.make_tokenizer(WORDS), rows)) == FIRST_WORD + len(WORDS)


def test_a_token_that_is_added_later_is_a_token() -> None:
    model = of(checkpoints.make_tokenizer(WORDS))
    before = n_real_tokens(model)
    assert model.tokenizer.add_tokens(["<new>", "<newer>"]) == 2
    assert n_real_tokens(model) == before + 2


def test_the_vocabulary_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = with_a_gap()
    model = of(tokenizer)
    expected = n_real_tokens(model)
    monkeypatch.setattr(type(tokenizer), "get_vocab", lambda _: pytest.fail("listed again"))
    assert n_real_tokens(model) == expected


def test_a_model_without_a_tokenizer_has_no_known_padding() -> None:
    model = of(checkpoints.make_tokenizer(WORDS))
    bare: Any = SimpleNamespace(cfg=model.cfg, tokenizer=None, original_model=model.original_model)
    for name in ("W_U", "adapter", "unembed"):
        if hasattr(model, name):
            setattr(bare, name, getattr(model, name))
    assert n_real_tokens(bare) == N_ROWS
