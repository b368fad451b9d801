"""Collective operations over the processes of one training; with a single process each returns its input.

Axes: B rows, K columns.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def world_size() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def uniform(
    batch: int, *shape: int, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Draw uniform numbers in [0, 1) for this process's ``batch`` rows of a batch: float (batch, *shape).

    All processes draw for all rows, from generators in the same state, and keep their own: together they draw what one
    process would.
    """
    whole = torch.rand(
        world_size() * batch, *shape, generator=generator, device=generator.device if generator else device
    )
    return whole[rank() * batch : (rank() + 1) * batch]


def shard(indices: Tensor) -> Tensor:
    """Return this process's part of a batch's indices (N,).

    All parts are of one length; when N does not divide, the first indices count twice.
    """
    if world_size() == 1:
        return indices
    each = -(-len(indices) // world_size())
    return indices.repeat(world_size())[: each * world_size()].split(each)[rank()]


def all_gather(x_bk: Tensor) -> Tensor:
    """Concatenate the rows of all processes by rank, with gradient to each: (B, K) -> (world_size * B, K).

    Every process must pass the same number of rows.
    """
    return x_bk if world_size() == 1 else AllGather.apply(x_bk)


class AllGather(torch.autograd.Function):
    """``all_gather`` with its gradient. PyTorch's own is deprecated, and keeps the first process group for ever."""

    @staticmethod
    def forward(context, x_bk: Tensor) -> Tensor:
        rows = [torch.empty_like(x_bk, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(rows, x_bk.contiguous())
        return torch.cat(rows)

    @staticmethod
    @once_differentiable
    def backward(context, grad_rk: Tensor) -> Tensor:
        return all_reduce(grad_rk.contiguous()).chunk(world_size())[rank()]


def all_reduce(x: Tensor) -> Tensor:
    """Return the sum of ``x`` (any shape) over all processes, without gradient."""
    if world_size() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x
