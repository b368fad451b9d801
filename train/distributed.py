"""Several processes that train one network, as torchrun starts them; alone, everything is as it was.

Each process takes its rows of every batch; DistributedDataParallel averages the gradients. BatchNorm takes its
statistics over the whole batch (``synced``), so that N processes do what one would, but for rounding.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mpsams import ranks

PATIENCE = timedelta(minutes=30)  # for the others: the first process also writes, draws and validates


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
    """Inside, the processes that torchrun started know each other, and only the first prints."""
    if not started():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_index())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        with contextlib.ExitStack() as quiet:
            if ranks.index():
                quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(open(os.devnull, "w"))))
            yield
    finally:
        distributed.destroy_process_group()


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
        mean_c, square_c = (ranks.summed(torch.stack([mean_c, variance_c + mean_c.square()])) / ranks.count()).unbind()
        variance_c = square_c - mean_c.square()
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


def first_of_machine() -> bool:
    """Whether this process speaks for its machine."""
    return local_index() == 0


def fail(sentence: str) -> None:
    """End this process with a sentence, which all processes of a machine would say alike: only its first does."""
    sys.exit(sentence if first_of_machine() else 1)
