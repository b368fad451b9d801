"""BYOL (Grill et al., NeurIPS 2020): from one view, predict the embedding that a slowly following copy gives another.

Axes: B batch, D features, H x W pixels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from mpsams import losses, schedule, views
from mpsams.methods import Batch, _views
from mpsams.unet import UNet

DEVIATIONS = (
    "Moving average from 0.99 (the paper: 0.996 for its long runs). Hidden layers have 64 times the U-Net's width"
    " (4096). BatchNorm takes its statistics over both views together instead of each."
)


@dataclass(frozen=True)
class Config:
    """Views, projector and target network.

    Args:
        tau: decay of the target network's moving average in the first step, rising to 1 (0.99 for a few hundred epochs,
            0.996 for long runs).
        hidden: hidden features of projector and predictor; 0 is 64 times the width of the U-Net, which is 4096 at the
            width of the paper.
        projection: features of the projection.
        smallest: smallest share of the image's area that a view keeps.
        strength: largest change of brightness and contrast to either side.
        blur: probability that the first view is blurred; for the second, a tenth of it.
        solarise: probability that bright parts of the second view are inverted.
    """

    tau: float = 0.99
    hidden: int = 0
    projection: int = 256
    smallest: float = 0.08
    strength: float = 0.4
    blur: float = 1.0
    solarise: float = 0.2

    def __post_init__(self) -> None:
        views.ViewOptions(smallest=self.smallest, strength=self.strength, blur=self.blur, solarise=self.solarise)
        if not (0 <= self.tau <= 1 and self.hidden >= 0 and self.projection >= 1):
            raise ValueError(
                f"tau {self.tau} must lie in [0, 1], hidden {self.hidden} be at least 0 and projection"
                f" {self.projection} at least 1"
            )


class BYOL(_views.Contrastive):
    """The U-Net's encoder with projector and predictor (online), and a moving average of the first two (target).

    Both views pass together, so BatchNorm takes its statistics over both (the original: over each view).
    """

    variant = "byol"

    def __init__(self, config: Config, unet: UNet) -> None:
        first = views.ViewOptions(smallest=config.smallest, strength=config.strength, blur=config.blur)
        second = views.ViewOptions(
            smallest=config.smallest, strength=config.strength, blur=config.blur / 10, solarise=config.solarise
        )
        super().__init__(unet, (first, second))
        self.tau = config.tau
        hidden = config.hidden or 64 * unet.head.in_channels
        self.projector = _views.perceptron([_views.features(unet), hidden, config.projection])
        self.predictor = _views.perceptron([config.projection, hidden, config.projection])
        self.target_encoder, self.target_projector = map(copy.deepcopy, (unet.encoder, self.projector))
        for parameter in self.target_parameters():
            parameter.requires_grad_(False)

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        both_v1hw = torch.cat([_views.normalised_view(batch, options) for options in self.view_options])
        online_vd = self.projector(_views.embed(self.unet.encoder, both_v1hw))
        with torch.no_grad():
            target_vd = self.target_projector(_views.embed(self.target_encoder, both_v1hw))  # type: ignore[arg-type]
        self.remember(*online_vd.chunk(2))
        crossed_vd = target_vd.roll(len(batch.images_b1hw), dims=0)  # each view's prediction meets the other view
        # the sum over both directions
        return 2 * (2 + 2 * losses.negative_cosine(self.predictor(online_vd), crossed_vd))

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Let the target follow by 1 - tau, which falls to 0 along half a cosine."""
        tau = schedule.cosine_rise(self.tau, progress)
        online = [*self.unet.encoder.parameters(), *self.projector.parameters()]
        for mine, its in zip(self.target_parameters(), online, strict=True):
            mine.lerp_(its, 1 - tau)

    def target_parameters(self) -> list[Tensor]:
        """Return the target's parameters in the order of the online network's."""
        return [*self.target_encoder.parameters(), *self.target_projector.parameters()]


def build(config: Config, unet: UNet, epochs: int) -> BYOL:
    """Return BYOL around ``unet``; every epoch is alike, only the target follows ever more slowly."""
    return BYOL(config, unet)
