"""The annotations of the heatmaps' figure by name: its owner may take some away or reorder them."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go


def named_notes(fig: go.Figure) -> dict[str, tuple[int, Any]]:
    """The annotations that have a name, with their places in the list."""
    return {note.name: (at, note) for at, note in enumerate(fig.layout.annotations) if note.name}


def renumber_notes(fig: go.Figure, *, back: bool = False) -> None:
    """Let what is noted of titles follow them to their places in the list of annotations.

    It is kept under the places that ``plot_heatmaps`` gives them, which ``back`` restores: a title
    that is taken away moves the others.
    """
    meta = dict(fig.layout.meta)
    usual = [*(f"title {panel}" for panel in range(len(meta["panels"]))), "subtitle"]
    now = {name: at for name, (at, _) in named_notes(fig).items()}
    places = {str(at): str(now[name]) for at, name in enumerate(usual) if name in now}
    gone = {str(at) for at, name in enumerate(usual) if name not in now}
    if not gone and all(old == new for old, new in places.items()):
        return
    if back:
        places, gone = {new: old for old, new in places.items()}, set()
    for part in ("placed", "texts"):
        moved = {}
        for path, value in meta.get(part, {}).items():
            written = path.split(".")
            if written[:2] == ["layout", "annotations"]:
                if written[2] in gone:
                    continue
                written[2] = places.get(written[2], written[2])
            moved[".".join(written)] = value
        meta[part] = moved
    fig.layout.meta = meta
