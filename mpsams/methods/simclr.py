"""SimCLR (Chen et al., ICML 2020): two views of an image must find each other among those of other images.

Axes: B batch, D features, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpsams import losses, views
from mpsams.methods import Batch, _views
from mpsams.unet import UNet

DEVIATIONS = (
    "Temperature 0.5, for small batches (the paper: 0.1 on ImageNet). Views keep at least 20% of the image (0.08), with"
    " brightness and contrast changed by up to 0.4 (0.8)."
)


@dataclass(frozen=True)
class Config:
    """Views and their comparison.

    Args:
        temperature: temperature of the cosine similarity; 0.5 suits small batches (0.1 at ImageNet's scale).
        projection: features of the projection.
        smallest: smallest share of the image's area that a view keeps.
        strength: largest change of brightness and contrast to either side.
        blur: probability that a view is blurred.
    """

    temperature: float = 0.5
    projection: int = 128
    smallest: float = 0.2
    strength: float = 0.4
    blur: float = 0.5

    def __post_init__(self) -> None:
        views.ViewOptions(smallest=self.smallest, strength=self.strength, blur=self.blur)
        if not (self.temperature > 0 and self.projection >= 1):
            raise ValueError(
                f"temperature {self.temperature} must be positive and projection {self.projection} at least 1"
            )


class SimCLR(_views.Contrastive):
    """The U-Net's encoder with a projector on the average of the bottleneck."""

    variant = "simclr"

    def __init__(self, config: Config, unet: UNet) -> None:
        options = views.ViewOptions(smallest=config.smallest, strength=config.strength, blur=config.blur)
        super().__init__(unet, (options, options))
        self.temperature = config.temperature
        size = _views.features(unet)
        self.projector = _views.perceptron([size, size, config.projection], normalised_end=True)

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        both_v1hw = torch.cat([_views.normalised_view(batch, options) for options in self.view_options])
        a_bd, b_bd = self.projector(_views.embed(self.unet.encoder, both_v1hw)).chunk(2)
        self.remember(a_bd, b_bd)
        return losses.nt_xent(a_bd, b_bd, self.temperature)


def build(config: Config, unet: UNet, epochs: int) -> SimCLR:
    """Return SimCLR around ``unet``; every epoch is alike."""
    return SimCLR(config, unet)
