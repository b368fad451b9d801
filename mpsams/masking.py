"""Masks over patches: every strategy is an order of the patches and a ratio at which it is cut.

Axes: B batch, L patches. In masks True = hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mpsams import distributed


def order(lesion_bl: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw the order in which patches get hidden: bool (B, L) -> int64 (B, L), a permutation per row.

    Lesion patches first, then background (paper 2.1); inside each cluster the order is random, drawn
    from ``generator``. With no lesion patch at all it is the random order of MAE.
    """
    key_bl = distributed.uniform(*lesion_bl.shape, generator=generator, device=lesion_bl.device).to(
        lesion_bl.device, non_blocking=True
    )
    return torch.argsort(key_bl + (~lesion_bl.bool()).float(), dim=1, stable=True)


def random_order(batch: int, length: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw a uniformly random order for each of ``batch`` images: int64 (batch, length)."""
    return order(torch.zeros(batch, length, dtype=torch.bool), generator)


def hidden_count(length: int, ratio: float) -> int:
    """Return the number of hidden patches, n = floor(length * ratio) (paper 2.2); ratio is clamped to [0, 1]."""
    if math.isnan(ratio):
        raise ValueError("mask ratio is not a number; it must lie in [0, 1]")
    return math.floor(length * min(1.0, max(0.0, ratio)))


def cut(order_bl: Tensor, ratio: float) -> Tensor:
    """Hide the first floor(L * ratio) patches of each order: int64 (B, L) -> bool (B, L), True = hidden.

    The same order cut at a larger ratio hides a superset.
    """
    return hide_first(order_bl, hidden_count(order_bl.shape[1], ratio))


def hide_first(order_bl: Tensor, count: int) -> Tensor:
    """Hide the first ``count`` patches of each order: int64 (B, L) -> bool (B, L), True = hidden."""
    mask_bl = torch.zeros_like(order_bl, dtype=torch.bool)
    return mask_bl.scatter_(1, order_bl[:, :count], True)
