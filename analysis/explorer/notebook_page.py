"""A notebook as one HTML page that loads nothing from elsewhere.

nbconvert's own pages name four addresses of the network: MathJax, RequireJS, Mermaid and the widget
manager. Here only nbconvert's cells are used, with a page of our own around them; formulas become
MathML, which browsers draw by themselves, before Markdown is converted.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nbformat

from analysis.errors import ExportError

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}{own}</style>
</head>
<body><main>
<p><a href="index.html">All pages</a></p>
{body}
</main></body>
</html>
"""

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

_MATH = re.compile(
    r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?!\s)((?:\\[^\n]|[^$\\\n])+?)(?<!\s)\$(?!\d)", re.DOTALL
)
_BLOCKS = re.compile(  # fenced code, open to the end of the text if need be, and indented code
    r"^[ \t]*(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*\n(?:.*?^[ \t]*(?P=fence)[`~]*[ \t]*$|.*)"
    r"|(?P<indented>(?:\A|^[ \t]*\n)(?:(?: {4}|\t)[^\n]*(?:\n|\Z))+)",
    re.DOTALL | re.MULTILINE,
)
_SPANS = re.compile(
    r"(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)(?P=ticks)(?!`)", re.DOTALL
)
_ITEM = re.compile(r" {0,3}(?:[-*+]|\d+[.)])\s")
"""How an item of a list begins; what is indented below it is its text, no code."""


def notebook_page(path: Path, css: str) -> tuple[str, str]:
    """The notebook's title and its page, with the CSS that all pages of the site share."""
    try:
        return _converted(nbformat.read(path, as_version=4), path, css)
    except Exception as error:  # nbformat and nbconvert raise many kinds for a damaged notebook
        reason = str(error).strip() or type(error).__name__
        raise ExportError(
            f"{path} cannot be read as a notebook ({reason.splitlines()[0][:200]}): save it again."
        ) from error


def _converted(notebook: Any, path: Path, css: str) -> tuple[str, str]:
    from nbconvert import HTMLExporter

    notebook.metadata.pop("widgets", None)
    title = path.stem
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            cell.outputs = [_still(output) for output in cell.get("outputs", [])]
            continue
        heading = re.match(r"#\s+(.+)", cell.source)
        if heading and title == path.stem:
            title = heading.group(1).strip()
        cell.source = with_mathml(cell.source)
    exporter = HTMLExporter(template_name="basic", sanitize_html=False)
    body, _ = exporter.from_notebook_node(notebook)
    return title, _PAGE.format(title=html.escape(title), css=css, own=_CSS, body=body)


def with_mathml(markdown: str) -> str:
    """Markdown with its formulas as MathML; code is left as it is."""
    blocks = [
        block
        for block in _BLOCKS.finditer(markdown)
        if not (block["indented"] and _in_list(markdown[: block.start()]))
    ]
    return _outside(
        blocks, markdown, lambda text: _outside(_SPANS.finditer(text), text, _with_formulas)
    )


def _outside(code: Iterable[re.Match[str]], text: str, changed: Callable[[str], str]) -> str:
    """A text with what lies outside code changed."""
    parts, end = [], 0
    for found in code:
        parts += [changed(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, changed(text[end:])])


def _in_list(before: str) -> bool:
    """Whether the last line at the margin is an item of a list."""
    lines = [line for line in before.splitlines() if re.match(r" {0,3}\S", line)]
    return bool(lines and _ITEM.match(lines[-1]))


def _with_formulas(text: str) -> str:
    from latex2mathml.converter import convert

    def formula(found: re.Match[str]) -> str:
        block = found.group(1) is not None
        tex = found.group(1) if block else found.group(2)
        # On one line: Markdown would take an indented line for code.
        made = convert(" ".join(tex.split()), display="block" if block else "inline")
        return " ".join(made.split())

    return _MATH.sub(formula, text)


def _still(output: Any) -> Any:
    """An output without what needs a script; its picture or table stays."""
    data = output.get("data")
    if data:
        for kind in ("application/vnd.jupyter.widget-view+json", "application/javascript"):
            data.pop(kind, None)
        if "image/svg+xml" in data or "image/png" in data:
            data.pop("text/html", None)
    return output
