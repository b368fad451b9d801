"""The cores that a computation takes: one each in a server, all for a whole volume, and the same probabilities."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Barrier, Thread
from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl
import torch

from mpsams import inference
from mpsams.app import main
from mpsams.datasets import phantom
from mpsams.inference import cores, open_case, volumes
from mpsams.inference.registry import ModelRegistry
from tests.support.server import ROOT


@pytest.fixture(autouse=True)
def restored():
    before = torch.get_num_threads()
    with threadpoolctl.threadpool_limits(user_api="blas"):
        yield
    torch.set_num_threads(before)


def threads_elsewhere() -> int:
    """The number of threads that PyTorch uses in a thread that begins now."""
    found: list[int] = []
    thread = Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_a_long_computation_takes_all_cores_and_leaves_the_others_one_each(monkeypatch):
    monkeypatch.setattr(cores, "AVAILABLE", 3)
    cores.limit_to_one_core()
    assert (torch.get_num_threads(), threads_elsewhere()) == (1, 1)
    with cores.all_cores():
        assert (torch.get_num_threads(), threads_elsewhere()) == (3, 1)
    assert (torch.get_num_threads(), threads_elsewhere()) == (1, 1)


def test_long_computations_side_by_side_never_change_the_number_of_others(monkeypatch):
    """Each begins in a thread that has computed nothing yet, as those of a server do; the number of the process stays
    one, also while another is about to begin or end.
    """
    monkeypatch.setattr(cores, "AVAILABLE", 3)
    cores.limit_to_one_core()
    set_number, meanwhile = torch.set_num_threads, []

    def set_and_look(number: int) -> None:
        set_number(number)
        meanwhile.append(threads_elsewhere())

    monkeypatch.setattr(torch, "set_num_threads", set_and_look)
    both_inside, seen = Barrier(2, timeout=60), []

    def compute() -> None:
        with cores.all_cores():
            both_inside.wait()
            seen.append((torch.get_num_threads(), threads_elsewhere()))
            both_inside.wait()
        seen.append((torch.get_num_threads(), threads_elsewhere()))

    threads = [Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(1, 1), (1, 1), (3, 1), (3, 1)] and set(meanwhile) <= {1} and threads_elsewhere() == 1


def test_without_a_server_the_number_is_as_before_afterwards(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(cores, "AVAILABLE", 3)
    with pytest.raises(ValueError, match="no mask"), cores.all_cores():
        assert (torch.get_num_threads(), threads_elsewhere()) == (3, 2)
        raise ValueError("no mask")
    assert (torch.get_num_threads(), threads_elsewhere()) == (2, 2)


def test_a_whole_volume_is_segmented_with_all_cores(monkeypatch):
    monkeypatch.setattr(cores, "AVAILABLE", 3)
    cores.limit_to_one_core()
    numbers = []

    def answer(network, unit_hw, box):
        numbers.append(torch.get_num_threads())
        return np.zeros((network.size, network.size), np.float32)

    monkeypatch.setattr(inference, "grid_probability", answer)
    case = open_case.open_volume(
        phantom.volumes()[0], open_case.clustering_options(ModelRegistry("nowhere").clustering("ct"))
    )
    network = SimpleNamespace(size=32, readout=SimpleNamespace(rule=None))
    for _, _ in volumes.segment(case, [network]):
        assert torch.get_num_threads() == 1
    assert set(numbers) == {3}


def test_the_server_limits_each_request_to_one_core(monkeypatch, tmp_path):
    torch.set_num_threads(2)
    threadpoolctl.threadpool_limits(2, user_api="blas")
    assert blas_threads() == {2}
    monkeypatch.setattr(main.listen, "listen", refuse)
    with pytest.raises(SystemExit):
        main.main(["--weights", str(tmp_path)])
    assert (torch.get_num_threads(), threads_elsewhere(), blas_threads()) == (1, 1, {1})


def test_a_process_that_the_app_starts_inherits_no_number_of_threads():
    code = "import os; import app; print(*(n for n in os.environ if 'THREADS' in n))"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def blas_threads() -> set[int]:
    """The numbers of threads that the libraries of linear algebra use."""
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


def refuse(host: str, port: int) -> None:
    raise ValueError("no port is free")
