"""Pictures are drawn with the package's own font, whatever the machine has."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont, fontManager

from analysis.export.still.fonts import OWN, families, use_own_font
from analysis.export.still.render import missing_font, render
from analysis.plots.heatmaps import plot_heatmaps
from analysis.plots.style import _HELVETICA, FONT
from tests.made_up import scores_from_counts


@pytest.fixture
def other_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has its own Arial and another version of Liberation Sans."""
    stranger = next(font for font in fontManager.ttflist if font.name == "DejaVu Serif")
    strangers = [dataclasses.replace(stranger, name=name) for name in ("Arial", OWN, "Helvetica")]
    monkeypatch.setattr(fontManager, "ttflist", [*strangers, *fontManager.ttflist])
    use_own_font.cache_clear()
    yield
    use_own_font.cache_clear()
    monkeypatch.undo()
    use_own_font()


@pytest.mark.slow
def test_pictures_are_the_same_whatever_fonts_there_are(other_fonts: None) -> None:
    fig = plot_heatmaps(
        scores_from_counts(np.array([[1, 40], [7, 100]]), np.array([[0, 2], [90, 3]]))
    )
    with_others = [render(fig, picture_format) for picture_format in ("png", "svg", "pdf")]
    found = Path(findfont(FontProperties(family=families(FONT)), fallback_to_default=False))
    assert found.name == "LiberationSans-Regular.ttf" and found.parent.name == "faces"
    fontManager.ttflist = [font for font in fontManager.ttflist if font.name != "Arial"]
    use_own_font.cache_clear()
    alone = [render(fig, picture_format) for picture_format in ("png", "svg", "pdf")]
    assert alone == with_others


def test_a_font_that_is_not_there_is_named() -> None:
    fig = plot_heatmaps(scores_from_counts(np.array([[1]])))
    assert missing_font(fig) is None
    fig.update_layout(font_family="No Such Face, Nor This")
    assert missing_font(fig) == "No Such Face"
    fig.update_layout(font_family="No Such Face, Liberation Sans")
    assert missing_font(fig) is None


def test_texts_of_an_svg_keep_their_width_in_any_font() -> None:
    scores = scores_from_counts(np.array([[1, 40], [7, 100]]))
    fig = plot_heatmaps(scores, marks={"a & b": [(0, 0)]})
    fig.layout.annotations[0].text = "<b>Heads</b>"
    root = ET.fromstring(render(fig, "svg"))
    texts = [node for node in root.iter() if node.tag.endswith("}text")]
    assert {"a & b", "Heads", "Layer"} <= {node.text for node in texts}
    for node in texts:
        style, text = node.attrib["style"], (node.text or "").strip()
        assert node.attrib["lengthAdjust"] == "spacingAndGlyphs"
        assert "'DejaVu Sans', sans-serif" in style
        if text.isascii():
            size = re.search(r"font-size: ([\d.]+)px", style)
            assert size
            published = sum(_HELVETICA[ord(letter) - 32] for letter in text) / 1000
            wider = float(node.attrib["textLength"]) / float(size[1]) / published
            # Letters are kerned, and bold ones are wider.
            assert 1.02 < wider < 1.15 if "weight" in style else 0.97 < wider < 1.01
