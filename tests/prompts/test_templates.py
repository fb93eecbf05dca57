"""Templates filled with names: tokens, the name's position, and what cannot be filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from analysis.errors import NamesError, PromptError
from analysis.names import token_pairs
from analysis.prompts.templates import (
    MIN_NAMES,
    SLOT,
    TEMPLATES,
    enough_names,
    fill_template,
    leading_tokens,
)
from tests import checkpoints, planted
from tests.planted import MAKERS, NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOKENIZER = checkpoints.make_tokenizer(NAMES)
BRIDGES = {kind: planted.boot(make(len(TOKENIZER)), TOKENIZER) for kind, make in MAKERS.items()}


@pytest.fixture(params=MAKERS)
def bridge(request: pytest.FixtureRequest) -> TransformerBridge:
    return BRIDGES[request.param]


@pytest.mark.parametrize("template", [*TEMPLATES, " <X>", "a <X>"])
def test_prompts_are_what_the_model_itself_would_be_given(
    bridge: TransformerBridge, template: str
) -> None:
    names = token_pairs(bridge, NAMES)
    prompts = fill_template(bridge, template, names)
    texts = [template.replace(SLOT, name) for name in NAMES]
    assert prompts.tokens.tolist() == [bridge.to_tokens(text)[0].tolist() for text in texts]
    assert prompts.tokens[:, prompts.position].tolist() == list(names.source_tokens)


def test_bos_comes_first_where_transformer_lens_puts_it_and_nowhere_else() -> None:
    """As booted: on GPT-2 and Llama; GPT-NeoX was trained without."""
    first = {}
    for kind, model in BRIDGES.items():
        prompts = fill_template(model, TEMPLATES[0], token_pairs(model, NAMES))
        first[kind] = int(prompts.tokens[0, 0]) == TOKENIZER.bos_token_id
        assert prompts.position == len("No") + first[kind]  # one token for each byte
    assert first == {"gpt2": True, "gpt-neox": False, "llama": True}


words = st.text("abc ,.", max_size=8)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(MAKERS)), words, words)
def test_whatever_stands_around_the_name_is_its_own_token(
    kind: str, before: str, after: str
) -> None:
    model, template = BRIDGES[kind], f"{before.rstrip()} {SLOT}"
    template += f" {after.strip()}" if after.strip() else ""
    prompts = fill_template(model, template, token_pairs(model, NAMES))
    for name, row in zip(NAMES, prompts.tokens, strict=True):
        assert model.tokenizer.decode(row[prompts.position :]).startswith(f" {name}")
    others = torch.cat(
        [prompts.tokens[:, : prompts.position], prompts.tokens[:, prompts.position + 1 :]], dim=1
    )
    assert (others == others[0]).all()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("No name here", "has no slot"),
        ("", "has no slot"),
        ("<X> and <X>", "has 2 slots"),
        ("No <X> <X>", "has 2 slots"),
        ("<X> means no", "must follow a space"),
        ("No(<X>)", "must follow a space"),
        ("No <X>s mean", "'John' becomes 4 tokens inside"),
        (None, "must be text"),
        (7, "must be text"),
    ],
)
def test_a_template_that_cannot_be_filled_is_an_error(template: Any, message: str) -> None:
    model = BRIDGES["gpt2"]
    with pytest.raises(PromptError, match=message) as error:
        fill_template(model, template, token_pairs(model, NAMES))
    assert "\n" not in str(error.value)


def test_a_slot_in_one_token_with_its_neighbour_is_an_error() -> None:
    tokenizer = checkpoints.make_tokenizer((*NAMES, "Johns"))
    model = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    names = token_pairs(model, ["John"])
    with pytest.raises(PromptError, match=r"tokenised together with its neighbour.*Johns"):
        fill_template(model, "No <X>s mean", names)


def test_names_of_another_tokenizer_are_an_error() -> None:
    """Their tokens are others here, so no prompt would hold the token that is asked about."""
    names = token_pairs(BRIDGES["gpt2"], NAMES)
    tokenizer = checkpoints.make_tokenizer(NAMES[8:])
    other = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    with pytest.raises(PromptError, match="'John' becomes"):
        fill_template(other, TEMPLATES[0], names)


@pytest.mark.parametrize(
    ("kind", "prepend_bos", "longest"),
    [("gpt2", None, 63), ("gpt2", True, 63), ("gpt2", False, 64), ("gpt-neox", None, 64)],
)
def test_a_prompt_may_fill_the_context_with_its_bos_and_no_more(
    kind: str, prepend_bos: bool | None, longest: int
) -> None:
    """64 positions, one of which a BOS takes; the prompts are names of one token each."""
    model = BRIDGES[kind]
    assert model.cfg.n_ctx == 64
    for n in (longest, longest + 1, longest + 2):
        text = "".join(f" {NAMES[i % len(NAMES)]}" for i in range(n))
        assert len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == n
        if n == longest:
            assert len(leading_tokens(model, text, prepend_bos)) == 64 - longest
            continue
        with pytest.raises(PromptError, match=r"the prompt has 6[4-6] tokens, .* reads at most 64"):
            leading_tokens(model, text, prepend_bos)


def test_fewer_than_thirty_names_are_an_error(bridge: TransformerBridge) -> None:
    with pytest.raises(NamesError, match=f"at least {MIN_NAMES} names .* 16 of 16 names"):
        enough_names(bridge, NAMES)


@pytest.mark.parametrize("prepend_bos", [None, True, False])
@pytest.mark.parametrize("kind", sorted(BRIDGES))
def test_what_comes_first_is_what_is_asked_for(kind: str, prepend_bos: bool | None) -> None:
    model = BRIDGES[kind]
    names = token_pairs(model, NAMES)
    by_default = fill_template(model, TEMPLATES[0], names)
    usual = model.to_tokens("No")[0].tolist()
    own = model.tokenizer("No", add_special_tokens=False)["input_ids"]
    assert by_default.n_leading == len(usual) - len(own)
    if prepend_bos:
        lead = model.to_tokens("No", prepend_bos=True)[0, 0]
        assert lead == model.tokenizer.bos_token_id
    filled = fill_template(model, TEMPLATES[0], names, prepend_bos)
    expected = {None: by_default.n_leading, True: 1, False: 0}[prepend_bos]
    assert filled.n_leading == expected
    bare = by_default.tokens[:, by_default.n_leading :]
    assert torch.equal(filled.tokens[:, expected:], bare)
    asked = filled.tokens[:, filled.position]
    assert asked.tolist() == list(names.source_tokens)
