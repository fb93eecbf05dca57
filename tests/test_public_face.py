"""``from analysis import ...``: fast, complete, and with its types."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis.errors import AnalysisError

SOURCE = Path(inspect.getfile(analysis))


def typed_imports() -> dict[str, str]:
    """Name -> module, as the TYPE_CHECKING block tells editors and mypy."""
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_editors_and_python_are_told_the_same() -> None:
    assert typed_imports() == analysis._HOME
    assert analysis.__all__ == sorted(analysis._HOME)
    assert set(analysis.__all__) <= set(dir(analysis))


@pytest.mark.parametrize("name", analysis.__all__)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    thing = getattr(analysis, name)
    assert thing is getattr(importlib.import_module(analysis._HOME[name]), name)
    assert inspect.getdoc(thing)


def test_every_error_is_public_and_a_wrong_name_is_an_attribute_error() -> None:
    errors = {kind.__name__ for kind in AnalysisError.__subclasses__() if is_of_errors(kind)}
    assert errors | {"AnalysisError"} <= set(analysis.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'score_head'"):
        analysis.score_head  # noqa: B018


def is_of_errors(kind: type) -> bool:
    return kind.__module__ == "analysis.errors"


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = ("torch", "pandas", "plotly", "transformers", "transformer_lens", "scipy", "sklearn")
    code = f"import sys, analysis; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.asks_mypy
def test_mypy_knows_the_type_of_every_name(tmp_path: Path) -> None:
    lines = ["import analysis", *(f"reveal_type(analysis.{name})" for name in analysis.__all__)]
    asking = tmp_path / "asking.py"
    asking.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            SOURCE.parents[1] / "pyproject.toml",
            asking,
        ],
        cwd=SOURCE.parents[1],
        capture_output=True,
        text=True,
    )
    revealed = re.findall(r'asking\.py:(\d+): note: Revealed type is "(.+)"', done.stdout)
    assert [int(line) for line, _ in revealed] == list(range(2, len(lines) + 1)), done.stdout
    for name, (_, kind) in zip(analysis.__all__, revealed, strict=True):
        assert "def (" in kind or "type[" in kind, f"{name}: {kind}"
        if kind.endswith("-> Any"):  # these two libraries come without types for mypy
            returns = inspect.signature(getattr(analysis, name)).return_annotation
            assert returns in ("pd.DataFrame", "go.Figure"), f"{name}: {kind}"
