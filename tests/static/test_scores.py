"""Scores of planted heads, and of random models against a plain computation for every head."""

from __future__ import annotations

import copy
import functools
import json
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from analysis.errors import ArchitectureError, NamesError, ParameterError, WeightsError
from analysis.export.places import figure_stem
from analysis.models.fingerprint import fingerprint
from analysis.names import load_names
from analysis.plots.heatmaps import plot_heatmaps
from analysis.provenance import ModelIdentity, model_identity, set_identity
from analysis.static.head_scores import check_scores_of
from analysis.static.scores import score_heads, target_ranks
from analysis.static.vocabulary import score_vocabulary
from tests import checkpoints, planted
from tests.made_up import scores_from_counts
from tests.planted import COPYING, MAKERS, NAMES, SUPPRESSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

TOKENIZER = checkpoints.make_tokenizer(NAMES)
D_VOCAB = len(TOKENIZER)
N_LAYERS, N_HEADS = 3, 4
EVERY_HEAD = [(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
PAIRS = [("John", "Mary"), ("Mary", "John"), ("Anna", "John"), ("Ruth", "Ruth"), ("Paul", "Emma")]


@pytest.fixture(scope="module", params=MAKERS)
def planted_bridge(request: pytest.FixtureRequest) -> TransformerBridge:
    return planted.planted_model(request.param)


@pytest.fixture(scope="module")
def bridge() -> TransformerBridge:
    """For tests that do not change it."""
    return planted.boot(checkpoints.llama_model(D_VOCAB), TOKENIZER)


@pytest.fixture
def own_bridge() -> TransformerBridge:
    return planted.boot(checkpoints.llama_model(D_VOCAB), TOKENIZER)


def perfect(scores: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Heads (layer, head) with a score of 1."""
    return tuple((int(layer), int(head)) for layer, head in np.argwhere(scores == 1.0))


# ---- planted heads


@pytest.mark.slow
def test_exactly_the_planted_heads_score_one(planted_bridge: TransformerBridge) -> None:
    scores = score_heads(planted_bridge, NAMES, k=1, first_mlp=True)
    assert scores.n_pairs == len(NAMES)
    assert perfect(scores.relation_score) == COPYING
    assert perfect(scores.suppression_score) == SUPPRESSING
    for head in COPYING:
        assert scores.suppression_score[head] == 0.0
    for head in SUPPRESSING:
        assert scores.relation_score[head] == 0.0


def test_planted_heads_shine_in_their_panel_and_cell(planted_bridge: TransformerBridge) -> None:
    figure = plot_heatmaps(score_heads(planted_bridge, NAMES))
    copying, suppression = (np.array(trace.z) for trace in figure.data if trace.type == "heatmap")
    assert copying.shape == (N_HEADS, N_LAYERS)  # y is the head, x the layer
    assert perfect(copying.T) == COPYING
    assert perfect(suppression.T) == SUPPRESSING


def test_heads_that_read_the_first_mlp_copy_only_with_it(planted_bridge: TransformerBridge) -> None:
    scores = score_heads(planted_bridge, NAMES, first_mlp=False)
    assert perfect(scores.relation_score) == tuple(head for head in COPYING if head[0] == 0)
    assert perfect(scores.suppression_score) == tuple(head for head in SUPPRESSING if head[0] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_heads_that_read_the_embedding_copy_only_without_the_first_mlp(kind: str) -> None:
    model = MAKERS[kind](D_VOCAB)
    planted.plant(model, planted.name_tokens(TOKENIZER), with_first_mlp=False)
    bridge = planted.boot(model, TOKENIZER)
    assert perfect(score_heads(bridge, NAMES, first_mlp=False).relation_score) == COPYING
    assert perfect(score_heads(bridge, NAMES, first_mlp=False).suppression_score) == SUPPRESSING
    assert perfect(score_heads(bridge, NAMES).relation_score) == COPYING[:1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_heads_planted_for_another_relation_score_one_for_its_pairs(kind: str) -> None:
    model = MAKERS[kind](D_VOCAB)
    tokens = planted.name_tokens(TOKENIZER)
    planted.plant(model, tokens, tokens.roll(1))
    bridge = planted.boot(model, TOKENIZER)
    pairs = list(zip(NAMES, [NAMES[-1], *NAMES[:-1]], strict=True))
    scores = score_heads(bridge, pairs)
    assert scores.relation == "relation"
    assert perfect(scores.relation_score) == COPYING
    assert perfect(scores.suppression_score) == SUPPRESSING
    backwards = score_heads(bridge, [(target, source) for source, target in pairs])
    assert perfect(backwards.relation_score) == perfect(backwards.suppression_score) == ()


# ---- against a plain computation


@functools.lru_cache(maxsize=2)
def _in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """A copy; a model is asked several times in a row, and no test changes one in between."""
    return copy.deepcopy(model).double()


@torch.no_grad()
def brute_force(
    model: PreTrainedModel, pairs: Sequence[tuple[str, str]], k: int, first_mlp: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of every head as the definition has them, every logit in float64."""
    model = _in_float64(model)
    sources, targets = (planted.name_tokens(TOKENIZER, words) for words in zip(*pairs, strict=True))
    W_E, W_U = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    counts = np.zeros((2, N_LAYERS, N_HEADS), dtype=int)
    for layer in range(N_LAYERS):
        x = W_E[sources]
        if first_mlp and layer > 0:
            x = planted.first_mlp(model, x)
        for head, (W_V, W_O) in enumerate(planted.ov_matrices(model, layer)):
            logits = torch.einsum("sm,mh,hn,tn->st", x, W_V, W_O, W_U)
            own = logits[torch.arange(len(targets)), targets][:, None]
            counts[0, layer, head] = int(((logits > own).sum(1) < k).sum())
            counts[1, layer, head] = int(((logits < own).sum(1) < k).sum())
    return counts[0], counts[1]


@functools.lru_cache(maxsize=32)
def random_model(kind: str, seed: int, whole: bool) -> tuple[PreTrainedModel, TransformerBridge]:
    """A random model as transformers makes it, and the bridge on a copy of it."""
    model = MAKERS[kind](D_VOCAB)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if whole:
                weight.copy_(torch.randint(-1, 2, weight.shape, generator=generator))
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model, planted.boot(copy.deepcopy(model), TOKENIZER)


kinds = st.sampled_from(list(MAKERS))
seeds = st.integers(0, 1)
ranks = st.sampled_from([1, 2, 5, 10, 100, D_VOCAB - 1, D_VOCAB]) | st.integers(1, D_VOCAB)
words = st.sampled_from(NAMES)
name_lists = st.lists(words, min_size=1, max_size=16, unique=True)
pair_lists = st.lists(st.tuples(words, words), min_size=1, max_size=24, unique=True)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(kinds, seeds, ranks, st.booleans(), name_lists | pair_lists)
def test_counts_are_those_of_the_plain_computation(
    kind: str, seed: int, k: int, first_mlp: bool, names: list[Any]
) -> None:
    model, bridge = random_model(kind, seed, whole=False)
    pairs = [(name, name) if isinstance(name, str) else name for name in names]
    n_in_top_k, n_in_bottom_k = brute_force(model, pairs, k, first_mlp)
    scores = score_heads(bridge, names, k=k, first_mlp=first_mlp)
    assert scores.n_in_top_k.tolist() == n_in_top_k.tolist()
    assert scores.n_in_bottom_k.tolist() == n_in_bottom_k.tolist()
    assert scores.n_pairs == len(names)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(kinds, seeds, ranks, name_lists | pair_lists)
def test_ties_are_not_larger(kind: str, seed: int, k: int, names: list[Any]) -> None:
    """Weights of −1, 0 and 1: every product is exact, and most logits are tied with many others."""
    model, bridge = random_model(kind, seed, whole=True)
    pairs = [(name, name) if isinstance(name, str) else name for name in names]
    n_in_top_k, n_in_bottom_k = brute_force(model, pairs, k, first_mlp=False)
    scores = score_heads(bridge, names, k=k, first_mlp=False)
    assert scores.n_in_top_k.tolist() == n_in_top_k.tolist()
    assert scores.n_in_bottom_k.tolist() == n_in_bottom_k.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", MAKERS)
def test_half_precision_weights_give_the_answers_of_their_float32_copies(
    kind: str, dtype: torch.dtype
) -> None:
    half = copy.deepcopy(random_model(kind, 0, whole=False)[0]).to(dtype)
    copied = planted.boot(copy.deepcopy(half).float(), TOKENIZER)
    bridge = planted.boot(copy.deepcopy(half), TOKENIZER, dtype=dtype)
    for names, ks in ((NAMES, (1, D_VOCAB // 2)), (PAIRS, (10,))):
        pairs = [(name, name) if isinstance(name, str) else name for name in names]
        for k in ks:
            found = score_heads(bridge, names, k=k)
            expected = score_heads(copied, names, k=k)
            assert np.array_equal(found.n_in_top_k, expected.n_in_top_k)
            assert np.array_equal(found.n_in_bottom_k, expected.n_in_bottom_k)
            n_in_top_k, n_in_bottom_k = brute_force(half, pairs, k, first_mlp=True)
            assert np.array_equal(found.n_in_top_k, n_in_top_k)
            assert np.array_equal(found.n_in_bottom_k, n_in_bottom_k)
    assert found.provenance["dtype"] == str(dtype).removeprefix("torch.")
    assert expected.provenance["dtype"] == "float32"


@pytest.mark.slow
def test_a_model_converted_after_loading_is_recorded_as_what_it_is(
    own_bridge: TransformerBridge,
) -> None:
    assert score_heads(own_bridge, ["John"]).provenance["dtype"] == "float32"
    own_bridge.to(torch.bfloat16)
    assert own_bridge.W_U.dtype == torch.bfloat16
    assert score_heads(own_bridge, ["John"]).provenance["dtype"] == "bfloat16"


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_the_order_of_the_names_does_not_matter_and_counts_add_up(kind: str) -> None:
    _, bridge = random_model(kind, 1, whole=False)
    together = score_heads(bridge, NAMES, k=60)
    backwards = score_heads(bridge, NAMES[::-1], k=60)
    alone = [score_heads(bridge, [name], k=60) for name in NAMES]
    for counts in ("n_in_top_k", "n_in_bottom_k"):
        expected = getattr(together, counts)
        assert 0 < expected.sum() < expected.size * len(NAMES)
        assert np.array_equal(getattr(backwards, counts), expected)
        assert np.array_equal(sum(getattr(one, counts) for one in alone), expected)
    assert backwards.provenance["pairs_sha256"] != together.provenance["pairs_sha256"]


def test_every_target_is_among_as_many_as_there_are_tokens(bridge: TransformerBridge) -> None:
    scores = score_heads(bridge, PAIRS, k=D_VOCAB)
    assert (scores.n_in_top_k == len(PAIRS)).all()
    assert (scores.n_in_bottom_k == len(PAIRS)).all()


def test_a_head_that_writes_nothing_neither_copies_nor_suppresses() -> None:
    model = checkpoints.llama_model(D_VOCAB)
    planted.output_matrices(model, 1)[2].detach().zero_()
    scores = score_heads(planted.boot(model, TOKENIZER), NAMES, k=D_VOCAB, max_rank=D_VOCAB)
    assert scores.relation_score[1, 2] == scores.suppression_score[1, 2] == 0
    assert scores.ranks_top is not None and (scores.ranks_top[1, 2] == D_VOCAB).all()
    assert scores.n_zero_output is not None
    assert perfect(scores.n_zero_output / len(NAMES)) == ((1, 2),)
    assert scores.provenance["pairs_for_which_a_head_writes_nothing"] == len(NAMES)


# ---- the result


def test_the_frame_has_a_row_for_each_head(planted_bridge: TransformerBridge) -> None:
    scores = score_heads(planted_bridge, NAMES)
    frame = scores.to_frame()
    assert list(frame.index.names) == ["layer", "head"]
    assert list(frame.index) == [(la, h) for la in range(N_LAYERS) for h in range(N_HEADS)]
    assert list(frame.columns) == ["copying_score", "suppression_score"]
    assert (frame.dtypes == np.float64).all()
    for layer, head in frame.index:
        assert frame.loc[(layer, head), "copying_score"] == scores.n_in_top_k[layer, head] / len(
            NAMES
        )
        assert frame.loc[(layer, head), "suppression_score"] == scores.n_in_bottom_k[
            layer, head
        ] / len(NAMES)
    assert tuple(frame.index[frame["copying_score"] == 1.0]) == COPYING
    assert tuple(frame.index[frame["suppression_score"] == 1.0]) == SUPPRESSING


def test_printed_scores_name_the_heads_that_copy_and_suppress(
    planted_bridge: TransformerBridge,
) -> None:
    def listed(heads: Iterable[tuple[int, int]]) -> str:
        return ", ".join(f"{layer}.{head}" for layer, head in heads)

    assert repr(score_heads(planted_bridge, NAMES)) == (
        f"{model_identity(planted_bridge).title}, k = 1, {len(NAMES)} names: of "
        f"{N_LAYERS * N_HEADS} heads {len(COPYING)} ({listed(COPYING)}) copy at least half, "
        f"{len(SUPPRESSING)} ({listed(SUPPRESSING)}) suppress at least half"
    )


def test_one_head_of_its_kind_is_said_in_the_singular() -> None:
    counts = np.zeros((2, 2), dtype=int)
    counts[1, 0] = 60
    assert repr(scores_from_counts(counts)).endswith(
        "of 4 heads 1 (1.0) copies at least half, 0 suppress at least half"
    )


def test_provenance_tells_what_made_the_scores_and_is_json(own_bridge: TransformerBridge) -> None:
    identity = ModelIdentity("team/llama", "Llama", revision="a" * 40, source="hub")
    set_identity(own_bridge, identity)
    names = load_names(own_bridge, ["John", "Mary", "Bob"])
    before = datetime.now(UTC)
    scores = score_heads(own_bridge, names, k=np.int64(3), first_mlp=False)
    made = json.loads(json.dumps(scores.provenance, allow_nan=False))
    assert made == scores.provenance
    assert made["model"] == {
        "name": "team/llama",
        "title": "Llama",
        "revision": "a" * 40,
        "checksum": None,
        "source": "hub",
        "note": "",
    }
    assert scores.model == identity
    assert (made["pairs"], made["pairs_given"]) == (2, 3)
    assert made["pairs_sha256"] == names.checksum
    assert (made["k"], made["first_mlp"], made["dtype"]) == (3, False, "float32")
    assert (scores.k, scores.first_mlp, scores.relation) == (3, False, "copying")
    assert made["versions"]["torch"] == metadata.version("torch")
    assert set(made["versions"]) >= {"name-heads", "transformer-lens", "transformers", "numpy"}
    time = datetime.fromisoformat(made["time"])
    assert -1 < (time - before).total_seconds() < 60


def test_a_model_made_in_memory_is_known_by_its_name_and_weights() -> None:
    bridge = planted.boot(checkpoints.gpt2_model(D_VOCAB), TOKENIZER, name="mine")
    scores = score_heads(bridge, ["John"])
    assert (scores.model.name, scores.model.source) == ("mine", "memory")
    assert scores.model.note == f"made in memory (fingerprint {fingerprint(bridge)[:12]})"
    again = planted.boot(checkpoints.gpt2_model(D_VOCAB), TOKENIZER, name="mine")
    check_scores_of(again, scores)
    other = planted.boot(checkpoints.gpt2_model(D_VOCAB), TOKENIZER, name="mine")
    other.original_model.get_output_embeddings().weight.data[5] *= 2
    with pytest.raises(ParameterError, match=r"made of mine \(made in memory .*this model is mine"):
        check_scores_of(other, scores)


@pytest.mark.parametrize("training", [False, True])
def test_scoring_changes_nothing(own_bridge: TransformerBridge, training: bool) -> None:
    calls: list[Any] = []
    hook = own_bridge.blocks[1].attn.hook_out
    hook.add_hook(lambda tensor, hook: calls.append(hook))
    own_bridge.train(training).requires_grad_(training)
    before = {name: value.clone() for name, value in own_bridge.original_model.state_dict().items()}
    hooks = {name: len(point.fwd_hooks) for name, point in own_bridge.hook_dict.items()}
    assert sum(hooks.values()) > 0
    random, precision = torch.get_rng_state(), torch.get_float32_matmul_precision()
    with torch.enable_grad():
        score_heads(own_bridge, NAMES)
        assert torch.is_grad_enabled()
    after = own_bridge.original_model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(module.training == training for module in own_bridge.modules())
    assert all(p.requires_grad == training and p.grad is None for p in own_bridge.parameters())
    assert {name: len(point.fwd_hooks) for name, point in own_bridge.hook_dict.items()} == hooks
    assert not calls
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_float32_matmul_precision() == precision


# ---- errors


@pytest.mark.parametrize("first_mlp", [True, False])
@pytest.mark.parametrize("kind", MAKERS)
def test_ranks_are_those_of_brute_force(kind: str, first_mlp: bool) -> None:
    model, bridge = random_model(kind, 0, whole=False)
    found = target_ranks(bridge, PAIRS, EVERY_HEAD, first_mlp=first_mlp)
    assert found.index.names == ["layer", "head", "source", "target"]
    assert len(found) == N_LAYERS * N_HEADS * len(PAIRS)
    for k in (1, 2, D_VOCAB // 2, D_VOCAB):
        n_in_top_k, n_in_bottom_k = brute_force(model, PAIRS, k, first_mlp)
        counts = (found < k).groupby(["layer", "head"]).sum()
        assert counts["larger"].tolist() == n_in_top_k.ravel().tolist()
        assert counts["smaller"].tolist() == n_in_bottom_k.ravel().tolist()


def test_ranks_are_of_the_heads_asked_for(bridge: TransformerBridge) -> None:
    every = target_ranks(bridge, NAMES, EVERY_HEAD)
    some = target_ranks(bridge, NAMES, [(2, 1), (0, 3)])
    assert list(some.groupby(["layer", "head"]).size().index) == [(0, 3), (2, 1)]
    for head in ((0, 3), (2, 1)):
        assert some.loc[head].equals(every.loc[head])
    with pytest.raises(ParameterError, match=r"no such head: 3\.0"):
        target_ranks(bridge, NAMES, [(3, 0)])


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(kinds, seeds, ranks, st.booleans(), st.booleans(), name_lists | pair_lists)
def test_any_k_is_looked_up_in_the_ranks(
    kind: str, seed: int, max_rank: int, whole: bool, first_mlp: bool, names: list[Any]
) -> None:
    _, bridge = random_model(kind, seed, whole)
    kept = score_heads(bridge, names, 1, first_mlp, max_rank=max_rank)
    assert kept.ranks_top is not None
    assert kept.ranks_top.dtype == (np.uint8 if max_rank < 256 else np.int16)
    assert kept.ranks_top.max() <= max_rank
    for k in {1, max_rank, (1 + max_rank) // 2}:
        looked_up, scored = kept.at_k(k), score_heads(bridge, names, k, first_mlp)
        assert looked_up.k == looked_up.provenance["k"] == k
        assert np.array_equal(looked_up.in_top_k, scored.in_top_k)
        assert np.array_equal(looked_up.in_bottom_k, scored.in_bottom_k)
    with pytest.raises(ParameterError, match="whole number from 1 to"):
        kept.at_k(max_rank + 1)


def test_capped_ranks_are_the_exact_ones(bridge: TransformerBridge) -> None:
    kept = score_heads(bridge, PAIRS, max_rank=50)
    exact = target_ranks(bridge, PAIRS, EVERY_HEAD)
    assert kept.ranks_top is not None and kept.ranks_bottom is not None
    assert kept.ranks_top.ravel().tolist() == exact["larger"].clip(upper=50).tolist()
    assert kept.ranks_bottom.ravel().tolist() == exact["smaller"].clip(upper=50).tolist()


def test_without_ranks_only_the_k_scored_is_known(bridge: TransformerBridge) -> None:
    scores = score_heads(bridge, NAMES, k=3)
    assert scores.max_rank is None and scores.at_k(3) is scores
    with pytest.raises(ParameterError, match="score again with max_rank"):
        scores.at_k(2)


def test_the_names_of_a_head_are_a_frame(bridge: TransformerBridge) -> None:
    plain, kept = score_heads(bridge, NAMES, 20), score_heads(bridge, NAMES, 20, max_rank=40)
    frame = plain.names_of((2, 1))
    assert list(frame.columns) == ["in_top_k", "in_bottom_k"]
    assert list(frame.index) == list(NAMES) and frame.index.name == "name"
    assert frame["in_top_k"].tolist() == plain.in_top_k[2, 1].tolist()
    ranked = kept.names_of((2, 1))
    assert ranked["in_top_k"].sort_index().equals(frame["in_top_k"].sort_index())
    known = ranked["rank_top"].dropna()
    assert known.is_monotonic_increasing and known.lt(40).all()
    assert ((ranked["rank_top"] < 20).fillna(False) == ranked["in_top_k"]).all()
    assert score_heads(bridge, PAIRS).names_of((0, 0)).index.names == ["source", "target"]
    with pytest.raises(ParameterError, match="no such head"):
        plain.names_of((9, 9))


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [7, 1, 27])
def test_padding_rows_compete_only_where_asked(n_rows: int) -> None:
    """A planted copier, and rows beyond the tokenizer that every head writes more."""
    model = checkpoints.llama_model(D_VOCAB + n_rows, tie_word_embeddings=False)
    tokens = planted.name_tokens(TOKENIZER)
    planted.plant(model, tokens)
    W_U = model.get_output_embeddings().weight.detach()
    n = min(n_rows, len(tokens))
    W_U[D_VOCAB : D_VOCAB + n] = 3 * W_U[tokens[:n]]
    padded = planted.boot(model, TOKENIZER)
    scores = score_heads(padded, NAMES)
    assert perfect(scores.copying_score) == COPYING
    assert scores.provenance["padding_rows_left_out"] == n_rows
    assert scores.provenance["vocabulary_size"] == D_VOCAB
    counted = score_heads(padded, NAMES, include_padding=True)
    assert counted.provenance["padding_rows_left_out"] == 0
    assert counted.provenance["padding_rows_counted"] == n_rows
    assert "padding_rows_counted" not in scores.provenance
    assert figure_stem(counted) != figure_stem(scores)
    bare = planted.boot(checkpoints.llama_model(D_VOCAB), TOKENIZER)
    stems = {
        figure_stem(score_heads(bare, NAMES, include_padding=asked)) for asked in (True, False)
    }
    assert len(stems) == 1  # there is nothing to count
    assert not any(counted.in_top_k[head][:n].any() for head in COPYING)
    assert len(score_vocabulary(padded).tokens) == D_VOCAB
    assert len(score_vocabulary(padded, include_padding=True).tokens) == D_VOCAB + n_rows


def test_tokens_of_a_larger_vocabulary_are_refused(bridge: TransformerBridge) -> None:
    larger = checkpoints.make_tokenizer((*NAMES, *(f"word{i}" for i in range(40)), "Zoe"))
    other = planted.boot(checkpoints.llama_model(len(larger)), larger)
    with pytest.raises(NamesError, match="load them again with load_names"):
        score_heads(bridge, load_names(other, ["John", "Zoe"]))


@pytest.mark.parametrize(
    "k", [0, -1, True, 1.5, 1.0, "3", None, float("nan"), np.True_, [1], D_VOCAB + 1]
)
def test_k_out_of_range_or_no_whole_number_is_an_error(bridge: TransformerBridge, k: Any) -> None:
    with pytest.raises(ParameterError, match=rf"whole number from 1 to {D_VOCAB} .*, not "):
        score_heads(bridge, NAMES, k=k)


@pytest.mark.parametrize("names", [[], ["Bob"], "John", [1], ["John", None], None, 3])
def test_names_that_cannot_be_used_are_an_error(bridge: TransformerBridge, names: Any) -> None:
    with pytest.raises(NamesError):
        score_heads(bridge, names)


def test_duplicates_are_counted_once(bridge: TransformerBridge) -> None:
    with pytest.warns(UserWarning, match="counted once: John"):
        scores = score_heads(bridge, ["John", "Mary", "John"], k=100)
    assert scores.n_pairs == 2
    assert np.array_equal(
        scores.n_in_top_k, score_heads(bridge, ["John", "Mary"], k=100).n_in_top_k
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error(bad: float) -> None:
    model = checkpoints.llama_model(D_VOCAB)
    planted.output_matrices(model, 2)[3].detach()[1, 1] = bad
    with pytest.raises(WeightsError, match="W_O of layer 2, head 3 holds NaN or infinity"):
        score_heads(planted.boot(model, TOKENIZER), NAMES)
    model = checkpoints.llama_model(D_VOCAB)
    model.lm_head.weight.detach()[5, 5] = bad
    with pytest.raises(WeightsError, match=r"lm_head.*holds NaN or infinity"):
        score_heads(planted.boot(model, TOKENIZER), NAMES)


def test_processed_weights_are_an_error() -> None:
    bridge = planted.planted_model("gpt2")
    bridge.enable_compatibility_mode()
    with pytest.raises(ArchitectureError, match="processed weights"):
        score_heads(bridge, NAMES)


def test_what_is_no_model_or_no_truth_value_is_an_error(bridge: TransformerBridge) -> None:
    with pytest.raises(ParameterError, match="a model is needed"):
        score_heads(3, NAMES)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="first_mlp must be True or False"):
        score_heads(bridge, NAMES, first_mlp="no")  # type: ignore[arg-type]


def test_ranks_hold_a_k_above_16_bits() -> None:
    """A k above ``max_rank`` raises it."""
    bridge = planted.boot(checkpoints.gpt2_model(40_000, n_layer=1, n_embd=16), TOKENIZER)
    plain = score_heads(bridge, NAMES, k=39_000, include_padding=True)
    kept = score_heads(bridge, NAMES, k=39_000, include_padding=True, max_rank=10)
    assert kept.ranks_top is not None and kept.ranks_bottom is not None
    for ranks in (kept.ranks_top, kept.ranks_bottom):
        assert ranks.min() >= 0 and ranks.max() > 32_767
    assert np.array_equal(kept.in_top_k, plain.in_top_k)
    assert np.array_equal(kept.in_bottom_k, plain.in_bottom_k)
