"""DICOM frames to stacks: which of them make one volume, in which order, and where its voxels lie.

Millimetres are DICOM's LPS until the affine, which is RAS. Axes: Z frames of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .frames import Frame, Place

_SAME = 1e-4  # millimetres along the normal within which frames lie at one place
_UNEVEN, _GAP = 0.05, 1.5  # of the median distance between slices: off by more; farther than
_MAX_TILT = 45  # degrees
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames of one size that make one volume, Z in their order along the normal, or in time without places.

    affine: (4, 4) from column, row and slice to RAS millimetres, None without geometry. part: this is the first
    number of the second many volumes at the same places.
    """

    frames: tuple[Frame, ...]
    affine: np.ndarray | None
    notes: tuple[str, ...]
    part: tuple[int, int] = (1, 1)

    @property
    def voxels(self) -> int:
        return len(self.frames) * self.frames[0].image.rows * self.frames[0].image.columns


def stacks(frames: Sequence[Frame]) -> list[Stack]:
    """All volumes that frames make, the one of most voxels first: at least one, and each frame in at most one.

    Frames go together by series, size, kind of pixels, orientation and spacing; localizers, and frames of a film,
    which have no places, stay apart. Frames at the same places make as many volumes as there are at each.
    """
    groups: dict[tuple, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(_group(frame), []).append(frame)
    found = [stack for group in groups.values() for stack in (_volumes(group) if group[0].place else [_film(group)])]
    return sorted(found, key=lambda stack: (-stack.voxels, stack.frames[0].image.series, stack.part))


def _group(frame: Frame) -> tuple:
    image, place = frame.image, frame.place
    where = None if place is None else tuple(round(n, 3) + 0.0 for n in (*place.across, *place.down, *place.spacing))
    film = image if place is None and image.frames > 1 else None
    return image.series, image.localizer, image.rows, image.columns, image.samples, image.photometric, where, film


def _film(frames: list[Frame]) -> Stack:
    """Frames without places, by their number."""
    frames = sorted(frames, key=lambda frame: (frame.order[-1], frame.index))
    notes = []
    if any(frame.misplaced for frame in frames):
        notes.append("The geometry in this DICOM is incomplete or not valid, so distances are unknown.")
    elif len(frames) > 1 and frames[0].image.frames > 1:
        notes.append("The frames count as moments, not places, as they do not say where they lie; distances are unknown.")
    elif len(frames) > 1:
        notes.append("The images do not say where they lie, so they are in the order of their numbers and distances are unknown.")
    return Stack(tuple(frames), None, tuple(notes))


def _volumes(frames: list[Frame]) -> list[Stack]:
    """Frames of one orientation, sorted along its normal; those at one place are shared out over several volumes."""
    frames = sorted(frames, key=lambda frame: (*frame.order, frame.index))
    heights = np.array([frame.place.position for frame in frames]) @ frames[0].place.normal
    order = np.argsort(heights, kind="stable")
    new_place = np.diff(heights[order], prepend=-np.inf) > _SAME
    columns: list[list[Frame]] = []
    for index, new in zip(order, new_place, strict=True):
        if new:
            columns.append([])
        columns[-1].append(frames[index])
    depths = {len(column) for column in columns}
    if len(depths) > 1:
        note = f"Images at places already taken were left out: {len(frames) - len(columns)} of {len(frames)}."
        stack = _volume([column[0] for column in columns])
        return [replace(stack, notes=(*stack.notes, note))]
    (depth,) = depths
    parts = [_volume([column[k] for column in columns]) for k in range(depth)]
    if depth == 1:
        return parts
    note = "There are {} images at each place, such as phases or echoes; this volume takes number {} of each."
    return [
        replace(stack, notes=(*stack.notes, note.format(depth, k)), part=(k, depth)) for k, stack in enumerate(parts, start=1)
    ]


def _volume(frames: list[Frame]) -> Stack:
    """Frames at places of their own, in the order of these."""
    affine, notes = _affine([frame.place for frame in frames])
    return Stack(tuple(frames), affine, tuple(notes))


def _affine(places: list[Place]) -> tuple[np.ndarray | None, list[str]]:
    """The affine through places in order along the normal, and what the user should know of it."""
    first, positions = places[0], np.array([place.position for place in places])
    heights = positions @ first.normal
    notes: list[str] = []
    if len(places) == 1:
        step = first.normal * (first.thickness or 1.0)
        if first.thickness is None:
            notes.append("The slice does not say how thick it is; 1 mm is assumed.")
    else:
        distances, height = np.diff(heights), heights[-1] - heights[0]
        upwards = (positions[-1] - positions[0]) / height
        tilt = float(np.degrees(np.arccos(min(1.0, 1 / np.linalg.norm(upwards)))))
        if tilt > _MAX_TILT:
            return None, ["The places of the slices do not make a volume, so distances are unknown."]
        median = float(np.median(distances))
        uneven = bool((np.abs(distances - median) > _UNEVEN * median).any())
        step = upwards * (median if uneven else height / len(distances))
        notes += _notes(distances, median, uneven, tilt)
        aside = np.linalg.norm(positions - positions[0] - np.outer(heights - heights[0], upwards), axis=1).max()
        if aside > min(first.spacing):
            notes.append(f"Slices are shifted sideways by up to {aside:.3g} mm, which the volume does not show.")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = np.multiply(first.across, first.spacing[1]), np.multiply(first.down, first.spacing[0])
    lps[:3, 2], lps[:3, 3] = step, first.position
    return _TO_RAS @ lps, notes


def _notes(distances: np.ndarray, median: float, uneven: bool, tilt: float) -> list[str]:
    notes = []
    gaps = np.flatnonzero(distances > _GAP * median) + 1
    if len(gaps):
        after = ", ".join(map(str, gaps[:5])) + (f" and {len(gaps) - 5} more" if len(gaps) > 5 else "")
        notes.append(f"Slices are missing after number {after} of {len(distances) + 1}; all are shown as {median:.3g} mm apart.")
    elif uneven:
        ends = f"{distances.min():.3g} to {distances.max():.3g}"
        notes.append(f"Slices are unevenly spaced, {ends} mm apart; all are shown as {median:.3g} mm apart.")
    if tilt > 0.5:
        notes.append(f"The scanner was tilted by {tilt:.1f}°, so slices are shifted and other planes look sheared.")
    return notes
