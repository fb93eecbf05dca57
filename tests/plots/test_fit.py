"""No text of the figure overlaps another or leaves it, at any width, for any model."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.export.files import _MM_PER_PX, _PRINT_SCALE
from analysis.export.still.render import needs_browser, render
from analysis.ioi.head_classes import MEASURED, HeadClass, published_classes
from analysis.plots.heatmap_layout import fit_width
from analysis.plots.heatmaps import plot_heatmaps
from analysis.plots.sweep import plot_by_depth
from analysis.provenance import ModelIdentity
from analysis.static.head_scores import HeadScores
from tests.made_up import scores_from_counts
from tests.plots.drawn_svg import TextBox, clipped, overlaps, text_boxes
from tests.plots.other_figures import OTHERS, attention, kinds, swept

SHAPES = ((12, 12), (30, 9), (48, 25))
MODEL = ModelIdentity("some/model", "SmolLM2-135M-Instruct")
WIDTHS = {
    "85 mm": 85 / _MM_PER_PX,
    "180 mm": 180 / _MM_PER_PX,
    "1500": 1500,
    "1024": 1024,
    "390": 390,
}


def made_up(shape: tuple[int, int]) -> HeadScores:
    rng = np.random.default_rng(0)
    top, bottom = (rng.random((2, *shape)) ** 6 * 100).astype(int)
    return scores_from_counts(top, bottom, model=MODEL)


def overlay(which: str, shape: tuple[int, int]) -> pd.DataFrame:
    published = published_classes("gpt2").assign(model=MODEL.name)
    published = published[published.index.get_level_values("head") < shape[1]]
    heads = [(2, 3), (4, 5), (6, 7), (8, 1)]
    names = [HeadClass.NAME_MOVER, HeadClass.BACKUP_NAME_MOVER]
    names += [HeadClass.NEGATIVE_NAME_MOVER, HeadClass.BACKUP_NEGATIVE_NAME_MOVER]
    measured = pd.DataFrame(
        {"class": names, "model": MODEL.name, "source": "a run", "origin": MEASURED},
        index=pd.MultiIndex.from_tuples(heads, names=["layer", "head"]),
    )
    return {
        "none": published.iloc[:0],
        "one": published,
        "both": pd.concat([published, measured]),
    }[which]


def drawn(fig, scale: float = 1.0) -> tuple[tuple[float, float], list[TextBox]]:  # type: ignore[no-untyped-def]
    return text_boxes(render(fig, "svg", scale=scale))


# Fewer marks need less room: they are tried where there is least.
NARROW = [(which, width) for which in ("none", "one") for width in ("85 mm", "390")]


@pytest.mark.slow
@pytest.mark.parametrize(("which", "width"), [("both", width) for width in WIDTHS] + NARROW)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_overlaps_or_is_cut(shape: tuple[int, int], which: str, width: str) -> None:
    fig = fit_width(
        plot_heatmaps(made_up(shape), overlay(which, shape)), WIDTHS[width], screen=False
    )
    scale = _PRINT_SCALE if "mm" in width else 1.0
    size, boxes = drawn(fig, scale)
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []
    assert min(box.size for box in boxes) >= (5.99 if "mm" in width else 9.7)
    if "mm" in width:
        assert size[0] == pytest.approx(float(width[:-3]) / 25.4 * 72, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"view": "sorted"},
        {"scale": "rank"},
        {"scale": "sqrt", "vmax": 0.01},
        {"panels": "suppression", "title": "A long title of my own " * 6},
        {"title": "A heading above both of the panels " * 4},
        {"marks": {f"a set with quite a long name, number {n}": [(n, n)] for n in range(6)}},
    ],
)
@pytest.mark.parametrize("width", ["85 mm", "180 mm"])
def test_nor_with_options(options: dict[str, object], width: str) -> None:
    fig = plot_heatmaps(made_up((12, 12)), **options)  # type: ignore[arg-type]
    size, boxes = drawn(fit_width(fig, WIDTHS[width], screen=False))
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []


@pytest.mark.slow
@pytest.mark.parametrize("which", ["one", "both"])
def test_nor_with_marks_beside_classes(which: str) -> None:
    fig = plot_heatmaps(made_up((12, 12)), overlay(which, (12, 12)), marks={"mine": [(0, 0)]})
    size, boxes = drawn(fit_width(fig, WIDTHS["85 mm"], screen=False))
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", ["85 mm", "390"])
def test_nor_where_few_names_are_said_in_bold(width: str) -> None:
    counts = np.random.default_rng(0).integers(0, 3, (2, 12, 12))
    few = scores_from_counts(*counts, n_pairs=3, model=MODEL)
    svg = render(fit_width(plot_heatmaps(few), WIDTHS[width], screen=False), "svg")
    size, boxes = text_boxes(svg)
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []
    bold = re.findall(r'<text style="font-weight: 700[^>]*>(.*?)</text>', svg.decode(), re.DOTALL)
    said = " ".join(re.sub(r"<[^>]*>|\s+", " ", text) for text in bold)
    assert "k = 1" in said and "only 3 names" in said and "Head" not in said


@pytest.mark.slow
@pytest.mark.parametrize("width", ["85 mm", "180 mm"])
def test_nor_with_larger_fonts_of_the_owner(width: str) -> None:
    fig = plot_heatmaps(made_up((12, 12)), overlay("both", (12, 12)))
    fig.update_layout(font_size=17)
    fig.layout.annotations[0].font.size = 24
    size, boxes = drawn(fit_width(fig, WIDTHS[width], screen=False))
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", ["85 mm", "920"])
@pytest.mark.parametrize("which", OTHERS)
def test_nor_in_the_figures_of_the_other_notebooks(which: str, width: str) -> None:
    fig = OTHERS[which]()
    assert needs_browser(fig) == []
    size, boxes = drawn(fit_width(fig, WIDTHS.get(width, 920), screen=False))
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 700, 920, 1050])
def test_a_legend_of_many_models_has_room(width: int) -> None:
    models = [swept(title=f"Pythia-{n}00m-deduped", n_layers=30) for n in range(12)]
    fig = plot_by_depth(pd.concat(models), "Models of one family")
    size, boxes = drawn(fit_width(fig, width, screen=False))
    assert sum("Pythia" in box.text for box in boxes) == 12
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []


@pytest.mark.slow
def test_a_figure_of_anyone_with_a_legend_below_has_room_for_it_too() -> None:
    names = [f"a line with quite a long name, number {n}" for n in range(9)]
    fig = go.Figure([go.Scatter(x=[0, 1], y=[0, 1], name=name) for name in names])
    fig.update_layout(width=900, height=300, margin_t=40)
    fig.update_layout(legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2})
    size, boxes = drawn(fit_width(fig, 900, screen=False))
    assert clipped(size, boxes) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [700, 920])
def test_panels_of_many_heads_share_the_title_of_their_axes(width: int) -> None:
    fig = attention(8)
    size, boxes = drawn(fit_width(fig, width, screen=False))
    assert [box.text for box in boxes].count("Attention to the name") == 1
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []
    narrow = fit_width(fig, 390)
    assert {axis.title.text for axis in narrow.select_xaxes()} == {"Attention to the name"}
    assert len(narrow.layout.annotations) == 8, "the shared title is gone"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 700, 920])
def test_a_long_name_fits_above_the_kinds_of_tokens(width: int) -> None:
    fig = kinds("TinyLlama-1.1B-intermediate-step-1431k-3T")
    size, boxes = drawn(fit_width(fig, width, screen=False))
    assert overlaps(boxes) == []
    assert clipped(size, boxes) == []


@pytest.mark.slow
@pytest.mark.parametrize("which", OTHERS)
def test_axis_titles_end_above_a_legend_below_them(which: str) -> None:
    fig = OTHERS[which]()
    margin, legend = fig.layout.margin, fig.layout.legend
    if legend.orientation != "h" or fig.data[0].type == "heatmap":
        return
    below = -legend.y * (fig.layout.height - margin.t - margin.b)
    for axis in fig.select_xaxes():
        if axis.title.text and below < 65:
            # Without a distance a browser writes the title 30 to 60 pixels below the panel.
            assert axis.title.standoff is not None, axis.title.text


def test_narrow_figures_have_every_panel_trace_and_title() -> None:
    wide = OTHERS["attention"]()
    narrow = fit_width(wide, WIDTHS["85 mm"])
    assert [trace.x for trace in narrow.data] == [trace.x for trace in wide.data]
    domains = [axis.domain for axis in narrow.select_yaxes()]
    assert all(low[0] > high[1] for low, high in pairwise(domains))
    assert all(axis.domain == (0, 1) for axis in narrow.select_xaxes())
    assert len({axis.title.text for axis in narrow.select_yaxes()}) == 1
    assert [note.y for note in narrow.layout.annotations] == [domain[1] for domain in domains]
    assert wide.layout.width == 920, "the figure itself stays as it is"


@pytest.mark.slow
def test_the_test_finds_overlaps() -> None:
    fig = fit_width(plot_heatmaps(made_up((12, 12))), 920)
    fig.layout.annotations[0].x = fig.layout.annotations[1].x
    fig.layout.annotations[2].x = 0.01
    size, boxes = drawn(fig)
    assert overlaps(boxes) and clipped(size, boxes)
