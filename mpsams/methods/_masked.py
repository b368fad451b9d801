"""Shared parts of the masked methods that keep only an encoder: hidden units, a head for pretraining alone, pictures.

Axes: B batch, C channels, L units, H x W pixels. In masks True = hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mpsams import masking, patches, transforms
from mpsams.methods import Batch
from mpsams.unet import LEVELS, UNet

STEP = 2 ** (LEVELS - 1)  # pixels of the image to one of the bottleneck


def hide(batch: Batch, unit: int, ratio: float) -> Tensor:
    """Hide ceil(L * ratio) units of ``unit`` pixels of each image, at random: bool (B, 1, H, W)."""
    size, _, height, width = batch.images_b1hw.shape
    rows, columns = patches.grid(height, width, unit)
    order_bl = masking.random_order(size, rows * columns, batch.generator).to(
        batch.images_b1hw.device, non_blocking=True
    )
    hidden_bl = masking.hide_first(order_bl, math.ceil(round(rows * columns * ratio, 9)))
    return patches.to_pixels(hidden_bl, unit, height, width)


def head(unet: UNet, hidden: int = 0) -> nn.Sequential:
    """Return layers from the bottleneck back to pixels: (B, 16 width, H / 16, W / 16) -> (B, C, H, W).

    One 1x1 convolution and a pixel shuffle; with ``hidden`` channels, two 3x3 convolutions before it.
    """
    inputs, layers = unet.head.in_channels * STEP, []
    if hidden:
        for channels in (inputs, hidden):
            layers += [
                nn.Conv2d(channels, hidden, 3, padding=1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(inplace=True),
            ]
        inputs = hidden
    return nn.Sequential(*layers, nn.Conv2d(inputs, unet.head.out_channels * STEP**2, 1), nn.PixelShuffle(STEP))


def fill_hidden(images_b1hw: Tensor, hidden_b1hw: Tensor, predicted_b1hw: Tensor) -> Tensor:
    """Return images in [0, 1] with hidden pixels replaced by the prediction, which is of the standardised image."""
    mean, deviation = transforms.moments(images_b1hw)
    return torch.where(hidden_b1hw, predicted_b1hw * deviation + mean, images_b1hw).clamp(0, 1)


def pictures(images_b1hw: Tensor, hidden_b1hw: Tensor, filled: Tensor) -> dict[str, Tensor]:
    """Return four pictures: the image, its visible part, the image with hidden pixels filled in, the error there."""
    return {
        "image": images_b1hw,
        "visible": images_b1hw.masked_fill(hidden_b1hw, 0.5),
        "reconstruction": filled,
        "error": (filled - images_b1hw).abs(),
    }
