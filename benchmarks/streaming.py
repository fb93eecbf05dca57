"""Time and memory of scoring a checkpoint that is read layer by layer.

``PYTHONPATH=. python benchmarks/streaming.py llama-1b`` writes a checkpoint of Llama-3.2-1B's
shape made of random bfloat16 weights into a temporary folder, scores it in a process of its own,
and notes the seconds and the largest memory of that process, measured from outside (``/proc``).
Of ``llama-8b``, tensors that static scores do not read are holes in its files; ``gpt2-xl`` is
float32.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from memory import status
from run import peak_rate
from sections import markdown, met, write_section

N_NAMES = 779
SHAPES: dict[str, dict[str, Any]] = {
    "llama-1b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "llama-8b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
    "gpt2-xl": {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 1600,
        "n_layer": 48,
        "n_head": 25,
        "vocab_size": 50257,
    },
}
GOALS = {"llama-1b": (60, 2.5), "llama-8b": (360, 6), "gpt2-xl": (8, 3)}
"""Seconds and GB at most."""
UNREAD = ("mlp", "q_proj", "k_proj")
"""Parts of a layer after the first that static scores do not read."""
SCORE = """
import sys, time, torch
from analysis.models.open_checkpoint import open_checkpoint
from analysis.names import TokenPairs
from analysis.static.scores import score_heads
start = time.perf_counter()
score_heads(open_checkpoint(sys.argv[1]), sys.argv[2].split(), include_padding=True)
print(time.perf_counter() - start)
"""


def write_checkpoint(shape: dict[str, Any], folder: Path, holes: bool = False) -> int:
    """Random weights of a shape, one file to a layer.

    Args:
        shape: the config.
        folder: where to write.
        holes: leave out the numbers of what static scores do not read.

    Returns:
        Bytes written.
    """
    from transformers import AutoConfig

    from analysis.architecture.model_parts import plain_model
    from analysis.models.checkpoint import CONFIG, INDEX
    from tests.checkpoints import make_tokenizer

    config = AutoConfig.for_model(**shape)
    make_tokenizer(names()).save_pretrained(folder)
    (folder / CONFIG).write_text(json.dumps(shape), encoding="utf-8")
    dtype = torch.float32 if shape["model_type"] == "gpt2" else torch.bfloat16
    skeleton = plain_model(config, lambda _: None)
    files: dict[str, list[tuple[str, torch.Size]]] = {}
    for name, parameter in skeleton.named_parameters():
        layer = next((part for part in name.split(".") if part.isdigit()), "rest")
        if not (name == "lm_head.weight" and config.tie_word_embeddings):
            files.setdefault(layer, []).append((name, parameter.shape))
    index: dict[str, str] = {}
    n_bytes = 0
    for number, (layer, entries) in enumerate(files.items(), 1):
        file = f"model-{number:05}-of-{len(files):05}.safetensors"
        left_out = UNREAD if holes and layer not in ("rest", "0") else ()
        n_bytes += _write_file(folder / file, entries, dtype, left_out)
        index |= {name: file for name, _ in entries}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    os.sync()  # what is still being written would slow down the reading
    return n_bytes


def _write_file(
    path: Path,
    entries: Sequence[tuple[str, torch.Size]],
    dtype: torch.dtype,
    left_out: Sequence[str],
) -> int:
    """A safetensors file, with holes for the tensors left out; the bytes of all others."""
    header: dict[str, dict[str, Any]] = {}
    place = 0
    for name, shape in entries:
        end = place + shape.numel() * dtype.itemsize
        kind = "F32" if dtype == torch.float32 else "BF16"
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    described = json.dumps(header).encode()
    written = 0
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        start = file.tell()
        file.truncate(start + place)
        for name, shape in entries:
            if not any(part in name for part in left_out):
                file.seek(start + header[name]["data_offsets"][0])
                tensor = (torch.randn(shape) * (0.02 if len(shape) > 1 else 1)).to(dtype)
                written += file.write(tensor.view(torch.uint8).numpy().data)
    return written


def names() -> list[str]:
    """Made-up words, each one token of the benchmark's tokenizer."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [f"N{letters[i // 676]}{letters[i // 26 % 26]}{letters[i % 26]}" for i in range(N_NAMES)]


def measure(folder: Path) -> tuple[float, float]:
    """Seconds of scoring, and the largest resident memory in GB, seen from outside."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCORE, str(folder), " ".join(names())],
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, KeyError):  # it may just have ended
            peak = max(peak, status(process.pid, "VmHWM"))
        time.sleep(0.05)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("scoring failed; its message is above.")
    return float(output.split()[-1]), peak / 1e9


def main(shapes: Sequence[str]) -> int:
    """Measure the shapes that are named, and print; or all if none is, and write the table."""
    rows: list[dict[str, object]] = []
    for shape in shapes or list(SHAPES):
        with tempfile.TemporaryDirectory() as folder:
            n_bytes = write_checkpoint(SHAPES[shape], Path(folder), shape == "llama-8b")
            seconds, memory = measure(Path(folder))
        goal_s, goal_gb = GOALS[shape]
        rows.append(
            {
                "checkpoint": shape,
                "weights, GB": f"{n_bytes / 1e9:.2f}",
                "seconds": f"{seconds:.1f}",
                "seconds, goal": goal_s,
                "in time": met(seconds, goal_s),
                "GB at most": f"{memory:.2f}",
                "GB, goal": goal_gb,
                "in memory": met(memory, goal_gb),
            }
        )
        print(rows[-1], flush=True)
    if shapes:
        return 0
    write_section(
        "Checkpoints read layer by layer",
        f"{markdown(rows)}\n\nRandom weights of each shape on a local disk, {N_NAMES} names, k = 1,"
        f" {torch.get_num_threads()} threads, {peak_rate():.0f} thousand million multiply-adds a "
        "second at best in float32; of llama-8b only what static scores read is written. Seconds "
        "include the loading of transformer_lens and the checksum of the weights. "
        "Memory is that of the scoring process, seen from outside. Made by `make bench`.",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
