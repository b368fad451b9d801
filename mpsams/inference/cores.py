"""The number of the processor's cores that one computation takes. No gradio here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import torch

AVAILABLE = torch.get_num_threads()  # all cores, unless the environment (OMP_NUM_THREADS) says otherwise


def use_one_each() -> None:
    """Let PyTorch compute with one core in each thread of this process, but within ``use_all``.

    For a server that answers several requests side by side: threads of several teams wait for one another, which takes
    more of the processor than the work. The last bit of a probability depends on the number of threads, so it is the
    same whether others are there or not.
    """
    torch.set_num_threads(1)


@contextmanager
def use_all() -> Iterator[None]:
    """Let PyTorch compute with all cores in this thread alone, for work that takes long: whole volumes."""
    before = torch.get_num_threads()
    torch.set_num_threads(AVAILABLE)  # also of the threads that begin later, which another thread takes back
    other = Thread(target=torch.set_num_threads, args=(before,))
    other.start()
    other.join()
    try:
        yield
    finally:
        torch.set_num_threads(before)
