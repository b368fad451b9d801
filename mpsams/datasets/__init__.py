"""What a data set is, and how one is found by its name (one file per data set).

A data set is a module with ``load(root) -> Dataset`` and a sentence ``SOURCE`` in this folder;
``available()`` lists them, ``open_dataset(name, root)`` opens one. Adding a data set is adding a file.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from mpsams import transforms


@dataclass(frozen=True)
class Sample:
    """One image with its truth.

    image: (H, W) float32 at its original size, in the modality's own units: [0, 1] for ultrasound,
        Hounsfield units for CT, arbitrary non-negative intensities for MRI
        (``transforms.to_unit`` maps all three to [0, 1]).
    mask: (H, W) bool, True = lesion; all False where there is none.
    case: the name by which splits and records know it, unique within its data set.
    """

    image: np.ndarray
    mask: np.ndarray
    case: str


@dataclass(frozen=True)
class Dataset:
    """A lazily read sequence of samples.

    name: the data set's name; modality: one of ``imaging.MODALITIES``; target: what the masks outline.
    cases: one name per sample. read: case -> Sample.
    groups: what must never be torn apart by a split (a patient, say), one label per case.
    """

    name: str
    modality: str
    target: str
    cases: tuple[str, ...]
    groups: tuple[str, ...]
    read: Callable[[str], Sample]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        return self.read(self.cases[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self.read(case) for case in self.cases)

    def select(self, cases: Sequence[str]) -> Dataset:
        """The same data set with only these cases, in this order. ValueError names what is absent."""
        group = dict(zip(self.cases, self.groups, strict=True))
        absent = [case for case in cases if case not in group]
        if absent:
            raise ValueError(
                f"{len(absent)} of {len(cases)} cases are not in this copy of {self.name!r}, "
                f"the first is {absent[0]!r}; it has {len(self)} cases"
            )
        return replace(self, cases=tuple(cases), groups=tuple(group[case] for case in cases))


@dataclass(frozen=True)
class Stack:
    """A whole data set at the network's size, in memory.

    images_n1hw: uint8 (N, 1, H, W), 255 = 1.0. masks_n1hw: bool, True = lesion. cases: N names.
    sha256: of the pixels and masks, to tell one copy of the data from another.
    """

    images_n1hw: Tensor
    masks_n1hw: Tensor
    cases: tuple[str, ...]
    sha256: str

    def select(self, cases: Sequence[str]) -> Stack:
        """Only these cases, in this order; the hash stays that of the whole."""
        place = {case: index for index, case in enumerate(self.cases)}
        index = torch.tensor([place[case] for case in cases], dtype=torch.int64)
        return replace(self, images_n1hw=self.images_n1hw[index], masks_n1hw=self.masks_n1hw[index], cases=tuple(cases))


def stack(dataset: Dataset, size: int, track: Callable = iter) -> Stack:
    """Read every sample, map it to [0, 1] and bring it to size x size pixels.

    track: wraps the iterable of cases, so that a caller can show progress.
    """
    images, masks = [], []
    for case in track(dataset.cases):
        sample = dataset.read(case)
        unit = transforms.to_unit(sample.image, dataset.modality)
        images.append((transforms.resize(unit, size, size) * 255).round().to(torch.uint8))
        masks.append(transforms.resize_mask(sample.mask, size, size))
    images_n1hw, masks_n1hw = torch.cat(images), torch.cat(masks)
    digest = hashlib.sha256(images_n1hw.numpy().tobytes() + np.packbits(masks_n1hw.numpy()).tobytes())
    return Stack(images_n1hw, masks_n1hw, dataset.cases, digest.hexdigest())


def available() -> list[str]:
    """Names of all data sets: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def open_dataset(name: str, root: str | Path | None = None) -> Dataset:
    """Open the data set of that name from the folder ``root`` (a phantom needs none).

    Raises ValueError naming what exists when the name is unknown, and whatever the data set's own
    ``load`` finds wrong with the folder.
    """
    return find(name).load(root)


def source(name: str) -> str:
    """Where a data set comes from and under which terms, in a sentence. ValueError as ``open_dataset``."""
    return find(name).SOURCE


def find(name: str) -> ModuleType:
    """The module of that data set. ValueError lists the names."""
    if name not in available():
        raise ValueError(f"unknown data set {name!r}; available: {', '.join(available())}")
    return importlib.import_module(f"{__name__}.{name}")
