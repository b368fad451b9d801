"""BatchNorm whose statistics are those of the rows of all training processes.

Axes: B rows, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mpsams import distributed


def sync_batchnorm(module: nn.Module) -> nn.Module:
    """Make every BatchNorm inside ``module`` compute its statistics over the rows of all processes; a single process
    gets it unchanged.

    On GPUs this is PyTorch's SyncBatchNorm, which has no CPU version.
    """
    if distributed.world_size() == 1:
        return module
    if next(module.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for each in module.modules():
        for name, child in each.named_children():
            if isinstance(child, _BatchNorm):
                setattr(each, name, SyncedBatchNorm.from_norm(child))
    return module


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm over the rows of all processes, each of which must pass the same number; for CPUs."""

    @classmethod
    def from_norm(cls, norm: _BatchNorm) -> SyncedBatchNorm:
        """Return a layer with the parameters and statistics of ``norm``."""
        synced = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        synced.weight, synced.bias = norm.weight, norm.bias
        synced.running_mean, synced.running_var, synced.num_batches_tracked = (
            norm.running_mean,
            norm.running_var,
            norm.num_batches_tracked,
        )
        return synced.train(norm.training)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"BatchNorm needs rows of channels, got {tuple(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        y, mean_c, variance_c = NormaliseOverProcesses.apply(x, self.weight, self.bias, self.eps)
        count = distributed.world_size() * x.numel() // x.shape[1]
        self.running_mean.lerp_(mean_c, self.momentum)  # type: ignore[arg-type, union-attr]
        self.running_var.lerp_(variance_c * count / max(count - 1, 1), self.momentum)  # type: ignore[arg-type, union-attr]
        return y


class NormaliseOverProcesses(torch.autograd.Function):
    """Standardise (B, C, ...) per channel over all processes, scale and shift; return mean and variance too."""

    @staticmethod
    def forward(context, x: Tensor, weight_c: Tensor, bias_c: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean_c, variance_c = torch.batch_norm_update_stats(x, None, None, 0.0)
        # or a small variance about a large mean would be lost
        mean_c, variance_c = mean_c.double(), variance_c.double()
        mean_c, square_c = (
            distributed.all_reduce(torch.stack([mean_c, variance_c + mean_c.square()])) / distributed.world_size()
        ).unbind()
        mean_c, variance_c = mean_c.float(), (square_c - mean_c.square()).clamp(min=0).float()
        context.save_for_backward(x, weight_c, mean_c, variance_c)
        context.eps = eps
        context.mark_non_differentiable(mean_c, variance_c)
        return F.batch_norm(x, mean_c, variance_c, weight_c, bias_c, False, 0.0, eps), mean_c, variance_c

    @staticmethod
    @once_differentiable
    def backward(context, grad: Tensor, *_) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients; the batch's mean and variance depend on x too, hence two sums over all rows."""
        x, weight_c, mean_c, variance_c = context.saved_tensors
        nothing, wanted = torch.empty(0), [True, True, True]
        direct, by_weight_c, by_bias_c = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight_c, mean_c, variance_c, nothing, nothing, False, context.eps, wanted
        )
        count = distributed.world_size() * x.numel() // x.shape[1]
        all_by_weight_c, all_by_bias_c = (
            distributed.all_reduce(torch.stack([by_weight_c, by_bias_c])) / count
        ).unbind()
        inverse_c = (variance_c + context.eps).rsqrt()
        slope_c = weight_c * inverse_c.square() * all_by_weight_c
        shift_c = weight_c * inverse_c * all_by_bias_c - slope_c * mean_c
        shape = (1, -1, *[1] * (x.ndim - 2))
        direct -= torch.addcmul(shift_c.view(shape), slope_c.view(shape), x)
        return direct, by_weight_c, by_bias_c, None
