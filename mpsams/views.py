"""Random views of grey images for the contrastive methods: crop, flip, brightness and contrast, blur, solarise.

Axes: B batch, H x W pixels, S side of a view. Drawing and applying are two functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import distributed

# deviation of the blur as a share of the side (SimCLR, appendix A: 0.1 to 2 pixels of 224)
BLUR = (0.1 / 224, 2.0 / 224)


@dataclass(frozen=True)
class ViewOptions:
    """Limits of the random changes that make a view of an image.

    smallest, largest: share of the image's area that is kept. aspect: sides of the crop differ up to this factor.
    flip: probability of a left-right flip. jitter: probability of another brightness and contrast, by ``strength`` to
    either side. blur, solarise: probability of each.
    """

    smallest: float = 0.2
    largest: float = 1.0
    aspect: float = 4 / 3
    flip: float = 0.5
    jitter: float = 0.8
    strength: float = 0.4
    blur: float = 0.5
    solarise: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.smallest <= self.largest <= 1 and self.aspect >= 1):
            raise ValueError(
                f"crops from {self.smallest} to {self.largest} must lie in (0, 1] in order, aspect {self.aspect} be at"
                " least 1"
            )
        for name in ("flip", "jitter", "strength", "blur", "solarise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} must lie in [0, 1]")


@dataclass(frozen=True)
class ViewParameters:
    """Parameters of one view per image: affine_b23 for ``grid_sample``; factors, shares and bools, each (B,)."""

    affine_b23: Tensor
    brightness_b: Tensor
    contrast_b: Tensor
    blur_b: Tensor
    solarise_b: Tensor


def draw(batch: int, options: ViewOptions, generator: torch.Generator) -> ViewParameters:
    """Draw a view of each of ``batch`` images from ``generator``."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * distributed.uniform(batch, generator=generator)

    def happens(probability: float) -> Tensor:
        return distributed.uniform(batch, generator=generator) < probability

    side_b = uniform(options.smallest, options.largest).sqrt()
    # no further than the image
    stretch_b = uniform(-1, 1).mul(0.5 * math.log(options.aspect)).exp().clamp(side_b, 1 / side_b)
    height_b, width_b = side_b * stretch_b, side_b / stretch_b
    top_b, left_b = (1 - height_b) * uniform(-1, 1), (1 - width_b) * uniform(-1, 1)
    mirror_b = torch.where(happens(options.flip), -1.0, 1.0)
    zero_b = torch.zeros(batch)
    affine_b23 = torch.stack([mirror_b * width_b, zero_b, left_b, zero_b, height_b, top_b], dim=1).reshape(batch, 2, 3)
    jitter_b = happens(options.jitter)
    brightness_b, contrast_b = (
        torch.where(jitter_b, uniform(1 - options.strength, 1 + options.strength), 1.0) for _ in range(2)
    )
    blur_b = torch.where(happens(options.blur), uniform(*BLUR), 0.0)
    return ViewParameters(affine_b23, brightness_b, contrast_b, blur_b, happens(options.solarise))


def apply(x_b1hw: Tensor, parameters: ViewParameters, side: int) -> Tensor:
    """Make the views: (B, 1, H, W) in [0, 1] -> (B, 1, side, side) in [0, 1]."""
    grid = F.affine_grid(
        parameters.affine_b23.to(x_b1hw, non_blocking=True), [len(x_b1hw), 1, side, side], align_corners=False
    )
    x_b1ss = F.grid_sample(x_b1hw, grid, mode="bilinear", padding_mode="border", align_corners=False)
    brightness, contrast, solarise = (
        value.to(x_b1ss.device, non_blocking=True).reshape(-1, 1, 1, 1)
        for value in (parameters.brightness_b, parameters.contrast_b, parameters.solarise_b)
    )
    x_b1ss = (x_b1ss * brightness).clamp(0, 1)
    mean = x_b1ss.mean(dim=(1, 2, 3), keepdim=True)
    x_b1ss = ((x_b1ss - mean) * contrast + mean).clamp(0, 1)
    x_b1ss = gaussian_blur(x_b1ss, parameters.blur_b * side)
    return torch.where(solarise & (x_b1ss >= 0.5), 1 - x_b1ss, x_b1ss)


def gaussian_blur(x_b1hw: Tensor, deviation_b: Tensor) -> Tensor:
    """Blur each image by its own Gaussian of ``deviation_b`` pixels; 0 leaves it as it is. Edges repeat."""
    reach = math.ceil(3 * float(deviation_b.max()))  # before it goes to a GPU, which need not be waited for
    if reach == 0:
        return x_b1hw
    deviation_b = deviation_b.to(x_b1hw, non_blocking=True)
    at_r = torch.arange(-reach, reach + 1, device=x_b1hw.device, dtype=x_b1hw.dtype)
    kernel_br = torch.exp(-0.5 * (at_r / deviation_b.clamp(min=1e-3)[:, None]) ** 2)
    kernel_br = kernel_br / kernel_br.sum(dim=1, keepdim=True)
    x_1bhw = F.pad(x_b1hw.transpose(0, 1), (reach,) * 4, mode="replicate")
    x_1bhw = F.conv2d(x_1bhw, kernel_br[:, None, :, None], groups=len(x_b1hw))
    return F.conv2d(x_1bhw, kernel_br[:, None, None, :], groups=len(x_b1hw)).transpose(0, 1)
