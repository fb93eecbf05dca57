"""Names, and pairs of words, as the tokens that the scores ask about."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data_files import data_file
from analysis.errors import NamesError
from analysis.validation import check_model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NAMES_CSV = data_file("names.csv")
"""3,000 given names of the United States with their counts (data/README.md)."""


@dataclass(frozen=True)
class TokenPairs:
    """(source, target) pairs whose words are one token each with a leading space.

    For names, whose question is copying, every target is its source.

    Attributes:
        sources: words, without the leading space.
        targets: words; the same tuple as ``sources`` for names.
        source_tokens: token ids.
        target_tokens: token ids.
        n_given: how many pairs were given.
        dropped: columns ``source``, ``target``, ``reason``, one row for each pair left out.
    """

    sources: tuple[str, ...] = field(repr=False)
    targets: tuple[str, ...] = field(repr=False)
    source_tokens: tuple[int, ...] = field(repr=False)
    target_tokens: tuple[int, ...] = field(repr=False)
    n_given: int
    dropped: pd.DataFrame = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.sources)

    def place(self, source: str) -> int:
        """Where a source stands among the pairs.

        Raises:
            NamesError: it is none of them.
        """
        if source not in self.sources:
            raise NamesError(
                f"{source!r} is not among the {len(self):,} usable names, such as "
                f"{', '.join(self.sources[:3])}."
            )
        return self.sources.index(source)

    @property
    def copying(self) -> bool:
        """Whether every target is its source."""
        return self.sources == self.targets

    @property
    def checksum(self) -> str:
        """SHA-256 of the pairs in their order, a tab between source and target, a pair a line."""
        lines = "".join(f"{s}\t{t}\n" for s, t in zip(self.sources, self.targets, strict=True))
        return hashlib.sha256(lines.encode()).hexdigest()

    def __str__(self) -> str:
        kind = "names" if self.copying else "pairs"
        text = f"{len(self):,} of {self.n_given:,} {kind} are usable"
        reasons = self.dropped["reason"].value_counts()
        if len(reasons):
            counts = ", ".join(f"{n:,} {reason}" for reason, n in reasons.items())
            text += f"; left out: {counts}"
        return text


def load_names(
    model: TransformerBridge, names: Iterable[str] | str | Path | None = None
) -> TokenPairs:
    """Names that are one token with a leading space in the model's tokenizer.

    Args:
        model: its ``tokenizer`` decides.
        names: a list of names, or a CSV file with a column ``name``; data/names.csv if None.

    Raises:
        NamesError: the list is empty, is not a list of strings, or no name is a single token.
    """
    check_model(model, ["tokenizer"])
    if names is None or isinstance(names, (str, Path)):
        names = _read_names(Path(names) if names is not None else NAMES_CSV)
    return token_pairs(model, names if isinstance(names, TokenPairs) else _as_list(names))


def are_shipped(pairs: TokenPairs) -> bool:
    """Whether these are the usable names of data/names.csv, all of them."""
    shipped = _read_names(NAMES_CSV)
    return pairs.copying and pairs.n_given == len(shipped) and set(pairs.sources) <= set(shipped)


def _read_names(path: Path) -> list[str]:
    if not path.is_file():
        raise NamesError(
            f"there is no file of names {str(path)!r}; give a CSV file with a column 'name', or a "
            "list of names."
        )
    try:
        # "Nan" is a name, not a missing value.
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
    except ValueError as error:  # the parser's and the decoder's errors are ValueErrors
        raise NamesError(f"{path} cannot be read as a CSV table: {error}".rstrip() + ".") from error
    if "name" not in table:
        raise NamesError(
            f"{path} has no column 'name', only {', '.join(map(str, table))}; rename the column "
            "that holds the names."
        )
    return table["name"].tolist()


def token_pairs(
    model: TransformerBridge, names: TokenPairs | Sequence[str] | Sequence[tuple[str, str]]
) -> TokenPairs:
    """Turn names, or (source, target) pairs, into tokens, leaving out what is not one token.

    A pair given twice is kept once, with a warning.

    Raises:
        NamesError: nothing was given, nothing is usable, or something is not a string.
    """
    check_model(model, ["tokenizer"])
    if isinstance(names, TokenPairs):
        return names
    pairs = _as_pairs(names)
    given: dict[tuple[str, str], str] = {}
    duplicates: list[tuple[str, str]] = []
    tokens = _single_tokens(model, sorted({word for pair in pairs for word in pair}))
    for pair in pairs:
        if pair in given:
            duplicates.append(pair)
            continue
        problems = [tokens[word] for word in pair if isinstance(tokens[word], str)]
        given[pair] = str(problems[0]) if problems else ""
    if duplicates:
        shown = ", ".join(s if s == t else f"{s} → {t}" for s, t in duplicates[:3])
        more = f" and {len(duplicates) - 3} more" if len(duplicates) > 3 else ""
        warnings.warn(f"given more than once, counted once: {shown}{more}", stacklevel=2)
    usable = [pair for pair, problem in given.items() if not problem]
    if not usable:
        raise NamesError(
            f"none of the {len(pairs)} given is usable: each word must be a single token with a "
            f"leading space in this model's vocabulary (e.g. {pairs[0][0]!r}: "
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
    )


def _as_list(names: Any) -> list[Any]:
    if isinstance(names, Mapping):
        raise NamesError("a list of pairs is needed, not a mapping: give list(pairs.items()).")
    if isinstance(names, pd.DataFrame):
        raise NamesError("a list of names is needed, not a frame: give list(frame['name']).")
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise NamesError(
            f"a list of names is needed, not {names!r}; a CSV file is read by load_names."
        )
    return list(names)


def _as_pairs(names: Sequence[str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = []
    for item in _as_list(names):
        pair = (item, item) if isinstance(item, str) else item
        if (
            not isinstance(pair, (tuple, list))
            or len(pair) != 2
            or not all(isinstance(word, str) for word in pair)
        ):
            raise NamesError(f"{item!r} is neither a name nor a (source, target) pair of strings.")
        pairs.append((pair[0].strip(), pair[1].strip()))
    if not pairs:
        raise NamesError("the list of names is empty; give at least one name.")
    return pairs


def _single_tokens(model: TransformerBridge, words: Sequence[str]) -> dict[str, int | str]:
    """For each word the token of " word", or why there is none."""
    spaced = model.tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    tokens: dict[str, int | str] = {}
    for word, ids in zip(words, spaced, strict=True):
        if not word:
            tokens[word] = "empty"
        elif len(ids) != 1:
            tokens[word] = f"split into {len(ids)} tokens" if ids else "without a token"
        elif ids[0] == model.tokenizer.unk_token_id:
            tokens[word] = "unknown to the tokenizer"
        else:
            tokens[word] = int(ids[0])
    return tokens
