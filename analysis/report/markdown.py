"""Sentences as Markdown in a notebook."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown

_MARKUP = re.compile(r"[\\`*_{}\[\]<>#$|~&]")


def bullets(sentences: Iterable[object], *, escape: bool = False) -> Markdown:
    """Sentences as a list that a notebook shows as Markdown.

    Args:
        sentences: one for each point.
        escape: show every character as it stands, for sentences without markup of their own.
    """
    from IPython.display import Markdown

    texts = [_MARKUP.sub(r"\\\g<0>", str(s)) if escape else str(s) for s in sentences]
    return Markdown("\n".join(f"- {text}" for text in texts))
