"""Pretraining by predicting a map of where lesions may be: the geodesic selector teaches (ours).

The paper hides the patches that a selector chooses. Here the U-Net learns, without labels, to predict the selector's
map of each image, alone or together with masked reconstruction.

Axes: B batch, C channels, L patches, H x W pixels, I x J cells of a map. In masks True = hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpsams import clusters, losses, masking, patches, schedule, transforms
from mpsams.methods import Batch, Method
from mpsams.selectors.geodesic import distance_map
from mpsams.transforms import Augmentation
from mpsams.unet import UNet

TARGETS = ("geodesic", "centre", "truth")
CELLS = 32  # of a map, to a side


@dataclass(frozen=True)
class Config:
    """The map that is predicted, and whether hidden patches are reconstructed too.

    Args:
        target: map to predict: "geodesic" is the map of the geodesic selector; for comparison only, "centre" is the
            closeness to the image's centre and "truth" the masks of the training images.
        reconstruct: weight of the masked reconstruction that is trained beside the map; 0 trains the map alone.
        start: share of patches hidden at epoch 1, if reconstruct is above 0.
        tau: divisor of that share's growth: start + ln(epoch) / tau.
        horizon: epoch of the paper's schedule that the last epoch of the run corresponds to (800); 0 does not rescale
            epochs.
        patch: side of a hidden patch in pixels; must divide the image.
        augment: random changes of the images.
    """

    target: str = "geodesic"
    reconstruct: float = 0.0
    start: float = 0.25
    tau: float = 12.0
    horizon: int = schedule.HORIZON
    patch: int = 16
    augment: Augmentation = Augmentation(
        flip=0.5, rotation=15, zoom=0.2, shift=0.08, contrast=0.2, brightness=0.1, gamma=0.3
    )

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target {self.target!r} must be one of {', '.join(TARGETS)}")
        if not (self.reconstruct >= 0 and self.tau > 0 and self.patch >= 1 and self.horizon >= 0):
            raise ValueError(
                f"reconstruct {self.reconstruct} and horizon {self.horizon} must be at least 0, tau {self.tau}"
                f" positive, patch {self.patch} at least 1"
            )


class MapPrediction(Method):
    """A U-Net with a head that predicts a map of each image, and one that fills in hidden patches."""

    transfers = ("encoder", "decoder")

    def __init__(self, config: Config, unet: UNet, epochs: int) -> None:
        super().__init__(unet)
        self.config, self.epochs = config, epochs
        self.variant = (
            config.target + ("" if config.target == "geodesic" else "_map") + ("_mps_ams" if config.reconstruct else "")
        )
        self.map_head = nn.Conv2d(unet.head.in_channels, 1, 1)
        self.idle = not config.reconstruct  # the U-Net's own head learns nothing then

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        images_bchw, target_b1hw = self.augment(batch)
        x_bchw = transforms.standardise(images_bchw)
        if not self.config.reconstruct:
            return F.binary_cross_entropy_with_logits(self.map_head(self.features(x_bchw)), target_b1hw)
        hidden_b1hw = self.hide(target_b1hw, epoch, batch.generator)
        features_bkhw = self.features(x_bchw.masked_fill(hidden_b1hw, 0.0))
        loss = F.binary_cross_entropy_with_logits(self.map_head(features_bkhw), target_b1hw)
        return loss + self.config.reconstruct * losses.masked_mse(self.unet.head(features_bkhw), x_bchw, hidden_b1hw)

    def features(self, x_bchw: Tensor) -> Tensor:
        """Return the decoder's last level: (B, C, H, W) -> float32 (B, width, H, W)."""
        return self.unet.decoder(self.unet.encoder(x_bchw)).float()

    def augment(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the images and their maps at the images' size in [0, 1], both changed alike at random."""
        map_bij = (
            self.precompute_mask(batch.images_b1hw)
            if batch.precomputed_mask_brc is None
            else batch.precomputed_mask_brc
        )
        map_b1hw = F.interpolate(
            map_bij[:, None].float() / 255, batch.images_b1hw.shape[2:], mode="bilinear", align_corners=False
        )
        changes = transforms.draw(len(map_b1hw), self.config.augment, batch.generator)
        images_bchw = transforms.apply_intensity(transforms.apply_geometry(batch.images_b1hw, changes), changes)
        return images_bchw, transforms.apply_geometry(map_b1hw, changes).clamp(0, 1)

    def hide(self, target_b1hw: Tensor, epoch: float, generator: torch.Generator) -> Tensor:
        """Hide patches, high map values first, at the adaptive ratio (paper 2.2): bool (B, 1, H, W), True = hidden."""
        lesion_bl = clusters.split_numbers(F.avg_pool2d(target_b1hw, self.config.patch).flatten(1)).lesion_bl
        hidden_bl = masking.cut(masking.order(lesion_bl, generator), self.ratio(epoch))
        return patches.to_pixels(hidden_bl, self.config.patch, *target_b1hw.shape[2:])

    def ratio(self, epoch: float) -> float:
        """Return the share of patches hidden at an epoch of this run, in [0, 1]."""
        paper_epoch = schedule.rescale(epoch, self.epochs, self.config.horizon) if self.config.horizon else epoch
        return schedule.mask_ratio(paper_epoch, self.config.start, self.config.tau)

    def precompute_mask(self, images_b1hw: Tensor, truth_b1hw: Tensor | None = None) -> Tensor:
        """Return the maps to predict: uint8 (B, I, J), 255 = most like lesion. ValueError for "truth" without one."""
        if self.config.target == "geodesic":
            map_b1ij = distance_map(images_b1hw, CELLS, CELLS)
        elif self.config.target == "centre":
            away = torch.linspace(-1, 1, CELLS, device=images_b1hw.device).square()
            map_b1ij = (1 - ((away[:, None] + away) / 2).sqrt()).expand(len(images_b1hw), 1, CELLS, CELLS)
        elif truth_b1hw is None:
            raise ValueError('target "truth" needs the masks of the images')
        else:
            map_b1ij = F.adaptive_avg_pool2d(truth_b1hw.float(), CELLS)
        most_b111 = map_b1ij.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        return (255 * map_b1ij / most_b111).round().to(torch.uint8)[:, 0]

    def epoch_metrics(self, epoch: float) -> dict[str, float]:
        return {"ratio": self.ratio(epoch)} if self.config.reconstruct else {}

    @torch.no_grad()
    def preview(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Return changed images, the maps to predict and the maps as predicted."""
        images_bchw, target_b1hw = self.augment(batch)
        predicted_b1hw = torch.sigmoid(self.map_head(self.features(transforms.standardise(images_bchw))))
        return {"image": images_bchw[:, :1], "map": target_b1hw, "predicted": predicted_b1hw}


def build(config: Config, unet: UNet, epochs: int) -> MapPrediction:
    """Return the map prediction around ``unet`` for a run of ``epochs`` epochs."""
    return MapPrediction(config, unet, epochs)
