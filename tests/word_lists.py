"""Names for tiny models, whose tokenizers know each as one token with a leading space."""

from __future__ import annotations

NAMES = ("John", "Mary", "James", "Anna", "Peter", "Julia", "Frank", "Laura")
MADE_UP_NAMES = tuple(f"{a}{b}" for a in "ABCDEFGH" for b in ("an", "el", "io", "us"))
"""32 names that are nobody's."""
