"""Draw images with lesion, and those whose lesion is small or faint, more often than others.

Axes: N images, B images of a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams.datasets import Stack

CHUNK = 256  # images that are looked at once
BOUND = 4.0  # how many times as often as the usual lesion one is drawn at most, and how many times as seldom
RING = 1 / 16  # width of the ring around a lesion that it is compared with, as a share of the side
LEAST_CONTRAST = 0.05  # in deviations of the image


def weights(stack: Stack, balance: float, small: float, faint: float) -> Tensor | None:
    """Return the share of the draws that falls on each image, float64 (N,) that sum to 1; None where all are equal.

    balance: share of the draws that falls on images with lesion; 0 leaves it as it is in the data. small: 1 draws a
    lesion of half the median area twice as often, 0 as often. faint: likewise of half the median contrast to its
    surroundings.
    """
    if not (balance or small or faint):
        return None
    batches = (stack.take(indices) for indices in torch.arange(len(stack)).split(CHUNK))
    areas_n, contrasts_n = (torch.cat(values) for values in zip(*(_measure(*batch) for batch in batches), strict=True))
    lesion_n = areas_n > 0
    if not lesion_n.any() or lesion_n.all():
        balance = 0.0
    weights_n = torch.ones(len(stack), dtype=torch.float64)
    for values_n, power in ((areas_n, small), (contrasts_n.clamp(min=LEAST_CONTRAST), faint)):
        if power and lesion_n.any():
            weights_n[lesion_n] *= (values_n[lesion_n].median() / values_n[lesion_n]).double() ** power
    weights_n = weights_n.clamp(1 / BOUND, BOUND)
    share = balance or float(lesion_n.double().mean())
    for chosen_n, part in ((lesion_n, share), (~lesion_n, 1 - share)):
        weights_n[chosen_n] *= part / weights_n[chosen_n].sum().clamp(min=1e-12)
    return weights_n / weights_n.sum()


def _measure(images_bchw: Tensor, masks_b1hw: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lesion's area, a share of the image, and its contrast: each (B,), on the CPU; 0 without lesion."""
    return masks_b1hw.float().mean(dim=(1, 2, 3)).cpu(), contrast(images_bchw.float(), masks_b1hw).cpu()


def contrast(images_bchw: Tensor, masks_b1hw: Tensor) -> Tensor:
    """Return the difference of the means of the lesion and of a ring around it, in deviations of the image: (B,); 0
    where one is empty.

    Of several channels the largest counts.
    """
    reach = max(1, round(RING * images_bchw.shape[-1]))
    inside = masks_b1hw.float()
    ring = F.max_pool2d(inside, 2 * reach + 1, 1, reach) - inside

    def mean(where_b1hw: Tensor) -> Tensor:
        return (images_bchw * where_b1hw).sum(dim=(2, 3)) / where_b1hw.sum(dim=(2, 3)).clamp(min=1)

    deviation_bc = images_bchw.flatten(2).std(dim=2, correction=0).clamp(min=1e-6)
    both_b = (inside.sum(dim=(1, 2, 3)) > 0) & (ring.sum(dim=(1, 2, 3)) > 0)
    return torch.where(both_b, ((mean(inside) - mean(ring)) / deviation_bc).abs().amax(dim=1), 0.0)


def draw(weights_n: Tensor, generator: torch.Generator) -> Tensor:
    """Draw N image numbers in random order, each as often as its weight, rounded at random, says: int64 (N,)."""
    count = len(weights_n)
    points_n = (
        torch.arange(count, dtype=torch.float64) + torch.rand((), generator=generator, dtype=torch.float64)
    ) / count
    found_n = torch.searchsorted(weights_n.cumsum(0), points_n).clamp(max=count - 1)
    return found_n[torch.randperm(count, generator=generator)]
