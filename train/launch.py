"""Train one network with the processes that torchrun starts; with a single process nothing changes.

Each process takes its rows of every batch, and DistributedDataParallel averages the gradients. With BatchNorm's
statistics over the whole batch (``train.batchnorm``), N processes compute what one would, but for rounding.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mpsams import distributed

# of a collective operation: the first process also writes files, draws pictures and validates
TIMEOUT = timedelta(minutes=30)
# in which Gloo's threads release their last tensors; they need Python's lock, which destroying the group holds
SHUTDOWN_SECONDS = 0.3
STORE_TIMEOUT = timedelta(seconds=5)  # for torchrun's store to answer
Result = TypeVar("Result")


def is_distributed() -> bool:
    """Return True when torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def is_restart() -> bool:
    """Return True when torchrun started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def local_rank() -> int:
    """Return the number of this process among those on the same machine, from 0; also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes that torchrun started; only the first of them prints.

    When a process fails, the others cannot go on: one of them raises ConnectionError, the rest exit without a message.
    When the failed process reported its own error, all others exit without a message.
    """
    if not is_distributed():
        yield
        return
    if torch.cuda.is_available() and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    store, rank, count = rendezvous()
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backends, store=store, rank=rank, world_size=count, timeout=TIMEOUT)
    try:
        with contextlib.ExitStack() as stack:
            if distributed.rank():
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            yield
    except Exception as error:
        first = count_earlier("ended") == 0  # counted before the others lose the connection
        if not is_connection_loss(error):
            raise
        if not first:
            raise SystemExit(1) from None
        raise ConnectionError("another process of this training has ended; this one cannot go on without it") from error
    finally:
        time.sleep(SHUTDOWN_SECONDS)
        dist.destroy_process_group()


def rendezvous() -> tuple[dist.Store, int, int]:
    """Return an empty store in which the processes find each other, this process's rank, and the world size.

    torchrun's own store keeps keys from before a restart, such as addresses of ended processes, and machines may have
    counted restarts differently. So the first process draws a new name and answers it to every process that asks, each
    under a key of its own.
    """
    store, rank, count = next(dist.rendezvous("env://", timeout=TIMEOUT))
    own, until = uuid.uuid4().hex, time.monotonic() + TIMEOUT.total_seconds()
    if rank:
        store.set(f"question/{rank}", own)
        name = store.get(f"answer/{own}").decode()  # waits for it
        store.add(f"{name}/heard", 1)
        return dist.PrefixStore(name, store), rank, count
    while store.add(f"{own}/heard", 0) < count - 1:
        for key in (f"question/{other}" for other in range(1, count)):
            if store.check([key]):
                store.set(f"answer/{store.get(key).decode()}", own)
        if time.monotonic() > until:
            raise TimeoutError(
                f"only {1 + store.add(f'{own}/heard', 0)} of {count} processes have come within {TIMEOUT}"
            )
        time.sleep(0.02)
    return dist.PrefixStore(own, store), rank, count


def is_connection_loss(error: Exception) -> bool:
    """Return True when an error means that another process has ended, not that something failed in this one."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def count_earlier(key: str) -> int:
    """Return how many processes called this with ``key`` since torchrun last started them; 0 without its store."""
    env = os.environ
    if env.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return 0
    with contextlib.suppress(RuntimeError):  # its machine may be the one that failed
        store = dist.TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False, timeout=STORE_TIMEOUT)
        return store.add(f"mpsams/{env['TORCHELASTIC_RESTART_COUNT']}/{key}", 1) - 1
    return 0


def data_parallel(module: nn.Module, has_unused: bool = False) -> nn.Module:
    """Wrap a module so that its gradients are averaged over all processes; a single process gets the module itself.

    has_unused: some parameters get no gradient in some steps.
    """
    if distributed.world_size() == 1:
        return module
    return DistributedDataParallel(
        module, forward_sync_buffers=False, find_unused_parameters=has_unused, gradient_as_bucket_view=True
    )


def no_sync(network: nn.Module) -> contextlib.AbstractContextManager:
    """Return a context in which gradients add up in each process; they are averaged in the next backward outside it."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else contextlib.nullcontext()


def sum_values(values: list[float]) -> list[float]:
    """Sum each number over all processes, on the CPU, so that no GPU has to finish first."""
    return distributed.all_reduce(torch.tensor(values, dtype=torch.float64)).tolist()


def gather_objects(value: object) -> list:
    """Return the values of all processes by rank, in the first process; an empty list in the others."""
    if distributed.world_size() == 1:
        return [value]
    values = [None] * distributed.world_size() if distributed.rank() == 0 else None
    dist.gather_object(value, values)
    return values or []


def call_on_first(function: Callable[[], Result]) -> Result:
    """Call ``function`` in the first process only; all processes return its result, or raise its ValueError, OSError or
    FloatingPointError.
    """
    if distributed.world_size() == 1:
        return function()
    result_or_error: list = [None, None]
    if distributed.rank() == 0:
        try:
            result_or_error[0] = function()
        except (ValueError, OSError, FloatingPointError) as error:
            result_or_error[1] = error
    dist.broadcast_object_list(result_or_error)
    result, failed = result_or_error
    if failed is not None:
        raise failed
    return result


def fail(message: str) -> None:
    """End this process with an error message; processes that fail with the same message print it once."""
    printed = is_distributed() and count_earlier(hashlib.sha256(message.encode()).hexdigest())
    sys.exit(1 if printed else message)
