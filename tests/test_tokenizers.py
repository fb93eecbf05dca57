"""The text of a token is what it adds to a text, whatever tokenizer it is of."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from analysis.tokenizers import encode_all, encode_whole, token_texts
from tests import checkpoints, planted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁James", "James", "▁", "▁▁", "ing", "->", "<s>", "<0x41>", "<0x20>", "<0xC3>"]
TEXTS = [" James", "James", " ", "  ", "ing", "->", "<s>", "A", " ", "\ufffd"]


def llama_2_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """Pieces with ``▁`` for a space and single bytes; decoding drops a text's first space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = dict.fromkeys(["<unk>", "<s>", *BYTES, *PIECES, *words])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model = models.BPE(
        vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True, ignore_merges=True
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


@pytest.mark.parametrize("words", [["▁the"], ["▁", "t", "h", "e"], []])
def test_a_space_before_a_word_is_part_of_its_token(words: list[str]) -> None:
    tokenizer = llama_2_tokenizer(words)
    ids = [tokenizer.get_vocab()[piece] for piece in PIECES]
    assert tokenizer.decode(ids[:1]) == "James"
    assert token_texts(tokenizer, ids) == TEXTS


def test_tokens_of_bytes_are_those_of_their_decoder() -> None:
    tokenizer = checkpoints.make_tokenizer(["the", "James", "Zoë", "日本"])
    every = range(len(tokenizer))
    assert token_texts(tokenizer, every) == [tokenizer.decode([token]) for token in every]


def test_no_tokens_have_no_texts() -> None:
    for tokenizer in (checkpoints.make_tokenizer(), llama_2_tokenizer([])):
        assert token_texts(tokenizer, []) == []


def test_texts_encoded_in_several_threads_are_not_padded_by_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = checkpoints.make_tokenizer(["the", "James"])
    model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    texts = ["the", "the James the James"]
    alone, whole = encode_all(tokenizer, texts), encode_whole(model, texts[1])
    assert len(alone[0]) < len(alone[1])
    wholes, every = [], []
    set_padding = model.tokenizer.set_truncation_and_padding

    def set_slowly(**settings: Any) -> None:
        set_padding(**settings)
        time.sleep(0.001)  # another thread's turn

    monkeypatch.setattr(model.tokenizer, "set_truncation_and_padding", set_slowly)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            wholes.append(pool.submit(encode_whole, model, texts[1]))
            every.append(pool.submit(encode_all, model.tokenizer, texts))
    assert all(one.result() == whole for one in wholes)
    assert all(one.result() == alone for one in every)
