"""The number of the processor's cores that one computation takes. No gradio here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

AVAILABLE = torch.get_num_threads()  # all cores, unless the environment (OMP_NUM_THREADS) says otherwise


def limit_to_one_core() -> None:
    """Let PyTorch, NumPy and SciPy compute with one core in each thread of this process; only within ``all_cores``
    PyTorch takes more.

    For a server that answers several requests side by side: threads of several teams wait for one another, which takes
    more of the processor than the work. The last bit of a probability depends on the number of threads, so it is the
    same whether others are there or not.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")


@contextmanager
def all_cores() -> Iterator[None]:
    """Let PyTorch compute with all cores in this thread alone, for work that takes long: whole volumes."""
    torch.get_num_threads()  # at its first call in a thread PyTorch sets the number there, which would undo the limit
    with _openmp().limit(limits=AVAILABLE):
        yield


@cache
def _openmp() -> ThreadpoolController:
    """Return the OpenMP libraries of this process; finding them takes milliseconds, as long as a small slice."""
    return ThreadpoolController().select(user_api="openmp")
