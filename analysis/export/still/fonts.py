"""The fonts of still pictures, the same on every machine.

Liberation Sans has the widths of Arial and Helvetica and may be passed on (``faces/OFL.txt``), so
it comes with the package: a picture in the package's own style is the same bytes wherever it is
drawn. DejaVu Sans comes with matplotlib and stands in for letters that others lack.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

OWN = "Liberation Sans"
_LAST = "DejaVu Sans"


def families(css: str) -> list[str]:
    """Font families in order, of a list as CSS writes it; the last is always there."""
    names = [name.strip().strip("'\"") for name in css.split(",") if name.strip()]
    return [name for name in names if name != "sans-serif"] + [_LAST]


def missing(css: str) -> str | None:
    """The first family of a list, if neither it nor those after it are there."""
    from matplotlib.font_manager import fontManager

    use_own_font()
    wanted = families(css)[:-1]
    there = {font.name for font in fontManager.ttflist}
    return wanted[0] if wanted and not there & set(wanted) else None


@cache
def use_own_font() -> None:
    """Tell matplotlib of the package's own font, in place of another version of it."""
    from matplotlib.font_manager import fontManager

    fontManager.ttflist = [
        font for font in fontManager.ttflist if font.name != OWN or font.style != "normal"
    ]
    for face in ("Regular", "Bold"):
        name = f"LiberationSans-{face}.ttf"
        with as_file(files("analysis.export.still") / "faces" / name) as path:
            fontManager.addfont(path)
