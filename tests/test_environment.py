"""pyproject.toml, the pinned list and the conda file agree with each other and the code."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    """Name and version of ``name==version`` lines; anything looser is an error."""
    found = {}
    for line in lines:
        name, equals, version = line.partition("==")
        assert equals, f"{line!r} is not pinned"
        found[normal(name)] = version
    return found


LOCKED = pins(
    [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
)
DIRECT = pins(PROJECT["dependencies"])


def test_every_direct_dependency_is_pinned_to_the_version_of_the_list() -> None:
    assert {name: LOCKED.get(name) for name in DIRECT} == DIRECT


def test_no_pin_is_of_one_platform_or_one_registry() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert not re.search(r"https?://|file:|--index|\+cpu|@", text)


def test_conda_users_get_the_same_list_and_a_python_that_the_project_accepts() -> None:
    *packages, pip = CONDA["dependencies"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}
    assert packages == [f"python{PROJECT['requires-python']}", "pip"]


def test_what_is_installed_is_what_is_pinned() -> None:
    from importlib.metadata import version

    installed = {name: version(name).partition("+")[0] for name in LOCKED}
    assert installed == LOCKED


@pytest.mark.parametrize("folder", ["analysis", "tests", "benchmarks", "data"])
def test_every_imported_package_is_a_direct_dependency(folder: str) -> None:
    imported = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    own = {"analysis", "tests", *(path.stem for path in (ROOT / folder).glob("*.py"))}
    homes = packages_distributions()
    foreign = {name for name in imported - own if name not in sys.stdlib_module_names}
    missing = {
        name
        for name in foreign
        if not {normal(home) for home in homes.get(name, [name])} & set(DIRECT)
    }
    assert not missing
