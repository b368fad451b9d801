"""Zip files to the files in them, under names of our own and no larger than allowed, whatever the zip claims."""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from . import UnreadableImage

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # the first bytes of a zip; the second is an empty one
MAX_FILES = 4096
MAX_BYTES = 2**30  # of all files, unpacked

_CHUNK = 2**20
_MAX_LISTING = 4 * 2**20  # bytes of its table of contents, of which Python makes objects ten times as large
_ALLOWED = f"allowed are zip files without password, of up to {MAX_FILES} files and {MAX_BYTES >> 30} GiB unpacked"
_DAMAGED = f"This zip file is damaged or incomplete; {_ALLOWED}."
_TOO_LARGE = f"This zip file is too large unpacked; {_ALLOWED}."


class _Bounded(io.FileIO):
    """A file that `zipfile` cannot be talked into reading whole."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size > _MAX_LISTING:
            raise zipfile.BadZipFile("table of contents far too long")
        return super().read(size)


def unpack(path: Path, folder: Path) -> list[Path]:
    """Write a zip's files, in the order of their names, into a folder as 0000, 0001 and so on; return their paths.

    Folders, links, hidden files and macOS's own (__MACOSX) are left out, a zip in the zip stays as it is.

    Raises UnreadableImage whatever the bytes; the files written by then are the caller's to remove, as all are.
    """
    files, left = [], MAX_BYTES
    with _Bounded(path) as file:
        zipped, members = _members(file)
        for number, member in enumerate(members):
            files.append(folder / f"{number:04}")
            with files[-1].open("wb") as out:
                for chunk in _content(zipped, member):
                    left -= len(chunk)
                    if left < 0:
                        raise UnreadableImage(_TOO_LARGE)
                    out.write(chunk)
    return files


def _members(file: io.FileIO) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """Return the open zip and the members to unpack. UnreadableImage where it is damaged or beyond the limits."""
    try:
        zipped = zipfile.ZipFile(file)
    except Exception as error:  # BadZipFile, NotImplementedError, struct.error, OSError, UnicodeDecodeError and more
        raise UnreadableImage(_DAMAGED) from error
    members = sorted(filter(_is_wanted, zipped.infolist()), key=lambda member: member.filename)
    if len(members) > MAX_FILES:
        raise UnreadableImage(f"This zip file holds {len(members)} files; {_ALLOWED}.")
    if any(member.flag_bits & 1 for member in members):
        raise UnreadableImage(f"This zip file is encrypted; {_ALLOWED}.")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise UnreadableImage(f"This zip file is compressed in a rare way, not deflated; {_ALLOWED}.")
    if sum(member.file_size for member in members) > MAX_BYTES:  # of no member is more unpacked than it claims
        raise UnreadableImage(_TOO_LARGE)
    return zipped, members


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    parts = re.split(r"[/\\]", member.filename)
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts)
    kind = stat.S_IFMT(member.external_attr >> 16)
    return not (hidden or not member.filename or member.is_dir() or kind not in (0, stat.S_IFREG))


def _content(zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member's bytes in pieces, whatever size it claims to have."""
    try:
        with zipped.open(member) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except Exception as error:  # BadZipFile, zlib.error, EOFError, RuntimeError, OSError, struct.error and more
        raise UnreadableImage(_DAMAGED) from error
