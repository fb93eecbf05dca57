"""The package reads from the bottom up: imports go downwards only, and never in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "analysis"

# From the bottom up. What stands in one line may import from that line and those above it.
LAYERS = (
    "architecture data_files errors heads name_files names progress provenance statistics "
    "tokenizers validation",
    "weights embeddings",
    "models",
    "exact",
    "static",
    "prompts",
    "dynamic",
    "ablation",
    "ioi",
    "sweeps",
    "plots",
    "export",
    "explorer",
    "report",
    "cli",
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a file imports anywhere, for types or late alike."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative path"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            # `from analysis.exact import ranks` imports a module, other names come from one.
            found |= inner or {str(node.module)}
    return found & modules


def imports_of(package: Path) -> dict[str, set[str]]:
    paths = {module_name(path, package): path for path in package.rglob("*.py")}
    return {name: imported(path, set(paths)) - {name} for name, path in paths.items()}


def upwards(imports: dict[str, set[str]]) -> list[str]:
    """The imports that go up, ``importer -> imported``."""
    below = {
        name: LEVEL[name.split(".")[1]] for name in imports if name.count(".")
    }  # the package's own __init__ is the public face, above everything
    return [
        f"{name} -> {other}"
        for name, others in imports.items()
        for other in others
        if name in below and (other not in below or below[other] > below[name])
    ]


IMPORTS = imports_of(PACKAGE)


def test_every_module_and_folder_has_its_layer() -> None:
    at_the_top = {name.split(".")[1] for name in IMPORTS if name.count(".")}
    assert at_the_top <= set(LEVEL)


def test_no_import_goes_upwards() -> None:
    assert not upwards(IMPORTS)


def test_no_import_goes_in_a_circle() -> None:
    try:
        TopologicalSorter({name: IMPORTS[name] for name in IMPORTS if name != "analysis"}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_the_top_level_is_a_table_of_contents() -> None:
    loose = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= 12, sorted(loose)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from analysis.models.load import f", ["analysis.names -> analysis.models.load"]),
        (
            "def f():\n    from analysis.models import load",
            ["analysis.names -> analysis.models.load"],
        ),
        ("import analysis.models.load", ["analysis.names -> analysis.models.load"]),
        ("from analysis import load_model", ["analysis.names -> analysis"]),
        ("from analysis.errors import AnalysisError", []),
    ],
)
def test_an_import_upwards_is_seen(tmp_path: Path, source: str, found: list[str]) -> None:
    package = tmp_path / "analysis"
    (package / "models").mkdir(parents=True)
    for name in ("__init__", "errors", "models/__init__", "models/load"):
        (package / f"{name}.py").write_text("")
    (package / "names.py").write_text(source)
    assert upwards(imports_of(package)) == found
