"""The list of names, and names and pairs as tokens."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from analysis.errors import NamesError, ParameterError
from analysis.names import NAMES_CSV, TokenPairs, load_names, load_pairs, token_pairs
from tests import checkpoints

WORDS = ("John", "Mary", "Nan", "Null", "Zoë", "Inf", "1984", "NA")
"""One token each in the tokenizer of these tests; everything else falls into bytes."""


MODEL: Any = SimpleNamespace(tokenizer=checkpoints.make_tokenizer(WORDS))
"""All that names need of a model is its tokenizer."""


@pytest.fixture
def model() -> Any:
    return MODEL


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def reasons(pairs: TokenPairs) -> dict[tuple[str, str], str]:
    return {(row.source, row.target): row.reason for row in pairs.dropped.itertuples()}


# ---- data/names.csv


def test_the_list_has_at_least_a_thousand_names_in_falling_order_of_their_counts() -> None:
    with NAMES_CSV.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["name"] for row in rows]
    counts = [int(row["count"]) for row in rows]
    assert len(names) >= 1000
    assert len(set(names)) == len(names)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 0
    assert not [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z'-]+", name)]


def test_without_a_list_the_names_are_those_of_the_file(model: Any) -> None:
    with NAMES_CSV.open(encoding="utf-8", newline="") as file:
        expected = [row["name"] for row in csv.DictReader(file)]
    pairs = load_names(model)
    assert pairs.n_given == len(expected)
    assert pairs.sources == tuple(name for name in expected if name in WORDS)
    assert {"John", "Mary"} <= set(pairs.sources)
    assert len(pairs) + len(pairs.dropped) == pairs.n_given


def test_a_name_that_looks_like_a_missing_value_is_a_name(model: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "names.csv", "name,count\nNan,5\nNull,4\nNA,3\nInf,2\n1984,1\n")
    assert load_names(model, path).sources == ("Nan", "Null", "NA", "Inf", "1984")
    assert load_names(model, str(path)) == load_names(model, path)


# ---- single tokens


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "Joh", "Johnn", "john", "x", "日本"]), unique=True))
def test_exactly_the_words_of_one_token_are_kept_in_their_order(words: list[str]) -> None:
    usable = [word for word in words if word in WORDS]
    if not usable:
        with pytest.raises(NamesError):
            load_names(MODEL, words)
        return
    pairs = load_names(MODEL, words)
    assert pairs.sources == pairs.targets == tuple(usable)
    assert pairs.copying
    assert pairs.n_given == len(words)
    assert [MODEL.tokenizer.decode(token) for token in pairs.source_tokens] == [
        f" {word}" for word in usable
    ]
    assert pairs.source_tokens == pairs.target_tokens
    assert list(pairs.dropped["source"]) == [word for word in words if word not in WORDS]


@pytest.mark.slow
@given(st.text(max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_text_is_either_one_token_or_left_out_for_a_reason(text: str) -> None:
    pairs = load_names(MODEL, ["John", f"x{text}"])
    assert pairs.sources == ("John",)
    assert re.fullmatch(r"split into \d+ tokens", pairs.dropped["reason"].item())


def test_why_a_name_was_left_out_is_said(model: Any) -> None:
    pairs = load_names(model, ["John", "Bob", "Mary", "Al", " "])
    assert reasons(pairs) == {
        ("Bob", "Bob"): "split into 4 tokens",
        ("Al", "Al"): "split into 3 tokens",
        ("", ""): "empty",
    }
    assert str(pairs) == (
        "2 of 5 names are usable; left out: 1 split into 4 tokens ('Bob'), "
        "1 split into 3 tokens ('Al'), 1 empty ('')"
    )


def test_a_word_unknown_to_the_tokenizer_is_left_out() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "John": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    model: Any = SimpleNamespace(
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    )
    pairs = load_names(model, ["John", "Mary"])
    assert pairs.sources == ("John",)
    assert reasons(pairs) == {("Mary", "Mary"): "unknown to the tokenizer"}


def test_special_tokens_are_not_counted() -> None:
    """A tokenizer that puts a BOS token before every text still has names of one token."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = checkpoints.make_tokenizer(WORDS)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{checkpoints.END} $A", special_tokens=[(checkpoints.END, 0)]
    )
    assert len(tokenizer(" John")["input_ids"]) == 2
    model: Any = SimpleNamespace(tokenizer=tokenizer)
    pairs = load_names(model, ["John"])
    assert tokenizer.decode(list(pairs.source_tokens)) == " John"


def test_spaces_around_a_name_do_not_matter(model: Any) -> None:
    assert load_names(model, [" John", "Mary ", "\tNan\n"]) == load_names(
        model, ["John", "Mary", "Nan"]
    )


# ---- duplicates


def test_duplicates_are_counted_once_and_said(model: Any) -> None:
    with pytest.warns(UserWarning, match="given more than once, counted once: John, Mary") as seen:
        pairs = load_names(model, ["John", "Mary", "John", "Nan", "Mary", " John"])
    assert len(seen) == 1
    assert pairs.sources == ("John", "Mary", "Nan")
    assert pairs.n_given == 6
    assert list(pairs.dropped["reason"]) == ["given twice"] * 3
    assert str(pairs) == (
        "3 of 6 names are usable; left out: 3 given twice ('John', 'Mary', 'John')"
    )


def test_only_whole_pairs_are_duplicates(model: Any, recwarn: pytest.WarningsRecorder) -> None:
    given_pairs = [("John", "Mary"), ("John", "Nan"), ("Mary", "John")]
    assert len(token_pairs(model, given_pairs)) == 3
    assert not [w for w in recwarn if "more than once" in str(w.message)]
    with pytest.warns(UserWarning, match="John → Mary"):
        assert len(token_pairs(model, [*given_pairs, ("John", "Mary")])) == 3


def lower_casing() -> Any:
    """A model whose tokenizer knows no capitals."""
    from tokenizers import normalizers

    tokenizer = checkpoints.make_tokenizer(tuple(word.lower() for word in WORDS))
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return SimpleNamespace(tokenizer=tokenizer)


def test_a_token_given_as_several_names_is_counted_once_and_said() -> None:
    model = lower_casing()
    mary, john = (model.tokenizer.encode(f" {name}") for name in ("mary", "john"))
    with pytest.warns(UserWarning, match="one token .* counted once: mary, MARY$") as seen:
        pairs = load_names(model, ["Mary", "mary", "MARY", "John"])
    assert len(seen) == 1
    assert pairs.sources == ("Mary", "John")
    assert [*pairs.source_tokens] == [*mary, *john]
    assert reasons(pairs) == {
        (name, name): "same token as an earlier one" for name in ("mary", "MARY")
    }
    assert str(pairs) == (
        "2 of 4 names are usable; left out: 2 same token as an earlier one ('mary', 'MARY')"
    )
    given = [("Mary", "John"), ("mary", "JOHN"), ("John", "Mary"), ("Mary", "Nan")]
    with pytest.warns(UserWarning, match="counted once: mary → JOHN$"):
        assert list(token_pairs(model, given)) == [given[0], *given[2:]]


def test_a_pair_of_one_token_with_itself_is_copied_however_it_is_spelled() -> None:
    pairs = load_names(lower_casing(), [("Mary", "mary"), ("John", "John")])  # type: ignore[list-item]
    assert pairs.copying
    assert pairs.source_tokens == pairs.target_tokens
    assert str(pairs) == "2 of 2 names are usable"
    # Where capitals are told apart, the same words are no copies.
    other: Any = SimpleNamespace(tokenizer=checkpoints.make_tokenizer((*WORDS, "mary")))
    assert not load_names(other, pairs).copying
    assert load_names(other, pairs).targets == ("mary", "John")


# ---- pairs


def test_pairs_keep_their_sources_and_targets_apart(model: Any) -> None:
    pairs = token_pairs(model, [("John", "Mary"), ("Nan", "Bob"), ("Al", "John"), ("NA", "NA")])
    assert pairs.sources == ("John", "NA")
    assert pairs.targets == ("Mary", "NA")
    assert not pairs.copying
    tokenizer = model.tokenizer
    assert tokenizer.decode(list(pairs.source_tokens)) == " John NA"
    assert tokenizer.decode(list(pairs.target_tokens)) == " Mary NA"
    assert reasons(pairs) == {
        ("Nan", "Bob"): "split into 4 tokens",
        ("Al", "John"): "split into 3 tokens",
    }
    assert str(pairs) == (
        "2 of 4 pairs are usable; left out: 1 split into 4 tokens ('Nan → Bob'), "
        "1 split into 3 tokens ('Al → John')"
    )


def test_of_many_left_out_the_number_is_said_and_of_one_name_that_it_is_usable(model: Any) -> None:
    pairs = load_names(model, ["John", "Bob", "Ann", "Pat", "Tim"])
    assert str(pairs) == "1 of 5 names is usable; left out: 4 split into 4 tokens"


def test_pairs_of_a_word_with_itself_are_names(model: Any) -> None:
    assert token_pairs(model, [("John", "John"), ["Mary", "Mary"]]) == load_names(
        model, ["John", "Mary"]
    )


def test_token_pairs_stay_as_they_are(model: Any) -> None:
    pairs = load_names(model, ["John", "Mary"])
    assert token_pairs(model, pairs) is pairs


# ---- checksum

some_pairs = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), min_size=1, max_size=5, unique=True
)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(some_pairs, some_pairs)
def test_the_checksum_tells_lists_of_pairs_apart(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    checksums = token_pairs(MODEL, one).checksum, token_pairs(MODEL, other).checksum
    assert (checksums[0] == checksums[1]) == (one == other)
    assert re.fullmatch("[0-9a-f]{64}", checksums[0])


def test_the_checksum_is_of_the_words_that_count_in_their_order(model: Any) -> None:
    names = load_names(model, ["John", "Mary"])
    assert names.checksum == load_names(model, ["John", "Bob", "Mary"]).checksum
    assert names.checksum != load_names(model, ["Mary", "John"]).checksum
    assert names.checksum != load_names(model, ["John"]).checksum
    # printf 'John\tJohn\nMary\tMary\n' | sha256sum
    assert names.checksum == "5d516d3443d5ed66f189115b5080a1a858fa4b3aa55b287e4ba8b9ac6c9b4f7c"


# ---- errors


@pytest.mark.parametrize("empty", [[], (), iter([])])
def test_an_empty_list_is_an_error(model: Any, empty: Any) -> None:
    with pytest.raises(NamesError, match="list of names is empty"):
        load_names(model, empty)


def test_a_file_without_rows_is_an_error(model: Any, tmp_path: Path) -> None:
    with pytest.raises(NamesError, match="empty"):
        load_names(model, write(tmp_path / "names.csv", "name,count\n"))


@pytest.mark.parametrize("names", [["Bob"], ["Bob", "Al", ""], [("John", "Bob"), ("Al", "Mary")]])
def test_no_usable_name_is_an_error(model: Any, names: Any) -> None:
    with pytest.raises(NamesError, match=rf"none of the {len(names)} given is usable.*split into"):
        load_names(model, names)


@pytest.mark.parametrize(
    "names",
    [
        [3],
        [None],
        ["John", float("nan")],
        [b"John"],
        [("John",)],
        [("John", "Mary", "Nan")],
        [("John", 3)],
        [{"John", "Mary"}],
    ],
)
def test_what_is_neither_a_name_nor_a_pair_is_an_error(model: Any, names: Any) -> None:
    with pytest.raises(NamesError, match=r"neither a name nor a .* pair"):
        load_names(model, names)


def test_pairs_come_from_a_file_of_their_own(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("target,source\nMary,John\nZoë,Nan\nnobody,NA\n", encoding="utf-8")
    pairs = load_pairs(model, path)
    assert list(zip(pairs.sources, pairs.targets, strict=True)) == [
        ("John", "Mary"),
        ("Nan", "Zoë"),
    ]
    assert (pairs.n_given, pairs.copying) == (3, False)
    with pytest.raises(NamesError, match="holds pairs, which load_pairs reads"):
        load_names(model, path)
    with pytest.raises(NamesError, match="pairs by load_pairs"):
        token_pairs(model, str(path))
    path.write_text("name\nJohn\n", encoding="utf-8")
    with pytest.raises(NamesError, match="has the columns 'source' and 'target'"):
        load_pairs(model, path)


@pytest.mark.parametrize("names", [3, 1.5, True])
def test_what_is_no_list_is_an_error(model: Any, names: Any) -> None:
    with pytest.raises(NamesError, match="list of names"):
        load_names(model, names)
    with pytest.raises(NamesError, match="list of names"):
        token_pairs(model, names)


def test_one_string_is_no_list_of_pairs(model: Any) -> None:
    with pytest.raises(NamesError, match="a list of names is needed, not 'John'"):
        token_pairs(model, "John")


def test_a_missing_file_is_an_error(model: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "names.csv", tmp_path, "John"):
        with pytest.raises(NamesError, match="no file of names"):
            load_names(model, path)


@pytest.mark.parametrize("text", ["first,count\nJohn,1\n", "Name\nJohn\n", "John\nMary\n"])
def test_a_file_without_the_column_is_an_error(model: Any, tmp_path: Path, text: str) -> None:
    with pytest.raises(NamesError, match="no column 'name', only "):
        load_names(model, write(tmp_path / "names.csv", text))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00\x01name", b"name,count\nJohn,1\nMary,2,3,4\n", b'name\n"John\n'],
    ids=["nothing", "not text", "ragged", "open quote"],
)
def test_a_file_that_is_no_table_is_an_error(model: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(content)
    with pytest.raises(NamesError, match=re.escape(path.name)):
        load_names(model, path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"France": "Paris"}, r"give list\(pairs.items\(\)\)"),
        (pd.DataFrame({"name": ["Mary"]}), r"give list\(frame\['name'\]\)"),
        (
            pd.DataFrame({"source": ["France"], "target": ["Paris"]}),
            r"give list\(zip\(frame\['source'\], frame\['target'\]\)\)",
        ),
    ],
)
def test_a_mapping_or_frame_is_not_taken_for_its_keys(wrong: Any, said: str) -> None:
    model = SimpleNamespace(tokenizer=checkpoints.make_tokenizer())
    with pytest.raises(NamesError, match=said):
        token_pairs(model, wrong)


def test_what_is_no_model_is_an_error() -> None:
    with pytest.raises(ParameterError, match=r"load_model\('gpt2'\) returns, not a str"):
        load_names("gpt2")  # type: ignore[arg-type]


@pytest.mark.parametrize("ask", [load_names, token_pairs])
def test_a_model_without_a_tokenizer_is_said(ask: Any) -> None:
    with pytest.raises(ParameterError, match="the model has no tokenizer: load it again"):
        ask(SimpleNamespace(tokenizer=None), ["Mary"])


def test_a_name_has_its_place(model: Any) -> None:
    names = load_names(model, ["Mary", "John"])
    assert [names.place(name) for name in names.sources] == list(range(len(names)))
    with pytest.raises(NamesError, match="'Zzyzx' is not among the"):
        names.place("Zzyzx")


# ---- whose ids they are


def test_pairs_of_another_tokenizer_are_refused(model: Any) -> None:
    pairs = load_names(model, ["John", "Mary"])
    assert token_pairs(model, pairs) is pairs
    # same size of vocabulary, other order; one word more; one word less
    for words in (WORDS[::-1], (*WORDS, "Zed"), WORDS[:2]):
        other: Any = SimpleNamespace(tokenizer=checkpoints.make_tokenizer(words))
        with pytest.raises(NamesError, match="another tokenizer, so their token ids mean other"):
            token_pairs(other, pairs)
        assert load_names(other, pairs).sources == pairs.sources  # read anew
    same: Any = SimpleNamespace(tokenizer=checkpoints.make_tokenizer(WORDS))
    assert token_pairs(same, pairs) is pairs


@pytest.mark.parametrize("tokens", [(5, 300), (-1, 5), (5, 10**12)])
def test_ids_beyond_the_table_are_refused(tokens: tuple[int, int]) -> None:
    small: Any = SimpleNamespace(tokenizer=MODEL.tokenizer, cfg=SimpleNamespace(d_vocab=265))
    by_hand = TokenPairs(("a", "b"), ("a", "b"), tokens, tokens, 2, pd.DataFrame())
    with pytest.raises(NamesError, match="token ids must be from 0 to 264"):
        token_pairs(small, by_hand)


# ---- a sequence


def test_names_are_a_sequence(model: Any) -> None:
    names = load_names(model, ["John", "Mary", "Nan", "Bob"])
    assert (len(names), list(names)) == (3, ["John", "Mary", "Nan"])
    assert names[0] == "John" and names[-1] == "Nan"
    assert "Mary" in names and "Bob" not in names and 3 not in names
    assert list(reversed(names)) == ["Nan", "Mary", "John"]
    first = names[:2]
    assert isinstance(first, TokenPairs)
    assert first.sources == ("John", "Mary") and first.source_tokens == names.source_tokens[:2]
    assert (first.n_given, len(first.dropped)) == (2, 0)
    assert token_pairs(model, first) is first
    assert names[60:].sources == ()
    with pytest.raises(NamesError, match="at least one"):
        token_pairs(model, names[60:])


def test_pairs_are_a_sequence_of_tuples(model: Any) -> None:
    pairs = token_pairs(model, [("John", "Mary"), ("Mary", "Nan")])
    assert list(pairs) == [("John", "Mary"), ("Mary", "Nan")]
    assert ("John", "Mary") in pairs and ("Mary", "John") not in pairs and "John" in pairs
    assert token_pairs(model, list(pairs[1:])).targets == ("Nan",)
    assert list(pairs[[1, 0]]) == list(pairs)[::-1] and pairs[[1]].n_given == 1
    assert (pairs.kind, token_pairs(model, ["Mary"]).kind) == ("pairs", "names")


def test_pairs_of_a_relation_stay_pairs_where_words_repeat(model: Any) -> None:
    pairs = token_pairs(model, [("John", "John"), ("Mary", "Nan")])
    for some in (pairs[:1], pairs[[0]], pairs[:1][:1], load_names(model, pairs[:1])):
        assert (some.kind, list(some)) == ("pairs", [("John", "John")])
    names = token_pairs(model, ["John"])
    assert pairs[:1] == names[:1] and pairs[:1].checksum == names.checksum


@pytest.mark.parametrize(
    "given",
    [
        pd.Series(["John", "Mary"]),
        pd.Index(["John", "Mary"]),
        (name for name in ("John", "Mary")),
        {"John": 1, "Mary": 2}.keys(),
        np.array(["John", "Mary"]),
    ],
)
def test_what_holds_names_is_a_list_of_names(model: Any, given: Any) -> None:
    assert load_names(model, given).sources == ("John", "Mary")


# ---- names inside a text


def test_a_tokenizer_that_prepends_a_space_has_names_of_one_token() -> None:
    model: Any = SimpleNamespace(tokenizer=checkpoints.sentencepiece_like(["John", "Mary"]))
    assert len(model.tokenizer(" John", add_special_tokens=False)["input_ids"]) == 2
    pairs = load_names(model, ["John", "Mary", "Jo"])
    assert pairs.sources == ("John", "Mary")
    assert [model.tokenizer.convert_ids_to_tokens(i) for i in pairs.source_tokens] == [
        "▁John",
        "▁Mary",
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [("x" * 5000, "longer than 1,000 characters"), ("\0", "split into"), ("the John", "split")],
)
def test_words_that_are_no_words_are_left_out(model: Any, word: str, reason: str) -> None:
    assert load_names(model, ["John", word]).dropped["reason"].item().startswith(reason)


def test_half_a_character_is_no_name(model: Any) -> None:
    for words in (["John", "\ud800"], [("John", "Ma\udfffry")]):
        with pytest.raises(NamesError, match="holds half a character"):
            token_pairs(model, words)
