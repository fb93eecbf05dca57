"""The tables and the sentence of the first notebook, for any prompt and names."""

from __future__ import annotations

import re

import pytest

from analysis.errors import NamesError, ParameterError
from analysis.report.model import answer, next_tokens
from tests import checkpoints, planted


def test_only_two_names_of_one_token_can_be_answered() -> None:
    tokenizer = checkpoints.make_tokenizer(["Mary", "John"])
    model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    said = answer(model, "a b", "Mary", "John")
    assert re.search(r"prefers \*\*(Mary|John)\*\* to (Mary|John)", said)
    assert next_tokens(model, "a b")["token"].str.match("^['\"].*['\"]$").all()
    with pytest.raises(NamesError):
        answer(model, "a b", "Bartholomew", "John")
    with pytest.raises(ParameterError, match="different"):
        answer(model, "a b", "Mary", "Mary")
    with pytest.raises(ParameterError, match="prompt must be text"):
        next_tokens(model, ["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="n must be"):
        next_tokens(model, "a b", n=10**6)
