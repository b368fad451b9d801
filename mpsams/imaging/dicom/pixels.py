"""DICOM frames to voxels: samples, what they mean, and the array on disk that holds them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from .. import UnreadableImage
from .codes import Elsewhere, decode
from .frames import Frame

MAX_BYTES = 2**30  # of the voxels
Meaning = Callable[[np.ndarray, Frame], np.ndarray]
Padding = tuple[int, int] | None


def load(frames: Sequence[Frame], picture: bool) -> tuple[np.ndarray, float, float, Padding]:
    """Load frames of one size as voxels (X, Y, Z), Z in their order, with slope, intercept and padding as of a Scan.

    picture: values are brightness in [0, 1], MONOCHROME1 inverted, else the scanner's own, never windowed. Colour is
    always brightness. Voxels are as stored, 8-bit for colour, where one slope and intercept do for all frames, else
    float32, in which padding is NaN. They are memory-mapped on a temporary file that vanishes with them, each slice in
    one piece.

    Raises UnreadableImage for volumes beyond MAX_BYTES before any pixel is decoded, and for damaged pixels.
    """
    kind, slope, intercept, meaning = _plan(frames, picture)
    padding = frames[0].image.padding if meaning is _as_stored else None
    columns, rows = frames[0].columns, frames[0].rows
    xyz = _space((columns, rows, len(frames)), kind)
    files: dict = {}
    for z, frame in enumerate(frames):
        files.setdefault(frame.image, {}).setdefault(frame.index, []).append(z)
    with Elsewhere() as elsewhere:
        for image, places in files.items():
            for index, samples, photometric in decode(image, places, elsewhere):
                grey = _luminance(samples, photometric, image.bits) if image.samples == 3 else samples
                for z in places[index]:
                    voxels = _part(meaning(grey, frames[z]), frames[z])
                    if image.padding is not None and padding is None:
                        samples_hw = _part(grey, frames[z])
                        voxels[(samples_hw >= image.padding[0]) & (samples_hw <= image.padding[1])] = np.nan
                    xyz[:, :, z] = voxels.T
    return xyz, slope, intercept, padding


def _part(picture_hw: np.ndarray, frame: Frame) -> np.ndarray:
    """Return the tile of a frame that is a part of a picture, else all of it: a view."""
    if frame.tile is None:
        return picture_hw
    top, left, rows, columns = frame.tile
    return picture_hw[top : top + rows, left : left + columns]


def _space(shape: tuple[int, int, int], kind: np.dtype) -> np.ndarray:
    """Make an array of voxels (X, Y, Z) on disk, in Fortran's order."""
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if size > MAX_BYTES:
        raise UnreadableImage(
            f"This DICOM volume of {shape[0]} × {shape[1]} × {shape[2]} voxels takes {-(-size // 2**20)} MiB; "
            f"allowed are DICOM volumes of up to {MAX_BYTES >> 20} MiB."
        )
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here; later it would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, kind, "w+", shape=shape, order="F")
    except OSError:
        raise UnreadableImage(f"This computer has no room for the {-(-size // 2**20)} MiB of a DICOM volume.") from None


def _plan(frames: Sequence[Frame], picture: bool) -> tuple[np.dtype, float, float, Meaning]:
    """Return the type of voxels, slope, intercept, and the function from samples to voxels."""
    images = [frame.image for frame in frames]
    if images[0].palette:
        return np.dtype(np.uint8), 1 / 255, 0.0, _by_palette
    if images[0].colour:
        return np.dtype(np.uint8), 1 / 255, 0.0, _as_stored
    lines = {(frame.slope, frame.intercept) for frame in frames}
    straight = len(lines) == len({image.padding for image in images}) == 1 and not any(
        frame.modality_lut for frame in frames
    )
    stored = np.result_type(*{image.dtype for image in images})
    (slope, intercept), ranges = next(iter(lines)), {(image.range, image.photometric) for image in images}
    if straight and not picture:
        return stored, slope, intercept, _as_stored
    if straight and len(ranges) == 1 and not any(frame.window or frame.voi_lut for frame in frames):
        low, high = images[0].range
        upwards = (slope > 0) == (images[0].photometric == "MONOCHROME2")
        start, step = (low, 1 / (high - low)) if upwards else (high, -1 / (high - low))
        return stored, step, 0.0 - step * start, _as_stored
    return np.dtype(np.float32), 1.0, 0.0, _brightness if picture else _values


def _as_stored(samples: np.ndarray, frame: Frame) -> np.ndarray:
    return samples


def _luminance(samples: np.ndarray, photometric: str, bits: int) -> np.ndarray:
    """Convert colour (H, W, 3) to ITU-R 601 luminance, uint8 (H, W), of the upper 8 bits, rounded as by Pillow."""
    samples = samples >> (bits - 8)
    if photometric.startswith("YBR"):
        return samples[..., 0].astype(np.uint8)
    red, green, blue = np.moveaxis(samples.astype(np.uint32), -1, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


def _by_palette(samples: np.ndarray, frame: Frame) -> np.ndarray:
    """Return the luminance of the palette's colours, uint8 (H, W)."""
    red_green_blue = np.stack([lut(samples) for lut in frame.image.palette], -1).astype(np.uint16)
    return _luminance(red_green_blue, "RGB", max(8, frame.image.palette[0].bits))


def _values(samples: np.ndarray, frame: Frame) -> np.ndarray:
    """Return samples in the scanner's own units, float32 (H, W)."""
    if frame.modality_lut:
        return frame.modality_lut(samples)
    return samples.astype(np.float32) * np.float32(frame.slope) + np.float32(frame.intercept)


def _brightness(samples: np.ndarray, frame: Frame) -> np.ndarray:
    """Return brightness, float32 (H, W) in [0, 1]: by the file's first lookup table or window, else over all values."""
    values, image = _values(samples, frame), frame.image
    if frame.voi_lut:
        shown: np.ndarray = frame.voi_lut(values) / np.float32(2**frame.voi_lut.bits - 1)
    elif frame.window:
        shown = _apply_window(values, *frame.window)
    elif frame.modality_lut:
        shown = values / np.float32(2**frame.modality_lut.bits - 1)
    else:
        low, high = sorted(frame.slope * end + frame.intercept for end in image.range)
        shown = (values - np.float32(low)) / np.float32(high - low)
    shown = np.clip(shown, 0, 1)
    return 1 - shown if image.photometric == "MONOCHROME1" else shown


def _apply_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Apply a window as DICOM PS3.3 C.11.2.1: black is 0, white is 1, values beyond them are not yet clipped."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - np.float32(centre)) / np.float32(width), -80, 80)))
    if function != "LINEAR_EXACT":
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return (values - np.float32(centre)) / np.float32(width) + np.float32(0.5)
