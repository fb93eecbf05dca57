"""Exports: complete, readable without a network, and whole or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.colors import sample_colorscale

from analysis.errors import ExportError, ParameterError
from analysis.export import display, whole_files
from analysis.export import files as export
from analysis.export.chromium import find_chromium
from analysis.export.files import export_figure, figure_stem
from analysis.names import NAMES_CSV, TokenPairs
from analysis.plots.heatmap_layout import TEXT_PX
from analysis.plots.heatmaps import plot_heatmaps
from analysis.provenance import GPT2_SMALL, ModelIdentity
from analysis.static.head_scores import HeadScores
from tests.made_up import scores_from_counts

SPAWN = multiprocessing.get_context("spawn")
DATA = ("html", "csv", "json")

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")


def scores_with(planted: int, title: str = "GPT-2") -> HeadScores:
    """Scores of GPT-2's shape: head 9.9 copies, head 10.7 suppresses ``planted`` of 100 names."""
    top, bottom = np.zeros((2, 12, 12), dtype=int)
    top[9, 9] = bottom[10, 7] = planted
    identity = ModelIdentity(GPT2_SMALL, title, revision="abc")
    return scores_from_counts(top, bottom, model=identity, provenance={"seed": 1, "time": "now"})


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
    monkeypatch.setattr(
        "choreographer.browsers.chromium.get_chrome_download_path", lambda **_: Path("/nowhere")
    )
    monkeypatch.setattr(
        "choreographer.browsers.chromium.get_old_chrome_download_path", lambda: Path("/nowhere")
    )


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


def test_scores_given_apart(tmp_path: Path) -> None:
    bare = go.Figure(plot_heatmaps(scores_with(1)))
    assert len(export_figure(bare, tmp_path / "a", "html")) == 2
    assert len(export_figure(bare, tmp_path / "b", "html", scores=scores_with(1))) == 3


def test_html_needs_no_network_and_is_the_same_each_time(tmp_path: Path) -> None:
    fig = plot_heatmaps(scores_with(70, title="</script><script src='http://x.y'>"))
    first, second = (export_figure(fig, tmp_path / n / "f", ("html",))[0] for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    page = first.read_text()
    assert not re.search(r"<[^>]*\b(src|href)\s*=|@import|url\(", page)
    assert page.count("</script>") == 2
    packed = re.search(r'type="text/plain">([^<]+)<', page)
    assert packed
    assert gzip.decompress(base64.b64decode(packed[1])).startswith(b"/**\n* plotly.js v")
    assert first.stat().st_size < 2.5e6


@needs_chromium
def test_page_draws_itself_with_the_network_blocked(tmp_path: Path) -> None:
    page = export_figure(plot_heatmaps(scores_with(70)), tmp_path / "f", ("html",))[0]
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    run = [str(find_chromium()), *flags, "--dump-dom", page.as_uri()]
    drawn = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True).stdout
    assert drawn.count('class="hm"') == 2
    assert "GPT-2: (Suppression) Name-Copying heads</text>" in drawn


@needs_chromium
def test_pictures(tmp_path: Path) -> None:
    fig = plot_heatmaps(scores_with(70))
    written = export_figure(fig, tmp_path / "f")
    assert [path.suffix for path in written] == [".html", ".png", ".svg", ".pdf", ".csv", ".json"]
    assert is_whole(tmp_path / "f")
    png, svg, pdf = (path.read_bytes() for path in written[1:4])
    check_png(png, fig)
    for word in (b">Layer<", b">Head<", b"Backup (Negative) Name-Mover Heads"):
        assert word in svg
    # The PDF's scale makes these 6 pt or more.
    assert min(float(px) for px in re.findall(rb"font-size: ([\d.]+)px", svg)) >= TEXT_PX
    assert b"<image" not in svg
    assert svg.count(b'Z" fill="rgb(') == 288
    page = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert page
    assert float(page[1]) == pytest.approx(6.75 * 72, abs=1)
    assert b"/Subtype /Image" not in pdf
    assert pdf.count(b"/Type /Page\n") == 1
    again = export_figure(fig, tmp_path / "again", ("svg", "pdf"))
    assert [path.read_bytes() for path in again[:2]] == [svg, pdf]


def check_png(png: bytes, fig: go.Figure) -> None:
    """Size, and the colour of a corner of some cells (their middle may bear a mark)."""
    pixels = png_pixels(png)
    assert pixels.shape[:2] == (2 * round(fig.layout.height), 2 * fig.layout.width)
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
        y = margin.t + height * (1 - (head + 0.1) / 12)
        expected = re.findall(r"\d+", sample_colorscale("Viridis", [score])[0])
        found = pixels[round(2 * y), round(2 * x), :3]
        assert np.allclose(found, np.array(expected, dtype=int), atol=2), (panel, layer, head)


def png_pixels(png: bytes) -> np.ndarray:
    """Bytes ``[height, width, channels]`` of an 8-bit PNG without interlacing."""
    width, height = (int.from_bytes(png[i : i + 4]) for i in (16, 20))
    channels = {2: 3, 6: 4}[png[25]]
    packed, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    out = np.zeros((height, width * channels), dtype=np.uint8)
    for i, (filter_type, row) in enumerate(zip(rows[:, 0], rows[:, 1:], strict=True)):
        above = out[i - 1] if i else np.zeros_like(out[0])
        out[i] = unfilter(int(filter_type), row, above, channels)
    return out.reshape(height, width, channels)


def unfilter(kind: int, row: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Undo one row's PNG filter."""
    if kind == 0:
        return row
    if kind == 2:
        return row + above
    if kind == 1:
        return np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8).ravel()
    line, up = [0] * step + row.tolist(), [0] * step + above.tolist()
    for i in range(step, len(line)):
        a, b, c = line[i - step], up[i], up[i - step]
        if kind == 3:
            guess = (a + b) // 2
        else:
            guess = min((a, b, c), key=lambda v: (abs(a + b - c - v), (a, b, c).index(v)))
        line[i] = (line[i] + guess) % 256
    return np.array(line[step:], dtype=np.uint8)


def test_without_chromium_one_line_and_the_rest(
    tmp_path: Path, no_chromium: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.png").write_bytes(b"of before")
    written = export_figure(plot_heatmaps(scores_with(70)), tmp_path / "f")
    assert [path.suffix[1:] for path in written] == list(DATA)
    assert (tmp_path / "f.png").read_bytes() == b"of before"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    for word in ("png, svg, pdf not written", "png there", "apt install chromium"):
        assert word in said


def test_browser_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = tmp_path / "f"
    export_figure(plot_heatmaps(scores_with(10)), stem, ("html",))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    browser = tmp_path.parent / "browser"
    browser.write_text("#!/bin/sh\nexit 1\n")
    browser.chmod(0o755)
    monkeypatch.setattr(export, "find_chromium", lambda: str(browser))
    with pytest.raises(ExportError, match="could not draw the figure"):
        export_figure(plot_heatmaps(scores_with(20)), stem)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = tmp_path / "f"
    export_figure(plot_heatmaps(scores_with(10)), stem, ("html",))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.suffix == ".csv":
            write(path, content[:10])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match="No space left"):
        export_figure(plot_heatmaps(scores_with(20)), stem, ("html",))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folder_in_the_place_of_a_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(ExportError, match=r"f\.csv is a folder"):
        export_figure(plot_heatmaps(scores_with(20)), tmp_path / "f", ("html",))
    assert names_in(tmp_path) == ["f.csv"]


@pytest.mark.parametrize(
    ("stem", "formats", "message"),
    [
        ("f", ("html", "gif"), r"unknown format 'gif'; .*html, png, svg, pdf"),
        ("f", "PNG", "unknown format 'PNG'"),
        ("file/f", ("html",), "cannot write to the folder"),
        ("/proc/nowhere/f", ("html",), "cannot write to the folder"),
        ("/proc/f", ("html",), "cannot write to the folder"),
        ("", ("html",), "needs a name"),
    ],
)
def test_refused_before_any_drawing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stem: str,
    formats: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(export, "html_page", lambda *_: pytest.fail("drawn before refused"))
    with pytest.raises(ExportError, match=message):
        export_figure(plot_heatmaps(scores_with(1)), stem, formats)
    assert names_in(tmp_path) == ["file"]


def export_and_die(stem: Path, moves: int) -> None:
    """Export, and kill this process when it wants to move one file more."""
    move, count = os.replace, 0

    def counted(source: Path, target: Path) -> None:
        nonlocal count
        if count == moves:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        move(source, target)

    whole_files.os.replace = counted  # type: ignore[assignment]
    export_figure(plot_heatmaps(scores_with(99)), stem, ("html",))


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_in_the_middle(tmp_path: Path, moves: int) -> None:
    stem = tmp_path / "f"
    old, new = tmp_path / "old" / "f", tmp_path / "new" / "f"
    for place, planted in ((stem, 1), (old, 1), (new, 99)):
        export_figure(plot_heatmaps(scores_with(planted)), place, ("html",))
    killed = run(export_and_die, stem, moves)
    assert killed == -signal.SIGKILL
    for i, ending in enumerate(DATA):
        expected = (new if i < moves else old).parent / f"f.{ending}"
        assert (tmp_path / f"f.{ending}").read_bytes() == expected.read_bytes()
    # The record, written last, tells a mixed set from a whole one.
    assert is_whole(stem) == (moves == 0)
    export_figure(plot_heatmaps(scores_with(50)), stem, ("html",))
    assert is_whole(stem)
    assert [name for name in names_in(tmp_path) if name.startswith(".")] == []


def run(target: Callable[..., None], *arguments: object) -> int | None:
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def export_often(stem: Path, planted: int) -> None:
    fig = plot_heatmaps(scores_with(planted))
    for _ in range(10):
        export_figure(fig, stem, ("html",))


def test_two_exports_to_one_stem(tmp_path: Path) -> None:
    stem = tmp_path / "f"
    both = [SPAWN.Process(target=export_often, args=(stem, planted)) for planted in (10, 90)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert is_whole(stem)
    assert names_in(tmp_path) == ["f.csv", "f.html", "f.json"]


def test_an_export_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_files, "LOCK_WAIT_S", 0.2)
    fig = plot_heatmaps(scores_with(1))
    with whole_files.staging(tmp_path / "f"):
        start = time.monotonic()
        with pytest.raises(ExportError, match="another export"):
            export_figure(fig, tmp_path / "f", ("html",))
        assert time.monotonic() - start < 5
        export_figure(fig, tmp_path / "other", ("html",))
    export_figure(fig, tmp_path / "f", ("html",))


def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    bundles: list[dict[str, object]] = []
    monkeypatch.setattr(display, "display", lambda bundle, raw: bundles.append(bundle))
    display.show_figure(plot_heatmaps(scores_with(70)))
    (bundle,) = bundles
    return bundle


def test_notebook_output_without_chromium(
    monkeypatch: pytest.MonkeyPatch, no_chromium: None
) -> None:
    bundle = shown(monkeypatch)
    assert sorted(bundle) == ["application/vnd.plotly.v1+json", "text/plain"]
    assert bundle == shown(monkeypatch)
    assert json.dumps(bundle).count("GPT-2: Name-Copying heads") == 2


@needs_chromium
def test_notebook_output_with_chromium(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = shown(monkeypatch)["image/png"]
    assert isinstance(picture, str)
    assert base64.b64decode(picture).startswith(b"\x89PNG")


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
