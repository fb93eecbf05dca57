"""Write requirements.txt: every package of the project, pinned, for Linux and macOS.

``make lock`` asks pip for versions that pyproject.toml allows (its dependencies, extras and
groups), without installing anything. What is pinned already keeps its version; with ``--upgrade``
everything gets the newest. Packages that only another platform or another Python needs are pinned
as well, with the marker that says where. Only names and versions are written: no index, host or
hash.

``--lowest`` prints the lower end of each range instead, for ``pip install --constraint``.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "requirements.txt"
HEADER = (
    "# Every package of .venv, pinned. Written by `make lock`: change pyproject.toml instead.\n"
)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
)
# torch pins its own CUDA libraries, and has none where it is built for processors alone.
PINNED_BY_TORCH = ("nvidia-", "cuda-", "triton")

Environment = dict[str, str]


@dataclass(frozen=True)
class Package:
    """One package as pip resolved it."""

    name: str
    version: str
    requires: tuple[Requirement, ...]


def environments() -> list[Environment]:
    """Every platform with every Python that the project supports, as markers see them."""
    common = {"os_name": "posix", "implementation_name": "cpython"}
    common |= {"platform_python_implementation": "CPython"}
    return [
        {**common, **platform, "python_version": python, "python_full_version": f"{python}.0"}
        for platform, python in itertools.product(PLATFORMS, PYTHONS)
    ]


def direct_requirements(path: Path = ROOT / "pyproject.toml") -> list[Requirement]:
    """Dependencies, extras and groups of pyproject.toml, without those that include another."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    project = content["project"]
    lists = [
        project["dependencies"],
        *project.get("optional-dependencies", {}).values(),
        *content.get("dependency-groups", {}).values(),
    ]
    return [Requirement(line) for line in itertools.chain(*lists) if isinstance(line, str)]


def pinned_before(direct: Iterable[Requirement]) -> dict[str, str]:
    """The versions of requirements.txt, without those that pyproject.toml no longer allows."""
    lines = map(Requirement, TARGET.read_text(encoding="utf-8").splitlines()[1:])
    found: dict[str, str] = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in lines
    }
    for requirement in direct:
        name = canonicalize_name(requirement.name)
        if name in found and not requirement.specifier.contains(found[name], prereleases=True):
            del found[name]
    return found


def resolve(requirements: Iterable[str], held: Mapping[str, str]) -> dict[str, Package]:
    """Ask pip for the newest versions that fit together, with those of ``held`` as they are."""
    with tempfile.TemporaryDirectory() as folder:
        asked, kept, report = (Path(folder) / name for name in ("asked", "kept", "report.json"))
        asked.write_text("\n".join(requirements), encoding="utf-8")
        kept.write_text("".join(f"{name}=={held[name]}\n" for name in held), encoding="utf-8")
        options = ["-qq", "--dry-run", "--ignore-installed", "--disable-pip-version-check"]
        files: list[str | Path] = ["-r", asked, "--constraint", kept, "--report", report]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *files], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages: dict[str, Package] = {}
    for metadata in (entry["metadata"] for entry in found):
        packages[canonicalize_name(metadata["name"])] = Package(
            metadata["name"],
            metadata["version"].partition("+")[0],
            tuple(map(Requirement, metadata.get("requires_dist", []))),
        )
    return packages


def needed(
    direct: Iterable[Requirement], pins: Mapping[str, Package], where: Environment
) -> dict[str, Requirement]:
    """What the direct requirements need in one environment, as far as the pins are known."""
    found: dict[str, Requirement] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, "") for requirement in direct]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({**where, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name.startswith(PINNED_BY_TORCH):
            continue
        found[name] = requirement
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen and name in pins:
                seen.add((name, wanted))
                todo += [(child, wanted) for child in pins[name].requires]
    return found


def marker(where: list[Environment]) -> str:
    """The marker of a package that only some environments need, empty for all."""
    everywhere = environments()
    if len(where) == len(everywhere):
        return ""
    for key in ("sys_platform", "python_version"):
        values = sorted({environment[key] for environment in where})
        if where == [e for e in everywhere if e[key] in values]:
            return " ; " + " or ".join(f'{key} == "{value}"' for value in values)
    return ""  # harmless elsewhere


def lock(upgrade: bool) -> str:
    """The text of requirements.txt."""
    direct = direct_requirements()
    held = {} if upgrade or not TARGET.exists() else pinned_before(direct)
    pins = resolve(map(str, direct), held)
    while True:
        by_environment = [(where, needed(direct, pins, where)) for where in environments()]
        missing = {
            name: requirement
            for _, names in by_environment
            for name, requirement in names.items()
            if name not in pins
        }
        if not missing:
            break
        plain = [f"{name}{requirement.specifier}" for name, requirement in missing.items()]
        pins |= resolve(plain, held | {known: pins[known].version for known in pins})
    lines = []
    for name, package in sorted(pins.items()):
        if where := [environment for environment, names in by_environment if name in names]:
            lines.append(f"{package.name}=={package.version}{marker(where)}\n")
    return HEADER + "".join(lines)


def lowest() -> str:
    """The lower end of every range, a pin a line."""
    ends = {}
    for requirement in direct_requirements():
        ends[requirement.name] = next(
            s.version for s in requirement.specifier if s.operator == ">="
        )
    return "".join(f"{name}=={version}\n" for name, version in ends.items())


if __name__ == "__main__":
    if sys.argv[1:] == ["--lowest"]:
        print(lowest(), end="")
    else:
        TARGET.write_text(lock(upgrade="--upgrade" in sys.argv), encoding="utf-8")
