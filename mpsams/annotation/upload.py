"""The files of an upload or a folder, with the names they had in it, and what each is by its first bytes."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mpsams.annotation import upload_layout
from mpsams.imaging import UnreadableImage, archive, name_matching, nifti, raster


@dataclass(frozen=True)
class File:
    """A file of an upload: its names from the upload's top down, its path, and the name of the uploaded folder."""

    parts: tuple[str, ...]
    path: Path
    above: str = ""

    @property
    def role(self) -> str:
        return upload_layout.role((self.above, *self.parts))


def files(path: Path, folder: Path) -> list[File]:
    """Return the files of an upload in the order of their names; a zip is unpacked into ``folder`` first."""
    if path.is_dir():
        return _walked(path)
    with path.open("rb") as file:
        if file.read(4) not in archive.SIGNATURES:
            return [File((name_matching.clean(path.name),), path)]
    unpacked = archive.unpack(path, folder)  # which refuses all that is no honest zip
    with zipfile.ZipFile(path) as file:
        members = sorted(filter(archive._is_wanted, file.infolist()), key=lambda member: member.filename)
    parts = [tuple(name_matching.clean(part) for part in re.split(r"[/\\]", member.filename)) for member in members]
    return [File(*both) for both in zip(parts, unpacked, strict=True)]


def _walked(root: Path) -> list[File]:
    """Return the plain files of a folder, without links and hidden ones."""
    files, left = [], archive.MAX_BYTES
    for at, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at) / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            left -= path.stat().st_size
            files.append(File(tuple(map(name_matching.clean, path.relative_to(root).parts)), path, root.resolve().name))
            if len(files) > archive.MAX_FILES or left < 0:
                raise UnreadableImage(
                    f"This folder is too large; allowed are {archive.MAX_FILES} files and {archive.MAX_BYTES >> 30}"
                    " GiB."
                )
    return files


def kind(path: Path) -> str:
    """Return "picture", "nifti", "dicom", "coco" (any JSON) or "xml" by the first bytes; "" for anything else."""
    with path.open("rb") as file:
        head = file.read(1024)
    if raster.kind(head):
        return "picture"
    if head[:4] in nifti.SIGNATURES or head[:2] == nifti.GZIP:
        return "nifti"
    if head[128:132] == b"DICM":
        return "dicom"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return "coco" if text.startswith((b"{", b"[")) else "xml" if text.startswith(b"<") else ""


def read(path: Path, most: int) -> bytes:
    """Return a file's first ``most`` + 1 bytes; more than ``most`` of them mean that the file is too large."""
    with path.open("rb") as file:
        return file.read(most + 1)
