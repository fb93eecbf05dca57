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


def test_each_row_is_what_score_heads_gives_for_it() -> None:
    model = planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER)
    names = load_names(model, WORDS)
    table = compare_settings(model, names, ks=(5, 40))
    assert sorted(table.index) == [(5, False), (5, True), (40, False), (40, True)]
    base = score_heads(model, names, k=5).to_frame()["copying_score"].to_numpy()
    for (k, first_mlp), row in table.iterrows():
        frame = score_heads(model, names, k=k, first_mlp=first_mlp).to_frame()
        copying, suppression = (
            frame[column].to_numpy() for column in ("copying_score", "suppression_score")
        )
        assert row["copying heads"] == (copying >= 0.5).sum()
        assert row["suppressing heads"] == (suppression >= 0.5).sum()
        assert row["highest score"] == pytest.approx(copying.max(), abs=5e-4)
        assert row["highest suppression"] == pytest.approx(suppression.max(), abs=5e-4)
        if copying.std() and base.std():
            assert row["r of scores"] == pytest.approx(np.corrcoef(copying, base)[0, 1], abs=6e-4)
    assert table.loc[(5, True), "r of scores"] == 1


@pytest.mark.parametrize("ks", [(), 5, None])
def test_it_needs_a_list_of_k(ks: object) -> None:
    model = planted.boot(checkpoints.gpt2_model(len(TOKENIZER)), TOKENIZER)
    with pytest.raises(ParameterError, match="ks must be a list"):
        compare_settings(model, load_names(model, WORDS), ks=ks)  # type: ignore[arg-type]
