"""Stronger random changes of training images: elastic deformation, bias field, blur, speckle, noise, cut-outs.

How far each reaches is set in ``transforms.Augmentation``. Axes: B batch, C channels, H x W pixels, S side, G nodes of
a coarse field. Drawing and applying are separate functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import distributed
from mpsams.transforms import Augmentation
from mpsams.views import gaussian_blur

ELASTIC_NODES = 6  # per axis of the coarse field of displacements
BIAS_NODES = 4  # likewise of the bias field
GRAIN = 2  # side of a grain of speckle in pixels
EVERY = ("elastic", "bias", "blur", "speckle", "noise", "cutout")


@dataclass(frozen=True)
class Distortions:
    """Parameters of the changes, one of each kind per image; None for a kind that is off.

    elastic_b2gg: displacements (columns, rows) at the nodes, where the image's side is 2. bias_b1gg: logarithm of the
    factor at the nodes. blur_b: deviation in pixels. speckle_b1hw, noise_b1hw: the fields, scaled. cutout_b4: top,
    left, height, width as shares.
    """

    elastic_b2gg: Tensor | None = None
    bias_b1gg: Tensor | None = None
    blur_b: Tensor | None = None
    speckle_b1hw: Tensor | None = None
    noise_b1hw: Tensor | None = None
    cutout_b4: Tensor | None = None


def draw(batch: int, options: Augmentation, size: int, generator: torch.Generator) -> Distortions:
    """Draw the changes of ``batch`` images of ``size`` pixels a side; a kind that is off draws no numbers."""

    def uniform(*shape: int) -> Tensor:
        return distributed.uniform(batch, *shape, generator=generator)

    def normal(side: int) -> Tensor:
        return torch.special.ndtri(uniform(1, side, side).clamp(1e-6, 1 - 1e-6)) * uniform(1, 1, 1)

    drawn: dict[str, Tensor] = {}
    if options.elastic:
        drawn["elastic_b2gg"] = (
            2 * options.elastic * (2 * uniform(2, ELASTIC_NODES, ELASTIC_NODES) - 1) * uniform(1, 1, 1)
        )
    if options.bias:
        drawn["bias_b1gg"] = torch.log1p(torch.tensor(options.bias)) * (2 * uniform(1, BIAS_NODES, BIAS_NODES) - 1)
    if options.blur:
        drawn["blur_b"] = options.blur * uniform()
    if options.speckle:
        drawn["speckle_b1hw"] = options.speckle * _spread(normal(-(-size // GRAIN)), size, "bilinear")
    if options.noise:
        drawn["noise_b1hw"] = options.noise * normal(size)
    if options.cutout:
        sides_b2 = options.cutout * uniform(2)
        drawn["cutout_b4"] = torch.cat([uniform(2) * (1 - sides_b2), sides_b2], dim=1)
    return Distortions(**drawn)


def offset(changes: Distortions, size: int) -> Tensor | None:
    """Return the elastic displacement of each pixel for ``transforms.apply_geometry``, (B, S, S, 2); None when off."""
    return None if changes.elastic_b2gg is None else _spread(changes.elastic_b2gg, size, "bicubic").permute(0, 2, 3, 1)


def apply_intensity(x_bchw: Tensor, changes: Distortions) -> Tensor:
    """Apply bias field, blur, speckle, noise and cut-outs, in this order, to square images in [0, 1], and clip.

    A cut-out is filled with the image's mean; its truth stays, so that what is hidden must be told from what is around
    it.
    """
    size = x_bchw.shape[-1]
    if changes.bias_b1gg is not None:
        x_bchw = x_bchw * _spread(changes.bias_b1gg.to(x_bchw, non_blocking=True), size, "bicubic").exp()
    if changes.blur_b is not None:
        each_b1hw, deviation_b = x_bchw.flatten(0, 1).unsqueeze(1), changes.blur_b.repeat_interleave(x_bchw.shape[1])
        x_bchw = gaussian_blur(each_b1hw, deviation_b).reshape(x_bchw.shape)
    if changes.speckle_b1hw is not None:
        x_bchw = x_bchw * (1 + changes.speckle_b1hw.to(x_bchw, non_blocking=True))
    if changes.noise_b1hw is not None:
        x_bchw = x_bchw + changes.noise_b1hw.to(x_bchw, non_blocking=True)
    if changes.cutout_b4 is not None:
        x_bchw = torch.where(
            _inside(changes.cutout_b4.to(x_bchw, non_blocking=True), size),
            x_bchw.mean(dim=(1, 2, 3), keepdim=True),
            x_bchw,
        )
    return x_bchw.clamp(0, 1)


def _spread(nodes_bcgg: Tensor, size: int, mode: str) -> Tensor:
    """Return a coarse field at every pixel, outermost nodes on outermost pixels: (B, C, G, G) -> (B, C, S, S)."""
    return F.interpolate(nodes_bcgg, size=(size, size), mode=mode, align_corners=True)


def _inside(box_b4: Tensor, size: int) -> Tensor:
    """Return True for pixels with their middle in a box (top, left, height, width, as shares): bool (B, 1, S, S)."""
    middle_s = (torch.arange(size, device=box_b4.device) + 0.5) / size
    low_b2, high_b2 = box_b4[:, :2], box_b4[:, :2] + box_b4[:, 2:]
    rows_bs, columns_bs = ((middle_s >= low_b2[:, k, None]) & (middle_s < high_b2[:, k, None]) for k in (0, 1))
    return (rows_bs[:, :, None] & columns_bs[:, None, :]).unsqueeze(1)
