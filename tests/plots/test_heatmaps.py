"""The two-panel figure: every number, mark and word of it, for any number of heads."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import ClassesError, ParameterError
from analysis.ioi.head_classes import MEASURED, HeadClass, published_classes
from analysis.plots.heatmap_layout import TEXT_PX, fit_width, label_step, title_lines
from analysis.plots.heatmaps import plot_heatmaps
from analysis.provenance import GPT2_SMALL, ModelIdentity
from analysis.static.head_scores import HeadScores
from tests.made_up import scores_from_counts

GPT2 = ModelIdentity(GPT2_SMALL, "GPT-2")
OTHER = ModelIdentity("smollm2-135m", "SmolLM2-135M-Instruct")


def scores_of(
    n_in_top_k: np.ndarray,
    n_in_bottom_k: np.ndarray | None = None,
    *,
    n_pairs: int = 100,
    relation: str = "copying",
    model: ModelIdentity = OTHER,
) -> HeadScores:
    return scores_from_counts(
        n_in_top_k, n_in_bottom_k, n_pairs=n_pairs, relation=relation, model=model
    )


def gpt2_scores(*suppressing: tuple[int, int]) -> HeadScores:
    top = np.full((12, 12), 10)
    bottom = np.zeros((12, 12), dtype=int)
    for head in suppressing:
        bottom[head] = 11
    return scores_of(top, bottom, model=GPT2)


def blank(n_layers: int, n_heads: int) -> HeadScores:
    return scores_of(np.zeros((n_layers, n_heads), dtype=int))


def marks(fig: go.Figure) -> dict[str, list[tuple[int, int]]]:
    """Where the marks stand, by the legend's words."""
    return {
        trace.name: [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x is not None]
        for trace in fig.data[2:]
    }


@settings(max_examples=25, deadline=None)
@given(
    n_layers=st.integers(1, 20),
    n_heads=st.integers(1, 20),
    n_pairs=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_figure_json_holds_the_scores(n_layers: int, n_heads: int, n_pairs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    top, bottom = rng.integers(0, n_pairs + 1, size=(2, n_layers, n_heads))
    scores = scores_of(top, bottom, n_pairs=n_pairs)
    figure = json.loads(plot_heatmaps(scores).to_json())
    left, right = figure["data"]
    assert np.array_equal(np.array(left["z"]).T, scores.relation_score)
    assert np.array_equal(np.array(right["z"]).T, scores.suppression_score)
    for number, trace in (("", left), ("2", right)):
        assert (trace["zmin"], trace["zmax"]) == (0, 1)
        x, y = figure["layout"][f"xaxis{number}"], figure["layout"][f"yaxis{number}"]
        assert (trace["xaxis"], trace["yaxis"]) == (f"x{number}", f"y{number}")
        assert (x["title"]["text"], y["title"]["text"]) == ("Layer", "Head")
        assert x["range"] == [-0.5, n_layers - 0.5]
        assert y["range"] == [-0.5, n_heads - 0.5]
        assert (x["tick0"], x["dtick"], y["tick0"], y["dtick"]) == (0, 1, 0, 1)


def test_planted_heads_are_in_their_cell_of_their_panel() -> None:
    top, bottom = np.zeros((2, 5, 3), dtype=int)
    top[4, 1] = 100
    bottom[2, 0] = 100
    left, right = plot_heatmaps(scores_of(top, bottom)).data[:2]
    # Rows are heads (y), columns are layers (x).
    assert np.argwhere(np.array(left.z) == 1).tolist() == [[1, 4]]
    assert np.argwhere(np.array(right.z) == 1).tolist() == [[0, 2]]


def test_words_of_the_figure() -> None:
    fig = plot_heatmaps(gpt2_scores())
    assert [note.text for note in fig.layout.annotations] == [
        "GPT-2: Name-Copying heads",
        "GPT-2: (Suppression) Name-Copying heads",
    ]
    bars = [trace.colorbar for trace in fig.data[:2]]
    assert [bar.title.text for bar in bars] == [
        "Name Copying score",
        "(Suppression) Name Copying score",
    ]
    assert all((bar.tick0, bar.dtick) == (0, 0.2) for bar in bars)
    assert all(trace.colorscale[0][1] == "#440154" for trace in fig.data[:2])
    assert all(trace.colorscale[-1][1] == "#fde725" for trace in fig.data[:2])
    for legend in (fig.layout.legend, fig.layout.legend2):
        assert legend.title.text == "'Interp. in the Wild' classifications"


def test_other_relations_are_not_called_copying() -> None:
    fig = plot_heatmaps(scores_of(np.ones((2, 2), dtype=int), relation="relation"))
    assert "Copying" not in fig.to_json()
    assert fig.data[1].colorbar.title.text == "(Suppression) Relation score"
    assert "1 of 100 pairs" in fig.data[0].hovertext[0][0]


def test_marks_stand_on_the_published_heads() -> None:
    fig = plot_heatmaps(gpt2_scores((10, 2), (11, 9), (10, 7), (3, 3)))
    assert marks(fig) == {
        "Name-Mover Heads": [(9, 6), (9, 9), (10, 0)],
        "Backup Name-Mover Heads": [
            *[(9, 0), (9, 7), (10, 1), (10, 2), (10, 6), (10, 10), (11, 2), (11, 9)]
        ],
        "(Negative) Name-Mover Heads": [(10, 7), (11, 10)],
        # Of the backup heads those that suppress more than they copy, here two.
        "Backup (Negative) Name-Mover Heads": [(10, 2), (11, 9)],
    }
    looks = [(t.marker.symbol, t.marker.color, t.legend, t.xaxis) for t in fig.data[2:]]
    assert looks == [
        ("x", "black", "legend", "x"),
        ("circle", "lightgreen", "legend", "x"),
        ("x", "black", "legend2", "x2"),
        ("circle", "lightgreen", "legend2", "x2"),
    ]


def test_equal_counts_are_not_suppression() -> None:
    tie = scores_of(np.full((12, 12), 5), np.full((12, 12), 5), model=GPT2)
    assert marks(plot_heatmaps(tie))["Backup (Negative) Name-Mover Heads"] == []


def test_other_models_get_no_marks() -> None:
    fig = plot_heatmaps(blank(12, 12))
    assert len(fig.data) == 2
    assert "class" not in fig.data[0].hovertext[0][0]
    none = published_classes("none")
    assert len(plot_heatmaps(gpt2_scores(), none).data) == 2


def test_given_classes_are_drawn() -> None:
    one = published_classes(GPT2).loc[[(9, 9)]].assign(model=OTHER.name)
    assert marks(plot_heatmaps(blank(12, 12), one))["Name-Mover Heads"] == [(9, 9)]
    with pytest.raises(ClassesError, match="smollm2-135m"):
        plot_heatmaps(blank(12, 12), published_classes(GPT2))
    with pytest.raises(ClassesError, match="3 layers of 2 heads"):
        plot_heatmaps(scores_of(np.zeros((3, 2), dtype=int), model=GPT2))


def measured_classes(*heads: tuple[int, int, HeadClass]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([head[:2] for head in heads], names=["layer", "head"])
    columns = {"class": [head[2] for head in heads], "model": GPT2_SMALL, "source": "a run"}
    return pd.DataFrame(columns | {"origin": MEASURED}, index=index)


MEASURED_HEADS = (
    (9, 9, HeadClass.NAME_MOVER),
    (8, 1, HeadClass.BACKUP_NAME_MOVER),
    (10, 7, HeadClass.NEGATIVE_NAME_MOVER),
    (2, 3, HeadClass.BACKUP_NEGATIVE_NAME_MOVER),
)


def test_measured_classes_have_marks_and_a_legend_of_their_own() -> None:
    fig = plot_heatmaps(gpt2_scores(), measured_classes(*MEASURED_HEADS))
    assert marks(fig) == {
        "Measured Name-Mover Heads": [(9, 9)],
        "Measured Backup Name-Mover Heads": [(8, 1)],
        "Measured (Negative) Name-Mover Heads": [(10, 7)],
        "Measured Backup (Negative) Name-Mover Heads": [(2, 3)],
    }
    assert [trace.marker.symbol for trace in fig.data[2:]] == ["square-open", "diamond-open"] * 2
    assert fig.layout.legend.title.text == "Measured on the indirect-object task"
    assert fig.data[0].hovertext[9][9].endswith("<br>measured class: name mover")
    assert fig.data[0].hovertext[0][0].endswith("<br>measured class: none measured")


def test_both_overlays_leave_the_published_marks_as_they_are() -> None:
    published = published_classes(GPT2)
    alone = plot_heatmaps(gpt2_scores(), published)
    both = plot_heatmaps(gpt2_scores(), pd.concat([published, measured_classes(*MEASURED_HEADS)]))
    looks = {trace.name: trace.to_plotly_json() for trace in both.data[2:]}
    assert len(looks) == 8
    for trace in alone.data[2:]:
        assert looks[trace.name] == trace.to_plotly_json()
    symbols = {(trace.marker.symbol, trace.marker.color) for trace in both.data[2:]}
    assert len(symbols) == 4
    # Published marks lie on top: the open measured ones are larger around them.
    assert [trace.name.startswith("Measured") for trace in both.data[2:]] == [
        True,
        True,
        False,
        False,
    ] * 2
    sizes = {trace.name: trace.marker.size for trace in both.data[2:]}
    assert sizes["Measured Name-Mover Heads"] > 1.5 * sizes["Name-Mover Heads"]
    title = both.layout.legend.title.text
    assert title == "'Interp. in the Wild' and measured classifications"
    assert both.data[0].hovertext[9][9].split("<br>")[-2:] == [
        "class: name mover",
        "measured class: name mover",
    ]
    assert both.layout.height > alone.layout.height


def test_hovering_tells_head_counts_and_class() -> None:
    fig = plot_heatmaps(gpt2_scores((10, 7)))
    left, right = (trace.hovertext for trace in fig.data[:2])
    assert left[7][10].split("<br>") == [
        "<b>10.7</b>",
        "Name Copying score 0.100",
        "10 of 100 names",
        "95 % interval 0.055 to 0.174",
        "class: negative name mover",
    ]
    assert right[7][10].split("<br>")[1:3] == [
        "(Suppression) Name Copying score 0.110",
        "11 of 100 names",
    ]
    assert left[0][0].endswith("class: none published")
    assert left[9][7].endswith(f"class: {HeadClass.S_INHIBITION}")
    assert all(trace.hoverinfo == "skip" for trace in fig.data[2:])


@pytest.mark.parametrize("width", [858, 1053])
@pytest.mark.parametrize("shape", [(48, 25), (30, 9), (12, 12), (1, 1), (2, 3), (100, 64)])
def test_tick_labels_stay_apart(shape: tuple[int, int], width: float) -> None:
    fig = plot_heatmaps(blank(*shape), width=width)
    left, right, top, bottom = (fig.layout.margin[side] for side in "lrtb")
    x, y = fig.layout.xaxis, fig.layout.yaxis
    x_px = (x.domain[1] - x.domain[0]) * (width - left - right) / shape[0] * x.ticklabelstep
    y_px = (fig.layout.height - top - bottom) / shape[1] * y.ticklabelstep
    assert x_px > 0.6 * TEXT_PX * len(str(shape[0] - 1)) + 4
    assert y_px >= TEXT_PX
    if shape == (12, 12):
        assert (x.ticklabelstep, y.ticklabelstep) == (1, 1)


def test_label_step_is_the_smallest_that_fits() -> None:
    assert [label_step(px, 20) for px in (40, 20, 19, 10, 9, 4, 3, 2)] == [1, 1, 2, 2, 5, 5, 10, 10]


def test_parts_do_not_overlap_or_leave_the_figure() -> None:
    for scores in (gpt2_scores(), blank(48, 25), blank(1, 1)):
        for width in (858, 1050):
            fig = plot_heatmaps(scores, width=width)
            inner = width - fig.layout.margin.l - fig.layout.margin.r
            edges = [
                0.0,
                fig.layout.xaxis.domain[1] * inner,  # the panel's end, and its colour bar's start
                fig.layout.xaxis.domain[1] * inner + fig.layout.margin.r,  # the bar's title's end
                fig.layout.xaxis2.domain[0] * inner - fig.layout.margin.l,  # the next axis's title
                inner,
            ]
            assert all(a < b for a, b in pairwise(edges))


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200))
def test_titles_fit_whatever_the_models_name(name: str) -> None:
    lines = title_lines(name, "(Suppression) Name-Copying heads", 400)
    assert max(map(len, lines)) <= 400 / (0.55 * 16)
    assert "".join(lines).replace(" ", "") == f"{name}:(Suppression)Name-Copyingheads"


def test_a_models_name_is_no_markup() -> None:
    scores = scores_of(np.zeros((2, 2), dtype=int), model=ModelIdentity("m", "<b>a&b"))
    assert plot_heatmaps(scores).layout.annotations[0].text.startswith("&lt;b&gt;a&amp;b: ")


def test_fit_width_lays_out_a_copy() -> None:
    fig = plot_heatmaps(blank(48, 25))
    before = fig.to_json()
    assert fit_width(fig, 700) == plot_heatmaps(blank(48, 25), width=700)
    assert fig.to_json() == before
    assert fit_width(go.Figure(), 700).layout.width == 700


@pytest.mark.parametrize("width", [100, -5, "wide"])
def test_a_figure_too_narrow_to_be_drawn_is_an_error(width: Any) -> None:
    with pytest.raises(ParameterError, match="width must be"):
        plot_heatmaps(blank(3, 4), width=width)
