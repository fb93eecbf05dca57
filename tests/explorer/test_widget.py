"""The widget answers its controls, and its output has a picture where nothing runs."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import score_heads
from analysis.errors import AnalysisError, ParameterError
from analysis.explorer import answers
from analysis.explorer.cards import card_of
from analysis.explorer.page import explorer_page
from analysis.explorer.queries import AskedHead
from analysis.explorer.results import collect
from analysis.explorer.still import still_picture
from analysis.explorer.widget import STILL, Explorer, explore
from analysis.export.files import export_figure
from analysis.models.open_checkpoint import open_checkpoint
from analysis.plots.marks import class_sets
from tests import checkpoints
from tests.explorer.test_payload import array, unpacked
from tests.planted import NAMES

if TYPE_CHECKING:
    from pathlib import Path

    from transformer_lens.model_bridge import TransformerBridge

    from analysis.explorer.results import Results
    from analysis.static.head_scores import HeadScores


HOSTILE = "</script><img src=x onerror='window.ran=1'>"


@pytest.fixture
def widget(planted: TransformerBridge, monkeypatch: pytest.MonkeyPatch) -> Explorer:
    monkeypatch.setenv(STILL, "1")  # no front end here
    return explore(planted, list(NAMES))


def answer(widget: Explorer, question: str, /, **args: object) -> dict[str, Any]:
    """The last message about one question."""
    sent: list[dict[str, Any]] = []
    widget.requests._send = sent.append
    widget.requests.take({"ask": question, "id": 1, "args": args})
    widget.requests.wait(60)
    json.dumps(sent)  # every message can be sent
    return sent[-1]


@pytest.mark.slow
def test_a_checkpoint_that_is_read_layer_by_layer_is_explored_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STILL, "1")
    tokenizer = checkpoints.make_tokenizer()
    model = checkpoints.gpt2_model(len(tokenizer))
    folder = checkpoints.save_checkpoint(model, tokenizer, tmp_path / "tiny")
    widget = explore(open_checkpoint(folder), checkpoints.NAMES[:2])
    asked = {"head": "1.1", "first_mlp": True}
    assert "result" in answer(widget, "token", **asked, token=checkpoints.NAMES[0])
    assert "cannot be run" in answer(widget, "prompt", **asked, prompt="Mary")["error"]


@pytest.mark.slow
def test_other_names_are_scored(widget: Explorer, planted: TransformerBridge) -> None:
    result = answer(widget, "score", names=["Mary", "John", "Mary"], first_mlp=True)["result"]
    scores = score_heads(planted, ["Mary", "John"], k=1)
    top = array(result["top"], "u1").reshape(3, 4, 2)
    np.testing.assert_array_equal(top < 1, scores.in_top_k)
    assert result["sources"] == ["Mary", "John"] and result["targets"] is None
    assert "2 of 2 names are usable" in result["says"]


def test_a_model_whose_weights_changed_is_not_asked(
    widget: Explorer, planted: TransformerBridge
) -> None:
    assert "result" in answer(widget, "token", head="1.1", first_mlp=True, token="Mary")
    weight = planted.blocks[1].attn.o.weight.data
    weight.neg_()
    try:
        refused = answer(widget, "token", head="1.1", first_mlp=True, token="Mary")
    finally:
        weight.neg_()
    assert "weights have changed since" in refused["error"]
    assert "result" in answer(widget, "token", head="1.1", first_mlp=True, token="Mary")


@pytest.mark.slow
def test_pairs_are_scored_as_a_relation(widget: Explorer, planted: TransformerBridge) -> None:
    pairs = [["Mary", "John"], ["John", "Mary"]]
    result = answer(widget, "score", names=pairs, first_mlp=True)["result"]
    scores = score_heads(planted, [("Mary", "John"), ("John", "Mary")])
    np.testing.assert_array_equal(array(result["top"], "u1").reshape(3, 4, 2) < 1, scores.in_top_k)
    assert result["targets"] == ["John", "Mary"]
    assert result["label"] == "Mary → John, …" and result["key"].startswith("relation ")
    other = answer(widget, "score", names=[["Anna", "John"]], first_mlp=True, label="hers")[
        "result"
    ]
    assert other["label"] == "hers"
    # Both stay, next to the names.
    assert [one.label for one in widget.results.sets[1:]] == [result["label"], "hers"]
    assert "Strongest relations" not in [one["title"] for one in unpacked(widget.results)["absent"]]


@pytest.mark.slow
def test_relations_that_begin_alike_have_labels_of_their_own(
    widget: Explorer, planted: TransformerBridge
) -> None:
    lists = [
        [["John", "Mary"]],
        [["John", "Mary"], ["Anna", "Mary"]],
        [["John", "Mary"], ["Mary", "John"]],
    ]
    expected = ["John → Mary, …", "John → Mary, … (2)", "John → Mary, … (3)"]
    for first_mlp in (True, False):  # the other setting of the same pairs keeps its label
        found = [answer(widget, "score", names=one, first_mlp=first_mlp)["result"] for one in lists]
        assert [one["label"] for one in found] == expected
    again = answer(widget, "score", names=lists[1], first_mlp=True)["result"]
    assert again["label"] == expected[1]
    named = [
        answer(widget, "score", names=one, first_mlp=True, label="hers")["result"]["label"]
        for one in ([["Anna", "John"]], [["Anna", "Mary"]])
    ]
    assert named == ["hers", "hers (2)"]
    card = card_of(planted, (1, 1), widget.results)
    assert sorted(card.relations.index) == sorted(expected + named)


def test_a_bad_name_is_said_and_the_last_results_stay(widget: Explorer) -> None:
    before = widget.payload
    error = answer(widget, "score", names=["two words"], first_mlp=True)["error"]
    assert "single token" in error and "two words" in error
    assert widget.payload == before


@pytest.mark.slow
def test_the_first_mlp_can_be_switched(widget: Explorer, planted: TransformerBridge) -> None:
    key = widget.results.sets[0].key
    result = answer(widget, "score", key=key, first_mlp=False)["result"]
    scores = score_heads(planted, list(NAMES), first_mlp=False)
    top = array(result["top"], "u1").reshape(scores.in_top_k.shape)
    np.testing.assert_array_equal(top < 1, scores.in_top_k)
    assert len(unpacked(widget.results)["sets"]) == 2


def test_tokens_are_those_of_the_queries(widget: Explorer, planted: TransformerBridge) -> None:
    result = answer(widget, "token", head="1.1", token="Anna", first_mlp=True)["result"]
    found = AskedHead(planted, (1, 1), first_mlp=True).writes_for("Anna")
    assert [row["token"] for row in result["most"]] == list(found.most["token"])
    assert (result["larger"], result["smaller"]) == (found.larger, found.smaller)


def test_the_tokens_around_names_are_packed_with_their_words(widget: Explorer) -> None:
    key = widget.results.sets[0].key
    result = answer(widget, "extremes", head="1.1", key=key, first_mlp=True)["result"]
    places = array(result["top"], "<u2").reshape(len(NAMES), result["n"])
    assert [result["words"][place] for place in places[:, 0]] == [f" {name}" for name in NAMES]


def test_a_measurement_is_made_when_asked(widget: Explorer) -> None:
    assert not widget.results.evidence.measures
    result = answer(widget, "measure", what="eigenvalue")["result"]
    assert [one["key"] for one in result["measures"]] == ["eigenvalue_score"]
    assert "eigenvalue" not in [one["what"] for one in result["absent"]]
    assert widget.results.evidence.done == ("eigenvalue",)
    assert "30" in answer(widget, "measure", what="dynamic")["error"]


@pytest.mark.parametrize(
    ("question", "works", "args"),
    [
        ("score", "answers.score_names", {"names": [NAMES[0]]}),
        ("measure", "answers.measure", {"what": "eigenvalue"}),
        ("export", "answers.holding", {"k": 1}),
    ],
)
def test_a_question_that_is_stopped_after_its_work_changes_nothing(
    widget: Explorer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    question: str,
    works: str,
    args: dict[str, Any],
) -> None:
    monkeypatch.setattr("analysis.export.places.FIGURES", tmp_path)
    work = getattr(answers, works.partition(".")[2])

    def stopped_late(*given: Any, **named: Any) -> Any:
        found = work(*given, **named)
        widget.requests.stop(1)
        return found

    monkeypatch.setattr(f"analysis.explorer.{works}", stopped_late)
    before, packed = widget.results, widget.payload
    said = answer(widget, question, key=before.sets[0].key, first_mlp=True, **args)
    assert said["error"] == "stopped."
    assert widget.results is before and widget.payload == packed
    assert not list(tmp_path.iterdir())


def test_questions_do_not_read_the_users_runs(planted: TransformerBridge, widget: Explorer) -> None:
    asked = widget._answers.model
    assert asked is not planted
    assert asked.blocks[0].attn.W_V.data_ptr() == planted.blocks[0].attn.W_V.data_ptr()
    seen: list[object] = []
    hook = "blocks.1.attn.hook_pattern"
    with planted.hooks(fwd_hooks=[(hook, lambda tensor, hook: seen.append(hook))]):
        answer(widget, "prompt", head="1.1", prompt="Mary John")
        assert seen == []
        planted(torch.tensor([[0, 1]]))
        assert len(seen) == 1


@pytest.mark.slow
def test_the_page_and_the_figures_are_written(
    widget: Explorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("analysis.export.places.FIGURES", tmp_path)
    key = widget.results.sets[0].key
    result = answer(widget, "export", key=key, first_mlp=True, k=3)["result"]
    assert sorted(result["files"]) == sorted(path.name for path in tmp_path.iterdir())
    assert any(name.endswith("_explorer.html") for name in result["files"])
    assert "from 1 to 100" in answer(widget, "export", key=key, first_mlp=True, k=0)["error"]


def exported(folder: Path, result: dict[str, Any]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Of each figure that was exported, its record and its table."""
    records = [folder / name for name in result["files"] if name.endswith(".json")]
    return [
        (
            json.loads(path.read_text()),
            pd.read_csv(path.with_suffix(".csv"), index_col=["layer", "head"]),
        )
        for path in records
    ]


def score_table(scores: HeadScores) -> pd.DataFrame:
    return scores.to_frame().assign(
        n_in_top_k=scores.n_in_top_k.ravel(),
        n_in_bottom_k=scores.n_in_bottom_k.ravel(),
        n_pairs=scores.n_pairs,
    )


@pytest.mark.slow
def test_the_figures_hold_the_names_that_are_shown(
    widget: Explorer,
    planted: TransformerBridge,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("analysis.export.places.FIGURES", tmp_path)
    key = widget.results.sets[0].key
    chosen = [name for name in NAMES if "an" in name.lower()]
    asked = {"key": key, "first_mlp": True, "k": 3}
    result = answer(widget, "export", **asked, state={"only": "AN"})["result"]
    ((record, table),) = exported(tmp_path, result)
    scores = score_heads(planted, chosen, k=3)
    pd.testing.assert_frame_equal(table, score_table(scores))
    assert record["pairs_sha256"] == scores.pairs.checksum
    made = record["provenance"]
    whole = widget.results.scores.pairs
    assert made["filter"] == {"text": "AN", "pairs": len(NAMES), "pairs_sha256": whole.checksum}
    assert made["names"] == chosen and made["pairs"] == record["n_pairs"] == len(chosen)
    svg = (tmp_path / result["files"][0].replace("_explorer.html", ".svg")).read_text()
    words = " ".join(re.findall(r">([^<]+)<", svg)).replace("&quot;", '"')
    assert 'those that hold "AN"' in words
    # Of pairs, either word may hold it; where none does, all are shown.
    pairs = [["Mary", "John"], ["Anna", "Mary"], ["John", "Anna"]]
    relation = answer(widget, "score", names=pairs, first_mlp=True)["result"]
    asked = {"key": relation["key"], "first_mlp": True, "k": 3}
    for only, n in (("anna", 2), ("xyz", 3)):
        result = answer(widget, "export", **asked, state={"only": only})["result"]
        ((record, table),) = exported(tmp_path, result)
        expected = score_table(score_heads(planted, [tuple(pair) for pair in pairs[-n:]], k=3))
        pd.testing.assert_frame_equal(table, expected)
        assert ("filter" in record["provenance"]) == (n == 2)


def with_own_classes(results: Results) -> Results:
    """The classes, said to be of this model."""
    classes = results.evidence.classes
    assert classes is not None
    classes = classes.assign(model=results.scores.model.name)
    own = replace(results.evidence, classes=classes, model=results.scores.model)
    return results.with_evidence(own)


@pytest.mark.slow
def test_the_models_beside_are_exported_too(
    planted: TransformerBridge,
    marked: Results,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("analysis.export.places.FIGURES", tmp_path)
    monkeypatch.setenv(STILL, "1")
    one = marked.sets[0]
    model = replace(one.scores.model, title="Other", name="other")
    other = replace(marked, sets=(replace(one, scores=replace(one.scores, model=model)),))
    marked, other = (with_own_classes(results) for results in (marked, other))
    widget = Explorer(planted, marked, other)
    state = {"k": 3, "beside": "1", "classes": "measured"}
    asked = {"key": one.key, "first_mlp": True}
    beside = [{"model": 1, **asked}]
    result = answer(widget, "export", **asked, k=3, state=state, beside=beside)["result"]
    found = exported(tmp_path, result)
    assert [record["model"]["title"] for record, _ in found] == [marked.scores.model.title, "Other"]
    for _, table in found:
        pd.testing.assert_frame_equal(table, score_table(one.scores.at_k(3)))
    page = (tmp_path / result["files"][0]).read_text()
    assert page == explorer_page([widget.results, other], state)
    svg = next(tmp_path.glob("other*.svg")).read_text()
    labels = re.findall(r">([^<]* Heads)<", svg)
    assert labels and all(label.startswith("Measured") for label in labels)
    error = answer(widget, "export", **asked, k=3, beside=[{"model": 2, **asked}])["error"]
    assert "model must be" in error


@pytest.mark.slow
def test_models_of_one_name_have_figures_of_their_own(
    planted: TransformerBridge,
    related: Results,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("analysis.export.places.FIGURES", tmp_path)
    monkeypatch.setenv(STILL, "1")
    readable = partial(export_figure, formats=["svg"])
    monkeypatch.setattr("analysis.export.files.export_figure", readable)
    one = related.sets[0]
    turned = replace(
        one.scores,
        ranks_top=one.scores.ranks_bottom,
        ranks_bottom=one.scores.ranks_top,
    )
    other = replace(related, sets=(replace(one, scores=turned),))
    widget = Explorer(planted, related, other)
    asked = {"key": one.key, "first_mlp": True}
    result = answer(widget, "export", **asked, k=3, beside=[{"model": 1, **asked}])["result"]
    first, second = exported(tmp_path, result)
    for found, scores in ((first, one.scores), (second, turned)):
        pd.testing.assert_frame_equal(found[1], score_table(scores.at_k(3)))
    assert sorted(result["files"]) == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("k", 1.5), ("mlp", "yes")])
def test_a_state_that_cannot_be_is_refused(widget: Explorer, field: str, value: Any) -> None:
    before = widget.state
    with pytest.raises(ParameterError, match=rf"state\['{field}'\]"):
        widget.state = {**before, field: value}
    assert widget.state == before


def test_a_state_of_numpys_numbers_is_kept(widget: Explorer, tmp_path: Path) -> None:
    widget.state = {"k": np.int64(5), "lo": np.float32("nan"), "pins": ("1.1",)}
    text = widget.save_page(tmp_path / "page.html").read_text()
    (state,) = re.findall(r'id="state" type="text/plain">([^<]+)<', text)
    assert json.loads(base64.b64decode(state)) == {"k": 5, "lo": None, "pins": ["1.1"]}


@pytest.mark.slow
def test_the_output_holds_a_picture_and_with_a_front_end_a_view(
    widget: Explorer, planted: TransformerBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, _ = widget._repr_mimebundle_()
    assert set(still) == {"text/plain", "image/svg+xml", "image/png"}
    assert base64.b64decode(still["image/png"]).startswith(b"\x89PNG")
    assert "3 layers of 4 heads, 16 names" in still["text/plain"]
    again = explore(planted, list(NAMES))
    assert again._repr_mimebundle_()[0] == still  # nothing random for nbval to trip over
    monkeypatch.delenv(STILL)
    live, _ = explore(planted, list(NAMES))._repr_mimebundle_()
    view = "application/vnd.jupyter.widget-view+json"
    assert set(live) == {"text/plain", "image/svg+xml", view}
    assert live["image/svg+xml"] == still["image/svg+xml"]


def test_the_picture_escapes_its_texts(results: Results) -> None:
    hostile = replace(results.scores.model, title="</title><script>x</script>")
    root = ElementTree.fromstring(still_picture(replace(results.scores, model=hostile)))
    names = {element.tag.rsplit("}", 1)[-1] for element in root.iter()}
    assert names == {"svg", "title", "rect", "text"}
    assert len(root.findall(".//{*}rect")) == 1 + 2 * 12


def test_the_picture_marks_and_explains_every_class(marked: Results) -> None:
    scores, classes = marked.scores, marked.evidence.classes
    assert classes is not None
    bare = ElementTree.fromstring(still_picture(scores))
    root = ElementTree.fromstring(still_picture(scores, classes))
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    shapes = [element for element in root.iter() if element.tag.endswith(("}path", "}circle"))]
    sets = [
        one for panel in (False, True) for one in class_sets(scores, classes, suppression=panel)
    ]
    assert len(sets) == 9 and {one.label for one in sets} <= set(texts)
    # A mark for each head and one in the legend; crosses and open symbols have a halo of their own.
    filled = [one for one in sets if not one.look.is_open and one.look.symbol != "x"]
    n_marks = sum(len(one.heads) + 1 for one in sets)
    assert len(shapes) == 2 * n_marks - sum(len(one.heads) + 1 for one in filled)
    assert float(root.get("height", 0)) > float(bare.get("height", 0))


@pytest.mark.slow
def test_every_exported_file_shows_hostile_text_as_text(
    widget: Explorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("analysis.export.places.FIGURES", tmp_path)
    # The formats that a browser reads; nothing in the others could run.
    readable = partial(export_figure, formats=["html", "svg"])
    monkeypatch.setattr("analysis.export.files.export_figure", readable)
    before = widget.results
    one = before.sets[0]
    key = one.key
    tags = {}
    for text in ("plain", HOSTILE):
        pairs = replace(one.scores.pairs, sources=(text, *NAMES[1:]), targets=(text, *NAMES[1:]))
        model = replace(one.scores.model, name=text, title=text, note=text)
        scores = replace(one.scores, pairs=pairs, model=model)
        widget._answers.results = replace(before, sets=(replace(one, scores=scores, label=text),))
        state = {"only": text, "head": "1.1"}
        result = answer(widget, "export", key=key, first_mlp=True, k=1, state=state)["result"]
        folder = tmp_path / text[:5].replace("/", "_")
        folder.mkdir()
        for name in result["files"]:
            (tmp_path / name).rename(folder / name)
        tags[text] = {
            path.suffix: Counter(
                re.findall(r"<\s*/?\s*(?:script|img|svg|iframe)\b", path.read_text(errors="ignore"))
            )
            for path in sorted(folder.iterdir())
            if path.suffix in (".html", ".svg")
        }
    assert tags[HOSTILE] == tags["plain"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 101},
        {"prompts": [" "]},
        {"relations": {"lost": "misspelt.csv"}},
        {"relations": {"none": [("two words", "Mary")]}},
        {"evidence": 3},
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_is_scored_or_run(
    planted: TransformerBridge, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    for slow in ("score_heads", "heads_on_prompt"):
        monkeypatch.setattr(
            f"analysis.explorer.results.{slow}", lambda *_, **__: pytest.fail("too early")
        )
    with pytest.raises(AnalysisError):
        collect(planted, list(NAMES), **{"prompts": [NAMES[0]], **wrong})


def test_k_beyond_the_ranks_is_refused_at_once(planted: TransformerBridge) -> None:
    with pytest.raises(ParameterError, match="from 1 to 100"):
        explore(planted, list(NAMES), k=101)
