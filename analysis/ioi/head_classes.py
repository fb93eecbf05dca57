"""Which heads others have named, and what they called them.

The classes are those of the indirect-object circuit of GPT-2 small (*Interpretability in the
Wild*, arXiv 2211.00593), kept in ``data/ioi_heads.csv``. No other model has published classes;
``analysis.ioi.measured_classes`` measures them on any.
"""

from __future__ import annotations

from enum import StrEnum

import pandas as pd

from analysis.data_files import data_file
from analysis.errors import ClassesError
from analysis.heads import head_name
from analysis.provenance import GPT2_SMALL, ModelIdentity
from analysis.validation import is_unicode, shown

PUBLISHED = "published"
"""Origin of the classes that a paper reports."""
MEASURED = "measured"
"""Origin of the classes that ``analysis.ioi.measured_classes`` finds by running a model."""
ORIGINS = (PUBLISHED, MEASURED)

IOI_HEADS = data_file("ioi_heads.csv")

COLUMNS = ("class", "model", "source", "origin")
CHECKSUM = "checksum"
"""A column that measured classes have besides: SHA-256 of the weights, empty if not known."""


class HeadClass(StrEnum):
    """The parts that heads play in the indirect-object circuit.

    Published classes know one kind of backup; measured ones tell apart those that suppress. A
    subject suppressor attends from END to the subject and writes against it, which helps the right
    name: copy suppression (arXiv 2310.04625) of the other name. GPT-2 small has none published.
    """

    NAME_MOVER = "name mover"
    NEGATIVE_NAME_MOVER = "negative name mover"
    BACKUP_NAME_MOVER = "backup name mover"
    BACKUP_NEGATIVE_NAME_MOVER = "backup negative name mover"
    SUBJECT_SUPPRESSOR = "subject suppressor"
    S_INHIBITION = "s-inhibition"
    INDUCTION = "induction"
    DUPLICATE_TOKEN = "duplicate token"
    PREVIOUS_TOKEN = "previous token"


def published_classes(model: ModelIdentity | str) -> pd.DataFrame:
    """The published classes of a model's heads.

    Args:
        model: a model's identity, or its hub id; ``gpt2`` and ``gpt2-small`` stand for GPT-2 small.

    Returns:
        One row per named head, indexed by ``layer`` and ``head``, with string columns ``class``
        (a :class:`HeadClass`), ``model`` (hub id), ``source`` (the paper) and ``origin``
        (``published``). Without rows for every model but GPT-2 small.

    Raises:
        ClassesError: ``model`` is neither.
    """
    if not isinstance(model, (ModelIdentity, str)):
        raise ClassesError(
            f"published classes are asked for by name, 'gpt2', or by scores.model, not by a "
            f"{type(model).__name__}"
        )
    if isinstance(model, str) and not is_unicode(model):
        raise ClassesError(f"{shown(model)} is no model's name")
    if isinstance(model, ModelIdentity):
        name = model.name
    else:
        name = GPT2_SMALL if model in ("gpt2", "gpt2-small") else model
    heads = pd.read_csv(IOI_HEADS).set_index(["layer", "head"]).assign(origin=PUBLISHED)
    return heads.loc[heads["model"] == name, list(COLUMNS)].sort_index()


def check_classes(classes: pd.DataFrame, model: ModelIdentity, n_layers: int, n_heads: int) -> None:
    """Refuse classes that were not made for this model: published ones, measured ones or both.

    A head may have several rows, each with another class. A column ``checksum`` says of which
    weights a class is.
    """
    missing = [column for column in COLUMNS if column not in classes.columns]
    if missing or list(classes.index.names) != ["layer", "head"]:
        raise ClassesError(
            f"classes need the index (layer, head) and the columns {', '.join(COLUMNS)}; "
            f"got the index {list(classes.index.names)} and the columns {list(classes.columns)}"
        )
    others = sorted({str(name) for name in classes["model"]} - {model.name})
    if others:
        raise ClassesError(
            f"these classes belong to {', '.join(others)} and the scores to {model.name}; "
            "leave the classes out, or measure this model's own with measured_classes"
        )
    known = classes[CHECKSUM].dropna() if CHECKSUM in classes.columns else ()
    weights = sorted({str(checksum) for checksum in known} - {"", str(model.checksum)})
    if weights and model.checksum:
        raise ClassesError(
            f"these classes belong to {model.name} with the weights {weights[0][:12]} and the "
            f"scores to {model.name} with the weights {model.checksum[:12]}; leave the classes "
            "out, or measure this model's own with measured_classes"
        )
    origins = sorted({str(origin) for origin in classes["origin"]} - set(ORIGINS))
    if origins:
        raise ClassesError(
            f"cannot draw classes of origin {', '.join(origins)}: not {' or '.join(ORIGINS)}"
        )
    twice = classes[classes.reset_index().duplicated(["layer", "head", "class", "origin"]).values]
    if len(twice):
        (layer, head), name = twice.index[0], twice["class"].iloc[0]
        raise ClassesError(
            f"head {head_name(layer, head)} has the class {name} twice; keep one row"
        )
    outside = [
        head_name(layer, head)
        for layer, head in classes.index
        if not (0 <= layer < n_layers and 0 <= head < n_heads)
    ]
    if outside:
        raise ClassesError(
            f"{model.name} has {n_layers} layers of {n_heads} heads, but the classes name "
            f"{', '.join(outside)}"
        )
