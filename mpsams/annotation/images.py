"""Images on their way into a project: copied under a name made from their content, and linked for training."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mpsams import checkpoint
from mpsams.imaging import archive, nifti, raster

DAMAGED = "The file of this image was damaged or removed outside of this program."
UNFINISHED = ".partial"  # how the names of files end that are being written
_PICTURES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif"}


def list_files(given: Path | Sequence[Path]) -> list[Path]:
    """Return one file, the files of a series, or all files in a folder. ValueError where one or all are missing."""
    paths = [Path(given)] if isinstance(given, str | Path) else [Path(path) for path in given]
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if not file.is_dir()
    ]
    if not files or not all(file.is_file() for file in files):
        raise ValueError("a file to be added does not exist; expected an image, or the files of one DICOM series")
    return files


def copy_in(files: Sequence[Path], folder: Path) -> tuple[str, str]:
    """Copy an image, or the files of a DICOM series, into a folder; return its content's id and its name's ending.

    The copy is there whole or not at all; one that was there already stays. A series becomes a folder, its files
    numbered. ValueError for several files that are no series. OSError when the disk is full.
    """
    endings = [ending_of(file) for file in files]
    if len(files) > 1 and set(endings) != {".dcm"}:
        raise ValueError(f"{len(files)} files at once are no DICOM series; expected pictures and volumes one at a time")
    sums = sorted((_sha256(file), file) for file in files)
    id, ending = sum_of([sum for sum, _ in sums])[:16], endings[0] if len(files) == 1 else ""
    target = folder / (id + ending)
    if target.exists():
        return id, ending
    if len(files) == 1:
        checkpoint.write(target, files[0].read_bytes())
        return id, ending
    unfinished = folder / (id + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        for number, (_, file) in enumerate(sums):
            checkpoint.write(unfinished / f"{number:04}.dcm", file.read_bytes())
        unfinished.replace(target)
        checkpoint.sync(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return id, ending


def ending_of(file: Path) -> str:
    """Return the ending for an image's file name, as ".nii.gz", found from its first bytes and not from its name."""
    with file.open("rb") as stream:
        head = stream.read(1024)
    if kind := raster.kind(head):
        return _PICTURES[kind]
    if head[:2] == nifti.GZIP:
        return ".nii.gz"
    if head[:4] in nifti.SIGNATURES:
        return ".nii"
    return ".zip" if head[:4] in archive.SIGNATURES else ".dcm"


def named_by_content(path: Path) -> bool:
    """Return True if an image's name is what ``copy_in`` gives it, so that it is whole and one of ours."""
    try:
        files = files_of(path)
        total = sum_of([_sha256(file) for file in files])
        return path.name == total[:16] + (ending_of(files[0]) if path.is_file() else "")
    except (OSError, IndexError):
        return False


def explain(path: Path, error: Exception) -> str:
    """Return a sentence on an image of a project that cannot be read: it is damaged, or what the error says."""
    return str(error) if named_by_content(path) else DAMAGED


def sum_of(sums: Sequence[str]) -> str:
    """Return one sha256 for several files, the same in any order; that of a single file is returned unchanged."""
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """Return the files of an image in a project."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def link(image: Path, folder: Path) -> None:
    """Put an image into another folder under the same name: as hard links, or as copies where the disk has none."""
    target = folder / image.name
    if target.exists():
        return
    unfinished = folder / (image.name + UNFINISHED)
    remove(unfinished)
    folder.mkdir(parents=True, exist_ok=True)
    if image.is_dir():
        unfinished.mkdir()
    for file in files_of(image):
        to = unfinished / file.name if image.is_dir() else unfinished
        try:
            os.link(file, to)
        except OSError:
            shutil.copyfile(file, to)
    unfinished.replace(target)
    checkpoint.sync(folder)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """Remove from a folder what a crash left unfinished."""
    for path in folder.glob("*" + UNFINISHED):
        with contextlib.suppress(OSError):
            remove(path)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
