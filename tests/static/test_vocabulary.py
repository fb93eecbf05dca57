"""The whole vocabulary, ranks and eigenvalues against plain computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from analysis.embeddings import EMBEDDINGS, effective_embedding, embedding_at_layer
from analysis.errors import ParameterError, WeightsError
from analysis.exact import topk
from analysis.static.eigenvalues import eigenvalue_scores
from analysis.static.vocabulary import VocabularyScores, rank_vocabulary, score_vocabulary
from analysis.weights import ov_weights, unembedding_matrix, value_weights
from tests import checkpoints, planted
from tests.made_up import MODEL

TOKENIZER = checkpoints.make_tokenizer()
D_VOCAB = len(TOKENIZER)
MAKERS = {
    "gpt2": checkpoints.gpt2_model,
    "llama": checkpoints.llama_model,
    "neox": checkpoints.gpt_neox_model,
}


@pytest.fixture(scope="module", params=list(MAKERS))
def model(request: pytest.FixtureRequest) -> Any:
    return planted.boot(MAKERS[request.param](D_VOCAB), TOKENIZER)


def ov_logits(model: Any, layer: int, head: int, embedding: str, folded: bool) -> torch.Tensor:
    """The head's full OV circuit, token by token, with the whole d_vocab × d_vocab product."""
    tokens = torch.arange(D_VOCAB)
    x = effective_embedding(model, tokens, embedding_at_layer(embedding, layer), folded=folded)
    W_V, W_O = ov_weights(model, layer, head)
    W_U = unembedding_matrix(model).double()
    if folded:
        # What a fold must not change: the norms' own output, up to each source's positive scale.
        block, final = model.blocks[layer].ln1, model.ln_final
        rms = model.cfg.uses_rms_norm
        centre_in = torch.eye(len(W_V)).double() if rms else centring(len(W_V))
        W_V = centre_in @ (block.weight.double()[:, None] * W_V)
        W_U = centre_in @ (final.weight.double()[:, None] * W_U)
        W_U = W_U - W_U.mean(1, keepdim=True)
    return x @ W_V @ W_O @ W_U


def centring(n: int) -> torch.Tensor:
    return torch.eye(n).double() - 1 / n


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_every_token_is_decided_and_ranked_as_by_the_full_circuit(
    model: Any, embedding: str, folded: bool
) -> None:
    scored = score_vocabulary(model, k=2, embedding=embedding, folded=folded)
    ranked = rank_vocabulary(model, embedding=embedding, folded=folded)
    assert len(scored.tokens) == D_VOCAB
    for row, (layer, head) in enumerate(scored.heads):
        logits = ov_logits(model, layer, head, embedding, folded)
        own = logits.diagonal()[:, None]
        # Folding rounds to float32, so leave out the few comparisons that rounding could turn.
        close = (logits - own).abs().fill_diagonal_(1) < 1e-5 * logits.abs().max()
        sure = ~close.any(1).numpy()
        larger, smaller = (logits > own).sum(1), (logits < own).sum(1)
        assert sure.mean() > 0.5
        assert np.array_equal(scored.copied[row][sure], (larger < 2).numpy()[sure])
        assert np.array_equal(scored.suppressed[row][sure], (smaller < 2).numpy()[sure])
        assert ranked.loc[(layer, head), "mean_rank"] == pytest.approx(
            float(smaller.double().mean()), abs=float(close.sum()) / D_VOCAB + 1e-9
        )
        assert ranked.loc[(layer, head), "median_rank"] == pytest.approx(
            np.median(smaller.numpy()), abs=float(close.sum(1).max())
        )


def test_a_copying_head_copies_and_its_negation_suppresses() -> None:
    hf = checkpoints.gpt2_model(D_VOCAB, n_embd=32, n_head=1)
    block = hf.transformer.h[0].attn
    block.c_attn.weight.data[:, 64:] = torch.eye(32)
    block.c_proj.weight.data = torch.eye(32)
    rows = hf.transformer.wte.weight.data
    rows /= rows.norm(dim=1, keepdim=True)
    last = hf.transformer.h[2].attn
    last.c_attn.weight.data[:, 64:] = torch.eye(32)
    last.c_proj.weight.data = -torch.eye(32)
    model = planted.boot(hf, TOKENIZER)
    frame = score_vocabulary(model, embedding="embedding").to_frame()
    assert frame.loc[(0, 0)].tolist() == [1.0, 0.0]
    assert frame.loc[(2, 0)].tolist() == [0.0, 1.0]
    ranks = rank_vocabulary(model, embedding="embedding")["mean_rank"]
    assert ranks[(0, 0)] == D_VOCAB - 1 and ranks[(2, 0)] == 0
    eigen = eigenvalue_scores(model)["eigenvalue_score"]
    assert eigen[(0, 0)] == pytest.approx(1) and eigen[(2, 0)] == pytest.approx(-1)
    assert -1 < eigen[(1, 0)] < 1


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_eigenvalues_are_those_of_the_full_circuit(
    model: Any, embedding: str, folded: bool
) -> None:
    scores = eigenvalue_scores(model, embedding=embedding, folded=folded)["eigenvalue_score"]
    for layer, head in ((0, 0), (1, 1), (2, 3)):
        eigenvalues = torch.linalg.eigvals(ov_logits(model, layer, head, embedding, folded))
        expected = float(eigenvalues.sum().real / eigenvalues.abs().sum())
        assert scores[(layer, head)] == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("folded", [False, True])
def test_eigenvalues_leave_out_rows_that_are_no_token(folded: bool) -> None:
    padded = checkpoints.llama_model(D_VOCAB + 7, tie_word_embeddings=False)
    for table in (padded.get_input_embeddings(), padded.get_output_embeddings()):
        table.weight.detach()[D_VOCAB:] *= 100
    bare = checkpoints.llama_model(D_VOCAB, tie_word_embeddings=False)
    own = bare.state_dict()
    bare.load_state_dict({n: w[: len(own[n])] for n, w in padded.state_dict().items()})
    scores, expected = (
        eigenvalue_scores(planted.boot(hf, TOKENIZER), folded=folded) for hf in (padded, bare)
    )
    pd.testing.assert_frame_equal(scores, expected, atol=1e-6)


@pytest.mark.slow
def test_a_head_that_writes_nothing_has_eigenvalue_score_zero() -> None:
    hf = checkpoints.gpt2_model(D_VOCAB)
    hf.transformer.h[1].attn.c_proj.weight.data.zero_()
    scores = eigenvalue_scores(planted.boot(hf, TOKENIZER))["eigenvalue_score"]
    assert (scores[1] == 0).all() and (scores[2] != 0).all()


def test_a_sample_is_of_the_vocabulary_and_says_its_error(model: Any) -> None:
    whole = score_vocabulary(model, k=5)
    sample = score_vocabulary(model, k=5, n_tokens=100, seed=3)
    again = score_vocabulary(model, k=5, n_tokens=100, seed=3)
    assert np.array_equal(sample.tokens, again.tokens) and len(set(sample.tokens)) == 100
    assert np.array_equal(sample.copied, whole.copied[:, sample.tokens])
    frame = sample.to_frame()
    scipy_sem = scipy.stats.sem(sample.copied.astype(float), axis=1)
    expected = scipy_sem * np.sqrt(1 - 100 / D_VOCAB)  # finite population
    assert np.allclose(frame["copied_se"], expected)
    assert "copied_se" not in whole.to_frame()
    assert (rank_vocabulary(model, heads=[(1, 0)])["standard_error"] == 0).all()


def test_each_share_has_its_own_standard_error() -> None:
    copied, suppressed = (
        np.array([answers], dtype=bool) for answers in ([1, 0, 0, 0], [1, 1, 0, 0])
    )
    scores = VocabularyScores(((0, 0),), np.arange(4), copied, suppressed, 8, MODEL, {})
    # Four of eight tokens: s² / 4 · (1 - 4/8), with s² = 3/4 / 3 and 1 / 3.
    expected = {
        "copied": 1 / 4,
        "suppressed": 1 / 2,
        "copied_se": (1 / 32) ** 0.5,
        "suppressed_se": (1 / 24) ** 0.5,
    }
    assert scores.to_frame().loc[(0, 0)].to_dict() == pytest.approx(expected)


@pytest.mark.slow
def test_tokens_in_parts_are_answered_as_together(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = score_vocabulary(model, k=3)
    ranked = rank_vocabulary(model, heads=[(0, 1), (2, 0)])
    monkeypatch.setattr(topk, "MEMORY", 1 << 17)
    W_V = value_weights(model, 0)
    assert 3 * topk.pairs_at_once(*W_V.shape[1:]) < D_VOCAB, "several parts"
    in_parts = score_vocabulary(model, k=3)
    assert np.array_equal(in_parts.copied, together.copied)
    assert np.array_equal(in_parts.suppressed, together.suppressed)
    assert rank_vocabulary(model, heads=[(0, 1), (2, 0)]).equals(ranked)


@pytest.mark.slow
def test_a_tokens_answer_does_not_hang_on_the_other_tokens(model: Any) -> None:
    tokens = torch.arange(0, D_VOCAB, 5)
    shuffled = tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))]
    for kind in EMBEDDINGS:
        whole = effective_embedding(model, torch.arange(D_VOCAB), kind)
        for some in (tokens, shuffled, tokens[:1], tokens[-3:]):
            assert torch.equal(effective_embedding(model, some, kind), whole[some])


def test_chosen_heads_are_answered_as_among_all(model: Any) -> None:
    whole = score_vocabulary(model, k=3)
    some = score_vocabulary(model, k=3, heads=[(2, 1), (0, 3)])
    assert some.heads == ((0, 3), (2, 1))
    for row, head in enumerate(some.heads):
        assert np.array_equal(some.copied[row], whole.copied[whole.heads.index(head)])
    copied = some.tokens_of((2, 1))
    assert np.array_equal(copied, np.flatnonzero(some.copied[1]))
    with pytest.raises(ParameterError, match=r"the head \(0, 1\) is not among those asked about"):
        some.tokens_of((0, 1))


@pytest.mark.parametrize(
    "kind",
    [torch.tensor, np.array, pd.Series, pd.MultiIndex.from_tuples, iter, tuple, dict.fromkeys],
)
def test_heads_are_a_list_of_any_kind(model: Any, kind: Any) -> None:
    heads = kind([(2, 1), (0, 3)])
    assert score_vocabulary(model, heads=heads).heads == ((0, 3), (2, 1))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"embedding": "W_E"}, "embedding must be one of"),
        ({"heads": [(3, 0)]}, "no such head: 3.0"),
        ({"heads": []}, "no head is given"),
        ({"heads": [(0, 1), (0, 1)]}, "given more than once"),
        ({"n_tokens": 0}, "n_tokens must be a whole number"),
        ({"k": 0}, "k must be a whole number"),
    ],
)
def test_wrong_parameters_are_named(model: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        score_vocabulary(model, **wrong)


def test_nan_is_an_error_that_names_layer_and_head() -> None:
    hf = checkpoints.llama_model(D_VOCAB)
    hf.model.layers[2].self_attn.o_proj.weight.data[0, 9] = torch.nan
    model = planted.boot(hf, TOKENIZER)
    for score in (score_vocabulary, rank_vocabulary, eigenvalue_scores):
        with pytest.raises(WeightsError, match="W_O of layer 2, head 1"):
            score(model)


@pytest.mark.parametrize("function", [score_vocabulary, rank_vocabulary, eigenvalue_scores])
def test_folded_is_yes_or_no(model: Any, function: Any) -> None:
    with pytest.raises(ParameterError, match="folded must be True or False"):
        function(model, folded="no")
