"""Few-shot tasks, and beginnings of prompts that are read once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
import torch

from analysis.errors import ArchitectureError, NamesError, PromptError
from analysis.names import token_pairs
from analysis.prompts.few_shot import control_tasks, few_shot, name_copying
from analysis.prompts.prefix_cache import build_prefix_cache
from tests import checkpoints, planted
from tests.planted import MAKERS
from tests.word_lists import MADE_UP_NAMES as NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WORDS = tuple(f"{a}{b}ord" for a in "bcdfgh" for b in ("lo", "ma", "ni", "pe", "ru", "sti", "to"))
TOKENIZER = checkpoints.make_tokenizer((*NAMES, *WORDS))


@functools.cache
def random_model(kind: str) -> TransformerBridge:
    return planted.boot(MAKERS[kind](len(TOKENIZER)), TOKENIZER)


@pytest.mark.parametrize("kind", MAKERS)
def test_prompts_of_a_task_are_as_the_model_would_be_given(kind: str) -> None:
    model = random_model(kind)
    for task in (name_copying(model, NAMES), *control_tasks(model)):
        for tokens, answer, (source, target) in zip(
            task.tokens, task.answers, task.pairs, strict=True
        ):
            ids = [token for token in [*tokens.tolist(), int(answer[-1])] if token]  # no BOS
            whole = model.tokenizer.decode(ids)
            assert whole.endswith(f"; {source}-> {target}")
            assert tokens.tolist() == model.to_tokens(whole)[0, :-1].tolist()
            assert target.endswith(model.tokenizer.decode(answer).strip())


def test_years_share_their_first_digits_with_the_prompt() -> None:
    task = next(t for t in control_tasks(random_model("gpt2")) if t.name == "next year")
    assert task.answers.shape[1] == 1  # of years in the same decade, the last digit
    asked = task.tokens_asked
    assert all(int(t) == int(s) + 1 for s, t in zip(asked.sources, asked.targets, strict=True))


def test_sources_are_asked_about_as_they_stand_in_the_prompt() -> None:
    tokenizer = checkpoints.sentencepiece_like(["John", "Donna", *NAMES, *WORDS])
    assert tokenizer.tokenize(" John") == ["▁", "▁John"]
    model = planted.boot(checkpoints.llama_model(len(tokenizer)), tokenizer)
    names = name_copying(model, NAMES)
    words, years = control_tasks(model)
    start = ["▁John", "-", ">", "▁John", ";", "▁Donna", "-", ">", "▁Donna", ";"]
    for row, name in zip(names.tokens.tolist(), NAMES, strict=True):
        assert tokenizer.convert_ids_to_tokens(row) == ["<s>", *start, f"▁{name}", "-", ">"]
    assert names.tokens_asked.copying and words.tokens_asked.copying
    assert {f" {source}" for source, _ in words.pairs} == set(words.tokens_asked.sources)
    digits = years.tokens_asked
    assert all(int(t) == int(s) + 1 for s, t in zip(digits.sources, digits.targets, strict=True))
    assert years.answers.shape[1] == 1


def test_the_same_seed_draws_the_same_and_prompts_are_not_the_shots() -> None:
    model = random_model("llama")
    task = name_copying(model, NAMES)
    assert task.draw(30, 1).pairs == task.draw(30, 1).pairs != task.draw(30, 2).pairs
    shots = ((NAMES[0], NAMES[0]), (NAMES[1], NAMES[1]))
    task = few_shot(model, "t", [(name, name) for name in NAMES], shots)
    assert {name for name, _ in task.pairs} == set(NAMES[2:])


def test_a_task_may_fill_the_context_and_no_more() -> None:
    """The last token of an answer is predicted and not read."""
    length = name_copying(random_model("gpt2"), NAMES).tokens.shape[1]
    full, short = (
        planted.boot(checkpoints.gpt2_model(len(TOKENIZER), n_positions=n), TOKENIZER)
        for n in (length, length - 1)
    )
    tokens = name_copying(full, NAMES).tokens
    assert full(tokens[:2]).isfinite().all()
    with pytest.raises(PromptError, match=f"the prompt has {length} tokens, .* {length - 1}:"):
        name_copying(short, NAMES)


def test_pairs_of_another_relation_are_no_names_to_be_copied() -> None:
    model = random_model("gpt2")
    given = list(zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True))
    for pairs in (given, token_pairs(model, given)):
        with pytest.raises(NamesError, match=r"of another relation \(.*\): give names"):
            name_copying(model, pairs)  # type: ignore[arg-type]
    same = [(name, name) for name in NAMES]
    assert name_copying(model, same).pairs == name_copying(model, NAMES).pairs  # type: ignore[arg-type]


# ---- beginnings


def test_what_prompts_begin_with_is_kept_once() -> None:
    model = random_model("gpt2")
    tokens = name_copying(model, NAMES).tokens[:, :-1]
    alike = int((tokens == tokens[0]).all(0).long().cumprod(0).sum())
    assert 0 < alike < tokens.shape[1]
    prefix = build_prefix_cache(model, tokens)
    assert prefix is not None
    common, own = (part[0][0] for part in prefix.parts)
    assert common.shape[0] == 1 and common.shape[2] == alike
    assert own.shape[0] == len(tokens) and own.shape[2] == tokens.shape[1] - alike
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (common, own)}
    assert sum(held.values()) == common.nbytes + own.nbytes, "and nothing beside it"


def test_prompts_longer_than_a_sliding_window_are_refused() -> None:
    model = random_model("gpt2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.original_model.config, "sliding_window", 2, raising=False)
        with pytest.raises(ArchitectureError, match="last 2 tokens"):
            build_prefix_cache(model, torch.tensor([[0, 1, 2]]))
