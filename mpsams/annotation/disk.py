"""Errors of the disk in words that name no path: the one place where an OSError becomes a sentence for people."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


class ReadOnly(OSError):
    """A project that was opened to look at is asked to write."""

    def __init__(self) -> None:
        super().__init__(errno.EROFS, "the project is open to look at only")

    def __reduce__(self) -> tuple:
        return ReadOnly, ()


def as_sentence(error: Exception) -> str:
    """Return an error as a sentence for people: a ValueError's own words, of an OSError what ``sentence`` says."""
    text = sentence(error) if isinstance(error, OSError) else str(error)
    return text[:1].upper() + text[1:] + "." * (not text.endswith("."))


def sentence(error: OSError) -> str:
    """Describe an error of the disk and say that nothing was lost; names neither file nor folder."""
    if error.errno in FULL:
        return "The disk is full, so this was not written; what was saved before stands. Free some space and try again."
    if error.errno in READ_ONLY:
        return "The disk or folder is read-only for this program, so nothing can be saved in it."
    if error.errno in GONE:
        return "A file is no longer there; it was moved or removed outside of this program."
    return "The disk could not be read or written; what was saved before stands."
