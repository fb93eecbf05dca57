"""What holds for every test: arrays are checked; one packaged model and one browser for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.array_annotations import check_package
from tests.browser import axe, chromium

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

__all__ = ["axe", "chromium", "smollm2"]

check_package("analysis")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests first, so that no process waits for another at the end.

    What asks mypy comes last: by then the lint beside the tests has filled mypy's cache.
    """
    items.sort(
        key=lambda item: (
            item.get_closest_marker("asks_mypy") is not None,
            item.get_closest_marker("slow") is None,
        )
    )


@pytest.fixture(scope="session")
def smollm2() -> TransformerBridge:
    """The packaged model, fetched and converted where it is not in the cache yet."""
    from analysis.models import load_model

    return load_model("smollm2-135m")
