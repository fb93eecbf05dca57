"""What is changed on the figure object is in every format, read back from the files."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pypdfium2 as pdfium
import pytest
from matplotlib.figure import Figure
from PIL import Image
from plotly.subplots import make_subplots

from analysis.export.files import export_figure
from analysis.export.still.frame import Canvas, draw_axes
from analysis.export.still.render import needs_browser, render
from analysis.export.still.resolved import resolve
from analysis.plots.heatmaps import plot_heatmaps
from tests.made_up import scores_from_counts


def figure() -> go.Figure:
    counts = np.zeros((6, 4), dtype=int)
    counts[3, 2] = 50
    return plot_heatmaps(scores_from_counts(counts))


def page_layouts(path: Path) -> list[dict[str, object]]:
    found = re.search(r"^const figure = (.*);$", path.read_text(), re.MULTILINE)
    assert found
    whole = json.loads(found[1])
    return [one | {"data": whole["data"]} for one in whole["layouts"]]


def pdf_text(path: Path) -> tuple[str, dict[str, float]]:
    """All text of the page, and the size of the font of each object."""
    document = pdfium.PdfDocument(path)
    text = document[0].get_textpage().get_text_range()
    return text, {}


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 85, 180])
def test_titles_fonts_and_sizes(tmp_path: Path, width: float | None) -> None:
    plain, changed = figure(), figure()
    changed.layout.annotations[0].text = "My own & special <i>title</i>"
    changed.update_layout(font_family="DejaVu Serif", font_size=15)
    changed.layout.xaxis.title.text = "Block"
    export_figure(plain, tmp_path / "plain", width=width)
    export_figure(changed, tmp_path / "f", width=width)

    for one in page_layouts(tmp_path / "f.html"):
        text = json.dumps(one["layout"])
        for word in ("My own", "DejaVu Serif", "Block"):
            assert word in text
    svg = (tmp_path / "f.svg").read_text()
    shown = re.sub(r"<[^>]*>", " ", svg)
    assert "special title" in shown and "Block" in shown
    assert "font-family: 'DejaVu Serif'" in svg

    def sizes(stem: str) -> set[float]:
        found = re.findall(r"font(?:-size)?: ([\d.]+)px", (tmp_path / f"{stem}.svg").read_text())
        return {float(size) for size in found}

    assert min(sizes("f")) / min(sizes("plain")) == pytest.approx(13 / 13, abs=0.2)
    assert any(s == pytest.approx(min(sizes("plain")) * 15 / 13, rel=0.01) for s in sizes("f"))
    text, _ = pdf_text(tmp_path / "f.pdf")
    assert "My own & special title" in text.replace("\r\n", " ") and "Block" in text
    assert b"DejaVuSerif" in (tmp_path / "f.pdf").read_bytes()
    assert pixels(tmp_path / "f.png") != pixels(tmp_path / "plain.png")


def pixels(path: Path) -> bytes:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return image.convert("RGB").tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("vmax", [1.0, 0.5])
def test_the_colours_of_the_scale(tmp_path: Path, vmax: float) -> None:
    """Head 3.2 copies half: yellow where the bar ends at 0.5, green where at 1."""
    fig = figure()
    fig.data[0].zmax = vmax
    fig.data[0].colorscale = [[0, "#000000"], [0.5, "#ff0000"], [1, "#00ff00"]]
    wanted = (255, 0, 0) if vmax == 1 else (0, 255, 0)
    export_figure(fig, tmp_path / "f", dpi=96)
    data = page_layouts(tmp_path / "f.html")[0]["data"]
    assert data[0]["zmax"] == vmax and data[0]["colorscale"][1][1] == "#ff0000"  # type: ignore[index]
    svg = (tmp_path / "f.svg").read_text()
    assert re.search(r'id="cells".*?fill: #{:02x}{:02x}{:02x}'.format(*wanted), svg, re.DOTALL)
    with Image.open(tmp_path / "f.png") as png:
        assert share_of(np.asarray(png.convert("RGB")), wanted) > 0.004
    page = pdfium.PdfDocument(tmp_path / "f.pdf")[0].render(scale=1.5).to_pil()
    assert share_of(np.asarray(page.convert("RGB")), wanted) > 0.004


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(picture.astype(int) - colour).max(axis=-1) <= 3).mean())


def test_markers_have_the_colour_of_their_line_as_plotly_gives_them() -> None:
    error = {"array": [0.5, 0.5]}
    fig = go.Figure([go.Scatter(x=[0, 1], y=[0, 1], mode="lines+markers", error_y=error)])
    plain = render(fig, "svg").decode()
    coloured = render(fig.update_traces(line_color="#123456"), "svg").decode()
    own = render(fig.update_traces(marker_color="#654321"), "svg").decode()
    first = "#636efa"  # of plotly's own template
    assert first in plain
    assert "#123456" in coloured and first not in coloured
    assert "#123456" in own and "#654321" in own


@pytest.mark.parametrize("letter", ["x", "y"])
def test_axes_that_match_show_the_same(letter: str) -> None:
    """Three panels without ranges of their own: one range, from the values of all of them."""
    shared = {"cols": 3, "shared_yaxes": True} if letter == "y" else {"rows": 3}
    fig = make_subplots(**shared, shared_xaxes=letter == "x")
    for number, ends in enumerate(([0, 1], [2, 30], [-4, 5]), start=1):
        place = {"row": 1, "col": number} if letter == "y" else {"row": number, "col": 1}
        fig.add_trace(go.Scatter(**{letter: ends}, mode="markers"), **place)
    source = resolve(fig)
    panels = draw_axes(Canvas(Figure((7, 5)), source, 0.75)).values()
    limits = {panel.get_ylim() if letter == "y" else panel.get_xlim() for panel in panels}
    assert len(limits) == 1 and len(panels) == 3
    ((low, high),) = limits
    assert -10 < low < -4 and 30 < high < 36


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("<b>whole</b>", "bold"),
        ("<b>two<br>lines</b>", "bold"),
        ("<b>two</b><br><b>lines</b>", "bold"),
        ("<b>two</b><br>lines", "normal"),
        ("<b>in</b> part", "normal"),
        ("not", "normal"),
    ],
)
def test_a_text_is_bold_where_all_of_it_is(text: str, weight: str) -> None:
    figure = Figure((7, 5))
    Canvas(figure, resolve(go.Figure()), 0.75).write(0.5, 0.5, text)
    assert figure.texts[0].get_fontweight() == weight


def test_matching_axes_of_words_have_one_order() -> None:
    fig = make_subplots(cols=2, shared_yaxes=True)
    fig.add_trace(go.Scatter(x=[1, 2], y=["Mary", "John"], mode="markers"), row=1, col=1)
    fig.add_trace(go.Scatter(x=[1, 2], y=["John", "Anna"], mode="markers"), row=1, col=2)
    source = resolve(fig)
    assert source.words["y", "y"] == source.words["y", "y2"] == ["Mary", "John", "Anna"]


@pytest.mark.parametrize(
    "axis", [{"rangemode": "tozero"}, {"scaleanchor": "x"}, {"autorange": "min"}]
)
def test_axes_that_only_a_browser_draws_are_named(axis: dict[str, object]) -> None:
    fig = go.Figure(go.Scatter(y=[1, 2])).update_yaxes(axis)
    assert any(next(iter(axis)) in what for what in needs_browser(fig))
