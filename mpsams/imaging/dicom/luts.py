"""Lookup tables of DICOM headers, plain and segmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .elements import raw
from .frames import Lut


def read(data: Any, keyword: str, signed: bool) -> Lut | None:
    """Read a table by its descriptor and data, of 8-bit entries if there is a byte for each; None if these fail."""
    head, body = raw(data, f"{keyword}Descriptor"), raw(data, f"{keyword}Data")
    segments = raw(data, f"Segmented{keyword}Data") if keyword.endswith("PaletteColorLookupTable") else None
    if head is None or len(head.value or b"") < 6:
        return None
    order = "<" if head.is_little_endian else ">"
    entries, first, bits = (int(part) for part in np.frombuffer(head.value, f"{order}u2", 3))
    entries = entries or 2**16
    if not 1 <= bits <= 16:
        return None
    if first >= 2**15 and (signed or first + entries > 2**16):
        first -= 2**16
    if body is None and segments is not None:
        expanded = _expand(segments.value or b"", bits, order, entries)
        return (
            None
            if expanded is None
            else Lut(first, bits, entries, f"{order}u2", np.array(expanded, f"{order}u2").tobytes())
        )
    held = len(body.value or b"") if body is not None else 0
    if held < entries:
        return None
    wide = held >= 2 * entries
    return Lut(first, bits if wide else 8, entries, f"{order}u2" if wide else "u1", body.value)


def _expand(stored: bytes, bits: int, order: str, entries: int) -> list[int] | None:
    """Return the entries of a segmented table (PS3.3 C.7.9.2), as many as its descriptor says; None if malformed."""
    wide = bits > 8
    words = np.frombuffer(stored, f"{order}u2" if wide else "u1", len(stored) // (2 if wide else 1))
    if len(words) > 4 * entries + 16:  # more than segments of one entry take
        return None
    words = words.tolist()
    table: list[int] = []
    at, left = 0, 4 * entries  # segments, so that empty ones end too
    while at + 1 < len(words) and len(table) < entries:
        if words[at] != 2:
            at = _segment(words, at, table)
            continue
        start, count = _offset(words[at + 2 : at + 6], wide, order), words[at + 1]
        for _ in range(count):  # of an indirect segment: so many earlier ones once more
            left -= 1
            if not start < at or left < 0 or len(table) >= entries:
                return None
            start = _segment(words, start, table)
        at += 4 if wide else 6
    return table[:entries] if len(table) >= entries else None


def _segment(words: Sequence[int], at: int, table: list[int]) -> int:
    """Add a discrete or linear segment to a table; return the index of the next one. ValueError for another."""
    kind, length = words[at], words[at + 1]
    if kind == 0:
        table += words[at + 2 : at + 2 + length]
        return at + 2 + length
    if kind != 1 or not table or at + 2 >= len(words):
        raise ValueError("a segment of a lookup table is neither discrete nor linear")
    table += np.rint(np.linspace(table[-1], words[at + 2], length + 1)[1:]).astype(int).tolist()
    return at + 3


def _offset(where: Sequence[int], wide: bool, order: str) -> int:
    """Return the index of a word by the offset of an indirect segment, which counts bytes, its lower half first."""
    if wide:
        return (where[0] | where[1] << 16) // 2
    halves = [int.from_bytes(bytes(half), "little" if order == "<" else "big") for half in (where[:2], where[2:4])]
    return halves[0] | halves[1] << 16
