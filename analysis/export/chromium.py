"""Pictures of figures that only a browser can draw, by the Chromium or Chrome of the machine.

No figure of this package needs it (see ``analysis.export.still``); figures of one's own with other
traces, such as 3-D ones, do.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import plotly.graph_objects as go

from analysis.errors import ExportError
from analysis.export.html_page import packed_plotly, unpacking

INSTALL_HINT = "install Chromium (Debian: apt install chromium) or Chrome"

TIME_LIMIT_S = 30.0
"""A browser that has not drawn one picture by then is given up; it needs some seconds."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
_PAGE = """<!doctype html><meta charset="utf-8">
<style>@page {{ size: {width}px {height}px; margin: 0 }} body {{ margin: 0 }}</style>
<div id="figure"></div>
<script id="packed" type="text/plain">{packed}</script>
<script type="module">
{unpack}
const {{data, layout}} = {figure};
const drawn = await Plotly.newPlot("figure", data, layout, {{staticPlot: true}});
if ({as_svg}) {{
  const uri = await Plotly.toImage(drawn, {{format: "svg", width: {width}, height: {height}}});
  const out = document.createElement("pre");
  out.id = "svg";
  out.textContent = decodeURIComponent(uri.slice(uri.indexOf(",") + 1));
  document.body.replaceChildren(out);
}}
</script>
"""


def find_chromium() -> str | None:
    """Path of the browser (``BROWSER_PATH``, or a usual one), if there is any."""
    asked = os.environ.get("BROWSER_PATH")
    candidates = [asked] if asked else [shutil.which(name) for name in _NAMES] + list(_PLACES)
    for path in candidates:
        if path and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def draw_in_browser(fig: go.Figure, picture_format: str, scale: float, chromium: str) -> bytes:
    """A picture as a file holds it: svg, pdf, or png with ``scale`` pixels for each of CSS."""
    width = int(fig.layout.width or 700)
    height = int(fig.layout.height or 450)
    fixed = go.Figure(fig).update_layout(width=width, height=height)
    with TemporaryDirectory() as folder:
        page, out = Path(folder) / "page.html", Path(folder) / f"out.{picture_format}"
        page.write_text(
            _PAGE.format(
                packed=packed_plotly(),
                unpack=unpacking("packed"),
                figure=fixed.to_json(),
                width=width,
                height=height,
                as_svg=json.dumps(picture_format == "svg"),
            ),
            encoding="utf-8",
        )
        options = {
            "png": [
                f"--screenshot={out}",
                f"--window-size={width},{height}",
                f"--force-device-scale-factor={scale}",
                "--hide-scrollbars",
            ],
            "pdf": [f"--print-to-pdf={out}", "--no-pdf-header-footer"],
            "svg": ["--dump-dom"],
        }[picture_format]
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]
        flags += [f"--user-data-dir={folder}/profile", "--disable-background-networking"]
        printed = _run([chromium, *flags, *options, page.as_uri()])
        if picture_format == "svg":
            found = re.search(r'<pre id="svg">(.*?)</pre>', printed, re.DOTALL)
            content = html.unescape(found[1]).encode() if found else b""
        else:
            content = out.read_bytes() if out.is_file() else b""
    if not content:
        raise ExportError(f"{chromium} ended without a picture")
    return content


def _run(command: list[str]) -> str:
    """What a browser prints; it and all that it started end here, also on Ctrl-C."""
    process: subprocess.Popen[str] | None = None
    try:
        with _stops_held_back():  # or one in the middle of the start would leave it running
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=sys.platform != "win32",  # a group of its own, to end whole
            )
        printed, said = process.communicate(timeout=TIME_LIMIT_S)
    except OSError as error:
        raise ExportError(f"{command[0]} does not start: {error}") from error
    except subprocess.TimeoutExpired:
        raise ExportError(f"{command[0]} has not drawn within {TIME_LIMIT_S:.0f} s") from None
    finally:
        if process is not None and process.poll() is None:
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pipe in (process.stdout, process.stderr) if process is not None else ():
            if pipe is not None:
                pipe.close()
    if process.returncode:
        lines = said.strip().splitlines()
        reason = f" ({lines[-1].strip()[:200]})" if lines else ""
        raise ExportError(f"{command[0]} failed with status {process.returncode}{reason}")
    return printed


@contextmanager
def _stops_held_back() -> Iterator[None]:
    """Let a Ctrl-C that comes meanwhile be heard at the end."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    stops: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: stops.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if stops:
            usual(*stops[0])
