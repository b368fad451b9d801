"""From a sample to the network's input: units, size, normalisation, augmentation.

Axes: B batch, C channels, H x W pixels. Augmentation draws and applies in two functions.

Over 250 lines because training and inference must prepare an image by the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import distributed

CT_WINDOWS = {  # level and width in Hounsfield units, as radiology uses them
    "soft tissue": (40.0, 400.0), "lung": (-600.0, 1500.0), "liver": (90.0, 150.0),
    "bone": (480.0, 2500.0), "brain": (40.0, 80.0), "angio": (300.0, 600.0),
}  # fmt: skip
AIR = -300.0  # Hounsfield units below which there is no body
BODY = 256.0  # side in millimetres of the square in which a CT slice is looked at


def window(values: np.ndarray, modality: str) -> tuple[float, float]:
    """Return the values that a network sees as 0 and as 1, from an image or a whole volume of any shape.

    ultrasound: 0 and 1. ct: the soft-tissue window (level 40, width 400 HU). mri: the 1st and 99th percentile
    of the non-zero voxels. ValueError for another modality.
    """
    if modality == "ultrasound":
        return 0.0, 1.0
    if modality == "ct":
        return ends(*CT_WINDOWS["soft tissue"])
    if modality == "mri":
        inside = values[values != 0]
        low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
        return float(low), float(high)
    raise ValueError(f"unknown modality {modality!r}; available: ultrasound, ct, mri")


def scan_window(values: np.ndarray, modality: str) -> tuple[float, float]:
    """Return the values that a network sees as 0 and 1, as ``window``, of a file maybe not in its modality's units.

    Pictures hold no Hounsfield units, so a CT in [0, 1] is taken as it was windowed when it was saved; an ultrasound
    beyond [0, 1] is taken from its lowest to its highest value.
    """
    low, high = float(values.min()), float(values.max())
    is_unit = low >= 0 and high <= 1
    if is_unit and modality == "ct":
        return 0.0, 1.0
    return (low, high) if modality == "ultrasound" and not is_unit else window(values, modality)


def ends(level: float, width: float) -> tuple[float, float]:
    """Return the lowest and the highest value of a window given by its middle and its width, as in radiology."""
    return level - width / 2, level + width / 2


def middle(low: float, high: float) -> tuple[float, float]:
    """Return the level and width of the window between two values; the inverse of ``ends``."""
    return (low + high) / 2, high - low


def to_unit(image_hw: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Map values to [0, 1], the ends of ``span`` (see ``window``) to 0 and 1: float32 of the same shape, clipped."""
    low, high = span
    # float64 where the span is larger than float32 can hold
    kind = np.float32 if high - low <= float(np.finfo(np.float32).max) else np.float64
    image = (np.asarray(image_hw, dtype=kind) - kind(low)) / kind(max(high - low, 1e-6))  # type: ignore[operator]
    return np.clip(image, 0, 1, out=image).astype(np.float32, copy=False)


class Box(NamedTuple):
    """A part of an image in pixels; it may reach over the edge, where there is nothing (0)."""

    top: int
    left: int
    height: int
    width: int


def frame(values_hw: np.ndarray, spacing_hw: tuple[float, float] | None, modality: str) -> Box | None:
    """Return the part of a slice that a network sees: None is all of it.

    A CT slice of known pixel spacing (millimetres) is mostly air, and scanners differ in their field of view: there
    it is a square of ``BODY`` mm around the middle of the largest thing denser than air (``AIR`` Hounsfield units).
    """
    if modality != "ct" or spacing_hw is None:
        return None
    from scipy import ndimage

    labels_hw, count = ndimage.label(values_hw > AIR)
    height, width = (max(1, round(BODY / side)) for side in spacing_hw)
    rows, columns = values_hw.shape
    middle = rows / 2, columns / 2
    if count:
        largest = 1 + int(np.bincount(labels_hw.ravel())[1:].argmax())
        middle = tuple((span.start + span.stop) / 2 for span in ndimage.find_objects(labels_hw)[largest - 1])
    return Box(round(middle[0] - height / 2), round(middle[1] - width / 2), height, width)


def crop(image_hw: np.ndarray, box: Box | None) -> np.ndarray:
    """Cut out a box, with zeros beyond the image's edge: (..., H, W) -> (..., box.height, box.width)."""
    if box is None:
        return image_hw
    part = np.zeros((*image_hw.shape[:-2], box.height, box.width), image_hw.dtype)
    inside, here = _overlap(image_hw.shape[-2:], box)
    part[(..., *here)] = image_hw[(..., *inside)]
    return part


def paste(part_hw: np.ndarray, box: Box | None, shape_hw: tuple[int, int]) -> np.ndarray:
    """Put a crop back into an image of zeros, the inverse of ``crop``: (box.height, box.width) -> shape_hw."""
    if box is None:
        return part_hw
    image = np.zeros(shape_hw, part_hw.dtype)
    inside, here = _overlap(shape_hw, box)
    image[inside] = part_hw[here]
    return image


def _overlap(shape_hw: tuple[int, int], box: Box) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the overlap of image and box: slices of the image, and slices of the box."""
    spans = [
        (max(0, start), max(0, min(side, start + length)), start)
        for side, start, length in zip(shape_hw, (box.top, box.left), (box.height, box.width), strict=True)
    ]
    inside = tuple(slice(low, high) for low, high, _ in spans)
    return inside, tuple(slice(low - start, high - start) if high > low else slice(0, 0) for low, high, start in spans)  # type: ignore[return-value]


def has_body(unit_hw: np.ndarray) -> bool:
    """Return True if a slice shows more than air: at least 2% of it brighter than 0.1."""
    return float(np.mean(unit_hw > 0.1)) >= 0.02


def resize(image_hw: np.ndarray, height: int, width: int) -> Tensor:
    """Resize (H, W) floats in [0, 1] to (1, 1, height, width), bilinear with antialiasing; aspect is not kept."""
    x_11hw = torch.as_tensor(np.ascontiguousarray(image_hw), dtype=torch.float32)[None, None]
    return F.interpolate(x_11hw, size=(height, width), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def resize_mask(mask_hw: np.ndarray, height: int, width: int) -> Tensor:
    """Resize a mask, (H, W) bool, to bool (1, 1, height, width): True where at least half of the area is."""
    return resize(np.asarray(mask_hw, dtype=np.float32), height, width) >= 0.5


def standardise(x_bchw: Tensor) -> Tensor:
    """Bring each image to mean 0 and deviation 1 (a constant image to zeros)."""
    mean, deviation = moments(x_bchw)
    return (x_bchw - mean) / deviation.clamp(min=1e-6)


def moments(x_bchw: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and (population) deviation of each image: (B, C, H, W) -> twice (B, 1, 1, 1).

    Through the norm, which is much faster on a CPU than ``torch.std_mean``.
    """
    mean = x_bchw.mean(dim=(1, 2, 3), keepdim=True)
    length = torch.linalg.vector_norm(x_bchw - mean, dim=(1, 2, 3), keepdim=True)
    return mean, length / x_bchw[0].numel() ** 0.5


@dataclass(frozen=True)
class Augmentation:
    """Largest random changes of an image; 0 switches one off. The last six are drawn and applied by ``distortions``.

    Args:
        flip: probability of a left-right flip.
        rotation: largest rotation to either side in degrees.
        zoom: largest change of size to either side, as a share.
        shift: largest shift, as a share of the side.
        contrast: largest change of contrast to either side, as a share, about the image's mean.
        brightness: largest change of brightness to either side, for intensities in [0, 1].
        gamma: exponent between 1 / (1 + gamma) and 1 + gamma.
        elastic: largest displacement of a smooth random deformation, as a share of the side; without folds up to 0.05.
        bias: bias field as of an MRI coil: a smooth factor between 1 / (1 + bias) and 1 + bias.
        blur: largest standard deviation of a Gaussian blur in pixels.
        speckle: largest standard deviation of multiplicative noise in grains of two pixels, as in ultrasound.
        noise: largest standard deviation of additive Gaussian noise.
        cutout: longest side of a rectangle that is filled with the image's mean, as a share of the side.
    """

    flip: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0
    elastic: float = 0.0
    bias: float = 0.0
    blur: float = 0.0
    speckle: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0

    def __post_init__(self) -> None:
        for name, reach in vars(self).items():
            if not 0 <= reach <= (180 if name == "rotation" else 10 if name in ("blur", "gamma", "bias") else 1):
                raise ValueError(
                    f"augment.{name} is {reach}; expected a number from 0, which is off, to 1 (rotation: 180; blur,"
                    " gamma, bias: 10)"
                )


@dataclass(frozen=True)
class AugmentationParameters:
    """One drawn change per image: affine_b23 for ``grid_sample``, and three intensity numbers each (B,)."""

    affine_b23: Tensor
    contrast_b: Tensor
    brightness_b: Tensor
    gamma_b: Tensor


def draw(batch: int, options: Augmentation, generator: torch.Generator) -> AugmentationParameters:
    """Draw the changes of ``batch`` images from ``generator``."""

    def uniform(reach: float) -> Tensor:
        return (2 * distributed.uniform(batch, generator=generator) - 1) * reach

    angle = torch.deg2rad(uniform(options.rotation))
    scale = 1 + uniform(options.zoom)
    mirror = torch.where(distributed.uniform(batch, generator=generator) < options.flip, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    affine_b23 = torch.stack(
        [mirror * cosine, -sine, 2 * uniform(options.shift), mirror * sine, cosine, 2 * uniform(options.shift)], dim=1
    ).reshape(batch, 2, 3)
    exponent = torch.exp2(uniform(1.0) * np.log2(1 + options.gamma))
    return AugmentationParameters(affine_b23, 1 + uniform(options.contrast), uniform(options.brightness), exponent)


def apply_geometry(
    x_bchw: Tensor, changes: AugmentationParameters, mode: str = "bilinear", offset_bhw2: Tensor | None = None
) -> Tensor:
    """Turn, zoom, shift and flip (B, C, H, W); outside the image is zero.

    offset_bhw2: further displacement (columns, rows) of each pixel, where the image's side is 2
    (``distortions.offset``).
    """
    grid = F.affine_grid(changes.affine_b23.to(x_bchw, non_blocking=True), list(x_bchw.shape), align_corners=False)
    if offset_bhw2 is not None:
        grid = grid + offset_bhw2.to(grid, non_blocking=True)
    return F.grid_sample(x_bchw, grid, mode=mode, padding_mode="zeros", align_corners=False)


def apply_intensity(x_bchw: Tensor, changes: AugmentationParameters) -> Tensor:
    """Change contrast about the image's mean, brightness and gamma of intensities in [0, 1]; clipped to it."""
    contrast, brightness, gamma = (
        value.to(x_bchw, non_blocking=True).reshape(-1, 1, 1, 1)
        for value in (changes.contrast_b, changes.brightness_b, changes.gamma_b)
    )
    mean = x_bchw.mean(dim=(1, 2, 3), keepdim=True)
    return ((x_bchw - mean) * contrast + mean + brightness).clamp(0, 1) ** gamma
