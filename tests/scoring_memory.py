"""Prints how many bytes scoring took at its peak, for each case; run by ``test_memory``.

A process of its own, so that nothing but the scoring moves its memory. Linux resets the peak.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from analysis.exact import batches, topk
from analysis.exact.batches import OVBatch
from analysis.exact.vocabulary import Vocabulary
from analysis.heads import chosen_heads
from analysis.weights import unembedding_matrix
from tests import checkpoints, planted

D_MODEL = 64
N_HEADS = 4


@dataclass(frozen=True)
class Case:
    """Sizes of what is asked."""

    d_vocab: int = 10_000
    n_pairs: int = 30_000
    n_layers: int = 3


def ask(case: Case) -> OVBatch:
    """A random model, one of whose heads copies, so that it is held against every token."""
    hf = checkpoints.gpt2_model(case.d_vocab, n_embd=D_MODEL, n_head=N_HEADS, n_layer=case.n_layers)
    width = D_MODEL // N_HEADS
    attention = hf.transformer.h[0].attn
    attention.c_proj.weight.data[:width] = attention.c_attn.weight[:, -D_MODEL:][:, :width].T
    model = planted.boot(hf, checkpoints.make_tokenizer())
    tokens = torch.randint(0, case.d_vocab, (case.n_pairs,))
    vocabulary = Vocabulary(unembedding_matrix(model))
    return OVBatch(model, tokens, tokens, chosen_heads(model, None), "mlp", vocabulary)


def status(line: str) -> int:
    """Bytes on one line of this process's status."""
    for row in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if row.startswith(line):
            return int(row.split()[1]) * 1024
    raise KeyError(line)


@torch.no_grad()
def growth(case: Case) -> int:
    """By how many bytes memory grew, at its peak, while the case was scored."""
    asked = ask(case)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier cases left is no room for this one
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = status("VmRSS")
    copied = 0
    for place, _, decided in asked.decisions(1, "scoring"):
        copied += int(decided.in_top_k.sum()) if place == 0 else 0
    assert copied > case.n_pairs / 10, "a head that copies is among them"
    return status("VmHWM") - before


if __name__ == "__main__":
    topk.MEMORY = batches.MEMORY = int(sys.argv[1])  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    growth(Case(n_pairs=1000))  # what is loaded and set up once
    print(json.dumps([growth(Case(**sizes)) for sizes in json.loads(sys.argv[2])]))
