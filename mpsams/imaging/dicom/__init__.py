"""DICOM files from strangers to a Scan: one image, a cine loop, or the series that lie in an upload."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import Scan, UnreadableImage
from . import header, pixels
from .elements import DAMAGED, OPENS, Allowance
from .frames import Frame, Place
from .header import MAX_FRAMES
from .stacks import FrameStack, stacks

MAX_FILES = 4096
_FILE_STEPS, _STEPS_PER_FILE = 400_000, 1000  # reads of headers: for any one file; for each file on the average
_OUTLINE_STEPS = 20_000  # for all of a header but what it says of single frames
_MODALITIES = {"CT": "ct", "MR": "mri", "US": "ultrasound", "IVUS": "ultrasound"}


@dataclass(frozen=True)
class Series:
    """Attributes of the files of a Scan that a DICOM-SEG needs; nothing in it names the patient but ``patient``.

    images: for each slice Z the UID of its file and its frame there, counted from 1, 0 in a file of one frame.
    series: of each slice Z. places: of each slice, none without geometry. patient: a Dataset of the elements that name
    the patient, unparsed. A UID is "" where the file has no valid one, files disagree, or a slice is a tile of its
    image.
    """

    sop_class: str
    study: str
    series: tuple[str, ...]
    frame_of_reference: str
    lossy: bool
    images: tuple[tuple[str, int], ...]
    places: tuple[Place, ...]
    patient: Any = field(repr=False)

    @property
    def referable(self) -> bool:
        """True if all UIDs that a DICOM-SEG refers to are present."""
        return all(
            (self.sop_class, self.study, *self.series, self.frame_of_reference, *(uid for uid, _ in self.images))
        )


def read(files: Sequence[Path], modality: str | None = None, choice: int = 0) -> Scan:
    """Read DICOM files as a Scan, its voxels memory-mapped: Z slices along their normal, or moments of a cine loop.

    CT and MR have the scanner's own values, never windowed; anything else, and colour, is brightness in [0, 1] by the
    window in the file. Samples stay as stored where one slope and intercept describe all slices, else voxels are
    float32. affine is None, with a note, where positions are absent or make no sense. What is no image among several
    files is left out, with a note. ``Scan.source`` is a Series.

    modality: one of ``imaging.MODALITIES``; None lets the file say. choice: which of ``Scan.choices``, the volume of
    most voxels being 0. Raises UnreadableImage, and nothing else, whatever the files hold, and ValueError for a choice
    that there is not.
    """
    if len(files) > MAX_FILES:
        raise UnreadableImage(f"These are {len(files)} files; allowed are up to {MAX_FILES} DICOM files at a time.")
    frames, left_out, repeated = _frames(files)
    found = stacks(frames)
    if not 0 <= choice < len(found):
        raise ValueError(f"choice {choice} does not exist; allowed are 0 to {len(found) - 1}")
    stack = found[choice]
    modality = modality or _modality(stack)
    try:
        voxels_xyz, slope, intercept, padding = pixels.load(stack.frames, picture=modality == "ultrasound")
    except UnreadableImage:
        raise
    except Exception:  # decoders raise whatever they like, and say things about the file
        raise UnreadableImage(DAMAGED) from None
    notes, aspect = list(stack.notes), (stack.frames[0].image.aspect or 1.0) if stack.affine is None else 1.0
    if aspect != 1:
        notes.append(f"Pixels are drawn {aspect:.3g} times as high as wide, as the file says; distances are unknown.")
    if modality != "ultrasound" and stack.frames[0].image.photometric == "MONOCHROME1":
        notes.append("This DICOM is meant to be shown with black and white exchanged; its values are kept.")
    if repeated:
        notes.append(f"Images that are there more than once were counted once: {repeated} of {len(files)} files.")
    if left_out:
        notes.append(f"Files that are damaged or no DICOM images were left out: {left_out} of {len(files)}.")
    return Scan(
        voxels_xyz, modality, _origin(stack), slope, intercept, stack.affine, tuple(notes), _titles(found), choice,
        _series(stack), padding, aspect,
    )  # fmt: skip


def group_series(files: Sequence[Path]) -> list[list[Path]]:
    """Group files by the series or volume that they make together; one that is no image, or damaged, is alone.

    Of headers less is read than ``read`` does, and nothing of single frames.
    """
    names, frames = {path: str(path) for path in files}, []
    for path in names:
        with contextlib.suppress(Exception):  # pydicom raises nearly anything; ``read`` says what is wrong
            frame = header.outline(path, Allowance(_OUTLINE_STEPS))
            names[path] = frame.image.series or str(path)
            frames.append(frame)
    joined: dict[str, str] = {}
    for stack in stacks(frames):
        first = joined.setdefault(names[stack.frames[0].image.path], names[stack.frames[0].image.path])
        for frame in stack.frames:
            joined.setdefault(names[frame.image.path], first)
    groups: dict[str, list[Path]] = {}
    for path, name in names.items():
        groups.setdefault(joined.get(name, name), []).append(path)
    return list(groups.values())


def _frames(files: Sequence[Path]) -> tuple[list[Frame], int, int]:
    """Return the frames of all images, no image twice, and how many files hold none, or one that was read before.

    Raises the first one's refusal if none holds an image.
    """
    left, frames, seen, refusals, repeated = _FILE_STEPS + _STEPS_PER_FILE * len(files), [], set(), [], 0
    for path in files:
        allowance = Allowance(min(left, _FILE_STEPS))
        left -= allowance.left
        try:
            found = header.read(path, allowance)
        except UnreadableImage as refusal:
            refusals.append(str(refusal))
        except Exception:  # pydicom raises nearly anything, and quotes the file
            refusals.append(DAMAGED)
        else:
            first = found[0]
            same = (
                first.image.sop,
                first.order,
                first.place and first.place.position,
                tuple(sorted(first.marks.items())),
            )
            repeated += same in seen
            frames += [] if same in seen else found
            seen |= {same} if first.image.sop else set()
        left += max(0, allowance.left)
        if len(frames) > MAX_FRAMES:
            raise UnreadableImage(f"There are too many images; allowed are up to {MAX_FRAMES} DICOM images at a time.")
    if not frames:
        raise UnreadableImage(refusals[0] if refusals else f"There are no files; {OPENS}.")
    return frames, len(refusals), repeated


def _modality(stack: FrameStack) -> str:
    """Return the modality that the file states; else ultrasound (brightness) for projections, colour and 8 bits, mri
    (free scale) for other volumes.
    """
    image = stack.frames[0].image
    if image.colour:
        return "ultrasound"
    return _MODALITIES.get(image.modality, "mri" if stack.affine is not None and image.allocated > 8 else "ultrasound")


def _count(stack: FrameStack) -> str:
    count = len(stack.frames)
    return "" if count == 1 else f"{count} {'frames' if stack.affine is None else 'slices'} of "


def _titles(found: list[FrameStack]) -> tuple[str, ...]:
    """Return a title of our own words for each stack, no two the same."""
    titles = []
    for stack in found:
        first = stack.frames[0]
        image = first.image
        kind = (image.modality or "Image") + (" localizer" if image.localizer else "")
        title = f"{kind}, {_count(stack)}{first.columns} × {first.rows}"
        if stack.affine is not None and len(stack.frames) > 1:
            title += f", {np.linalg.norm(stack.affine[:3, 2]):.3g} mm apart"
        titles.append(title if stack.part == (1, 1) else f"{title}, volume {stack.part[0]} of {stack.part[1]}")
    repeated = Counter(titles)
    numbers: Counter[str] = Counter()
    for index, title in enumerate(titles):
        numbers[title] += 1
        titles[index] = f"{title} (number {numbers[title]})" if repeated[title] > 1 else title
    return tuple(titles)


def _origin(stack: FrameStack) -> str:
    first = stack.frames[0]
    image = first.image
    words = f"DICOM {image.modality}".strip() + f", {_count(stack)}{first.columns} × {first.rows} pixels"
    if stack.affine is None:
        return words
    return words + ", " + " × ".join(f"{mm:.2f}" for mm in np.linalg.norm(stack.affine[:3, :3], axis=0)) + " mm"


def _series(stack: FrameStack) -> Series:
    image = stack.frames[0].image
    images = tuple(
        ("" if frame.tile else frame.image.sop, frame.index + 1 if frame.image.frames > 1 else 0)
        for frame in stack.frames
    )
    places = tuple(frame.placed for frame in stack.frames) if stack.affine is not None else ()
    agreed = {(frame.image.sop_class, frame.image.frame_of_reference) for frame in stack.frames}
    sop_class, frame_of_reference = agreed.pop() if len(agreed) == 1 else ("", "")
    series = tuple(frame.image.series for frame in stack.frames)
    return Series(sop_class, image.study, series, frame_of_reference, image.lossy, images, places, image.patient)
