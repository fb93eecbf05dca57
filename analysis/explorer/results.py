"""What the explorer is made of: names scored with their ranks, and the tokens around them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import NamesError, ParameterError
from analysis.explorer.evidence import Evidence, check_evidence_of
from analysis.explorer.measuring import first_evidence
from analysis.explorer.on_prompt import HeadOnPrompt, check_prompt, heads_on_prompt
from analysis.explorer.payload import (
    MAX_RANK,
    N_EXTREMES,
    NameSet,
    build_payload,
    hold_relations,
    pack,
    ranks_of,
)
from analysis.explorer.queries import extreme_tokens
from analysis.heads import HeadPair
from analysis.models.admission import admit
from analysis.name_files import read_pairs
from analysis.names import TokenPairs, are_shipped, load_names, token_pairs
from analysis.progress import progress_bar
from analysis.provenance import ModelIdentity, model_identity
from analysis.static.head_scores import HeadScores
from analysis.static.scores import score_heads
from analysis.tokenizers import token_texts
from analysis.validation import check_int, check_list, check_type

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_HEADS_WITH_TOKENS = 40
"""Heads for which a page keeps the tokens around every name; more would make it too large."""
SHIPPED = "shipped"
GIVEN = "given"
OWN = "own"
"""Keys of name sets: data/names.csv, those given to ``explore``, and those typed in a control."""

Relations = Mapping[str, "str | Path | TokenPairs | Sequence[tuple[str, str]]"]
"""Pairs by what the relation is called: lists of (source, target), or CSV files of the two."""


@dataclass(frozen=True)
class Results:
    """Everything that one explorer shows.

    Attributes:
        sets: lists of names, scored with ranks.
        evidence: measured numbers and classes.
        words: text of the extreme tokens that the sets hold.
        prompts: by its text, what every head does on a prompt.
    """

    sets: tuple[NameSet, ...]
    evidence: Evidence
    words: dict[int, str] = field(default_factory=dict, repr=False)
    prompts: Mapping[str, Mapping[HeadPair, HeadOnPrompt]] = field(default_factory=dict, repr=False)

    @property
    def scores(self) -> HeadScores:
        """Those shown first."""
        return self.sets[0].scores

    def payload(self) -> dict[str, Any]:
        """As the front end reads it (``analysis.explorer.payload``)."""
        return build_payload(self.sets, self.evidence, words=self.words, prompts=self.prompts)

    @property
    def has_relations(self) -> bool:
        """Whether pairs whose targets are not their sources were scored."""
        return hold_relations(self.sets)

    def packed(self) -> bytes:
        """The payload, packed."""
        return pack(self.payload())

    def find(self, key: str, first_mlp: bool) -> NameSet | None:
        """The set of that key and setting, if it is there."""
        for one in self.sets:
            if one.key == key and one.scores.first_mlp == first_mlp:
                return one
        return None

    def with_evidence(self, evidence: Evidence) -> Results:
        """This with other measured numbers.

        Raises:
            ParameterError: they are another model's.
        """
        scores = self.scores
        check_evidence_of(scores.model, scores.n_layers * scores.n_heads, evidence)
        return replace(self, evidence=evidence)

    def with_set(self, new: NameSet) -> Results:
        """This with one more set; of other names under the same key, it takes the place."""

        def stays(one: NameSet) -> bool:
            if one.key != new.key:
                return True
            same_names = one.scores.pairs.checksum == new.scores.pairs.checksum
            return same_names and one.scores.first_mlp != new.scores.first_mlp

        return replace(self, sets=(*filter(stays, self.sets), new))


def score_names(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]] | None = None,
    *,
    k: int = 1,
    first_mlp: bool = True,
    key: str | None = None,
    label: str | None = None,
) -> NameSet:
    """Score names (data/names.csv if None) with ranks up to ``MAX_RANK`` from both ends.

    Every k up to that can be read off the ranks. The key is ``shipped`` or ``given`` if None.
    """
    k = check_int("k", k, 1, MAX_RANK, "the explorer's ranks")
    asked = load_names(model) if names is None else names
    scores = score_heads(model, asked, k=k, first_mlp=first_mlp, max_rank=MAX_RANK)
    shipped = are_shipped(scores.pairs)
    return NameSet(
        key=key or (SHIPPED if shipped else GIVEN),
        label=label or ("Shipped names" if shipped else f"Given {scores.pairs.kind}"),
        scores=scores,
    )


def holding(scores: HeadScores, text: str) -> HeadScores:
    """The scores of the names that hold a text, in any letter case; of all where none does.

    Of pairs either word may hold it. As the filter of the front end (``filterSet`` in
    static/payload.js); nothing is scored again.
    """
    pairs = scores.pairs
    places = [
        place
        for place, words in enumerate(zip(pairs.sources, pairs.targets, strict=True))
        if any(text.lower() in word.lower() for word in words)
    ]
    if not text or not places:
        return scores
    chosen, every = pairs[places], list(pairs)
    made = {
        "pairs": len(places),
        "pairs_given": len(places),
        "pairs_sha256": chosen.checksum,
        "names" if pairs.copying else "source_target_pairs": [every[place] for place in places],
        "filter": {"text": text, "pairs": len(pairs), "pairs_sha256": pairs.checksum},
    }
    top, bottom = scores.ranks_top, scores.ranks_bottom
    return replace(
        scores,
        in_top_k=scores.in_top_k[:, :, places],
        in_bottom_k=scores.in_bottom_k[:, :, places],
        ranks_top=None if top is None else top[:, :, places],
        ranks_bottom=None if bottom is None else bottom[:, :, places],
        n_zero_output=None,
        pairs=chosen,
        provenance=scores.provenance | made,
    )


def collect(
    model: TransformerBridge,
    names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]] | None = None,
    *,
    k: int = 1,
    first_mlp: bool | Sequence[bool] = True,
    relations: Relations | None = None,
    evidence: Evidence | None = None,
    n_heads_with_tokens: int = 0,
    prompts: Sequence[str] = (),
) -> Results:
    """Score names and gather what an explorer shows.

    Args:
        model: raw weights, from ``load_model``.
        names: as ``score_heads`` takes them; data/names.csv if None.
        k: shown first.
        first_mlp: the setting scored, or both, the one shown first in front.
        relations: pairs by what they are called, lists of (source, target) or CSV files with the
            columns ``source`` and ``target``; scored with every setting too.
        evidence: measured numbers (``analysis.explorer.evidence``); published classes alone if
            None.
        n_heads_with_tokens: heads for which the tokens around every name are kept, those with the
            most names near either end; a page has no model to ask for them.
        prompts: for which every head's attention is kept, likewise.

    Raises:
        NamesError: no name is usable.
        ParameterError: a parameter is out of its range, or the evidence is another model's.
        PromptError: a prompt is empty or too long.
    """
    # First all that can be refused at once: scoring takes its time.
    admit(model)
    k = check_int("k", k, 1, MAX_RANK, "the explorer's ranks")
    n_kept = check_int("n_heads_with_tokens", n_heads_with_tokens, 0)
    if evidence is None:
        evidence = first_evidence(model)
    check_evidence_of(model_identity(model), model.cfg.n_layers * model.cfg.n_heads, evidence)
    texts = list(map(check_prompt, check_list("prompts", prompts, "texts")))
    related = named_pairs(model, relations)
    read = {text: heads_on_prompt(model, text) for text in texts}
    settings = [first_mlp] if isinstance(first_mlp, bool) else list(first_mlp)
    sets = [score_names(model, names, k=k, first_mlp=setting) for setting in settings]
    for label, pairs in related.items():
        sets += [
            score_names(model, pairs, k=k, first_mlp=setting, key=f"relation {label}", label=label)
            for setting in settings
        ]
    words: dict[int, str] = {}
    if n_kept:
        sets[0] = _with_extremes(model, sets[0], strongest(sets[0].scores, n_kept))
        ids = {
            int(token)
            for found in sets[0].extremes.values()
            for ends in (found.top, found.bottom)
            for token in np.unique(ends)
        }
        ordered = sorted(ids)
        words = dict(zip(ordered, token_texts(model.tokenizer, ordered), strict=True))
    return Results(
        sets=tuple(sets),
        evidence=evidence,
        words=words,
        prompts=read,
    )


def checked_results(name: str, results: Results | Iterable[Results]) -> list[Results]:
    """One model's results, or several models', as a list."""
    every = [results] if isinstance(results, Results) else check_list(name, results, "results")
    for one in every:
        check_type(name, one, Results, "explore(model).results")
    return every


def named_pairs(model: TransformerBridge, relations: Relations | None) -> dict[str, TokenPairs]:
    """The pairs of each relation as tokens; a list of names is none."""
    if relations is None:
        return {}
    if not isinstance(relations, Mapping):
        raise ParameterError(
            "relations must be a dictionary such as {'capitals': [('France', 'Paris')]}, not "
            f"{relations!r:.80}."
        )
    named = {}
    for label, given in relations.items():
        pairs = read_pairs(Path(given)) if isinstance(given, (str, Path)) else given
        try:
            found = token_pairs(model, pairs)
        except NamesError as error:
            raise NamesError(f"the relation {str(label)!r:.80}: {error}") from None
        if found.copying:
            raise ParameterError(
                f"{label!r:.80} is no relation: every target is its source; give it as names."
            )
        if str(label) in named:
            raise ParameterError(f"two relations are called {str(label)!r:.80}: rename one.")
        named[str(label)] = found
    return named


def file_name(model: ModelIdentity) -> str:
    """A model's name as a file may have it."""
    return re.sub(r"[^\w.-]+", "_", model.name.rsplit("/", 1)[-1]).lower() or "model"


def strongest(scores: HeadScores, n: int) -> list[HeadPair]:
    """The n heads with the most names within ``MAX_RANK`` of either end, strongest first."""
    top, bottom = ranks_of(scores)
    near = np.maximum((top < MAX_RANK).sum(2), (bottom < MAX_RANK).sum(2)).ravel()
    order = np.argsort(-near, kind="stable")[:n]
    return [divmod(int(i), scores.n_heads) for i in order]


def _with_extremes(model: TransformerBridge, one: NameSet, heads: list[HeadPair]) -> NameSet:
    scores, found = one.scores, {}
    with progress_bar(len(heads), "tokens around the names", "head") as bar:
        for head in heads:
            found[head] = extreme_tokens(
                model, head, scores.pairs, N_EXTREMES, first_mlp=scores.first_mlp
            )
            bar.update()
    return replace(one, extremes=found)
