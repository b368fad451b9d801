"""Synthetic ultrasound, CT and T1 images and volumes with exact lesion masks: data for tests and for the app.

Anatomy is painted with soft-edged ellipses, tapered strokes and smooth random fields (the idea of
Shepp & Logan, IEEE Trans. Nucl. Sci. 21:21, 1974), then each modality adds its own physics. Only the
seed decides: a case has the same pixels whenever, wherever and in whatever order it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from mpsams.datasets import Dataset, Sample
from mpsams.datasets.phantom import files
from mpsams.datasets.phantom.brain import t1
from mpsams.datasets.phantom.breast import speckle, ultrasound
from mpsams.datasets.phantom.neck import ct
from mpsams.datasets.phantom.volume import Volume, brain_volume, neck_volume

__all__ = [
    "CASES",
    "SOURCE",
    "BuiltIn",
    "BuiltInVolume",
    "Volume",
    "brain_volume",
    "ct",
    "load",
    "neck_volume",
    "samples",
    "speckle",
    "t1",
    "ultrasound",
    "volumes",
]

SOURCE = "phantoms drawn by this project, under its own licence"
CASES = tuple(f"ultrasound-{seed:03d}" for seed in range(64))


@dataclass(frozen=True)
class BuiltIn:
    """A sample the app offers without any data.

    title: what the user reads; modality: one of ``imaging.MODALITIES``; draw: makes the sample.
    """

    title: str
    modality: str
    draw: Callable[[], Sample]


@dataclass(frozen=True)
class BuiltInVolume:
    """A volume the app offers without any data, as the files a person would upload.

    title: what the user reads; modality: one of ``imaging.MODALITIES``; draw: makes the volume; save: writes its files;
    slice: makes one slice of such a volume, to be shown before it is opened.
    """

    title: str
    modality: str
    draw: Callable[[], Volume]
    save: Callable[[Volume, Path], list[Path]]
    slice: Callable[[], Sample]


def load(root: str | Path | None = None) -> Dataset:
    """Return 64 breast ultrasound phantoms, every fourth of them normal; ``root`` is not used.

    Reading a case that is not among them raises ValueError.
    """
    return Dataset("phantom", "ultrasound", "synthetic breast lesion", CASES, CASES, _read)


def samples() -> tuple[BuiltIn, ...]:
    """Return the built-in pictures of the app, each drawn only when asked for."""
    return (
        _built_in("Ultrasound, benign lesion", "ultrasound", ultrasound, 18),
        _built_in("Ultrasound, cyst", "ultrasound", ultrasound, 14),
        _built_in("Ultrasound, suspicious lesion", "ultrasound", ultrasound, 21),
        _built_in("Ultrasound, normal breast", "ultrasound", ultrasound, 7, lesion=False),
    )


def volumes() -> tuple[BuiltInVolume, ...]:
    """Return the built-in volumes of the app, each drawn (in about a second) only when asked for."""
    neck = "ct", partial(neck_volume, 2), cache(lambda: Sample(*ct(2), "ct-002"))
    brain = "mri", partial(brain_volume, 1), cache(lambda: Sample(*t1(1), "t1-001"))
    return tuple(
        BuiltInVolume(f"{title} ({kind})", modality, draw, save, cut)
        for title, (modality, draw, cut) in (("CT of the neck", neck), ("T1 brain", brain))
        for kind, save in (("NIfTI volume", _save_nifti), ("DICOM series", files.dicom))
    )


def _save_nifti(volume: Volume, folder: Path) -> list[Path]:
    return [files.nifti(volume, folder)]


def _built_in(title: str, modality: str, draw: Callable, seed: int, lesion: bool = True) -> BuiltIn:
    return BuiltIn(title, modality, lambda: Sample(*draw(seed, lesion), f"{draw.__name__}-{seed:03d}"))  # type: ignore[call-arg]


def _read(case: str) -> Sample:
    if case not in CASES:
        raise ValueError(f"unknown phantom case {case!r}; there are {CASES[0]} to {CASES[-1]}")
    seed = CASES.index(case)
    return Sample(*ultrasound(seed, lesion=seed % 4 != 3), case)
