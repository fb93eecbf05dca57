"""The processes of a sweep: started or refused with a reason, and beside another's."""

from __future__ import annotations

import signal
import warnings

import pytest

from analysis import ParameterError
from analysis.sweeps.cluster import cluster_client


def test_a_script_without_its_guard_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_starts(**_: object) -> None:
        raise RuntimeError("Nanny failed to start.")  # as Dask says when a script starts itself

    monkeypatch.setattr("distributed.LocalCluster", none_starts)
    with (
        pytest.raises(ParameterError, match=r"could not start \(.*if __name__ == .__main__.:"),
        cluster_client(None, 1, 1),
    ):
        pytest.fail("started")


@pytest.mark.slow
def test_the_processes_of_a_sweep_leave_ctrl_c_to_it() -> None:
    """A terminal sends it to all of them."""
    with cluster_client(None, 1, 1) as client:
        (handler,) = client.run(signal.getsignal, signal.SIGINT).values()
    assert handler == signal.SIG_IGN


@pytest.mark.slow
def test_two_sweeps_at_a_time_do_not_take_each_others_port() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Port")
        with cluster_client(None, 1, 1) as one, cluster_client(None, 1, 1) as other:
            links = {one.dashboard_link, other.dashboard_link}
    assert len(links) == 2 and all("//127.0.0.1:" in link for link in links)
