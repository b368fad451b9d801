"""DICOM frames to stacks: which of them make one volume, in which order, and where its voxels lie.

Millimetres are DICOM's LPS until the affine, which is RAS. Axes: Z frames of a stack.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import phases
from .frames import Frame, Place

_SAME = 1e-3  # of cosines, and of the distance between pixels: differences that rounding makes
_SAME_PLACE = 0.05  # of the distance between slices
_FINE = (1e-2, 1e-5)  # millimetres of what is surely more than rounding; of what is more in very fine volumes
_UNEVEN, _GAP = 0.05, 1.5  # of the median distance between slices: off by more; farther than
_MAX_TILT = 45  # degrees
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class FrameStack:
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
        return len(self.frames) * self.frames[0].rows * self.frames[0].columns


def stacks(frames: Sequence[Frame]) -> list[FrameStack]:
    """Return all volumes that frames make, the one of most voxels first: at least one, and each frame in exactly one.

    Frames go together by series, frame of reference, size, kind of pixels, orientation and spacing, but for what
    rounding changes; localizers, and frames of a cine loop, which have no places, stay apart. Frames at the same places
    make several volumes (``phases.separate``), which stay together in their order.
    """
    found: list[list[FrameStack]] = []
    for alike in _divide(frames, _kind):
        if alike[0].place is None:
            found += [[_cine(cine)] for cine in _divide(alike, _cine_of)]
            continue
        for lying_alike in _by_orientation(alike):
            found += [_volumes(group, notes) for group, notes in _series(lying_alike)]
    found = [_beside(parts, frames) for parts in found]
    found.sort(key=lambda parts: (-max(stack.voxels for stack in parts), parts[0].frames[0].image.series))
    return [stack for parts in found for stack in parts]


def _beside(parts: list[FrameStack], frames: Sequence[Frame]) -> list[FrameStack]:
    """Return volumes with a note where their series has other images, which are no part of them."""
    first = parts[0].frames[0]
    if first.place is None or not first.image.series or first.image.localizer:
        return parts
    alike = sum(frame.image.series == first.image.series and not frame.image.localizer for frame in frames)
    others = alike - sum(len(stack.frames) for stack in parts)
    if others <= 0:
        return parts
    count = "1 other image" if others == 1 else f"{others} other images"
    note = (
        f"{count} of this series cannot be part of it, by size, kind, orientation, spacing or want of a place: see the"
        " other choices."
    )
    return [replace(stack, notes=(*stack.notes, note)) for stack in parts]


def _divide(frames: Sequence[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    """Group frames by a key, in the order in which keys occur."""
    groups: dict[Hashable, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return list(groups.values())


def _kind(frame: Frame) -> tuple:
    image = frame.image
    source = image.study, image.series_number, image.modality, image.localizer
    return *source, frame.rows, frame.columns, image.samples, image.photometric, frame.place is None


def _cine_of(frame: Frame) -> tuple:
    image = frame.image
    return image.series, image.aspect, image if image.frames > 1 or frame.tile else None


def _by_orientation(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames by orientation and pixel distances, each as good as equal to the first of its group."""
    firsts = np.empty((len(frames), 8))
    groups: list[list[Frame]] = []
    for frame in frames:
        place = frame.placed
        where = np.array([*place.across, *place.down, *np.log(place.spacing)])
        same = np.flatnonzero((np.abs(firsts[: len(groups)] - where) < _SAME).all(axis=1))
        if len(same):
            groups[same[0]].append(frame)
        else:
            firsts[len(groups)] = where
            groups.append([frame])
    return groups


def _series(frames: Sequence[Frame]) -> list[tuple[list[Frame], list[str]]]:
    """Group frames of one orientation by their series and frame of reference; return them with notes.

    Images of which each names another one make a single group: all else that they say is the same, so UIDs were made
    anew for each image, as some scanners and programs that anonymise do.
    """
    groups = _divide(frames, lambda frame: (frame.image.series, frame.image.frame_of_reference))
    single = all(frame.image.frames == 1 for frame in frames) and all(
        len({f.image for f in group}) == 1 for group in groups
    )
    if len(groups) == 1 or not single or frames[0].image.localizer:
        return [(group, []) for group in groups]
    several = len({frame.image.series for frame in frames}) > 1
    difference = "a series of its own (SeriesInstanceUID)" if several else "a frame of reference of its own"
    note = (
        f"Each image states {difference}; they agree in study, series number, size, orientation and spacing, so they"
        " are taken as one series."
    )
    return [(list(frames), [note])]


def _cine(frames: list[Frame]) -> FrameStack:
    """Return frames without places as a cine loop, by their number."""
    frames = sorted(frames, key=lambda frame: (frame.number, frame.index))
    notes = []
    if any(frame.misplaced for frame in frames):
        notes.append("The geometry in this DICOM is incomplete or not valid, so distances are unknown.")
    elif len(frames) > 1 and frames[0].image.frames > 1:
        notes.append(
            "The frames count as moments, not places, as they do not say where they lie; distances are unknown."
        )
    elif len(frames) > 1:
        notes.append(
            "The images do not say where they lie, so they are in the order of their numbers and distances are unknown."
        )
    return FrameStack(tuple(frames), None, tuple(notes))


def _volumes(frames: list[Frame], notes: list[str]) -> list[FrameStack]:
    """Return frames of one orientation as volumes in which each place is taken once.

    These are in the order of their phases, but do not begin with one that is less than half as large as the largest.
    """
    frames = sorted(frames, key=lambda frame: frame.order)
    heights = np.array([frame.placed.position for frame in frames]) @ frames[0].placed.normal
    places = _number(heights, frames[0].placed.thickness)
    found = phases.separate(frames, places)
    total, parts, counts = len(found.parts), [], np.bincount(places)
    for k, members in enumerate(found.parts, start=1):
        members = members[np.argsort(heights[members], kind="stable")]
        stack = _volume([frames[index] for index in members])
        description = [_describe_parts(counts, found, k)] if total > 1 else []
        parts.append(replace(stack, notes=(*notes, *stack.notes, *description), part=(k, total)))
    half = max(stack.voxels for stack in parts) / 2
    return sorted(parts, key=lambda stack: (stack.voxels < half, stack.part))


def _describe_parts(counts: np.ndarray, found: phases.FrameParts, k: int) -> str:
    """Return a sentence on why a volume is only a part of the images. counts: of images at each place."""
    many = f"{'' if counts.min() == counts.max() else 'up to '}{counts.max()} images at each place"
    suffix = (
        f", told apart by {' and '.join(found.names)}"
        if found.names
        else ", such as phases or echoes"
        if found.certain
        else ""
    )
    doubt = "" if found.certain else ", and may mix them, as nothing says for certain which belong together"
    return f"There are {many}{suffix}; this volume takes number {k} of each{doubt}."


def _number(heights: np.ndarray, thickness: float | None) -> np.ndarray:
    """Return the number (N,) of each height's place, from the lowest; heights far closer than slices are one."""
    order = np.argsort(heights, kind="stable")
    distances = np.diff(heights[order])
    apart = next(
        (wide for fine in (0.02 * (thickness or 0), *_FINE) if fine and len(wide := distances[distances > fine])),
        distances,
    )
    numbers = np.zeros(len(heights), int)
    if len(apart):
        numbers[order[1:]] = np.cumsum(distances > max(_FINE[1], _SAME_PLACE * float(np.median(apart))))
    return numbers


def _volume(frames: list[Frame]) -> FrameStack:
    """Return frames at places of their own as a volume, in the order of these."""
    affine, notes = _affine([frame.placed for frame in frames])
    return FrameStack(tuple(frames), affine, tuple(notes))


def _affine(places: list[Place]) -> tuple[np.ndarray | None, list[str]]:
    """Return the affine through places in order along the normal, and notes on it for the user."""
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
        tilt = float(np.degrees(np.arccos(min(1.0, 1 / float(np.linalg.norm(upwards))))))
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
        notes.append(
            f"Slices are missing after number {after} of {len(distances) + 1}; all are shown as {median:.3g} mm apart."
        )
    elif uneven:
        ends = f"{distances.min():.3g} to {distances.max():.3g}"
        notes.append(f"Slices are unevenly spaced, {ends} mm apart; all are shown as {median:.3g} mm apart.")
    if tilt > 0.5:
        notes.append(f"The scanner was tilted by {tilt:.1f}°, so slices are shifted and other planes look sheared.")
    return notes
