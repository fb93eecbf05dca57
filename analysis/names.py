"""Names, and pairs of words, as the tokens that the scores ask about."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from analysis.data_files import data_file
from analysis.errors import NamesError
from analysis.name_files import MAX_CELL, read_names, read_pairs
from analysis.tokenizers import encode, encode_inside, token_texts, tokenizer_fingerprint
from analysis.validation import check_int, check_model, check_path, is_unicode, listed, shown

if TYPE_CHECKING:
    from analysis.architecture.readable import ReadableModel

NAMES_CSV = data_file("names.csv")
"""3,000 given names of the United States with their counts (data/README.md)."""

N_PARTS = 6
"""Tokens that the error of a word of several shows."""

N_NAMED = 3
"""Names left out for one reason that are named; of more only the number is said."""


@dataclass(frozen=True, repr=False)
class TokenPairs(Sequence[Any]):
    """(source, target) pairs whose words are one token each with a leading space.

    For names, whose question is copying, every target is its source's token. It is a sequence: of
    names, or of (source, target) pairs where targets differ; a slice of it, or a list of places, is
    a ``TokenPairs`` again.

    Attributes:
        sources: words, without the leading space.
        targets: words; the same tuple as ``sources`` for names.
        source_tokens: token ids.
        target_tokens: token ids.
        n_given: how many pairs were given.
        dropped: columns ``source``, ``target``, ``reason``, one row for each pair left out.
        tokenizer: fingerprint of the tokenizer whose ids these are (``tokenizer_fingerprint``);
            empty if nobody recorded it.
        of_relation: chosen from pairs of a relation, which they stay even where every target
            chosen is its source.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_tokens: tuple[int, ...]
    target_tokens: tuple[int, ...]
    n_given: int
    dropped: pd.DataFrame = field(compare=False)
    tokenizer: str = ""
    of_relation: bool = field(default=False, compare=False)

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, i: int) -> str | tuple[str, str]: ...

    @overload
    def __getitem__(self, i: slice | list[int]) -> TokenPairs: ...

    def __getitem__(self, i: int | slice | list[int]) -> str | tuple[str, str] | TokenPairs:
        if not isinstance(i, (slice, list)):
            return self.sources[i] if self.copying else (self.sources[i], self.targets[i])
        places = range(len(self))[i] if isinstance(i, slice) else i

        def picked(words: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(words[place] for place in places)

        return replace(
            self,
            sources=picked(self.sources),
            targets=picked(self.targets),
            source_tokens=picked(self.source_tokens),
            target_tokens=picked(self.target_tokens),
            n_given=len(places),
            dropped=self.dropped.iloc[:0],
            of_relation=not self.copying,
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.sources) if self.copying else zip(self.sources, self.targets, strict=True)

    def __contains__(self, item: object) -> bool:
        """Whether a name is a source, or a (source, target) tuple is one of the pairs."""
        if isinstance(item, tuple):
            return item in zip(self.sources, self.targets, strict=True)
        return item in self.sources

    def place(self, source: str) -> int:
        """Where a source stands among the pairs.

        Raises:
            NamesError: it is none of them.
        """
        if not isinstance(source, str) or source not in self.sources:
            raise NamesError(
                f"{shown(source)} is not among the {len(self):,} usable names, such as "
                f"{', '.join(self.sources[:3])}."
            )
        return self.sources.index(source)

    @property
    def copying(self) -> bool:
        """Whether every target is the very token that its source is, and they are names."""
        return not self.of_relation and self.source_tokens == self.target_tokens

    @property
    def kind(self) -> str:
        """What sentences call them: ``names`` where the question is copying, else ``pairs``."""
        return "names" if self.copying else "pairs"

    @property
    def unit(self) -> str:
        """``kind`` after their number: ``name`` and ``pair`` where there is one."""
        return self.kind.removesuffix("s") if len(self) == 1 else self.kind

    @property
    def checksum(self) -> str:
        """SHA-256 of the pairs in their order, a tab between source and target, a pair a line."""
        lines = "".join(f"{s}\t{t}\n" for s, t in zip(self.sources, self.targets, strict=True))
        return hashlib.sha256(lines.encode()).hexdigest()

    def __repr__(self) -> str:
        verb = "is" if len(self) == 1 else "are"
        text = f"{len(self):,} of {self.n_given:,} {self.kind} {verb} usable"
        reasons = self.dropped["reason"].value_counts()
        if len(reasons):
            counts = ", ".join(
                f"{n:,} {reason}{self._named(reason)}" for reason, n in reasons.items()
            )
            text += f"; left out: {counts}"
        return text

    def _named(self, reason: object) -> str:
        """Which were left out for a reason, where they are few."""
        words = self.dropped.loc[self.dropped["reason"] == reason, ["source", "target"]]
        if len(words) > N_NAMED:
            return ""
        return f" ({', '.join(shown(s if s == t else f'{s} → {t}') for s, t in words.values)})"


def load_names(
    model: ReadableModel,
    names: Iterable[str] | str | os.PathLike[str] | None = None,
) -> TokenPairs:
    """Names that are one token with a leading space in the model's tokenizer.

    Args:
        model: its ``tokenizer`` decides.
        names: a list of names (a Series, a generator or another model's ``TokenPairs`` too), or a
            CSV file with a column ``name``; data/names.csv if None.

    Raises:
        NamesError: the list is empty, is not a list of strings, or no name is a single token; the
            file cannot be read, and in which line.
        ParameterError: there is no model, or the path cannot be one.
    """
    check_model(model, ["tokenizer"])
    if names is None or isinstance(names, (str, os.PathLike)):
        names = read_names(check_path("names", names) if names is not None else NAMES_CSV)
    if isinstance(names, TokenPairs):
        found = token_pairs(model, list(zip(names.sources, names.targets, strict=True)))
        return replace(found, of_relation=names.of_relation)
    return token_pairs(model, _as_list(names))


def load_pairs(model: ReadableModel, pairs: str | os.PathLike[str]) -> TokenPairs:
    """Pairs of a relation, both words one token with a leading space in the model's tokenizer.

    Args:
        model: its ``tokenizer`` decides.
        pairs: a CSV file with the columns ``source`` and ``target``.

    Raises:
        NamesError: no pair is usable; the file cannot be read, and in which line.
        ParameterError: there is no model, or the path cannot be one.
    """
    check_model(model, ["tokenizer"])
    return token_pairs(model, read_pairs(check_path("pairs", pairs)))


def are_shipped(pairs: TokenPairs) -> bool:
    """Whether these are the usable names of data/names.csv, all of them."""
    shipped = read_names(NAMES_CSV)
    return pairs.copying and pairs.n_given == len(shipped) and set(pairs.sources) <= set(shipped)


def token_pairs(
    model: ReadableModel, names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]]
) -> TokenPairs:
    """Turn names, or (source, target) pairs, into tokens, leaving out what is not one token.

    A pair given twice is kept once, with a warning; so are words that are one token (``Mary`` and
    ``mary`` where the tokenizer knows no capitals). ``TokenPairs`` of this model are returned as
    they are.
    """
    check_model(model, ["tokenizer"])
    if isinstance(names, TokenPairs):
        check_pairs_of(model, names)
        return names
    pairs = _as_pairs(names)
    given: dict[tuple[str, str], str] = {}
    seen: set[tuple[int | str, int | str]] = set()
    duplicates: list[tuple[str, str]] = []
    respelled: list[tuple[str, str]] = []
    tokens = _single_tokens(model, sorted({word for pair in pairs for word in pair}))
    for pair in pairs:
        if pair in given:
            duplicates.append(pair)
            continue
        problems = [tokens[word] for word in pair if isinstance(tokens[word], str)]
        given[pair] = str(problems[0]) if problems else ""
        ids = tokens[pair[0]], tokens[pair[1]]
        if not problems and ids in seen:
            given[pair] = "same token as an earlier one"
            respelled.append(pair)
        seen.add(ids)
    if duplicates:
        warnings.warn(f"given more than once, counted once: {_first(duplicates)}", stacklevel=2)
    if respelled:
        warnings.warn(
            f"one token in this model with words before them, counted once: {_first(respelled)}",
            stacklevel=2,
        )
    usable = [pair for pair, problem in given.items() if not problem]
    if not usable:
        raise NamesError(
            f"none of the {len(pairs)} given is usable: each word must be a single token with a "
            f"leading space in this model's vocabulary (e.g. {shown(pairs[0][0])}: "
            f"{given[pairs[0]]}); give other words."
        )
    dropped = [(*pair, problem) for pair, problem in given.items() if problem]
    dropped += [(*pair, "given twice") for pair in duplicates]
    sources, targets = zip(*usable, strict=True)
    return TokenPairs(
        sources=sources,
        targets=targets,
        source_tokens=tuple(int(tokens[word]) for word in sources),
        target_tokens=tuple(int(tokens[word]) for word in targets),
        n_given=len(pairs),
        dropped=pd.DataFrame(dropped, columns=["source", "target", "reason"]),
        tokenizer=tokenizer_fingerprint(model.tokenizer),
    )


def one_token(model: ReadableModel, word: str | int, n_tokens: int) -> int:
    """The token of a word with a leading space, or a token id as it is.

    Raises:
        NamesError: the word is not one token; says which tokens it is.
        ParameterError: it is no word, and the id of none of ``n_tokens``.
    """
    if not isinstance(word, str):
        return check_int("a token id", word, 0, n_tokens - 1, "the vocabulary's last token")
    try:
        return token_pairs(model, [word]).source_tokens[0]
    except NamesError:
        word = word.strip()
        if not word or not is_unicode(word) or len(word) > MAX_CELL:
            raise
        parts = _tokens_of(model, word)
        raise NamesError(
            f"{shown(word)} is {'not one token' if len(parts) == 1 else f'{len(parts)} tokens'} "
            f"with a leading space ({', '.join(parts[:N_PARTS])}{', …' * (len(parts) > N_PARTS)}): "
            "give another word, or in Python a token id."
        ) from None


def _tokens_of(model: ReadableModel, word: str) -> list[str]:
    """The tokens of a word inside a text, quoted."""
    (own,) = encode_inside(model.tokenizer, [f" {word}"])
    own = encode(model.tokenizer, f" {word}") if own is None else own
    return list(map(repr, token_texts(model.tokenizer, own)))


def _first(pairs: Sequence[tuple[str, str]]) -> str:
    """The first few pairs, in words."""
    return listed([s if s == t else f"{s} → {t}" for s, t in pairs], 3)


def check_pairs_of(model: ReadableModel, pairs: TokenPairs) -> None:
    """Refuse pairs whose ids are another tokenizer's, or that are beyond the table."""
    if pairs.tokenizer and pairs.tokenizer != tokenizer_fingerprint(model.tokenizer):
        raise NamesError(
            "these names were loaded for a model with another tokenizer, so their token ids mean "
            "other words here: load them again with load_names(model, names)."
        )
    ids = [*pairs.source_tokens, *pairs.target_tokens]
    rows = int(getattr(getattr(model, "cfg", None), "d_vocab", 0) or max(ids, default=0) + 1)
    if not pairs.sources or min(ids) < 0 or max(ids) >= rows:
        raise NamesError(
            f"token ids must be from 0 to {rows - 1:,} (the model's vocabulary), and at least one "
            "must be given: load the names again with load_names(model, names)."
        )


def _as_list(names: Any) -> list[Any]:
    if isinstance(names, Mapping):
        raise NamesError("a list of pairs is needed, not a mapping: give list(pairs.items()).")
    if isinstance(names, pd.DataFrame):
        if {"source", "target"} <= set(names.columns):
            raise NamesError(
                "a list of pairs is needed, not a frame: give "
                "list(zip(frame['source'], frame['target']))."
            )
        raise NamesError("a list of names is needed, not a frame: give list(frame['name']).")
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise NamesError(
            f"a list of names is needed, not {shown(names)}; a CSV file of names is "
            "read by load_names, one of pairs by load_pairs."
        )
    try:
        return list(names)
    except (TypeError, ValueError) as error:  # an array without dimensions
        raise NamesError(f"a list of names is needed, not {shown(names)}.") from error


def _as_pairs(names: Sequence[str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = []
    for item in _as_list(names):
        pair = (item, item) if isinstance(item, str) else item
        if (
            not isinstance(pair, (tuple, list))
            or len(pair) != 2
            or not all(isinstance(word, str) for word in pair)
        ):
            raise NamesError(
                f"{shown(item)} is neither a name nor a (source, target) pair of strings: give "
                "tuples, or read a CSV file of pairs with load_pairs."
            )
        if not all(map(is_unicode, pair)):
            raise NamesError(
                f"{shown(item)} holds half a character (a lone surrogate): correct it."
            )
        pairs.append((str(pair[0]).strip(), str(pair[1]).strip()))
    if not pairs:
        raise NamesError("the list of names is empty; give at least one name.")
    return pairs


def _single_tokens(model: ReadableModel, words: Sequence[str]) -> dict[str, int | str]:
    """For each word the token of " word" in a text, or why there is none."""
    tokens: dict[str, int | str] = {}
    for word in words:
        if not word:
            tokens[word] = "empty"
        elif len(word) > MAX_CELL:
            tokens[word] = f"longer than {MAX_CELL:,} characters"
    asked = [word for word in words if word not in tokens]
    encoded = encode_inside(model.tokenizer, [f" {word}" for word in asked])
    for word, own in zip(asked, encoded, strict=True):
        if own is None:
            tokens[word] = "joined with the word before it"
        elif len(own) != 1:
            tokens[word] = f"split into {len(own)} tokens" if own else "without a token"
        elif own[0] == model.tokenizer.unk_token_id:
            tokens[word] = "unknown to the tokenizer"
        else:
            tokens[word] = own[0]
    return tokens
