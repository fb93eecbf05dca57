"""Texts with plotly's markup: measured, spaced, broken into lines, and kept from being markup."""

from __future__ import annotations

import math
import re

from analysis.plots.style import text_width

_LABEL_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

_BOLD = re.compile(r"<b>((?:(?!</?b>).)*)</b>")
"""A line that is bold as a whole."""
_BOLDER = 1.15
"""Width of bold text as a multiple of the usual; seldom too small."""


def as_plain(text: str) -> str:
    """Text that plotly shows as it stands: its texts may hold markup, a model's name may not."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def wrapped(text: str, room: float, size: float) -> list[str]:
    """Break a text into lines that fit.

    Args:
        text: with plotly's markup; ``<br>`` stays a break. Parts between dots (" · ") stay whole
            where they can. A title breaks after its first colon where that is enough.
        room: the longest line that fits.
        size: of the font.

    Returns:
        Lines that are no longer than ``room``; a word that is longer alone is cut into pieces.
    """
    if "<br>" in text:
        return [line for part in text.split("<br>") for line in wrapped(part, room, size)]
    if bold := _BOLD.fullmatch(text):
        return [f"<b>{line}</b>" for line in wrapped(bold[1], room / _BOLDER, size)]
    if line_width(text, size) <= room:
        return [text]
    first, *others = text.split(" · ")
    if others:
        lines = wrapped(first, room, size)
        for part in others:
            longer = f"{lines[-1]} · {part}"
            if line_width(longer, size) <= room:
                lines[-1] = longer
            else:
                lines += wrapped(part, room, size)
        return lines
    before, colon, after = text.partition(": ")
    if colon and line_width(f"{before}:", size) <= room and line_width(after, size) <= room:
        return [f"{before}:", after]
    lines = [""]
    for word in text.split(" "):
        for piece in _pieces(word, room, size):
            longer = f"{lines[-1]} {piece}" if lines[-1] else piece
            if line_width(longer, size) <= room or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(piece)
    return lines


def label_step(cell_px: float, label_px: float) -> int:
    """Of how many ticks one gets a label: the smallest round step whose labels do not touch."""
    return next((step for step in _LABEL_STEPS if step * cell_px >= label_px), _LABEL_STEPS[-1])


def tick_step(span: float, most: float) -> float:
    """The distance of ticks, 1, 2 or 5 times a power of ten: at most ``most`` fit in a span."""
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))


def line_width(text: str, size: float) -> float:
    """Width of a line with markup."""
    plain = re.sub(r"<[^>]*>", "", text)
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        plain = plain.replace(entity, letter)
    return text_width(plain, size)


def _pieces(word: str, room: float, size: float) -> list[str]:
    """A word in pieces that fit, entities whole."""
    if line_width(word, size) <= room:
        return [word]
    pieces = [""]
    for letter in re.findall(r"&\w+;|<[^>]*>|.", word):
        if pieces[-1] and line_width(pieces[-1] + letter, size) > room:
            pieces.append("")
        pieces[-1] += letter
    return pieces
