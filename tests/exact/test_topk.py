"""The scorer decides every pair as brute force does, whatever the blocks, threads and dtypes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.exact import open_pairs, prefilter, topk
from analysis.exact.arithmetic import TILE, full_float32
from analysis.exact.head_logits import OV, Head, project_block
from analysis.exact.prefilter import Reference
from analysis.exact.ranks import rank_targets
from analysis.exact.topk import Decisions, decide_heads, layer_heads
from analysis.exact.vocabulary import Vocabulary
from tests.exact.layers import Layer, answers, integer_layers, random_layer, ranks_of


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(layer=integer_layers(), data=st.data())
def test_whole_numbers_are_decided_as_by_brute_force(layer: Layer, data: st.DataObject) -> None:
    d_vocab = layer.W_U.shape[1]
    k = data.draw(st.one_of(st.integers(1, d_vocab), st.sampled_from([1, d_vocab])))
    tile = data.draw(st.sampled_from([1, 64, TILE]))
    top, bottom = answers(layer.decide(k, tile=tile))
    larger, smaller = layer.ranks()
    assert torch.equal(top, larger < k)
    assert torch.equal(bottom, smaller < k)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(layer=integer_layers(), data=st.data())
def test_ranks_up_to_k_of_whole_numbers_are_those_of_brute_force(
    layer: Layer, data: st.DataObject
) -> None:
    """Every product is exact, so that brute force has the tie rule too."""
    d_vocab = layer.W_U.shape[1]
    k = data.draw(st.one_of(st.integers(1, d_vocab), st.sampled_from([1, d_vocab])))
    tile = data.draw(st.sampled_from([1, 64, TILE]))
    decided = layer.decide(k, tile=tile, ranks=True)
    for ranks, counted in zip(ranks_of(decided), layer.ranks(), strict=True):
        assert torch.equal(ranks, counted.clamp(max=k))


@pytest.mark.parametrize("k", [1, 2, 10, 500, 3000])
def test_random_weights_are_decided_as_by_brute_force(k: int) -> None:
    layer = random_layer(0)
    top, bottom = answers(layer.decide(k))
    larger, smaller = layer.ranks()
    assert torch.equal(top, larger < k)
    assert torch.equal(bottom, smaller < k)
    assert int(top[0].sum()) > 0 and int(bottom[1].sum()) > 0
    found = ranks_of(layer.decide(k, ranks=True))
    assert torch.equal(found[0], larger.clamp(max=k))
    assert torch.equal(found[1], smaller.clamp(max=k))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_answer_as_their_float32_copies(dtype: torch.dtype) -> None:
    half = random_layer(1, dtype=dtype)
    copy = Layer(half.x, half.targets, half.W_V.float(), half.W_O.float(), half.W_U.float())
    for ours, theirs in zip(answers(half.decide(3)), answers(copy.decide(3)), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(answers(half.decide(3))[0], half.ranks()[0] < 3)


@pytest.mark.parametrize("largest", [128, 1000, 8192])
@pytest.mark.parametrize("n_likely", [1, 7, 128])
def test_blocks_do_not_change_an_answer(
    n_likely: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = random_layer(2)
    larger, smaller = layer.ranks()
    monkeypatch.setattr(prefilter, "N_FIRST", n_likely)
    monkeypatch.setattr(prefilter, "N_EXTREME", 2 * n_likely)
    monkeypatch.setattr(open_pairs, "LARGEST_BLOCK", largest)
    top, bottom = answers(layer.decide(4, tile=5000))
    assert torch.equal(top, larger < 4)
    assert torch.equal(bottom, smaller < 4)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n_task", [1, 2, 6])
def test_heads_decided_together_or_apart_answer_the_same(
    threads: int, n_task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with many open pairs project the vocabulary together; the others meet it together."""
    layer = random_layer(3)
    layer = replace(layer, W_V=layer.W_V.repeat(12, 1, 1), W_O=layer.W_O.repeat(12, 1, 1))
    larger, smaller = layer.ranks()
    monkeypatch.setattr(topk, "N_TASK", n_task)
    monkeypatch.setattr(topk, "ANSWERS_TOGETHER", 1)
    monkeypatch.setattr(prefilter, "N_FIRST", 8)
    monkeypatch.setattr(prefilter, "N_EXTREME", 16)
    groups = []

    def project(heads: list[Head], *of: Any) -> None:
        groups.append(len(heads))
        project_block(heads, *of)

    monkeypatch.setattr(open_pairs, "project_block", project)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        decided = layer.decide(4, ranks=True)
    finally:
        torch.set_num_threads(before)
    for ranks, counted in zip(ranks_of(decided), (larger, smaller), strict=True):
        assert torch.equal(ranks, counted.clamp(max=4))
    assert n_task < 6 or max(groups) > 1


@pytest.mark.parametrize("k", [300, 2999, 3000])
def test_a_large_k_is_decided_without_many_extreme_tokens(k: int) -> None:
    layer = random_layer(3)
    for found, ranks in zip(answers(layer.decide(k)), layer.ranks(), strict=True):
        assert torch.equal(found, ranks < k)


@pytest.mark.slow
def test_what_an_earlier_call_left_changes_neither_answers_nor_their_record() -> None:
    """Extreme tokens and projections are kept: the next call finds them, and counts them too."""
    layer = random_layer(4)
    heads = layer_heads(layer.W_V, layer.W_O, layer=0)
    average = Reference("some", layer.x[:20].mean(0).float())

    def ask(vocabulary: Vocabulary, k: int) -> list[Decisions]:
        with full_float32():
            asked = decide_heads(
                layer.x, layer.targets, heads, vocabulary, k, ranks=True, reference=average
            )
            return list(asked)

    keeps = Vocabulary(layer.W_U, 1 << 28)
    for k in (1, 50, 1, 20, 50):
        forgetful = ask(Vocabulary(layer.W_U), k)
        remembering = ask(keeps, k)
        for ours, theirs in zip(remembering, forgetful, strict=True):
            assert ours.multiply_adds == theirs.multiply_adds
        for ranks, other, counted in zip(
            ranks_of(remembering), ranks_of(forgetful), layer.ranks(), strict=True
        ):
            assert torch.equal(ranks, counted.clamp(max=k))
            assert torch.equal(other, ranks)
    assert keeps.known(("projected", (0, 0))) is not None, "head 0 copies, so that many are open"
    assert 0 < keeps.n_bytes_kept < 1 << 28


def test_threads_and_order_do_not_change_an_answer() -> None:
    """Nor do threads change the record of the work."""
    layer = random_layer(3)
    before = torch.get_num_threads()
    results, records = [], []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            decided = layer.decide(2)
            results.append(answers(decided))
            records.append(
                (
                    sum(d.multiply_adds for d in decided) // len(decided),
                    sum(d.n_float64_rechecks for d in decided),
                )
            )
    finally:
        torch.set_num_threads(before)
    assert len(set(records)) == 1
    order = torch.randperm(len(layer.targets), generator=torch.Generator().manual_seed(0))
    shuffled = Layer(layer.x[order], layer.targets[order], layer.W_V, layer.W_O, layer.W_U)
    results.append(tuple(answer[:, order.argsort()] for answer in answers(shuffled.decide(2))))
    for top, bottom in results[1:]:
        assert torch.equal(top, results[0][0]) and torch.equal(bottom, results[0][1])


def test_heads_of_different_widths_are_decided_together() -> None:
    """As in models whose layers differ; so many heads that a thread takes several at a time."""
    wide, narrow = random_layer(5), random_layer(6)
    narrow = replace(wide, W_V=narrow.W_V[..., :3].clone(), W_O=narrow.W_O[:, :3].clone())
    layers, n_times = (wide, narrow), 16
    heads = [head for layer in layers for head in layer_heads(layer.W_V, layer.W_O)[:3]] * n_times
    with full_float32():
        decided = list(decide_heads(wide.x, wide.targets, heads, Vocabulary(wide.W_U), 3))
    for found, side in zip(answers(decided), (0, 1), strict=True):
        expected = torch.cat([layer.ranks()[side][:3] < 3 for layer in layers])
        assert torch.equal(found, expected.repeat(n_times, 1))


def test_the_work_is_a_small_part_of_the_dense_product() -> None:
    layer = random_layer(7, d_vocab=20_000, n=400)
    decided = layer.decide(1)
    dense = layer.x.shape[0] * layer.W_U.numel()
    # Heads 2 and 3 have random weights: nearly every pair is refuted by the likely competitors.
    assert all(0 < d.multiply_adds < 0.12 * dense for d in decided[2:])


MATMUL: Any = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["bf16", "tf32", "none"])
def test_reduced_precision_products_are_forbidden_meanwhile(precision: str) -> None:
    before = [setting.fp32_precision for setting in MATMUL]
    try:
        MATMUL[0].fp32_precision = precision
        with full_float32():
            assert [setting.fp32_precision for setting in MATMUL] == ["ieee", "ieee"]
        assert MATMUL[0].fp32_precision == precision
    finally:
        for setting, value in zip(MATMUL, before, strict=True):
            setting.fp32_precision = value


def test_precision_asked_for_in_the_older_way_is_forbidden_too() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with full_float32():
            assert [setting.fp32_precision for setting in MATMUL] == ["ieee", "ieee"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_neither_the_default_dtype_nor_autocast_changes_an_answer(dtype: torch.dtype) -> None:
    layer = random_layer(0)
    expected = answers(layer.decide(1))
    torch.set_default_dtype(dtype)
    try:
        found = answers(layer.decide(1))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        cast = answers(layer.decide(1))
    for top, bottom in (found, cast):
        assert torch.equal(top, expected[0]) and torch.equal(bottom, expected[1])


@pytest.mark.parametrize("power", [-80, 65, 100])
def test_neither_huge_nor_tiny_unembeddings_break_the_bound(power: int) -> None:
    layer = random_layer(0)
    scaled = replace(layer, W_U=layer.W_U * 2.0**power)
    for k in (1, 10):
        top, bottom = answers(scaled.decide(k))
        larger, smaller = layer.ranks()
        assert torch.equal(top, larger < k) and torch.equal(bottom, smaller < k)
    ov = OV(layer.W_V[0], layer.W_O[0])
    ranks = rank_targets(scaled.x, scaled.targets, ov, Vocabulary(scaled.W_U))
    assert torch.equal(ranks.larger, larger[0])
