"""Several processes that train one network, as torchrun starts them; alone, everything is as it was.

Each process takes its rows of every batch; DistributedDataParallel averages the gradients. BatchNorm takes its
statistics over the whole batch (``synced``), so that N processes do what one would, but for rounding.
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
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mpsams import distributed as ranks

PATIENCE = timedelta(minutes=30)  # for the others: the first process also writes, draws and validates
QUIET = 0.3  # seconds in which Gloo's threads let go of their last tensors: they need Python's lock, which destroying the group holds
SOON = timedelta(seconds=5)  # in which torchrun's store answers, or is gone
Found = TypeVar("Found")


def started() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def restarted() -> bool:
    """Whether torchrun started it again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def local_index() -> int:
    """Which of this machine's processes this is, from 0; also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that torchrun started know each other, and only the first prints.

    When one of them fails, the others cannot go on: ConnectionError in one of them, the rest end without a word; neither
    when the one that failed says why.
    """
    if not started():
        yield
        return
    if torch.cuda.is_available() and local_index() < torch.cuda.device_count():
        torch.cuda.set_device(local_index())
    store, rank, count = meeting()
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backends, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        with contextlib.ExitStack() as quiet:
            if ranks.index():
                quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(open(os.devnull, "w"))))
            yield
    except Exception as error:
        first = earlier("ended") == 0  # said before the others lose the connection
        if not is_lost(error):
            raise
        if not first:
            raise SystemExit(1) from None
        raise ConnectionError("another process of this training has ended; this one cannot go on without it") from error
    finally:
        time.sleep(QUIET)
        distributed.destroy_process_group()


def meeting() -> tuple[distributed.Store, int, int]:
    """An empty store for the processes to find each other, this one's number and how many there are.

    torchrun's own store keeps what was said before a restart, such as addresses of processes that are gone, and machines may
    have counted restarts differently. So the first process makes up a name for this time and tells it to each that asks,
    under a question that nobody else has asked.
    """
    store, rank, count = next(distributed.rendezvous("env://", timeout=PATIENCE))
    own, until = uuid.uuid4().hex, time.monotonic() + PATIENCE.total_seconds()
    if rank:
        store.set(f"question/{rank}", own)
        name = store.get(f"answer/{own}").decode()  # waits for it
        store.add(f"{name}/heard", 1)
        return distributed.PrefixStore(name, store), rank, count
    while store.add(f"{own}/heard", 0) < count - 1:
        for key in (f"question/{other}" for other in range(1, count)):
            if store.check([key]):
                store.set(f"answer/{store.get(key).decode()}", own)
        if time.monotonic() > until:
            raise TimeoutError(f"only {1 + store.add(f'{own}/heard', 0)} of {count} processes have come within {PATIENCE}")
        time.sleep(0.02)
    return distributed.PrefixStore(own, store), rank, count


def is_lost(error: Exception) -> bool:
    """Whether an error says that another process is gone, rather than what went wrong in this one."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def earlier(key: str) -> int:
    """How many processes have asked for ``key`` before, since torchrun last started them; 0 where it keeps no store."""
    told = os.environ
    if told.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return 0
    with contextlib.suppress(RuntimeError):  # its machine may be the one that is gone
        store = distributed.TCPStore(told["MASTER_ADDR"], int(told["MASTER_PORT"]), is_master=False, timeout=SOON)
        return store.add(f"mpsams/{told['TORCHELASTIC_RESTART_COUNT']}/{key}", 1) - 1
    return 0


def parallel(module: nn.Module, idle: bool = False) -> nn.Module:
    """The module, such that its gradients become those of the whole batch; itself when there is one process.

    idle: some parameters get no gradient in some steps.
    """
    if ranks.count() == 1:
        return module
    return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=idle, gradient_as_bucket_view=True)


def unsynced(network: nn.Module) -> contextlib.AbstractContextManager:
    """Inside, gradients only add up in each process, to be averaged after the next backward outside."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else contextlib.nullcontext()


def summed(values: list[float]) -> list[float]:
    """The sum of each number over all processes; through the CPU, so that no GPU is waited for."""
    return ranks.summed(torch.tensor(values, dtype=torch.float64)).tolist()


def of_all(value: object) -> list:
    """What each process brings, in order, in the first process; elsewhere an empty list."""
    if ranks.count() == 1:
        return [value]
    found = [None] * ranks.count() if ranks.index() == 0 else None
    distributed.gather_object(value, found)
    return found or []


def of_first(find: Callable[[], Found]) -> Found:
    """What ``find`` returns in the first process, or what it raises there when that is a refusal; in all processes alike."""
    if ranks.count() == 1:
        return find()
    told: list = [None, None]
    if ranks.index() == 0:
        try:
            told[0] = find()
        except (ValueError, OSError, FloatingPointError) as error:
            told[1] = error
    distributed.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    return told[0]


def wait() -> None:
    """Until all processes are here."""
    if ranks.count() > 1:
        summed([0.0])


def synced(module: nn.Module) -> nn.Module:
    """Let every BatchNorm below ``module`` take its statistics over the rows of all processes; the same module when alone.

    On GPUs PyTorch's SyncBatchNorm does it, which has no CPU version.
    """
    if ranks.count() == 1:
        return module
    if next(module.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for each in module.modules():
        for name, child in each.named_children():
            if isinstance(child, _BatchNorm):
                setattr(each, name, SyncedBatchNorm.like(child))
    return module


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm over the rows of all processes, which must bring as many; for CPUs."""

    @classmethod
    def like(cls, norm: _BatchNorm) -> SyncedBatchNorm:
        """One with the parameters and statistics of ``norm``."""
        made = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        made.weight, made.bias = norm.weight, norm.bias
        made.running_mean, made.running_var, made.num_batches_tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
        return made.train(norm.training)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"BatchNorm needs rows of channels, got {tuple(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        self.num_batches_tracked.add_(1)
        y, mean_c, variance_c = Normalised.apply(x, self.weight, self.bias, self.eps)
        count = ranks.count() * x.numel() // x.shape[1]
        self.running_mean.lerp_(mean_c, self.momentum)
        self.running_var.lerp_(variance_c * count / max(count - 1, 1), self.momentum)
        return y


class Normalised(torch.autograd.Function):
    """(B, C, ...) at mean 0 and variance 1 of each channel over all processes, then scaled and shifted; with those statistics."""

    @staticmethod
    def forward(context, x: Tensor, weight_c: Tensor, bias_c: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean_c, variance_c = torch.batch_norm_update_stats(x, None, None, 0.0)
        mean_c, variance_c = mean_c.double(), variance_c.double()  # or a small variance about a large mean would be lost
        mean_c, square_c = (ranks.summed(torch.stack([mean_c, variance_c + mean_c.square()])) / ranks.count()).unbind()
        mean_c, variance_c = mean_c.float(), (square_c - mean_c.square()).clamp(min=0).float()
        context.save_for_backward(x, weight_c, mean_c, variance_c)
        context.eps = eps
        context.mark_non_differentiable(mean_c, variance_c)
        return F.batch_norm(x, mean_c, variance_c, weight_c, bias_c, False, 0.0, eps), mean_c, variance_c

    @staticmethod
    @once_differentiable
    def backward(context, given: Tensor, *_) -> tuple[Tensor, Tensor, Tensor, None]:
        """The batch's mean and variance depend on x too: two sums over all rows correct the gradient for that."""
        x, weight_c, mean_c, variance_c = context.saved_tensors
        nothing, wanted = torch.empty(0), [True, True, True]
        direct, by_weight_c, by_bias_c = torch.ops.aten.native_batch_norm_backward(
            given, x, weight_c, mean_c, variance_c, nothing, nothing, False, context.eps, wanted
        )
        count = ranks.count() * x.numel() // x.shape[1]
        all_by_weight_c, all_by_bias_c = (ranks.summed(torch.stack([by_weight_c, by_bias_c])) / count).unbind()
        inverse_c = (variance_c + context.eps).rsqrt()
        slope_c = weight_c * inverse_c.square() * all_by_weight_c
        shift_c = weight_c * inverse_c * all_by_bias_c - slope_c * mean_c
        shape = (1, -1, *[1] * (x.ndim - 2))
        direct -= torch.addcmul(shift_c.view(shape), slope_c.view(shape), x)
        return direct, by_weight_c, by_bias_c, None


def fail(sentence: str) -> None:
    """End this process with a sentence, which is said once when several processes would say the same."""
    said = started() and earlier(hashlib.sha256(sentence.encode()).hexdigest())
    sys.exit(1 if said else sentence)
