"""What made a figure, as JSON that any reader accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

from analysis.errors import ExportError


def as_json(record: Mapping[str, object]) -> str:
    """A record as indented JSON.

    Numbers of numpy and torch become numbers, arrays become lists, and what is not finite becomes
    null, since JSON has neither NaN nor infinity; anything else is refused with its place.
    """
    ready = ready_for_json(record, "")
    return json.dumps(ready, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def ready_for_json(value: Any, place: str = "") -> Any:
    """A value made of what JSON knows; ``place`` names it in an error."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): ready_for_json(v, f"{place}.{k}".strip(".")) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [ready_for_json(item, f"{place}[{n}]") for n, item in enumerate(items)]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # of numpy, torch and pandas
        return ready_for_json(value.tolist(), place)
    raise ExportError(
        f"the record holds a {type(value).__name__} at {place or 'its top'}: give text, numbers, "
        "lists and dictionaries."
    )
