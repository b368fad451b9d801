"""MAE (He et al., CVPR 2022) on the U-Net's encoder: fill in 75% of the patches through a light decoder that is thrown
away.

Axes: B batch, H x W pixels. In masks True = hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpsams import losses, patches, transforms
from mpsams.methods import Batch, Method, _masked
from mpsams.unet import UNet

DEVIATIONS = (
    "Images are only mirrored (the paper: crops of 20% to 100%, mirrored). Hidden patches are zeros in the image that"
    " the encoder sees, instead of left out; the decoder is three convolutions and a pixel shuffle instead of eight"
    " transformer blocks."
)


@dataclass(frozen=True)
class Config:
    """Masking and decoder.

    Args:
        patch: side of a patch in pixels; must divide the image.
        ratio: share of patches hidden, rounded up.
        hidden: channels of the light decoder; 0 is 4 times the U-Net's width.
    """

    patch: int = 16
    ratio: float = 0.75
    hidden: int = 0

    def __post_init__(self) -> None:
        if not (self.patch >= 1 and 0 < self.ratio <= 1 and self.hidden >= 0):
            raise ValueError(
                f"patch {self.patch} must be at least 1, ratio {self.ratio} lie in (0, 1], hidden {self.hidden} be at"
                " least 0"
            )


class MAE(Method):
    """The encoder sees the image with hidden patches at zero; the target is each patch at mean 0 and deviation 1."""

    variant = "mae"

    def __init__(self, config: Config, unet: UNet) -> None:
        super().__init__(unet)
        self.config = config
        self.decoder = _masked.head(unet, config.hidden or 4 * unet.head.in_channels)

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        hidden_b1hw = _masked.hide(batch, self.config.patch, self.config.ratio)
        x_b1hw = transforms.standardise(batch.images_b1hw)
        mean, deviation = patches.moments(x_b1hw, self.config.patch)
        return losses.masked_mse(self.predict(x_b1hw, hidden_b1hw), (x_b1hw - mean) / deviation, hidden_b1hw)

    def predict(self, x_b1hw: Tensor, hidden_b1hw: Tensor) -> Tensor:
        """Predict all patches, each at mean 0 and deviation 1, from those that are not hidden."""
        return self.decoder(self.unet.encoder(x_b1hw.masked_fill(hidden_b1hw, 0.0))[-1].float())

    @torch.no_grad()
    def preview(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Return the pictures of ``_masked.pictures``; each patch's own mean and deviation are given back to it."""
        hidden_b1hw = _masked.hide(batch, self.config.patch, self.config.ratio)
        x_b1hw = transforms.standardise(batch.images_b1hw)
        mean, deviation = patches.moments(x_b1hw, self.config.patch)
        filled = _masked.fill_hidden(
            batch.images_b1hw, hidden_b1hw, self.predict(x_b1hw, hidden_b1hw) * deviation + mean
        )
        return _masked.pictures(batch.images_b1hw, hidden_b1hw, filled)


def build(config: Config, unet: UNet, epochs: int) -> MAE:
    """Return MAE around ``unet``; every epoch is alike."""
    return MAE(config, unet)
