"""The explorer as one HTML file that needs no kernel, no server and no network.

The page holds the same module as the widget, byte for byte, and gives it a model in memory in
place of the kernel's. A script from another file does not load where a page is opened from
``file://``; one imported from a Blob does. A content security policy forbids every address.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from analysis.errors import ExportError, ParameterError
from analysis.explorer.payload import pack
from analysis.explorer.results import Results, checked_results
from analysis.explorer.still import still_picture
from analysis.export.records import ready_for_json
from analysis.export.whole_files import write_whole
from analysis.validation import check_path

PARTS = (
    *("elements", "payload", "state", "numbers", "marks", "questions", "controls", "own"),
    *("heatmaps", "pointing", "card", "evidence", "names", "tabs"),
    *("python", "picture", "keep", "models", "app"),
)
"""Files of the front end's module, in their order."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
html {{ background: #ffffff; }}
body {{ margin: 0 auto; max-width: 1500px; padding: 8px 12px 40px; background: inherit; }}
@media (prefers-color-scheme: dark) {{ html {{ background: #14171f; color: #e8eaf0; }} }}
{css}
</style>
</head>
<body>
<main id="explorer"></main>
<noscript><p>The explorer needs JavaScript; this picture shows the same scores.</p>
{picture}</noscript>
<script id="payload" type="text/plain">{payload}</script>
<script id="state" type="text/plain">{state}</script>
<script id="module" type="text/plain">{module}</script>
<script type="module">
const text = (id) => document.getElementById(id).textContent;
const bytes = (id) => Uint8Array.from(atob(text(id)), (c) => c.charCodeAt(0));
const values = {{
  home: "page",
  kernel: false,
  payload: bytes("payload"),
  state: JSON.parse(new TextDecoder().decode(bytes("state"))),
}};
const model = {{
  get: (name) => values[name],
  set: (name, value) => {{ values[name] = value; }},
  save_changes() {{}}, send() {{}}, on() {{}}, off() {{}},
}};
const address = URL.createObjectURL(new Blob([text("module")], {{ type: "text/javascript" }}));
const front = await import(address);
await front.default.render({{ model, el: document.getElementById("explorer") }});
performance.mark("usable");
</script>
</body>
</html>
"""


def packed(every: Sequence[Results]) -> bytes:
    """The payload of one model, or of several."""
    if len(every) == 1:
        return every[0].packed()
    return pack({"explorers": [one.payload() for one in every]})


def explorer_page(
    results: Results | Sequence[Results], state: Mapping[str, Any] | None = None
) -> str:
    """The page; the same text for the same results.

    Args:
        results: of ``analysis.explorer.results.collect``; of several models, the page lets one be
            chosen, and another beside it or taken away from it.
        state: shown (``explore(model).state``) where the page's address has no fragment; one that
            has says all of what is shown.

    Raises:
        ParameterError: there are none.
    """
    every = checked_results("results", results)
    if not every:
        raise ParameterError("a page needs the results of at least one model.")
    titles = ", ".join(one.scores.model.title for one in every)
    title = f"{titles}: name-copying heads"
    return _PAGE.format(
        title=html.escape(title),
        css=front_end("css"),
        picture="".join(still_picture(one.scores, one.evidence.classes) for one in every),
        payload=base64.b64encode(packed(every)).decode(),
        state=base64.b64encode(json.dumps(ready_for_json(state or {})).encode()).decode(),
        module=front_end("js"),
    )


def write_page(
    results: Results | Sequence[Results],
    path: str | Path,
    state: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page, whole or not at all."""
    path = check_path("path", path)
    if not path.name:
        raise ExportError(f"a page needs a name to write it under; got {str(path)!r}")
    return write_whole(path, explorer_page(results, state).encode())


@cache
def front_end(ending: str) -> str:
    """The front end's module (``js``) or its style (``css``).

    The module is the files of ``static/`` one after the other: a page opened from ``file://`` and a
    widget can each load one text alone.
    """
    names = [f"{part}.js" for part in PARTS] if ending == "js" else ["explorer.css"]
    folder = files("analysis.explorer") / "static"
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
