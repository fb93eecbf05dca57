"""Compare the notebooks' outputs with the committed ones as other processors would compute them.

``python -m tests.portable [notebook or folder ...]`` runs nbval once for each setting of
``tests.processors``, all against one set of outputs, and ends with 1 if any run differs. Outputs
are compared as they are, with no tolerance: a score that is off by one name is a difference.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.processors import environment, settings

ROOT = Path(__file__).parents[1]
PACKAGED = {
    "HF_ENDPOINT": "https://huggingface.co",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_CACHE": str(ROOT / "build" / "no-hub"),
    "TQDM_DISABLE": "1",
    "NAME_HEADS_FIGURES": str(ROOT / "build" / "figures"),
    "NAME_HEADS_STILL": "1",
}
"""With these, notebooks run on the packaged model, whatever is in reach; as in the Makefile."""


def compare(
    notebooks: Sequence[str], setting: Mapping[str, str], options: Sequence[str] = ()
) -> int:
    """Run the notebooks under one setting; pytest's exit code, 0 where nothing differs.

    One notebook for each core, also where each uses two threads: threads that sleep while they
    wait (``tests.processors``) share cores well, and what a thread computes is the same.
    """
    n_cores = os.cpu_count() or 1
    workers = ["-n", str(n_cores), "--dist", "loadfile"] if n_cores > 1 else []
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", *workers, *options]
    variables = environment(dict(setting)) | PACKAGED
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run([*command, *notebooks], cwd=ROOT, env=variables, check=False).returncode


def main(notebooks: Sequence[str]) -> int:
    """Run the notebooks under every setting; 0 where nothing differs in any."""
    failed = []
    found = settings()
    for number, (name, setting) in enumerate(found.items(), 1):
        print(f"[{number}/{len(found)}] {name}", flush=True)
        if compare(notebooks or ["notebooks"], setting):
            failed.append(name)
    print(
        f"The outputs differ under {len(failed)} of {len(found)} settings: {'; '.join(failed)}."
        if failed
        else f"The outputs are the same under all {len(found)} settings."
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
