"""Every tiny model, made once for the tests of a file."""

from __future__ import annotations

import copy

import pytest

from tests import planted
from tests.families.tiny import EACH, Case, tiny_model


@pytest.fixture(scope="module", params=EACH)
def case(request: pytest.FixtureRequest) -> Case:
    """Of the file's tokenizer, for all tests of a name, which run one by one; none changes it."""
    tokenizer = request.module.TOKENIZER
    model = tiny_model(request.param, len(tokenizer))
    return Case(request.param, model, planted.boot(copy.deepcopy(model), tokenizer))
