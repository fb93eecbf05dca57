"""Dynamic scores against plain computations, planted heads, and batches of any size."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.dynamic import scores as dynamic
from analysis.dynamic.one_prompt import top_logits_of_head
from analysis.dynamic.scores import CONTEXTS, DynamicScores, decide_written, dynamic_scores
from analysis.errors import ArchitectureError, NamesError, ParameterError, PromptError, WeightsError
from analysis.exact.head_logits import OV
from analysis.exact.topk import decide_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.models.precision import exact_forward
from analysis.names import TokenPairs, load_names, token_pairs
from analysis.prompts.templates import SLOT, TEMPLATES
from analysis.weights import output_weights, ov_weights, unembedding_matrix, value_weights
from tests import checkpoints, planted
from tests.planted import MAKERS
from tests.word_lists import MADE_UP_NAMES as NAMES

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

TOKENIZER = checkpoints.make_tokenizer(NAMES)
D_VOCAB = len(TOKENIZER)
N_LAYERS, N_HEADS = 3, 4
TEMPLATES_HERE = ("No <X> means no", "About <X>", " <X> and so on")


@functools.cache
def model_of(kind: str) -> TransformerBridge:
    return planted.boot(MAKERS[kind](D_VOCAB), TOKENIZER)


@functools.cache
def scores_of(kind: str, k: int) -> DynamicScores:
    return dynamic_scores(model_of(kind), NAMES, TEMPLATES_HERE, k=k)


def plain_answers(
    z: Tensor, W_O: Tensor, W_U: Tensor, targets: Tensor, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top and bottom k with every logit in float64, and which decisions rounding of z may turn."""
    logits = z.double() @ W_O.double() @ W_U.double()
    difference = logits - logits[torch.arange(len(targets)), targets][:, None]
    top, bottom = (difference > 0).sum(1) < k, (difference < 0).sum(1) < k
    difference[torch.arange(len(targets)), targets] = float("nan")  # no competitor of itself
    others = difference[~difference.isnan()].view(len(targets), -1)
    margins = torch.stack(
        [others.topk(k, largest=end).values[:, -1].abs() for end in (True, False)]
    )
    close = margins.amin(0) < 1e-5 * logits.abs().amax(1)
    return top.numpy(), bottom.numpy(), close.numpy()


def parts(model: TransformerBridge, layer: int, head: int) -> tuple[Tensor, Tensor]:
    return output_weights(model, layer)[head], unembedding_matrix(model)


def agrees(
    found: DynamicScores, at: tuple[int, int, int, int], expected: tuple[np.ndarray, ...]
) -> None:
    top, bottom, close = expected
    assert close.mean() < 0.1
    assert np.array_equal(found.in_top_k[at][~close], top[~close])
    assert np.array_equal(found.in_bottom_k[at][~close], bottom[~close])


# ---- against plain computations, for every head of three architectures


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_with_context_is_what_the_cached_activations_give(kind: str, k: int) -> None:
    model, found = model_of(kind), scores_of(kind, k)
    targets = planted.name_tokens(TOKENIZER, NAMES)
    for t, template in enumerate(TEMPLATES_HERE):
        for i, name in enumerate(NAMES[:6]):  # one by one, whole prompts
            _, cache = model.run_with_cache(model.to_tokens(template.replace(SLOT, name)))
            for layer in range(N_LAYERS):
                for head in range(N_HEADS):
                    z = cache[f"blocks.{layer}.attn.hook_z"][:, -1, head]
                    top, bottom, close = plain_answers(
                        z, *parts(model, layer, head), targets[i : i + 1], k
                    )
                    if not close[0]:
                        assert found.in_top_k[t, 0, layer, head, i] == top[0]
                        assert found.in_bottom_k[t, 0, layer, head, i] == bottom[0]


def plain_value(model: TransformerBridge, kind: str, layer: int, head: int, x: Tensor) -> Tensor:
    """The value of one head from its layer's input ``[n, d_model]``: norm, W_V and bias by hand."""
    block = model.blocks[layer]
    norm = block.ln1
    if kind == "llama":
        eps = model.original_model.config.rms_norm_eps
        x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * norm.weight.double()
    else:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        x = x * norm.weight.double() + norm.bias.double()
    W_V = value_weights(model, layer)
    group = N_HEADS // len(W_V)
    v = x @ W_V[head // group].double()
    bias = block.attn.b_V
    return v if bias is None else v + bias.reshape(len(W_V), -1)[head // group].double()


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_without_context_is_the_value_at_the_name_by_hand(kind: str, k: int) -> None:
    model, found = model_of(kind), scores_of(kind, k)
    targets = planted.name_tokens(TOKENIZER, NAMES)
    for t, template in enumerate(TEMPLATES_HERE):
        tokens = torch.cat([model.to_tokens(template.replace(SLOT, name)) for name in NAMES])
        position = int((tokens == targets[:, None]).int().argmax(1)[0])
        _, cache = model.run_with_cache(tokens)
        for layer in range(N_LAYERS):
            x = cache[f"blocks.{layer}.hook_in"][:, position].double()
            for head in range(N_HEADS):
                z = plain_value(model, kind, layer, head, x)
                expected = plain_answers(z, *parts(model, layer, head), targets, k)
                agrees(found, (t, 1, layer, head), expected)


def test_there_is_something_to_count() -> None:
    for kind in MAKERS:
        found = scores_of(kind, 20)
        assert 0 < found.n_in_top_k.sum() < found.in_top_k.size
        assert 0 < found.n_in_bottom_k.sum() < found.in_top_k.size
        assert not np.array_equal(found.in_top_k[:, 0], found.in_top_k[:, 1])


@pytest.mark.slow
def test_a_head_that_reads_the_embedding_copies_when_it_attends_to_the_name() -> None:
    """Planted in layer 0 of a model whose norm keeps the embedding's direction."""
    model = checkpoints.llama_model(D_VOCAB, hidden_size=64)
    with torch.no_grad():
        for layer in planted.layers(model):
            layer.input_layernorm.weight.fill_(1.0)
        planted.plant(model, planted.name_tokens(TOKENIZER, NAMES), with_first_mlp=False,
                      copying=[(0, 1)], suppressing=[(0, 2)])  # fmt: skip
    found = dynamic_scores(planted.boot(model, TOKENIZER), NAMES, TEMPLATES_HERE).to_frame()
    alone = found.xs(("without", 0), level=("context", "layer"))
    assert (alone.xs(1, level="head")["copying_score"] == 1).all()
    assert (alone.xs(2, level="head")["suppression_score"] == 1).all()


@pytest.mark.slow
def test_of_a_pair_the_source_is_read_and_the_target_asked_about() -> None:
    """A head of layer 0 is planted that takes every name to the next."""
    model = checkpoints.llama_model(D_VOCAB, hidden_size=64)
    sources, nexts = NAMES, NAMES[1:] + NAMES[:1]
    tokens = [planted.name_tokens(TOKENIZER, names) for names in (sources, nexts)]
    with torch.no_grad():
        planted.layers(model)[0].input_layernorm.weight.fill_(1.0)
        planted.plant(model, *tokens, with_first_mlp=False, copying=[(0, 1)], suppressing=[])
    bridge = planted.boot(model, TOKENIZER)
    pairs = list(zip(sources, nexts, strict=True))
    for asked, score in ((pairs, 1), (list(sources), 0)):
        found = dynamic_scores(bridge, asked, TEMPLATES_HERE).to_frame()
        alone = found.xs(("without", 0, 1), level=("context", "layer", "head"))
        assert (alone[found.columns[0]] == score).all()


# ---- the same numbers, whatever the batches


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_any_batch_size_gives_the_same_numbers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(kind)
    monkeypatch.setattr(dynamic, "RUN_TOGETHER", 8)
    parts = []
    mixed = dynamic.head_z

    def counted(model: Any, prompts: Any, part: slice, done: Any) -> Any:
        parts.append(part)
        return mixed(model, prompts, part, done)

    monkeypatch.setattr(dynamic, "head_z", counted)
    expected = dynamic_scores(model, NAMES, TEMPLATES_HERE, k=20)
    assert len(parts) == len(TEMPLATES_HERE), "all names at once"
    for batch_size in (1, 7, 16):
        parts.clear()
        found = dynamic_scores(model, NAMES, TEMPLATES_HERE, k=20, batch_size=batch_size)
        assert len(parts) >= 2 * len(TEMPLATES_HERE), "names in several batches"
        assert np.array_equal(found.in_top_k, expected.in_top_k)
        assert np.array_equal(found.in_bottom_k, expected.in_bottom_k)


def test_a_name_given_twice_is_counted_once() -> None:
    with pytest.warns(UserWarning, match="counted once"):
        found = dynamic_scores(model_of("gpt2"), [*NAMES, *NAMES[:3]], TEMPLATES_HERE, k=20)
    assert np.array_equal(found.in_top_k, scores_of("gpt2", 20).in_top_k)


def test_the_frame_has_a_row_for_each_template_context_layer_and_head() -> None:
    found = scores_of("llama", 20)
    frame = found.to_frame()
    assert list(frame.index.names) == ["template", "context", "layer", "head"]
    assert list(frame.columns) == ["copying_score", "suppression_score"]
    assert len(frame) == len(TEMPLATES_HERE) * 2 * N_LAYERS * N_HEADS
    for t, template in enumerate(TEMPLATES_HERE):
        for c, context in enumerate(CONTEXTS):
            row = frame.loc[(template, context, 2, 3)]
            assert row["copying_score"] == found.in_top_k[t, c, 2, 3].mean()
            assert row["suppression_score"] == found.in_bottom_k[t, c, 2, 3].mean()


def test_running_changes_nothing() -> None:
    model = model_of("gpt2")
    before = {name: value.clone() for name, value in model.original_model.state_dict().items()}
    random, precision = torch.get_rng_state(), torch.get_float32_matmul_precision()
    dynamic_scores(model, NAMES, TEMPLATES_HERE)
    after = model.original_model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_float32_matmul_precision() == precision


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_several_threads_on_one_model_give_each_its_own_answers(kind: str) -> None:
    """Scores with two settings of k and a followed head at once, none from another's pass."""
    model = model_of(kind)
    alone = top_logits_of_head(model, NAMES[0], (1, 1), n=3)

    def scored(k: int) -> DynamicScores:
        return dynamic_scores(model, NAMES, TEMPLATES_HERE, k=k)

    with ThreadPoolExecutor(4) as pool:
        followed = pool.submit(top_logits_of_head, model, NAMES[0], (1, 1), n=3)
        found = list(pool.map(scored, [20, 1, 20, 1]))
    for k, one in zip([20, 1, 20, 1], found, strict=True):
        assert np.array_equal(one.in_top_k, scores_of(kind, k).in_top_k)
        assert np.array_equal(one.in_bottom_k, scores_of(kind, k).in_bottom_k)
    pd.testing.assert_frame_equal(followed.result(), alone)


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"names": NAMES[:29]}, NamesError, "at least 30 names"),
        ({"templates": []}, ParameterError, "at least one"),
        ({"templates": 5}, ParameterError, "templates must be a list"),
        ({"templates": [TEMPLATES[0], TEMPLATES[0]]}, ParameterError, "different"),
        ({"templates": ["no slot"]}, PromptError, "no slot"),
        ({"templates": "two <X> <X>"}, PromptError, "2 slots"),
        ({"k": 0}, ParameterError, "k must be a whole number"),
        ({"batch_size": 0}, ParameterError, "batch_size"),
        ({"batch_size": 1.5}, ParameterError, "batch_size"),
    ],
)
def test_bad_input_is_one_clear_error(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dynamic_scores(model_of("gpt2"), **({"names": NAMES} | arguments))


def test_a_model_in_training_mode_is_refused() -> None:
    model = planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER).train()
    with pytest.raises(ArchitectureError, match="training mode"):
        dynamic_scores(model, NAMES)


def test_what_overflows_as_the_model_runs_is_an_error_that_names_the_head() -> None:
    z = torch.zeros(5, N_HEADS, 8, dtype=torch.float64)
    dynamic._check_written(model_of("gpt2"), z, 1)
    z[3, 2, 1] = torch.inf
    with pytest.raises(WeightsError, match=r"head 1\.2 mixes is infinite"):
        dynamic._check_written(model_of("gpt2"), z, 1)


# ---- prompts without BOS, near-ties, settings


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_prompts_can_be_with_and_without_bos(kind: str) -> None:
    model = model_of(kind)
    tokens = model.to_tokens("No Ael means no")
    has_bos = int(tokens[0, 0]) == TOKENIZER.bos_token_id
    without = dynamic_scores(model, NAMES, ["No <X> means no"], k=20, prepend_bos=False)
    assert without.provenance["prepend_bos"] is False
    with exact_forward(model):
        _, cache = model.run_with_cache(tokens[:, int(has_bos) :])
    i = NAMES.index("Ael")
    targets = planted.name_tokens(TOKENIZER, NAMES)[i : i + 1]
    for layer in range(N_LAYERS):
        for head in range(N_HEADS):
            z = cache[f"blocks.{layer}.attn.hook_z"][:, -1, head]
            top, bottom, _ = plain_answers(z, *parts(model, layer, head), targets, 20)
            assert without.in_top_k[0, 0, layer, head, i] == top[0]
            assert without.in_bottom_k[0, 0, layer, head, i] == bottom[0]
    usual = dynamic_scores(model, NAMES, ["No <X> means no"], k=20)
    assert usual.provenance["prepend_bos"] is has_bos
    assert np.array_equal(usual.in_top_k, without.in_top_k) != has_bos
    with pytest.raises(ParameterError, match="prepend_bos must be True or False"):
        dynamic_scores(model, NAMES, prepend_bos="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(("lead", "ties"), [(0.0, 0), (1e-12, 1), (1e-8, 0)])
def test_a_rival_within_the_margin_is_a_tie_and_is_counted(lead: float, ties: int) -> None:
    """Token 1 leads the target, token 0, by this much; its row differs in another direction."""
    z = torch.tensor([[[1.0, 0, 0, 0]]], dtype=torch.float64)
    rows = torch.tensor([[1, 0, 0, 0], [1 + lead, 1, 0, 0], [0.5, 0, 1, 0]], dtype=torch.float64)
    itself = torch.eye(4, dtype=torch.float64)
    target = torch.tensor([0])
    (decided,) = decide_written(z, target, itself[None], Vocabulary(rows.T), 1)
    assert bool(decided.in_top_k[0]) == (lead < 1e-10)
    assert decided.n_near_ties == ties
    plain = OV(itself, itself, z[:, 0])
    (without_margin,) = decide_heads(z[:, 0], target, [plain], Vocabulary(rows.T), 1)
    assert bool(without_margin.in_top_k[0]) == (lead == 0) and not without_margin.n_near_ties


def test_near_ties_are_recorded() -> None:
    found = scores_of("gpt2", 20)
    assert found.provenance["near_ties"] == found.n_near_ties == 0
    assert found.provenance["margin"] == 1e-10 and found.provenance["forward_dtype"] == "float64"


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["device", "autocast", "float16", "float64", "medium"])
@pytest.mark.parametrize("kind", MAKERS)
def test_the_answers_do_not_follow_the_users_settings(kind: str, setting: str) -> None:
    model, expected = model_of(kind), scores_of(kind, 20)
    try:
        if setting.startswith("float"):
            torch.set_default_dtype(getattr(torch, setting))
        if setting == "medium":
            torch.set_float32_matmul_precision("medium")
        with (
            torch.device("meta" if setting == "device" else "cpu"),
            torch.autocast("cpu", enabled=setting == "autocast"),
        ):
            found = dynamic_scores(model, NAMES, TEMPLATES_HERE, k=20)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
    assert np.array_equal(found.in_top_k, expected.in_top_k)
    assert np.array_equal(found.in_bottom_k, expected.in_bottom_k)


# ---- the packaged model


@pytest.fixture(scope="module")
def few(smollm2: TransformerBridge) -> TokenPairs:
    return token_pairs(smollm2, load_names(smollm2).sources[:30])


@pytest.mark.slow
@torch.no_grad()
def test_ten_heads_of_smollm2_are_as_computed_plainly(
    smollm2: TransformerBridge, few: TokenPairs
) -> None:
    template = TEMPLATES[2]
    found = dynamic_scores(smollm2, few, [template])
    tokens = torch.cat([smollm2.to_tokens(template.replace(SLOT, n)) for n in few.sources])
    _, cache = smollm2.run_with_cache(tokens)
    targets = torch.tensor(few.target_tokens)
    W_U = unembedding_matrix(smollm2).double()
    heads = [(0, 0), (3, 4), (10, 8), (16, 2), (21, 5), (23, 0), (23, 2), (23, 3), (24, 4), (29, 7)]
    for layer, head in heads:
        W_O = output_weights(smollm2, layer)[head]
        z = cache[f"blocks.{layer}.attn.hook_z"][:, -1, head]
        agrees(found, (0, 0, layer, head), plain_answers(z, W_O, W_U, targets, 1))
        x = cache[f"blocks.{layer}.hook_in"][:, -1].double()  # the name is the last token
        weight = smollm2.blocks[layer].ln1.weight.double()
        normed = x / (x.square().mean(-1, keepdim=True) + smollm2.cfg.eps).sqrt() * weight
        W_V, _ = ov_weights(smollm2, layer, head)
        agrees(found, (0, 1, layer, head), plain_answers(normed @ W_V, W_O, W_U, targets, 1))
    assert found.n_in_top_k.max() > 20
