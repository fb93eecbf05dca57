"""What the documents name is there: files, notebooks, commands and code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import analysis

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert not [link for link in links if not (document.parent / link).exists()]
    # `file.py` alone is beside the file that its line named before.
    missing = []
    for line in text.splitlines():
        folder = document.parent
        for name in re.findall(r"`((?:[\w.]+/)*[\w.]+\.(?:py|csv|md|yml|toml|txt|ipynb))`", line):
            path = ROOT / name if "/" in name else folder / name
            if not any(home.exists() for home in (path, ROOT / name, ROOT / "analysis" / name)):
                missing.append(name)
            folder = path.parent if "/" in name else folder
    if document.name != "CHANGELOG.md":
        assert not missing
        targets = re.findall(r"`?make ([a-z0-9-]+)", text)
        commands = {t for t in targets if f"`make {t}" in text or f"\nmake {t}" in text}
        assert not {t for t in commands if not re.search(rf"^{t}:", MAKEFILE, re.M)}


def test_the_readme_imports_and_calls_what_the_package_has() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    tree = ast.parse(code)
    (imports,) = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    names = {alias.name for alias in imports.names}
    assert names <= set(analysis.__all__)
    called = {
        n.func.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert names == called - {"print"}


def test_the_readme_lists_every_notebook() -> None:
    listed = re.findall(r"\((notebooks/[^)]+)\)", (ROOT / "README.md").read_text())
    assert listed == [f"notebooks/{p.name}" for p in sorted((ROOT / "notebooks").glob("*.ipynb"))]


def test_every_number_in_the_readmes_answers_is_in_its_notebook() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \| (\d) \|$", (ROOT / "README.md").read_text(), re.M)
    assert len(rows) == 9
    for question, answer, number in rows:
        (path,) = (ROOT / "notebooks").glob(f"0{number}_*.ipynb")
        outputs = [
            "".join(output.get("data", {}).get(kind, output.get("text", "")))
            for cell in json.loads(path.read_text())["cells"]
            for output in cell.get("outputs", [])
            for kind in ("text/markdown", "text/plain")
        ]
        said = " ".join(outputs)
        ours = re.sub(r"MAPS has .*", "", f"{question} {answer}")
        missing = [
            n for n in re.findall(r"-?\d[\d.]*\b", ours) if not re.search(rf"(?<![\d.]){n}\b", said)
        ]
        assert not missing, (number, question, missing)


def test_every_data_file_is_described_with_its_source() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "data" / "README.md").read_text(), re.M)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "data").glob("*.csv"))


def test_no_badge_and_no_address_of_a_repository_or_registry() -> None:
    for path in [*DOCUMENTS, ROOT / "pyproject.toml", ROOT / "Makefile", ROOT / "environment.yml"]:
        assert not re.search(
            r"git\+|shields\.io|badge|pypi\.org|/simple\b|--index", path.read_text()
        )
