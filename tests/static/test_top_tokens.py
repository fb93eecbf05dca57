"""A head's extreme logits for one token, against a plain product."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analysis.errors import NamesError, ParameterError
from analysis.static.top_tokens import top_tokens
from tests import checkpoints, planted
from tests.planted import COPYING, NAMES, SUPPRESSING

TOKENIZER = checkpoints.make_tokenizer(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", planted.MAKERS)
def test_a_planted_copier_writes_the_name_most_and_a_suppressor_least(kind: str) -> None:
    bridge = planted.planted_model(kind)
    for head in COPYING:
        assert top_tokens(bridge, head, "Mary").loc[1, "largest"] == "' Mary'"
    for head in SUPPRESSING:
        assert top_tokens(bridge, head, "Mary").loc[1, "smallest"] == "' Mary'"


def test_values_are_those_of_the_plain_product() -> None:
    model = checkpoints.llama_model(len(TOKENIZER))
    W_V, W_O = planted.ov_matrices(model, 0)[3]
    W_E, W_U = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    (mary,) = planted.name_tokens(TOKENIZER, ["Mary"]).tolist()
    expected = (W_E[mary].double() @ W_V.double() @ W_O.double() @ W_U.double().T).detach()
    bridge = planted.boot(model, TOKENIZER)
    frame = top_tokens(bridge, (0, 3), "Mary", 5)
    assert frame.index.tolist() == [1, 2, 3, 4, 5] and frame.index.name == "place"
    most = expected.argsort(descending=True)
    assert frame["largest_id"].tolist() == most[:5].tolist()
    assert frame["smallest_id"].tolist() == most.flip(0)[:5].tolist()
    torch.testing.assert_close(
        torch.tensor(frame["largest_logit"].tolist(), dtype=torch.float64), expected[most[:5]]
    )
    assert frame.equals(top_tokens(bridge, (0, 3), mary, 5))


@pytest.mark.parametrize("bad", [{"token": 10**6}, {"token": -1}, {"token": 1.5}, {"token": None}])
@pytest.mark.parametrize("also", [{}, {"n": 0}, {"head": (9, 9)}])
def test_what_does_not_exist_is_an_error(bad: dict[str, Any], also: dict[str, Any]) -> None:
    bridge = planted.planted_model("gpt2")
    with pytest.raises(ParameterError):
        top_tokens(bridge, **({"head": (0, 0)} | bad | also))
    with pytest.raises(NamesError):
        top_tokens(bridge, (0, 0), "Bob")
