"""As many made-up ultrasound-like images as are wanted, written as a pack: speckle that gets darker with depth, a dark
ellipse in it.

Axes: N images, H x W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpsams import packs
from mpsams.datasets import Dataset

CHUNK = 64  # images drawn at once


def pack(folder: Path, images: int, size: int, each: int = 1, seed: int = 0) -> Path:
    """Write a pack of ``images`` images into ``folder``, in memory for a few at a time; return the folder.

    each: images of a patient; 1 is a data set whose patients are unknown, in which near-duplicates are sought.
    """
    folder.mkdir(parents=True)
    source = np.random.default_rng(seed)
    with open(folder / packs.IMAGES, "wb") as pixels, open(folder / packs.MASKS, "wb") as masks:
        for start in range(0, images, CHUNK):
            images_nhw, masks_nhw = draw_images(min(CHUNK, images - start), size, source)
            images_nhw.tofile(pixels)
            masks_nhw.tofile(masks)
    cases = tuple(f"made-up-{number:06d}" for number in range(images))
    groups = cases if each == 1 else tuple(f"patient-{number // each:05d}" for number in range(images))
    dataset = Dataset("folder", "ultrasound", "made-up ellipse", cases, groups, packs.read)
    rows = [{"patient": groups[n], "cases": cases[n : n + each], "sha256": ""} for n in range(0, images, each)]
    packs.finish(dataset, size, 1, rows, folder)
    return folder


def draw_images(count: int, size: int, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw images uint8 (N, H, W) and their masks bool (N, H, W)."""
    y_h1, x_w = np.linspace(-1, 1, size, dtype=np.float32)[:, None], np.linspace(-1, 1, size, dtype=np.float32)
    low, most = (-0.5, -0.5, 0.1, 0.1, 0.1, 1), (0.5, 0.5, 0.4, 0.4, 0.5, 6)
    top, left, high, wide, fade, bend = source.uniform(low, most, (count, 6)).T.astype(np.float32)[..., None, None]
    masks_nhw = ((y_h1 - top) / high) ** 2 + ((x_w - left) / wide) ** 2 < 1
    tissue_nhw = (0.5 - fade * y_h1 / 2 + 0.1 * np.sin(bend * (x_w + 2 * y_h1))) * np.where(
        masks_nhw, np.float32(0.3), np.float32(1)
    )
    speckle_nhw = np.sqrt(source.standard_exponential((count, size, size), dtype=np.float32))
    return (255 * np.clip(tissue_nhw * speckle_nhw, 0, 1)).astype(np.uint8), masks_nhw
