"""Removing heads: planted copiers, against whole prompts run plainly, and bad input."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.ablation import curve as ablation
from analysis.ablation import head_ablator as head_removal
from analysis.ablation.curve import AblationCurve, ablation_curve, choose_control
from analysis.ablation.head_ablator import MODES, Answers, HeadAblator
from analysis.errors import NamesError, ParameterError
from analysis.models.precision import exact_forward
from analysis.prompts.few_shot import Task, control_tasks, few_shot, name_copying
from analysis.provenance import ModelIdentity
from analysis.statistics import cluster_mean_interval, cluster_share_interval
from tests import checkpoints, planted
from tests.made_up import scores_from_counts
from tests.planted import MAKERS
from tests.word_lists import MADE_UP_NAMES as NAMES

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

WORDS = tuple(f"{a}{b}ord" for a in "bcdfgh" for b in ("lo", "ma", "ni", "pe", "ru", "sti", "to"))
TOKENIZER = checkpoints.make_tokenizer((*NAMES, *WORDS))
D_VOCAB = len(TOKENIZER)
COPYING = ((0, 1), (1, 3), (2, 0))
SUPPRESSING = ((1, 0), (2, 2))
PAIRS = tuple(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))
EVERY = [(layer, head) for layer in range(3) for head in range(4)]


@functools.cache
def random_model(kind: str) -> TransformerBridge:
    return planted.boot(MAKERS[kind](D_VOCAB), TOKENIZER)


@functools.cache
def copier() -> TransformerBridge:
    """A model that copies names by its planted heads alone.

    Names are one-hot. A position vector marks the place of the asked name, another the last one,
    and from the last every head looks at the name. Planted heads take a name to a code of d_head
    numbers and from there to its own direction, or away from it. Nothing else of note is written.
    """
    model = checkpoints.gpt2_model(D_VOCAB, n_embd=64)
    names = planted.name_tokens(TOKENIZER, NAMES)
    task = name_copying(random_model("gpt2"), NAMES)
    last = task.tokens.shape[1] - 1
    asked = int((task.tokens[0] == task.answers[0]).nonzero()[-1])
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(len(NAMES), 16, generator=generator)
    codes -= codes.mean(0)  # LayerNorm adds the same to all names, which then cancels
    codes /= codes.norm(dim=1).mean()
    with torch.no_grad():
        inner = model.transformer
        inner.wte.weight.mul_(0.05)
        inner.wte.weight[:, :32] = 0
        inner.wte.weight[names] = torch.eye(len(NAMES), 64)
        inner.wpe.weight.zero_()
        inner.wpe.weight[:, 50] = 8  # so that LayerNorm blows up no small vector
        inner.wpe.weight[asked, 48] = inner.wpe.weight[last, 49] = 8
        for layer, block in enumerate(inner.h):
            for part in (block.mlp.c_proj, block.attn.c_attn, block.attn.c_proj):
                part.bias.zero_()
            block.mlp.c_proj.weight.zero_()
            for norm in (block.ln_1, block.ln_2):
                norm.weight.fill_(1)
                norm.bias.zero_()
            queries_keys = block.attn.c_attn.weight[:, :128]
            queries_keys.zero_()
            queries_keys[49, :64:16] = queries_keys[48, 64::16] = 2
            W_V, W_O = planted.value_matrices(model, layer), planted.output_matrices(model, layer)
            W_V *= 0.02
            W_O *= 0.02
            for heads, sign in ((COPYING, 4.0), (SUPPRESSING, -1.0)):
                for head in (h for la, h in heads if la == layer):
                    W_V[head], W_O[head] = 0, 0
                    W_V[head, :32], W_O[head, :, :32] = codes, sign * codes.T
        inner.ln_f.weight.fill_(1)
        inner.ln_f.bias.zero_()
    return planted.boot(model, TOKENIZER, name="copier")


@functools.cache
def curve_of(heads: tuple[tuple[int, int], ...]) -> AblationCurve:
    return ablation_curve(copier(), NAMES, heads, n_draws=20)


# ---- planted heads


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_removing_the_planted_heads_takes_accuracy_to_chance_and_random_ones_do_not(
    mode: str,
) -> None:
    curve = curve_of(COPYING)
    accuracy = curve.given(mode)["accuracy"]
    assert accuracy.index.tolist() == [0, 1, 2, 3]
    assert accuracy.iloc[0] > 0.9
    assert accuracy.iloc[-1] <= 2 / len(NAMES)  # chance is one name of all
    band = curve.random_band(mode, "accuracy")
    assert (band["low"] > 0.9).all()
    draws = curve.frame.loc[(mode, "names copied", "random")].index.get_level_values("draw")
    assert draws.nunique() == 20


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_removing_the_suppressing_heads_raises_the_names_log_probability(mode: str) -> None:
    change = curve_of(SUPPRESSING).given(mode)["change"]
    assert change.iloc[0] == 0
    assert (np.diff(change) > 0.05).all()
    copying = curve_of(COPYING).given(mode)["change"]
    assert copying.iloc[-1] < -1


@pytest.mark.slow
def test_the_control_table_says_what_is_shared_and_what_is_fair() -> None:
    curve = curve_of(COPYING)
    table = curve.controls
    assert table.index.tolist() == ["words copied", "next year"]
    fair = (table["gap"] < 0.2) & (table["shared"] < 0.15)
    assert table["fair"].tolist() == fair.tolist()
    assert curve.control is None or table.loc[curve.control, "fair"]


def test_the_fair_control_nearest_in_accuracy_is_chosen() -> None:
    model = copier()
    controls = control_tasks(model)
    accuracy = {"names copied": 0.5, "words copied": 0.45, "next year": 0.6}
    table = choose_control(model, accuracy, controls, "names copied", EVERY)
    assert (table["shared"] == 0).all()  # no head scores above 0 for either
    assert table["chosen"].tolist() == [True, False]
    far = choose_control(
        model, accuracy | {"names copied": 0.9}, controls, "names copied", [(0, 0)]
    )
    assert not far["fair"].any()
    assert far["gap"].round(6).tolist() == [0.45, 0.3]


def test_of_two_fair_controls_the_nearer_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    task = name_copying(random_model("gpt2"), NAMES)
    names = ["far and fair", "near and fair", "near and shared", "too far"]
    accuracy = dict(zip([task.name, *names], [0.5, 0.65, 0.45, 0.5, 0.75], strict=True))
    shared = dict(zip(names, [0.0, 0.125, 0.25, 0.0], strict=True))
    monkeypatch.setattr(ablation, "_shared", lambda model, control, heads: shared[control.name])
    controls = [replace(task, name=name) for name in names]
    table = choose_control(random_model("gpt2"), accuracy, controls, task.name, COPYING)
    assert table["fair"].tolist() == [True, True, False, False]
    assert table.index[table["chosen"]].tolist() == ["near and fair"]


@pytest.mark.slow
def test_shared_are_the_removed_heads_among_the_controls_own_best() -> None:
    hf = checkpoints.gpt2_model(D_VOCAB, n_embd=64)
    planted.plant(hf, planted.name_tokens(TOKENIZER, NAMES))
    model = planted.boot(hf, TOKENIZER)
    control = name_copying(model, NAMES)  # the planted copiers are best at it, the others bad
    one, two, three = planted.COPYING
    for heads, share in (
        ((one, two, three), 1),
        ((one, two, (1, 2)), 2 / 3),
        ((three, (0, 3), *planted.SUPPRESSING[:1]), 1 / 3),
        (planted.SUPPRESSING, 0),
    ):
        table = choose_control(model, {control.name: 0.5}, [control], control.name, heads)
        assert table.loc[control.name, "shared"] == pytest.approx(share)


@pytest.mark.slow
def test_heads_that_score_0_for_a_control_are_none_of_its_best() -> None:
    hf = checkpoints.gpt2_model(D_VOCAB)
    planted.plant(hf, planted.name_tokens(TOKENIZER, NAMES), copying=[(0, 1)], suppressing=[])
    for block in hf.transformer.h:
        block.attn.c_proj.weight.data[16:] = 0  # heads 2 and 3 of every layer write nothing
    model = planted.boot(hf, TOKENIZER)
    control = name_copying(model, NAMES)
    silent = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 2), (2, 3)]
    table = choose_control(model, {control.name: 0.5}, [control], control.name, silent)
    assert table.loc[control.name, "shared"] == 0 and table.loc[control.name, "fair"]
    with_the_best = [(0, 1), *silent[:3]]
    table = choose_control(model, {control.name: 0.5}, [control], control.name, with_the_best)
    assert table.loc[control.name, "shared"] == pytest.approx(1 / 3), "three score above 0"


def test_shared_is_a_share_of_the_controls_own_best_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    task = name_copying(random_model("gpt2"), NAMES)
    heads = [(0, 0), (0, 1), (0, 2), (0, 3)]
    for counts, shared in (
        ([9, 0, 0, 0, 0, 0], 1.0),  # its only good head is removed
        ([9, 0, 0, 0, 8, 0], 0.5),
        ([9, 0, 0, 0, 8, 7], 1 / 3),
        ([9, 1, 2, 0, 8, 7], 0.5),  # of its four best
        ([0, 0, 0, 0, 8, 7], 0.0),
        ([0, 0, 0, 0, 0, 0], 0.0),
    ):
        scores = scores_from_counts(np.array([counts]))
        monkeypatch.setattr(ablation, "score_heads", lambda *given, scores=scores, **k: scores)
        table = choose_control(random_model("gpt2"), {task.name: 0.5}, [task], task.name, heads)
        assert table.loc[task.name, "shared"] == shared
        assert bool(table.loc[task.name, "fair"]) == (shared == 0)


# ---- against whole prompts run plainly


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task_name", ["names copied", "next year"])
@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_what_is_measured_is_what_whole_prompts_give(kind: str, task_name: str, mode: str) -> None:
    model = random_model(kind)
    tasks: dict[str, Task] = {task.name: task.draw(30, 0) for task in control_tasks(model)}
    tasks["names copied"] = name_copying(model, NAMES)
    task = tasks[task_name]
    cases = [[], [(0, 1)], [(2, 3), (0, 0), (2, 1)], [(1, h) for h in range(4)]]
    found = HeadAblator(model, task).measure(cases, mode)
    n = task.answers.shape[1]
    with exact_forward(model):
        _, cache = model.run_with_cache(task.tokens)
    for case, heads in enumerate(cases):

        def replace(z: Tensor, hook: Any, heads: list[tuple[int, int]] = heads) -> Tensor:
            z = z.clone()
            for layer, head in heads:
                if hook.name.startswith(f"blocks.{layer}."):
                    clean = cache[f"blocks.{layer}.attn.hook_z"][:, -n:, head]
                    z[:, -n:, head] = clean.mean(0) if mode == "mean" else 0
            return z

        hooks = [(f"blocks.{layer}.attn.hook_z", replace) for layer in range(3)]
        with exact_forward(model):
            logits = model.run_with_hooks(task.tokens, fwd_hooks=hooks)[:, -n:]
        own = logits.log_softmax(-1).gather(2, task.answers[..., None]).sum((1, 2))
        right = (logits.argmax(-1) == task.answers).all(1)
        assert found.log_probability[case] == pytest.approx(own.numpy(), abs=1e-12)
        assert np.array_equal(found.right[case], right.numpy())


@torch.no_grad()
def test_the_mean_is_over_all_prompts_whatever_goes_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head_removal, "ROWS", 7)  # the last batch is smaller than the others
    model = random_model("llama")
    task = name_copying(model, NAMES)
    _, cache = model.run_with_cache(task.tokens)
    found = HeadAblator(model, task).mean_z
    for layer in range(3):
        name = f"blocks.{layer}.attn.hook_z"
        expected = cache[name][:, -1:].double().mean(0)
        assert torch.allclose(found[name].double().cpu(), expected, atol=1e-5)


@torch.no_grad()
def test_an_answer_is_right_and_likely_by_every_token_of_it() -> None:
    model = random_model("gpt2")
    pairs = [(name, letter) for name, letter in zip(NAMES, "abcdefgh" * 4, strict=True)]
    task = few_shot(model, "letters", pairs, (("John", "y"), ("Donna", "z")))
    assert task.answers.shape == (32, 2)  # a space and a letter
    logits = model(task.tokens)[:, -2:].double()
    answers = logits.argmax(-1)
    answers[8:20, 0] = (answers[8:20, 0] + 1) % D_VOCAB
    answers[16:32, 1] = (answers[16:32, 1] + 1) % D_VOCAB  # 8 wrong first, 12 last, 4 in both
    found = HeadAblator(model, replace(task, answers=answers)).measure([()], "zero")
    own = logits.log_softmax(-1).gather(2, answers[..., None])[..., 0]
    assert found.right[0].tolist() == [True] * 8 + [False] * 24
    assert found.log_probability[0] == pytest.approx((own[:, 0] + own[:, 1]).numpy(), abs=1e-4)


def test_the_change_is_from_nothing_removed_for_random_heads_too() -> None:
    curve = ablation_curve(
        random_model("gpt2"), NAMES, [(0, 0), (1, 1)], n_draws=3, modes="zero", controls=[]
    )
    likely = curve.frame["log_probability"].unstack("removed")
    change = curve.frame["change"].unstack("removed")
    assert len(change) == 4  # the given heads and three draws
    assert (change[0] == 0).all()
    for removed in (1, 2):
        assert change[removed].to_numpy() == pytest.approx((likely[removed] - likely[0]).to_numpy())
        assert (change[removed].abs() > 1e-6).all()


def test_the_band_holds_nine_tenths_of_the_draws() -> None:
    keys = [("zero", "t", "given", 0, 1), *(("zero", "t", "random", d, 1) for d in range(21))]
    index = pd.MultiIndex.from_tuples(keys, names=["mode", "task", "heads", "draw", "removed"])
    frame = pd.DataFrame({"accuracy": [5.0, *np.arange(21) / 20]}, index)
    curve = AblationCurve(frame, pd.DataFrame(), ((0, 0),), "t", 30, ModelIdentity("m", "M"), {})
    band = curve.random_band("zero", "accuracy")
    assert band.index.tolist() == [1]
    assert band[["low", "mean", "high"]].to_numpy() == pytest.approx(np.array([[0.05, 0.5, 0.95]]))


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"heads": [(3, 0)]}, ParameterError, "no such head: 3.0; the model has layers 0 to 2"),
        ({"heads": [(0, 4)]}, ParameterError, "no such head: 0.4"),
        ({"heads": [(-1, 0)]}, ParameterError, "no such head: -1.0"),
        ({"heads": [(0, 0), (0, 0)]}, ParameterError, "given more than once"),
        ({"heads": [*EVERY, (0, 0)]}, ParameterError, "13 heads are given, more than the 12"),
        ({"heads": EVERY[:7]}, ParameterError, "leave only 5 to draw"),
        ({"heads": [3]}, ParameterError, "a head is .layer, head."),
        ({"heads": None}, ParameterError, "must be a list of pairs"),
        ({"removed": [2]}, ParameterError, "removed heads must be a whole number from 0 to 1"),
        ({"removed": [-1]}, ParameterError, "from 0 to 1, not -1"),
        ({"modes": ["noise"]}, ParameterError, "modes must be some of zero, mean"),
        ({"n_draws": 0}, ParameterError, "n_draws"),
        ({"modes": None}, ParameterError, "modes must be a list"),
        ({"modes": []}, ParameterError, "modes must be some of"),
        ({"removed": [0]}, ParameterError, "a number above 0"),
        ({"removed": 1}, ParameterError, "a list of whole numbers"),
        ({"controls": ["next year"]}, ParameterError, "a control must be what control_tasks"),
        ({"seed": -1}, ParameterError, "seed must be a whole number from 0"),
        ({"n_prompts": "30"}, ParameterError, "n_prompts must be a whole number"),
        ({"n_prompts": 29}, ParameterError, "n_prompts must be a whole number of at least 30"),
        ({"names": NAMES[:29]}, NamesError, "at least 30 names"),
        ({"names": PAIRS}, NamesError, "of another relation .*: give names"),
    ],
)
def test_bad_input_is_one_clear_error(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"names": NAMES, "heads": [(0, 0)]} | arguments
    with pytest.raises(error, match=message):
        ablation_curve(random_model("gpt2"), **given)


def test_two_tasks_of_one_name_are_refused() -> None:
    model = random_model("gpt2")
    pairs = [(name, NAMES[n - 1]) for n, name in enumerate(NAMES)]
    own, same = (few_shot(model, name, pairs, pairs[:2]) for name in ("names copied", "mine"))
    for controls, twice in (([own], "names copied"), ([same, same], "mine")):
        with pytest.raises(ParameterError, match=f"two tasks are called '{twice}'"):
            ablation_curve(model, NAMES, [(0, 0)], controls=controls)


# ---- intervals, random heads, no heads


def test_the_intervals_are_over_prompts_and_know_their_clusters() -> None:
    model = random_model("llama")
    task = name_copying(model, NAMES)
    rng = np.random.default_rng(0)
    right, likely = rng.random((1, 32)) < 0.6, rng.normal(size=(1, 32))
    clean = Answers(right, likely)
    answers = Answers(rng.random((1, 32)) < 0.3, likely - 1 + rng.normal(size=(1, 32)))
    row = ablation._row(task, answers, clean, 0)
    assert task.clusters.tolist() == np.argsort(np.argsort(task.answers[:, 0].numpy())).tolist()
    assert (row["accuracy_low"], row["accuracy_high"]) == cluster_share_interval(
        answers.right[0], np.arange(32)
    )
    change = answers.log_probability[0] - likely[0]
    mean, low, high = map(float, cluster_mean_interval(change, np.arange(len(change))))
    assert (row["change"], row["change_low"], row["change_high"]) == pytest.approx(
        (mean, low, high)
    )
    years = next(t for t in control_tasks(model) if t.name == "next year")
    endings = [target[-1] for _, target in years.pairs]
    together = set(zip(endings, years.clusters.tolist(), strict=True))
    assert len(together) == len(set(endings)) == len(set(years.clusters)) >= 9


def test_the_accuracys_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = {"one answer each": 0, "ten answers": 0}
    for _ in range(600):
        share = rng.beta(3, 2)
        for case, clusters in (
            ("one answer each", np.arange(120)),
            ("ten answers", np.arange(120) % 10),
        ):
            chance = np.full(120, share)
            if case == "ten answers":  # some answers are easier than others
                chance = rng.beta(10 * share, 10 * (1 - share), size=10)[clusters]
            low, high = cluster_share_interval(rng.random(120) < chance, clusters)
            covered[case] += low <= share <= high
    assert all(0.92 <= n / 600 <= 0.99 for n in covered.values()), covered


def test_random_heads_can_be_matched_by_layer() -> None:
    model = random_model("gpt2")
    given = [(2, 0), (1, 1), (2, 3)]
    for order in ablation._random_orders(model, given, 30, 0, layer_matched=True):
        assert [layer for layer, _ in order] == [2, 1, 2]
        assert len(set(order)) == 3 and not set(order) & set(given)
    crowded = [(2, 0), (2, 1), (2, 2)]  # one other head is left in layer 2
    for order in ablation._random_orders(model, crowded, 5, 0, layer_matched=True):
        assert [layer for layer, _ in order] == [2, 1, 1] and not set(order) & set(crowded)
    curve = ablation_curve(
        model, NAMES, given, removed=[3], n_draws=2, modes="zero", controls=[], layer_matched=True
    )
    assert curve.provenance["random_heads"] == "layer-matched"


@pytest.mark.slow
def test_where_no_head_is_given_the_clean_run_is_measured() -> None:
    curve = ablation_curve(random_model("gpt2"), NAMES, [], n_draws=2, removed=[0, 0])
    assert curve.heads == () and curve.n_prompts == len(NAMES)
    assert curve.given("zero").index.tolist() == [0]
    assert curve.random_band("mean", "accuracy").index.tolist() == [0]
    assert (curve.controls["shared"] == 0).all()


@pytest.mark.parametrize(("heads", "n_near_ties"), [([], 1), ([(0, 0), (1, 1)], 1 + 2 * 2 * 4)])
def test_near_ties_are_counted_once_for_each_run(
    monkeypatch: pytest.MonkeyPatch, heads: list[tuple[int, int]], n_near_ties: int
) -> None:
    """As if each had one: clean, and for 2 modes 1 or 2 heads removed in 4 orders."""
    answers = Answers(np.ones((8, 32), bool), np.zeros((8, 32)))
    monkeypatch.setattr(HeadAblator, "__init__", lambda self, model, task: None)
    monkeypatch.setattr(
        HeadAblator,
        "measure",
        lambda self, cases, *given: replace(answers, n_near_ties=len(cases)),
    )
    curve = ablation_curve(random_model("gpt2"), NAMES, heads, n_draws=3, controls=[])
    assert curve.provenance["near_ties"] == n_near_ties
    assert curve.provenance["prepend_bos"] is True, "as to_tokens does"


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_prompts_can_be_without_bos(kind: str) -> None:
    model = random_model(kind)
    bare = name_copying(model, NAMES, prepend_bos=False)
    whole = name_copying(model, NAMES)
    n_lead = whole.tokens.shape[1] - bare.tokens.shape[1]
    assert torch.equal(whole.tokens[:, n_lead:], bare.tokens)
    assert n_lead == model.to_tokens("a").shape[1] - 1
    one, other = (
        ablation_curve(model, NAMES, [(0, 0)], n_draws=1, modes="zero", prepend_bos=prepend)
        for prepend in (None, False)
    )
    assert one.frame.equals(other.frame) == (n_lead == 0)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve() -> None:
    model = random_model("llama")
    one, two = (ablation_curve(model, NAMES, [(0, 0)], n_draws=3, seed=4) for _ in range(2))
    assert one.frame.equals(two.frame) and one.controls.equals(two.controls)
