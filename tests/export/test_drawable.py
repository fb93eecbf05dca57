"""Settings of a figure are drawn by the still pictures as by plotly, or named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from analysis.export.files import export_figure
from analysis.export.still.drawable import cannot_draw
from analysis.export.still.render import needs_browser, render
from analysis.export.still.resolved import resolve
from analysis.plots.heatmap_layout import fit_width
from analysis.plots.heatmaps import plot_heatmaps
from tests.made_up import scores_from_counts
from tests.plots.drawn_svg import TextBox, text_boxes
from tests.plots.other_figures import OTHERS

COUNTS = np.array([[5, 0], [95, 40], [70, 10]])
CIRCUIT = {"first": [(0, 0)], "second": [(1, 1)]}


def figure(counts: np.ndarray = COUNTS) -> go.Figure:
    return plot_heatmaps(scores_from_counts(counts), marks=CIRCUIT)


def own(*traces: Any, **layout: Any) -> go.Figure:
    return go.Figure(traces, layout={"template": "none"} | layout)


def texts(fig: go.Figure) -> list[TextBox]:
    return text_boxes(render(fig, "svg"))[1]


def cells(fig: go.Figure) -> list[str]:
    svg = render(fig, "svg").decode()
    first = svg[svg.index('id="cells"') :]
    return re.findall(r"fill: (#\w{6})", first[: first.index("</g>")])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_figures_of_the_package_need_no_browser(name: str) -> None:
    assert needs_browser(OTHERS[name]()) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"zmid": 0.3}, "zmid=0.3 of a heatmap"),
        ({"opacity": 0.3}, "opacity=0.3 of a heatmap"),
        ({"zsmooth": "best"}, "zsmooth='best' of a heatmap"),
        ({"transpose": True}, "transpose=True of a heatmap"),
        ({"text": [["a"] * 3] * 2, "texttemplate": "%{text}"}, "texttemplate"),
        ({"colorbar_orientation": "h"}, "colorbar.orientation='h'"),
        ({"colorbar_nticks": 2}, "colorbar.nticks=2"),
        ({"colorbar_tickangle": 40}, "colorbar.tickangle=40"),
        ({"colorbar_outlinewidth": 2}, "colorbar.outlinewidth=2"),
        ({"colorbar_bgcolor": "red"}, "colorbar.bgcolor='red'"),
        ({"x": [0, 10, 100]}, "other steps than 1"),
    ],
)
def test_settings_of_heatmaps_that_are_not_drawn(settings: dict[str, Any], named: str) -> None:
    fig = figure().update_traces(settings, {"type": "heatmap"})
    (found,) = needs_browser(fig)
    assert found.startswith(named) or named in found


@pytest.mark.parametrize(
    "settings", [{"side": "right"}, {"nticks": 3}, {"tickangle": 90}, {"ticks": "inside"}]
)
def test_settings_of_axes_that_are_not_drawn(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    assert needs_browser(figure().update_yaxes(settings)) == [f"{name}={value!r} of an axis"]


@pytest.mark.parametrize("place", ["title_text", "xaxis_title_text", "annotations[0].text"])
def test_superscripts_are_not_drawn_as_if_they_stood_on_the_line(place: str) -> None:
    fig = figure().update_layout({place: "10<sup>-3</sup> of all"})
    assert needs_browser(fig) == ["superscripts (<sup>)"]
    hovering = figure().update_traces(hovertext=[["10<sup>-3</sup>"]], selector={"type": "heatmap"})
    assert needs_browser(hovering) == []


def test_settings_that_no_picture_shows_need_no_browser() -> None:
    fig = figure().update_layout(dragmode="pan", hoverlabel_font_size=9, uirevision="a")
    fig.update_traces(hoverinfo="skip").update_xaxes(fixedrange=True, showspikes=True)
    fig.update_traces({"zmax": 0.5, "zsmooth": False, "opacity": 1}, {"type": "heatmap"})
    assert needs_browser(fig) == []


@pytest.mark.slow
def test_reversed_colours() -> None:
    fig = figure()
    fig.update_traces({"zmin": 0, "zmax": 1, "z": [[0.0, 1.0]]}, {"type": "heatmap"})
    low, high = cells(fig)
    fig.update_traces(reversescale=True, selector={"type": "heatmap"})
    assert needs_browser(fig) == []
    assert cells(fig) == [high, low]
    fig.update_traces(reversescale=False, colorscale="Viridis_r", selector={"type": "heatmap"})
    assert cells(fig) == [high, low]


@pytest.mark.parametrize("z", [[[0.0, 1.0]], np.array([[0.0, 1.0]]), [np.array([0, 1])]])
def test_values_of_a_heatmap_however_they_are_held(z: Any) -> None:
    fig = own(go.Heatmap(z=z, colorscale=["#112233", "#ffeedd"]))
    assert needs_browser(fig) == []
    assert cells(fig) == ["#112233", "#ffeedd"]


@pytest.mark.parametrize("z", [None, [], [[1, 2], [3]], [["a"]]])
def test_no_table_of_numbers_is_named(z: Any) -> None:
    assert needs_browser(own(go.Heatmap(z=z)))


@pytest.mark.slow
def test_axes_legends_and_labels_that_are_hidden() -> None:
    fig = figure()
    shown = {box.text for box in texts(fig)}
    assert {"Layer", "Head", "first", "1.0"} <= shown
    fig.update_yaxes(visible=False).update_layout(
        legend_visible=False, xaxis_visible=False, xaxis2_visible=False
    )
    fig.update_traces(colorbar_showticklabels=False, selector={"type": "heatmap"})
    assert needs_browser(fig) == []
    hidden = {box.text for box in texts(fig)}
    assert not {"Layer", "Head", "first", "0", "1", "1.0"} & hidden
    assert any("Name-Copying" in text for text in hidden)


@pytest.mark.slow
@pytest.mark.parametrize("turned", ["yaxis", "yaxis2"])
def test_a_turned_axis_turns_those_that_match(turned: str) -> None:
    """As plotly does, whichever of them is turned."""
    fig = figure()
    usual = [box for box in texts(fig) if box.text == "0" and box.left < box.top]
    fig.layout[turned].autorange = "reversed"
    source = resolve(fig)
    for reference in ("y", "y2"):
        assert source.axis("y", reference)["autorange"] == "reversed"
    heads = [box for box in texts(fig) if box.text == "Head"]
    ys = {text: [b.top for b in texts(fig) if b.text == text] for text in ("0", "1")}
    assert len(heads) == 2 and usual
    # The labels of the y axes are the highest and lowest of those digits.
    assert min(ys["0"]) < min(ys["1"])
    assert sum(top == min(ys["0"]) for top in ys["0"]) == 2


@pytest.mark.slow
def test_a_range_is_that_of_all_axes_that_match() -> None:
    fig = figure()
    fig.layout.yaxis.range = [-1, 5]
    source = resolve(fig)
    assert source.axis("y", "y2")["range"] == source.axis("y", "y")["range"] == [-1, 5]


@pytest.mark.parametrize("orientation", ["h", "v"])
@pytest.mark.parametrize("order", ["normal", "reversed"])
def test_order_of_a_legend(order: str, orientation: str) -> None:
    names = ["one", "two", "three"]
    traces = [go.Scatter(x=[1, 2], y=[1, 2], name=name) for name in names]
    legend = {"traceorder": order, "orientation": orientation, "x": 0}
    drawn = {box.text: box for box in texts(own(*traces, legend=legend))}
    found = sorted(names, key=lambda name: (round(drawn[name].top), drawn[name].left))
    assert found == (names if order == "normal" else names[::-1])


POINTS = {"x": [1, 2, 3], "y": [1, 2, 3]}


@pytest.mark.parametrize(
    ("trace", "named"),
    [
        (POINTS | {"stackgroup": "one"}, "stackgroup"),
        (POINTS | {"error_y": {"type": "percent", "value": 20}}, "error"),
        (POINTS | {"error_y": {"value": 20}}, "error bars without lengths"),
        (POINTS | {"marker": {"size": [1, 20, 3]}}, "many sizes"),
        (POINTS | {"marker": {"symbol": ["x", "x", "star"]}}, "many kinds"),
        (POINTS | {"x": ["1", "2", "10"]}, "numbers written as words"),
        (POINTS | {"x": ["2020-01-01", "2020-02-01", "2022-01-01"]}, "dates"),
        (POINTS | {"x": np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")}, "dates"),
        (POINTS | {"x": [["a", "a", "b"], ["1", "2", "1"]]}, "categories of categories"),
    ],
)
def test_points_that_plotly_draws_elsewhere(trace: dict[str, Any], named: str) -> None:
    found = needs_browser(own(go.Scatter(trace)))
    assert found and any(named in what for what in found)


def test_words_along_an_axis_need_no_browser() -> None:
    plain = own(go.Scatter(x=["a", "b"], y=[1, 2]))
    told = own(go.Scatter(x=["1", "2"], y=[1, 2]), xaxis={"type": "category"})
    strict = go.Figure(go.Scatter(x=["1", "2"], y=[1, 2]))  # by plotly's template
    assert needs_browser(plain) == needs_browser(told) == needs_browser(strict) == []


def test_a_second_axis_over_the_first_is_named() -> None:
    fig = make_subplots(specs=[[{"secondary_y": True}]]).update_layout(template="none")
    fig.add_scatter(**POINTS, name="a").add_scatter(**POINTS, name="b", secondary_y=True)
    assert {"overlaying='y' of an axis", "side='right' of an axis"} <= set(needs_browser(fig))


def test_what_only_the_template_has_is_not_of_the_figure() -> None:
    fig = go.Figure(go.Scatter(POINTS))
    assert needs_browser(fig) == []
    fig.layout.geo.projection.type = "orthographic"
    assert needs_browser(fig) == ["geo"]


def test_a_legend_that_plotly_makes_room_for_is_named() -> None:
    traces = [go.Scatter(POINTS, name=f"a name of some length, {at}") for at in range(2)]
    assert cannot_draw(resolve(own(*traces))) == ["a legend wider than the margin beside the plot"]
    assert cannot_draw(resolve(own(*traces, margin={"r": 300}))) == []
    assert "without names" in cannot_draw(resolve(own(go.Scatter(POINTS), go.Scatter(POINTS))))[0]


@pytest.mark.parametrize(("step", "start", "labels"), [(2, 0, "048"), (1, 0, "02468"),
                                                     (3, 1, "17")])  # fmt: skip
def test_every_second_tick_has_a_label(step: int, start: int, labels: str) -> None:
    axis = {"range": [-0.5, 9.5], "dtick": step, "tick0": start, "ticklabelstep": 2}
    fig = own(go.Scatter(y=[20, 30]), xaxis=axis)
    assert "".join(box.text for box in texts(fig) if len(box.text) == 1) == labels


@pytest.mark.slow
@pytest.mark.parametrize("kept", [(), (0,), (1,), (2,), (0, 1), (1, 2), (2, 1, 0)])
def test_titles_that_are_taken_away(tmp_path: Path, kept: tuple[int, ...]) -> None:
    whole, fig = figure(), figure()
    fig.layout.annotations = [fig.layout.annotations[at] for at in kept]
    export_figure(fig, tmp_path / "f", ["svg", "html"])
    for width in (330.0, 1200.0):
        placed = fit_width(fit_width(fig, 500), width)
        expected = {note.name: note for note in fit_width(whole, width).layout.annotations}
        assert len(placed.layout.annotations) == len(kept)
        for note in placed.layout.annotations:
            assert note.x == pytest.approx(expected[note.name].x)
            assert note.text == expected[note.name].text


@pytest.mark.parametrize("margin", [{"t": 30}, {"t": 30, "l": 20}, {"t": 0, "r": 10, "b": 0}])
def test_margins_that_a_figure_has_none_of(tmp_path: Path, margin: dict[str, int]) -> None:
    fig = own(go.Scatter(POINTS), height=400, margin=margin)
    written = export_figure(fig, tmp_path / "f", "png", width=85)
    assert [path.suffix for path in written] == [".png", ".json"]
    narrow = fit_width(fig, 300)
    assert narrow.layout.margin.l == margin.get("l", 80)
    assert narrow.layout.margin.b == margin.get("b", 80)
