"""``results.md``: one section for each benchmark that writes there, replaced when it runs again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).with_name("results.md")


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(map(str, row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def met(measured: float, goal: float | str) -> str:
    """Whether what was measured is within its goal; nothing where there is none."""
    return "" if goal == "" else "yes" if measured <= float(goal) else "no"


def other_work(threads: int) -> str:
    """The load of the machine in words, as it matters to seconds of the clock."""
    loads = [f"{load:.1f}" for load in os.getloadavg()]
    said = f"load averages at the end {' '.join(loads)}"
    if max(map(float, loads)) <= threads + 0.5:
        return said
    return f"{said}: what exceeds the threads was other work, and stretches every second above"


def write_section(title: str, text: str, page: Path = RESULTS) -> None:
    """Put a section in the page, where one of this title stands, or at its end."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = re.split(r"^(?=# )", old, flags=re.MULTILINE)
    new = f"# {title}\n\n{text.strip()}\n"
    titled = [section.startswith(f"# {title}\n") for section in sections]
    if True in titled:
        sections[titled.index(True)] = new
    else:
        sections.append(new)
    whole = "\n".join(section.strip() + "\n" for section in sections if section.strip())
    page.write_text(whole, encoding="utf-8")
