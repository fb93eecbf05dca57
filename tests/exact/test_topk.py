"""The scorer decides every pair as brute force does, whatever the blocks, threads and dtypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from analysis.exact import prefilter, sweep, topk
from analysis.exact.arithmetic import TILE, full_float32
from analysis.exact.head_logits import OV
from analysis.exact.prefilter import Reference
from analysis.exact.ranks import rank_targets
from analysis.exact.topk import Decisions, decide_heads, layer_heads
from analysis.exact.vocabulary import Vocabulary


@dataclass(frozen=True)
class Layer:
    """A layer's weights, sources and targets."""

    x: Tensor
    targets: Tensor
    W_V: Tensor
    W_O: Tensor
    W_U: Tensor

    def decide(self, k: int, **options: int) -> list[Decisions]:
        with full_float32():
            vocabulary = Vocabulary(self.W_U)
            return list(
                decide_heads(
                    self.x, self.targets, layer_heads(self.W_V, self.W_O), vocabulary, k, **options
                )
            )

    def ranks(self) -> tuple[Tensor, Tensor]:
        """Strictly larger and strictly smaller logits of every (head, pair), by brute force."""
        group = len(self.W_O) // len(self.W_V)
        larger, smaller = [], []
        d_vocab = self.W_U.shape[1]
        for h, W_O in enumerate(self.W_O.double()):
            written = self.x @ self.W_V[h // group].double() @ W_O
            logits = written @ self.W_U.double()
            own = logits.gather(1, self.targets[:, None])
            some = written.any(1)  # where a head writes nothing, its target is in no top k
            larger.append((logits > own).sum(1).where(some, d_vocab))
            smaller.append((logits < own).sum(1).where(some, d_vocab))
        return torch.stack(larger), torch.stack(smaller)


def answers(decided: list[Decisions]) -> tuple[Tensor, Tensor]:
    return torch.stack([d.in_top_k for d in decided]), torch.stack([d.in_bottom_k for d in decided])


def ranks_of(decided: list[Decisions]) -> tuple[Tensor, Tensor]:
    both = [(d.ranks_top, d.ranks_bottom) for d in decided]
    assert all(top is not None and bottom is not None for top, bottom in both)
    top, bottom = (
        torch.stack([one for one in side if one is not None]) for side in zip(*both, strict=True)
    )
    return top, bottom


@st.composite
def integer_layers(draw: st.DrawFn) -> Layer:
    """Small whole numbers, so that every product is exact, ties abound and rows may be zero."""
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.sampled_from([0, 1, 2, 4]))
    d_model, d_head = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    n_kv, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    d_vocab, n = draw(st.integers(1, 300)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-size, size + 1, shape, generator=generator).float()

    return Layer(
        x=whole(n, d_model).double(),
        targets=torch.randint(0, d_vocab, (n,), generator=generator),
        W_V=whole(n_kv, d_model, d_head),
        W_O=whole(n_kv * group, d_head, d_model),
        W_U=whole(d_model, d_vocab),
    )


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


def random_layer(
    seed: int, d_vocab: int = 3000, n: int = 200, dtype: torch.dtype = torch.float32
) -> Layer:
    """Two groups of two heads; head 0 copies, head 1 suppresses, heads 2 and 3 do what they do."""
    generator = torch.Generator().manual_seed(seed)
    d_model, d_head = 48, 8

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    W_U = normal(d_model, d_vocab)
    W_V = normal(2, d_model, d_head)
    W_O = normal(4, d_head, d_model)
    W_O[0], W_O[1] = W_V[0].T, -W_V[0].T
    targets = torch.randint(0, d_vocab, (n,), generator=generator)
    targets[: n // 4] = targets[0]  # repeated targets, of different sources
    x = W_U.T[targets] + normal(n, d_model)
    return Layer(x.double(), targets, W_V.to(dtype), W_O.to(dtype), W_U.to(dtype))


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


@pytest.mark.parametrize("sweep_block", [128, 1000, 8192])
@pytest.mark.parametrize("n_likely", [1, 7, 128])
def test_blocks_do_not_change_an_answer(
    n_likely: int, sweep_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = random_layer(2)
    larger, smaller = layer.ranks()
    monkeypatch.setattr(prefilter, "N_FIRST", n_likely)
    monkeypatch.setattr(prefilter, "N_EXTREME", 2 * n_likely)
    monkeypatch.setattr(sweep, "SWEEP_BLOCK", sweep_block)
    top, bottom = answers(layer.decide(4, tile=5000))
    assert torch.equal(top, larger < 4)
    assert torch.equal(bottom, smaller < 4)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n_task", [1, 2, 6])
def test_heads_decided_together_or_apart_answer_the_same(
    threads: int, n_task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve heads: a few at a time, those with many open pairs alone, all others together."""
    layer = random_layer(3)
    layer = replace(layer, W_V=layer.W_V.repeat(3, 1, 1), W_O=layer.W_O.repeat(3, 1, 1))
    larger, smaller = layer.ranks()
    monkeypatch.setattr(topk, "N_TASK", n_task)
    monkeypatch.setattr(topk, "ANSWERS_TOGETHER", 1)
    monkeypatch.setattr(prefilter, "N_FIRST", 8)
    monkeypatch.setattr(prefilter, "N_EXTREME", 16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        decided = layer.decide(4, ranks=True)
    finally:
        torch.set_num_threads(before)
    for ranks, counted in zip(ranks_of(decided), (larger, smaller), strict=True):
        assert torch.equal(ranks, counted.clamp(max=4))


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


@pytest.mark.parametrize("k", [1, 40, 400])
@pytest.mark.parametrize("held", [0, 100])
def test_no_more_comparisons_are_held_than_there_is_room_for(
    held: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers tie so often that float64 is asked again and again on the way."""
    generator = torch.Generator().manual_seed(9)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=generator).float()

    targets = torch.randint(0, 2000, (50,), generator=generator)
    layer = Layer(whole(50, 6).double(), targets, whole(1, 6, 3), whole(2, 3, 6), whole(6, 2000))
    larger, smaller = layer.ranks()
    monkeypatch.setattr(sweep, "NEAR_HELD", held)
    top, bottom = answers(layer.decide(k, tile=4000))
    assert torch.equal(top, larger < k) and torch.equal(bottom, smaller < k)
    assert 0 < int(top.sum()) < top.numel()


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


@settings(max_examples=60, deadline=None)
@given(
    n=st.sampled_from([1, 16, 31, 32, 160]),
    tolerance=st.integers(0, 2),
    most=st.sampled_from([-4, 0, 3, 6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_logits_near_the_target_are_found_wherever_they_are(
    n: int, tolerance: int, most: int, seed: int
) -> None:
    """From rows of which nearly nothing comes near the target to rows of which everything does."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-4, 5, (7, n), generator=generator).float()
    target = torch.full((7,), float(most))
    larger, row, token = sweep._compare(logits, target, torch.full((7,), float(tolerance)))
    assert larger.tolist() == (logits > most + tolerance).sum(1).tolist()
    near = (logits - most).abs() <= tolerance
    assert sorted(map(list, zip(row.tolist(), token.tolist(), strict=True))) == (
        near.nonzero().tolist()
    )


def near_ties() -> Layer:
    """Each target has a rival whose logit differs by far less than a float32 rounding error.

    And a twin, which ties exactly and so does not count.
    """
    layer = random_layer(4, d_vocab=400, n=100)
    W_U = layer.W_U.clone()
    distinct = torch.arange(100)
    x = W_U.T[distinct].double()
    W_U[:, 100:200] = W_U[:, :100] * (1 + 2.0**-23 * torch.where(distinct % 2 == 0, 1.0, -1.0))
    W_U[:, 200:300] = W_U[:, :100]
    return Layer(x, distinct, layer.W_V, layer.W_O, W_U)


def test_near_ties_that_float32_cannot_see_are_settled_in_float64() -> None:
    near = near_ties()
    decided = near.decide(1)
    top, bottom = answers(decided)
    # Brute force's own products may put twins a rounding error apart: compare without them.
    alone = torch.cat([near.W_U[:, :200], near.W_U[:, 300:]], dim=1)
    larger, smaller = replace(near, W_U=alone).ranks()
    assert torch.equal(top, larger < 1)
    assert torch.equal(bottom, smaller < 1)
    assert sum(d.n_float64_rechecks for d in decided) > 30
    assert 5 < int(top[0].sum()) < 50, "some copied tokens have a larger rival, some a smaller one"


def vanishing() -> Layer:
    """What a head writes of its sources is float64's rounding alone."""
    layer = random_layer(6, d_vocab=500, n=40)
    null = torch.linalg.svd(layer.W_V[0].double().T).Vh[-8:]
    return replace(layer, x=null.repeat(5, 1))


@pytest.mark.slow
@pytest.mark.parametrize("make", [near_ties, vanishing])
def test_what_float64_settles_hangs_on_nothing_but_the_numbers(
    make: Callable[[], Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on threads, blocks, other pairs, their order, or how weights lie in memory."""
    layer = make()
    decided = layer.decide(2)
    assert sum(d.n_float64_rechecks for d in decided) > 30
    expected = answers(decided)
    n = len(layer.targets)

    def check(found: tuple[Tensor, Tensor], pairs: Tensor) -> None:
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs[:, pairs])

    for pairs in (torch.arange(n).flip(0), torch.arange(7), torch.tensor([n - 1])):
        part = replace(layer, x=layer.x[pairs], targets=layer.targets[pairs])
        check(answers(part.decide(2)), pairs)
    turned = replace(layer, W_V=layer.W_V.mT.contiguous().mT, W_O=layer.W_O.mT.contiguous().mT)
    check(answers(turned.decide(2)), torch.arange(n))
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        check(answers(layer.decide(2)), torch.arange(n))
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(prefilter, "N_FIRST", 3)
    monkeypatch.setattr(prefilter, "N_EXTREME", 6)
    monkeypatch.setattr(sweep, "SWEEP_BLOCK", 128)
    check(answers(layer.decide(2, tile=900)), torch.arange(n))


def test_what_cancels_to_nothing_in_one_order_is_not_silent() -> None:
    """2⁶⁰ + 1 - 2⁶⁰ is 0 or 1 by the order of summation; whatever it is, it is so for all rows."""
    for d_model in (69, 253, 271):
        W_V = torch.zeros(1, d_model, 1)
        W_V[0, 0], W_V[0, 1], W_V[0, -1] = 2.0**60, 1.0, -(2.0**60)
        generator = torch.Generator().manual_seed(0)
        W_O = torch.randn(1, 1, d_model, generator=generator)
        W_U = torch.randn(d_model, 200, generator=generator)
        found = set()
        for n in (1, 2, 64):
            x, targets = torch.ones(n, d_model).double(), torch.full((n,), 5)
            (decided,) = Layer(x, targets, W_V, W_O, W_U).decide(1)
            ranks = rank_targets(x, targets, OV(W_V[0], W_O[0]), Vocabulary(W_U))
            found |= set(zip(decided.in_top_k.tolist(), decided.in_bottom_k.tolist(), strict=True))
            assert torch.equal(ranks.larger < 1, decided.in_top_k)
        assert len(found) == 1


def test_a_head_that_writes_nothing_has_no_target_in_either_k() -> None:
    layer = random_layer(5)
    W_O = layer.W_O.clone()
    W_O[2] = 0
    decided = Layer(layer.x, layer.targets, layer.W_V, W_O, layer.W_U).decide(1)
    assert not decided[2].in_top_k.any() and not decided[2].in_bottom_k.any()
    assert decided[2].n_zero_output == len(layer.targets)
    assert sum(d.n_zero_output for d in decided) == len(layer.targets)


def test_a_source_that_all_but_vanishes_in_the_head_is_settled_in_float64() -> None:
    """What is left of the source is float64's rounding, of which float32 can say nothing."""
    layer = random_layer(6, n=6)
    null = torch.linalg.svd(layer.W_V[0].double().T).Vh[-1]
    vanishing = Layer(null.repeat(6, 1), layer.targets, layer.W_V, layer.W_O, layer.W_U)
    decided = vanishing.decide(3)[0]
    assert decided.n_float64_rechecks == 2 * 6
    assert decided.in_top_k.shape == (6,)


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


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(layer=integer_layers(), tile=st.sampled_from([1, 4096, TILE]))
def test_ranks_of_whole_numbers_are_those_of_brute_force(layer: Layer, tile: int) -> None:
    larger, smaller = layer.ranks()
    group = len(layer.W_O) // len(layer.W_V)
    vocabulary = Vocabulary(layer.W_U)
    for h, W_O in enumerate(layer.W_O):
        W_V = layer.W_V[h // group]
        ranks = rank_targets(layer.x, layer.targets, OV(W_V, W_O), vocabulary, tile=tile)
        assert torch.equal(ranks.larger, larger[h])
        assert torch.equal(ranks.smaller, smaller[h])


def test_a_head_that_writes_nothing_ranks_no_target() -> None:
    layer = random_layer(5)
    ov = OV(layer.W_V[0], torch.zeros_like(layer.W_O[0]))
    ranks = rank_targets(layer.x, layer.targets, ov, Vocabulary(layer.W_U))
    assert (ranks.larger == layer.W_U.shape[1]).all() and torch.equal(ranks.larger, ranks.smaller)


def test_ranks_of_random_weights_are_those_of_brute_force() -> None:
    layer = random_layer(8)
    larger, smaller = layer.ranks()
    vocabulary = Vocabulary(layer.W_U)
    for h, W_O in enumerate(layer.W_O):
        ranks = rank_targets(layer.x, layer.targets, OV(layer.W_V[h // 2], W_O), vocabulary)
        assert torch.equal(ranks.larger, larger[h])
        assert torch.equal(ranks.smaller, smaller[h])
