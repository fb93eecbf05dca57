"""Sentences as Markdown in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown


def bullets(sentences: Iterable[object]) -> Markdown:
    """Sentences as a list that a notebook shows as Markdown."""
    from IPython.display import Markdown

    return Markdown("\n".join(f"- {sentence}" for sentence in sentences))
