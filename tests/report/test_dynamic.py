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
from analysis.dynamic.null_heads import NULLS, NullComparison, compare_with_nulls
from analysis.dynamic.one_prompt import attention_on, top_logits_of_head
from analysis.dynamic.scores import CONTEXTS, DynamicScores, dynamic_scores
from analysis.errors import ParameterError, PromptError
from analysis.models.precision import exact_forward
from analysis.plots.ablation_curves import plot_ablation
from analysis.plots.static_dynamic import plot_static_dynamic
from analysis.report.dynamic import (
    _digits,
    _removed,
    correlation_table,
    null_table,
    off_the_line,
    trust_in_weights,
    what_context_changes,
    what_was_run,
)
from analysis.static.head_scores import COPYING_SCORE, SUPPRESSION_SCORE
from analysis.static.scores import score_heads
from tests import checkpoints, planted
from tests.word_lists import MADE_UP_NAMES as NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_sentences_hold_the_numbers() -> None:
    answers = score_heads(model(), NAMES, k=20)
    table = agreement(answers, dynamic(), n_resamples=20)
    null = compare_with_nulls(model(), answers)
    said = " ".join(trust_in_weights(table, null, curve(), curve()))
    r = table.loc[("without", "all templates", "copying_score"), "pearson"]
    assert f"correlate with r = **{r:.2f}**" in said
    rho = table.loc[("without", "all templates", "copying_score"), "spearman"]
    assert f"with ρ = **{rho:.2f}**" in said
    before, after = (curve().given("mean").iloc[i] for i in (0, -1))
    zero = curve().given("zero").iloc[-1]
    assert f"By zero ablation it goes to **{zero['accuracy']:.0%}**" in said
    band = curve().random_band("zero", "accuracy").iloc[-1]
    assert f"{band['low']:.0%} to {band['high']:.0%} (5th to 95th percentile of 3 draws)" in said
    for row in (before, after):
        shown = f"**{row['accuracy']:.0%}** (95 %: {row['accuracy_low']:.0%} to "
        assert f"{shown}{row['accuracy_high']:.0%})" in said
    assert f"mean ablation, {len(NAMES)} prompts" in said
    assert "0.1, 2.2" in said
    assert correlation_table(table).shape == (len(table), 4)
    assert len(null_table(null)) == len(NULLS) * 2
    off = off_the_line(*frames())
    assert list(off.columns) == ["static", "dynamic", "fitted"]


def half_correlated() -> pd.DataFrame:
    """An agreement whose correlations are all 0.5."""
    index = pd.MultiIndex.from_product([CONTEXTS, [POOLED], (COPYING_SCORE, SUPPRESSION_SCORE)])
    ends = [f"_{over}_{end}" for over in ("names", "heads") for end in ("low", "high")]
    table = pd.DataFrame(0.5, index, ["spearman", *(f"pearson{end}" for end in ("", *ends))])
    return table.assign(pearson_names_undefined=0.0, pearson_heads_undefined=0.0)


def sentences(null: NullComparison, suppressing: AblationCurve) -> list[str]:
    """All that is said, correlations being 0.5."""
    return trust_in_weights(half_correlated(), null, curve(), suppressing)


def made_up_null() -> NullComparison:
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
    kinds = (COPYING_SCORE, SUPPRESSION_SCORE)
    for i, name in enumerate(NULLS):
        for kind in kinds:
            columns[f"{kind}_q {name}"] = [0.01] * i + columns[f"{kind}_q"][i:]
    at_random = {"n_random": 120, "highest": 0.05, "share_above_0": 0.2}
    nulls = pd.DataFrame([at_random] * 6, pd.MultiIndex.from_product([NULLS, kinds]))
    return NullComparison(pd.DataFrame(columns, index), nulls)


@pytest.mark.slow
def test_heads_that_stand_out_are_counted_by_their_false_discovery_rate() -> None:
    said = " ".join(sentences(made_up_null(), curve()))
    assert "against all three 2 of 6, of which 2 copy at least 1%" in said
    assert "against all three 3 of 6, of which 3 suppress at least 1%" in said
    assert "2 against random weights, 2 against random W_V, 2 against other targets" in said
    assert "asked about other names, reach 5.0%" in said
    assert "Half of the names or more: 1 head." in said
    assert "Half of the names or more: 2 heads." in said
    table = null_table(made_up_null())
    assert table["significant heads"].tolist() == [2, 3, 2, 4, 2, 4]
    assert set(table["above 0"]) == {"20.0%"}


@pytest.mark.parametrize(
    ("heads", "chance", "said"),
    [
        ([(0, 0), (0, 1)], False, "Without 2 copying heads (0.0, 0.1)"),
        ([(0, 1), (2, 2)], False, "2.2 is not significant or scores below 1%. Without 2 heads "
         "(0.1, 2.2)"),
        ([(0, 2), (2, 2)], False, "0.2, 2.2 are not significant or score below 1%. Without 2 heads "
         "(0.2, 2.2)"),
        ([(0, 0)], True, "No copying head is significant and scores 1%; the best-scored is "
         "removed. Without 1 head (0.0)"),
        ([(0, 1)], True, "0.1 is not significant or scores below 1%. Without 1 head (0.1)"),
    ],
)  # fmt: skip
def test_heads_that_do_not_stand_out_are_not_called_copying(
    heads: list[tuple[int, int]], chance: bool, said: str
) -> None:
    null = made_up_null()
    if chance:
        null = replace(null, frame=null.frame.assign(copying_score_q=0.2))
    nothing = pd.DataFrame()
    removed = AblationCurve(nothing, nothing, tuple(heads), "names copied", 40, None, {})
    assert _removed(removed, null, COPYING_SCORE) == said


@pytest.mark.slow
def test_where_nothing_is_removed_it_is_said() -> None:
    nothing = ablation_curve(model(), NAMES, [], n_draws=1)
    index = pd.MultiIndex.from_product([CONTEXTS, [POOLED], (COPYING_SCORE, SUPPRESSION_SCORE)])
    table = pd.DataFrame(np.nan, index, ["pearson"])
    said = trust_in_weights(table, made_up_null(), nothing, nothing)
    assert "No head copies a single name, so none is removed." in said[4]
    assert "No head suppresses a single name" in said[-1] and len(said) == 6
    assert plot_ablation(nothing, title="t").data


def test_the_ablation_that_was_measured_is_spoken_of() -> None:
    zero = replace(curve(), frame=curve().frame.loc[["zero"]])
    said = " ".join(trust_in_weights(half_correlated(), made_up_null(), zero, zero))
    assert f"(zero ablation, {len(NAMES)} prompts)" in said and "By " not in said
    last = zero.given("zero").iloc[-1]
    assert f"to **{last['accuracy']:.0%}**" in said
    assert "next year goes from" in said and "with random heads removed it changes by" in said


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "1.00"),
        (1 - 2**-52, "1.00"),  # by rounding errors
        (-1 + 2**-52, "-1.00"),
        (0.9999, "0.999"),
        (0.995, "0.995"),
        (0.994, "0.99"),
        (-0.001, "0.00"),
    ],
)
def test_what_is_below_one_is_not_shown_as_one(value: float, shown: str) -> None:
    assert _digits(value) == shown


@pytest.mark.slow
def test_what_cannot_be_correlated_is_said_so() -> None:
    flat = score_heads(model(), NAMES, k=model().cfg.d_vocab)
    ran = dynamic_scores(model(), NAMES, k=model().cfg.d_vocab)
    table = agreement(flat, ran, n_resamples=5)
    null = made_up_null()
    said = trust_in_weights(table, null, curve(), curve())
    assert "No correlation can be computed: all heads score the same" in said[0]
    assert "nan" not in " ".join(said)


@pytest.mark.parametrize(
    ("undefined", "said"),
    [
        (
            "without",
            "Without context no correlation of static and dynamic scores can be computed: all "
            "heads score the same. With context r is 0.50 (",
        ),
        ("with", "With context no correlation can be computed: all heads score the same"),
    ],
)
def test_correlations_with_and_without_context_are_told_apart(undefined: str, said: str) -> None:
    table = half_correlated()
    table.loc[undefined] = np.nan
    for sentence in trust_in_weights(table, made_up_null(), curve(), curve())[:2]:
        assert said in sentence
        assert ("static and dynamic scores correlate with r = **0.50**" in sentence) == (
            undefined == "with"
        )
        assert "nan" not in sentence


@pytest.mark.slow
def test_scores_of_a_relation_are_drawn_as_such_and_not_called_copying() -> None:
    copied, ran = frames()
    static, running = (
        frame.rename(columns=lambda name: name.replace("copying", "relation"))
        for frame in (copied, ran)
    )
    fig = plot_static_dynamic(static, running, title="t")
    titles = [fig.layout[axis].title.text for axis in ("xaxis", "xaxis2")]
    assert titles == ["Pairs answered, from the weights", "Pairs suppressed, from the weights"]
    assert fig.data == plot_static_dynamic(copied, ran, title="t").data
    assert off_the_line(static, running).index.names == ["kind", "layer", "head"]
    for one, other in ((static, ran), (copied[list(ran)], ran)):
        for show in (off_the_line, functools.partial(plot_static_dynamic, title="t")):
            with pytest.raises(ParameterError, match="frames of the same names or pairs"):
                show(one, other)
    table, null = half_correlated(), made_up_null()
    of_relation = table.rename({COPYING_SCORE: "relation_score"}, level=2)
    other_null = replace(null, frame=null.frame.rename(columns={COPYING_SCORE: "relation_score"}))
    for of, against in ((of_relation, null), (table, other_null)):
        with pytest.raises(ParameterError, match="about names that are copied"):
            trust_in_weights(of, against, curve(), curve())


def test_the_best_heads_by_the_weights_and_with_context_are_told() -> None:
    index = pd.MultiIndex.from_product([[0], range(3)], names=["layer", "head"])
    kinds = (COPYING_SCORE, SUPPRESSION_SCORE)
    ends = [f"{kind}{end}" for kind in kinds for end in ("", "_low", "_high")]
    static = pd.DataFrame(0.0, index=index, columns=ends)
    static[COPYING_SCORE], static[SUPPRESSION_SCORE] = [0.1, 0.8, 0.0], [0.0, 0.0, 0.5]
    first = pd.DataFrame({kinds[0]: [0.0, 0.1, 0.3], kinds[1]: [0.0, 0.0, 0.2]}, index=index)
    templates = {"a": first, "b": first + 0.1}
    ran = pd.concat(templates, names=["template"])
    assert what_context_changes(static, ran) == [
        "**Copying.** 0.1 scores most by the weights, 80%, and 15% with context; with context 0.2 "
        "scores most, 35% (0% by the weights).",
        "**Suppression.** 0.2 scores most by the weights, 50%, and 25% with context; no head "
        "scores more with context.",
    ]
    static[COPYING_SCORE] = 0.0
    assert what_context_changes(static, ran)[0] == (
        "**Copying.** By the weights all heads score 0."
    )


@pytest.mark.parametrize(
    ("weights", "context", "said"),
    [
        ([0, 0.8, 0], [0, 0, 0], "0.1 scores most by the weights, 80%; with context all heads "
         "score 0."),
        ([0, 0.4, 0], [0.5, 0.5, 0], "0.1 scores most by the weights, 40%, and 50% with context; "
         "no head scores more with context."),
        ([0, 0.4, 0.4], [0, 0.1, 0.5], "0.1, 0.2 score most by the weights, 40%, and 10% to 50% "
         "with context; no head scores more with context."),
        ([0.1, 0.4, 0], [0.5, 0, 0.5], "0.1 scores most by the weights, 40%, and 0% with context; "
         "with context 0.0, 0.2 score most, 50% (0% to 10% by the weights)."),
    ],
)  # fmt: skip
def test_heads_that_share_the_best_score_are_told(
    weights: list[float], context: list[float], said: str
) -> None:
    index = pd.MultiIndex.from_product([[0], range(3)], names=["layer", "head"])
    kinds = (COPYING_SCORE, SUPPRESSION_SCORE)
    columns = [f"{kind}{end}" for kind in kinds for end in ("", "_low", "_high")]
    static = pd.DataFrame(dict.fromkeys(columns, weights), index)
    ran = pd.concat({"a": pd.DataFrame(dict.fromkeys(kinds, context), index)}, names=["template"])
    assert what_context_changes(static, ran)[0] == f"**Copying.** {said}"


@pytest.mark.parametrize("n", [1, 2])
def test_a_line_is_not_fitted_to_fewer_than_three_heads(n: int) -> None:
    static, running = frames()
    few = running[running.index.droplevel("template").isin(static.index[:n])]
    for show in (off_the_line, functools.partial(plot_static_dynamic, title="t")):
        with pytest.raises(ParameterError, match=f"needs 3 heads or more, and the model has {n}"):
            show(static[:n], few)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "low", "verb", "sure"), [(1.5, 1.0, "rises", True), (-2.5, -3, "falls", False)]
)
def test_it_is_said_whether_removal_raises_or_lowers(
    change: float, low: float, verb: str, sure: bool
) -> None:
    frame = curve().frame.copy()
    frame.loc[("mean", curve().task, "random"), "change"] = -0.04
    at = ("mean", curve().task, "given", 0, 2)
    frame.loc[at, ["change", "change_low", "change_high"]] = change, low, 2
    said = sentences(made_up_null(), replace(curve(), frame=frame))[-1]
    found = re.search(r"(rises|falls) by \*\*([\d.]+)\*\* nats \(95 %: (\S+) to 2.00\)", said)
    assert found and found.groups() == (verb, f"{abs(change):.2f}", f"{low:.2f}")
    assert ("not distinguishable" not in said) == sure
    assert "it changes by -0.04 to -0.04 (" in said


@torch.no_grad()
def test_one_head_is_followed_as_it_ran() -> None:
    tokens = model().to_tokens("No Ael means")
    with exact_forward(model()):
        _, cache = model().run_with_cache(tokens)
    expected = cache["blocks.1.attn.hook_pattern"][0, 2].numpy()
    whole = attention_on(model(), (1, 2), "No Ael means")
    assert whole.index.names == ["query", "token"] and whole.columns.names == ["position", "token"]
    assert whole.index.get_level_values("token").tolist()[1:4] == ["'N'", "'o'", "' Ael'"]
    for query in range(len(whole)):
        row = whole.to_numpy()[query]
        assert np.allclose(row[: query + 1], expected[query, : query + 1], atol=0.0005)
        assert np.isnan(row[query + 1 :]).all()
    bare = attention_on(model(), (1, 2), "No Ael means", prepend_bos=False)
    assert len(bare) == len(whole) - 1
    assert not np.signbit(whole.fillna(0).to_numpy()).any()
    written = top_logits_of_head(model(), "Ael", (1, 2), "No <X> means", n=2)
    z = cache["blocks.1.attn.hook_z"][0, -1, 2].double()
    logits = z @ model().blocks[1].attn.W_O[2].double() @ model().W_U.double()
    token = int(planted.name_tokens(TOKENIZER, ["Ael"])[0])
    assert written.loc["with context", "larger logits"] == int((logits > logits[token]).sum())
    best = model().tokenizer.decode([int(logits.argmax())])
    assert written.loc["with context", "most"].startswith(f"{best!r} {float(logits.max()):+.2f}, ")
    worst = model().tokenizer.decode([int(logits.argmin())])
    assert written.loc["with context", "least"].startswith(f"{worst!r} {float(logits.min()):+.2f}")


@pytest.mark.slow
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
            assert row["larger logits"] == 0 and row["most"].startswith(f"' {name}' +")
        assert first.loc["without context", "larger logits"] == 0
        assert first.loc["without context", "most"].startswith(f"' {name}' +")
        with_context.append(first.loc["with context", "larger logits"])
    assert max(with_context) > 0


def test_a_head_or_slot_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ParameterError, match=r"no such head: 9\.9"):
        attention_on(model(), (9, 9), "No Ael means")
    for prompt in ("", 5):
        with pytest.raises(PromptError, match="must be text"):
            attention_on(model(), (0, 0), prompt)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="no slot"):
        top_logits_of_head(model(), "Ael", (0, 0), "nothing")


def test_near_ties_are_said() -> None:
    assert "run in float64. No two logits were too near" in what_was_run(dynamic())
    assert "**1** pair of logits was too near" in what_was_run(replace(dynamic(), n_near_ties=1))
    assert "**3** pairs of logits were" in what_was_run(replace(dynamic(), n_near_ties=3))


@pytest.mark.slow
def test_one_is_not_many() -> None:
    names, templates = dynamic().names[:1], dynamic().templates[:1]
    said = what_was_run(replace(dynamic(), names=names, templates=templates))
    assert "1 name in 1 template, run" in said
    null = made_up_null()
    one_draw = ablation_curve(model(), NAMES, [(0, 1)], n_draws=1)
    frame = null.frame.assign(copying_score=[0.9, 0, 0, 0, 0, 0])
    said = " ".join(sentences(replace(null, frame=frame), one_draw))
    assert "against all three 2 of 6, of which 1 copies at least 1%" in said
    assert "percentile of 1 draw)" in said
