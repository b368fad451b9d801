"""The interface of a data set, samples and stacks, and the data sets by name (one file each).

A data set is a module with ``load(root) -> Dataset`` and a sentence ``SOURCE`` in this folder;
``available()`` lists them, ``open_dataset(name, root)`` opens one. Adding a data set is adding a file.

Axes: N samples, C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpsams import transforms
from mpsams.datasets._samples import Dataset as Dataset
from mpsams.datasets._samples import Sample as Sample
from mpsams.datasets._samples import members_of as members_of
from mpsams.datasets._samples import no_files as no_files
from mpsams.datasets._samples import pick as pick


@dataclass(frozen=True)
class Stack:
    """A whole data set at the network's size, in memory or memory-mapped.

    name, modality, target, cases, groups, sequences: as in ``Dataset``. source: where it comes from and under which
    terms.
    stored_nchw: uint8, 255 = 1.0; stored_n1hw: bool masks, True = lesion; of all samples, also those not selected.
    rows: the place of each case in what is stored.
    sha256: of all pixels and masks, to tell one copy of the data from another.
    notes: of the data set and of all its samples, each once.
    """

    name: str
    modality: str
    target: str
    source: str
    cases: tuple[str, ...]
    groups: tuple[str, ...]
    stored_nchw: Tensor
    stored_n1hw: Tensor
    rows: Tensor
    sha256: str
    sequences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.stored_nchw.shape[-1]

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.stored_nchw.shape[1]

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return some samples by their number among the selected: uint8 (B, C, H, W) and bool (B, 1, H, W)."""
        rows = self.rows[indices].to(self.stored_nchw.device, non_blocking=True)
        return self.stored_nchw[rows], self.stored_n1hw[rows]

    @property
    def bytes(self) -> int:
        """Memory that the selected samples take."""
        return len(self) * (self.channels + 1) * self.size**2

    def to(self, device: torch.device) -> Stack:
        """Return only the selected samples, in the memory of a device."""
        images_nchw, masks_n1hw = (stored[self.rows].to(device) for stored in (self.stored_nchw, self.stored_n1hw))
        return replace(self, stored_nchw=images_nchw, stored_n1hw=masks_n1hw, rows=torch.arange(len(self)))

    def of(self, groups: Sequence[str], slice_stride: int = 1) -> Stack:
        """Return only these patients, in the order given; of each only every ``slice_stride``-th case.

        ValueError names who is absent.
        """
        members = members_of(self.groups)
        chosen = [index for group in groups for index in pick(members, group, self.name)[::slice_stride]]
        return replace(
            self,
            cases=tuple(self.cases[i] for i in chosen),
            groups=tuple(self.groups[i] for i in chosen),
            rows=self.rows[torch.tensor(chosen, dtype=torch.int64)],
        )


def stack(dataset: Dataset, size: int, track: Callable[[Iterable], Iterable] = iter) -> Stack:
    """Read every sample into memory as ``prepare`` does; slices without a body are left out.

    track: wraps the iterable of cases, so that a caller can show progress.
    """
    kept, notes = [], []
    for index, case in enumerate(track(dataset.cases)):
        sample = dataset.read(case)
        notes += [(dataset.groups[index], note) for note in sample.notes]
        if found := prepare(sample, size):
            kept.append((index, *found))
    if not kept:
        raise ValueError(no_slices_message(dataset))
    order, images, masks = zip(*kept, strict=True)
    images_nchw, masks_n1hw = np.stack(images), np.stack(masks)
    made = group_samples(dataset, order, images_nchw, masks_n1hw, fingerprint([images_nchw], [masks_n1hw]))
    return replace(made, notes=dataset.notes + add_names(notes))


def add_names(notes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return sentences with the names they are about, each once: "NAME: sentence", "NAME and 2 others: sentence"."""
    about: dict[str, list[str]] = {}
    for name, note in dict.fromkeys(notes):
        about.setdefault(note, []).append(name)
    others = ("", "", " and 1 other")
    return tuple(
        f"{names[0]}{others[len(names)] if len(names) < 3 else f' and {len(names) - 1} others'}: {note}"
        for note, names in about.items()
    )


def no_slices_message(dataset: Dataset) -> str:
    """Return the error message for a data set of which ``prepare`` keeps no slice."""
    return (
        f"none of the {len(dataset)} slices of {dataset.name!r} shows a body or a lesion; is its modality really"
        f" {dataset.modality}?"
    )


def group_samples(
    dataset: Dataset, order: Sequence[int], images_nchw: np.ndarray, masks_n1hw: np.ndarray, sha256: str
) -> Stack:
    """Return a Stack of arrays that hold the data set's samples of these numbers."""
    cases, groups = (tuple(values[i] for i in order) for values in (dataset.cases, dataset.groups))
    tensors = torch.from_numpy(images_nchw), torch.from_numpy(masks_n1hw)
    words = dataset.name, dataset.modality, dataset.target, source(dataset.name)
    return Stack(*words, cases, groups, *tensors, torch.arange(len(cases)), sha256, dataset.sequences, dataset.notes)


def prepare(sample: Sample, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Resize a sample to a network's input: uint8 (C, size, size) with 255 = 1.0, and its mask, bool (1, size, size).

    None for a slice that shows neither body nor lesion.
    """
    unit = transforms.crop(sample.unit, sample.box)
    if not (sample.mask.any() or transforms.has_body(unit)):
        return None
    channels = unit.reshape(-1, *unit.shape[-2:])
    image_chw = torch.cat([transforms.resize(channel, size, size)[0] for channel in channels])
    mask_1hw = transforms.resize_mask(transforms.crop(sample.mask, sample.box), size, size)[0]
    return (image_chw * 255).round().to(torch.uint8).numpy(), mask_1hw.numpy()


def fingerprint(images: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of all pixels, then all masks at one bit a pixel; both in parts of whole samples, in order."""
    digest = hashlib.sha256()
    for part_nchw in images:
        digest.update(np.ascontiguousarray(part_nchw).data)
    for part_n1hw in masks:
        digest.update(np.packbits(part_n1hw).data)
    return digest.hexdigest()


def available() -> list[str]:
    """Return the names of all data sets: the files of this folder that do not begin with an underscore."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def open_dataset(
    name: str, root: str | Path | None = None, sequences: Sequence[str] = (), modality: str | None = None
) -> Dataset:
    """Open the data set of that name from the folder ``root`` (a phantom needs none).

    sequences: which of its MRI sequences become channels, where a data set has several to choose from. modality: of
    ``imaging.MODALITIES``, where it is not the data set's own; None or "" leaves it to the data set.

    Raises ValueError naming what exists when the name is unknown or there is nothing to choose, and whatever
    the data set's own ``load`` finds wrong with the folder.
    """
    module = find(name)
    chosen: dict[str, Any] = {}
    if sequences and not hasattr(module, "SEQUENCES"):
        raise ValueError(
            f"data set {name!r} has no sequences to choose from, so {', '.join(sequences)} cannot be chosen"
        )
    if sequences:
        chosen["sequences"] = tuple(sequences)
    if modality and hasattr(module, "MODALITIES"):
        chosen["modality"] = modality
    dataset = module.load(root, **chosen)
    if modality and dataset.modality != modality:
        raise ValueError(f"data set {name!r} is {dataset.modality}, so the modality {modality!r} cannot be stated")
    return dataset


def source(name: str) -> str:
    """Return the origin and terms of use of a data set, in a sentence. ValueError as ``open_dataset``."""
    return find(name).SOURCE


def find(name: str) -> ModuleType:
    """Return the module of a data set by its name. ValueError lists the names."""
    if name not in available():
        raise ValueError(f"unknown data set {name!r}; available: {', '.join(available())}")
    return importlib.import_module(f"{__name__}.{name}")
