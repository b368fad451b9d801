"""The elements of a DICOM header from strangers: read in few steps, and parsed only where they are short.

pydicom makes an object of every few bytes that look like an element or an item, so a small file can cost much
memory and time. Here each read of a file is counted, sequences are opened only when asked for, and a value that is
no value is as good as none.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import UnreadableImage

OPENS = "this version opens DICOM images such as CT, MR and ultrasound, as single files or whole series"
DAMAGED = f"This DICOM is damaged, incomplete or of a rare kind; {OPENS}."
_MAX_TEXT = 1024  # bytes of a value that is parsed


@dataclass
class Allowance:
    """A limit on the reads of a file that are still allowed."""

    left: int


class Steps(io.BufferedReader):
    """A file that is read in no more steps than allowed, never beyond its end and never as a whole.

    raw: an open binary file. Raises UnreadableImage when the allowance is spent, and where pydicom asks for
    everything at once, which it does only to inflate it without limit.
    """

    name = ""  # pydicom would write it into its log

    def __init__(self, raw: Any, allowance: Allowance):
        super().__init__(raw)
        self.allowance, self.size = allowance, self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        self.allowance.left -= 1
        if size is None or size < 0:
            raise UnreadableImage(f"This DICOM is deflated as a whole, which could inflate without end; {OPENS}.")
        if self.allowance.left < 0:
            raise UnreadableImage(f"This DICOM has far more parts than an image needs; {OPENS}.")
        return super().read(min(size, max(0, self.size - self.tell())))


@cache
def tag_of(keyword: str | int) -> Any:
    """Return pydicom's tag of a keyword, or of a private element's number."""
    from pydicom.tag import Tag

    return Tag(keyword)


def raw(data: Any, keyword: str | int) -> Any:
    """Return an element of a pydicom Dataset as it was read, its value mostly bytes; None without one."""
    return data.get_item(tag_of(keyword), keep_deferred=True)


def items(data: Any, keyword: str, file: Steps) -> list:
    """Read the items of a sequence as Datasets, on the allowance of the file; none where it is absent."""
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import read_sequence

    element = raw(data, keyword)
    if not isinstance(element, RawDataElement):
        return [] if element is None else list(element.value)
    with Steps(io.BytesIO(element.value or b""), file.allowance) as value:
        return list(read_sequence(value, element.is_implicit_VR, element.is_little_endian, value.size, "latin-1"))


def values(data: Any, keyword: str) -> list:
    """Return an element's values as pydicom parses them; none where it is absent, long or cannot be parsed."""
    element = raw(data, keyword)
    if element is None or (isinstance(element.value, bytes) and len(element.value) > _MAX_TEXT):
        return []
    try:
        value = data[tag_of(keyword)].value
    except Exception:  # pydicom lets through whatever float, struct and codecs raise
        return []
    return [] if value is None else [value] if isinstance(value, str | bytes | int | float) else list(value)


def text(data: Any, keyword: str) -> str:
    """Return an element's values as upper-case words, "" for none."""
    return " ".join(map(str, values(data, keyword))).strip().upper()


def uid(data: Any, keyword: str) -> str:
    """Return a UID of digits and dots, "" for anything else."""
    from pydicom.uid import UID

    found = text(data, keyword)
    return found if UID(found).is_valid else ""


def numbers(data: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the first ``count`` numbers; None where there are fewer, or not all are finite and of sensible size."""
    try:
        found = tuple(float(number) for number in values(data, keyword)[:count])
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(math.isfinite(n) and abs(n) < 1e12 for n in found) else None


def number(data: Any, keyword: str, otherwise: float = 0.0) -> float:
    """Return the first number, or ``otherwise``."""
    return (numbers(data, keyword, 1) or (otherwise,))[0]


def count(data: Any, keyword: str, otherwise: int = 0) -> int:
    """Return a whole number of at least 0, or ``otherwise``."""
    return max(0, int(number(data, keyword, otherwise)))
