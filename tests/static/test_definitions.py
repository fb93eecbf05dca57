"""Tables about the whole vocabulary follow from its answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.names import load_names
from analysis.provenance import ModelIdentity
from analysis.static.definitions import (
    agreement,
    all_definitions,
    describe_disagreements,
    example_tokens,
    names_against_rest,
    rank_differences,
    shares_by_kind,
    token_kinds,
)
from analysis.static.eigenvalues import eigenvalue_scores
from analysis.static.scores import score_heads
from analysis.static.vocabulary import VocabularyScores, score_vocabulary
from tests import checkpoints, planted

WORDS = ("John", "Mary", "Apple", "apple", "1984")
TOKENIZER = checkpoints.make_tokenizer(WORDS)
SPACED: list[Any] = [TOKENIZER.convert_tokens_to_ids(f"Ġ{word}") for word in WORDS]
LETTER: Any = TOKENIZER.convert_tokens_to_ids("x")
MARK: Any = TOKENIZER.convert_tokens_to_ids("!")


@pytest.fixture(scope="module")
def model() -> Any:
    return planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER)


def test_tokens_are_sorted_by_what_they_spell(model: Any) -> None:
    names = load_names(model, ["John", "Mary"])
    kinds = token_kinds(model, [*SPACED, LETTER, MARK], names)
    assert kinds.tolist() == [
        "name",
        "name",
        "Capitalised word",
        "lower-case word",
        "number",
        "word piece",
        "other",
    ]


def planted_answers() -> VocabularyScores:
    """Head 0.1 copies John, Apple and the letter; head 2.0 suppresses Mary."""
    tokens = np.array([*SPACED, LETTER, MARK])
    copied = np.zeros((2, len(tokens)), dtype=bool)
    copied[0, [0, 2, 5]] = True
    suppressed = np.zeros_like(copied)
    suppressed[1, 1] = True
    order = tokens.argsort()
    return VocabularyScores(
        ((0, 1), (2, 0)),
        tokens[order],
        copied[:, order],
        suppressed[:, order],
        300,
        ModelIdentity("m", "M"),
        {},
    )


def test_shares_and_examples_are_those_of_the_answers(model: Any) -> None:
    answers = planted_answers()
    kinds = token_kinds(model, answers.tokens, load_names(model, ["John", "Mary"]))
    shares = shares_by_kind(answers, kinds, [(0, 1)])
    assert shares.loc["0.1"].to_dict() == {
        "name": 0.5,
        "Capitalised word": 1.0,
        "lower-case word": 0.0,
        "word piece": 1.0,
        "number": 0.0,
        "other": 0.0,
    }
    assert shares_by_kind(answers, kinds, [(2, 0)], "suppressed").loc["2.0", "name"] == 0.5
    examples = example_tokens(model, answers, kinds, [(0, 1)])
    assert examples.loc["0.1", "tokens"] == 2
    assert set(examples.loc["0.1", "for example"].split(" '")) >= {"'x'"}


@pytest.mark.filterwarnings("error")
def test_names_are_held_against_the_rest_where_there_are_both() -> None:
    sample = planted_answers()
    answers = replace(sample, d_vocab=len(sample.tokens))
    kinds = pd.Series(["name", "name", *["other"] * (len(answers.tokens) - 2)])

    def said(kinds: pd.Series, answers: VocabularyScores = answers) -> list[str]:
        return names_against_rest(answers, kinds, (0, 1), (2, 0))

    assert said(kinds) == [
        f"Head 0.1 copies {answers.copied[0, :2].mean():.0%} of the names and "
        f"{answers.copied[0, 2:].mean():.1%} of all other tokens.",
        f"Head 2.0 suppresses {answers.suppressed[1, :2].mean():.0%} of the names and "
        f"{answers.suppressed[1, 2:].mean():.1%} of all other tokens.",
    ]
    assert said(kinds.replace("name", "other")) == [
        "Head 0.1 copies 42.9% of the tokens asked about, none of which is a name.",
        "Head 2.0 suppresses 14.3% of the tokens asked about, none of which is a name.",
    ]
    assert said(kinds.replace("other", "name")) == [
        "Head 0.1 copies 43% of the names; no other tokens were asked about.",
        "Head 2.0 suppresses 14% of the names; no other tokens were asked about.",
    ]
    # Of a sample, how many names a share is of.
    assert "% of the names in the sample (2) and " in said(kinds, sample)[0]
    assert (
        "43% of the names in the sample (7); no" in said(kinds.replace("other", "name"), sample)[0]
    )


def test_definitions_stand_side_by_side(model: Any) -> None:
    static = score_heads(model, ["John", "Mary"])
    whole = score_vocabulary(model)
    frame = all_definitions(static, whole, {"embedding": eigenvalue_scores(model)})
    assert len(frame) == 12 and not frame.isna().any().any()
    assert frame["tokens copied"].tolist() == whole.copied.mean(1).tolist()
    assert agreement(frame).loc["eigenvalue, embedding", "eigenvalue, embedding"] == 1


def test_where_two_definitions_part() -> None:
    index = pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0)], names=["layer", "head"])
    frame = pd.DataFrame(
        {"names copied": [0.9, 0.0, 0.2], "eigenvalue, mlp": [0.95, 0.99, -0.5]}, index=index
    )
    parted = rank_differences(frame, "eigenvalue, mlp")
    assert parted.index[0] == (0, 1)
    assert parted.loc[(0, 1), "apart"] == 2
    (said,) = describe_disagreements(frame)
    assert "eigenvalue, mlp: of 2 heads above 0.9, 1 copies" in said
    assert "for example 0.1 (0.99, and 0.0% of names)" in said
    assert "the head that copies half of the names or more has 0.95" in said
    (said,) = describe_disagreements(frame.drop(index=(0, 1)))
    assert "of 1 head above 0.9, none copies fewer than one name in a hundred" in said
