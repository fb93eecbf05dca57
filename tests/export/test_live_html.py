"""A converted notebook keeps its figures live, with the network blocked."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import numpy as np
import pytest

from analysis.cli.run_cells import run_cells
from analysis.export.live_html import LiveHTMLExporter, with_live_figures
from analysis.plots.heatmaps import plot_heatmaps
from tests.made_up import scores_from_counts

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHOW = """\
import plotly.io
from analysis.export.display import show_figure
show_figure(plotly.io.from_json(open("figure.json").read()))"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """A figure shown twice; head 3.2 copies half of the names."""
    folder = tmp_path_factory.mktemp("notebook")
    counts = np.zeros((6, 4), dtype=int)
    counts[3, 2] = 50
    fig = plot_heatmaps(scores_from_counts(counts), title="</script><b>")
    (folder / "figure.json").write_text(fig.to_json())
    cells = [nbformat.v4.new_code_cell(SHOW), nbformat.v4.new_code_cell(SHOW + "; 'words'")]
    run_cells(cells, folder)
    return nbformat.from_dict(nbformat.v4.new_notebook(cells=cells))


@pytest.mark.slow
def test_the_notebook_itself_stays_as_it_is(notebook: nbformat.NotebookNode) -> None:
    before = nbformat.writes(notebook)
    live = nbformat.writes(with_live_figures(notebook))
    assert nbformat.writes(notebook) == before
    assert live.count('id=\\"packed-plotly\\"') == 1
    bare = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    assert with_live_figures(bare) == bare


def test_a_widget_leaves_the_picture_beside_it() -> None:
    """As JupyterLab saves the explorer, with the widget's state; nbconvert prefers the view."""
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "m"}, "text/plain": "it"}
    picture = "<svg xmlns='http://www.w3.org/2000/svg'></svg>"
    cells = [
        nbformat.v4.new_code_cell("it", outputs=[nbformat.v4.new_output("display_data", data)])
        for data in (view | {"image/svg+xml": picture}, view)
    ]
    state: dict[str, object] = {"application/vnd.jupyter.widget-state+json": {"state": {"m": {}}}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": state})
    page, _ = LiveHTMLExporter().from_notebook_node(notebook)
    assert b64encode(picture.encode()).decode() in page
    assert page.count('"model_id": "m"') == 1  # that of the widget without a picture


@pytest.mark.chromium
def test_figures_answer_to_hovering_without_a_network(
    notebook: nbformat.NotebookNode, chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "notebook.html"
    file.write_text(LiveHTMLExporter().from_notebook_node(notebook)[0])
    context = chromium.new_context(offline=True, viewport={"width": 1440, "height": 1200})
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-live=yes]")
    assert page.locator(".live-figure .main-svg .heatmaplayer").count() >= 4
    box = page.locator(".live-figure").first.locator(".xy .nsewdrag").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 3.5 / 6, box["y"] + box["height"] * 1.5 / 4)
    page.wait_for_selector(".hoverlayer .hovertext")
    assert "50 of 100 names" in (page.locator(".hoverlayer").first.text_content() or "")
    context.close()
