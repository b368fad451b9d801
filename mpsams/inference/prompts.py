"""Segment one object from a box, clicks, scribbles or a mask to correct.

A small U-Net looks at a square crop that follows the prompt. Its input channels are ``CHANNELS``: the image, and the
person's marks as maps, as in RITM (Sofiiuk et al., ICIP 2022) and ScribblePrompt (Wong et al., ECCV 2024).

Axes: B batch, C channels, N points, H x W pixels of the image, S x S pixels of the crop as the network sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from mpsams import transforms
from mpsams.inference import Network, NotFinite
from mpsams.transforms import Box

OBJECT, BACKGROUND = 1, -1  # in scribbles, as in ``mpsams.annotation.scribble``
CHANNELS = ("image", "box", "positive", "negative", "mask")
MARGIN = 1.6  # side of the crop over the longer side of what it follows
FIRST_VIEW = 0.6  # least side of the crop around clicks without box or mask, as a share of the image's longer side
LEAST_SIDE = 16  # of a crop, in pixels of the image
PASSES = 4  # looks at an image at most, each at a crop that follows the mask of the one before
SAME_CROP = 1.3  # ratio of the sides of two crops below which a second look adds nothing
POINT = 5  # side in pixels of the square that a point becomes in the network's maps
THRESHOLD = 0.5


@dataclass(frozen=True)
class Prompt:
    """The marks of a person on an image, in its pixels.

    box: about the object; it may reach over the image's edge. positive, negative: clicks (row, column) inside the
    object and outside it. scribbles: int8 (H, W), 1 object, -1 background, 0 nothing. mask: bool (H, W), an answer to
    correct.
    """

    box: Box | None = None
    positive: tuple[tuple[float, float], ...] = ()
    negative: tuple[tuple[float, float], ...] = ()
    scribbles: np.ndarray | None = None
    mask: np.ndarray | None = None

    def points(self, positive: bool) -> np.ndarray:
        """Return clicks and scribbled pixels of one kind: float (N, 2), rows and columns."""
        clicks_n2 = np.asarray(self.positive if positive else self.negative, dtype=np.float64).reshape(-1, 2)
        if self.scribbles is None:
            return clicks_n2
        return np.concatenate([clicks_n2, np.argwhere(self.scribbles == (OBJECT if positive else BACKGROUND))])


@dataclass(frozen=True)
class PromptResult:
    """The answer to a prompt, on the whole image.

    mask: bool (H, W). probability: float32 (H, W) in [0, 1], 0 outside of the crop. confidence: in [0, 1], the DSC
    that is expected of the mask if the probabilities are right. crop: the part of the image that the network looked
    at last.
    """

    mask: np.ndarray
    probability: np.ndarray
    confidence: float
    crop: Box


def segment_prompt(network: Network, image_hw: np.ndarray, prompt: Prompt) -> PromptResult:
    """Segment the object that a prompt marks.

    image_hw: grey, uint8 or floats in [0, 1], H x W. The network looks again, at another crop and with its mask,
    while the mask asks for a larger or a much smaller one. ValueError for a network of another kind, an image or a
    prompt that is not as described, or a prompt that marks no place; NotFinite when the network answers with NaN or
    infinity.
    """
    check_network(network)
    unit_hw = to_unit(image_hw)
    check_prompt(prompt, unit_hw.shape)
    crop = find_crop(prompt, unit_hw.shape)
    for remaining in reversed(range(PASSES)):
        probability_hw = paste(predict(network, encode(unit_hw, prompt, crop, network.size)), crop, unit_hw.shape)
        mask_hw = keep_marked_parts(probability_hw >= THRESHOLD, prompt)
        following = replace(prompt, mask=mask_hw if mask_hw.any() else prompt.mask)
        wanted = find_crop(following, unit_hw.shape)
        ratio = wanted.height / crop.height
        if not remaining or 1 / SAME_CROP < ratio < SAME_CROP:
            break
        prompt, crop = following, wanted
    return PromptResult(mask_hw, probability_hw, expected_dice(probability_hw, mask_hw), crop)


def check_network(network: Network) -> None:
    """Raise ValueError unless the network was trained for prompts."""
    if network.metadata.get("kind") != "prompt":
        raise ValueError(f"expected a prompt checkpoint (train.prompt), this is a {network.metadata.get('kind')!r} one")


def to_unit(image_hw: np.ndarray) -> np.ndarray:
    """Return a grey image as float32 in [0, 1], from uint8 or floats. ValueError for another shape or other values."""
    if image_hw.ndim != 2 or not image_hw.size:
        raise ValueError(f"the image is {image_hw.shape}; expected grey, (H, W)")
    if image_hw.dtype == np.uint8:
        return image_hw.astype(np.float32) / 255
    unit_hw = image_hw.astype(np.float32)
    if not (unit_hw.min() >= 0 and unit_hw.max() <= 1):
        raise ValueError(f"the image holds values from {unit_hw.min()} to {unit_hw.max()}; expected 0 to 1")
    return unit_hw


def check_prompt(prompt: Prompt, shape_hw: tuple[int, int]) -> None:
    """Raise ValueError unless a prompt fits an image of that shape."""
    if prompt.box is not None and not (min(prompt.box[2:]) >= 1 and overlaps(prompt.box, shape_hw)):
        raise ValueError(
            f"the box {tuple(prompt.box)} must be at least 1 pixel wide and high and overlap the image {shape_hw}"
        )
    for name in ("scribbles", "mask"):
        given = getattr(prompt, name)
        if given is not None and given.shape != shape_hw:
            raise ValueError(f"{name} {given.shape} must have the image's shape {shape_hw}")
    clicks_n2 = np.asarray([*prompt.positive, *prompt.negative], dtype=np.float64).reshape(-1, 2)
    if not ((clicks_n2 >= 0) & (clicks_n2 < shape_hw)).all():
        raise ValueError(
            f"clicks {clicks_n2.tolist()} must lie in the image: rows and columns from 0 to below {shape_hw}"
        )


def overlaps(box: Box, shape_hw: tuple[int, int]) -> bool:
    """Return whether a box and an image have a pixel in common."""
    return box.top < shape_hw[0] and box.left < shape_hw[1] and box.top + box.height > 0 and box.left + box.width > 0


def find_crop(prompt: Prompt, shape_hw: tuple[int, int]) -> Box:
    """Return the square part of an image to look at for a prompt; it may reach over the edge.

    Its middle is that of box, mask and positive points together, and its side ``MARGIN`` times their longer side;
    with points alone, whose object may be of any size, at least ``FIRST_VIEW`` of the image. ValueError when there is
    none of these.
    """
    spans = [(np.array(prompt.box[:2]), np.add(prompt.box[:2], prompt.box[2:]))] if prompt.box is not None else []
    if prompt.mask is not None and prompt.mask.any():
        spans.append(extent(prompt.mask))
    sized, points_n2 = bool(spans), prompt.points(positive=True)
    if len(points_n2):
        spans.append((points_n2.min(axis=0), points_n2.max(axis=0) + 1))
    if not spans:
        raise ValueError(
            "the prompt marks no object; expected a box, a positive click or scribble, or a mask that is not empty"
        )
    low, high = np.min([span[0] for span in spans], axis=0), np.max([span[1] for span in spans], axis=0)
    least = LEAST_SIDE if sized else max(LEAST_SIDE, FIRST_VIEW * max(shape_hw))
    side = max(round(least), round(MARGIN * float((high - low).max())))
    top, left = (round(float(middle - side / 2)) for middle in (low + high) / 2)
    return Box(top, left, side, side)


def extent(mask_hw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and one past the last (row, column) of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    return np.array([rows[0], columns[0]]), np.array([rows[-1] + 1, columns[-1] + 1])


def bounding_box(mask_hw: np.ndarray) -> Box:
    """Return the bounding box of a mask that is not empty."""
    low, high = extent(mask_hw)
    return Box(*(int(value) for value in (*low, *(high - low))))


def encode(unit_hw: np.ndarray, prompt: Prompt, crop: Box, size: int) -> Tensor:
    """Encode a crop and a prompt as the network sees them: float (5, S, S), in the order of ``CHANNELS``.

    The image is standardised over the part of the crop that lies in it, and 0 beyond its edge; the other channels are
    0 or 1, the mask is smooth.
    """
    x_css = torch.zeros(len(CHANNELS), size, size)
    inside_hw = transforms.crop(unit_hw, crop)
    known_hw = transforms.crop(np.ones(unit_hw.shape, np.bool_), crop)
    values = inside_hw[known_hw].astype(np.float64)
    mean, deviation = (float(values.mean()), float(values.std())) if values.size else (0.0, 1.0)
    filled_hw = np.where(known_hw, inside_hw, np.float32(mean))
    x_css[0] = (transforms.resize(filled_hw, size, size)[0, 0] - mean) / max(deviation, 1e-6)
    if prompt.box is not None:
        rows_s, columns_s = (
            pixels_in_span(start - first, length, side, size)
            for first, start, length, side in zip(crop[:2], prompt.box[:2], prompt.box[2:], crop[2:], strict=True)
        )
        x_css[1] = rows_s[:, None] & columns_s[None, :]
    x_css[2], x_css[3] = (point_map(prompt.points(positive), crop, size) for positive in (True, False))
    if prompt.mask is not None:
        x_css[4] = transforms.resize(transforms.crop(prompt.mask, crop).astype(np.float32), size, size)[0, 0]
    return x_css


def pixels_in_span(start: float, length: float, side: int, size: int) -> Tensor:
    """Return the pixels along a side of the crop whose middles lie in a span in the image's pixels: bool (S,)."""
    middle_s = (torch.arange(size) + 0.5) * side / size
    return (middle_s >= start) & (middle_s < start + length)


def point_map(points_n2: np.ndarray, crop: Box, size: int) -> Tensor:
    """Return points of the image as squares of ``POINT`` pixels in the crop: float (S, S), 0 or 1."""
    map_ss = torch.zeros(size, size)
    at_n2 = np.floor((points_n2 + 0.5 - np.asarray(crop[:2])) * size / np.asarray(crop[2:])).astype(int)
    at_n2 = at_n2[((at_n2 >= 0) & (at_n2 < size)).all(axis=1)]
    map_ss[at_n2[:, 0], at_n2[:, 1]] = 1
    return F.max_pool2d(map_ss[None], POINT, 1, POINT // 2)[0] if len(at_n2) else map_ss


@torch.inference_mode()
def predict(network: Network, x_css: Tensor) -> np.ndarray:
    """Predict the probability of the object in a crop, averaged with its mirror image: (5, S, S) -> float32 (S, S)."""
    both_bcss = torch.stack([x_css, x_css.flip(-1)]).contiguous(memory_format=torch.channels_last)
    logits_bss = network.unet(both_bcss)[:, 0].float()
    if not torch.isfinite(logits_bss).all():
        raise NotFinite("the prompt network answers this image with NaN or infinity; use other weights")
    return torch.sigmoid((logits_bss[0] + logits_bss[1].flip(-1)) / 2).numpy()


def paste(probability_ss: np.ndarray, crop: Box, shape_hw: tuple[int, int]) -> np.ndarray:
    """Put a crop's probabilities at their place in the image: (S, S) -> float32 (H, W), 0 outside of the crop."""
    return transforms.paste(transforms.resize(probability_ss, crop.height, crop.width)[0, 0].numpy(), crop, shape_hw)


def keep_marked_parts(mask_hw: np.ndarray, prompt: Prompt) -> np.ndarray:
    """Keep the connected parts of a mask that hold a positive point; without one, the largest part."""
    labels_hw, count = ndimage.label(mask_hw)
    if count < 2:
        return mask_hw
    at_n2 = prompt.points(positive=True).astype(int)
    held = np.setdiff1d(labels_hw[at_n2[:, 0], at_n2[:, 1]], 0)
    return np.isin(labels_hw, held if len(held) else 1 + np.bincount(labels_hw.ravel())[1:].argmax())


def expected_dice(probability_hw: np.ndarray, mask_hw: np.ndarray) -> float:
    """Return the DSC to expect of a mask if the probabilities are right, in [0, 1]; 0 of an empty mask."""
    total = float(probability_hw.sum(dtype=np.float64)) + int(mask_hw.sum())
    return 2 * float(probability_hw[mask_hw].sum(dtype=np.float64)) / total if mask_hw.any() else 0.0
