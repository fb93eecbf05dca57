"""Which tokens heads copy beyond names, and how definitions of copying agree."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.heads import HeadPair, head_name
from analysis.names import TokenPairs
from analysis.static.head_scores import HeadScores
from analysis.static.vocabulary import VocabularyScores
from analysis.tokenizers import token_texts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KINDS = ("name", "Capitalised word", "lower-case word", "word piece", "number", "other")


def token_kinds(
    model: TransformerBridge, tokens: Sequence[int] | np.ndarray, names: TokenPairs
) -> pd.Series:
    """What kind of text each token is.

    A word begins with a space and is letters otherwise; a word piece is letters without the space;
    ``other`` is punctuation, white space, other alphabets' bytes and special tokens.

    Returns:
        One of ``KINDS`` for each token, indexed by ``token``.
    """
    known = set(names.source_tokens)
    kinds = []
    ids = list(map(int, tokens))
    for token, text in zip(ids, token_texts(model.tokenizer, ids), strict=True):
        word = text.strip()
        if token in known:
            kinds.append("name")
        elif word.isnumeric():
            kinds.append("number")
        elif not word or not all(unicodedata.category(c).startswith("L") for c in word):
            kinds.append("other")
        elif not text.startswith(" "):
            kinds.append("word piece")
        else:
            kinds.append("Capitalised word" if word[0].isupper() else "lower-case word")
    return pd.Series(kinds, index=pd.Index(tokens, name="token"), name="kind")


def shares_by_kind(
    scores: VocabularyScores,
    kinds: pd.Series,
    heads: Sequence[tuple[int, int]],
    which: str = "copied",
) -> pd.DataFrame:
    """Share of each kind's tokens that the given heads copy (``which="suppressed"``: suppress).

    Returns:
        A row for each head (``layer.head``), a column for each kind, float64 in [0, 1].
    """
    answers = scores.copied if which == "copied" else scores.suppressed
    rows = {
        head_name(*head): pd.Series(answers[scores.heads.index(head)])
        .groupby(kinds.to_numpy())
        .mean()
        for head in heads
    }
    frame = pd.DataFrame(rows).T.rename_axis("head")
    return frame[[kind for kind in KINDS if kind in frame]]


def example_tokens(
    model: TransformerBridge,
    scores: VocabularyScores,
    kinds: pd.Series,
    heads: Sequence[tuple[int, int]],
    which: str = "copied",
    n: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Tokens that are no names and that the given heads copy (suppress): a random few of each.

    Returns:
        Columns ``tokens`` (how many there are) and ``for example``, a row for each head.
    """
    generator = np.random.default_rng(seed)
    rows = {}
    for head in heads:
        mine = scores.tokens_of(head, which)
        mine = mine[(kinds[mine] != "name").to_numpy()]
        some = np.sort(generator.permutation(mine)[:n])
        texts = " ".join(map(repr, token_texts(model.tokenizer, some)))
        rows[head_name(*head)] = {"tokens": len(mine), "for example": texts}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("head")


def all_definitions(
    static: HeadScores, vocabulary: VocabularyScores, eigenvalues: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Every definition's number for each head, side by side.

    Args:
        static: of the names.
        vocabulary: of all tokens.
        eigenvalues: of ``eigenvalue_scores``, by the embedding that they were computed with.

    Returns:
        Columns ``names copied``, ``names suppressed``, ``tokens copied``, ``tokens suppressed``
        (shares) and ``eigenvalue, ...`` for each embedding, indexed by ``layer`` and ``head``.
    """
    shares = vocabulary.to_frame()
    frame = static.to_frame().rename(
        columns={"copying_score": "names copied", "suppression_score": "names suppressed"}
    )
    frame["tokens copied"] = shares["copied"]
    frame["tokens suppressed"] = shares["suppressed"]
    for embedding, scores in eigenvalues.items():
        frame[f"eigenvalue, {embedding}"] = scores["eigenvalue_score"]
    return frame


def agreement(definitions: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of the definitions over heads, to two decimals."""
    return definitions.corr(method="spearman").round(2)


def rank_differences(
    definitions: pd.DataFrame, other: str, one: str = "names copied"
) -> pd.DataFrame:
    """The heads that two definitions rank most differently, the farthest apart first.

    Returns:
        The two definitions' numbers and ranks (1 the highest, equal ones share their mean rank),
        and ``apart``, by how many ranks they differ.
    """
    frame = definitions[[one, other]].copy()
    for name in (one, other):
        frame[f"rank by {name}"] = frame[name].rank(ascending=False)
    frame["apart"] = (frame[f"rank by {one}"] - frame[f"rank by {other}"]).abs()
    return frame.sort_values("apart", ascending=False, kind="stable").round(3)


def describe_disagreements(definitions: pd.DataFrame) -> list[str]:
    """For each eigenvalue score, where it disagrees with the names, in words with its numbers."""
    said = []
    for column in [name for name in definitions if str(name).startswith("eigenvalue")]:
        positive = definitions[definitions[column] > 0.9]
        n = len(positive)
        never = positive[positive["names copied"] < 0.01]
        copiers = definitions[definitions["names copied"] >= 0.5]
        text = (
            f"{column}: of {n} head{'s' if n != 1 else ''} above 0.9, {len(never) or 'none'} "
            f"{'copy' if len(never) > 1 else 'copies'} fewer than one name in a hundred"
            if n
            else f"{column}: no head is above 0.9"
        )
        if len(never):
            example = int(never[column].argmax())
            layer, head = never.index.to_list()[example]
            row = never.iloc[example]
            text += (
                f", for example {head_name(layer, head)} ({row[column]:.2f}, and "
                f"{row['names copied']:.1%} of names)"
            )
        if len(copiers):
            values = copiers[column].sort_values()
            text += (
                f"; the heads that copy half of the names or more have {values.iloc[0]:.2f} to "
                f"{values.iloc[-1]:.2f}"
                if len(values) > 1
                else f"; the head that copies half of the names or more has {values.iloc[0]:.2f}"
            )
        said.append(text + ".")
    return said


def names_against_rest(
    scores: VocabularyScores, kinds: pd.Series, copier: HeadPair, suppressor: HeadPair
) -> list[str]:
    """Two sentences: whether a copier, and a suppressor, treat names unlike the rest.

    Where the sample holds no names, or nothing else, there is nothing to compare.
    """
    is_name = (kinds == "name").to_numpy()
    n = int(is_name.sum())
    sampled = len(scores.tokens) < scores.d_vocab
    the_names = f"the names in the sample ({n:,})" if sampled else "the names"
    sentences = []
    for head, answers, verb in (
        (copier, scores.copied, "copies"),
        (suppressor, scores.suppressed, "suppresses"),
    ):
        row = answers[scores.heads.index(head)]
        if is_name.all():
            what = f"{row.mean():.0%} of {the_names}; no other tokens were asked about"
        elif not is_name.any():
            what = f"{row.mean():.1%} of the tokens asked about, none of which is a name"
        else:
            of_names, of_rest = row[is_name].mean(), row[~is_name].mean()
            what = f"{of_names:.0%} of {the_names} and {of_rest:.1%} of all other tokens"
        sentences.append(f"Head {head_name(*head)} {verb} {what}.")
    return sentences
