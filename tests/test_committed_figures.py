"""A figure that is not what its notebook draws is found."""

from __future__ import annotations

from pathlib import Path

from tests.committed_figures import differences


def test_every_kind_of_difference_is_named(tmp_path: Path) -> None:
    drawn, committed = tmp_path / "drawn", tmp_path / "committed"
    for folder in (drawn, committed):
        folder.mkdir()
        for name in ("same.svg", "changed.svg"):
            (folder / name).write_text(name)
    assert differences(drawn, committed) == []
    (drawn / "changed.svg").write_text("a pixel further")
    (drawn / "new.svg").write_text("new")
    (committed / "old.svg").write_text("old")
    (committed / "scorer_growth.svg").write_text("seconds")
    assert differences(drawn, committed) == [
        "changed.svg is not what its notebook draws",
        "new.svg is drawn by a notebook, and is not in figures/",
        "old.svg is in figures/, and no notebook draws it",
    ]
