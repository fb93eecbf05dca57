"""Exports: complete, readable without a network, and whole or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image
from plotly.colors import sample_colorscale

from analysis.errors import ExportError, ParameterError
from analysis.export import chromium, display, whole_files
from analysis.export import files as export
from analysis.export.files import export_figure, figure_stem
from analysis.export.still.render import render, render_all
from analysis.names import NAMES_CSV, TokenPairs
from analysis.plots.heatmap_layout import fit_width
from analysis.plots.heatmaps import plot_heatmaps
from analysis.provenance import GPT2_SMALL, ModelIdentity
from tests.export.writers import (
    DATA,
    exit_codes,
    export_and_die,
    export_often,
    export_set,
    scores_with,
)


def is_whole(stem: Path) -> bool:
    """Whether the files at a stem are those that its record lists."""
    record = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    return all(
        hashlib.sha256((stem.parent / name).read_bytes()).hexdigest() == checksum
        for name, checksum in record["sha256"].items()
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def no_chromium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")


def of_another_kind() -> go.Figure:
    """A figure that only a browser can draw."""
    return go.Figure(go.Bar(x=[1, 2], y=[3, 4]), layout={"width": 400, "height": 300})


@pytest.mark.slow
def test_data_beside_the_figure(tmp_path: Path) -> None:
    scores = scores_with(70)
    written = export_figure(plot_heatmaps(scores), tmp_path / "new" / "v1.5", ("html",))
    assert [path.name for path in written] == ["v1.5.html", "v1.5.csv", "v1.5.json"]
    assert names_in(tmp_path / "new") == sorted(path.name for path in written)
    table = pd.read_csv(written[1]).set_index(["layer", "head"])
    pd.testing.assert_frame_equal(table[["copying_score", "suppression_score"]], scores.to_frame())
    assert table.loc[(9, 9)].tolist() == [0.7, 0.0, 70, 0, 100]
    record = json.loads(written[2].read_text())
    assert record["model"]["name"] == GPT2_SMALL
    assert (record["k"], record["n_pairs"], record["provenance"]) == (1, 100, {"seed": 1})
    assert is_whole(tmp_path / "new" / "v1.5")


@pytest.mark.slow
def test_scores_given_apart(tmp_path: Path) -> None:
    bare = go.Figure(plot_heatmaps(scores_with(1)))
    # A copy of a figure still holds what it shows.
    assert len(export_figure(bare, tmp_path / "a", "svg")) == 3
    assert len(export_figure(bare, tmp_path / "b", "svg", scores=scores_with(1))) == 3
    with pytest.raises(ParameterError, match="the figure shows other scores"):
        export_figure(bare, tmp_path / "c", "svg", scores=scores_with(2))
    assert not list(tmp_path.glob("c*"))


@pytest.mark.slow
def test_html_needs_no_network_and_is_the_same_each_time(tmp_path: Path) -> None:
    fig = plot_heatmaps(scores_with(70, title="</script><script src='http://x.y'>"))
    first, second = (export_figure(fig, tmp_path / n / "f", ("html",))[0] for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    page = first.read_text()
    unquoted = re.sub(r'alt="[^"]*"', "", page)
    assert not re.search(r"<[^>]*\b(src|href)\s*=(?!\"data:)|@import|url\(", unquoted)
    assert page.count("</script>") == 2
    assert "http://x.y'>" not in page
    packed = re.search(r'type="text/plain">([^<]+)<', page)
    assert packed
    assert gzip.decompress(base64.b64decode(packed[1])).startswith(b"/**\n* plotly.js v")
    assert first.stat().st_size < 2.6e6


@pytest.mark.slow
def test_pictures_without_a_browser(tmp_path: Path, no_chromium: None) -> None:
    fig = plot_heatmaps(scores_with(70))
    written = export_figure(fig, tmp_path / "f")
    assert [path.suffix for path in written] == [".html", ".png", ".svg", ".pdf", ".csv", ".json"]
    assert is_whole(tmp_path / "f")
    png, svg, pdf = (path.read_bytes() for path in written[1:4])
    check_png(png, fit_width(fig, fig.layout.width, screen=False))
    for word in (b">Layer<", b">Head<", b"Backup Name-Mover Heads", b"GPT-2 \xc2\xb7 k = 1"):
        assert word in svg
    assert b"<image" not in svg
    page = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", pdf)
    assert page
    assert float(page[1]) == pytest.approx(6.75 * 72, abs=1)
    assert b"/Subtype /Image" not in pdf
    assert b"/Type3" not in pdf
    again = export_figure(fig, tmp_path / "again" / "f", ("svg", "pdf", "png"))
    assert [path.read_bytes() for path in again[:3]] == [png, svg, pdf]


@pytest.mark.slow
@pytest.mark.parametrize("width", [85, 120.5, np.float32(180), np.int64(180)])
def test_pictures_have_the_width_in_mm(tmp_path: Path, width: float) -> None:
    fig = plot_heatmaps(scores_with(70))
    export_figure(fig, tmp_path / "f", "png,svg,pdf", width=width, dpi=100)
    mm = float(width)
    with Image.open(tmp_path / "f.png") as png:
        assert png.width == pytest.approx(mm / 25.4 * 100, abs=1.5)
    svg = (tmp_path / "f.svg").read_text()
    found = re.search(r'width="([\d.]+)pt"', svg)
    assert found and float(found[1]) == pytest.approx(mm / 25.4 * 72, abs=0.5)
    sizes = [float(px) for px in re.findall(r"font(?:-size)?: (?:\w+ )*([\d.]+)px", svg)]
    assert sizes and min(sizes) >= 5.99  # matplotlib's SVG has a user unit of 1 pt


def check_png(png: bytes, fig: go.Figure) -> None:
    """Size, and the colour of a corner of some cells (their middle may bear a mark)."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert pixels.shape[:2] == pytest.approx((2 * fig.layout.height, 2 * fig.layout.width), abs=1)
    margin = fig.layout.margin
    inner = fig.layout.width - margin.l - margin.r
    for panel, layer, head, score in [
        (0, 9, 9, 0.7),
        (0, 10, 7, 0.0),
        (1, 10, 7, 0.7),
        (1, 9, 9, 0.0),
        (0, 0, 0, 0.0),
    ]:
        start, end = (fig.layout.xaxis, fig.layout.xaxis2)[panel].domain
        x = margin.l + inner * (start + (end - start) * (layer + 0.1) / 12)
        height = fig.layout.height - margin.t - margin.b
        low, high = (fig.layout.yaxis, fig.layout.yaxis2)[panel].domain
        y = margin.t + height * (1 - low - (high - low) * (head + 0.1) / 12)
        expected = re.findall(r"\d+", sample_colorscale("Viridis", [score])[0])
        found = pixels[round(2 * y), round(2 * x), :3]
        assert np.allclose(found, np.array(expected, dtype=int), atol=2), (panel, layer, head)


@pytest.mark.slow
def test_what_needs_a_browser_is_left_out_with_one_line(
    tmp_path: Path, no_chromium: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.png").write_bytes(b"of before")
    written = export_figure(of_another_kind(), tmp_path / "f")
    assert [path.suffix[1:] for path in written] == ["html", "json"]
    assert (tmp_path / "f.png").read_bytes() == b"of before"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    for word in ("png, svg, pdf not written", "png there", "type bar", "apt install chromium"):
        assert word in said


@pytest.mark.slow
@pytest.mark.parametrize("script", ["echo no libnss3.so >&2; exit 127", "exit 0", "sleep 60"])
def test_a_broken_browser_stops_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(browser))
    monkeypatch.setattr(chromium, "TIME_LIMIT_S", 0.5)
    written = export_figure(of_another_kind(), tmp_path / "f", ["html", "png"])
    assert [path.suffix[1:] for path in written] == ["html", "json"]
    said = capsys.readouterr().out
    assert "png not written" in said
    assert ("status 127 (no libnss3.so)" in said) == ("libnss3" in script)
    # A heatmap never asks for it.
    assert len(export_figure(plot_heatmaps(scores_with(1)), tmp_path / "g", ["png"])) == 3


@pytest.mark.slow
def test_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = tmp_path / "f"
    export_figure(plot_heatmaps(scores_with(10)), stem, "svg")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.suffix == ".csv":
            write(path, content[:10])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match="No space left"):
        export_figure(plot_heatmaps(scores_with(20)), stem, "svg")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_folder_in_the_place_of_a_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(ExportError, match=r"f\.csv is a folder"):
        export_figure(plot_heatmaps(scores_with(20)), tmp_path / "f", "svg")
    assert names_in(tmp_path) == ["f.csv"]


@pytest.mark.parametrize(
    ("stem", "formats", "message"),
    [
        ("f", ("html", "gif"), r"unknown format 'gif'; .*html, png, svg, pdf"),
        ("f", "png,GIF", "unknown format 'GIF'"),
        ("f", 3, "formats must be a list"),
        (None, ("html",), "needs a name"),
        ("a\0b", ("html",), "cannot hold"),
        ("\ud800", ("html",), "cannot hold"),
        ("x" * 300, ("html",), "300 bytes"),
        ("file/f", ("html",), "cannot write to the folder"),
        ("/proc/nowhere/f", ("html",), "cannot write to the folder"),
        ("/proc/f", ("html",), "cannot write to the folder"),
        ("", ("html",), "needs a name"),
        ("paper.eps", None, "^eps is not written; html, png, svg and pdf are"),
        ("paper.JPEG", ("png",), "^jpeg is not written; html, png, svg and pdf are"),
    ],
)
def test_refused_before_any_drawing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stem: str,
    formats: tuple[str, ...] | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(export, "html_page", lambda *_: pytest.fail("drawn before refused"))
    with pytest.raises(ExportError, match=message):
        export_figure(plot_heatmaps(scores_with(1)), stem, formats)
    assert names_in(tmp_path) == ["file"]


@pytest.fixture(scope="module")
def old_and_new(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders with the sets ``f`` of before and after an export."""
    folders = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("new")
    for folder, planted in zip(folders, (1, 99), strict=True):
        export_set(folder / "f", planted)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_in_the_middle(tmp_path: Path, old_and_new: tuple[Path, Path], moves: int) -> None:
    old, new = old_and_new
    folder = shutil.copytree(old, tmp_path / "folder")
    assert exit_codes(export_and_die, (folder / "f", moves)) == [-signal.SIGKILL]
    for i, ending in enumerate(DATA):
        expected = (new if i < moves else old) / f"f.{ending}"
        assert (folder / f"f.{ending}").read_bytes() == expected.read_bytes()
    # The record, written last, tells a mixed set from a whole one.
    assert is_whole(folder / "f") == (moves == 0)
    export_set(folder / "f", 50)
    assert is_whole(folder / "f")
    assert [name for name in names_in(folder) if name.startswith(".")] == []


@pytest.mark.slow
def test_two_exports_to_one_stem(tmp_path: Path) -> None:
    stem = tmp_path / "f"
    assert exit_codes(export_often, (stem, 10), (stem, 90)) == [0, 0]
    assert is_whole(stem)
    assert names_in(tmp_path) == ["f.csv", "f.json", "f.svg"]


@pytest.mark.slow
def test_an_export_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_files, "LOCK_WAIT_S", 0.2)
    fig = plot_heatmaps(scores_with(1))
    with whole_files.staging(tmp_path / "f"):
        start = time.monotonic()
        with pytest.raises(ExportError, match="another export"):
            export_figure(fig, tmp_path / "f", "svg")
        assert time.monotonic() - start < 20  # 30 s where the test does not set it
        export_figure(fig, tmp_path / "other", "svg")
    export_figure(fig, tmp_path / "f", "svg")


def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    bundles: list[dict[str, object]] = []
    monkeypatch.setattr(display, "display", lambda bundle, **_: bundles.append(bundle))
    display.show_figure(plot_heatmaps(scores_with(70)))
    (bundle,) = bundles
    return bundle


@pytest.mark.slow
def test_notebook_output(monkeypatch: pytest.MonkeyPatch, no_chromium: None) -> None:
    bundle = shown(monkeypatch)
    kinds = ["application/vnd.plotly.v1+json", "image/png", "image/svg+xml", "text/plain"]
    assert sorted(bundle) == kinds
    assert bundle == shown(monkeypatch)
    assert json.dumps(bundle).count("GPT-2: Name-Copying heads") == 3
    picture, drawing = bundle["image/png"], bundle["image/svg+xml"]
    assert isinstance(picture, str) and isinstance(drawing, str)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as png:
        assert png.width == 920  # JupyterLab shows its pixels as they are
    assert drawing.startswith("<svg") and f'width="{920 * 0.75:.0f}pt"' in drawing
    assert "provenance" not in json.dumps(bundle)  # its time would change the notebook each run


@pytest.mark.slow
def test_formats_written_together_are_those_written_alone() -> None:
    fig = fit_width(plot_heatmaps(scores_with(70)), 920, screen=False)
    formats = ["png", "svg", "pdf"]
    assert render_all(fig, formats) == [render(fig, one) for one in formats]


def test_every_setting_off_its_default_enters_the_name() -> None:
    shipped = pd.read_csv(NAMES_CSV, keep_default_na=False)["name"].tolist()
    words = tuple(shipped[:100])
    pairs = TokenPairs(words, words, tuple(range(100)), tuple(range(100)), 3000, pd.DataFrame())
    scores = replace(scores_with(7), pairs=pairs)
    mine = ("Zz", *words[1:])
    assert figure_stem(scores).name == "gpt2_heatmaps"
    others = [
        replace(scores, k=5),
        replace(scores, first_mlp=False),
        replace(scores, pairs=replace(pairs, n_given=100)),
        replace(scores, pairs=replace(pairs, sources=mine, targets=mine)),
    ]
    assert len({figure_stem(other).name for other in [scores, *others]}) == 5
    assert figure_stem(scores, "mine").name == "mine"
    run1, run2 = (
        replace(scores, model=ModelIdentity("checkpoint-500", "c", checksum=digit * 64))
        for digit in "12"
    )
    assert figure_stem(run1).name == "checkpoint-500_11111111_heatmaps"
    assert figure_stem(run1) != figure_stem(run2)
    assert figure_stem(replace(scores, k=5), kind="curve").name == "gpt2_curve_k5"


def test_the_record_says_what_made_any_other_figure(tmp_path: Path) -> None:
    fig = go.Figure(go.Scatter(x=[1], y=[1]))
    written = export_figure(fig, tmp_path / "a", ["html"], provenance={"seed": 3})
    record = json.loads(written[-1].read_text())
    assert record["made_by"] == {"seed": 3}


def test_what_is_no_figure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="fig must be what plot_heatmaps returns"):
        export_figure(scores_with(7), tmp_path / "x")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_names_of_files_as_people_type_them(tmp_path: Path) -> None:
    fig = plot_heatmaps(scores_with(7))
    assert [p.name for p in export_figure(fig, tmp_path / "fig1.pdf")] == [
        "fig1.pdf",
        "fig1.csv",
        "fig1.json",
    ]
    inside = export_figure(fig, f"{tmp_path}/new folder/", "PNG")
    name = figure_stem(scores_with(7)).name
    assert [p.name for p in inside] == [f"{name}.png", f"{name}.csv", f"{name}.json"]
    assert inside[0].parent.name == "new folder"
    assert export_figure(fig, tmp_path / "b", [".SVG", "svg"])[0].name == "b.svg"


def test_a_folder_called_as_the_figure_is_without_its_ending_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    (written, _) = export_figure(of_another_kind(), tmp_path / "paper.html", provenance={})
    assert written == tmp_path / "paper.html"
    (inside, _) = export_figure(of_another_kind(), tmp_path / "paper", "html", provenance={})
    assert inside == tmp_path / "paper" / "figure.html"


@pytest.mark.slow
def test_figures_of_other_settings_lie_side_by_side_in_a_folder(tmp_path: Path) -> None:
    names = tuple(pd.read_csv(NAMES_CSV, keep_default_na=False)["name"])
    ids = tuple(range(len(names)))
    few = replace(scores_with(7), k=5)
    pairs = TokenPairs(names, names, ids, ids, len(names), pd.DataFrame())
    top = np.zeros((12, 12, len(names)), dtype=bool)
    shipped = replace(few, pairs=pairs, in_top_k=top, in_bottom_k=top)
    for scores in (few, shipped, replace(few, k=1), replace(few, first_mlp=False)):
        (picture, *_) = export_figure(plot_heatmaps(scores), f"{tmp_path}/", "svg")
        assert picture.stem == figure_stem(scores).name
    assert len(list(tmp_path.glob("*.svg"))) == 4
    assert (tmp_path / "gpt2_heatmaps_k5.svg").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stray", ["file", "link", "folder"])
def test_a_stray_staging_place_does_not_block_a_stem(tmp_path: Path, stray: str) -> None:
    place = tmp_path / ".f.new"
    if stray == "file":
        place.write_text("of another program")
    elif stray == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        (place / "deep").mkdir(parents=True)
    assert len(export_figure(plot_heatmaps(scores_with(1)), tmp_path / "f", "svg")) == 3
    assert names_in(tmp_path) == ["f.csv", "f.json", "f.svg"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (np.float32("-inf"), None),
        (torch.tensor(float("nan")), None),
        (torch.tensor([1, 2]), [1, 2]),
        (np.array([[0.5, np.nan]]), [[0.5, None]]),
        ({"deep": [np.nan, (1, {"x": np.inf})]}, {"deep": [None, [1, {"x": None}]]}),
    ],
)
def test_what_is_no_number_in_json_is_null(tmp_path: Path, value: Any, read: Any) -> None:
    written = export_figure(of_another_kind(), tmp_path / "a", "html", provenance={"v": value})
    record = json.loads(written[-1].read_text(), parse_constant=pytest.fail)
    assert record["made_by"] == {"v": read}


def test_records_are_json_whatever_numbers_they_hold(tmp_path: Path) -> None:
    made = {"a": np.float64("nan"), "b": np.int64(3), "c": np.arange(2), "d": Path("x"), "e": {1}}
    written = export_figure(of_another_kind(), tmp_path / "a", "html", provenance=made)
    record = json.loads(written[-1].read_text(), parse_constant=pytest.fail)
    assert record["made_by"] == {"a": None, "b": 3, "c": [0, 1], "d": "x", "e": [1]}
    with pytest.raises(ExportError, match=r"provenance\.b\[0\]"):
        export_figure(of_another_kind(), tmp_path / "b", "html", provenance={"b": [object()]})
    assert not list(tmp_path.glob("b*"))


@pytest.mark.parametrize("options", [{"width": 10}, {"width": "wide"}, {"dpi": 0}, {"dpi": True}])
def test_sizes_out_of_range(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ExportError):
        export_figure(plot_heatmaps(scores_with(1)), tmp_path / "f", "png", **options)  # type: ignore[arg-type]
    assert names_in(tmp_path) == []
