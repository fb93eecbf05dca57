"""What holds while a model is built."""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
import threading
from typing import TYPE_CHECKING

import torch

from analysis.architecture.model_parts import NoDraws
from analysis.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

_ONE = threading.RLock()


@contextlib.contextmanager
def building_a_model() -> Iterator[None]:
    """One model at a time, no random weights, torch's own as they were, no search for garbage.

    transformers and transformer_lens change settings of the whole process while they build (default
    dtype, initialisation), and draw random weights that are replaced at once. The libraries' and
    the model's hundreds of thousands of objects stay: to look through them for garbage again and
    again as they are made took a fifth of the time. Afterwards they count as old, so that the next
    two searches, of what is young, pass them by.
    """
    with _ONE:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        collects = gc.isenabled()
        gc.disable()
        try:
            with NoDraws(), torch.random.fork_rng(devices=devices):
                yield
        finally:
            if collects:
                if gc.get_freeze_count() == 0:  # nobody else has frozen any
                    gc.freeze()
                    gc.unfreeze()  # to the oldest generation
                gc.enable()


def load_libraries() -> None:
    """Import transformers and transformer_lens, said at once: the first time it takes seconds."""
    if "transformer_lens.model_bridge" in sys.modules:
        return
    with progress_bar(1, "loading transformer_lens", "library", delay=0) as bar:
        import transformer_lens.model_bridge  # noqa: F401

        bar.update()
    # Else Python, as it ends, looks through all of their objects for garbage: a second.
    atexit.register(gc.freeze)
