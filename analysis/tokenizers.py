"""The tokens of a text, the text of single tokens, and telling tokenizers apart."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PROBES = (
    "When Mary and John went to the store, John gave a drink to Mary.",
    " Mary",
    "Mary",
    " mary MARY  MaryAnn",
    "two  spaces,   three\tand a tab\nand a line\n\n",
    "It's 1984; they've 3.14, 007 and 100,000 — 50% off!",
    "Zoë, Åsa, Łukasz, Nguyễn, Ştefan",
    "日本語の名前、한국어 이름, Иван, محمد, दीपक",
    "🙂👩‍👩‍👧 ﬁ ½ e\u0301",
    "def f(x):\n    return {'a': [x**2, None]}  # code",
    "antidisestablishmentarianism internationalisation xqzjv",
)
"""Texts in which tokenizers differ: spaces, case, digits, accents, scripts, normal forms."""

_ANCHOR = "the"
"""A word that others stand after."""
_TURN = threading.RLock()
"""A call sets a tokenizer's padding and truncation for whoever calls next: calls take turns."""


def encode(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, with nothing put before or after them."""
    return encode_all(tokenizer, [text])[0]


def encode_all(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of every text, with nothing put before or after them."""
    with _TURN:
        return list(map(list, tokenizer(list(texts), add_special_tokens=False)["input_ids"]))


def encode_inside(tokenizer: Any, texts: Sequence[str]) -> list[list[int] | None]:
    """The tokens of every text after a word; None where it is not cut from that word.

    At a text's beginning a SentencePiece tokenizer puts a space of its own, and " Mary" would be
    two tokens.
    """
    anchor, *wholes = encode_all(tokenizer, [_ANCHOR, *(f"{_ANCHOR}{text}" for text in texts)])
    n = len(anchor)
    return [whole[n:] if whole[:n] == anchor else None for whole in wholes]


def token_offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Where each token of a text starts and ends in it, in characters."""
    with _TURN:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["offset_mapping"])


def encode_whole(model: TransformerBridge, text: str, prepend_bos: bool | None = None) -> list[int]:
    """The tokens of a text of any length, and what ``model.to_tokens`` puts before it."""
    with _TURN:
        tokens = model.to_tokens(text, prepend_bos=prepend_bos, truncate=False)
    return list(map(int, tokens[0]))


def token_texts(tokenizer: Any, tokens: Iterable[int]) -> list[str]:
    """The text of each token as it stands inside a text, every space as it is.

    Some tokenizers, such as Llama 2's, drop the space that a whole text begins with. So each token
    is decoded after the last one of a word, whose text is cut off again.
    """
    ids = [int(token) for token in tokens]
    anchor = encode(tokenizer, _ANCHOR)[-1:]
    (before,) = _decoded(tokenizer, [anchor])
    texts = _decoded(tokenizer, [[*anchor, token] for token in ids])
    return [
        text.removeprefix(before)
        if text.startswith(before)
        else _decoded(tokenizer, [[token]])[0]  # half a character joins what stands before it
        for token, text in zip(ids, texts, strict=True)
    ]


def _decoded(tokenizer: Any, texts: list[list[int]]) -> list[str]:
    if not texts:  # of which tokenizers make one empty text
        return []
    return list(tokenizer.batch_decode(texts, clean_up_tokenization_spaces=False))


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of what a tokenizer makes of texts: its vocabulary, and the ids of some texts.

    Two tokenizers with one fingerprint give every word the same ids. What only a call sets
    (padding, truncation, a BOS token) is not part of it.
    """
    digest = hashlib.sha256()
    for token, i in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]):
        digest.update(f"{i}\t{token}\n".encode("utf-8", "surrogatepass"))
    for text in PROBES:
        digest.update(f"{encode(tokenizer, text)}\n".encode())
    return digest.hexdigest()
