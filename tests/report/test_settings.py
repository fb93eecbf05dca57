"""The table of what k and the first MLP change, against scores asked one by one."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import ParameterError
from analysis.names import load_names
from analysis.report.static import compare_settings
from analysis.static.scores import score_heads
from tests import checkpoints, planted

WORDS = ["Mary", "John", "Anna", "Peter", "Laura", "Frank"]
TOKENIZER = checkpoints.make_tokenizer(WORDS)


@pytest.mark.slow
@pytest.mark.parametrize("first_mlp", [True, False])
def test_each_row_is_what_score_heads_gives_for_it(first_mlp: bool) -> None:
    model = planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER)
    names = load_names(model, WORDS)
    scores = score_heads(model, names, k=5, first_mlp=first_mlp, max_rank=40)
    table = compare_settings(model, scores, ks=(5, 40))
    assert sorted(table.index) == [(5, False), (5, True), (40, False), (40, True)]
    assert table.index[0] == (5, True)
    base = score_heads(model, names, k=5, first_mlp=first_mlp).copying_score.ravel()
    for (k, with_mlp), row in table.iterrows():
        frame = score_heads(model, names, k=k, first_mlp=with_mlp).to_frame()
        copying, suppression = (
            frame[column].to_numpy() for column in ("copying_score", "suppression_score")
        )
        for said, column in zip(row[:2], frame, strict=True):
            strong = sorted(frame.index[frame[column] >= 0.5], key=lambda h: -frame.loc[h, column])
            named = [f"{layer}.{head}" for layer, head in strong[:5]]
            more = [f"{', '.join(named)} and {len(strong) - 5} more"] if strong[5:] else named
            assert said == (f"{len(strong)}: {', '.join(more)}" if strong else "0")
        assert row["highest score"] == pytest.approx(copying.max(), abs=5e-4)
        assert row["highest suppression"] == pytest.approx(suppression.max(), abs=5e-4)
        if copying.std() and base.std():
            assert row["r of scores"] == pytest.approx(np.corrcoef(copying, base)[0, 1], abs=6e-4)
    assert table.loc[(5, first_mlp), "r of scores"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ks", "said"),
    [
        ((), "ks must be a list"),
        (5, "ks must be a list"),
        (None, "ks must be a list"),
        ((1, 9), "from 1 to 8"),
        ((0,), "from 1 to 8"),
    ],
)
def test_it_needs_a_list_of_k_that_the_ranks_reach(ks: object, said: str) -> None:
    model = planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER)
    scores = score_heads(model, WORDS, max_rank=8)
    with pytest.raises(ParameterError, match=said):
        compare_settings(model, scores, ks=ks)  # type: ignore[arg-type]


@pytest.mark.slow
def test_it_refuses_scores_of_another_model() -> None:
    model, other = (
        planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER, name=name)
        for name in ("this", "other")
    )
    scores = score_heads(other, WORDS, max_rank=10)
    with pytest.raises(ParameterError, match="the scores"):
        compare_settings(model, scores)


def test_heads_that_answer_a_relation_are_not_called_copying() -> None:
    model = planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER)
    scores = score_heads(model, [("Mary", "John"), ("Anna", "Peter")], max_rank=1)
    table = compare_settings(model, scores, ks=(1,))
    assert list(table.columns[:2]) == ["answering heads", "suppressing heads"]
