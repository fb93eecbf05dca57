"""The site's pages hold what they are to hold, and name no address that would be loaded."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import nbformat
import pytest

from analysis.errors import ExportError
from analysis.explorer.notebook_page import notebook_page
from analysis.explorer.page import write_page
from analysis.explorer.site import Missing, export_site

if TYPE_CHECKING:
    from analysis.explorer.results import Results

HOSTILE = "<img src=x onerror=alert(1)>"


class Loaded(HTMLParser):
    """What a page would load, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            loaded = name == "src" or (tag == "link" and name == "href")
            if value and loaded and not value.startswith("data:"):
                self.addresses.append(value)


def loads(text: str) -> Loaded:
    parser = Loaded()
    parser.feed(text)
    return parser


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    v4 = nbformat.v4
    outputs = [
        v4.new_output(
            "display_data",
            data={
                "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
                "image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>',
                "text/plain": "Explorer",
            },
        ),
        v4.new_output("stream", text=HOSTILE),
    ]
    cells = [
        v4.new_markdown_cell("# The score\n\nThe share $k/n$ of $$m(s) = x(s)\\,W_V$$ costs `$5`."),
        v4.new_code_cell("explore(model)", outputs=outputs, execution_count=1),
    ]
    path = folder / "00_score.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_a_notebook_becomes_a_page_that_loads_nothing(notebook: Path) -> None:
    title, text = notebook_page(notebook, "")
    assert title == "The score"
    page = loads(text)
    assert page.addresses == [] and page.scripts == 0
    assert text.count("<math") == 2 and "<code>$5</code>" in text
    assert "data:image/svg+xml" in text and HOSTILE not in text and "&lt;img" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "n_formulas"),
    [
        (r"costs \$5 and \$6", 0),
        (r"A $5 note and \$6 more", 0),
        (r"A $5 note, $6-$7", 0),
        ("$HOME and `$x$`", 0),
        ("~~~\nprice $a$ b\n~~~\n", 0),
        ("~~~ python\n$a$\n```\n$b$", 0),
        ("```\n$a$\n\n    $b$\n~~~\n$c$\n```", 0),
        ("    indented $z$ code\n\n\tand $y$\n", 0),
        ("Two:\n\n    indented $z$\n\n    code $y$", 0),
        ("``a ` $y$``", 0),
        ("`a $$ b` and `c $$ d`", 0),
        ("1. One\n\n    and $x$ and `$x$`\n", 1),
        (r"`a` $x \$$ and `$x$`", 1),
        ("`a\n\n$x$ `$x$`", 1),
        ("$$\na\n\\\\ b\n$$", 1),
    ],
)
def test_formulas_in_code_stay_code(text: str, n_formulas: int, tmp_path: Path) -> None:
    assert formulas(text, tmp_path) == n_formulas
    assert formulas(f"$p$\n\n{text}\n\n", tmp_path) == n_formulas + 1


def formulas(markdown: str, folder: Path) -> int:
    """How many formulas the page of a cell has."""
    cell = nbformat.v4.new_markdown_cell(markdown)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "x.ipynb")
    _, text = notebook_page(folder / "x.ipynb", "")
    return text.count("<math")


def test_the_site_links_every_explorer_figure_and_notebook(
    results: Results, notebook: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("a.svg", "a.json", "b.csv", ".a.lock", "notes.txt"):
        (figures / name).write_text("x")
    page = write_page(results, tmp_path / "planted_explorer.html")
    site = tmp_path / "site"
    index = export_site(
        site,
        explorers=[page],
        figures=figures,
        notebooks=notebook.parent,
        missing=[Missing("gpt2", f"not here {HOSTILE}")],
    )
    text = index.read_text()
    for address in re.findall(r'(?:href|src)="([^"]+)"', text):
        assert (site / address).is_file(), address
    assert {"planted_explorer.html", "00_score.html"} <= {p.name for p in site.iterdir()}
    assert {p.name for p in (site / "figures").iterdir()} == {"a.svg", "a.json", "b.csv"}
    assert "gpt2: " in text and HOSTILE not in text
    assert loads(text).addresses == ["figures/a.svg"]


def test_folders_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no folder"):
        export_site(tmp_path / "site", figures=tmp_path / "nowhere")


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text("not JSON")
    with pytest.raises(ExportError, match="cannot be read"):
        notebook_page(path, "")


def test_pages_of_one_name_are_all_there(notebook: Path, tmp_path: Path) -> None:
    pages = []
    for folder in ("pa", "pb", "site"):
        (tmp_path / folder).mkdir()
        pages.append(tmp_path / folder / "final_explorer.html")
        pages[-1].write_text(folder)
    (tmp_path / "pa" / "index.html").write_text("no index")
    (tmp_path / "pa" / "00_score.html").write_text("no notebook")
    pages += [tmp_path / "pa" / name for name in ("index.html", "00_score.html")]
    site = tmp_path / "site"
    given = [*pages, tmp_path / "pa" / ".." / "pa" / "final_explorer.html"]  # the first again
    text = export_site(site, explorers=given, notebooks=notebook.parent).read_text()
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', text)
    contents = {title: (site / address).read_text() for address, title in links}
    assert "The score" in contents.pop("The score")
    assert contents == {
        "final_2": "pa",
        "final_3": "pb",
        "final": "site",  # stays where it lies
        "index_2": "no index",
        "00_score": "no notebook",
    }


def test_links_reach_files_of_any_name(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    names = ["k#1.svg", "a?b.svg", "50%25.svg", "a & b.svg", "é.svg"]
    for name in names:
        (figures / name).write_text("x")
    index = export_site(tmp_path / "site", figures=figures)
    for found in (
        re.findall(r'src="([^"]+)"', index.read_text()),
        re.findall(r'href="([^"]+)"', index.read_text()),
    ):
        reached = [urlsplit(urljoin(index.as_uri(), html.unescape(link))) for link in found]
        assert {Path(unquote(one.path)) for one in reached} == {
            index.parent / "figures" / name for name in names
        }
        assert not any(one.query or one.fragment for one in reached)
