"""Still pictures of plotly figures, drawn by the Chromium or Chrome that the machine has.

kaleido drives the browser. All pictures of one call share one browser, since starting it takes
longer than drawing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from analysis.errors import ExportError
from analysis.export.vector_svg import sharp_svg, with_fixed_ids

if TYPE_CHECKING:
    from kaleido import Kaleido

INSTALL_HINT = "install Chromium (Debian: apt install chromium; elsewhere: plotly_get_chrome)"

TIME_LIMIT_S = 120.0
"""A browser that has not drawn everything by then is given up; it needs some seconds."""

CLOSE_LIMIT_S = 5.0


@dataclass(frozen=True)
class Picture:
    """One picture to draw.

    Attributes:
        fig: what it shows.
        format: ``png``, ``svg`` or ``pdf``.
        scale: size of the picture as a multiple of the figure's own size in CSS pixels.
    """

    fig: go.Figure
    format: str
    scale: float = 1.0


def find_chromium() -> str | None:
    """Path of the browser that kaleido would start (``BROWSER_PATH`` or a known one), if any."""
    from choreographer.browsers.chromium import Chromium  # slow to import, seldom needed

    path = Chromium.find_browser(skip_local=False)
    return str(path) if path and os.path.isfile(path) and os.access(path, os.X_OK) else None


def draw(pictures: list[Picture], chromium: str) -> list[bytes]:
    """Draw pictures.

    Args:
        pictures: what to draw.
        chromium: path of the browser.

    Returns:
        The files' contents, in the order of ``pictures``.

    Raises:
        ExportError: the browser does not start, or does not draw.
    """
    # A thread of its own, because a notebook's thread already runs an event loop.
    with ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(asyncio.run, _draw_all(pictures, chromium)).result()
        except Exception as error:  # of kaleido, choreographer, asyncio or the system
            reason = error.args[0] if error.args else type(error).__name__
            raise ExportError(f"{chromium} could not draw the figure: {reason}") from error


async def _draw_all(pictures: list[Picture], chromium: str) -> list[bytes]:
    """Draw one picture after another in one browser."""
    from kaleido import Kaleido

    # Without MathJax, which kaleido would fetch from the network.
    browser = Kaleido(n=1, mathjax=False, path=chromium)
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            await browser.open()
            return [await _draw_one(browser, picture) for picture in pictures]
    finally:
        # Also where it did not open: what it started would keep this process from ending. A
        # browser that does not answer is asked for a while, and then killed.
        with suppress(TimeoutError):
            await asyncio.wait_for(browser.close(), CLOSE_LIMIT_S)


async def _draw_one(browser: Kaleido, picture: Picture) -> bytes:
    """Draw one picture."""
    vector = picture.format in ("svg", "pdf")
    options = {"format": "svg" if vector else picture.format, "scale": picture.scale}
    drawn: bytes = await browser.calc_fig(with_fixed_ids(picture.fig), opts=options)
    if not vector:
        return drawn
    svg = sharp_svg(drawn.decode(), picture.fig)
    return svg.encode() if picture.format == "svg" else await _print(browser, svg)


async def _print(browser: Kaleido, svg: str) -> bytes:
    """A PDF of one page that is as large as the picture.

    kaleido's own PDF has a margin around the picture and cuts off as much at its foot.
    """
    width, height = re.findall(r'\b(?:width|height)="([\d.]+)"', svg)[:2]
    style = (
        f"@page {{ size: {width}px {height}px; margin: 0 }} "
        "html, body { margin: 0 } svg { display: block }"
    )
    page = f"<head><style>{style}</style></head><body>{svg}</body>"
    tab = await browser.create_tab("about:blank")
    write = f"document.documentElement.innerHTML = {json.dumps(page)}; 0"
    await tab.send_command("Runtime.evaluate", {"expression": write})
    answer = await tab.send_command(
        "Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True, "pageRanges": "1"}
    )
    if "error" in answer:
        raise ExportError(f"the browser could not print: {answer['error']}")
    pdf = base64.b64decode(answer["result"]["data"])
    # The time of printing is the only part that would differ from run to run.
    return re.sub(rb"\(D:\d{14}", b"(D:20000101000000", pdf)
