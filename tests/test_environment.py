"""pyproject.toml, the pinned list and the conda file agree with each other and with the code."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())


def load_lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", ROOT / ".ci" / "lock.py")
    assert spec and spec.loader
    module = sys.modules["lock"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = load_lock()
DIRECT: list[Requirement] = lock.direct_requirements()
PINS = [
    Requirement(line)
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
]
LOCKED = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in PINS}


def test_every_package_is_pinned_once_and_exactly() -> None:
    assert len(LOCKED) == len(PINS)
    loose = [str(pin) for pin in PINS if not re.fullmatch(r"==[\w.]+", str(pin.specifier))]
    assert not loose


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda r: r.name)
def test_every_direct_requirement_is_a_range_that_holds_its_pin(requirement: Requirement) -> None:
    assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)])
    operators = {part.operator for part in requirement.specifier}
    assert ">=" in operators
    assert operators <= {">=", "<"}


def test_the_list_is_of_no_platform_no_registry_and_no_build() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert not re.search(r"https?:|file:|--|\+|@", text)


@pytest.mark.slow
def test_the_list_holds_what_is_needed_here_and_nothing_else() -> None:
    installed = {
        canonicalize_name(found.name): lock.Package(
            found.name, found.version, tuple(map(Requirement, found.requires or []))
        )
        for found in distributions()
    }
    here = {
        "sys_platform": sys.platform,
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    (where, *_) = [e for e in lock.environments() if here.items() <= e.items()]
    listed = {
        canonicalize_name(pin.name)
        for pin in PINS
        if pin.marker is None or pin.marker.evaluate(where)
    }
    assert set(lock.needed(DIRECT, installed, where)) == listed


def test_what_is_installed_is_what_is_pinned() -> None:
    here = [pin.name for pin in PINS if pin.marker is None or pin.marker.evaluate()]
    installed = {canonicalize_name(name): version(name).partition("+")[0] for name in here}
    assert installed == {name: LOCKED[name] for name in installed}


def test_conda_users_get_the_same_list_and_a_python_that_the_project_accepts() -> None:
    *packages, pip = CONDA["dependencies"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}
    assert packages == [f"python{PROJECT['requires-python']}", "pip"]


def test_every_python_that_is_promised_is_tested() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert promised == list(lock.PYTHONS)
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(python) for python in promised)
    matrix = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert [job["python"] for job in matrix] == promised


def names(requirements: list[Any]) -> set[str]:
    return {canonicalize_name(Requirement(r).name) for r in requirements if isinstance(r, str)}


RUNTIME = names(PROJECT["dependencies"]).union(
    *map(names, PROJECT["optional-dependencies"].values())
)
ALL = {canonicalize_name(requirement.name) for requirement in DIRECT}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "allowed"),
    [("analysis", RUNTIME), ("tests", ALL), ("benchmarks", ALL), ("data", ALL), (".ci", ALL)],
)
def test_every_imported_package_is_a_direct_dependency(folder: str, allowed: set[str]) -> None:
    imported = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    scripts = (path.stem for path in (ROOT / "benchmarks").rglob("*.py"))  # import each other
    own = {"analysis", "tests", *(scripts if folder == "benchmarks" else ())}
    homes = packages_distributions()
    foreign = {name for name in imported - own if name not in sys.stdlib_module_names}
    missing = {
        name
        for name in foreign
        if not {canonicalize_name(home) for home in homes.get(name, [name])} & allowed
    }
    assert not missing


def test_versions_and_licence_are_said_alike() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == "MIT"
    assert PROJECT["license"] == "MIT AND OFL-1.1"  # the code, and the font of its pictures
    assert citation["authors"] == PROJECT["authors"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
