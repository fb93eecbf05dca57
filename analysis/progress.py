"""One progress bar for all long work, in terminals and notebooks."""

from __future__ import annotations

import os

from tqdm.auto import tqdm


def progress_bar(total: int, description: str, unit: str) -> tqdm:
    """A bar that appears after two seconds and leaves nothing behind.

    ``TQDM_DISABLE=1`` in the environment silences it; tqdm's notebook bar does not look there.
    """
    off = os.environ.get("TQDM_DISABLE", "") not in ("", "0")
    return tqdm(total=total, desc=description, unit=unit, delay=2, leave=False, disable=off)
