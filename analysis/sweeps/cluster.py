"""The Dask cluster that a sweep runs on: one that is there already, or one of this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import ParameterError, first_line

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

MEMORY_PER_WORKER = 4 << 30
"""Bytes that a worker is thought to need, which decides how many a machine gets."""

_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""What each worker runs first: a Ctrl-C, which the terminal sends to all, is heard by the sweep."""


@contextmanager
def cluster_client(
    cluster: str | Path | None, n_workers: int | None, n_tasks: int
) -> Iterator[Client]:
    """A client of the cluster at an address or scheduler file, or of one here for the sweep.

    The one here has as many workers as there is room and work for, unless a number is given.
    """
    import dask
    from distributed import Client

    if cluster is not None:
        where = str(cluster)
        options = {"address": where} if "://" in where else {"scheduler_file": where}
        try:
            client = Client(**options)
        except Exception as error:  # an address that is none, nobody there, no scheduler's file
            raise ParameterError(
                f"the Dask cluster {where!r:.200} cannot be reached ({first_line(error)}): "
                "give the address or scheduler file of a running one."
            ) from error
        with client:
            yield client
        return
    processors = os.cpu_count() or 1
    if n_workers is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        n_workers = max(1, min(processors, memory // MEMORY_PER_WORKER, n_tasks))
    threads = str(max(1, processors // n_workers))
    settings = {
        "distributed.nanny.pre-spawn-environ": {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TQDM_DISABLE": "1",
        },
        "distributed.worker.daemon": False,
        "distributed.worker.preload": [_DEAF],
    }
    with dask.config.set(settings), _local_cluster(n_workers) as local, Client(local) as client:
        yield client


def _local_cluster(n_workers: int) -> LocalCluster:
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",  # a free port, which no other sweep takes
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        # Not "from error", which is long: a script that each process imports starts them anew.
        raise ParameterError(
            f"the processes of the sweep could not start ({first_line(error)}): in a script, call "
            'sweep under `if __name__ == "__main__":`.'
        ) from None
