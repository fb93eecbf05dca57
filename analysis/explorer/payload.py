"""Results as one compact JSON text, which the explorer's front end reads.

The text holds the model's identity, the names, every head's ranks from both ends, classes and
measured numbers. Arrays are base64 of little-endian bytes: ranks uint8, numbers float64, token
places uint16 (uint32 where there are more than 65,536 different tokens). The whole is packed with
gzip. Equal results give equal bytes.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Integer

from analysis.errors import ParameterError
from analysis.explorer.evidence import Evidence, Measure, views_of
from analysis.explorer.measuring import absent_measurements
from analysis.explorer.on_prompt import HeadOnPrompt
from analysis.explorer.queries import ExtremeTokens
from analysis.heads import HeadPair, head_name
from analysis.plots.marks import CLASS_MARKS, ClassMark
from analysis.provenance import is_same_model
from analysis.static.head_scores import HeadScores
from analysis.validation import check_type

FORMAT = "name-heads explorer"
VERSION = 1
MAX_RANK = 100
"""Ranks are exact below this and capped at it, so that any k up to it is a look-up."""
ATTENTION_STEPS = 10_000
"""Attention on a prompt is kept to four decimals."""
N_EXTREMES = 5
"""Tokens kept for each name at either end of a head's logits."""


@dataclass(frozen=True)
class NameSet:
    """One list of names scored with one setting of the first MLP.

    Attributes:
        key: ``shipped`` for data/names.csv, any other word for other names.
        label: as the control shows it.
        scores: with ranks up to ``MAX_RANK`` (``score_heads(..., max_rank=100)``).
        extremes: of some heads, by (layer, head).
    """

    key: str
    label: str
    scores: HeadScores
    extremes: Mapping[HeadPair, ExtremeTokens] = field(default_factory=dict)


def build_payload(
    sets: Sequence[NameSet],
    evidence: Evidence | None = None,
    *,
    words: Mapping[int, str] | None = None,
    prompts: Mapping[str, Mapping[HeadPair, HeadOnPrompt]] | None = None,
) -> dict[str, Any]:
    """Everything that the front end shows, ready for JSON.

    Args:
        sets: lists of names, the one shown first in front; all of one model.
        evidence: measured numbers and classes; none if None.
        words: text of every token that ``sets`` hold as extremes.
        prompts: by its text, what every head does on a prompt; none if None.

    Raises:
        ParameterError: the sets are none, of several models, or without ranks.
    """
    if not sets:
        raise ParameterError("the explorer needs at least one result of score_heads.")
    scores = sets[0].scores
    check_type("scores", scores, HeadScores, "score_heads")
    if not all(is_same_model(one.scores.model, scores.model) for one in sets):
        raise ParameterError("the explorer shows one model: these scores are of several.")
    evidence, words = evidence or Evidence(), dict(sorted((words or {}).items()))
    places = {token: place for place, token in enumerate(words)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": asdict(scores.model),
        "n_layers": scores.n_layers,
        "n_heads": scores.n_heads,
        "max_rank": MAX_RANK,
        "k": scores.k,
        "sets": [pack_set(one, places) for one in sets],
        "words": list(words.values()),
        "classes": pack_classes(evidence.classes),
        "marks": [_pack_mark(mark) for mark in CLASS_MARKS],
        "measures": [pack_measure(measure) for measure in evidence.beside(scores)],
        "views": views_of(evidence, scores.pairs.copying),
        "absent": absent_measurements(evidence, relations=hold_relations(sets)),
        "prompts": [pack_prompt(text, heads) for text, heads in (prompts or {}).items()],
    }


def pack(payload: Mapping[str, Any]) -> bytes:
    """The payload as gzip-packed JSON, without a time in it."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), 9, mtime=0)


_NAMES_IN_RECORD = ("names", "source_target_pairs")
"""Of a set's provenance, what the set says itself."""


def pack_set(one: NameSet, places: Mapping[int, int]) -> dict[str, Any]:
    """One list of names with its ranks.

    ``places`` are those of its extreme tokens in the payload's list of words.
    """
    scores = one.scores
    top, bottom = ranks_of(scores)
    return {
        "key": one.key,
        "label": one.label,
        "first_mlp": scores.first_mlp,
        "sources": list(scores.pairs.sources),
        "targets": None if scores.pairs.copying else list(scores.pairs.targets),
        "n_given": scores.pairs.n_given,
        "says": str(scores.pairs),
        "checksum": scores.pairs.checksum,
        "n_zero_output": _zero_outputs(scores),
        "top": encode(top.astype(np.uint8)),
        "bottom": encode(bottom.astype(np.uint8)),
        "extremes": {
            head_name(*head): pack_extremes(found, places) for head, found in one.extremes.items()
        },
        "provenance": {k: v for k, v in scores.provenance.items() if k not in _NAMES_IN_RECORD},
    }


Ranks = Integer[np.ndarray, "n_layers n_heads n_pairs"]


def ranks_of(scores: HeadScores) -> tuple[Ranks, Ranks]:
    """Ranks from the top and from the bottom, capped at ``MAX_RANK``."""
    top, bottom, known = scores.ranks_top, scores.ranks_bottom, scores.max_rank
    if top is None or bottom is None or known is None or known < MAX_RANK:
        raise ParameterError(
            f"the explorer needs ranks: call score_heads(model, names, max_rank={MAX_RANK})."
        )
    return np.minimum(top, MAX_RANK), np.minimum(bottom, MAX_RANK)


def _zero_outputs(scores: HeadScores) -> dict[str, int]:
    """For how many names a head writes nothing, of the heads with such names."""
    counts = scores.n_zero_output
    if counts is None:
        return {}
    return {head_name(*at): int(counts[tuple(at)]) for at in np.argwhere(counts).tolist()}


def pack_extremes(found: ExtremeTokens, places: Mapping[int, int]) -> dict[str, Any]:
    """The extreme tokens of one head, as places in a list of words.

    ``zero_output`` are the places of the names for which it writes nothing.
    """
    return {
        "n": int(found.top.shape[1]),
        "wide": _are_wide(places),
        "top": _pack_places(found.top, places),
        "bottom": _pack_places(found.bottom, places),
        "zero_output": np.flatnonzero(found.zero_output).tolist(),
    }


def _are_wide(places: Mapping[Any, int]) -> bool:
    """Whether there are more places than 16 bits tell apart."""
    return len(places) > np.iinfo(np.uint16).max


def _pack_places(words: Any, places: Mapping[Any, int]) -> str:
    dtype = np.uint32 if _are_wide(places) else np.uint16
    return encode(np.vectorize(places.__getitem__, otypes=[dtype])(words))


def pack_prompt(text: str, heads: Mapping[HeadPair, HeadOnPrompt]) -> dict[str, Any]:
    """What every head does on one prompt, the heads in order.

    Attention is rounded to 1 / ``ATTENTION_STEPS``, and of each head's rows only what lies on or
    before the diagonal is kept; the words that heads write are places in a list.
    """
    every = [found for _, found in sorted(heads.items())]
    tokens = every[0].tokens
    seen = np.tril_indices(len(tokens))
    attention = np.stack([found.attention[seen] for found in every])
    ends = {"most": [one.most for one in every], "least": [one.least for one in every]}
    frames = [*ends["most"], *ends["least"]]
    words = sorted({word for frame in frames for word in frame["token"]})
    places = {word: place for place, word in enumerate(words)}
    return {
        "text": text,
        "tokens": list(tokens),
        "steps": ATTENTION_STEPS,
        "attention": encode(np.round(attention * ATTENTION_STEPS).astype(np.uint16)),
        "words": words,
        "wide": _are_wide(places),
        **{
            end: {
                "n": len(frames[0]),
                "words": _pack_places([list(frame["token"]) for frame in frames], places),
                "logits": encode(np.stack([frame["logit"].to_numpy() for frame in frames])),
            }
            for end, frames in ends.items()
        },
    }


def pack_measure(measure: Measure) -> dict[str, Any]:
    """One number of every head, with the ends of its interval where it has one."""
    packed: dict[str, Any] = {
        "key": measure.key,
        "title": measure.title,
        "group": measure.group,
        "range": list(measure.range) if measure.range else None,
        "note": measure.note,
        "python": measure.python,
        "values": encode(np.asarray(measure.values, dtype=np.float64)),
    }
    if measure.low is not None and measure.high is not None:
        packed["low"] = encode(np.asarray(measure.low, dtype=np.float64))
        packed["high"] = encode(np.asarray(measure.high, dtype=np.float64))
    return packed


def pack_classes(classes: pd.DataFrame | None) -> list[dict[str, Any]]:
    """One entry for each head and class, as ``published_classes`` has them."""
    if classes is None:
        return []
    return [
        {
            "layer": int(layer),
            "head": int(head),
            "class": str(row["class"]),
            "origin": str(row["origin"]),
            "source": str(row["source"]),
        }
        for (layer, head), row in zip(classes.index, classes.to_dict(orient="records"), strict=True)
    ]


def hold_relations(sets: Sequence[NameSet]) -> bool:
    """Whether some pairs' targets are not their sources."""
    return any(not one.scores.pairs.copying for one in sets)


def _pack_mark(mark: ClassMark) -> dict[str, Any]:
    return {
        "class": str(mark.head_class),
        "origin": mark.origin,
        "side": int(mark.suppression),
        "label": mark.label,
        "if_suppressing": mark.if_suppressing,
        **asdict(mark.look),
    }


def encode(array: np.ndarray) -> str:
    """Base64 of an array's little-endian bytes."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(np.ascontiguousarray(little).tobytes()).decode()
