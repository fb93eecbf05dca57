"""Which model a result came from, and which software made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from analysis.errors import ParameterError

if TYPE_CHECKING:
    from analysis.architecture.readable import ReadableModel

GPT2_SMALL = "openai-community/gpt2"
"""Hub id of GPT-2 small, the only model with published head classes."""


@dataclass(frozen=True)
class ModelIdentity:
    """What a model is, wherever its weights came from.

    Attributes:
        name: hub id (``openai-community/gpt2``), ``smollm2-135m`` or the folder's name.
        title: the name as figures show it (``GPT-2``).
        revision: commit of the hub repository, or None for a folder or the packaged model.
        checksum: SHA-256 of the weight files (64 hex digits), or None if never computed.
        source: ``hub``, ``package``, ``folder`` or ``memory`` (built in this process).
        note: what else is to be known of the weights, empty for most.
    """

    name: str
    title: str
    revision: str | None = None
    checksum: str | None = None
    source: str = "memory"
    note: str = ""


def set_identity(model: Any, identity: ModelIdentity) -> None:
    """Give ``model`` its public attribute ``identity``; ``load_model`` does so for every model."""
    model.identity = identity


def model_identity(model: ReadableModel) -> ModelIdentity:
    """What ``model`` is: its ``identity``, or its configured name where nothing else is known."""
    known = getattr(model, "identity", None)
    if isinstance(known, ModelIdentity):
        return known
    name = str(model.cfg.model_name or "unnamed model")
    return ModelIdentity(name=name, title=name)


def is_same_model(one: ModelIdentity, other: ModelIdentity) -> bool:
    """Whether two descriptions are of the same weights, as far as they tell.

    Checksums decide where both have one; then the hub's name and commit, since of a checkpoint of
    which only parts were fetched no checksum is known; then everything.
    """
    if one.checksum is not None and other.checksum is not None:
        return one.checksum == other.checksum
    if one.revision is not None and other.revision is not None:
        return (one.name, one.revision) == (other.name, other.revision)
    return one == other


def check_made_of(model: ReadableModel, made_of: ModelIdentity, what: str) -> None:
    """Refuse results of another model, whose numbers and tokens mean something else here."""
    own = model_identity(model)
    if not is_same_model(made_of, own):
        raise ParameterError(
            f"{what} were made of {_described(made_of)}, and this model is {_described(own)}: "
            "make them of this model."
        )


def _described(identity: ModelIdentity) -> str:
    told = f"weights {identity.checksum[:12]}" if identity.checksum else identity.note
    return identity.title + (f" ({told})" if told else "")


def package_versions() -> dict[str, str]:
    """Versions of the packages on which a score depends."""
    versions = {}
    for package in ("name-heads", "torch", "transformer-lens", "transformers", "numpy"):
        try:
            versions[package] = _version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


_version = cache(version)  # read from files, the same as long as the program runs


def provenance_of(model: ReadableModel, parameters: Mapping[str, object]) -> dict[str, object]:
    """What made a result, ready for JSON: the one description that every result carries.

    Args:
        model: what was asked; its identity and the dtype of its weights are recorded.
        parameters: what else decided the result (k, seeds, checksums, counts), ready for JSON.

    Returns:
        ``model`` (the fields of ModelIdentity), ``dtype`` (``float32``), the parameters in the
        order given, ``versions`` (of packages) and ``time`` (UTC, ISO 8601, to the second).
    """
    return {
        "model": asdict(model_identity(model)),
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        **parameters,
        "versions": package_versions(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def timeless(provenance: Mapping[str, object]) -> dict[str, object]:
    """What made a result without the times in it, so that the same run writes the same files."""
    return {
        key: timeless(value) if isinstance(value, Mapping) else value
        for key, value in provenance.items()
        if key != "time"
    }
