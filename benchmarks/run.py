"""The scorer against plain torch, in one process on the same threads.

``make bench`` writes ``benchmarks/results.md``. Both sides alternate after a warm-up, so that a
ratio compares runs under the same conditions. The baselines are timed on a few heads spread over
the model and scaled to all of them, because all would take hours; their counts must equal the
scorer's. The scorer is timed with what it keeps from call to call for one model, as ``score_heads``
is used.
"""

from __future__ import annotations

import statistics
import sys
from functools import partial

import torch
from cases import Case, random_case, seconds, smollm2, spread
from memory import measure
from sections import RESULTS, markdown, write_section
from tqdm.auto import tqdm

from analysis.exact.arithmetic import full_float32


def peak_rate() -> float:
    """Multiply-adds a second of a large float32 product on these threads, in units of 1e9."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    a @ b
    return 2048**3 / min(seconds(lambda: a @ b)[0] for _ in range(5)) / 1e9


def compare(case: Case, k: int, n_sampled: int, repeats: int) -> dict[str, object]:
    """Time the scorer and both baselines alternately, and hold their counts together."""
    sample = spread(case, n_sampled)
    rows = [(i, h) for i, layer in enumerate(case.layers) for h in range(len(layer))]
    scale = case.n_heads / len(sample)
    times: dict[str, list[float]] = {"factored": [], "plain": [], "scorer": []}
    for name in ("factored", "plain"):
        case.baseline(name, sample[:1], k)
    _, (ours, share) = seconds(lambda: case.exact(k))
    for _ in range(repeats):
        for name in ("factored", "plain"):
            took, counts = seconds(partial(case.baseline, name, sample, k))
            times[name].append(took * scale)
            for head, count in zip(sample, counts, strict=True):
                mine = ours[rows.index(head)]
                # The baselines round to float32, so that a near tie may fall either way.
                if any(abs(a - b) > 2 for a, b in zip(mine, count, strict=True)):
                    raise RuntimeError(f"{name} loop, head {head}: {count}, the scorer: {mine}")
        times["scorer"].append(seconds(lambda: case.exact(k))[0])
    row: dict[str, object] = {"model": case.model, "pairs": case.pairs, "k": k}
    for name in ("factored", "plain"):
        ratios = [a / b for a, b in zip(times[name], times["scorer"], strict=True)]
        row[f"times faster than the {name} loop (median)"] = round(statistics.median(ratios))
        row[f"least ({name})"] = round(min(ratios))
    return row | {
        "share of the dense product": f"{share:.2%}",
        "scorer, s": round(statistics.median(times["scorer"]), 2),
        "factored loop, s (scaled)": round(statistics.median(times["factored"])),
        "plain loop, s (scaled)": round(statistics.median(times["plain"])),
    }


def compare_ranks(case: Case, repeats: int = 5) -> str:
    """A sentence: what ranks up to 100 cost, against a pass for k = 10."""
    case.exact(100, ranks=True)
    ratios = []
    for _ in range(repeats):
        plain = seconds(lambda: case.exact(10))[0]
        ratios.append(seconds(lambda: case.exact(100, ranks=True))[0] / plain)
    return (
        f"Exact ranks up to 100 from both ends take {statistics.median(ratios):.2f} times as long "
        f"as a pass for k = 10 (at most {max(ratios):.2f} in {repeats} runs)."
    )


def memory_table() -> str:
    """What scoring takes beside the loaded model, measured from another process."""
    rows = []
    for which in ("names", "ranks", "vocabulary"):
        measured = measure(which)
        if measured is None:
            return "(Measured on Linux alone.)"
        before, above = measured
        rows.append(
            {
                "scored": which,
                "process before, GiB": f"{before:.2f}",
                "peak above that, GiB": f"{above:.2f}",
            }
        )
    return markdown(rows)


def main() -> None:
    """Run every comparison and write the tables; ``short`` prints all but the vocabulary's row."""
    rate = peak_rate()
    rows, short = [], "short" in sys.argv[1:]
    cases = [
        (smollm2, (1, 10), 6, 5),
        (lambda: smollm2("names", 99), (1, 10), 6, 5),
        (random_case, (1, 10), 6, 3),
        (lambda: smollm2("vocabulary"), (1,), 2, 1),
    ]
    with full_float32(), torch.no_grad():
        for make, ks, n_sampled, repeats in tqdm(cases[: 3 if short else 4], desc="cases"):
            case = make()
            rows += [compare(case, k, n_sampled, repeats) for k in ks]
        ranks = compare_ranks(smollm2())
    if short:  # the table is of all
        print(f"{markdown(rows)}\n\n{ranks}")
        return
    write_section(
        "The scorer against plain torch",
        f"{markdown(rows)}\n\n{ranks}\n\n{memory_table()}\n\n"
        f"{torch.get_num_threads()} threads, {rate:.0f} thousand million multiply-adds a second at "
        "best in float32 (2048 × 2048 product). Memory is SmolLM2-135M's, read by another process. "
        "Loops are timed on a few heads and scaled to all; the scorer after a first call, which "
        "leaves it what depends on the model alone. Made by `make bench`; ratios hold better from "
        "machine to machine than seconds do.",
    )
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
