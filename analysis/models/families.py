"""Families of models: what is special in each, and what of this package runs on it.

The table says what the tests hold; it admits nothing. A model is admitted by its weights
(``analysis.models.admission``). Only what no test of weights can mend is refused by name here,
before anything is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.errors import ArchitectureError

_LATENT = "its attention is latent: values come from one compressed vector, so no head has a W_V"
_REFUSED = {
    "DeepseekV2ForCausalLM": _LATENT,
    "DeepseekV3ForCausalLM": _LATENT,
    "DeepseekV4ForCausalLM": _LATENT,
    "Glm4MoeLiteForCausalLM": _LATENT,
    "GlmMoeDsaForCausalLM": _LATENT,
    "YoutuForCausalLM": _LATENT,
}
"""Architectures that have no weights of the kind that the scores are about."""

EVERYTHING = "1–6"
STATIC = "1–4"


@dataclass(frozen=True)
class Family:
    """One family, as the tests hold it.

    Attributes:
        name: as its authors write it.
        architecture: transformers' class.
        special: what sets it apart for these scores.
        notebooks: which of them run on it.
        why_not: the reason for those that do not, empty if all do.
    """

    name: str
    architecture: str
    special: str
    notebooks: str = EVERYTHING
    why_not: str = ""


def refusal(architecture: str) -> str:
    """Why an architecture is refused by name; empty for all others."""
    return _REFUSED.get(architecture, "")
