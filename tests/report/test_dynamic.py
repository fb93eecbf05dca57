"""The figures and sentences that hold static against dynamic scores, and one head followed."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.ablation.curve import AblationCurve, ablation_curve
from analysis.dynamic.agreement import OUTLIER, POOLED, agreement, head_table
from analysis.dynamic.null_heads import against_random_heads
from analysis.dynamic.one_prompt import attention_from_last, top_logits_of_head
from analysis.dynamic.scores import CONTEXTS, DynamicScores, dynamic_scores
from analysis.errors import ParameterError, PromptError
from analysis.plots.ablation_curves import plot_ablation
from analysis.plots.static_dynamic import plot_static_dynamic
from analysis.report.dynamic import correlation_table, off_the_line, trust_in_weights
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE
from analysis.static.scores import score_heads
from tests import checkpoints, planted

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NAMES = tuple(f"{first}{rest}" for first in "ABCDEFGH" for rest in ("an", "el", "io", "us"))
TOKENIZER = checkpoints.make_tokenizer(NAMES)


@functools.cache
def model() -> TransformerBridge:
    return planted.boot(checkpoints.llama_model(len(TOKENIZER)), TOKENIZER)


@functools.cache
def dynamic() -> DynamicScores:
    return dynamic_scores(model(), NAMES, k=20)


@functools.cache
def curve() -> AblationCurve:
    return ablation_curve(model(), NAMES, [(0, 1), (2, 2)], n_draws=3)


def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    static = score_heads(model(), NAMES, k=20).to_frame(intervals=True)
    return static, dynamic().to_frame().xs("without", level="context")


def test_every_head_is_a_point_of_each_panel_and_is_named_on_hovering() -> None:
    static, running = frames()
    fig = plot_static_dynamic(static, running, title="t")
    for panel, kind in (("x1", "copying_score"), ("x2", "suppression_score")):
        points = [
            t for t in fig.data if t.mode.startswith("markers") and t.xaxis in (panel, panel[:1])
        ]
        points = [t for t in points if (t.xaxis == "x2") == (panel == "x2")]
        table = head_table(static, running, kind)
        outliers = set(table.index[table["residual"].abs() > OUTLIER])
        named = {}
        for trace in points:
            for x, y, text in zip(trace.x, trace.y, trace.hovertext, strict=True):
                head = tuple(map(int, text[3 : text.index("</b>")].split(".")))
                named[head] = (x, y)
                assert (trace.name == "head off the line") == (head in outliers)
        assert set(named) == set(table.index)
        for head, (x, y) in named.items():
            assert x == pytest.approx(table.loc[head, "static"], abs=1e-6)
            assert y == pytest.approx(table.loc[head, "dynamic"], abs=1e-6)


@pytest.mark.parametrize("column", ["accuracy", "change"])
def test_the_curves_are_those_of_the_frame(column: str) -> None:
    fig = plot_ablation(curve(), column, title="t")
    lines = [trace for trace in fig.data if trace.mode == "lines+markers"]
    tasks = [curve().task, *curve().controls.index]
    assert len(lines) == 2 * len(tasks)
    for trace, (mode, task) in zip(
        lines, [(m, t) for m in ("mean", "zero") for t in tasks], strict=True
    ):
        line = curve().given(mode, task)[column]
        assert trace.name.startswith(task)
        assert list(trace.x) == line.index.tolist()
        drawn = line.round(3 if column == "accuracy" else 2)
        assert list(trace.y) == drawn.tolist()


def test_sentences_hold_the_numbers() -> None:
    answers = score_heads(model(), NAMES, k=20)
    table = agreement(answers, dynamic(), n_resamples=20)
    null = against_random_heads(model(), answers, n_draws=10)
    said = " ".join(trust_in_weights(table, null, curve(), curve()))
    r = table.loc[("without", "all templates", "copying_score"), "pearson"]
    assert f"{r:.2f} without context" in said
    assert ("0.95 is reached" in said) or ("0.95 is not reached" in said)
    accuracy = curve().given("mean")["accuracy"]
    assert f"from {accuracy.iloc[0]:.0%} to {accuracy.iloc[-1]:.0%}" in said
    assert "0.1, 2.2" in said
    assert correlation_table(table).shape == (len(table), 6)
    off = off_the_line(*frames())
    assert list(off.columns) == ["static", "dynamic", "fitted"]


def sentences(null: pd.DataFrame, suppressing: AblationCurve) -> list[str]:
    """All that is said, correlations being 0.5."""
    index = pd.MultiIndex.from_product([CONTEXTS, [POOLED], (COPYING_SCORE, SUPPRESSION_SCORE)])
    ends = [f"_{over}_{end}" for over in ("names", "heads") for end in ("low", "high")]
    table = pd.DataFrame(0.5, index, [f"pearson{end}" for end in ("", *ends)])
    return trust_in_weights(table, null, curve(), suppressing)


def made_up_null() -> pd.DataFrame:
    """Of six heads all have a p-value of 0.04; two copy and three suppress after correction."""
    heads = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 2)]
    index = pd.MultiIndex.from_tuples(heads, names=["layer", "head"])
    columns = {
        "copying_score": [0.9, 0.2, 0.1, 0, 0, 0],
        "suppression_score": [0, 0.3, 0, 0, 0.6, 0.7],
    }
    columns |= {f"{kind}_p": [0.04] * 6 for kind in (COPYING_SCORE, SUPPRESSION_SCORE)}
    columns["copying_score_q"] = [0.01, 0.05, 0.06, 0.2, 0.2, 0.2]
    columns["suppression_score_q"] = [0.2, 0.03, 0.2, 0.2, 0.02, 0.01]
    null = pd.DataFrame(columns, index)
    null.attrs = {"n_random": 120, "highest": 0.05}
    return null


def test_heads_that_stand_out_are_counted_by_their_false_discovery_rate() -> None:
    said = " ".join(sentences(made_up_null(), curve()))
    assert re.search(r"\b2 of 6 heads copy\b", said)
    assert re.search(r"\b3 of 6 heads suppress\b", said)
    assert "of 120 random scores the highest is 5.0%" in said
    assert "1 of all heads copies half" in said and "2 of all heads suppress half" in said


def test_heads_that_do_not_stand_out_are_not_called_copying() -> None:
    said = sentences(made_up_null(), curve())
    (removal,) = [sentence for sentence in said if "accuracy of copying names, on" in sentence]
    assert removal.startswith("No copying head stands out")
    assert "Removing 2 heads (0.1, 2.2; mean ablation)" in removal


def test_what_cannot_be_correlated_is_said_so() -> None:
    flat = score_heads(model(), NAMES, k=model().cfg.d_vocab)
    ran = dynamic_scores(model(), NAMES, k=model().cfg.d_vocab)
    table = agreement(flat, ran, n_resamples=5)
    null = made_up_null()
    said = trust_in_weights(table, null, curve(), curve())
    assert "cannot be computed, since all heads score the same" in said[0]
    assert "nan" not in " ".join(said)


@pytest.mark.parametrize(("change", "verb"), [(1.5, "raises"), (-2.5, "lowers")])
def test_it_is_said_whether_removal_raises_or_lowers(change: float, verb: str) -> None:
    frame = curve().frame.copy()
    frame.loc[("mean", curve().task, "given", 0, 2), "change"] = change
    said = sentences(made_up_null(), replace(curve(), frame=frame))
    (removal,) = [sentence for sentence in said if "suppressing heads (" in sentence]
    found = re.search(r"(raises|lowers)\D*([\d.]+) nats", removal)
    assert found and found.groups() == (verb, f"{abs(change)}")


@torch.no_grad()
def test_one_head_is_followed_as_it_ran() -> None:
    found = attention_from_last(model(), "Ael", (1, 2), "No <X> means")
    tokens = model().to_tokens("No Ael means")
    _, cache = model().run_with_cache(tokens)
    assert "".join(found["token"][1:]) == "No Ael means"
    expected = cache["blocks.1.attn.hook_pattern"][0, 2, -1]
    assert np.allclose(found["attention"], expected, atol=1e-5)
    written = top_logits_of_head(model(), "Ael", (1, 2), "No <X> means", n=2)
    z = cache["blocks.1.attn.hook_z"][0, -1, 2].double()
    logits = z @ model().blocks[1].attn.W_O[2].double() @ model().W_U.double()
    token = int(planted.name_tokens(TOKENIZER, ["Ael"])[0])
    rank = int((logits > logits[token]).sum())
    assert abs(written.loc["with context", "larger logits"] - rank) <= 1
    best = model().tokenizer.decode([int(logits.argmax())])
    assert written.loc["with context", "most"].startswith(best)


def test_a_planted_head_writes_the_name_from_the_weights_and_without_context() -> None:
    """Heads 0.1 and 1.1 copy; what else head 0.1 looks at comes in with context alone."""
    hf = checkpoints.llama_model(len(TOKENIZER), hidden_size=64)
    with torch.no_grad():
        planted.layers(hf)[0].input_layernorm.weight.fill_(1.0)
    planted.plant(hf, planted.name_tokens(TOKENIZER, NAMES), copying=[(0, 1), (1, 1)])
    copier = planted.boot(hf, TOKENIZER)
    with_context = []
    for name in NAMES[:5]:
        first, later = (
            top_logits_of_head(copier, name, head, "No <X> means", n=2) for head in ((0, 1), (1, 1))
        )
        for row in (first.loc["from the weights"], later.loc["from the weights"]):
            assert row["larger logits"] == 0 and row["most"].startswith(f" {name}")
        assert first.loc["without context", "larger logits"] == 0
        assert first.loc["without context", "most"].startswith(f" {name}")
        with_context.append(first.loc["with context", "larger logits"])
    assert max(with_context) > 0


def test_a_head_or_slot_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ParameterError, match=r"no such head: 9\.9"):
        attention_from_last(model(), "Ael", (9, 9))
    with pytest.raises(PromptError, match="no slot"):
        top_logits_of_head(model(), "Ael", (0, 0), "nothing")
