"""Files of a data set's folder: which of them are images, what they are called, and what is passed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mpsams.imaging import opening

ENDING = re.compile(r"\.(nii\.gz|nii|hdr|png|jpe?g|tiff?|dcm|dicom|ima|zip)$", re.IGNORECASE)
NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_NAMED = 5  # names that a sentence holds


def stem(path: Path) -> str:
    """Return a file's name without the ending of an image format, in capitals or not; a folder's name."""
    return ENDING.sub("", path.name) if path.is_file() else path.name


def is_hidden(path: Path) -> bool:
    """Return True if a name begins with a dot, as those of .DS_Store and of macOS's companions (._NAME) do."""
    return path.name.startswith(".")


def list_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the images, or folders with a DICOM series, by name, and a sentence on skipped files, if there are any.

    A file is an image by its content, or because it is named like one: then what is wrong with it is found on opening.
    ValueError when two images share a name.
    """
    found: dict[str, Path] = {}
    paths = sorted(folder.iterdir())
    images = [path for path in paths if not is_hidden(path) and is_image(path)]
    for path in images:
        name = stem(path)
        if name in found:
            raise ValueError(
                f"{found[name].name} and {path.name} in {folder} have one name; expected one file per image"
            )
        found[name] = path
    used = {*images, *(half for path in images for half in halves(path))}
    return found, skipped_note([path for path in paths if path not in used], folder)


def is_image(path: Path) -> bool:
    """Return True if a file is an image by its content or its name, or a folder that holds any file."""
    if path.is_dir():
        return any(inner.is_file() and not is_hidden(inner) for inner in path.rglob("*"))
    return bool(ENDING.search(path.name)) or opening.kind(path) not in ("unknown", "empty")


def halves(path: Path) -> list[Path]:
    """Return the file with the voxels (.img) beside the header (.hdr) of a pair; none for another file."""
    if path.suffix.lower() != ".hdr":
        return []
    return [other for other in path.parent.iterdir() if other.stem == path.stem and other.suffix.lower() == ".img"]


def skipped_note(paths: Sequence[Path], folder: Path, wanted: str = "images") -> list[str]:
    """Return a sentence naming files of another kind than wanted; none without any. Hidden ones are only counted."""
    if not paths:
        return []
    names = [path.name for path in paths if not is_hidden(path)]
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    unseen = len(paths) - len(names)
    words = " and ".join([named] * bool(names) + [f"{unseen} hidden file{'s' * (unseen > 1)}"] * bool(unseen))
    return [f"Passed over in {folder.name}/, being no {wanted}: {words}."]


def volumes(folder: Path) -> dict[str, Path]:
    """Return the NIfTI files of a folder by name, found by their endings in any case. ValueError for equal names."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_file() and not is_hidden(path) and NIFTI.search(path.name):
            if stem(path) in found:
                raise ValueError(
                    f"{found[stem(path)].name} and {path.name} in {folder} have one name; expected one of them"
                )
            found[stem(path)] = path
    return found
