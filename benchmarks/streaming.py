"""Time and memory of scoring a checkpoint that is read layer by layer.

``python -m benchmarks.streaming llama-1b`` writes a checkpoint of Llama-3.2-1B's shape made of
random bfloat16 weights into a temporary folder, scores it in a process of its own, and prints the
seconds and the largest memory of that process, measured from outside (``/proc``). ``llama-8b`` has
the tensors alone that static scores read; ``gpt2-xl`` is float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

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
SCORE = """
import sys, time, torch
from analysis.models.open_checkpoint import open_checkpoint
from analysis.names import TokenPairs
from analysis.static.scores import score_heads
start = time.perf_counter()
score_heads(open_checkpoint(sys.argv[1]), sys.argv[2].split(), include_padding=True)
print(time.perf_counter() - start)
"""


def write_checkpoint(shape: dict[str, Any], folder: Path, whole: bool = True) -> int:
    """Random weights of a shape, one file to a layer; all, or only what static scores read.

    Returns:
        Bytes written.
    """
    from safetensors.torch import save_file
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
        tied = name == "lm_head.weight" and config.tie_word_embeddings
        unread = layer not in ("rest", "0") and any(p in name for p in ("mlp", "q_proj", "k_proj"))
        if not tied and (whole or not unread):
            files.setdefault(layer, []).append((name, parameter.shape))
    index, n_bytes = {}, 0
    for number, (_, entries) in enumerate(files.items(), 1):
        file = f"model-{number:05}-of-{len(files):05}.safetensors"
        tensors = {n: (torch.randn(s) * (0.02 if len(s) > 1 else 1)).to(dtype) for n, s in entries}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
        n_bytes += sum(tensor.nbytes for tensor in tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return n_bytes


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
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            peak = max(peak, int(lines.get("VmHWM", "0 kB").split()[0]))
        except (OSError, ValueError):
            break
        time.sleep(0.05)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("scoring failed; its message is above.")
    return float(output.split()[-1]), peak * 1024 / 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the shapes that are named."""
    parser = argparse.ArgumentParser(prog="streaming", description=__doc__)
    parser.add_argument("shapes", nargs="+", choices=SHAPES)
    for shape in parser.parse_args(arguments).shapes:
        with tempfile.TemporaryDirectory() as folder:
            n_bytes = write_checkpoint(SHAPES[shape], Path(folder), shape != "llama-8b")
            seconds, memory = measure(Path(folder))
        print(
            f"{shape}: {n_bytes / 1e9:.2f} GB of weights, {N_NAMES} names, "
            f"{seconds:.1f} s, {memory:.2f} GB at most"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
