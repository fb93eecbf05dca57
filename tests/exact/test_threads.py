"""Tasks spread over threads: their order, errors, the settings left, two callers at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from analysis.exact.arithmetic import full_float32
from analysis.exact.threads import map_tasks


@pytest.fixture(params=[1, 2, 5])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_tasks(n_threads: int) -> None:
    def wait(task: int) -> int:
        time.sleep(0.002 * (7 - task % 7))
        return task

    assert list(map_tasks(wait, range(20))) == list(range(20))
    assert list(map_tasks(wait, [])) == []


def test_torch_uses_one_thread_in_a_task_and_as_many_as_before_afterwards(n_threads: int) -> None:
    counts = list(map_tasks(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(9)))
    assert counts == [(1, False)] * 9
    assert torch.get_num_threads() == n_threads
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [n_threads], "a thread that the program starts later"


def test_an_error_ends_it_and_drops_what_has_not_begun(n_threads: int) -> None:
    begun = []

    def fail(task: int) -> None:
        begun.append(task)
        time.sleep(0.005)
        if task == 3:
            raise KeyError(task)

    with pytest.raises(KeyError):
        list(map_tasks(fail, range(1000)))
    assert len(begun) < 3 + 3 * n_threads + 1
    assert torch.get_num_threads() == n_threads


def test_no_more_is_done_than_is_taken(n_threads: int) -> None:
    begun: list[int] = []
    results = map_tasks(begun.append, range(1000))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 3 * n_threads + 1


MATMUL = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


@pytest.mark.parametrize("setting", ["bf16", "tf32", "ieee", "none"])
def test_float32_settings_come_back_when_the_last_of_two_threads_is_done(setting: str) -> None:
    """The second enters before the first leaves: what it found is not what it must restore."""
    before = MATMUL.fp32_precision
    MATMUL.fp32_precision = setting
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def first() -> None:
        with full_float32():
            first_in.set()
            second_in.wait(60)
        seen.append(MATMUL.fp32_precision)
        first_out.set()

    def second() -> None:
        first_in.wait(60)
        with full_float32():
            second_in.set()
            first_out.wait(60)
            seen.append(MATMUL.fp32_precision)

    threads = [threading.Thread(target=run) for run in (first, second)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == ["ieee", "ieee"]
        assert MATMUL.fp32_precision == setting
    finally:
        MATMUL.fp32_precision = before
