"""What holds for every test: array annotations are checked, and the packaged model is read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.array_annotations import check_package

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

check_package("analysis")


@pytest.fixture(scope="session")
def smollm2() -> TransformerBridge:
    """The packaged model, fetched and converted where it is not in the cache yet."""
    from analysis.models import load_model

    return load_model("smollm2-135m")
