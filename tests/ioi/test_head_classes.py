"""Published head classes: every one of them, and for GPT-2 small alone."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.errors import ClassesError
from analysis.ioi.head_classes import HeadClass, check_classes, published_classes
from analysis.ioi.measured_classes import measure_heads
from analysis.prompts.indirect_object import ioi_prompts
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests import ioi_models

GPT2 = ModelIdentity(GPT2_SMALL, "GPT-2")

PUBLISHED = {
    HeadClass.NAME_MOVER: "9.6 9.9 10.0",
    HeadClass.NEGATIVE_NAME_MOVER: "10.7 11.10",
    HeadClass.BACKUP_NAME_MOVER: "9.0 9.7 10.1 10.2 10.6 10.10 11.2 11.9",
    HeadClass.S_INHIBITION: "7.3 7.9 8.6 8.10",
    HeadClass.INDUCTION: "5.5 5.8 5.9 6.9",
    HeadClass.DUPLICATE_TOKEN: "0.1 0.10 3.0",
    HeadClass.PREVIOUS_TOKEN: "2.2 4.11",
}


@pytest.mark.parametrize("model", [GPT2, GPT2_SMALL, "gpt2"])
def test_gpt2_has_every_published_head(model: ModelIdentity | str) -> None:
    classes = published_classes(model)
    found = {
        HeadClass(name): " ".join(f"{layer}.{head}" for layer, head in group.index)
        for name, group in classes.groupby("class")
    }
    assert found == PUBLISHED
    assert set(classes["origin"]) == {"published"}
    assert set(classes["source"]) == {"arXiv 2211.00593"}
    assert classes.index.is_unique


@pytest.mark.parametrize(
    "model", ["openai-community/gpt2-medium", "x", ModelIdentity("gpt2", "a folder of this name")]
)
def test_other_models_have_none(model: ModelIdentity | str) -> None:
    classes = published_classes(model)
    assert classes.empty
    assert list(classes.columns) == list(published_classes(GPT2).columns)
    assert classes.index.names == ["layer", "head"]


def test_classes_of_another_model_are_refused() -> None:
    other = ModelIdentity("my-gpt2", "my GPT-2")
    with pytest.raises(ClassesError, match=r"openai-community/gpt2.*my-gpt2"):
        check_classes(published_classes(GPT2), other, 12, 12)
    check_classes(published_classes(GPT2).assign(model="my-gpt2"), other, 12, 12)


def test_classes_of_other_weights_with_the_same_name_are_refused() -> None:
    """Folders of two runs may be called the same."""
    mine = ModelIdentity("final", "final", checksum="a" * 64, source="folder")
    classes = published_classes(GPT2).assign(model="final", origin="measured")
    check_classes(classes.assign(checksum="a" * 64), mine, 12, 12)
    other = classes.assign(checksum="b" * 64)
    mixed = pd.concat([classes.iloc[:3].assign(checksum="a" * 64), other.iloc[3:]])
    for frame in (other, mixed):
        with pytest.raises(ClassesError, match=r"final with the weights b{12} and the scores"):
            check_classes(frame, mine, 12, 12)
    for unknown in ("", None, float("nan")):
        check_classes(classes.assign(checksum=unknown), mine, 12, 12)
    check_classes(
        pd.concat([classes.iloc[:3], classes.iloc[3:].assign(checksum="a" * 64)]), mine, 12, 12
    )
    check_classes(other, ModelIdentity("final", "final"), 12, 12)  # its weights are not known


@pytest.mark.slow
def test_measured_classes_say_of_which_weights_they_are() -> None:
    model = ioi_models.planted_bridge()
    measured = measure_heads(model, ioi_prompts(model, 64))
    mine, other = (ModelIdentity("final", "final", checksum=digit * 64) for digit in "ab")
    classes = replace(measured, model=mine).classes
    assert len(classes)
    for drawn in (classes, pd.concat([published_classes(mine), classes])):
        check_classes(drawn, mine, 3, 4)
        with pytest.raises(ClassesError, match="the weights aaaaaaaaaaaa and the scores"):
            check_classes(drawn, other, 3, 4)
    unknown = replace(measured, model=ModelIdentity("final", "final"))
    check_classes(unknown.classes, other, 3, 4)


def test_heads_outside_the_model_are_refused() -> None:
    with pytest.raises(ClassesError, match=r"11 layers of 12 heads.*11\.2, 11\.9, 11\.10"):
        check_classes(published_classes(GPT2), GPT2, 11, 12)
    with pytest.raises(ClassesError, match=r"12 layers of 11 heads.*4\.11"):
        check_classes(published_classes(GPT2), GPT2, 12, 11)


def test_other_frames_are_refused() -> None:
    classes = published_classes(GPT2)
    wrong: list[tuple[pd.DataFrame, str]] = [
        (classes.reset_index(), "index"),
        (classes.drop(columns="model"), "model"),
        (classes.assign(origin="guessed"), "guessed: not published or measured"),
        (classes.assign(origin=float("nan")), "of origin nan: not published or measured"),
        (classes.assign(model=float("nan")), "belong to nan"),
        (classes.set_axis([float("nan")] * len(classes)), "need the index"),
        (pd.concat([classes, classes.loc[[(9, 9)]]]), r"head 9\.9 has the class name mover twice"),
    ]
    for frame, message in wrong:
        with pytest.raises(ClassesError, match=message):
            check_classes(frame, GPT2, 12, 12)


def test_a_head_may_have_several_classes() -> None:
    classes = published_classes(GPT2)
    more = classes.loc[[(9, 9)]].assign(**{"class": HeadClass.BACKUP_NAME_MOVER})
    check_classes(pd.concat([classes, more]), GPT2, 12, 12)
    check_classes(pd.concat([classes, classes.assign(origin="measured")]), GPT2, 12, 12)
