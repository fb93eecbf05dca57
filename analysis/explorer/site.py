"""A folder of pages: the explorers at hand, every exported figure, and the notebooks as HTML.

Nothing in it names an address outside the folder. Links in the notebooks' text stay links, which
load nothing until they are followed.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from analysis.errors import ExportError
from analysis.explorer.notebook_page import PAGE, notebook_page
from analysis.export.places import EXPLORER, free_name
from analysis.export.whole_files import write_whole
from analysis.validation import check_list, check_path, check_type

PICTURES = (".svg", ".png")
FIGURE_FILES = (".html", ".svg", ".png", ".pdf", ".csv", ".json")

_INDEX = """<h1>Which attention heads copy names, and which suppress them?</h1>
<h2>Explorers</h2>
{explorers}
<h2>Notebooks</h2>
{notebooks}
<h2>Figures</h2>
{figures}"""

CSS = """
:root { color-scheme: light dark; --line: #d5d9e0; --muted: #5b6270; --link: #1a5fb4; }
@media (prefers-color-scheme: dark) { :root { --line: #39414f; --muted: #a8b0c0; --link: #7cb7ff; }
  body { background: #14171f; color: #e8eaf0; } }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif;
  margin: 0; }
main { max-width: 1000px; margin: 0 auto; padding: 24px 16px 60px; }
h1 { font-size: 26px; line-height: 1.25; } h2 { font-size: 19px; margin-top: 32px; }
a { color: var(--link); } img, svg { max-width: 100%; height: auto; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: 10px;
  background: #ffffff; color: #1f2430; }
figure img { display: block; margin: 0 auto; max-height: 260px; }
figcaption { font-size: 13px; overflow-wrap: anywhere; } figcaption a { color: #1a5fb4; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 16px; }
.muted { color: var(--muted); }
""".strip()
"""Shared by the index and the notebooks' pages."""


@dataclass(frozen=True)
class Missing:
    """A model whose explorer could not be built, and the reason in a sentence."""

    name: str
    reason: str


def export_site(
    site: str | Path,
    *,
    explorers: Sequence[str | Path] = (),
    figures: str | Path | None = None,
    notebooks: str | Path | None = None,
    missing: Sequence[Missing] = (),
) -> Path:
    """Write an index of explorers, notebooks and figures, with copies of them all.

    Args:
        site: folder of the pages; made if need be. Files of other names in it are left alone.
        explorers: pages of ``analysis.explorer.page.write_page``; of equal names, all but the first
            are numbered.
        figures: folder of exported figures; none if None.
        notebooks: folder of notebooks; none if None.
        missing: models that are named as not built.

    Returns:
        The index.

    Raises:
        ExportError: a folder or page does not exist, or the site cannot be written.
        ParameterError: a path or list is none.
    """
    site = check_path("site", site)
    pages = [check_path("a page of explorers", p) for p in check_list("explorers", explorers)]
    if lacking := next((page for page in pages if not page.is_file()), None):
        raise ExportError(f"there is no page {lacking}: write it with write_page first.")
    absent = check_list("missing", missing, "models")
    for one in absent:
        check_type("a missing model", one, Missing, "Missing(name, reason)")
    folders = [_folder("notebooks", notebooks), _folder("figures", figures)]
    try:
        site.mkdir(parents=True, exist_ok=True)
        taken = {"index.html"}
        entries = {
            "explorers": _explorers(site, pages, absent, taken),
            "notebooks": _notebooks(site, folders[0], taken),
            "figures": _figures(site, folders[1]),
        }
        title = "Which attention heads copy names?"
        index = PAGE.format(title=title, css=CSS, body=_INDEX.format(**entries))
        return write_whole(site / "index.html", index.encode())
    except OSError as error:
        raise ExportError(f"cannot write the site {site}: {error}") from error


def _folder(name: str, path: str | Path | None) -> Path | None:
    if path is None:
        return None
    path = check_path(name, path)
    if not path.is_dir():
        raise ExportError(f"there is no folder {path}: give the folder that holds the files.")
    return path


def _explorers(
    site: Path, pages: Sequence[Path], missing: Sequence[Missing], taken: set[str]
) -> str:
    """The pages, each under a name of its own; those that lie in the site keep theirs."""
    once = {page.resolve(): page for page in pages}
    contents = {page: page.read_bytes() for page in once}
    inside = [page for page in once if page.parent == site.resolve()]
    outside = [page for page in once if page not in inside]
    names = {page: free_name(once[page].name, taken) for page in (*inside, *outside)}
    items = []
    for page, content in contents.items():
        name = names[page]
        if page != site.resolve() / name:
            write_whole(site / name, content)
        title = Path(name).stem.removesuffix(EXPLORER)
        size = len(content) / 1e6
        items.append(f"<li>{_link(name, title)} <span class=muted>({size:.1f} MB)</span></li>")
    for one in missing:
        items.append(
            f"<li>{html.escape(one.name)}: <span class=muted>not built: "
            f"{html.escape(one.reason)}</span></li>"
        )
    return f"<ul>{''.join(items)}</ul>" if items else "<p class=muted>None was built.</p>"


def _notebooks(site: Path, folder: Path | None, taken: set[str]) -> str:
    items = []
    for path in sorted(folder.glob("*.ipynb")) if folder else []:
        title, text = notebook_page(path, CSS)
        name = free_name(f"{path.stem}.html", taken)
        write_whole(site / name, text.encode())
        items.append(f"<li>{_link(name, title)}</li>")
    return f"<ul>{''.join(items)}</ul>" if items else "<p class=muted>None.</p>"


def _figures(site: Path, folder: Path | None) -> str:
    stems: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder else []:
        if path.is_file() and path.suffix in FIGURE_FILES and not path.name.startswith("."):
            stems.setdefault(path.stem, []).append(path)
    items = []
    for stem, paths in stems.items():
        (site / "figures").mkdir(exist_ok=True)
        for path in paths:
            write_whole(site / "figures" / path.name, path.read_bytes())
        picture = next(
            (path for ending in PICTURES for path in paths if path.suffix == ending), None
        )
        shown = (
            f'<img src="{_address(f"figures/{picture.name}")}" alt="{html.escape(stem)}">'
            if picture
            else ""
        )
        links = " · ".join(_link(f"figures/{path.name}", path.suffix[1:]) for path in paths)
        items.append(
            f"<figure>{shown}<figcaption>{html.escape(stem)}: {links}</figcaption></figure>"
        )
    return f'<div class="grid">{"".join(items)}</div>' if items else "<p class=muted>None.</p>"


def _address(path: str) -> str:
    """A path inside the site as a link has it."""
    return html.escape(quote(path))


def _link(path: str, text: str) -> str:
    return f'<a href="{_address(path)}">{html.escape(text)}</a>'
