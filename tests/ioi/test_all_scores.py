"""Every column of the two frames is the score it is named after, with the sign it should have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.dynamic.scores import CONTEXTS, dynamic_scores
from analysis.ioi import all_scores as all_scores_module
from analysis.ioi.all_scores import agreement_of_all, all_scores
from analysis.ioi.head_classes import HeadClass
from analysis.names import TokenPairs, load_names
from analysis.static.eigenvalues import eigenvalue_scores
from analysis.static.scores import score_heads
from analysis.static.vocabulary import score_vocabulary
from tests import checkpoints, planted
from tests.made_up import made_up_pairs

NAMES = (
    *planted.NAMES,
    *(f"{first}{rest}" for first in "ABCD" for rest in ("an", "el", "io", "us")),
)
TOKENIZER = checkpoints.make_tokenizer(NAMES)
WEIGHTS = ["static, k = 1", "static, k = 10", "vocabulary"]
EIGENVALUES = ["eigenvalue, embedding", "eigenvalue, mlp"]
RUNNING = ["dynamic, without context", "dynamic, with context"]


@pytest.fixture(scope="module")
def model() -> Any:
    hf = checkpoints.gpt2_model(len(TOKENIZER), n_embd=48)  # more than there are names
    planted.plant(hf, planted.name_tokens(TOKENIZER, NAMES))
    return planted.boot(hf, TOKENIZER)


@pytest.fixture(scope="module")
def task() -> pd.DataFrame:
    """The two columns of measured heads that are read, all numbers different."""
    index = pd.MultiIndex.from_product([range(3), range(4)], names=["layer", "head"])
    places = np.arange(12) / 24
    return pd.DataFrame({"copy_score": places, "negative_copy_score": 1 - places}, index=index)


@pytest.fixture(scope="module")
def frames(model: Any, task: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    measured: Any = SimpleNamespace(numbers=task)
    return all_scores(model, load_names(model, NAMES), measured, n_tokens=100)


@pytest.mark.slow
def test_the_frames_have_the_same_heads_and_columns(
    frames: tuple[pd.DataFrame, pd.DataFrame], task: pd.DataFrame
) -> None:
    for frame in frames:
        assert list(frame.columns) == [*WEIGHTS, *EIGENVALUES, *RUNNING, "task"]
        assert frame.index.equals(task.index)
        assert np.isfinite(frame).all(axis=None)


@pytest.mark.slow
def test_copying_is_in_the_first_frame_and_suppression_in_the_second(
    model: Any, frames: tuple[pd.DataFrame, pd.DataFrame], task: pd.DataFrame
) -> None:
    copying, suppression = frames
    assert copying["task"].equals(task["copy_score"].rename("task"))
    assert suppression["task"].equals(task["negative_copy_score"].rename("task"))
    for k in (1, 10):
        static = score_heads(model, NAMES, k=k)
        for frame, counts in ((copying, static.n_in_top_k), (suppression, static.n_in_bottom_k)):
            assert frame[f"static, k = {k}"].tolist() == (counts / len(NAMES)).ravel().tolist()
    vocabulary = score_vocabulary(model, n_tokens=100)
    assert copying["vocabulary"].tolist() == vocabulary.copied.mean(1).tolist()
    assert suppression["vocabulary"].tolist() == vocabulary.suppressed.mean(1).tolist()
    for kind in ("embedding", "mlp"):
        of_heads = eigenvalue_scores(model, embedding=kind)["eigenvalue_score"].to_numpy()
        assert of_heads.any()
        assert copying[f"eigenvalue, {kind}"].tolist() == of_heads.tolist()
        assert suppression[f"eigenvalue, {kind}"].tolist() == (-of_heads).tolist()


@pytest.mark.slow
def test_a_head_alone_is_without_context(
    model: Any, frames: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    dynamic = dynamic_scores(model, NAMES)
    for frame, answers in zip(frames, (dynamic.in_top_k, dynamic.in_bottom_k), strict=True):
        mean = answers.mean(axis=(0, 4))  # over templates and names
        for column, context in zip(RUNNING, ("without", "with"), strict=True):
            expected = mean[CONTEXTS.index(context)].ravel()
            assert frame[column].to_numpy() == pytest.approx(expected)
    assert not np.allclose(frames[0][RUNNING[0]], frames[0][RUNNING[1]])


def test_planted_heads_stand_out_in_their_own_frame(
    frames: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    for frame, planted_heads in zip(frames, (planted.COPYING, planted.SUPPRESSING), strict=True):
        theirs = frame.loc[[*planted_heads]]
        assert (theirs[WEIGHTS[:2]] == 1).all(axis=None)
        assert (theirs["eigenvalue, mlp"] > 0.99).all()
        # Of what the model reads when it runs, only a name's own embedding was planted.
        alone, in_context = (frame.loc[0, by] for by in RUNNING)
        layer_0 = next(head for layer, head in planted_heads if layer == 0)
        assert alone.idxmax() == layer_0
        assert alone[layer_0] > 4 * in_context[layer_0]


@pytest.mark.parametrize(("n", "n_dynamic", "used"), [(119, 60, 60), (120, 60, 60), (45, 60, 45)])
def test_as_many_names_run_as_are_asked_for_taken_evenly(
    monkeypatch: pytest.MonkeyPatch, n: int, n_dynamic: int, used: int
) -> None:
    class Asked(Exception):
        pass

    def run(model: Any, names: TokenPairs) -> None:
        raise Asked(names.source_tokens)

    monkeypatch.setattr(all_scores_module, "dynamic_scores", run)
    nobody: Any = None
    with pytest.raises(Asked) as asked:
        all_scores(nobody, made_up_pairs(n), nobody, n_dynamic=n_dynamic)
    (tokens,) = asked.value.args
    assert len(tokens) == used and tokens[0] == 0
    assert set(np.diff(tokens)) <= {n // used, -(-n // used)}


def test_each_class_is_looked_for_by_the_scores_that_are_to_find_it() -> None:
    index = pd.MultiIndex.from_product([range(2), range(2)], names=["layer", "head"])
    classes = pd.DataFrame(
        {"class": [HeadClass.NAME_MOVER, HeadClass.NEGATIVE_NAME_MOVER]}, index=index[:2]
    )
    copying = pd.DataFrame({"a": [1.0, 0.0, 0.3, 0.4]}, index=index)
    suppression = pd.DataFrame({"a": [0.0, 1.0, 0.3, 0.4]}, index=index)
    table = agreement_of_all(copying, suppression, classes)
    assert table.index.tolist() == [("name mover", "a"), ("negative name mover", "a")]
    assert table["auroc"].tolist() == [1, 1]
    assert agreement_of_all(suppression, copying, classes)["auroc"].tolist() == [0, 0]
    assert agreement_of_all(copying, suppression, classes.iloc[:0]).empty
