"""What a page shows, read in the browser."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from transformer_lens.model_bridge import TransformerBridge

TEN_HEADS = [(layer, head) for layer in range(3) for head in range(4)][:10]

Open = Callable[..., "Page"]


def card_numbers(page: Page) -> dict[str, tuple[float, str]]:
    """The card's numbers: as they are, and as they are written."""
    found = page.evaluate(
        "[...document.querySelectorAll('.nh-value[data-measure]')].map((cell) =>"
        " [cell.dataset.measure, Number(cell.dataset.value), cell.textContent])"
    )
    return {measure: (value, text.replace("−", "-")) for measure, value, text in found}


def open_head(page: Page, layer: int, head: int, fragment: str = "") -> None:
    page.evaluate(f"location.hash = '#{fragment}&head={layer}.{head}'")
    # The page's own policy forbids `wait_for_function` to look a second time.
    title = re.compile(rf"^Head {layer}\.{head}$")
    page.locator(".nh-card-title", has_text=title).first.wait_for()


def reload(page: Page) -> None:
    page.reload()
    page.locator(".nh-map [role=gridcell]").first.wait_for()


def colors(page: Page, panel: int = 0) -> list[str]:
    return page.evaluate(
        "(n) => [...document.querySelectorAll('.nh-map')[n].querySelectorAll('[role=gridcell]')]"
        ".map((cell) => cell.getAttribute('fill'))",
        panel,
    )


def kept(page: Page, button: str, folder: Path) -> Path:
    """The file that a button writes, under the name that it is given."""
    page.evaluate("document.querySelector('.nh-keep').open = true")
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def scope_of(page: Page, *models: TransformerBridge) -> dict[str, Any]:
    """What the lines of Python of a page make, with the models that they load in memory."""
    with tempfile.TemporaryDirectory() as folder:
        record = kept(page, "Record and state (JSON)", Path(folder))
        lines = json.loads(record.read_text())["python"]
    memory = "model = ...  # this model was built in memory"
    scope: dict[str, Any] = {}
    for number, model in enumerate(models):
        scope[f"model_{number}"] = model
        lines = lines.replace(memory, f"model = model_{number}", 1)
    assert memory not in lines
    exec(lines, scope)
    return scope


EVENTS = """
const heard = new Map();
const model = globalThis.model = {
  get: (name) => values[name],
  set: (name, value) => {
    values[name] = value;
    for (const listener of [...heard.get(`change:${name}`) || []]) listener();
  },
  save_changes() {}, sent: [], send: (message) => model.sent.push(message),
  deliver: (message) => [...heard.get("msg:custom")].forEach((listener) => listener(message)),
  answer: (id, result) => model.deliver({ id, result }),
  on: (event, listener) => { heard.set(event, [...heard.get(event) || [], listener]); },
  off: (event, listener) => {
    heard.set(event, (heard.get(event) || []).filter((known) => known !== listener));
  },
};
"""


def as_widget(page: str, views: int = 1) -> str:
    """A page that takes itself for views of a widget with a kernel.

    Its model in memory tells of changes, as a widget's does, and keeps what it is to send.
    """
    before, rest = page.split("const model = {", 1)
    after = rest.split("};\n", 1)[1]
    for given, wanted in (('home: "page"', 'home: "notebook"'), ("kernel: false", "kernel: true")):
        assert before.count(given) == 1
        before = before.replace(given, wanted)
    drawn = 'await front.default.render({ model, el: document.getElementById("explorer") });'
    assert after.count(drawn) == 1
    return before + EVENTS + after.replace(drawn, drawn * views)
