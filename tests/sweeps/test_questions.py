"""What decides an answer decides its key, and a question's label says what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import ParameterError
from analysis.sweeps import questions as asking
from analysis.sweeps.questions import Question
from tests import planted

NAMES = tuple(planted.NAMES[:8])


def test_what_decides_an_answer_decides_its_key() -> None:
    key = Question("static").key("a" * 64)
    assert key == Question("static", {"k": 1}).key("a" * 64)
    others = [
        Question("static", {"k": 2}).key("a" * 64),
        Question("static", names=("Mary",)).key("a" * 64),
        Question("static").key("b" * 64),
        Question("vocabulary").key("a" * 64),
    ]
    assert len({key, *others}) == 5


def test_the_shipped_names_are_part_of_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, others = Question("static"), [Question("static", names=NAMES), Question("vocabulary")]
    before, same = shipped.key("a"), [question.key("a") for question in others]
    (tmp_path / "names.csv").write_text("name,count\nMary,2\n")
    monkeypatch.setattr("analysis.names.NAMES_CSV", tmp_path / "names.csv")
    assert shipped.key("a") != before
    assert [question.key("a") for question in others] == same


def test_the_code_is_read_anew_for_each_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text("A = 1")
    monkeypatch.setattr(asking, "files", lambda _: tmp_path)
    before = Question("eigenvalue").key("a")
    (tmp_path / "one.py").write_text("A = 2")
    assert Question("eigenvalue").key("a") != before


def test_labels_say_what_is_asked() -> None:
    default = {"k": 1, "first_mlp": True}
    assert Question("static", default).label == "static"
    assert Question("static", {"k": 10, "first_mlp": False}).label == "static first_mlp=False k=10"
    some, others = (Question("static", {}, names).label for names in (NAMES, NAMES[::-1]))
    assert some.startswith("static (8 names, ")
    assert some != others
    with pytest.raises(ParameterError, match="asks about no names"):
        Question("eigenvalue", names=NAMES)
