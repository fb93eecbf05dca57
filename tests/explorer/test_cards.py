"""Every number of a card is what the functions of ``analysis`` return for that head."""

from __future__ import annotations

import html
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from analysis import eigenvalue_scores, score_heads, score_vocabulary
from analysis.dynamic.null_heads import compare_with_nulls
from analysis.dynamic.one_prompt import attention_on
from analysis.embeddings import source_vectors
from analysis.errors import AnalysisError, NamesError, ParameterError, PromptError
from analysis.explorer.cards import HeadCard, card_of, head_card
from analysis.explorer.measuring import MEASUREMENTS, measure
from analysis.explorer.on_prompt import heads_on_prompt
from analysis.explorer.queries import AskedHead, extreme_tokens
from analysis.explorer.results import named_pairs
from analysis.explorer.widget import Explorer
from analysis.heads import check_heads
from analysis.weights import ov_weights, unembedding_matrix
from tests import checkpoints
from tests.explorer.conftest import RELATIONS
from tests.explorer.test_payload import brute_force
from tests.made_up import MODEL
from tests.planted import COPYING, MAKERS, NAMES, SUPPRESSING, boot, ov_matrices, planted_model

if TYPE_CHECKING:
    from pathlib import Path

    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results

HOSTILE = "</script><img src=x onerror='window.ran=1'>"
TEN_HEADS = [(layer, head) for layer in range(3) for head in range(4)][:10]


def all_logits(model: TransformerBridge, layer: int, head: int, tokens: list[int]) -> torch.Tensor:
    W_V, W_O = ov_weights(model, layer, head)
    x = source_vectors(model, torch.tensor(tokens), layer=layer)
    return x @ W_V @ W_O @ unembedding_matrix(model).double()


def card_of_head(model: TransformerBridge) -> HeadCard:
    return head_card(model, (1, 1), list(NAMES))


@pytest.mark.slow
def test_the_card_of_ten_heads_says_what_the_functions_say(
    planted: TransformerBridge, results: Results
) -> None:
    scores = score_heads(planted, list(NAMES))
    static = scores.to_frame(intervals=True)
    eigenvalue = eigenvalue_scores(planted)["eigenvalue_score"]
    shares = score_vocabulary(planted, n_tokens=planted.cfg.d_vocab).to_frame()
    null = compare_with_nulls(planted, scores).frame
    for head in TEN_HEADS:
        table = card_of(planted, head, results).table
        for column in ("copying_score", "suppression_score"):
            for part, end in (("value", ""), ("low", "_low"), ("high", "_high")):
                assert table.loc[column, part] == static.loc[head, column + end]
            assert table.loc[f"{column}_q", "value"] == null.loc[head, f"{column}_q"]
        assert table.loc["eigenvalue_score", "value"] == eigenvalue[head]
        assert table.loc["vocabulary_copied", "value"] == shares.loc[head, "copied"]
        assert table.loc["vocabulary_suppressed", "value"] == shares.loc[head, "suppressed"]


@pytest.mark.slow
@pytest.mark.parametrize("head", TEN_HEADS)
def test_names_have_their_exact_ranks(
    planted: TransformerBridge, results: Results, head: tuple[int, int]
) -> None:
    frame = card_of(planted, head, results).names
    larger, smaller = brute_force(
        planted, *head, results.scores.pairs.source_tokens, first_mlp=True
    )
    for place, source in enumerate(results.scores.pairs.sources):
        for column, rank in (("rank_top", larger[place]), ("rank_bottom", smaller[place])):
            assert frame[column].fillna(100)[source] == min(rank, 100)
        assert frame.loc[source, "in_top_k"] == (larger[place] < 1)
    assert frame["rank_top"].fillna(100).is_monotonic_increasing


def test_a_planted_head_copies_every_name_and_its_twin_suppresses_them(
    planted: TransformerBridge,
) -> None:
    copier = head_card(planted, COPYING[1], list(NAMES))
    assert set(copier.copied.index) == set(NAMES)
    assert not len(copier.nearly_copied) and not len(copier.missed)
    suppressor = head_card(planted, SUPPRESSING[1], list(NAMES))
    assert set(suppressor.suppressed.index) == set(NAMES)
    assert f"copies {len(NAMES)} of {len(NAMES)} names" in str(copier)
    assert "not measured: " in str(copier)
    assert "&lt;" not in str(copier) and "<table" in copier._repr_html_()


def test_copied_nearly_and_missed_are_all_names(planted: TransformerBridge) -> None:
    card = head_card(planted, (2, 0), list(NAMES), k=3)
    parts = [set(part.index) for part in (card.copied, card.nearly_copied, card.missed)]
    assert sum(map(len, parts)) == len(NAMES) == len(set.union(*parts))


@pytest.mark.slow
def test_nothing_comes_before_a_name_where_the_head_writes_nothing() -> None:
    tokenizer = checkpoints.make_tokenizer(NAMES)
    hf = MAKERS["gpt2"](len(tokenizer))
    with torch.no_grad():
        ov_matrices(hf, 1)[2][1].zero_()
    model = boot(hf, tokenizer)
    other = head_card(model, (1, 3), list(NAMES))
    assert not other.names["writes_nothing"].any() and "writes nothing" not in str(other)
    assert all(other.names["before_top"])
    card = head_card(model, (1, 2), list(NAMES))
    assert card.names["writes_nothing"].all() and len(card.without_output) == len(NAMES)
    assert set(card.names["before_top"]) | set(card.names["before_bottom"]) == {""}
    assert not len(card.missed)
    assert f"writes nothing for {len(NAMES)} of {len(NAMES)} names: {NAMES[0]}, " in str(card)


@pytest.mark.slow
def test_the_tokens_before_a_name_are_those_with_larger_logits(
    planted: TransformerBridge, results: Results
) -> None:
    for head in TEN_HEADS[4:7]:
        card = card_of(planted, head, results)
        for source, before in card.names["before_top"].items():
            place = results.scores.pairs.place(str(source))
            token = results.scores.pairs.source_tokens[place]
            logits = all_logits(planted, *head, [token])[0]
            larger = (logits > logits[token]).nonzero()[:, 0]
            order = larger[logits[larger].argsort(descending=True)][:5]
            texts = [planted.tokenizer.decode([token]) for token in order.tolist()]
            assert before == ", ".join(map(repr, texts))


def test_extremes_do_not_depend_on_the_block(
    planted: TransformerBridge, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = results.scores.pairs
    whole = extreme_tokens(planted, (1, 2), pairs, 7)
    logits = all_logits(planted, 1, 2, list(pairs.source_tokens))
    np.testing.assert_array_equal(whole.top, logits.argsort(1, descending=True)[:, :7].numpy())
    np.testing.assert_array_equal(whole.bottom, logits.argsort(1)[:, :7].numpy())
    monkeypatch.setattr("analysis.explorer.queries.BLOCK", 5)
    in_parts = extreme_tokens(planted, (1, 2), pairs, 7)
    np.testing.assert_array_equal(whole.top, in_parts.top)


def test_what_is_written_for_a_token(planted: TransformerBridge) -> None:
    found = AskedHead(planted, (1, 1), first_mlp=True).writes_for("Mary", n=4)
    token = planted.tokenizer.encode(" Mary")[0]
    logits = all_logits(planted, 1, 1, [token])[0]
    np.testing.assert_allclose(found.most["logit"], logits.topk(4).values)
    np.testing.assert_allclose(found.least["logit"], logits.topk(4, largest=False).values)
    assert found.most["token"][0] == " Mary" == found.token
    assert (found.larger, found.smaller) == (0, len(logits) - 1)


def test_for_which_tokens_one_is_written(planted: TransformerBridge) -> None:
    token = planted.tokenizer.encode(" Mary")[0]
    every = list(range(planted.W_U.shape[1]))
    logits = all_logits(planted, 1, 1, every)[:, token]
    most, least = AskedHead(planted, (1, 1), first_mlp=True).written_from("Mary", n=3)
    np.testing.assert_allclose(most["logit"], logits.topk(3).values)
    np.testing.assert_allclose(least["logit"], logits.topk(3, largest=False).values)


def test_the_tokens_a_head_changes_most(planted: TransformerBridge) -> None:
    W_V, W_O = ov_weights(planted, 1, 1)
    x = source_vectors(planted, torch.arange(planted.W_U.shape[1]), layer=1)
    ratios = (x @ W_V @ W_O).norm(dim=1) / x.norm(dim=1)
    frame = card_of_head(planted).changes_most(4)
    np.testing.assert_allclose(frame["amplification"], ratios.topk(4).values)
    first = int(ratios.argmax())
    logits = all_logits(planted, 1, 1, [first])[0]
    expected = planted.tokenizer.batch_decode([[t] for t in logits.topk(5).indices.tolist()])
    assert frame["writes"][0] == expected


def test_attention_on_a_prompt_is_the_models(planted: TransformerBridge) -> None:
    found = heads_on_prompt(planted, "John Mary John", heads=[(1, 3)])[1, 3]
    np.testing.assert_allclose(found.attention.sum(1), 1, rtol=1e-5)
    assert np.triu(found.attention, 1).max() == 0
    assert len(found.tokens) == len(found.attention)
    assert found.tokens[-1] == " John"


@pytest.mark.parametrize("kind", ["gpt-neox", "llama"])
def test_a_prompt_begins_with_what_the_model_puts_there(kind: str) -> None:
    # Both tokenizers have a BOS token; GPT-NeoX begins without it.
    model = planted_model(kind)
    prompt = "John Mary John"
    expected = attention_on(model, (1, 3), prompt)
    found = heads_on_prompt(model, prompt)[1, 3]
    assert found.tokens[0] == ("J" if kind == "gpt-neox" else model.tokenizer.bos_token)
    assert list(map(repr, found.tokens)) == list(expected.columns.get_level_values("token"))
    np.testing.assert_allclose(found.attention, expected.fillna(0), atol=6e-4)


def test_what_a_head_writes_on_a_prompt_of_one_token_is_its_value(
    planted: TransformerBridge,
) -> None:
    # Alone at the first position a head attends to itself: attention 1.
    found = heads_on_prompt(planted, planted.tokenizer.bos_token)[0, 1]
    assert found.attention.tolist() == [[1.0]]


@pytest.mark.slow
def test_relations_stand_on_the_card_strongest_first(
    planted: TransformerBridge, related: Results
) -> None:
    card = card_of(planted, (2, 0), related)
    for label, pairs in RELATIONS.items():
        frame = score_heads(planted, pairs).to_frame(intervals=True).loc[(2, 0)]
        assert card.relations.loc[label, frame.index].to_dict() == frame.to_dict()
    strength = card.relations[["relation_score", "suppression_score"]].max(axis=1)
    assert strength.is_monotonic_decreasing and len(strength) == len(RELATIONS)
    assert "strongest relations: " in str(card) and "Strongest relations" not in str(card)
    without = head_card(planted, (2, 0), list(NAMES))
    assert not len(without.relations)
    assert "Strongest relations (head_card(model, (2, 0), relations=" in str(without)


def test_the_card_of_a_relation_speaks_of_pairs(planted: TransformerBridge) -> None:
    pairs = list(itertools.pairwise(NAMES))
    card = head_card(planted, (1, 1), pairs, k=3)
    n = len(card.copied)
    assert f"\nanswers {n} of 15 pairs" in str(card) and "\nnearly answers " in str(card)
    assert card.table.loc["relation_score", "of"] == f"{n} of 15 pairs, k = 3"
    assert "copies" not in str(card) and "names" not in str(card).split("not measured")[0]


@pytest.mark.slow
def test_what_the_card_offers_fills_it(
    planted: TransformerBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = head_card(planted, (1, 1), list(NAMES), k=2)
    some = {what: MEASUREMENTS[what] for what in ("vocabulary", "eigenvalue", "dynamic")}
    monkeypatch.setattr("analysis.explorer.measuring.MEASUREMENTS", some)
    (offered,) = [line for line in str(card).splitlines() if line.startswith("to measure")]
    *before, call = offered.partition(": ")[2].split("; ")
    scope = {"model": planted, "card": card}
    exec("\n".join(before), scope)
    filled = eval(call, scope)
    assert filled.evidence.done == ("vocabulary", "eigenvalue")  # 16 names: none are dynamic
    assert filled.scores is card.scores and filled.head == card.head
    assert not set(card.evidence.done) and "eigenvalue_score" in filled.table.index
    done = replace(card.evidence, done=("null", "vocabulary", "eigenvalue", "causal"))
    full = card_of(planted, (1, 1), card.results.with_evidence(done))
    assert "to measure" not in str(full) and "(of 30 names or more)" in str(full)


def test_relations_of_one_label_are_all_on_the_card(
    planted: TransformerBridge, related: Results
) -> None:
    sets = [replace(one, label="same") for one in related.sets]
    frame = card_of(planted, (2, 0), replace(related, sets=tuple(sets))).relations
    assert list(frame.index) == ["same", "same"]
    expected = card_of(planted, (2, 0), related).relations
    np.testing.assert_array_equal(frame.to_numpy(), expected.to_numpy())
    with pytest.raises(ParameterError, match="two relations are called '1'"):
        pairs = [("Mary", "John")]
        named_pairs(planted, {1: pairs, "1": pairs})  # type: ignore[dict-item]


def test_relations_come_from_files_too(planted: TransformerBridge, tmp_path: Path) -> None:
    path = tmp_path / "next.csv"
    path.write_text("source,note,target\nMary,x,John\nJohn,y,Anna\n")
    pairs = named_pairs(planted, {"next": path})["next"]
    assert list(pairs) == [("Mary", "John"), ("John", "Anna")]
    path.write_text("source,goal\nMary,John\n")
    for kind, wrong in (
        (NamesError, {"next": path}),
        (ParameterError, {"same": [("Mary", "Mary")]}),
        (ParameterError, [("Mary", "John")]),
    ):
        with pytest.raises(kind):
            named_pairs(planted, wrong)  # type: ignore[arg-type]


def test_a_relation_without_a_usable_pair_is_named(planted: TransformerBridge) -> None:
    two = {"next": [("Mary", "John")], "far": [("Mary", "no token")]}
    with pytest.raises(NamesError, match="the relation 'far': none of the 1 given is usable"):
        named_pairs(planted, two)


def test_a_card_shows_hostile_text_as_text(planted: TransformerBridge, related: Results) -> None:
    one = related.sets[0]
    pairs = replace(one.scores.pairs, sources=(HOSTILE, *NAMES[1:]), targets=(HOSTILE, *NAMES[1:]))
    scores = replace(one.scores, pairs=pairs, model=replace(one.scores.model, title=HOSTILE))
    hostile = replace(related, sets=(replace(one, scores=scores), *related.sets[1:]))
    text = card_of(planted, COPYING[1], hostile)._repr_html_()
    assert HOSTILE not in text and text.count(html.escape(HOSTILE)) == 2


def test_what_cannot_be_asked_is_refused_in_a_sentence(planted: TransformerBridge) -> None:
    asked: list[tuple[type[AnalysisError], object]] = [
        (ParameterError, lambda: head_card(planted, (9, 9), list(NAMES))),
        (ParameterError, lambda: head_card(planted, (1, 1), list(NAMES), k=101)),
        (NamesError, lambda: AskedHead(planted, (1, 1), True).writes_for("two words")),
        (PromptError, lambda: heads_on_prompt(planted, "  ")),
        (PromptError, lambda: heads_on_prompt(planted, "Mary " * 300)),
    ]
    for kind, call in asked:
        with pytest.raises(kind):
            call()  # type: ignore[operator]


def test_a_word_of_several_tokens_is_told_what_it_is(planted: TransformerBridge) -> None:
    asked = AskedHead(planted, (1, 1), first_mlp=True)
    parts = planted.tokenizer.tokenize(" mary")
    for ask in (asked.writes_for, asked.written_from):
        with pytest.raises(NamesError) as error:
            ask("mary ")
        said = str(error.value)
        assert said.startswith(f"'mary' is {len(parts)} tokens with a leading space (' ")
        assert said.endswith("give another word, or in Python a token id.")
        with pytest.raises(NamesError, match="empty"):
            ask(" ")
        with pytest.raises(ParameterError, match="a token id must be a whole number from 0"):
            ask(10**6)
    (token,) = planted.tokenizer.encode(" Mary")
    for one, other in (
        (asked.writes_for(token).most, asked.writes_for("Mary").most),
        (asked.written_from(token)[0], asked.written_from("Mary")[0]),
    ):
        assert one.equals(other)


@pytest.mark.parametrize("head", [23.2, "23.2", (1.5, 2), (1,), None], ids=str)
def test_what_is_no_head_is_told_how_one_is_written(
    planted: TransformerBridge, related: Results, head: Any
) -> None:
    calls = (
        lambda: head_card(planted, head, results=related),
        lambda: related.scores.names_of(head),
        lambda: AskedHead(planted, head, first_mlp=True).writes_for("Mary"),
    )
    for call in calls:
        with pytest.raises(ParameterError) as error:
            call()
        assert str(error.value) == f"a head is (layer, head), such as (23, 2), not {head!r}."
    with pytest.raises(ParameterError, match="heads must be a list of pairs"):
        check_heads((9, 9), 3, 4)  # type: ignore[arg-type]


def test_results_of_another_model_are_refused(planted: TransformerBridge, results: Results) -> None:
    sets = [replace(one, scores=replace(one.scores, model=MODEL)) for one in results.sets]
    foreign = replace(results, sets=tuple(sets))
    with pytest.raises(ParameterError, match="the results were made of"):
        head_card(planted, (1, 1), results=foreign)
    with pytest.raises(ParameterError, match="the results were made of"):
        Explorer(planted, foreign)
    with pytest.raises(ParameterError, match="the scores were made of"):
        measure(planted, foreign.scores, "eigenvalue")
