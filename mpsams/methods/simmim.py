"""SimMIM (Xie et al., CVPR 2022) on the U-Net's encoder: a learnable token hides 60%, one layer fills it in, error L1.

Axes: B batch, C channels, H x W pixels, U side of a unit. In masks True = hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpsams import losses, transforms
from mpsams.methods import Batch, Method, _masked
from mpsams.unet import UNet

DEVIATIONS = (
    "Images are only mirrored (the paper: crops of 67% to 100%, mirrored). The learnable token is a pattern of pixels,"
    " instead of an embedding of a patch."
)


@dataclass(frozen=True)
class Config:
    """Masking.

    Args:
        patch: side in pixels of the unit that is hidden whole; must divide the image.
        ratio: share of units hidden, rounded up.
    """

    patch: int = 32
    ratio: float = 0.6

    def __post_init__(self) -> None:
        if not (self.patch >= 1 and 0 < self.ratio <= 1):
            raise ValueError(f"patch {self.patch} must be at least 1 and ratio {self.ratio} lie in (0, 1]")


class SimMIM(Method):
    """A hidden unit shows a learnable pattern of pixels: a U-Net has no embedding of patches to put a token into."""

    variant = "simmim"

    def __init__(self, config: Config, unet: UNet) -> None:
        super().__init__(unet)
        self.config = config
        self.token_1cuu = nn.Parameter(0.02 * torch.randn(1, unet.head.out_channels, config.patch, config.patch))
        self.layer = _masked.head(unet)

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        hidden_b1hw = _masked.hide(batch, self.config.patch, self.config.ratio)
        x_b1hw = transforms.standardise(batch.images_b1hw)
        return losses.masked_l1(self.predict(x_b1hw, hidden_b1hw), x_b1hw, hidden_b1hw)

    def predict(self, x_b1hw: Tensor, hidden_b1hw: Tensor) -> Tensor:
        """Predict all pixels from those that are not hidden."""
        rows, columns = (side // self.config.patch for side in x_b1hw.shape[2:])
        token_1chw = self.token_1cuu.tile(1, 1, rows, columns)
        return self.layer(self.unet.encoder(torch.where(hidden_b1hw, token_1chw, x_b1hw))[-1].float())

    @torch.no_grad()
    def preview(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Return the pictures of ``_masked.pictures``."""
        hidden_b1hw = _masked.hide(batch, self.config.patch, self.config.ratio)
        predicted = self.predict(transforms.standardise(batch.images_b1hw), hidden_b1hw)
        return _masked.pictures(
            batch.images_b1hw, hidden_b1hw, _masked.fill_hidden(batch.images_b1hw, hidden_b1hw, predicted)
        )


def build(config: Config, unet: UNet, epochs: int) -> SimMIM:
    """Return SimMIM around ``unet``; every epoch is alike."""
    return SimMIM(config, unet)
