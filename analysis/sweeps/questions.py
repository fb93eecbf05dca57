"""What a sweep can ask of one model: each question gives a frame with a row for every head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import names as name_lists
from analysis.embeddings import check_embedding
from analysis.errors import ParameterError
from analysis.models.checksums import sha256_of
from analysis.validation import (
    check_choice,
    check_flag,
    check_int,
    check_list,
    check_model,
    check_text,
    shown,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def _static(
    model: TransformerBridge, names: Sequence[str] | None, *, k: int = 1, first_mlp: bool = True
) -> pd.DataFrame:
    from analysis.static.scores import score_heads

    scores = score_heads(model, name_lists.load_names(model, names), k=k, first_mlp=first_mlp)
    return scores.to_frame(intervals=True).assign(n_names=scores.n_pairs)


def _vocabulary(
    model: TransformerBridge,
    names: Sequence[str] | None,
    *,
    k: int = 1,
    n_tokens: int | None = None,
) -> pd.DataFrame:
    from analysis.static.vocabulary import score_vocabulary

    return score_vocabulary(model, k=k, n_tokens=n_tokens).to_frame()


def _eigenvalue(
    model: TransformerBridge, names: Sequence[str] | None, *, embedding: str = "embedding"
) -> pd.DataFrame:
    from analysis.static.eigenvalues import eigenvalue_scores

    return eigenvalue_scores(model, embedding=embedding)


def _dynamic(
    model: TransformerBridge,
    names: Sequence[str] | None,
    *,
    k: int = 1,
    n_names: int | None = None,
) -> pd.DataFrame:
    from analysis.dynamic.scores import dynamic_scores

    usable = name_lists.load_names(model, names)
    some = name_lists.load_names(model, usable.sources[:n_names])
    means = dynamic_scores(model, some, k=k).means().unstack("context")
    means.columns = [f"{score}_{context}" for score, context in means.columns]
    return means


_QUESTIONS: Mapping[str, Callable[..., pd.DataFrame]] = MappingProxyType(
    {
        "static": _static,
        "vocabulary": _vocabulary,
        "eigenvalue": _eigenvalue,
        "dynamic": _dynamic,
    }
)
QUESTIONS = tuple(_QUESTIONS)
_ABOUT_NAMES = ("static", "dynamic")


@dataclass(frozen=True)
class Question:
    """One question with its parameters.

    ========== ============================================================ =====================
    question   what                                                         parameters
    ========== ============================================================ =====================
    static     copying and suppression score of the names (MAPS)            ``k``, ``first_mlp``
    vocabulary share of all tokens copied and suppressed                    ``k``, ``n_tokens``
    eigenvalue eigenvalue copying score (Elhage et al.)                     ``embedding``
    dynamic    the same scores of what the heads write when the model runs  ``k``, ``n_names``
    ========== ============================================================ =====================

    Attributes:
        name: one of these.
        parameters: of the question; others are refused.
        names: words that ``static`` and ``dynamic`` ask about; ``data/names.csv`` if None.

    Raises:
        ParameterError: the question is unknown, has no such parameter or asks about no names, or a
            value is out of its range.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("question", self.name, QUESTIONS)
        known = _defaults(self.name)
        if not isinstance(self.parameters, Mapping):
            raise ParameterError(
                f"parameters must be a dictionary such as {{'k': 10}}, not "
                f"{shown(self.parameters)}."
            )
        unknown = [name for name in self.parameters if name not in known]
        if unknown:
            raise ParameterError(
                f"the question {self.name!r} has no parameter "
                f"{', '.join(name if isinstance(name, str) else shown(name) for name in unknown)}; "
                f"it has {', '.join(known)}."
            )
        checked = {name: _checked(name, value) for name, value in self.parameters.items()}
        object.__setattr__(self, "parameters", checked)
        if self.names is not None:
            if self.name not in _ABOUT_NAMES:
                raise ParameterError(
                    f"the question {self.name!r} asks about no names: leave them out."
                )
            names = check_list("names", self.names, "words")
            object.__setattr__(self, "names", tuple(check_text("a name", n) for n in names))

    def ask(self, model: TransformerBridge) -> pd.DataFrame:
        """The answer, a row for every head, indexed by ``layer`` and ``head``."""
        check_model(model)
        return _QUESTIONS[self.name](model, self.names, **self.parameters)

    @property
    def label(self) -> str:
        """The question and what is off its default, as text: ``static k=10``.

        Names of one's own are told by their number and a checksum: ``static (8 names, 1c0ffee2)``.
        """
        defaults = _defaults(self.name)
        said = [
            f"{name}={value}"
            for name, value in sorted(self.parameters.items())
            if value != defaults[name]
        ]
        if self.names is not None:
            n, checksum = len(self.names), hashlib.sha256(json.dumps(self.names).encode())
            said.append(f"({n:,} {'name' if n == 1 else 'names'}, {checksum.hexdigest()[:8]})")
        return " ".join([self.name, *said])

    @property
    def names_file(self) -> str:
        """``names_checksum`` where the question is about these names, else empty."""
        about_it = self.name in _ABOUT_NAMES and self.names is None
        return names_checksum() if about_it else ""

    def key(self, checksum: str) -> str:
        """What a stored answer is known by: model, question, parameters, names and code.

        Args:
            checksum: of everything in the model that answers depend on
                (``models.checkpoint.checkpoint_checksum``).

        Returns:
            40 hex digits.

        Raises:
            ModelError: ``data/names.csv`` is asked about and cannot be read.
        """
        check_text("checksum", checksum)
        asked = {
            "model": checksum,
            "question": self.name,
            "parameters": _defaults(self.name) | dict(self.parameters),
            "names": self.names,
            "code": code_checksum(),
        }
        if file := self.names_file:
            asked["names"] = {"file": file}
        text = json.dumps(asked, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:40]


def code_checksum() -> str:
    """SHA-256 of the package's code that answers depend on: all but drawing, prose and commands.

    Read anew each time: the code may be edited between two sweeps of one session. A process that
    answers runs what was there when it started, ``IMPORTED_CODE``.
    """
    left_out = {"plots", "export", "explorer", "report", "cli"}
    digest = hashlib.sha256()
    package = files("analysis")
    folders = sorted(f.name for f in package.iterdir() if f.is_dir() and f.name not in left_out)
    for folder in (package, *(package / name for name in folders)):
        for file in sorted((f for f in folder.iterdir() if f.name.endswith(".py")), key=str):
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


IMPORTED_CODE = code_checksum()
"""``code_checksum`` of what this process runs: as it was when this module was imported."""


def names_checksum() -> str:
    """SHA-256 of ``data/names.csv``, read anew each time."""
    return sha256_of(name_lists.NAMES_CSV)


def _checked(name: str, value: Any) -> Any:
    """A parameter's value as JSON and the question's function take it."""
    if name == "first_mlp":
        check_flag(name, value)
        return value
    if name == "embedding":
        check_embedding(value)
        return value
    if value is None and name != "k":
        return None
    return check_int(name, value)


def _defaults(question: str) -> dict[str, Any]:
    """The parameters of a question with their defaults."""
    parameters = signature(_QUESTIONS[question]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
