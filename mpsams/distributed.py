"""What the processes of one training say to each other; alone, everything is itself.

Axes: B rows, K columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


def count() -> int:
    """How many processes train together; 1 when there is no process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def index() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def uniform(batch: int, *shape: int, generator: torch.Generator | None = None, device: torch.device | None = None) -> Tensor:
    """Uniform numbers in [0, 1) for the ``batch`` rows that this process has of a batch: float (batch, *shape).

    All processes draw for all rows, from generators in the same state, and keep their own: together they draw what one
    process would.
    """
    whole = torch.rand(count() * batch, *shape, generator=generator, device=generator.device if generator else device)
    return whole[index() * batch : (index() + 1) * batch]


def share(indices: Tensor) -> Tensor:
    """This process's part of a batch's indices (N,). Every process gets as many: when they do not divide, the first count twice."""
    if count() == 1:
        return indices
    each = -(-len(indices) // count())
    return indices.repeat(count())[: each * count()].split(each)[index()]


def gathered(x_bk: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks: (B, K) -> (count * B, K), with gradient to each.

    Every process must bring as many rows.
    """
    return x_bk if count() == 1 else Gathered.apply(x_bk)


class Gathered(torch.autograd.Function):
    """See ``gathered``. PyTorch's own is deprecated, and remembers the first process group for ever."""

    @staticmethod
    def forward(context, x_bk: Tensor) -> Tensor:
        rows = [torch.empty_like(x_bk, memory_format=torch.contiguous_format) for _ in range(count())]
        distributed.all_gather(rows, x_bk.contiguous())
        return torch.cat(rows)

    @staticmethod
    @once_differentiable
    def backward(context, given_rk: Tensor) -> Tensor:
        return summed(given_rk.contiguous()).chunk(count())[index()]


def summed(x: Tensor) -> Tensor:
    """The sum over all processes, of any shape, without gradient."""
    if count() > 1:
        x = x.clone()
        distributed.all_reduce(x)
    return x
