"""A notebook's cells as nbconvert's HTML, their formulas as MathML, which browsers draw."""

from __future__ import annotations

from functools import wraps
from typing import Any

from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import (
    IPythonRenderer,
    MarkdownWithMath,
    MathBlockParser,
    MathInlineParser,
)


class _Block(MathBlockParser):
    SPECIFICATION = MathBlockParser.SPECIFICATION | {
        "multiline_math": r"(?<!\\)\$\$[^`]+?(?<!\\)\$\$"
    }


class _Inline(MathInlineParser):
    """No formula holds code; one that began or ended at a space, or ended at a digit, is money."""

    SPECIFICATION = MathInlineParser.SPECIFICATION | {
        "block_math_tex": r"(?<!\\)\$\$(?P<math_block_tex>[^`]+?)(?<!\\)\$\$",
        "inline_math_tex": r"(?<![\\$])\$(?!\s)(?P<math_inline_tex>(?:\\[^\n]|[^$`\\\n])+?)"
        r"(?<!\s)\$(?!\d)",
    }


class _Renderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return _mathml(body, "block")


class CellsExporter(HTMLExporter):
    """nbconvert's cells, in a page of our own (``notebook_page``)."""

    @wraps(HTMLExporter.markdown2html)  # which marks it as one that takes the context
    def markdown2html(self, context: Any, source: str) -> str:
        """Markdown as HTML, formulas as MathML."""
        renderer = _Renderer(escape=False, attachments=context["cell"].get("attachments", {}))
        return MarkdownWithMath(renderer, _Block(), _Inline()).render(source)


def _mathml(tex: str, display: str) -> str:
    return " ".join(convert(" ".join(tex.split()), display=display).split())
