"""Correlations and their bootstrap, Wilson's intervals, and heads of random weights."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given, settings

from analysis.dynamic.agreement import POOLED, agreement, head_table
from analysis.dynamic.null_heads import (
    NULLS,
    OTHER_TARGETS,
    RANDOM_W_V,
    RANDOM_WEIGHTS,
    NullComparison,
    _permuted_counts,
    _rotated,
    _singular_values,
    _without_fixed_points,
    are_significant,
    compare_with_nulls,
    significant_heads,
)
from analysis.dynamic.scores import CONTEXTS, DynamicScores
from analysis.errors import NamesError, ParameterError
from analysis.exact.topk import layer_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE, HeadScores
from analysis.static.scores import score_heads
from analysis.statistics import pearson, spearman, wilson_interval
from tests import checkpoints, planted
from tests.made_up import MODEL, made_up_pairs, scores_from_counts

TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)
N_LAYERS, N_HEADS, N_NAMES = 4, 5, 60
TEMPLATES = ("one <X>", "two <X>")
SCORES = (COPYING_SCORE, SUPPRESSION_SCORE)


def made_up(seed: int, noise: float) -> tuple[HeadScores, DynamicScores]:
    """Static scores, and dynamic ones that differ from them for a share of the names."""
    rng = np.random.default_rng(seed)
    shares = rng.random((2, N_LAYERS, N_HEADS, 1))
    top, bottom = rng.random((2, N_LAYERS, N_HEADS, N_NAMES)) < shares
    names = made_up_pairs(N_NAMES)
    shape = (len(TEMPLATES), len(CONTEXTS), N_LAYERS, N_HEADS, N_NAMES)
    other, flip = rng.random((2, *shape)) < 0.5, rng.random((2, *shape)) < noise
    moved = [np.where(flip[i], other[i], answers) for i, answers in enumerate((top, bottom))]
    return (
        HeadScores(top, bottom, names, 1, True, MODEL, {}),
        DynamicScores(moved[0], moved[1], TEMPLATES, names, 1, MODEL, {}),
    )


# ---- correlations


values = hnp.arrays(np.float64, st.integers(3, 20), elements=st.integers(0, 9).map(float))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_correlations_are_scipys(data: st.DataObject) -> None:
    x = data.draw(values)
    y = data.draw(hnp.arrays(np.float64, len(x), elements=st.integers(0, 9).map(float)))
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(pearson(x, y)) and np.isnan(spearman(x, y))
        return
    assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y)[0], abs=1e-9)
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y)[0], abs=1e-9)


def test_the_table_holds_every_comparison_and_its_plain_correlation() -> None:
    static, dynamic = made_up(0, 0.3)
    table = agreement(static, dynamic, n_resamples=20)
    assert list(table.index.names) == ["context", "template", "kind"]
    assert len(table) == len(CONTEXTS) * (len(TEMPLATES) + 1) * len(SCORES)
    for c, context in enumerate(CONTEXTS):
        for kind, x, y in (
            ("copying_score", static.in_top_k, dynamic.in_top_k[:, c]),
            ("suppression_score", static.in_bottom_k, dynamic.in_bottom_k[:, c]),
        ):
            x, y = x.mean(-1).ravel(), y.mean(-1).reshape(len(TEMPLATES), -1)
            for t, template in enumerate(TEMPLATES):
                found = table.loc[(context, template, kind)]
                assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(x, y[t])[0])
                assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(x, y[t])[0])
            pooled = scipy.stats.pearsonr(np.tile(x, len(TEMPLATES)), y.ravel())[0]
            assert table.loc[(context, POOLED, kind), "pearson"] == pytest.approx(pooled)


def test_equal_answers_correlate_fully_in_every_resample() -> None:
    table = agreement(*made_up(1, 0.0), n_resamples=50)
    undefined = [column for column in table if column.endswith("undefined")]
    assert np.allclose(table.drop(columns=undefined), 1.0) and (table[undefined] == 0).all(None)


def test_the_same_seed_gives_the_same_intervals_and_they_hold_the_estimate() -> None:
    static, dynamic = made_up(2, 0.4)
    table = agreement(static, dynamic, n_resamples=300, seed=3)
    pd.testing.assert_frame_equal(table, agreement(static, dynamic, n_resamples=300, seed=3))
    assert not table.equals(agreement(static, dynamic, n_resamples=300, seed=4))
    assert (table["pearson_heads_low"] <= table["pearson"]).all()
    assert (table["pearson_heads_high"] >= table["pearson"]).all()
    assert (table["pearson_names_low"] < table["pearson_names_high"]).all()
    assert (table["pearson_names_high"] > table["pearson"]).all(), "r is biased towards 0"


def test_resampling_names_is_as_doing_it_by_hand() -> None:
    static, dynamic = made_up(5, 0.4)
    table = agreement(static, dynamic, n_resamples=40, seed=9)
    drawn = np.random.default_rng(9).multinomial(N_NAMES, np.full(N_NAMES, 1 / N_NAMES), size=40)
    by_hand = []
    for times in drawn:
        which = np.repeat(np.arange(N_NAMES), times)
        x, y = static.in_top_k[..., which].mean(-1), dynamic.in_top_k[0, 1][..., which].mean(-1)
        by_hand.append(scipy.stats.pearsonr(x.ravel(), y.ravel())[0])
    row = table.loc[("without", TEMPLATES[0], "copying_score")]
    low, high = np.quantile(by_hand, [0.025, 0.975])
    assert row["pearson_names_low"] == pytest.approx(2 * row["pearson"] - high)
    assert row["pearson_names_high"] == pytest.approx(min(1, 2 * row["pearson"] - low))


@pytest.mark.parametrize("group_size", [1, 5])
def test_groups_of_heads_are_left_out_with_all_their_templates(group_size: int) -> None:
    static, dynamic = made_up(6, 0.4)
    dynamic = replace(dynamic, group_size=group_size)
    table = agreement(static, dynamic, n_resamples=2)
    x = static.in_top_k.mean(-1).ravel()
    for c, context in enumerate(CONTEXTS):
        of_templates = dynamic.in_top_k[:, c].mean(-1).reshape(len(TEMPLATES), -1)
        for template, y in ((TEMPLATES[1], of_templates[1:]), (POOLED, of_templates)):
            by_hand = []
            for first in range(0, len(x), group_size):
                which = np.setdiff1d(np.arange(len(x)), np.arange(first, first + group_size))
                pair = np.tile(x[which], len(y)), y[:, which].ravel()
                by_hand.append(np.corrcoef(*pair)[0, 1])
            row = table.loc[(context, template, "copying_score")]
            ends = row["pearson_heads_low"], row["pearson_heads_high"]
            assert ends == pytest.approx((min(by_hand), max(by_hand)))


def test_how_often_a_correlation_is_undefined_is_said() -> None:
    """One head alone copies one name: without the head, or the name, all heads score the same."""
    static, dynamic = made_up(0, 0.0)
    for answers in (static.in_top_k, dynamic.in_top_k):
        answers[...] = False
        answers[..., 2, 3, 7] = True
    table = agreement(static, dynamic, n_resamples=2000)
    row = table.loc[("with", TEMPLATES[0], "copying_score")]
    assert row["pearson"] == pytest.approx(1)
    assert row["pearson_heads_undefined"] == pytest.approx(1 / (N_LAYERS * N_HEADS))
    left_out = (1 - 1 / N_NAMES) ** N_NAMES
    assert row["pearson_names_undefined"] == pytest.approx(left_out, abs=0.04)


def test_scores_of_other_names_cannot_be_compared() -> None:
    static, dynamic = made_up(0, 0.1)
    other = replace(static, pairs=made_up_pairs(7))
    with pytest.raises(ParameterError, match="same model, names and k"):
        agreement(other, dynamic)
    with pytest.raises(ParameterError, match="same model, names and k"):
        agreement(replace(static, k=2), dynamic)
    with pytest.raises(ParameterError, match="n_resamples"):
        agreement(static, dynamic, n_resamples=0)


# ---- single heads


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_wilsons_interval_is_the_root_of_its_equation(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    low, high = (float(end[0]) for end in wilson_interval(np.array([count]), n))
    assert 0 <= low <= count / n + 1e-12 and count / n - 1e-12 <= high <= 1
    z = scipy.stats.norm.ppf(0.975)
    for end in (low, high):
        if 1e-12 < end < 1 - 1e-12:
            assert abs(count / n - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5, abs=1e-7)


def test_the_frame_can_show_its_intervals() -> None:
    rng = np.random.default_rng(0)
    top, bottom = rng.integers(0, 101, size=(2, 3, 4))
    scores = scores_from_counts(top, bottom)
    frame = scores.to_frame(intervals=True)
    assert list(frame.columns) == [*SCORES, *(f"{k}_{e}" for k in SCORES for e in ("low", "high"))]
    pd.testing.assert_frame_equal(frame[list(SCORES)], scores.to_frame())
    low, high = wilson_interval(bottom.ravel(), 100)
    assert np.array_equal(frame["suppression_score_low"], low)
    assert np.array_equal(frame["suppression_score_high"], high)


def test_a_head_off_the_line_has_a_large_residual() -> None:
    scores, dynamic = made_up(0, 0.0)
    dynamic.in_top_k[:, 1, 2, 3] = ~dynamic.in_top_k[:, 1, 2, 3]
    frame = dynamic.to_frame().xs("without", level="context")
    table = head_table(scores.to_frame(intervals=True), frame, "copying_score")
    assert table["residual"].abs().idxmax() == (2, 3)


def test_the_table_of_heads_is_fitted_by_hand() -> None:
    counts, n = np.array([[0, 20, 90], [50, 100, 35]]), 100
    static = scores_from_counts(counts).to_frame(intervals=True)
    rng = np.random.default_rng(0)
    of_templates = rng.random((2, counts.size))
    index = pd.MultiIndex.from_product(
        [TEMPLATES, range(2), range(3)], names=["template", "layer", "head"]
    )
    table = head_table(
        static, pd.DataFrame({"copying_score": of_templates.ravel()}, index), "copying_score"
    )
    x, y = counts.ravel() / n, (of_templates[0] + of_templates[1]) / 2
    assert table["static"].to_numpy() == pytest.approx(x)
    assert table["dynamic"].to_numpy() == pytest.approx(y)
    z = scipy.stats.norm.ppf(0.975)  # Wilson: |x - p| = z·√(p(1-p)/n), solved for p
    middle = (x + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(x * (1 - x) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert table["low"].to_numpy() == pytest.approx(middle - half, abs=1e-9)
    assert table["high"].to_numpy() == pytest.approx(middle + half, abs=1e-9)
    slope, intercept = np.polyfit(x, y, 1)
    off = y - intercept - slope * x
    leverage = 1 / len(x) + (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    deviation = np.sqrt((off**2).sum() / (len(x) - 2))
    assert table["fitted"].to_numpy() == pytest.approx(intercept + slope * x)
    assert table["residual"].to_numpy() == pytest.approx(off / deviation / np.sqrt(1 - leverage))


# ---- random scores


def test_planted_heads_stand_out_and_others_do_not() -> None:
    model = planted.planted_model("gpt2")
    static = score_heads(model, planted.NAMES)
    null = compare_with_nulls(model, static, n_draws=40, seed=1)
    table = null.frame
    planted_heads = {"copying_score": planted.COPYING, "suppression_score": planted.SUPPRESSING}
    for kind, heads in planted_heads.items():
        assert (table.loc[list(heads), f"{kind}_q"] < 0.05).all()
        others = table.drop(list(heads))[f"{kind}_q"]
        assert (others < 0.05).sum() <= 1  # a twentieth of the finds may be false
        assert (others > table.loc[list(heads), f"{kind}_q"].max()).all()
        for name in NULLS:
            p, q = table[f"{kind}_p {name}"].to_numpy(), table[f"{kind}_q {name}"].to_numpy()
            assert q == pytest.approx(scipy.stats.false_discovery_control(p, method="bh"))
            assert (p <= table[f"{kind}_p"]).all() and (q <= table[f"{kind}_q"]).all()
    again = compare_with_nulls(model, static, n_draws=40, seed=1)
    assert table.equals(again.frame) and null.nulls.equals(again.nulls)


def test_a_head_that_writes_the_same_names_whatever_it_reads_does_not_stand_out() -> None:
    """It copies these four names, which random weights do not; other targets show it is chance."""
    names = planted.NAMES
    hf = planted.MAKERS["gpt2"](len(TOKENIZER), tie_word_embeddings=False)
    tokens = planted.name_tokens(TOKENIZER, names)
    W_V, W_O = planted.ov_matrices(hf, 0)[2]
    with torch.no_grad():
        written = torch.nn.functional.one_hot(torch.tensor(0), hf.config.n_embd).float()
        hf.lm_head.weight[:, 0] = 0
        hf.lm_head.weight[tokens[:4], 0] = 0.2
        to_one = torch.linalg.pinv(hf.transformer.wte.weight[tokens].double()).sum(1, keepdim=True)
        W_V.copy_(to_one.float().expand_as(W_V))
        W_O.copy_(written.expand_as(W_O))
    model = planted.boot(hf, TOKENIZER)
    null = compare_with_nulls(model, score_heads(model, names, k=4))
    row = null.frame.loc[(0, 2)]
    assert row["copying_score"] == 4 / len(names)
    assert (
        row[f"copying_score_q {RANDOM_WEIGHTS}"] <= 0.05 < row[f"copying_score_q {OTHER_TARGETS}"]
    )
    assert not are_significant(null, "copying_score", [(0, 2)])


@pytest.mark.parametrize("n", [2, 3, 50])
def test_every_source_is_asked_about_another_target(n: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = _without_fixed_points(n, rng)
        assert sorted(order) == list(range(n)) and (order != np.arange(n)).all()


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("silent", [False, True])
def test_permuted_targets_are_counted_as_if_each_were_asked_about(k: int, silent: bool) -> None:
    """Held against plain logits in float64, with a head that writes nothing, and one name twice."""
    generator = torch.Generator().manual_seed(k)
    x, W_V, W_O, W_U = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((12, 8), (3, 8, 4), (3, 4, 8), (8, 50))
    )
    W_O[1] *= 0
    if silent:
        x[:3] = 0
    targets = torch.tensor([3, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37])
    rng = np.random.default_rng(k)
    orders = [_without_fixed_points(len(targets), rng) for _ in range(25)]
    expected = []
    for head in (0, 2):
        logits = x @ W_V[head] @ W_O[head] @ W_U
        for order in orders:
            own = logits.gather(1, targets[order, None])
            writes = (logits != 0).any(1)
            top, bottom = (((end > 0).sum(1) < k) & writes for end in (logits - own, own - logits))
            expected.append((int(top.sum()), int(bottom.sum())))
    done: list[int] = []
    found = _permuted_counts(
        x, targets, layer_heads(W_V, W_O), Vocabulary(W_U), k, orders, done.append
    )
    assert list(found) == expected and done == [25, 25, 25]


def test_scores_for_other_targets_are_the_models_own_heads() -> None:
    """With every name in every head's top k, so are all other names."""
    model = planted.planted_model("gpt2")
    static = score_heads(model, planted.NAMES, k=model.cfg.d_vocab)
    null = compare_with_nulls(model, static)
    assert (null.nulls["highest"] == 1).all() and (null.nulls["share_above_0"] == 1).all()


def test_too_few_draws_for_a_single_head_are_an_error() -> None:
    model = planted.planted_model("gpt2")
    static = score_heads(model, planted.NAMES)
    with pytest.raises(ParameterError, match="n_draws"):
        compare_with_nulls(model, static, n_draws=19)


def test_scores_of_another_model_are_refused() -> None:
    model = planted.boot(planted.MAKERS["gpt2"](len(TOKENIZER)), TOKENIZER)
    scores = score_heads(model, planted.NAMES)
    with pytest.raises(ParameterError, match="the scores were made of M, and"):
        compare_with_nulls(model, replace(scores, model=MODEL))
    words = checkpoints.make_tokenizer(planted.NAMES[::-1])
    other = planted.boot(planted.MAKERS["gpt2"](len(words)), words)
    with pytest.raises(NamesError, match="another tokenizer"):
        compare_with_nulls(other, scores)


def test_the_nulls_do_not_follow_the_users_settings() -> None:
    model = planted.planted_model("llama")
    static = score_heads(model, planted.NAMES, k=20)
    expected = compare_with_nulls(model, static).frame
    try:
        torch.set_default_dtype(torch.float16)
        torch.set_float32_matmul_precision("medium")
        with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16):
            assert compare_with_nulls(model, static).frame.equals(expected)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("shape", [(20, 6), (9, 6), (6, 6), (6, 9)])
def test_random_heads_have_the_singular_values_of_the_models(shape: tuple[int, int]) -> None:
    W = torch.randn(3, *shape, dtype=torch.float64)
    spectrum = _singular_values(W)
    rotated = _rotated(spectrum, W.shape[1:], torch.Generator().manual_seed(0))
    expected = torch.linalg.svdvals(W)
    assert torch.allclose(torch.linalg.svdvals(rotated), expected)
    assert torch.allclose(rotated.norm(dim=(1, 2)), W.norm(dim=(1, 2)))
    assert not torch.allclose(rotated, W)


def test_heads_without_weights_are_no_part_of_the_null() -> None:
    """A head that writes nothing ties everywhere, which is no score to stand out from."""
    hf = planted.MAKERS["gpt2"](len(TOKENIZER))
    hf.transformer.h[1].attn.c_proj.weight.data.zero_()
    model = planted.boot(hf, TOKENIZER)
    null = compare_with_nulls(model, score_heads(model, planted.NAMES), n_draws=20)
    smallest = 1 / (1 + 20 * 8)  # two layers of four heads, twenty scores each
    assert (null.nulls["n_random"] == 20 * 8).all()
    assert (null.frame["copying_score_p"] >= smallest - 1e-12).all()


@pytest.mark.parametrize("first_mlp", [True, False])
def test_random_heads_of_later_layers_read_what_the_first_mlp_writes(first_mlp: bool) -> None:
    """Here it writes nothing: then random heads of layer 0 alone have something to read."""
    hf = planted.MAKERS["gpt2"](len(TOKENIZER))
    planted.plant(hf, planted.name_tokens(TOKENIZER), copying=[(0, 1)])
    for weight in hf.transformer.h[0].mlp.c_proj.parameters():
        weight.data.zero_()
    model = planted.boot(hf, TOKENIZER)
    static = score_heads(model, planted.NAMES, first_mlp=first_mlp)
    null = compare_with_nulls(model, static, n_draws=20).frame
    n_layers = 1 if first_mlp else 3
    for name in (RANDOM_WEIGHTS, RANDOM_W_V):
        p = null.loc[(0, 1), f"copying_score_p {name}"]
        assert p == pytest.approx(1 / (1 + 20 * 4 * n_layers))


def test_no_head_stands_out_where_every_token_counts() -> None:
    """Random heads are asked for as many of the largest logits as the model's own."""
    model = planted.planted_model("gpt2")
    static = score_heads(model, planted.NAMES, k=model.cfg.d_vocab)
    null = compare_with_nulls(model, static).frame
    for kind in SCORES:
        assert (null[kind] == 1).all()
        assert (null[f"{kind}_p"] == 1).all()


def test_those_that_stand_out_come_highest_first() -> None:
    index = pd.MultiIndex.from_product([range(2), range(2)], names=["layer", "head"])
    columns = {"copying_score": [0.1, 0.9, 0.4, 0.2], "copying_score_q": [0.5, 0.01, 0.02, 0.05]}
    frame = pd.DataFrame(columns, index)

    def heads(n: int, **changes: object) -> list[tuple[int, int]]:
        null = NullComparison(frame.assign(**changes), pd.DataFrame())
        return significant_heads(null, "copying_score", n)

    assert heads(8) == [(0, 1), (1, 0), (1, 1)]
    assert heads(2) == [(0, 1), (1, 0)]
    assert heads(8, copying_score=frame["copying_score"] / 100) == [(0, 1)], "too little"
    assert heads(2, copying_score_q=1.0) == [(0, 1)]
    assert heads(2, copying_score=0.0) == [], "a head that scores 0 is the best at nothing"
    assert not are_significant(NullComparison(frame, pd.DataFrame()), "copying_score", [])


def test_a_single_head_can_stand_out_with_the_fewest_draws() -> None:
    hf = planted.MAKERS["gpt2"](len(TOKENIZER))
    tokens = planted.name_tokens(TOKENIZER, planted.NAMES)
    planted.plant(hf, tokens, with_first_mlp=True, copying=[], suppressing=[(1, 2)])
    model = planted.boot(hf, TOKENIZER)
    null = compare_with_nulls(model, score_heads(model, planted.NAMES))
    assert null.frame.loc[(1, 2), "suppression_score"] == 1
    assert significant_heads(null, "suppression_score", 4)[0] == (1, 2)
    assert are_significant(null, "suppression_score", [(1, 2)])
