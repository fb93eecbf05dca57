"""Names, folders and formats as people type them, checked before anything is drawn."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from analysis.errors import ExportError, ParameterError
from analysis.plots.heatmaps import facts_of
from analysis.provenance import GPT2_SMALL, ModelIdentity
from analysis.static.head_scores import HeadScores
from analysis.validation import check_list, is_unicode, shown

FORMATS = ("html", "png", "svg", "pdf")
DATA = ("csv", "json")
_NOT_WRITTEN = ("eps", "ps", "jpg", "jpeg", "tif", "tiff", "gif", "webp", "bmp")

_ROOT = Path(__file__).parents[2]
_CHECKOUT = _ROOT if (_ROOT / "pyproject.toml").is_file() else Path()
FIGURES = Path(os.environ.get("NAME_HEADS_FIGURES") or _CHECKOUT / "figures")
"""Where notebooks write: in the checkout or, installed without one, in the working folder.
``make test`` sets another folder, to change no committed file."""

EXPLORER = "_explorer"
"""How the name of an explorer's page ends."""
_PAGE = re.compile(rf"({EXPLORER})?\.html$")

_LONGEST_NAME = 200  # of the 255 bytes that file systems take, for endings and hidden files


def figure_stem(
    scores: HeadScores, name: str | os.PathLike[str] | None = None, kind: str = "heatmaps"
) -> Path:
    """Where a model's figures are written: in ``figures/``, one stem for each setting.

    Args:
        scores: what the figure shows; the model and any setting off its default enter the name
            (the dtype too, and rows of padding that were counted as tokens), other names or pairs
            by the first digits of their checksum. A model whose name others
            may share (a folder, most hub models) enters with those of its weights' checksum.
        name: a name of your own, instead; one with a folder is taken from the working folder.
        kind: of figure.

    Raises:
        ExportError: the name cannot be that of a file.
    """
    if name is not None:
        stem, _ = checked_stem(name)
        return stem if stem.parent != Path() else FIGURES / stem
    return FIGURES / name_of(facts_of(scores), kind)


def name_of(facts: Mapping[str, Any], kind: str = "heatmaps") -> str:
    """The name that ``figure_stem`` gives, from what a figure says of its scores."""
    made = facts["provenance"]
    parts = [_model_part(ModelIdentity(**facts["model"])), kind]
    parts += [f"k{facts['k']}"] if facts["k"] != 1 else []
    parts += [] if facts["first_mlp"] else ["without_mlp"]
    dtype = str(made.get("dtype", "float32"))
    parts += [] if dtype == "float32" else [dtype]
    parts += ["with_padding"] if made.get("padding_rows_counted") else []
    parts += [] if facts["relation"] == "copying" else ["relation"]
    parts += [] if facts.get("shipped_names") else [facts["pairs_sha256"][:8]]
    return "_".join(parts)


def free_name(name: str, taken: set[str]) -> str:
    """A file's name, with a number where another has it already; it is taken from now on.

    Args:
        name: such as ``gpt2`` or ``gpt2_explorer.html``; the second is ``gpt2_2_explorer.html``.
        taken: names in small letters, as some file systems tell them apart.
    """
    ending = _PAGE.search(name)
    cut = ending.start() if ending else len(name)
    names = (f"{name[:cut]}_{n}{name[cut:]}" for n in count(2))
    found = name
    while found.lower() in taken:
        found = next(names)
    taken.add(found.lower())
    return found


def checked_stem(stem: object, default: str = "figure") -> tuple[Path, str | None]:
    """Folder and name of a figure's files, and the format that its ending asks for.

    Args:
        stem: a path; ``~`` is the home folder, and an ending such as ``.pdf`` is that of a format.
        default: the name where the path is a folder.

    Raises:
        ExportError: it can be no path, its name none of a file, or its ending that of a picture
            format that is not written.
    """
    if not isinstance(stem, (str, os.PathLike)):
        raise ExportError(
            f"a figure needs a name to write it under, such as 'figures/mine', not {shown(stem)}"
        )
    text = os.fspath(stem)
    if not isinstance(text, str) or "\0" in text or not is_unicode(text):
        raise ExportError(f"a file's name cannot hold what is in {shown(text)}")
    if not text.strip():
        raise ExportError(f"a figure needs a name to write it under; got {text!r:.200}")
    path = Path(text).expanduser()
    # A folder that has the figure's name lies beside its files; one is meant by its slash.
    if text.endswith(("/", os.sep)) or path.name in ("", ".", ".."):
        path = path / default
    ending = path.suffix[1:].lower()
    if ending in _NOT_WRITTEN:
        *most, last = FORMATS
        raise ExportError(f"{ending} is not written; {', '.join(most)} and {last} are")
    if ending in FORMATS + DATA:
        path = path.with_suffix("")
    if len(path.name.encode()) > _LONGEST_NAME:
        raise ExportError(
            f"the name {path.name[:40]}... has {len(path.name.encode())} bytes: use "
            f"{_LONGEST_NAME} or fewer."
        )
    return path, ending if ending in FORMATS else None


def checked_formats(formats: object) -> list[str]:
    """The formats, each once, in the order of ``FORMATS``.

    Args:
        formats: a list, or a text such as ``png,svg``; any letter case, with or without a dot.
            None means all.

    Raises:
        ExportError: one is unknown, or none is given.
    """
    if formats is None:
        return list(FORMATS)
    if isinstance(formats, str):
        formats = [word for word in re.split(r"[,;\s]+", formats) if word]
    try:
        given = check_list("formats", formats)
    except ParameterError:
        raise ExportError(
            f"formats must be a list such as ['png', 'svg'], not {shown(formats)}"
        ) from None
    wanted = [str(one).strip().lower().removeprefix(".") for one in given]
    unknown = [shown(one) for one, name in zip(given, wanted, strict=True) if name not in FORMATS]
    if unknown:
        raise ExportError(
            f"unknown format {', '.join(unknown[:5])}; a figure is written as {', '.join(FORMATS)}"
        )
    return [name for name in FORMATS if name in wanted]


def _model_part(model: ModelIdentity) -> str:
    """A model's name in a file's name, with a checksum where others may bear the name."""
    name = re.sub(r"[^\w.-]+", "-", model.name.rsplit("/", 1)[-1].lower()).strip(".-") or "model"
    if model.name == GPT2_SMALL or model.source == "package":
        return name
    known = model.checksum or model.revision
    return f"{name}_{known[:8]}" if known else name
