"""Settings of the environment that make this machine's processor compute as others do.

Torch, MKL and oneDNN choose their code by the processor's instructions, and sums are split among
threads. Each of these settings rounds differently in its last digits, as another machine would.
"""

from __future__ import annotations

import os

import torch

_BASELINE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
_AVX512 = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
_NAMES = {*_BASELINE, "MKL_CBWR", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY"}


def settings() -> dict[str, dict[str, str]]:
    """By name, the variables of each setting that this machine can compute with."""
    found = {
        "oldest instructions, one thread": _BASELINE | _threads(1),
        "oldest instructions, two threads": _BASELINE | _threads(2),
    }
    best = torch.backends.cpu.get_cpu_capability()
    if best in ("AVX2", "AVX512"):
        found["AVX2, one thread"] = _AVX2 | _threads(1)
        found["AVX2, two threads"] = _AVX2 | _threads(2)
    if best == "AVX512":  # where the processor lacks it, torch would crash
        found["AVX-512, one thread"] = _AVX512 | _threads(1)
    found["as it is, MKL's compatible branch"] = {"MKL_CBWR": "COMPATIBLE"} | _threads(2)
    return found


def environment(setting: dict[str, str]) -> dict[str, str]:
    """The environment of this process with one setting, and nothing left of others."""
    kept = {name: value for name, value in os.environ.items() if name not in _NAMES}
    return kept | setting


def _threads(n: int) -> dict[str, str]:
    """Threads that sleep while they wait; beside other work the rest take five times as long."""
    return {"OMP_NUM_THREADS": str(n), "MKL_NUM_THREADS": str(n), "OMP_WAIT_POLICY": "PASSIVE"}
