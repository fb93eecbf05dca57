"""The wheel works where there is no checkout: code, types, data and the explorer's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from analysis.models.packaged import packaged_checkpoint

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with the wheel in it, and this environment's other packages."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
    ]
    subprocess.run([*command, "--no-index", "-qq", wheel], check=True)
    # A path in a .pth file is searched last, and the .pth files that it holds are not read: the
    # checkout that this environment has installed stays out of sight.
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python: Path, *arguments: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package_and_none_of_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if "/licenses/" in name]
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "analysis", "data"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    code = {name for name in tracked if name.startswith("analysis/") and (ROOT / name).is_file()}
    data = {f"analysis/{n}" for n in tracked if n.startswith("data/") and not n.endswith(".py")}
    assert held == code | data
    assert {Path(name).name for name in licences} == {"LICENSE", "THIRD_PARTY.md", "OFL.txt"}


@pytest.fixture(scope="module")
def reader(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One process of a reader, who is sent a notebook: the folder, and what was printed last.

    The notebook is run as a command is; then the package itself is looked at.
    """
    packaged_checkpoint()  # by this environment's pip, where it is not in the cache yet
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(ROOT / "notebooks" / "01_load_the_model.ipynb", folder / "sent.ipynb")
    code = (
        "import runpy, sys\n"
        "sys.argv[1:] = ['sent.ipynb', 'MODEL=smollm2-135m']\n"
        "try: runpy.run_module('analysis.cli.run_notebook', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "import analysis, pathlib\n"
        "from analysis.data_files import data_file\n"
        "from analysis.names import NAMES_CSV\n"
        "home = pathlib.Path(analysis.__file__).parent\n"
        "assert 'site-packages' in home.parts and str(home).startswith(PREFIX), home\n"
        "assert NAMES_CSV == data_file('names.csv') and NAMES_CSV.is_relative_to(home)\n"
        "assert (home / 'py.typed').is_file()\n"
        "for name in analysis.__all__: getattr(analysis, name)\n"
        "print(sum(1 for _ in open(NAMES_CSV)))\n"
    ).replace("PREFIX", repr(str(python.parents[1])))
    return folder, run(python, "-c", code, cwd=folder).splitlines()[-1]


def test_the_installed_package_is_used_and_finds_its_data(reader: tuple[Path, str]) -> None:
    assert reader[1] == "3001"


def test_a_notebook_sent_by_mail_runs_where_the_package_is_installed(
    reader: tuple[Path, str],
) -> None:
    folder = reader[0]
    assert {path.name for path in folder.iterdir()} == {"sent.ipynb", "build"}
    assert (folder / "build" / "sent.ipynb").is_file()
