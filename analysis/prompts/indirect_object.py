"""The indirect-object task: prompts whose next word is the name that was said only once.

"When John and Mary met at the station, John handed a book to" wants " Mary": the indirect object
(IO), not the subject (S) that was said twice. The structure is that of Wang et al.,
*Interpretability in the Wild* (arXiv 2211.00593, section 2), the sentences are this project's own:

1. Sixteen templates, each in both orders: ABBA has the indirect object first, BABA the subject.
2. Names, places and objects are those that are one token in the model's vocabulary.
3. Every prompt has a counterfactual, the same sentence with three other names (A, B, C), in which
   no name is said twice, so that nothing tells which one comes next.
4. All prompts of a template have the same number of tokens, with the names at the same places;
   what does not is refused.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from analysis.errors import NamesError, ParameterError, PromptError
from analysis.names import load_names, token_pairs
from analysis.prompts.templates import check_length
from analysis.tokenizers import encode_all, tokenizer_fingerprint
from analysis.validation import (
    check_choice,
    check_flag,
    check_int,
    check_list,
    check_seed,
    is_unicode,
    shown,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MAX_PROMPTS = 100_000
TEMPLATES = (
    "While {A} and {B} were waiting at the {place}, {S} handed a {object} to",
    "Before {A} and {B} left the {place}, {S} lent a {object} to",
    "Yesterday {A} and {B} met near the {place}, and {S} showed a {object} to",
    "Once {A} and {B} had reached the {place}, {S} passed a {object} to",
    "On Monday {A} and {B} worked at the {place}. In the end {S} brought a {object} to",
    "Because {A} and {B} liked the {place}, {S} promised a {object} to",
    "The {place} was crowded, so {A} and {B} talked until {S} offered a {object} to",
    "As {A} and {B} walked past the {place}, {S} threw a {object} to",
    "In the evening {A} and {B} sat in the {place}, where {S} described a {object} to",
    "Last winter {A} and {B} rented a room by the {place}, and {S} sold a {object} to",
    "Soon after {A} and {B} found the {place}, {S} gave a {object} to",
    "When the rain began, {A} and {B} hid in the {place}, and {S} offered a {object} to",
    "Although {A} and {B} argued at the {place}, {S} returned a {object} to",
    "Inside the {place} stood {A} and {B}, and {S} carried a {object} to",
    "After the concert {A} and {B} drove to the {place}, where {S} gave a {object} to",
    "During a visit to the {place}, {A} and {B} grew tired, and {S} served a {object} to",
)
"""``{A}`` and ``{B}`` are the two names in their order, ``{S}`` is the subject again."""

_PLACE_WORDS = """garden market library station office museum castle bridge river lake forest hotel
    kitchen airport farm beach school park church hospital"""
_OBJECT_WORDS = """book letter map ticket key lamp cup ring phone camera ball coat basket bottle
    picture knife flower gift box bag"""
PLACES = tuple(_PLACE_WORDS.split())
OBJECTS = tuple(_OBJECT_WORDS.split())
ORDERS = ("ABBA", "BABA")
N_NAMES = 100
"""The most frequent usable names that prompts draw from."""

_MADE_OF = 5  # names: indirect object, subject, and the three of the counterfactual


@dataclass(frozen=True, eq=False)
class IOIPrompts:
    """Prompts of the task, as words and as tokens of one model.

    Attributes:
        frame: one row a prompt, indexed by ``prompt``: ``template`` (its number), ``order``
            (ABBA or BABA), ``text`` and ``counterfactual`` (without the answer), ``io`` and ``s``
            (names), ``io_token`` and ``s_token`` (ids), ``io_position``, ``s1_position``,
            ``s2_position`` and ``end_position`` (of tokens, counted from 0, a BOS included).
        tokens: int64 ``[n, longest]``, filled up on the right by repeating the last token, which
            no position before it sees.
        counterfactual_tokens: int64 ``[n, longest]``, the same with the three other names.
        seed: that they were drawn with.
        prepend_bos: whether a BOS token stands before the text.
        tokenizer: fingerprint of the tokenizer whose ids these are; empty if nobody recorded it.
    """

    frame: pd.DataFrame
    tokens: Int[Tensor, "n longest"] = field(repr=False)
    counterfactual_tokens: Int[Tensor, "n longest"] = field(repr=False)
    seed: int
    prepend_bos: bool
    tokenizer: str = field(default="", repr=False)

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Int[Tensor, "n"]:
        """A column of whole numbers as a tensor.

        Raises:
            ParameterError: there is no such column.
        """
        whole = self.frame.select_dtypes("number")
        check_choice("name", name, list(whole))
        return torch.tensor(self.frame[name].to_numpy(dtype=np.int64))

    @property
    def clusters(self) -> Int[np.ndarray, "n"]:
        """Prompts that are not independent of each other share a number: those of one template.

        Where all are of one template, each is on its own: intervals then speak of this template
        alone.
        """
        templates = self.frame["template"].to_numpy()
        return templates if len(np.unique(templates)) > 1 else np.arange(len(self))

    @property
    def checksum(self) -> str:
        """SHA-256 of the prompts and counterfactuals in their order."""
        lines = self.frame["text"] + "\t" + self.frame["counterfactual"] + "\n"
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def ioi_prompts(
    model: TransformerBridge,
    n: int = 200,
    seed: int = 0,
    *,
    names: Iterable[str] | str | Path | None = None,
    n_names: int = N_NAMES,
    templates: Sequence[str] = TEMPLATES,
    prepend_bos: bool = False,
) -> IOIPrompts:
    """Draw prompts of the task for a model.

    Orders alternate and templates take turns, so that every prefix is as balanced as it can be;
    names, places and objects are drawn at random.

    Args:
        model: its tokenizer decides which words can be used.
        n: how many prompts, at least 1.
        seed: of the draw; the same seed gives the same prompts.
        names: as ``load_names`` takes them; the first ``n_names`` usable ones are drawn from.
        n_names: at least 5.
        templates: sentences with ``{A}``, ``{B}``, ``{S}`` and, if wanted, ``{place}`` and
            ``{object}``. Of 2 to 6, no number of prompts can show that a model solves the task.
        prepend_bos: put the tokenizer's BOS before the text; the paper does not.

    Raises:
        NamesError: fewer than five names are usable.
        PromptError: a template lacks a slot, its names do not tokenise alike, or no place or
            object is one token.
        ParameterError: n or n_names is not a whole number in its range, or there is no template or
            one is given twice.
    """
    n = check_int("n", n, 1, MAX_PROMPTS, "prompts held at once")
    n_names = check_int("n_names", n_names, _MADE_OF)
    seed = check_seed(seed)
    check_flag("prepend_bos", prepend_bos)
    templates = check_list("templates", templates, "sentences")
    _check_templates(templates)
    people = load_names(model, names).sources[:n_names]
    if len(people) < _MADE_OF:
        raise NamesError(
            f"a prompt and its counterfactual need {_MADE_OF} different names, and only "
            f"{len(people)} of those given are a single token here; give more names."
        )
    places = _single("places", model, PLACES, templates, "{place}")
    objects = _single("objects", model, OBJECTS, templates, "{object}")

    rng = np.random.default_rng(seed)
    rows, counterfactuals = [], []
    for i in range(n):
        order, number = ORDERS[i % 2], i // 2 % len(templates)
        io, s, a, b, c = (people[j] for j in rng.choice(len(people), _MADE_OF, replace=False))
        words = {"place": rng.choice(places), "object": rng.choice(objects)}
        first, second = (io, s) if order == "ABBA" else (s, io)
        text = templates[number].format(A=first, B=second, S=s, **words)
        other = templates[number].format(A=a, B=b, S=c, **words)
        rows.append((number, order, text, other, io, s))
        counterfactuals.append((a, b, c))
    frame = pd.DataFrame(
        rows, columns=["template", "order", "text", "counterfactual", "io", "s"]
    ).rename_axis("prompt")
    return _tokenized(model, frame, counterfactuals, templates, seed, prepend_bos)


def _check_templates(templates: Sequence[str]) -> None:
    if not templates:
        raise ParameterError("templates must be a list of at least one sentence.")
    for place, template in enumerate(templates):
        if not isinstance(template, str) or not is_unicode(template):
            raise PromptError(
                f"a template must be text with {{A}}, {{B}} and {{S}}, not {shown(template)}."
            )
        try:
            slots = [
                f"{slot}{'!' + how if how else ''}{':' + form if form else ''}"
                for _, slot, form, how in string.Formatter().parse(template)
                if slot is not None
            ]
        except ValueError as error:
            raise PromptError(f"the template {template!r:.200} cannot be read: {error}.") from error
        if not {*"ABS"} <= {*slots} or {*slots} - {*"ABS", "place", "object"}:
            raise PromptError(
                f"the template {template!r:.200} has the slots {slots}: it needs {{A}}, {{B}} "
                "and {S} and may have {place} and {object}, nothing else."
            )
        if template in templates[:place]:  # intervals would take one sentence for two
            raise ParameterError(f"templates must be different; given twice: {shown(template)}.")
        names = [slot for slot in slots if slot in ("A", "B", "S")]
        if len(names) > len("ABS") or names[-1] != "S":
            raise PromptError(
                f"the template {template!r:.200} must name {{A}}, {{B}} and {{S}} once each, "
                "{S} last."
            )


def _single(
    kind: str, model: TransformerBridge, words: Sequence[str], templates: Sequence[str], slot: str
) -> tuple[str, ...]:
    """The words that are one token, so that every choice gives a prompt of the same length."""
    if not any(slot in template for template in templates):
        return ("",)
    try:
        return token_pairs(model, words).sources
    except NamesError as error:
        raise PromptError(f"no {kind} for the prompts: {error}") from error


def _tokenized(
    model: TransformerBridge,
    frame: pd.DataFrame,
    counterfactuals: Sequence[tuple[str, str, str]],
    templates: Sequence[str],
    seed: int,
    prepend_bos: bool,
) -> IOIPrompts:
    """The prompts with their tokens and positions, if every template's are alike."""
    bos = [model.tokenizer.bos_token_id] if prepend_bos else []
    if None in bos:
        raise ParameterError("this model's tokenizer has no BOS token; set prepend_bos=False.")
    texts = [*frame["text"], *frame["counterfactual"]]
    ids = [bos + sentence for sentence in encode_all(model.tokenizer, texts)]
    clean, other = ids[: len(frame)], ids[len(frame) :]
    spoken = sorted({*frame["io"], *frame["s"], *(name for abc in counterfactuals for name in abc)})
    pairs = token_pairs(model, spoken)
    token = dict(zip(pairs.sources, pairs.source_tokens, strict=True))

    positions = []
    shapes: dict[tuple[int, str], tuple[int, ...]] = {}
    lengths: dict[int, int] = {}
    for i, (number, order, io, s) in enumerate(
        zip(frame["template"], frame["order"], frame["io"], frame["s"], strict=True)
    ):
        said = [p for p, t in enumerate(clean[i]) if t in (token[io], token[s])]
        subjects = [p for p in said if clean[i][p] == token[s]]
        objects = [p for p in said if clean[i][p] == token[io]]
        # An unknown name gives a shape that no template has, and so the error below.
        shape = (*objects, *subjects, len(clean[i]) - 1)
        expected = shapes.setdefault((number, order), shape)
        abc = [other[i][p] for p in said if p < len(other[i])]
        alike = (
            (len(objects), len(subjects)) == (1, 2)
            and shape == expected
            and len(clean[i]) == lengths.setdefault(number, len(clean[i])) == len(other[i])
            and abc == [token[name] for name in counterfactuals[i]]
        )
        if not alike:
            raise PromptError(
                f"the names of template {templates[number]!r} do not tokenise alike (in "
                f"{frame['text'].iloc[i]!r}): each name needs a space before it, and no letter or "
                "mark that joins its token; change the template or the names."
            )
        positions.append(shape)
    columns = ["io_position", "s1_position", "s2_position", "end_position"]
    frame = frame.assign(io_token=frame["io"].map(token), s_token=frame["s"].map(token)).join(
        pd.DataFrame(positions, columns=columns, index=frame.index)
    )
    longest = max(map(len, ids))
    check_length(model, longest)
    filled = torch.tensor(
        [sentence + sentence[-1:] * (longest - len(sentence)) for sentence in ids]
    )
    return IOIPrompts(
        frame=frame,
        tokens=filled[: len(frame)],
        counterfactual_tokens=filled[len(frame) :],
        seed=seed,
        prepend_bos=prepend_bos,
        tokenizer=tokenizer_fingerprint(model.tokenizer),
    )
