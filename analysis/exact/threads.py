"""Work spread over Python threads, each with torch's own threads at one.

torch splits every product over its threads and waits for the slowest. With thousands of small
products that is a great deal of waiting, and on a busy machine nearly nothing else. Here each
thread takes whole tasks (a few heads, a block of the vocabulary), so that cores add up and none
waits for another before the end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def map_tasks(do: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
    """``do(task)`` for each task, in the order of the tasks, on as many threads as torch may use.

    The results do not depend on the number of threads, for torch computes each task on one. No
    more than two results to a thread wait to be taken. The caller's own thread count is left as it
    is, also where several threads of a program do this at once.

    Args:
        do: runs in a thread without gradients; must not change what other tasks read.
        tasks: heads, groups of heads, blocks of tokens or prompts.

    Raises:
        Exception: whatever ``do`` raises; tasks that have not begun are dropped.
    """
    n_threads = min(torch.get_num_threads(), len(tasks))
    if n_threads <= 1:
        before = torch.get_num_threads()
        for task in tasks:
            torch.set_num_threads(1)
            try:
                result = _without_gradients(do, task)
            finally:
                torch.set_num_threads(before)
            yield result
        return
    with _pool(n_threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                if len(waiting) == 2 * n_threads:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(_without_gradients, do, task))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Threads in each of which torch computes on one thread."""
    caller = torch.get_num_threads()
    ready = threading.Barrier(n_threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first question sets its count to the program's
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(n_threads, "heads", begin)
    for _ in range(n_threads):
        pool.submit(int)
    ready.wait()
    # The count is each thread's own, but the last one set is what later threads of the program
    # start with.
    torch.set_num_threads(caller)
    return pool


def _without_gradients(do: Callable[[T], R], task: T) -> R:
    with torch.no_grad():
        return do(task)
