"""From a sample to what the network sees: units, size, normalisation, augmentation.

Axes: B batch, C channels, H x W pixels. Augmentation draws and applies in two functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CT_WINDOW = (40.0, 400.0)  # level and width of the soft-tissue window, in Hounsfield units


def to_unit(image_hw: np.ndarray, modality: str) -> np.ndarray:
    """Map a modality's own units to [0, 1]: (H, W) -> float32 (H, W).

    ultrasound: already [0, 1], clipped. ct: Hounsfield units through the soft-tissue window
    (level 40, width 400). mri: 1st to 99th percentile of the non-zero voxels; all zero stays zero.
    """
    image = np.asarray(image_hw, dtype=np.float32)
    if modality == "ultrasound":
        low, high = 0.0, 1.0
    elif modality == "ct":
        low, high = CT_WINDOW[0] - CT_WINDOW[1] / 2, CT_WINDOW[0] + CT_WINDOW[1] / 2
    elif modality == "mri":
        inside = image[image != 0]
        low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    else:
        raise ValueError(f"unknown modality {modality!r}; available: ultrasound, ct, mri")
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def resize(image_hw: np.ndarray, height: int, width: int) -> Tensor:
    """(H, W) floats in [0, 1] -> (1, 1, height, width), bilinear with antialiasing; aspect is not kept."""
    x_11hw = torch.as_tensor(np.ascontiguousarray(image_hw), dtype=torch.float32)[None, None]
    return F.interpolate(x_11hw, size=(height, width), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def resize_mask(mask_hw: np.ndarray, height: int, width: int) -> Tensor:
    """(H, W) bool -> bool (1, 1, height, width): True where at least half of the area is."""
    return resize(np.asarray(mask_hw, dtype=np.float32), height, width) >= 0.5


def standardise(x_bchw: Tensor) -> Tensor:
    """Each image to mean 0 and deviation 1 (a constant image to zeros)."""
    mean, deviation = moments(x_bchw)
    return (x_bchw - mean) / deviation.clamp(min=1e-6)


def moments(x_bchw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) deviation of each image: (B, C, H, W) -> twice (B, 1, 1, 1).

    Through the norm, which is much faster on a CPU than ``torch.std_mean``.
    """
    mean = x_bchw.mean(dim=(1, 2, 3), keepdim=True)
    length = torch.linalg.vector_norm(x_bchw - mean, dim=(1, 2, 3), keepdim=True)
    return mean, length / x_bchw[0].numel() ** 0.5


@dataclass(frozen=True)
class Augmentation:
    """How far the random changes reach; 0 switches one off.

    flip: chance of a left-right flip. rotation: degrees to either side. zoom: share to either side.
    shift: share of the side. contrast, brightness: share to either side, in [0, 1] intensities.
    gamma: exponent between 1 / (1 + gamma) and 1 + gamma.
    """

    flip: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """One drawn change per image: affine_b23 for ``grid_sample``, and three intensity numbers each (B,)."""

    affine_b23: Tensor
    contrast_b: Tensor
    brightness_b: Tensor
    gamma_b: Tensor


def draw(batch: int, how: Augmentation, generator: torch.Generator) -> Drawn:
    """Draw the changes of ``batch`` images from ``generator``."""

    def uniform(reach: float) -> Tensor:
        return (2 * torch.rand(batch, generator=generator) - 1) * reach

    angle = torch.deg2rad(uniform(how.rotation))
    scale = 1 + uniform(how.zoom)
    mirror = torch.where(torch.rand(batch, generator=generator) < how.flip, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    affine_b23 = torch.stack(
        [mirror * cosine, -sine, 2 * uniform(how.shift), mirror * sine, cosine, 2 * uniform(how.shift)], dim=1
    ).reshape(batch, 2, 3)
    exponent = torch.exp2(uniform(1.0) * np.log2(1 + how.gamma))
    return Drawn(affine_b23, 1 + uniform(how.contrast), uniform(how.brightness), exponent)


def apply_geometry(x_bchw: Tensor, drawn: Drawn, mode: str = "bilinear") -> Tensor:
    """Turn, zoom, shift and flip (B, C, H, W); outside the image is zero."""
    grid = F.affine_grid(drawn.affine_b23.to(x_bchw), list(x_bchw.shape), align_corners=False)
    return F.grid_sample(x_bchw, grid, mode=mode, padding_mode="zeros", align_corners=False)


def apply_intensity(x_bchw: Tensor, drawn: Drawn) -> Tensor:
    """Change contrast about the image's mean, brightness and gamma of intensities in [0, 1]; clipped to it."""
    contrast, brightness, gamma = (
        value.to(x_bchw).reshape(-1, 1, 1, 1) for value in (drawn.contrast_b, drawn.brightness_b, drawn.gamma_b)
    )
    mean = x_bchw.mean(dim=(1, 2, 3), keepdim=True)
    return ((x_bchw - mean) * contrast + mean + brightness).clamp(0, 1) ** gamma
