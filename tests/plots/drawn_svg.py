"""The texts of a drawn SVG, and the rectangles that they cover."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from matplotlib.font_manager import FontProperties, findfont, get_font

from analysis.export.still.fonts import OWN, use_own_font

_SVG = "{http://www.w3.org/2000/svg}"


class TextBox(NamedTuple):
    """A line of text and what it covers, from the picture's top left corner, in its units.

    ``corners`` go round the text itself, which may be turned; the rest is the box around them.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    corners: tuple[tuple[float, float], ...]


def text_boxes(svg: bytes) -> tuple[tuple[float, float], list[TextBox]]:
    """Size of the picture, and its lines of text measured in the package's own font."""
    root = ET.fromstring(svg)
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    boxes = []
    for node in root.iter(f"{_SVG}text"):
        text = "".join(node.itertext())
        if not text.strip():
            continue
        style = node.attrib.get("style", "")
        found = re.search(r"font(?:-size)?: (?:\w+ )*([\d.]+)px", style)
        assert found, style
        size = float(found[1])
        moved = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", node.attrib.get("transform", ""))
        x, y = (
            (float(moved[1]), float(moved[2]))
            if moved
            else (float(node.attrib["x"]), float(node.attrib["y"]))
        )
        turned = re.search(r"rotate\(([-\d.]+)", node.attrib.get("transform", ""))
        angle = math.radians(float(turned[1]) if turned else 0)
        length = _length(text, size)
        anchor = re.search(r"text-anchor: (\w+)", style)
        start = {"middle": -length / 2, "end": -length}.get(anchor[1] if anchor else "", 0.0)
        corners = [
            (
                x + u * math.cos(angle) - v * math.sin(angle),
                y + u * math.sin(angle) + v * math.cos(angle),
            )
            for u, v in (
                (start, -0.72 * size),
                (start + length, -0.72 * size),
                (start + length, 0.2 * size),
                (start, 0.2 * size),
            )
        ]
        xs, ys = zip(*corners, strict=True)
        boxes.append(TextBox(text, min(xs), min(ys), max(xs), max(ys), size, tuple(corners)))
    return (width, height), boxes


def overlaps(boxes: list[TextBox]) -> list[tuple[str, str]]:
    """Pairs of texts of which one covers a part of the other."""
    return [
        (a.text, b.text)
        for at, a in enumerate(boxes)
        for b in boxes[at + 1 :]
        if min(a.right, b.right) - max(a.left, b.left) > 0.3
        and min(a.bottom, b.bottom) - max(a.top, b.top) > 0.3
        and not _apart(a, b)
    ]


def _apart(a: TextBox, b: TextBox) -> bool:
    """Whether a line along one of their sides parts two turned texts."""
    for box in (a, b):
        for (x0, y0), (x1, y1) in pairwise(box.corners[:3]):
            length = math.hypot(x1 - x0, y1 - y0)
            across = [
                [((x1 - x0) * x + (y1 - y0) * y) / length for x, y in one.corners] for one in (a, b)
            ]
            if min(max(across[0]), max(across[1])) - max(min(across[0]), min(across[1])) <= 0.3:
                return True
    return False


def clipped(size: tuple[float, float], boxes: list[TextBox]) -> list[str]:
    """Texts that leave the picture."""
    return [
        box.text
        for box in boxes
        if box.left < 0 or box.top < 0 or box.right > size[0] or box.bottom > size[1]
    ]


@cache
def _length(text: str, size: float) -> float:
    use_own_font()
    font = get_font(findfont(FontProperties(family=OWN)))
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64
