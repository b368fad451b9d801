"""The cores that a computation takes: one each in a server, all for a whole volume, and the same probabilities."""

from __future__ import annotations

from threading import Thread

import pytest
import torch

from mpsams.inference import cores


@pytest.fixture(autouse=True)
def restored():
    before = torch.get_num_threads()
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
    cores.use_one_each()
    assert (torch.get_num_threads(), threads_elsewhere()) == (1, 1)
    with cores.use_all():
        assert (torch.get_num_threads(), threads_elsewhere()) == (3, 1)
    assert (torch.get_num_threads(), threads_elsewhere()) == (1, 1)


def test_without_a_server_nothing_changes():
    before = torch.get_num_threads()
    with cores.use_all():
        assert torch.get_num_threads() == cores.AVAILABLE
    assert (torch.get_num_threads(), threads_elsewhere()) == (before, before)
