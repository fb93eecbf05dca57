"""Texts of an SVG that keep their width in whatever font its reader has."""

from __future__ import annotations

import html
import re

_TEXT = re.compile(r'<text style="([^"]*)"([^>]*)>([^<]+)</text>')


def keep_widths(svg: bytes) -> bytes:
    """Write beside every text how wide it was laid out, so that another font is fitted to that."""
    return _TEXT.sub(_with_width, svg.decode()).encode()


def _with_width(found: re.Match[str]) -> str:
    style, rest, text = found.groups()
    width = _width(html.unescape(text).strip(), style)
    # With the generic family no reader takes one with serifs.
    style = re.sub(r"(font-family: [^;]*'DejaVu Sans')(?=;|$)", r"\1, sans-serif", style)
    fit = f' textLength="{width:.2f}" lengthAdjust="spacingAndGlyphs"' if width else ""
    return f'<text style="{style}"{rest}{fit}>{text}</text>'


def _width(text: str, style: str) -> float:
    """Width of a line in the font that it was laid out in, in the picture's units."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    css = dict(part.split(": ", 1) for part in style.split("; "))
    font = FontProperties(
        family=re.findall(r"'([^']*)'", css["font-family"]),
        size=float(css["font-size"].removesuffix("px")),
        weight=int(css.get("font-weight", 400)),
    )
    font.set_style(css.get("font-style", "normal"))  # type: ignore[arg-type]
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return float(width)
