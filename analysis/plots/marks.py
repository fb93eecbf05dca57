"""Sets of heads that are marked on the heatmaps: published classes, measured ones, one's own.

Every mark has an edge, a halo or both, chosen so that on any colour of the scale one of them
stands out, for colour-blind readers and in grey too; ``tests/plots/test_contrast.py`` measures it.
Classes without a head leave nothing in the legend.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.errors import ClassesError, ParameterError
from analysis.heads import HeadPair, check_heads, head_name, head_pairs
from analysis.ioi.head_classes import MEASURED, PUBLISHED, HeadClass, check_classes
from analysis.plots.style import INK, PAPER
from analysis.plots.texts import as_plain
from analysis.static.head_scores import HeadScores
from analysis.validation import shown

LEGEND_TITLE = "'Interp. in the Wild' classifications"
MEASURED_TITLE = "Measured on the indirect-object task"
BOTH_TITLE = "'Interp. in the Wild' and measured classifications"
OWN_TITLE = "Marked heads"
AND_OWN = {
    LEGEND_TITLE: f"{LEGEND_TITLE} and marked heads",
    MEASURED_TITLE: f"{MEASURED_TITLE}, and marked heads",
    BOTH_TITLE: "'Interp. in the Wild', measured and marked heads",
}
"""The titles of legends that explain marks of the reader's own too."""
MEASURED_COLOUR = "#7d0015"
"""A red dark enough to stand out, with its white halo, from every colour of the scale."""
_LABEL_LETTERS = 40


@dataclass(frozen=True)
class Look:
    """How a set is drawn.

    Attributes:
        symbol: plotly's name.
        colour: of the inside, or of the line of an open symbol.
        edge: colour of the line around a filled symbol.
        size: relative to a published mark; open marks go around filled ones on the same head.
    """

    symbol: str
    colour: str
    edge: str = INK
    size: float = 1.0

    @property
    def is_open(self) -> bool:
        """Whether the cell shows through."""
        return self.symbol.endswith("-open")


MOVER = Look("x", INK, PAPER)
BACKUP = Look("circle", "lightgreen", INK)
MEASURED_MOVER = Look("square-open", MEASURED_COLOUR, size=1.6)
MEASURED_BACKUP = Look("diamond-open", MEASURED_COLOUR, size=1.6)
MEASURED_SUPPRESSOR = Look("circle-open", MEASURED_COLOUR, size=1.6)
OWN = (
    Look("triangle-up", "#ffffff", INK, 1.1),
    Look("hexagon-open", "#00205b", size=1.8),
    Look("triangle-down", "#ffd1f0", INK, 1.1),
    Look("star", "#ffffff", INK, 1.2),
    Look("diamond", "#000000", PAPER, 1.0),
    Look("pentagon-open", "#4a0053", size=1.8),
)


@dataclass(frozen=True)
class ClassMark:
    """How one panel marks the heads of one class; marks of one label are one set.

    With ``if_suppressing`` only those heads are meant that suppress more names than they copy.
    """

    head_class: HeadClass
    origin: str
    suppression: bool
    label: str
    look: Look
    if_suppressing: bool = False


CLASS_MARKS = (
    ClassMark(HeadClass.NAME_MOVER, MEASURED, False, "Measured Name-Mover Heads", MEASURED_MOVER),
    ClassMark(HeadClass.BACKUP_NAME_MOVER, MEASURED, False, "Measured Backup Name-Mover Heads",
              MEASURED_BACKUP),
    ClassMark(HeadClass.NEGATIVE_NAME_MOVER, MEASURED, True,
              "Measured (Negative) Name-Mover Heads", MEASURED_MOVER),
    ClassMark(HeadClass.BACKUP_NEGATIVE_NAME_MOVER, MEASURED, True,
              "Measured Backup (Negative) Name-Mover Heads", MEASURED_BACKUP),
    ClassMark(HeadClass.SUBJECT_SUPPRESSOR, MEASURED, True, "Measured Subject-Suppressor Heads",
              MEASURED_SUPPRESSOR),
    ClassMark(HeadClass.NAME_MOVER, PUBLISHED, False, "Name-Mover Heads", MOVER),
    ClassMark(HeadClass.BACKUP_NAME_MOVER, PUBLISHED, False, "Backup Name-Mover Heads", BACKUP),
    ClassMark(HeadClass.NEGATIVE_NAME_MOVER, PUBLISHED, True, "(Negative) Name-Mover Heads", MOVER),
    ClassMark(HeadClass.BACKUP_NEGATIVE_NAME_MOVER, PUBLISHED, True,
              "Backup (Negative) Name-Mover Heads", BACKUP),
    ClassMark(HeadClass.BACKUP_NAME_MOVER, PUBLISHED, True, "Backup (Negative) Name-Mover Heads",
              BACKUP, if_suppressing=True),
)  # fmt: skip
"""Every mark of the head classes, in the order drawn: published ones last and so on top."""


@dataclass(frozen=True)
class HeadSet:
    """One set of marks on one panel; it has at least one head.

    ``origin`` is that of its class, or empty for a set of the reader's own.
    """

    label: str
    heads: tuple[HeadPair, ...]
    look: Look
    origin: str = ""


def class_sets(
    scores: HeadScores, classes: pd.DataFrame, *, suppression: bool
) -> tuple[HeadSet, ...]:
    """What one panel marks of the head classes, the published ones last and so on top.

    On the copying panel those that move names, on the suppression panel those that suppress them.
    The published circuit has one backup class; its heads that suppress more than they copy belong
    to the suppression panel.
    """
    suppresses = scores.n_in_bottom_k > scores.n_in_top_k
    sets: dict[str, HeadSet] = {}
    for mark in CLASS_MARKS:
        if mark.suppression != suppression:
            continue
        of_mark = (classes["origin"] == mark.origin) & (classes["class"] == mark.head_class)
        heads = tuple(head_pairs(classes.index[of_mark]))
        if mark.if_suppressing:
            heads = tuple(head for head in heads if suppresses[head])
        before = sets[mark.label].heads if mark.label in sets else ()
        sets[mark.label] = HeadSet(mark.label, before + heads, mark.look, mark.origin)
    return tuple(one for one in sets.values() if one.heads)


def own_sets(
    marks: Mapping[str, Iterable[HeadPair]], n_layers: int, n_heads: int
) -> tuple[HeadSet, ...]:
    """The reader's own sets, by what the legend calls them, in the order given."""
    if not isinstance(marks, Mapping):
        raise ParameterError(
            f"marks must be a dictionary such as {{'my circuit': [(23, 2)]}}, not {shown(marks)}."
        )
    if len(marks) > len(OWN):
        raise ParameterError(
            f"{len(marks)} sets of marks are given and {len(OWN)} can be told apart: join some."
        )
    sets = []
    for (label, heads), look in zip(marks.items(), OWN, strict=False):
        if isinstance(heads, (str, bytes)) or not isinstance(heads, Iterable):
            raise ParameterError(
                f"marks[{shown(label)}] must be a list of (layer, head) pairs, not {shown(heads)}."
            )
        heads = list(heads)
        if heads:
            sets.append(HeadSet(_wrapped(label), check_heads(heads, n_layers, n_heads), look))
    return tuple(sets)


def own_classes(classes: pd.DataFrame, scores: HeadScores) -> dict[str, list[HeadPair]]:
    """The heads of classes that are not of the indirect-object circuit, by class."""
    check_classes(classes, scores.model, scores.n_layers, scores.n_heads)
    known = {str(name) for name in HeadClass}
    own: dict[str, list[HeadPair]] = {}
    for (layer, head), name in zip(classes.index, classes["class"], strict=True):
        if not isinstance(name, str) or not name.strip():
            raise ClassesError(
                f"head {head_name(layer, head)} has the class {shown(name)}: give each class "
                "a name."
            )
        if name not in known:
            # Under both origins a head has a class twice, and is marked once.
            heads, pair = own.setdefault(name, []), (int(layer), int(head))
            if pair not in heads:
                heads.append(pair)
    return own


def with_marks(
    own: Mapping[str, list[HeadPair]], marks: Mapping[str, Iterable[HeadPair]] | None
) -> Mapping[str, Iterable[HeadPair]]:
    """The reader's own marks, then the classes that are not of the circuit.

    Marks that are no dictionary are left for ``own_sets`` to refuse.
    """
    if marks is None:
        return own
    if not isinstance(marks, Mapping):
        return marks
    shared = [label for label in marks if label in own]
    if shared:
        raise ParameterError(
            f"marks and classes both have the name {shown(shared[0])}: rename one."
        )
    return {**marks, **own}


def legend_title(sets: Sequence[HeadSet]) -> str:
    """Whose marks a panel's legend explains."""
    origins = {one.origin for one in sets}
    if origins <= {""}:
        return OWN_TITLE if origins else ""
    title = LEGEND_TITLE
    if MEASURED in origins:
        title = BOTH_TITLE if PUBLISHED in origins else MEASURED_TITLE
    return AND_OWN[title] if "" in origins else title


def _wrapped(label: object) -> str:
    """A label in lines that a legend has room for, and without markup."""
    lines = textwrap.wrap(str(label), _LABEL_LETTERS) or ["marked"]
    return "<br>".join(as_plain(line) for line in lines)
