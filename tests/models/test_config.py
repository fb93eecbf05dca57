"""Another's config: what it may ask for, and what of it never happens."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import ModelError
from analysis.models.config import check_config, clean_config
from tests import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

STUB = """
import pathlib, types
def get_kernel(*args, **kwargs):
    pathlib.Path({marker!r}).write_text(f"{{args}} {{kwargs}}")
    raise SystemExit("a kernel was fetched")
class Anything:
    def __init__(self, *_, **__): pass
    def __call__(self, thing=None, *_, **__): return thing
    def __class_getitem__(cls, _): return cls
def use_kernel_forward_from_hub(*_, **__): return lambda thing: thing
use_kernelized_func = use_kernel_func_from_hub = use_kernel_forward_from_hub
def __getattr__(name):
    if name.startswith("__"): raise AttributeError(name)
    return Anything
"""
"""Stands for the package ``kernels``, which fetches code from a hub and runs it."""

HOSTILE = [
    {"attn_implementation": "owner/kernel"},
    {"_attn_implementation": "owner/kernel@main:forward"},
    {"attn_implementation": {"": "owner/kernel"}},
    {"_attn_implementation_internal": "owner/kernel"},
    {"attn_implementation": "paged|owner/kernel"},
    {"attn_implementation": "flash_attention_2"},
    {"attn_implementation": "kernels-community/flash-attn"},
    {"experts_implementation": "owner/kernel"},
    {"kernel_config": {"kernel_mapping": {"RMSNorm": "owner/kernel:RMSNorm"}}, "use_kernels": True},
    {"transformers_weights": "other.safetensors"},
    {"name_or_path": "owner/model", "_commit_hash": "1" * 40},
]


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    tokenizer = checkpoints.make_tokenizer()
    model = checkpoints.gpt2_model(len(tokenizer))
    return checkpoints.save_checkpoint(model, tokenizer, tmp_path / "model")


def stub_kernels(folder: Path, marker: Path) -> Path:
    (folder / "kernels").mkdir(parents=True)
    (folder / "kernels" / "__init__.py").write_text(STUB.format(marker=str(marker)))
    info = folder / "kernels-0.18.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n")
    return folder


@pytest.mark.slow
def test_no_field_of_a_config_makes_a_kernel_be_fetched(gpt2: Path, tmp_path: Path) -> None:
    """With a package ``kernels`` that may be called, none of these configs calls it."""
    marker = tmp_path / "called"
    folders = []
    for i, fields in enumerate(HOSTILE):
        folder = shutil.copytree(gpt2, tmp_path / f"hostile{i}")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | fields))
        if i % 2:  # transformers would build the named class, by the config as it is
            settings = folder / "tokenizer_config.json"
            asked = {"tokenizer_class": "AutoModelForCausalLM"}
            settings.write_text(json.dumps(json.loads(settings.read_text()) | asked))
        folders.append(str(folder))
    script = f"""
from transformers.utils import is_kernels_available
assert is_kernels_available(), "the stub must count as installed"
from analysis import load_model
import torch
for folder in {folders!r}:
    model = load_model(folder)
    model(torch.tensor([[0, 257]]))
    assert model.original_model.config._attn_implementation == "eager"
"""
    root = pathlib.Path(__file__).parents[2]
    stub = stub_kernels(tmp_path / "stub", marker)
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{stub}"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_fields_that_name_code_are_taken_out_at_every_level() -> None:
    asked = {"attn_implementation": "a/b", "auto_map": {"AutoModel": "x.Y"}, "n_layer": 3}
    nested: dict[str, Any] = {"text_config": asked, "parts": [asked], "layers": 2}
    assert clean_config(asked | nested) == {
        "n_layer": 3,
        "text_config": {"n_layer": 3},
        "parts": [{"n_layer": 3}],
        "layers": 2,
    }


def test_nesting_without_end_is_refused() -> None:
    config: dict[str, Any] = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    deep: Any = config
    for _ in range(500):
        deep = {"inner": deep}
    with pytest.raises(ModelError, match="nested more than"):
        check_config(config | {"x": deep}, "it")


@pytest.mark.parametrize("kind", [None, ["gpt2"], {}, 3])
def test_a_model_type_that_is_no_text_is_refused(kind: Any) -> None:
    with pytest.raises(ModelError, match="has no model_type"):
        check_config({"model_type": kind}, "it")


@pytest.mark.parametrize("named", ["GPT2LMHeadModel", [3], {"a": 1}])
def test_architectures_that_are_no_list_of_texts_are_refused(named: Any) -> None:
    with pytest.raises(ModelError, match="is not a list"):
        check_config({"model_type": "gpt2", "architectures": named}, "it")
