"""The two-panel figure: every number, mark and word of it, for any number of heads."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis.errors import ClassesError, ParameterError
from analysis.export.html_page import _caption
from analysis.export.still.render import render
from analysis.ioi.head_classes import MEASURED, PUBLISHED, HeadClass, published_classes
from analysis.plots.heatmap_layout import fit_width
from analysis.plots.heatmaps import facts_of, plot_heatmaps
from analysis.plots.style import text_width
from analysis.plots.texts import label_step, wrapped
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests.plots.heatmap_scores import GPT2, OTHER, blank, gpt2_scores, scores_of


def marks(fig: go.Figure) -> dict[str, list[tuple[int, int]]]:
    """Where the marks stand, by the legend's words."""
    return {
        trace.name: [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x is not None]
        for trace in marked(fig)
    }


def marked(fig: go.Figure) -> list[go.Scatter]:
    """The traces of the marks, without dots and halos."""
    return [t for t in fig.data if t.type == "scatter" and t.name not in ("above 0", "halo")]


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    n_layers=st.integers(1, 12),
    n_heads=st.integers(1, 12),
    n_pairs=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_figure_json_holds_the_scores(n_layers: int, n_heads: int, n_pairs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    top, bottom = rng.integers(0, n_pairs + 1, size=(2, n_layers, n_heads))
    scores = scores_of(top, bottom, n_pairs=n_pairs)
    figure = json.loads(plot_heatmaps(scores).to_json())
    left, right = figure["data"][:2]
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
        "GPT-2 · k = 1 · with first MLP · 100 of 100 names",
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
    scores = scores_of(np.ones((2, 2), dtype=int), relation="relation")
    fig = plot_heatmaps(scores)
    assert "Copying" not in fig.to_json()
    assert "A head&#x27;s relation score is the share of 100 pairs" in _caption(facts_of(scores))
    names = _caption(facts_of(gpt2_scores()))
    assert "A head&#x27;s copying score is the share of 100 names" in names
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
    looks = [(t.marker.symbol, t.marker.color, t.legend, t.xaxis) for t in marked(fig)]
    assert looks == [
        ("x", "#000000", "legend", "x"),
        ("circle", "lightgreen", "legend", "x"),
        ("x", "#000000", "legend2", "x2"),
        ("circle", "lightgreen", "legend2", "x2"),
    ]


def test_equal_counts_are_not_suppression() -> None:
    tie = scores_of(np.full((12, 12), 5), np.full((12, 12), 5), model=GPT2)
    assert "Backup (Negative) Name-Mover Heads" not in marks(plot_heatmaps(tie))


def test_other_models_get_no_marks() -> None:
    fig = plot_heatmaps(blank(12, 12))
    assert marks(fig) == {}
    assert "class" not in fig.data[0].hovertext[0][0]
    none = published_classes("none")
    assert marks(plot_heatmaps(gpt2_scores(), none)) == {}


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
    assert [trace.marker.symbol for trace in marked(fig)] == ["square-open", "diamond-open"] * 2
    assert fig.layout.legend.title.text == "Measured on the indirect-object task"
    assert fig.data[0].hovertext[9][9].endswith("<br>measured class: name mover")
    assert fig.data[0].hovertext[0][0].endswith("<br>measured class: none measured")


def test_both_overlays_leave_the_published_marks_as_they_are() -> None:
    published = published_classes(GPT2)
    alone = plot_heatmaps(gpt2_scores(), published)
    both = plot_heatmaps(gpt2_scores(), pd.concat([published, measured_classes(*MEASURED_HEADS)]))
    looks = {trace.name: trace.to_plotly_json() for trace in marked(both)}
    assert len(looks) == 7  # no head suppresses more than it copies: no empty entry
    for trace in marked(alone):
        assert looks[trace.name] == trace.to_plotly_json()
    symbols = {(trace.marker.symbol, trace.marker.color) for trace in marked(both)}
    assert len(symbols) == 4
    # Published marks lie on top: the open measured ones are larger around them.
    order = [trace.name.startswith("Measured") for trace in marked(both)]
    assert order == [True, True, False, False, True, True, False]
    sizes = {trace.name: trace.marker.size for trace in marked(both)}
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


def test_label_step_is_the_smallest_that_fits() -> None:
    assert [label_step(px, 20) for px in (40, 20, 19, 10, 9, 4, 3, 2)] == [1, 1, 2, 2, 5, 5, 10, 10]


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=200),
    st.floats(60, 600),
)
def test_wrapped_lines_fit_and_lose_nothing(text: str, room: float) -> None:
    lines = wrapped(text.replace("<", "&lt;").replace("&", "&amp;"), room, 16)
    whole = "".join(lines).replace(" ", "")
    assert whole == text.replace("<", "&lt;").replace("&", "&amp;").replace(" ", "")
    shown = [line.replace("&amp;", "&").replace("&lt;", "<") for line in lines]
    assert all(text_width(line, 16) <= room or len(line) <= 8 for line in shown)


@pytest.mark.parametrize("room", range(180, 600, 60))
def test_parts_between_dots_stay_whole_and_no_dot_hangs(room: int) -> None:
    parts = ["SmolLM2", "k = 1", "100 of 100 names", "dot: above 0"]
    lines = wrapped(" · ".join(parts), room, 13)
    assert [part for line in lines for part in line.split(" · ")] == parts
    assert all(text_width(line, 13) <= room for line in lines)


def test_a_models_name_is_no_markup() -> None:
    scores = scores_of(np.zeros((2, 2), dtype=int), model=ModelIdentity("m", "<b>a&b"))
    assert plot_heatmaps(scores).layout.annotations[0].text.startswith("&lt;b&gt;a&amp;b: ")


@pytest.mark.slow
def test_fit_width_lays_out_a_copy() -> None:
    fig = plot_heatmaps(blank(48, 25))
    before = fig.to_json()
    assert fit_width(fig, 800) == plot_heatmaps(blank(48, 25), width=800)
    assert json.loads(fit_width(fit_width(fig, 400), 920).to_json()) == json.loads(before)
    assert json.loads(fig.to_json()) == json.loads(before)
    assert fit_width(go.Figure(), 700).layout.width == 700


@pytest.mark.parametrize("width", [100, -5, "wide", None, True, float("nan")])
def test_a_figure_too_narrow_to_be_drawn_is_an_error(width: Any) -> None:
    with pytest.raises(ParameterError, match="width must be"):
        plot_heatmaps(blank(3, 4), width=width)


@pytest.mark.slow
def test_one_panel_or_both_in_either_order() -> None:
    scores = gpt2_scores((10, 7))
    only = plot_heatmaps(scores, panels=("suppression",), title="Mine")
    assert [trace.type for trace in only.data].count("heatmap") == 1
    assert np.array(only.data[0].z)[7, 10] == 0.11
    assert only.layout.annotations[0].text == "Mine"
    both = plot_heatmaps(scores, title="Over both")
    assert both.layout.title.text == "Over both"
    assert both.layout.annotations[0].text == "GPT-2: Name-Copying heads"
    assert plot_heatmaps(scores, title=["a", "b"]).layout.annotations[1].text == "b"
    untitled = plot_heatmaps(scores, title=["", "b"])
    assert [note.text for note in untitled.layout.annotations[:2]] == ["", "b"]
    assert plot_heatmaps(scores, title="", panels="copying").layout.annotations[0].text == ""


def test_own_sets_share_one_legend_and_unknown_classes_are_drawn() -> None:
    fig = plot_heatmaps(blank(5, 3), marks={"my circuit": [(4, 1), (0, 2)], "empty": []})
    assert marks(fig) == {"my circuit": [(4, 1), (0, 2)]}
    assert [trace.showlegend for trace in marked(fig)] == [True, False]
    own = published_classes(GPT2).iloc[:2].assign(**{"class": "my <b>class", "model": OTHER.name})
    assert list(marks(plot_heatmaps(blank(12, 12), own))) == ["my &lt;b&gt;class"]
    two = own.assign(**{"class": ["mine", "yours"]})
    assert sorted(marks(plot_heatmaps(blank(12, 12), two))) == ["mine", "yours"]
    for nameless in (np.nan, None, "", 3):
        with pytest.raises(ClassesError, match="give each class a name"):
            plot_heatmaps(blank(12, 12), own.assign(**{"class": nameless}))


def own_classes(*heads: tuple[int, int], origin: str = MEASURED) -> pd.DataFrame:
    """Heads of the class ``mine``."""
    index = pd.MultiIndex.from_tuples(heads, names=["layer", "head"])
    columns = {"class": "mine", "model": OTHER.name, "source": "me", "origin": origin}
    return pd.DataFrame(columns, index=index)


def test_marks_and_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ParameterError, match="both have the name 'mine': rename one"):
        plot_heatmaps(blank(3, 2), own_classes((1, 1)), marks={"mine": [(0, 0)]})
    both = plot_heatmaps(blank(3, 2), own_classes((1, 1)), marks={"yours": [(0, 0)]})
    assert marks(both) == {"yours": [(0, 0)], "mine": [(1, 1)]}


def test_a_class_of_both_origins_marks_a_head_once() -> None:
    origins = (PUBLISHED, MEASURED)
    classes = pd.concat([own_classes((1, 1), (2, 0), origin=origin) for origin in origins])
    assert marks(plot_heatmaps(blank(3, 2), classes)) == {"mine": [(1, 1), (2, 0)]}


@pytest.mark.slow
def test_a_legend_says_that_it_holds_marks_of_ones_own() -> None:
    published, measured = published_classes(GPT2), measured_classes(*MEASURED_HEADS)
    for classes, said in (
        (published, "'Interp. in the Wild' classifications and marked heads"),
        (measured, "Measured on the indirect-object task, and marked heads"),
        (pd.concat([published, measured]), "'Interp. in the Wild', measured and marked heads"),
        (published.iloc[:0], "Marked heads"),
    ):
        fig = plot_heatmaps(gpt2_scores(), classes, marks={"mine": [(0, 0)]})
        assert fig.layout.legend.title.text == said


@pytest.mark.slow
def test_a_legend_speaks_of_its_own_panels_marks() -> None:
    measured = measured_classes((3, 3, HeadClass.NAME_MOVER))
    fig = plot_heatmaps(gpt2_scores(), pd.concat([published_classes(GPT2), measured]))
    titles = [legend.title.text for legend in (fig.layout.legend, fig.layout.legend2)]
    assert titles == [
        "'Interp. in the Wild' and measured classifications",
        "'Interp. in the Wild' classifications",
    ]


@pytest.mark.slow
def test_a_mark_on_the_first_layer_is_whole() -> None:
    fig = plot_heatmaps(blank(48, 9), marks={"one": [(5, 5)], "other": [(0, 0)]})
    pixels = np.array(Image.open(io.BytesIO(render(fig, "png", dpi=192))).convert("RGB"), int)
    left_of_axis = pixels[:, : int(fig.layout.xaxis.domain[0] * pixels.shape[1]) - 2]
    assert (left_of_axis[..., 2] - left_of_axis[..., 0]).max() > 60, "numbers are black, it is blue"


def test_dots_mark_the_scores_that_colour_hides() -> None:
    counts = np.zeros((4, 2), dtype=int)
    counts[0, 0], counts[1, 1], counts[2, 0] = 1, 9, 50
    fig = plot_heatmaps(scores_of(counts), panels=("copying",))
    dots = next(trace for trace in fig.data if trace.name == "above 0")
    assert list(zip(dots.x, dots.y, strict=True)) == [(0, 0), (1, 1)]
    assert dots.marker.color == "#ffffff"
    (_, note) = fig.layout.annotations
    assert note.text.endswith(" · white dot: above 0, too small for its colour")
    bright = plot_heatmaps(scores_of(counts), panels="copying", colorscale=["white", "black"])
    assert " · black dot: above 0" in bright.layout.annotations[1].text
    lifted = plot_heatmaps(scores_of(counts), panels=("copying",), scale="sqrt")
    dots = next(trace for trace in lifted.data if trace.name == "above 0")
    assert not dots.x or list(dots.x) == [0]


@pytest.mark.parametrize("scale", ["sqrt", "rank"])
def test_scales_keep_the_order_and_label_true_scores(scale: str) -> None:
    counts = np.arange(20).reshape(5, 4) * 5
    fig = plot_heatmaps(scores_of(counts), scale=scale, panels="copying")
    z = np.array(fig.data[0].z).T.ravel()
    assert (np.diff(z) > 0).all()
    assert (z.min(), z.max()) == (0, 1) if scale == "rank" else (0, pytest.approx(0.95**0.5))
    bar = fig.data[0].colorbar
    for place, label in zip(bar.tickvals, bar.ticktext, strict=True):
        score = place**2 if scale == "sqrt" else np.interp(place, z, counts.ravel() / 100)
        assert float(label) == pytest.approx(score, abs=0.03)


def test_ticks_fit_the_ends_of_the_bar() -> None:
    bar = plot_heatmaps(blank(2, 2), vmax=0.25).data[0].colorbar
    assert bar.tickvals == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert bar.ticktext[1] == "0.05"


@pytest.mark.parametrize("n_above", [1, 3, 12, 100])
def test_a_bar_by_rank_is_labelled_at_both_ends(n_above: int) -> None:
    counts = np.zeros(144, dtype=int)
    counts[-n_above:] = np.linspace(1, 85, n_above).round() if n_above > 1 else 85
    bar = plot_heatmaps(scores_of(counts.reshape(12, 12)), scale="rank").data[0].colorbar
    assert (bar.tickvals[0], bar.tickvals[-1]) == (0, 1)
    assert (bar.ticktext[0], bar.ticktext[-1]) == ("0.000", "0.850")
    assert min(np.diff(bar.tickvals)) > 0.06, "no two labels touch"


def test_few_names_do_not_look_like_many() -> None:
    few = plot_heatmaps(scores_of(np.zeros((2, 2), dtype=int), n_pairs=3))
    said = few.layout.annotations[2].text
    assert said.startswith("<b>") and said.endswith("</b>") and "only 3 names" in said
    for relation, said in (("copying", "1 name"), ("relation", "1 pair")):
        one = scores_of(np.zeros((2, 2), dtype=int), n_pairs=1, relation="copying")
        if relation == "relation":
            pairs = replace(one.pairs, targets=("other",), target_tokens=(7,))
            one = replace(one, pairs=pairs)
        fig = plot_heatmaps(one)
        assert f"only {said}" in fig.layout.annotations[2].text
        assert f"<br>0 of {said}<br>" in fig.data[0].hovertext[0][0]
        assert f", {said}: of 4 heads" in repr(one)
        assert f"share of {said} (of 1 given" in _caption(facts_of(one))


@pytest.mark.parametrize(
    "bad",
    [
        {"panels": ()}, {"panels": ("copying", "copying")}, {"panels": 3}, {"scale": "log"},
        {"vmin": 0.5, "vmax": 0.5}, {"vmax": float("nan")}, {"vmax": "1"}, {"vmin": True},
        {"scale": "rank", "vmax": 0.5}, {"colorscale": "no such"}, {"font": None}, {"font": 3},
        {"title": 3}, {"title": ["one"]}, {"view": None}, {"arrangement": "below"},
        {"marks": [(0, 0)]}, {"marks": {"a": "xy"}}, {"marks": {"a": [(9, 9)]}},
        {"marks": {"a": None}}, {"marks": {str(n): [(0, 0)] for n in range(9)}},
        {"view": "sorted", "scale": "rank"}, {"view": "sorted", "marks": {"a": [(0, 0)]}},
        {"view": "sorted", "vmin": 0.1}, {"view": "sorted", "vmax": 0.5},
        {"view": "sorted", "colorscale": "Cividis"},
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_the_packages_own_errors(bad: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        plot_heatmaps(blank(2, 3), **bad)
