"""Every answer that a forward pass decides, of tiny models: run as a script, written to files.

``python -m tests.answers_of_a_tiny_model STEM THREADS ...``, in an environment of
``tests.processors``, writes ``STEM-THREADS.npz`` for each number of threads.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file

from analysis.ablation.head_ablator import HeadAblator
from analysis.dynamic.one_prompt import top_logits_of_head
from analysis.dynamic.scores import dynamic_scores, head_z
from analysis.ioi.activations import run_prompts
from analysis.names import token_pairs
from analysis.prompts.few_shot import name_copying
from analysis.prompts.indirect_object import ioi_prompts
from analysis.prompts.templates import TEMPLATES, fill_template
from analysis.sweeps.trained_model import TrainingRun, train
from tests import checkpoints, ioi_models, planted
from tests.word_lists import MADE_UP_NAMES as NAMES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KINDS = ("gpt2", "gpt-neox", "llama")


@functools.cache
def models(kind: str) -> tuple[TransformerBridge, TransformerBridge]:
    """One whose heads are planted for names, and one for the indirect-object task."""
    tokenizer = checkpoints.make_tokenizer(NAMES)
    planted_model = planted.boot(planted.MAKERS[kind](len(tokenizer)), tokenizer)
    return planted_model, ioi_models.random_model(kind)


def answers(kind: str) -> dict[str, np.ndarray]:
    """By name: arrays of whole numbers must be the same everywhere, floats to 1e-12."""
    model, ioi_model = models(kind)
    found: dict[str, np.ndarray] = {}
    for k in (1, 20):
        scores = dynamic_scores(model, NAMES, k=k)
        found |= {f"top {k}": scores.in_top_k, f"bottom {k}": scores.in_bottom_k}
    z = head_z(model, fill_template(model, TEMPLATES[0], token_pairs(model, NAMES)))
    found["z"] = torch.stack(z["with"]).numpy()
    ranks = [
        top_logits_of_head(model, name, (layer, 1))["larger logits"].to_numpy()
        for name in NAMES[:2]
        for layer in range(3)
    ]
    found["ranks"] = np.array(ranks)
    ablator = HeadAblator(model, name_copying(model, NAMES))
    for mode in ("zero", "mean"):
        measured = ablator.measure([(), [(0, 1)], [(1, 1), (2, 0)]], mode)
        found |= {f"right {mode}": measured.right, f"likely {mode}": measured.log_probability}
    run = run_prompts(ioi_model, ioi_prompts(ioi_model, 20, names=ioi_models.NAMES))
    found["io_is_argmax"] = run.io_is_argmax.numpy()
    found |= {f"ioi {name}": vars(run)[name].numpy() for name in ("z", "attention", "io_logit")}
    return {f"{kind} {name}": array for name, array in found.items()}


def trained_answers(folder: Path) -> dict[str, np.ndarray]:
    """The bits of the weights of a model that is trained a little, before and after."""
    found: dict[str, np.ndarray] = {}
    for path in train(folder, TrainingRun(n_names=12, batch=16, steps=(0, 20))):
        weights = load_file(path / "model.safetensors")
        found |= {
            f"trained {path.name} {name}": weight.view(torch.int32).numpy()
            for name, weight in weights.items()
        }
    return found


def main(stem: str, *threads: str) -> None:
    """Compute every answer with each number of threads."""
    for n_threads in map(int, threads):
        torch.set_num_threads(n_threads)
        found = {"threads": np.array(torch.get_num_threads())}
        for kind in KINDS:
            found |= answers(kind)
        with tempfile.TemporaryDirectory() as folder:
            found |= trained_answers(Path(folder) / "trained")
        np.savez(f"{stem}-{n_threads}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
