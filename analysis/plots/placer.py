"""Values that a layout sets on a figure, told apart from those that its owner has changed since."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go

from analysis.plots.texts import wrapped


class Placer:
    """Sets values of a figure and remembers them; leaves alone what was changed since."""

    def __init__(self, fig: go.Figure) -> None:
        self._fig = fig
        self._noted: dict[str, Any] = dict((fig.layout.meta or {}).get("placed", {}))
        self._texts: dict[str, str] = dict((fig.layout.meta or {}).get("texts", {}))

    def is_mine(self, path: str) -> bool:
        """Whether a value is still what was set here, or was never set."""
        return self._is_mine(path, *self._owner(path))

    def put(self, path: str, value: Any) -> None:
        """Set a value, unless the figure's owner has changed it."""
        owner, name = self._owner(path)
        if self._is_mine(path, owner, name):
            self._set(path, owner, name, value)

    def force(self, path: str, value: Any) -> None:
        """Set a value."""
        self._set(path, *self._owner(path), value)

    def lines(self, path: str, now: str, room: float, size: float) -> list[str]:
        """A text broken to fit; broken afresh from what it was before its last breaks."""
        if self.is_mine(path) and path in self._texts:
            now = self._texts[path]
        else:
            self._noted.pop(path, None)  # the owner's words: from now on these are broken
        self._texts[path] = now
        return wrapped(now, room, size)

    def note(self) -> None:
        """Write down what was set."""
        meta = dict(self._fig.layout.meta or {})
        self._fig.layout.meta = meta | {"placed": self._noted, "texts": self._texts}

    def _is_mine(self, path: str, owner: Any, name: str) -> bool:
        if path not in self._noted:
            return True
        now = None if owner is None else _as_json(owner[name])
        return now is None or now == self._noted[path]

    def _set(self, path: str, owner: Any, name: str, value: Any) -> None:
        if owner is None:
            return
        owner[name] = value
        self._noted[path] = _as_json(owner[name])

    def _owner(self, path: str) -> tuple[Any, str]:
        """What has a value, in a list by its place or its name, and the name of the value."""
        *parts, name = path.split(".")
        owner: Any = self._fig
        for part in parts:
            try:
                if isinstance(owner, tuple) and not part.isdigit():
                    owner = {one.name: one for one in owner}[part]
                else:
                    owner = owner[int(part)] if part.isdigit() else owner[part]
            except (IndexError, KeyError):
                return None, name
        return owner, name


def _as_json(value: Any) -> Any:
    """A value as JSON gives it back, so that values compare."""
    if hasattr(value, "to_plotly_json"):
        value = value.to_plotly_json()
    return json.loads(json.dumps(value, default=str))
