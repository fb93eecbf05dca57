"""The tables and the sentence of the first notebook, for any prompt and names."""

from __future__ import annotations

import re

import pytest
import torch

from analysis.errors import NamesError, ParameterError, PromptError
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
    with pytest.raises(PromptError, match="prompt must be text"):
        next_tokens(model, ["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="n must be"):
        next_tokens(model, "a b", n=10**6)


def test_a_prompt_is_read_whole_or_refused() -> None:
    tokenizer = checkpoints.make_tokenizer(["Mary", "John"])
    model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    longest = " Mary" * 63  # and BOS: the context of 64
    assert "prefers" in answer(model, longest, "Mary", "John")
    for prompt, said in (
        (longest + " John", "has 65 tokens, and in-memory reads at most 64"),
        ("a \ud800", "half a character"),
        ("", "must be text"),
    ):
        with pytest.raises(PromptError, match=said):
            next_tokens(model, prompt)
        with pytest.raises(PromptError, match=said):
            answer(model, prompt, "Mary", "John")


def test_one_token_under_two_spellings_is_no_choice() -> None:
    tokenizer = checkpoints.make_tokenizer(["Mary", "John"])
    model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    with pytest.raises(ParameterError, match="two different names are needed"):
        answer(model, "a b", "Mary", " Mary")
    assert answer(model, "a b", " Mary", "John") == answer(model, "a b", "Mary", "John")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (0.0, "does not prefer either of **Mary** and **John**"),
        (1e-13, "does not prefer either of **Mary** and **John**"),
        (0.003, "prefers **Mary** to John: the logit of Mary is 0.003 above that of John."),
        (-2e-6, "prefers **John** to Mary: the logit of Mary is 2e-06 below that of John."),
        (1.26, "prefers **Mary** to John: the logit of Mary is 1.3 above that of John."),
    ],
)
def test_a_preference_is_as_large_as_it_is_said(
    more: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = checkpoints.make_tokenizer(["Mary", "John"])
    model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    mary, john = map(int, planted.name_tokens(tokenizer, ["Mary", "John"]))
    logits = torch.zeros(len(tokenizer), dtype=torch.float64)
    logits[john] = 1.0
    logits[mary] = 1.0 + more
    monkeypatch.setattr("analysis.report.model._logits", lambda *_: logits)
    assert said in answer(model, "a b", "Mary", "John")
    if more == 0:
        assert "does not prefer either" in answer(model, "a b", "John", "Mary")
