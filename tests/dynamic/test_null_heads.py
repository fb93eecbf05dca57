"""Heads that stand out against random weights, random W_V and other targets."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from analysis.dynamic import null_heads
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
    compare_with_nulls,
    significant_heads,
    which_significant,
)
from analysis.errors import NamesError, ParameterError
from analysis.exact.topk import layer_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.made_up import MODEL, scores_from_counts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOKENIZER = checkpoints.make_tokenizer(planted.NAMES)
SCORES = (COPYING_SCORE, SUPPRESSION_SCORE)


@pytest.fixture(scope="module")
def model() -> TransformerBridge:
    """A planted model, which no test here changes."""
    return planted.planted_model("gpt2")


@pytest.mark.slow
def test_planted_heads_stand_out_and_others_do_not(model: TransformerBridge) -> None:
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


@pytest.mark.slow
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
    assert not which_significant(null, "copying_score")[0, 2]


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


@pytest.mark.slow
def test_scores_for_other_targets_are_the_models_own_heads(model: TransformerBridge) -> None:
    """With every name in every head's top k, so are all other names."""
    static = score_heads(model, planted.NAMES, k=model.cfg.d_vocab)
    null = compare_with_nulls(model, static)
    assert (null.nulls["highest"] == 1).all() and (null.nulls["share_above_0"] == 1).all()


def test_too_few_draws_for_a_single_head_are_an_error(model: TransformerBridge) -> None:
    static = score_heads(model, planted.NAMES)
    with pytest.raises(ParameterError, match="n_draws"):
        compare_with_nulls(model, static, n_draws=19)


@pytest.mark.slow
def test_one_name_has_no_other_to_be_asked_about(model: TransformerBridge) -> None:
    one, two = (score_heads(model, planted.NAMES[:n]) for n in (1, 2))
    with pytest.raises(NamesError, match="at least 2 names or pairs are needed"):
        compare_with_nulls(model, one)
    assert (compare_with_nulls(model, two).nulls["n_random"] > 0).all()


@pytest.mark.slow
def test_scores_of_another_model_are_refused() -> None:
    model = planted.boot(planted.MAKERS["gpt2"](len(TOKENIZER)), TOKENIZER)
    scores = score_heads(model, planted.NAMES)
    with pytest.raises(ParameterError, match="the scores were made of M, and"):
        compare_with_nulls(model, replace(scores, model=MODEL))
    words = checkpoints.make_tokenizer(planted.NAMES[::-1])
    other = planted.boot(planted.MAKERS["gpt2"](len(words)), words)
    with pytest.raises(NamesError, match="another tokenizer"):
        compare_with_nulls(other, scores)


@pytest.mark.slow
def test_the_nulls_do_not_follow_the_users_settings() -> None:
    model = planted.planted_model("llama")
    static = score_heads(model, planted.NAMES[:8], k=20)
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


@pytest.mark.slow
def test_heads_without_weights_are_no_part_of_the_null() -> None:
    """A head that writes nothing ties everywhere, which is no score to stand out from."""
    hf = planted.MAKERS["gpt2"](len(TOKENIZER))
    hf.transformer.h[1].attn.c_proj.weight.data.zero_()
    model = planted.boot(hf, TOKENIZER)
    null = compare_with_nulls(model, score_heads(model, planted.NAMES), n_draws=20)
    smallest = 1 / (1 + 20 * 8)  # two layers of four heads, twenty scores each
    assert (null.nulls["n_random"] == 20 * 8).all()
    assert (null.frame["copying_score_p"] >= smallest - 1e-12).all()


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_head_stands_out_where_every_token_counts(model: TransformerBridge) -> None:
    """Random heads are asked for as many of the largest logits as the model's own."""
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
    significant = which_significant(NullComparison(frame, pd.DataFrame()), "copying_score")
    assert significant.tolist() == [False, True, True, True]


@pytest.mark.slow
def test_a_single_head_can_stand_out_with_the_fewest_draws() -> None:
    hf = planted.MAKERS["gpt2"](len(TOKENIZER))
    tokens = planted.name_tokens(TOKENIZER, planted.NAMES)
    planted.plant(hf, tokens, with_first_mlp=True, copying=[], suppressing=[(1, 2)])
    model = planted.boot(hf, TOKENIZER)
    null = compare_with_nulls(model, score_heads(model, planted.NAMES))
    assert null.frame.loc[(1, 2), "suppression_score"] == 1
    assert significant_heads(null, "suppression_score", 4)[0] == (1, 2)
    assert which_significant(null, "suppression_score")[1, 2]


def test_heads_that_write_nothing_are_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would make the q-value of a single head that stands out too large."""
    counts = np.zeros((2, 4), dtype=np.int64)
    counts[1, 2] = 100
    random = {null: np.zeros((20 * 7, 2), dtype=np.int64) for null in NULLS}
    random |= {null: np.zeros((10 * 7, 2), dtype=np.int64) for null in (RANDOM_WEIGHTS, RANDOM_W_V)}
    monkeypatch.setattr(null_heads, "check_scores_of", lambda model, scores: None)
    monkeypatch.setattr(null_heads, "_null_counts", lambda *given: random)
    silent = np.where(np.arange(8).reshape(2, 4) == 0, 100, 0)
    static = replace(scores_from_counts(counts), n_zero_output=silent)
    frame = compare_with_nulls(SimpleNamespace(), static).frame  # type: ignore[arg-type]
    assert frame.loc[(1, 2), "copying_score_q"] == pytest.approx(7 / (1 + 20 * 7))
    assert (frame.loc[(0, 0)].filter(regex="_[pq]") == 1).all()
    none = replace(static, n_zero_output=np.full((2, 4), 100))
    assert (compare_with_nulls(SimpleNamespace(), none).frame["copying_score_q"] == 1).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_what_is_no_seed_is_refused(model: TransformerBridge, seed: object) -> None:
    static = score_heads(model, planted.NAMES)
    with pytest.raises(ParameterError, match="seed must be a whole number from 0"):
        compare_with_nulls(model, static, seed=seed)  # type: ignore[arg-type]
