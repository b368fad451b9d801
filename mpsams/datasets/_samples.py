"""A sample, and a data set: samples that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpsams import transforms
from mpsams.transforms import Box


@dataclass(frozen=True)
class Sample:
    """One image, or one slice of a volume, with its truth.

    image: (H, W) float32 at its original size, in the modality's own units: [0, 1] for ultrasound,
        Hounsfield units for CT, arbitrary intensities for MRI; (C, H, W) where a data set has several channels.
    mask: (H, W) bool, True = lesion; all False where there is none.
    case: the name by which splits and records know it, unique within its data set.
    spans: per channel, the values that become 0 and 1 (``transforms.scan_window`` of the whole volume).
    box: where a network looks (``transforms.frame``); None is the whole image.
    spacing: millimetres between slices, rows and columns; None where unknown.
    notes: sentences on what to know before trusting it and its mask, without those that the data set has itself.
    steps: (3, 3) millimetres to the next slice, row and column, a row each, where these are not at right angles; else
    None.
    """

    image: np.ndarray
    mask: np.ndarray
    case: str
    spans: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    box: Box | None = None
    spacing: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()
    steps: np.ndarray | None = None

    @property
    def spacing_hw(self) -> tuple[float, float] | None:
        """Millimetres between rows and columns; None where unknown."""
        return None if self.spacing is None else self.spacing[1:]

    @property
    def unit(self) -> np.ndarray:
        """The image in [0, 1]: float32 (H, W), or (C, H, W) of several channels."""
        if self.image.ndim == 2:
            return transforms.to_unit(self.image, self.spans[0])
        return np.stack(
            [transforms.to_unit(channel, span) for channel, span in zip(self.image, self.spans, strict=True)]
        )


def no_files(group: str) -> tuple[Path, ...]:
    """Return no files, for a patient who has none."""
    return ()


@dataclass(frozen=True)
class Dataset:
    """A lazily read sequence of samples.

    name: the data set's name; modality: one of ``imaging.MODALITIES``; target: what the masks outline ("" when
    there are none).
    cases: one name per sample. groups: the patient of each, who is never torn apart by a split; where patients are
    unknown, each case is its own. read: case -> Sample. files: group -> what it is read from. sequences: what the
    channels are, where a data set has several to choose from. notes: sentences on what was passed over or guessed.
    """

    name: str
    modality: str
    target: str
    cases: tuple[str, ...]
    groups: tuple[str, ...]
    read: Callable[[str], Sample]
    files: Callable[[str], tuple[Path, ...]] = no_files
    sequences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        return self.read(self.cases[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self.read(case) for case in self.cases)

    def select(self, cases: Sequence[str]) -> Dataset:
        """Return the data set with only these cases, in this order. ValueError names the first case that is absent."""
        group = dict(zip(self.cases, self.groups, strict=True))
        absent = [case for case in cases if case not in group]
        if absent:
            raise ValueError(
                f"{len(absent)} of {len(cases)} cases are not in this copy of {self.name!r}, "
                f"the first is {absent[0]!r}; it has {len(self)} cases"
            )
        return replace(self, cases=tuple(cases), groups=tuple(group[case] for case in cases))

    def of(self, groups: Sequence[str]) -> Dataset:
        """Return the data set with only the cases of these patients, in this order. ValueError for an absent one."""
        members = members_of(self.groups)
        return self.select([self.cases[i] for group in groups for i in pick(members, group, self.name)])


def members_of(groups: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of each patient's cases, patients in order of first appearance."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return members


def pick(members: dict[str, list[int]], group: str, name: str) -> list[int]:
    """Return a patient's case numbers. ValueError when the data set of that name has no such patient."""
    if group not in members:
        raise ValueError(
            f"patient {group!r} is not in this copy of {name!r}; it has {len(members)}, such as"
            f" {next(iter(members), None)!r}"
        )
    return members[group]
