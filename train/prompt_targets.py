"""The objects that an evaluation of prompts marks: the largest of each image of a pack or a data set.

Axes: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from mpsams import datasets, packs, splits
from train import simulated_users
from train.evaluate import Source


@dataclass(frozen=True)
class Target:
    """An object to mark: its case, the image in [0, 1] and its mask, both (H, W)."""

    case: str
    unit_hw: np.ndarray
    truth_hw: np.ndarray


def open_images(metadata: dict, source: Source, part: str) -> datasets.Dataset | datasets.Stack:
    """Return the cases to measure, from a pack or a folder: a part of the checkpoint's split, or everything."""
    own = {values["dataset"]: splits.restore(values) for values in metadata["splits"]}
    name = source.name or next(iter(own))
    if source.root and packs.is_pack(source.root):
        images: datasets.Dataset | datasets.Stack = packs.read(source.root)
        if images.name != name:
            raise ValueError(f"{source.root} is a pack of {images.name!r}; data.name is {name!r}")
    else:
        images = datasets.open_dataset(name, source.root, modality=source.modality)
    if part == "all":
        return images
    if name not in own:
        raise ValueError(
            f"the checkpoint was trained on {', '.join(own)}, so {name!r} has no part {part!r} for it; use --split all"
        )
    return images.of(own[name].part(part))


def targets(images: datasets.Dataset | datasets.Stack, limit: int) -> Iterator[Target]:
    """Yield the largest object of each image that has one, at most ``limit`` of them, spread evenly (0: all)."""
    chosen = list(range(len(images)))
    if limit:
        marked = [number for number in chosen if mask_of(images, number).any()]
        chosen = [
            marked[place] for place in np.linspace(0, len(marked) - 1, min(limit, len(marked))).round().astype(int)
        ]
    for number in tqdm(chosen, desc="evaluating", unit="img"):
        mask_hw = mask_of(images, number)
        if mask_hw.any():
            yield Target(images.cases[number], unit_of(images, number), simulated_users.largest_part(mask_hw))


def mask_of(images: datasets.Dataset | datasets.Stack, number: int) -> np.ndarray:
    """Return the truth of an image by its number: bool (H, W)."""
    return (
        images.take(torch.tensor([number]))[1][0, 0].numpy()
        if isinstance(images, datasets.Stack)
        else images[number].mask
    )


def unit_of(images: datasets.Dataset | datasets.Stack, number: int) -> np.ndarray:
    """Return an image by its number: float32 (H, W) in [0, 1]; of several channels the first."""
    if isinstance(images, datasets.Stack):
        return images.take(torch.tensor([number]))[0][0, 0].float().div(255).numpy()
    unit = images[number].unit
    return unit.reshape(-1, *unit.shape[-2:])[0]
