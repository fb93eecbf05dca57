"""A notebook as one HTML page that loads nothing from elsewhere.

nbconvert's own pages name four addresses of the network: MathJax, RequireJS, Mermaid and the widget
manager. Here only nbconvert's cells are used, with a page of our own around them; formulas become
MathML, which browsers draw by themselves.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analysis.errors import ExportError, first_line
from analysis.export.display import WIDGET_MIME_TYPE

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""
"""The skeleton of the site's pages."""

_CSS = """
pre, code { font-family: ui-monospace, "Liberation Mono", Menlo, Consolas, monospace;
  font-size: 13.5px; }
.highlight pre, .output pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px;
  padding: 8px 12px; margin: 6px 0; }
.jp-OutputArea-output pre { border-color: transparent; padding: 4px 12px; overflow-x: auto; }
.jp-InputPrompt, .jp-OutputPrompt, .jp-InputArea-prompt, .jp-OutputArea-prompt, .anchor-link,
.prompt { display: none; }
table { border: 0; border-collapse: collapse; font-size: 13.5px; display: block;
  overflow-x: auto; }
th, td { padding: 3px 10px; border: 0 solid var(--line); border-bottom-width: 1px;
  text-align: right; }
math[display="block"] { margin: 12px 0; overflow-x: auto; }
.output img, .output svg, .jp-OutputArea-output img, .jp-OutputArea-output svg {
  background: #ffffff; }
"""


def notebook_page(path: Path, css: str) -> tuple[str, str]:
    """The notebook's title and its page, with the CSS that all pages of the site share."""
    notebook = read_notebook(path)
    with _as_export_error(path):
        return _converted(notebook, path, css)


def read_notebook(path: Path) -> Any:
    """The notebook, if it is one."""
    import nbformat  # this takes two seconds

    with _as_export_error(path):
        return nbformat.read(path, as_version=4)


@contextmanager
def _as_export_error(path: Path) -> Iterator[None]:
    """Turn what nbformat and nbconvert raise, many kinds for a damaged notebook, into our error."""
    try:
        yield
    except Exception as error:
        raise ExportError(
            f"{path} cannot be read as a notebook ({first_line(error)}): save it again."
        ) from error


def _converted(notebook: Any, path: Path, css: str) -> tuple[str, str]:
    from analysis.explorer.notebook_cells import CellsExporter

    notebook.metadata.pop("widgets", None)
    title = path.stem
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            cell.outputs = [_still(output) for output in cell.get("outputs", [])]
            continue
        heading = re.match(r"#\s+(.+)", cell.source)
        if heading and title == path.stem:
            title = heading.group(1).strip()
    exporter = CellsExporter(template_name="basic", sanitize_html=False)
    body, _ = exporter.from_notebook_node(notebook)
    body = f'<p><a href="index.html">All pages</a></p>\n{body}'
    return title, PAGE.format(title=html.escape(title), css=css + _CSS, body=body)


def _still(output: Any) -> Any:
    """An output without what needs a script; its picture or table stays."""
    data = output.get("data")
    if data:
        for kind in (WIDGET_MIME_TYPE, "application/javascript"):
            data.pop(kind, None)
        if "image/svg+xml" in data or "image/png" in data:
            data.pop("text/html", None)
    return output
