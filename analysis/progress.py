"""One progress bar for all long work, in terminals and notebooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

Listener = Callable[[int, int, str], None]
"""Told how much is done, of how much, and what is being done; it may raise to stop the work."""

_LISTENER: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


def progress_bar(total: int, description: str, unit: str, *, delay: float = 2) -> Any:
    """A bar that appears after ``delay`` seconds and leaves nothing behind.

    ``TQDM_DISABLE=1`` in the environment silences it; tqdm's notebook bar does not look there.
    Inside ``listen_to_progress`` nothing is drawn: the listener is told instead.
    """
    listener = _LISTENER.get()
    if listener is not None:
        return _Told(total, description, listener)
    return tqdm(
        total=total, desc=description, unit=unit, delay=delay, leave=False, disable=_is_off()
    )


def lasting_bar(total: int, description: str, unit: str = "B", *, initial: int = 0) -> Any:
    """A bar that is there at once and stays, for what is done once: downloads, conversions.

    ``TQDM_DISABLE=1`` in the environment silences it too.
    """
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        initial=initial,
        disable=_is_off(),
    )


def _is_off() -> bool:
    return os.environ.get("TQDM_DISABLE", "") not in ("", "0")


@contextmanager
def listen_to_progress(listener: Listener) -> Iterator[None]:
    """Tell a function of all progress made in this thread meanwhile.

    What the function raises comes out of the work at its next step, which stops it.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class _Told:
    """In place of a bar: passes progress on."""

    def __init__(self, total: int, description: str, listener: Listener) -> None:
        self._done, self._total, self._description = 0, total, description
        self._listener = listener
        listener(0, total, description)

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        self._done += n
        self._listener(self._done, self._total, self._description)

    def __enter__(self) -> _Told:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
