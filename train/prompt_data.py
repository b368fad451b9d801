"""The images that a training on prompts learns from: several data sets with their splits, numbered through.

Axes: B images of a batch, H x W or S x S pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mpsams import distortions, distributed, packs, transforms
from mpsams.datasets import Stack
from mpsams.inference import prompts
from mpsams.inference.prompts import Prompt
from mpsams.splits import Split
from mpsams.transforms import Augmentation, Box
from train import simulated_users
from train.options import Data, open_data
from train.prompt_objects import SMALLEST


@dataclass(frozen=True)
class Packs:
    """The images to train on.

    Args:
        packs: folders that train.pack made, all of one size and of one channel.
        phantoms: share of the draws that falls on the built-in ultrasound phantoms; 0 does without them.
        size: side of the images in pixels.
        split_seed: seed of each data set's 8:1:1 division.
        grouped: keep near-duplicate images in one part.
        slice_stride: use every n-th slice of a patient.
        targets: by data set's name, what the masks really outline when it is not what the name promises.
        sources: by data set's name, where the images really come from, likewise.
    """

    packs: tuple[str, ...] = ()
    phantoms: float = 0.05
    size: int = 192
    split_seed: int = 0
    grouped: bool = True
    slice_stride: int = 1
    targets: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.phantoms <= 1 or not (self.packs or self.phantoms):
            raise ValueError(f"data.phantoms {self.phantoms} must lie in [0, 1], and above 0 without data.packs")


@dataclass(frozen=True)
class PartedSet:
    """A data set in memory or memory-mapped, and its split."""

    stack: Stack
    split: Split

    def labelled(self, slice_stride: int) -> Stack:
        """Return the images of the training part that have an object to learn from."""
        return select_with_objects(self.stack.of(self.split.train, slice_stride))


def open_sets(options: Packs) -> list[PartedSet]:
    """Return the data sets with their splits. ValueError for equal ones, and without masks or with several channels."""
    chosen = [Data(name=name_of_pack(root), root=root, size=options.size) for root in options.packs]
    chosen += [Data(name="phantom", size=options.size)] if options.phantoms else []
    found = []
    for each in chosen:
        each = replace(each, split_seed=options.split_seed, grouped=options.grouped)
        each = replace(each, target=options.targets.get(each.name, ""), source=options.sources.get(each.name, ""))
        stack, split = open_data(
            each, partial(tqdm, desc=f"reading {each.name}", unit="img", disable=distributed.rank() > 0)
        )
        if stack.channels != 1 or not stack.target:
            raise ValueError(f"{each.root} has {stack.channels} channels; expected 1, and masks to learn from")
        found.append(PartedSet(stack, split))
    names = [each.stack.name for each in found]
    if len(set(names)) < len(names):
        raise ValueError(f"data.packs are of {', '.join(names)}; expected each data set once")
    return found


def name_of_pack(root: str) -> str:
    """Return the name of the data set that a pack was made from. ValueError when the folder is no pack."""
    if not packs.is_pack(root):
        raise ValueError(f"{root} is no pack; make it with train.pack")
    return packs.read(root).name


def select_with_objects(stack: Stack) -> Stack:
    """Return only the images of a data set whose masks have at least ``SMALLEST`` pixels."""
    batches = torch.arange(len(stack)).split(256)
    chosen = (
        torch.cat([batch[stack.take(batch)[1].flatten(1).sum(dim=1) >= SMALLEST] for batch in batches])
        if len(stack)
        else torch.arange(0)
    )
    cases, groups = (tuple(values[i] for i in chosen.tolist()) for values in (stack.cases, stack.groups))
    return replace(stack, cases=cases, groups=groups, rows=stack.rows[chosen])


class Objects:
    """The images to learn from, of all data sets, numbered through.

    root: power of a data set's number of images in proportion to which it is drawn. phantoms: share of the draws of
    phantoms. wholes: the data sets that the stacks were chosen from. ``weights``: the share of the draws of each image,
    float64 (N,).
    """

    def __init__(self, stacks: Sequence[Stack], root: float, phantoms: float, wholes: Sequence[Stack] = ()) -> None:
        self.stacks = [stack for stack in stacks if len(stack)]
        if not self.stacks:
            raise ValueError("none of the training images has an object to learn from")
        by_name = {whole.name: whole for whole in wholes}
        self.beside = [rows_beside(stack, by_name.get(stack.name, stack)) for stack in self.stacks]
        counts_s = torch.tensor([len(stack) for stack in self.stacks])
        self.ends_s = counts_s.cumsum(0)
        drawn_s = torch.tensor([stack.name == "phantom" for stack in self.stacks])
        shares_s = counts_s.double() ** root
        if drawn_s.any() and not drawn_s.all():
            shares_s[~drawn_s] *= (1 - phantoms) / shares_s[~drawn_s].sum()
            shares_s[drawn_s] = phantoms
        self.weights = (shares_s / shares_s.sum() / counts_s).repeat_interleave(counts_s)

    def __len__(self) -> int:
        return int(self.ends_s[-1])

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return some images by their number: float (B, 1, S, S) in [0, 1] and bool (B, 1, S, S)."""
        taken = [self.stacks[number].take(torch.tensor([place])) for number, place in map(self.find, indices.tolist())]
        images, masks = (torch.cat(parts) for parts in zip(*taken, strict=True))
        return images.float() / 255, masks

    def find(self, index: int) -> tuple[int, int]:
        """Return the number of an image's data set, and its place in that."""
        number = int(torch.searchsorted(self.ends_s, index, right=True))
        return number, index - (int(self.ends_s[number - 1]) if number else 0)

    def take_slices(self, indices: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return images as ``take``, and masks bool (B, 2, S, S): of the image, and of the slice that it follows.

        For a share of the slices of volumes, the image is that of the slice before or after instead, and the second
        mask their own. Otherwise that is empty.
        """
        images_b1hw, masks_b1hw = self.take(indices)
        followed_b1hw = torch.zeros_like(masks_b1hw)
        for item, (number, place) in enumerate(map(self.find, indices.tolist())):
            rows = [row for row in self.beside[number][place].tolist() if row >= 0]
            if rows and torch.rand((), generator=generator) < share:
                row = rows[int(torch.randint(len(rows), (), generator=generator))]
                followed_b1hw[item] = masks_b1hw[item]
                images_b1hw[item] = self.stacks[number].stored_nchw[row].float() / 255
                masks_b1hw[item] = self.stacks[number].stored_n1hw[row]
        return images_b1hw, torch.cat([masks_b1hw, followed_b1hw], dim=1)


def rows_beside(stack: Stack, whole: Stack) -> Tensor:
    """Return where the slices before and after each image of a data set are stored: int64 (N, 2), -1 for none.

    whole: the data set that the images were chosen from.
    """
    groups = dict(zip(whole.rows.tolist(), whole.groups, strict=True))
    rows = zip(stack.rows.tolist(), stack.groups, strict=True)
    return torch.tensor([[at if groups.get(at) == group else -1 for at in (row - 1, row + 1)] for row, group in rows])


def augment(
    images_bchw: Tensor, masks_bchw: Tensor, augment: Augmentation, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and masks after random changes: float32 (B, H, W) in [0, 1] and bool (B, C, H, W)."""
    size, batch = images_bchw.shape[-1], len(images_bchw)
    drawn = transforms.draw(batch, augment, generator)
    more = distortions.draw(batch, augment, size, generator)
    bent = distortions.offset(more, size)
    images_bchw = transforms.apply_intensity(transforms.apply_geometry(images_bchw, drawn, offset_bhw2=bent), drawn)
    images_bchw = distortions.apply_intensity(images_bchw, more)
    masks_bchw = transforms.apply_geometry(masks_bchw.float(), drawn, "nearest", bent) > 0.5
    return images_bchw[:, 0].numpy(), masks_bchw.numpy()


def hashes(data: Sequence[PartedSet]) -> str:
    """Return the hashes of the pixels and masks of all data sets, one after the other."""
    return " ".join(each.stack.sha256 for each in data)


def objects_of(stack: Stack, indices: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and their largest objects: float32 (H, W) in [0, 1] and bool (H, W)."""
    for index in indices:
        image_1chw, mask_11hw = stack.take(index[None])
        yield image_1chw[0, 0].float().div(255).numpy(), simulated_users.largest_part(mask_11hw[0, 0].numpy())


def moved_crop(crop: Box, prompt: Prompt, rng: np.random.Generator) -> Box:
    """Move and scale the crop of a prompt a little; more around points alone, which do not show the object's size."""
    reach = 0.15 if prompt.box is not None or prompt.mask is not None else 0.6
    side = max(prompts.LEAST_SIDE, round(crop.height * float(np.exp(rng.uniform(-reach, reach)))))
    shift = rng.uniform(-0.05, 0.05, 2) * crop.height
    top, left = (
        round(float(start + (crop.height - side) / 2 + move)) for start, move in zip(crop[:2], shift, strict=True)
    )
    return Box(top, left, side, side)


def cropped_truth(truth_hw: np.ndarray, crop: Box, size: int) -> Tensor:
    """Return the part of an object that lies in a crop, as the network is to answer it: bool (1, S, S)."""
    return transforms.resize_mask(transforms.crop(truth_hw, crop), size, size)[0]
