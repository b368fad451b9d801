"""The masked autoencoder of the paper: base, base+AMS, base+MPS and MPS-AMS by configuration.

Axes: B batch, L patches, H x W pixels. In masks True = hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpsams import clusters, losses, masking, patches, schedule, transforms
from mpsams.methods import Batch, Method, _masked
from mpsams.unet import UNet

ORDERS = ("lesion-first", "random", "truth-first")
RATIOS = ("adaptive", "fixed")
VARIANTS = {
    ("random", "fixed"): "base",
    ("random", "adaptive"): "base_ams",
    ("lesion-first", "fixed"): "base_mps",
    ("lesion-first", "adaptive"): "mps_ams",
    ("truth-first", "fixed"): "base_oracle",
    ("truth-first", "adaptive"): "oracle_ams",
}


@dataclass(frozen=True)
class Config:
    """Selection and masking of patches, and the target of the reconstruction; the defaults are the paper's.

    Args:
        order: "lesion-first" is masked patches selection (MPS, paper 2.1), "random" is MAE's; "truth-first" uses the
            masks of the training images: not a method, but an upper bound for any selection.
        ratio: "adaptive" is the adaptive masking strategy (AMS, paper 2.2), "fixed" hides a constant share.
        fixed_ratio: share of patches hidden when ratio is "fixed" (paper 3.3: 0.75).
        start: adaptive ratio at epoch 1.
        tau: divisor of the adaptive ratio's growth: start + ln(epoch) / tau.
        horizon: epoch of the paper's schedule that the last epoch of the run corresponds to (800); 0 does not rescale
            epochs.
        patch: side of a patch in pixels; must divide the image.
        selector: method that chooses lesion patches: the paper's "covariance after a softmax", read as
            "covariance-of-softmax" or "softmax-of-covariance", or our own "geodesic" distance.
        normalise: images to cluster: "standardised" or "raw".
        temperature: temperature of the similarity's softmax.
        similarity: measure of the similarity between patches: "inner-product", "cosine" or "distance" (not for
            "softmax-of-covariance").
        normalise_target: reconstruct each patch at mean 0 and deviation 1 (as MAE) instead of the image's pixels.
    """

    order: str = "lesion-first"
    ratio: str = "adaptive"
    fixed_ratio: float = 0.75
    start: float = 0.25
    tau: float = 12.0
    horizon: int = schedule.HORIZON
    patch: int = 16
    selector: str = "covariance-of-softmax"
    normalise: str = "standardised"
    temperature: float = 1.0
    similarity: str = "inner-product"
    normalise_target: bool = False

    def __post_init__(self) -> None:
        if (self.order, self.ratio) not in VARIANTS:
            raise ValueError(
                f"order {self.order!r} must be one of {', '.join(ORDERS)} and ratio {self.ratio!r} one of"
                f" {', '.join(RATIOS)}"
            )
        if not 0 <= self.fixed_ratio <= 1:
            raise ValueError(f"fixed_ratio {self.fixed_ratio} must lie in [0, 1]")
        for name, allowed in (
            ("selector", clusters.SELECTORS),
            ("normalise", clusters.NORMALISATIONS),
            ("similarity", clusters.SIMILARITIES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r} must be one of {', '.join(allowed)}")
        if not (self.tau > 0 and self.temperature > 0 and self.patch >= 1 and self.horizon >= 0):
            raise ValueError(
                f"tau {self.tau} and temperature {self.temperature} must be positive, patch {self.patch} at least 1, "
                f"horizon {self.horizon} at least 0"
            )


class MaskedAutoencoder(Method):
    """A U-Net that fills in hidden patches; hidden pixels are zero after normalisation."""

    transfers = ("encoder", "decoder")

    def __init__(self, config: Config, unet: UNet, epochs: int) -> None:
        super().__init__(unet)
        self.config = config
        self.epochs = epochs
        self.variant = VARIANTS[config.order, config.ratio]

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        x_b1hw = transforms.standardise(batch.images_b1hw)
        hidden_b1hw = self.hide(batch, epoch)
        predicted_b1hw = self.unet(x_b1hw.masked_fill(hidden_b1hw, 0.0))
        return losses.masked_mse(predicted_b1hw, self.target(x_b1hw), hidden_b1hw)

    def hide(self, batch: Batch, epoch: float) -> Tensor:
        """Choose the pixels to hide at an epoch: bool (B, 1, H, W)."""
        size, _, height, width = batch.images_b1hw.shape
        rows, columns = patches.grid(height, width, self.config.patch)
        if self.config.order == "random":
            order_bl = masking.random_order(size, rows * columns, batch.generator).to(
                batch.images_b1hw.device, non_blocking=True
            )
        else:
            precomputed_mask_brc = (
                self.precompute_mask(batch.images_b1hw)
                if batch.precomputed_mask_brc is None
                else batch.precomputed_mask_brc
            )
            lesion_bl = precomputed_mask_brc.flatten(1)  # type: ignore[union-attr]
            order_bl = masking.order(lesion_bl, batch.generator)
        return patches.to_pixels(masking.cut(order_bl, self.ratio(epoch)), self.config.patch, height, width)

    def lesion(self, images_b1hw: Tensor) -> Tensor:
        """Return the patches that look like lesion, clustered as configured: bool (B, L)."""
        config = self.config
        return clusters.lesion_patches(
            images_b1hw, config.patch, config.selector, config.normalise, config.temperature, config.similarity
        )

    def precompute_mask(self, images_b1hw: Tensor, truth_b1hw: Tensor | None = None) -> Tensor | None:
        """Return the patches that look like lesion, or are: bool (B, rows, columns); None in random order."""
        if self.config.order == "random":
            return None
        if self.config.order == "lesion-first":
            lesion_bl = self.lesion(images_b1hw)
        elif truth_b1hw is None:
            raise ValueError('order "truth-first" needs the masks of the images')
        else:
            lesion_bl = patches.is_lesion(truth_b1hw, self.config.patch)
        return lesion_bl.unflatten(1, patches.grid(*images_b1hw.shape[2:], self.config.patch))  # type: ignore[call-arg]

    def ratio(self, epoch: float) -> float:
        """Return the share of patches hidden at an epoch of this run, in [0, 1]."""
        config = self.config
        if config.ratio == "fixed":
            return config.fixed_ratio
        paper_epoch = schedule.rescale(epoch, self.epochs, config.horizon) if config.horizon else epoch
        return schedule.mask_ratio(paper_epoch, config.start, config.tau)

    def target(self, x_b1hw: Tensor) -> Tensor:
        """Return the target of the reconstruction: normalised pixels, each patch standardised if so configured."""
        if not self.config.normalise_target:
            return x_b1hw
        mean, deviation = patches.moments(x_b1hw, self.config.patch)
        return (x_b1hw - mean) / deviation

    def epoch_metrics(self, epoch: float) -> dict[str, float]:
        return {"ratio": self.ratio(epoch)}

    @torch.no_grad()
    def preview(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Return four pictures: the image, its visible part, with hidden patches as predicted, and the error there."""
        hidden_b1hw = self.hide(batch, epoch)
        filled = fill_in(self.unet, batch.images_b1hw, hidden_b1hw, self.config.patch, self.config.normalise_target)
        return _masked.pictures(batch.images_b1hw, hidden_b1hw, filled)


@torch.no_grad()
def fill_in(unet: UNet, images_b1hw: Tensor, hidden_b1hw: Tensor, patch: int, normalised_target: bool) -> Tensor:
    """Return images in [0, 1] with their hidden pixels as the network predicts them, the others as they are.

    normalised_target: the network was trained to predict each patch at mean 0 and deviation 1; that is undone.
    """
    mean, deviation = transforms.moments(images_b1hw)
    x_b1hw = transforms.standardise(images_b1hw)
    predicted = unet(x_b1hw.masked_fill(hidden_b1hw, 0.0))
    if normalised_target:
        patch_mean, patch_deviation = patches.moments(x_b1hw, patch)
        predicted = predicted * patch_deviation + patch_mean
    return torch.where(hidden_b1hw, predicted * deviation + mean, images_b1hw).clamp(0, 1)


def build(config: Config, unet: UNet, epochs: int) -> MaskedAutoencoder:
    """Return the masked autoencoder around ``unet`` for a run of ``epochs`` epochs."""
    return MaskedAutoencoder(config, unet, epochs)
