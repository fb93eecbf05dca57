"""Names of one's own: what a file holds is asked about as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import NamesError
from analysis.explorer.page import explorer_page
from analysis.explorer.payload import pack_set
from analysis.name_files import read_names
from tests.explorer.reading import Open, as_widget

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from analysis.explorer.results import Results

pytestmark = pytest.mark.chromium


@pytest.fixture
def asking_file(results: Results, tmp_path: Path) -> Path:
    """A page that takes itself for one with a kernel, and keeps what it asks."""
    path = tmp_path / "asking.html"
    path.write_text(as_widget(explorer_page(results)))
    return path


def asked(page: Page) -> dict[str, Any]:
    """What the names' own part asks, and then takes back."""
    page.locator(".nh-own progress").wait_for()
    sent = page.evaluate("model.sent.at(-1)")
    page.locator(".nh-own").get_by_role("button", name="Stop").click()
    assert page.evaluate("model.sent.at(-1)") == {"ask": "stop", "id": sent["id"]}
    page.evaluate("(id) => model.deliver({ id, error: 'stopped.' })", sent["id"])
    assert page.locator(".nh-own .nh-says").inner_text() == "Stopped; nothing has changed."
    assert sent["ask"] == "score"
    return sent["args"]


@pytest.mark.parametrize(
    ("text", "names", "shown"),
    [
        ('name,n\n"Mary, Jane",1\nTom,2\n', ["Mary, Jane", "Tom"], ""),
        ("name\nAnn > Bob\n", ["Ann > Bob"], ""),
        ('source,target\n"a; b","c → d"\n', [["a; b", "c → d"]], ""),
        ('n,name\n1,"Mary"\n3,Tom\n', ["Mary", "Tom"], "Mary\nTom"),
        ('n,name\n1,"Mary"\n2,\n3,Tom\n', ["Mary", "", "Tom"], ""),
        ("source,target\nFrance,\nItaly,Rome\n", [["France", ""], ["Italy", "Rome"]], ""),
        ("target,source\nParis,France\n", [["France", "Paris"]], "France > Paris"),
    ],
    ids=["comma", "sign", "pair", "plain", "empty", "empty target", "plain pair"],
)
def test_the_cells_of_a_file_are_names_as_they_are(
    visit: Open, asking_file: Path, tmp_path: Path, text: str, names: list[Any], shown: str
) -> None:
    page = visit(file=asking_file)
    page.locator("summary", has_text="Your own names").click()
    (tmp_path / "mine.csv").write_text(text)
    page.get_by_label("CSV file with a column").set_input_files(tmp_path / "mine.csv")
    found = asked(page)
    assert found["names"] == names
    assert found["label"] == (None if isinstance(names[0], str) else "mine")
    # The box holds them only where it reads the same names.
    box = page.get_by_label("Names, separated by")
    assert box.input_value() == shown
    if shown:
        page.get_by_role("button", name="Score these").click()
        assert asked(page)["names"] == names


def test_what_was_done_before_it_was_stopped_is_shown(
    visit: Open, results: Results, asking_file: Path
) -> None:
    page = visit(file=asking_file)
    page.locator("summary", has_text="Your own names").click()
    page.get_by_label("Names, separated by").fill("Mary")
    page.get_by_role("button", name="Score these").click()
    page.locator(".nh-own").get_by_role("button", name="Stop").click()
    mine = pack_set(replace(results.sets[0], key="own", label="Mine", extremes={}), {})
    page.evaluate("(mine) => model.answer(model.sent[0].id, mine)", mine)
    assert page.get_by_label("Names", exact=True).input_value() == "own"
    assert "Stopped" not in page.locator(".nh-own").inner_text()


AS_IN_PYTHON = {
    "inner": 'name\nMary "Mo" Jane\nTom\n',
    "middle": 'name,n\nO"Brien,1\n\n"Ann ""A"" B",2',
    "old line ends": "name\rMary\rTom\r",
    "lines in quotes": 'n,name\r\n"1\n2",Mary\r\n',
    "unclosed": 'name\nTom\n"Mary\n',
    "text after": 'name\nTom\n"Mary" Jane\n',
    "empty in quotes": 'name\nTom\n""\n',
    "too long": "name\nTom\nMary,Jane\n",
    "long cell": f"name\nTom\n{'x' * 1001}\n",
    "Latin": "name\nTom\nJos\u00e9\n".encode("latin-1"),
    "NUL": "name\nTom\nMa\0ry\n",
    "name twice": "name,name\nTom,Mary\n",
    "no title": "name,\nTom,\n",
    "no title first": ",name\n,Tom\n",
    "semicolons": "name;n\nTom;1\n",
    "tabs": "n\tname\n1\tTom\n",
    "another title": "first\nTom\n",
}
NO_CSV = ("unclosed", "text after")
"""What Python says of these are the words of its own reader."""


def test_a_file_is_read_as_python_reads_it(visit: Open, asking_file: Path, tmp_path: Path) -> None:
    page = visit(file=asking_file)
    page.locator("summary", has_text="Your own names").click()
    said = page.locator(".nh-own").get_by_role("alert")
    for what, text in AS_IN_PYTHON.items():
        file = tmp_path / f"{what}.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        page.get_by_label("CSV file with a column").set_input_files(file)
        try:
            names = read_names(file)
        except NamesError as error:
            said.wait_for()
            if what in NO_CSV:
                assert said.inner_text().startswith(f"{file.name}, line 3: "), what
            else:
                assert said.text_content() == str(error).replace(str(file), file.name), what
            page.evaluate("document.querySelector('.nh-own .nh-says').replaceChildren()")
        else:
            assert asked(page)["names"] == names, what
