"""The task's prompts: words, tokens, positions, seeds, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.errors import NamesError, ParameterError, PromptError
from analysis.ioi.activations import run_prompts
from analysis.ioi.performance import performance_of
from analysis.prompts.indirect_object import OBJECTS, PLACES, TEMPLATES, ioi_prompts
from tests import ioi_models

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@pytest.fixture(scope="module")
def model() -> TransformerBridge:
    return ioi_models.planted_bridge()


def test_there_are_enough_templates() -> None:
    assert len(set(TEMPLATES)) >= 15
    for template in TEMPLATES:
        assert all(template.count(slot) == 1 for slot in ("{A}", "{B}", "{S}", "{place}"))
        assert template.index("{A}") < template.index("{B}") < template.index("{S}")
        assert template.endswith("{object} to")
    assert len(set(PLACES)) == len(PLACES) >= 15
    assert len(set(OBJECTS)) == len(OBJECTS) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("prepend_bos", [False, True])
def test_positions_hold_the_names(model: TransformerBridge, prepend_bos: bool) -> None:
    prompts = ioi_prompts(model, 64, seed=3, prepend_bos=prepend_bos)
    assert set(prompts.frame["order"]) == {"ABBA", "BABA"}
    assert prompts.frame.groupby(["template", "order"]).ngroups == 2 * len(TEMPLATES)
    for i, row in prompts.frame.iterrows():
        tokens = prompts.tokens[i].tolist()
        end = row["end_position"]
        assert tokens[row["io_position"]] == row["io_token"]
        assert tokens[row["s1_position"]] == tokens[row["s2_position"]] == row["s_token"]
        io_first = row["io_position"] < row["s1_position"] < row["s2_position"] < end
        assert io_first == (row["order"] == "ABBA")
        assert model.tokenizer.decode(tokens[prepend_bos : end + 1]) == row["text"]
        assert set(tokens[end:]) == {tokens[end]}
        assert (tokens[0] == model.tokenizer.bos_token_id) == prepend_bos
        # The real tokens and the words agree.
        assert tokens[: end + 1].count(row["io_token"]) == 1
        assert tokens[: end + 1].count(row["s_token"]) == 2
        assert row["text"].count(row["s"]) == 2


def test_counterfactuals_hold_three_other_names(model: TransformerBridge) -> None:
    prompts = ioi_prompts(model, 64)
    for i, row in prompts.frame.iterrows():
        clean, other = prompts.tokens[i], prompts.counterfactual_tokens[i]
        places = [row["io_position"], row["s1_position"], row["s2_position"]]
        assert len({*other[places].tolist(), row["io_token"], row["s_token"]}) == 5
        same = torch.ones(len(clean), dtype=torch.bool)
        same[places] = False
        assert torch.equal(clean[same], other[same])
        end = row["end_position"] + 1
        assert model.tokenizer.decode(other[:end].tolist()) == row["counterfactual"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor, np.array])
def test_numbers_of_numpy_and_torch_are_numbers(model: TransformerBridge, number: Any) -> None:
    found = ioi_prompts(model, number(20), seed=number(5))
    assert found.checksum == ioi_prompts(model, 20, seed=5).checksum
    json.dumps(found.seed)


@pytest.mark.slow
def test_a_seed_gives_the_same_prompts(model: TransformerBridge) -> None:
    first, again, other = (ioi_prompts(model, 40, seed=seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first.frame, again.frame)
    assert torch.equal(first.tokens, again.tokens)
    assert first.checksum == again.checksum != other.checksum


@pytest.mark.slow
def test_a_template_has_one_length_in_real_tokens(smollm2: TransformerBridge) -> None:
    prompts = ioi_prompts(smollm2, 320, n_names=300)
    assert (prompts.frame.groupby("template")["end_position"].nunique() == 1).all()
    assert prompts.frame["template"].nunique() == len(TEMPLATES)
    assert prompts.frame["io"].nunique() > 150


@pytest.mark.parametrize("n", [0, -1, 2.5, True, None])
def test_impossible_numbers_are_refused(model: TransformerBridge, n: object) -> None:
    with pytest.raises(ParameterError, match="n must be a whole number from 1 to"):
        ioi_prompts(model, n)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="n_names must be a whole number of at least 5"):
        ioi_prompts(model, 4, n_names=n)  # type: ignore[arg-type]


def test_unusable_names_are_refused(model: TransformerBridge) -> None:
    with pytest.raises(NamesError, match="none of the 2 given is usable"):
        ioi_prompts(model, 4, names=["Xzyw", "Qqqq"])
    with pytest.raises(NamesError, match="5 different names, and only 4"):
        ioi_prompts(model, 4, names=ioi_models.NAMES[:4])


@pytest.mark.parametrize(
    "template",
    [
        "(({A} and{B} met, {S} gave a key to",  # no space: in pieces
    ],
)
def test_templates_that_do_not_tokenise_alike_are_refused(
    model: TransformerBridge, template: str
) -> None:
    with pytest.raises(PromptError, match="do not tokenise alike"):
        ioi_prompts(model, 8, templates=[template])


@pytest.mark.parametrize(
    "template",
    [
        " {A} and {B} met, and a key went to",  # no second mention
        " {A} and {B} met in {town}, and {S} gave a key to",
        " {A} and {B met, and {S} gave a key to",
        " nobody met",
        " {A} and {A} met {B}, {S} gave a key to",
        " {A} and {S} met, {B} gave a key to",
        " {A!r} and {B} met, {S} gave a key to",
    ],
)
def test_templates_without_their_slots_are_refused(model: TransformerBridge, template: str) -> None:
    with pytest.raises(PromptError, match="the template"):
        ioi_prompts(model, 8, templates=[template])


def test_a_template_given_twice_is_refused(model: TransformerBridge) -> None:
    """Its prompts would count as two clusters, and intervals would be of one sentence."""
    one, other = TEMPLATES[:2]
    with pytest.raises(ParameterError, match="must be different; given twice: 'While"):
        ioi_prompts(model, 40, templates=[one, other, one])
    assert set(ioi_prompts(model, 8, templates=[one, other]).clusters) == {0, 1}


def test_no_template_or_place_is_refused(model: TransformerBridge) -> None:
    from tests import checkpoints, planted

    with pytest.raises(ParameterError, match="templates"):
        ioi_prompts(model, 8, templates=[])
    tokenizer = checkpoints.make_tokenizer(planted.NAMES)
    bare = planted.boot(checkpoints.gpt2_model(len(tokenizer)), tokenizer)
    with pytest.raises(PromptError, match="no places for the prompts"):
        ioi_prompts(bare, 8)


@pytest.mark.slow
def test_performance_of_a_model_that_can_and_of_one_that_cannot(model: TransformerBridge) -> None:
    prompts = ioi_prompts(model, 64)
    can = performance_of(model, prompts, run_prompts(model, prompts))
    assert can.accuracy == 1
    # All right: each of the 16 templates counts for one trial, with t for 15 degrees of freedom.
    assert can.accuracy_interval[0] == pytest.approx(16 / (16 + 2.13145**2), abs=1e-4)
    assert can.logit_difference_interval[0] > 0
    assert can.solved
    assert "solves the task: of 64 prompts" in str(can)

    random = ioi_models.random_model("gpt2")
    prompts = ioi_prompts(random, 64)
    cannot = performance_of(random, prompts, run_prompts(random, prompts))
    assert not cannot.solved
    assert "solves the task" not in str(cannot)

    with torch.no_grad():
        differences, io_first = [], []
        for i, row in prompts.frame.iterrows():
            end = row["end_position"]
            logits = random(prompts.tokens[i : i + 1, : end + 1])[0, -1]
            differences.append(float(logits[row["io_token"]] - logits[row["s_token"]]))
            io_first.append(int(logits.argmax()) == row["io_token"])
    plain = pd.Series(differences)
    assert cannot.logit_difference == pytest.approx(plain.mean(), abs=1e-5)
    assert cannot.accuracy == (plain > 0).mean()
    assert cannot.io_is_argmax == sum(io_first) / 64


@pytest.mark.slow
def test_the_right_name_can_be_preferred_without_being_the_likeliest_token(
    model: TransformerBridge,
) -> None:
    first = torch.tensor([True, False, False, False])
    prompts = ioi_prompts(model, 4)
    clean = replace(run_prompts(model, prompts), io_is_argmax=first)
    performance = performance_of(model, prompts, clean)
    assert performance.accuracy == 1
    assert performance.io_is_argmax == 0.25
    assert str(performance).endswith("in 25% that name is the likeliest of all tokens.")
