"""The browser that looks at exported pages."""

from __future__ import annotations

from tests.browser import axe, chromium

__all__ = ["axe", "chromium"]
