"""Opening a case: from a built-in sample, an upload or a scan."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mpsams import imaging, transforms
from mpsams.datasets.phantom import BuiltIn, BuiltInVolume
from mpsams.imaging import Scan, geometry
from mpsams.inference.case import YOURS, Case, UploadedFiles, build_case, network_span


def clustering_options(settings: dict, seed: float | None = 0) -> dict:
    """Return the options of ``inference.study``: the registry's settings and the seed. ValueError for a wrong seed."""
    if seed is None or not 0 <= seed < 2**31:
        raise ValueError(f"seed {seed} must lie between 0 and {2**31 - 1}")
    return settings | {"seed": int(seed)}


def open_sample(built_in: BuiltIn, options: dict) -> Case:
    """Open a built-in phantom, drawn and clustered."""
    sample = built_in.draw()
    origin = f"Synthetic, drawn by this program, {sample.image.shape[1]} × {sample.image.shape[0]} pixels"
    span = transforms.window(sample.image, built_in.modality)
    scan = Scan(sample.image.T[:, :, None], built_in.modality, origin)
    return build_case(built_in.title, scan, sample.mask.T[:, :, None], ("axial", 0), span, options)


def open_upload(files: Sequence[Path], modality: str | None, options: Callable[[str], dict], choice: int = 0) -> Case:
    """Open uploaded files, at the middle slice of the plane in which they were acquired.

    modality: as stated, None for what the files say. options: modality -> ``clustering_options``. UnreadableImage when
    we refuse them, ValueError for an unknown modality or choice.
    """
    scan = imaging.read(files, modality, choice)
    case = open_scan(YOURS[scan.modality], scan, options(scan.modality))
    return replace(case, upload=UploadedFiles(tuple(map(Path, files)), modality, scan.choice, digest(files)))


def digest(files: Sequence[Path]) -> str:
    """Return the sha256 of what is in files, one after another, in hexadecimal; their names do not matter."""
    found = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def open_scan(title: str, scan: Scan, options: dict, item: str = "", plane: str = "") -> Case:
    """Return the case of an open scan, at the middle slice of a plane.

    item: its id in the project of annotations. plane: "" is the one in which it was acquired.
    """
    span, plane = network_span(scan), plane or scan.acquired_plane
    return replace(build_case(title, scan, None, (plane, len(scan.shown(plane)) // 2), span, options), item=item)


def open_volume(built_in: BuiltInVolume, options: dict) -> Case:
    """Open a built-in volume, written as the file it would come in, like an upload, at its largest lesion slice."""
    drawn = built_in.draw()
    with tempfile.TemporaryDirectory() as folder:
        scan = imaging.read(built_in.save(drawn, Path(folder)), built_in.modality)
    truth_xyz = scan.empty_mask()
    geometry.radiological_view(truth_xyz, scan.affine)[:] = drawn.mask_shw
    span, largest = network_span(scan), int(drawn.mask_shw.sum(axis=(1, 2)).argmax())
    return build_case(built_in.title, scan, truth_xyz, ("axial", largest), span, options)
