"""What the processes of one training say to each other; alone, everything is itself.

Axes: B rows, K columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def count() -> int:
    """How many processes train together; 1 when there is no process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gathered(x_bk: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks: (B, K) -> (count * B, K), with gradient to each.

    Every process must bring as many rows.
    """
    if count() == 1:
        return x_bk
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(x_bk))


def summed(x: Tensor) -> Tensor:
    """The sum over all processes, of any shape, without gradient."""
    if count() > 1:
        x = x.clone()
        distributed.all_reduce(x)
    return x
