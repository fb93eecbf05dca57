"""The scorer against the plain loop, in one process on the same threads.

``make bench`` writes ``benchmarks/results.md`` and the curves in ``figures/``. Both sides alternate
after a warm-up. The plain loop is timed on a few heads spread over the model and scaled to all of
them, because all would take hours; its counts must equal the scorer's.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from plain_loop import plain_counts
from tqdm.auto import tqdm

from analysis import load_model, load_names
from analysis.embeddings import effective_embedding
from analysis.exact.arithmetic import full_float32
from analysis.exact.head_logits import OV
from analysis.exact.topk import decide_heads, layer_heads
from analysis.exact.vocabulary import Vocabulary
from analysis.weights import embedding_matrix, output_weights, unembedding_matrix, value_weights

RESULTS = Path(__file__).with_name("results.md")
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """One model and one list of pairs."""

    model: str
    pairs: str
    x_first: torch.Tensor
    x_later: torch.Tensor
    targets: torch.Tensor
    layers: Sequence[Sequence[OV]]
    W_U: torch.Tensor

    @property
    def n_heads(self) -> int:
        """Heads in all layers."""
        return sum(len(layer) for layer in self.layers)

    def plain(self, layer: int, head: int, k: int) -> tuple[int, int]:
        """The plain loop's counts for one head."""
        x = (self.x_first if layer == 0 else self.x_later).float()
        ov = self.layers[layer][head]
        return plain_counts(x, self.targets, ov.W_V, ov.W_O, self.W_U, k)

    def exact(self, k: int) -> tuple[list[tuple[int, int]], float]:
        """The scorer's counts for all heads, and its share of the dense product."""
        vocabulary = Vocabulary(self.W_U)
        heads = [ov for layer in self.layers[1:] for ov in layer]
        decided = list(decide_heads(self.x_first, self.targets, self.layers[0], vocabulary, k))
        decided += decide_heads(self.x_later, self.targets, heads, vocabulary, k)
        work = sum(d.multiply_adds for d in decided)
        dense = self.n_heads * len(self.targets) * self.W_U.numel()
        return [(int(d.in_top_k.sum()), int(d.in_bottom_k.sum())) for d in decided], work / dense


def seconds(do: Callable[[], object]) -> tuple[float, object]:
    """How long it took, and what it gave."""
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def smollm2(whole_vocabulary: bool) -> Case:
    """The packaged model with its names, or with every token."""
    model = load_model("smollm2-135m")
    names = load_names(model)
    d_vocab = embedding_matrix(model).shape[0]
    tokens = torch.arange(d_vocab) if whole_vocabulary else torch.tensor(names.source_tokens)
    layers = [
        layer_heads(value_weights(model, i), output_weights(model, i))
        for i in range(model.cfg.n_layers)
    ]
    return Case(
        model="SmolLM2-135M",
        pairs=f"{'every token' if whole_vocabulary else 'names'} ({len(tokens):,})",
        x_first=effective_embedding(model, tokens, "embedding"),
        x_later=effective_embedding(model, tokens, "mlp"),
        targets=tokens,
        layers=layers,
        W_U=unembedding_matrix(model),
    )


def gpt2_shape(n_pairs: int = 1000, seed: int = 0) -> Case:
    """Random weights of GPT-2 small's shape: 12 × 12 heads, d_model 768, 50,257 tokens."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.02

    W_E = normal(50_257, 768)
    tokens = torch.randperm(50_257, generator=generator)[:n_pairs]
    x = W_E[tokens].double()
    layers = [layer_heads(normal(12, 768, 64), normal(12, 64, 768)) for _ in range(12)]
    pairs = f"{n_pairs:,} random tokens"
    return Case("GPT-2 small's shape, random weights", pairs, x, x, tokens, layers, W_E.T)


def peak_rate() -> float:
    """Multiply-adds a second of a large float32 product on these threads, in units of 1e9."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    a @ b
    return 2048**3 / min(seconds(lambda: a @ b)[0] for _ in range(5)) / 1e9


def forget_peak() -> None:
    """Let the process's peak memory begin anew, where the system can."""
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5", encoding="utf-8")


def peak_gib() -> float:
    """The process's peak memory since ``forget_peak``, elsewhere since its start."""
    if STATUS.exists():
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def spread(rows: Sequence[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """A few heads, evenly over the model."""
    return list(rows[len(rows) // (2 * n) :: max(1, len(rows) // n)][:n])


def compare(case: Case, k: int, n_plain: int, repeats: int) -> dict[str, object]:
    """Time both sides alternately and hold their counts together."""
    rows = [(i, h) for i, layer in enumerate(case.layers) for h in range(len(layer))]
    sample = spread(rows, n_plain)
    case.plain(*sample[0], k)
    plain, exact = [], []
    share = memory = 0.0
    for _ in range(repeats):
        took, counts = seconds(lambda: [case.plain(layer, head, k) for layer, head in sample])
        plain.append(took / len(sample) * case.n_heads)
        forget_peak()
        took, (ours, share) = seconds(lambda: case.exact(k))
        exact.append(took)
        memory = max(memory, peak_gib())
        for head, count in zip(sample, counts, strict=True):
            # The plain loop rounds to float32, so a near tie may fall either way.
            assert all(
                abs(a - b) <= 2 for a, b in zip(ours[rows.index(head)], count, strict=True)
            ), (head, ours[rows.index(head)], count)
    ratios = [p / e for p, e in zip(plain, exact, strict=True)]
    return {
        "model": case.model,
        "pairs": case.pairs,
        "k": k,
        "times faster (median)": round(statistics.median(ratios)),
        "least": round(min(ratios)),
        "share of the dense product": f"{share:.2%}",
        "process at its peak while scoring, GiB": f"{memory:.1f}",
        "scorer, s": round(statistics.median(exact), 1),
        "plain loop, s (scaled)": round(statistics.median(plain)),
    }


def markdown(rows: Sequence[dict[str, object]]) -> str:
    """Rows as a table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(map(str, row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Run every comparison and write the table."""
    rate = peak_rate()
    rows = []
    with full_float32(), torch.no_grad(), tqdm(total=5, desc="comparisons") as bar:
        for make in (lambda: smollm2(False), gpt2_shape, lambda: smollm2(True)):
            case = make()
            whole = len(case.targets) == case.W_U.shape[1]
            for k in (1,) if whole else (1, 10):
                rows.append(compare(case, k, *((2, 1) if whole else (6, 3))))
                bar.update()
    table = markdown(rows)
    RESULTS.write_text(
        f"# The scorer against the plain loop\n\n{table}\n\n"
        f"{torch.get_num_threads()} threads, {rate:.0f} thousand million multiply-adds a second at "
        "best in float32 (2048 × 2048 product). The process holds the model, its weights as arrays "
        "and the plain loop's leavings beside what scoring takes. "
        "Made by `make bench`; ratios hold better from machine to machine than seconds do.\n"
    )
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
