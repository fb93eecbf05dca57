"""The payload says what the scores say, in the same bytes each time."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import score_heads
from analysis.embeddings import source_vectors
from analysis.errors import ParameterError
from analysis.explorer.on_prompt import HeadOnPrompt
from analysis.explorer.payload import MAX_RANK, build_payload, pack, pack_prompt
from analysis.explorer.results import collect, score_names
from analysis.weights import ov_weights, unembedding_matrix
from tests.explorer.conftest import PROMPTS
from tests.planted import NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results


def unpacked(results: Results) -> dict[str, Any]:
    return json.loads(gzip.decompress(results.packed()))


def array(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def brute_force(
    model: TransformerBridge, layer: int, head: int, tokens: tuple[int, ...], first_mlp: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks from all the logits, compared one by one."""
    W_V, W_O = ov_weights(model, layer, head)
    x = source_vectors(model, torch.tensor(tokens), layer=layer, first_mlp=first_mlp)
    logits = x @ W_V @ W_O @ unembedding_matrix(model).double()
    own = logits[torch.arange(len(tokens)), list(tokens)][:, None]
    return (logits > own).sum(1).numpy(), (logits < own).sum(1).numpy()


@pytest.mark.parametrize("first_mlp", [True, False])
def test_ranks_are_those_of_all_the_logits(
    planted: TransformerBridge, results: Results, first_mlp: bool
) -> None:
    (packed,) = [s for s in unpacked(results)["sets"] if s["first_mlp"] == first_mlp]
    shape = (3, 4, len(NAMES))
    top = array(packed["top"], "u1").reshape(shape)
    bottom = array(packed["bottom"], "u1").reshape(shape)
    tokens = results.scores.pairs.source_tokens
    for layer in range(3):
        for head in range(4):
            larger, smaller = brute_force(planted, layer, head, tokens, first_mlp)
            np.testing.assert_array_equal(top[layer, head], np.minimum(larger, MAX_RANK))
            np.testing.assert_array_equal(bottom[layer, head], np.minimum(smaller, MAX_RANK))


@pytest.mark.parametrize("k", [1, 2, 7, 100])
def test_any_k_is_a_look_up(planted: TransformerBridge, results: Results, k: int) -> None:
    looked_up = results.scores.at_k(k)
    scored = score_heads(planted, list(NAMES), k=k)
    np.testing.assert_array_equal(looked_up.in_top_k, scored.in_top_k)
    np.testing.assert_array_equal(looked_up.in_bottom_k, scored.in_bottom_k)
    assert looked_up.k == scored.k == looked_up.provenance["k"]


def test_measured_numbers_come_through_to_the_last_bit(results: Results) -> None:
    packed = {measure["key"]: measure for measure in unpacked(results)["measures"]}
    assert set(packed) == {measure.key for measure in results.evidence.measures}
    for measure in results.evidence.measures:
        values = array(packed[measure.key]["values"], "<f8")
        np.testing.assert_array_equal(values, measure.values)


def test_what_is_not_measured_is_listed_and_not_among_the_views(results: Results) -> None:
    payload = unpacked(results)
    assert [one["what"] for one in payload["absent"]] == ["dynamic", "causal", ""]
    assert [view["key"] for view in payload["views"]] == ["static", "vocabulary"]


@pytest.mark.slow
def test_equal_results_give_equal_bytes(planted: TransformerBridge, results: Results) -> None:
    again = collect(
        planted,
        list(NAMES),
        first_mlp=(True, False),
        evidence=results.evidence,
        n_heads_with_tokens=6,
        prompts=PROMPTS,
    )
    later = replace(
        again,
        sets=tuple(
            replace(one, scores=replace(one.scores, provenance=before.scores.provenance))
            for one, before in zip(again.sets, results.sets, strict=True)
        ),
    )
    assert later.packed() == results.packed()


def test_text_goes_through_as_it_is(results: Results) -> None:
    hostile = "</script><img src=x onerror=alert(1)> \u2028 é"
    payload = build_payload(results.sets, words=results.words)
    payload["words"][0] = hostile
    assert json.loads(gzip.decompress(pack(payload)))["words"][0] == hostile


def test_other_names_take_the_place_of_both_settings_of_the_old_ones(
    planted: TransformerBridge, results: Results
) -> None:
    new = score_names(planted, list(NAMES[:4]))
    changed = results.with_set(new)
    assert [(one.key, one.scores.first_mlp) for one in changed.sets] == [("given", True)]
    both = changed.with_set(score_names(planted, list(NAMES[:4]), first_mlp=False))
    assert [one.scores.first_mlp for one in both.sets] == [True, False]


def test_scores_without_ranks_are_refused(planted: TransformerBridge, results: Results) -> None:
    bare = score_heads(planted, list(NAMES))
    with pytest.raises(ParameterError, match="max_rank=100"):
        build_payload([replace(results.sets[0], scores=bare)])
    with pytest.raises(ParameterError, match="at least one"):
        build_payload([])
    with pytest.raises(ParameterError, match="from 1 to 100"):
        results.scores.at_k(101)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "dtype"), [(40, "<u2"), (70_000, "<u4")])
def test_however_many_words_heads_write_on_a_prompt_their_places_are_right(
    n: int, dtype: str
) -> None:
    words = [f"w{i:06d}" for i in range(n)]
    most, least = (
        pd.DataFrame({"token": order, "logit": np.arange(float(n))})
        for order in (words, words[::-1])
    )
    packed = pack_prompt("a", {(0, 0): HeadOnPrompt(("a",), np.ones((1, 1)), most, least)})
    for end, frame in (("most", most), ("least", least)):
        places = np.frombuffer(base64.b64decode(packed[end]["words"]), dtype)
        assert [packed["words"][place] for place in places] == frame["token"].tolist()
