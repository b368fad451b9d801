"""Caches of a project's files: opened images, and masks as bits, both of limited size and shared by all who work on the
project.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from mpsams import imaging
from mpsams.annotation import images
from mpsams.annotation.index import Item
from mpsams.imaging import Scan, UnreadableImage

MAX_SCANS, MAX_BITS = 2**28, 2**27  # bytes of the images, and of the masks, that are kept
Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values used last, of at most ``limit`` bytes in all; a larger one is kept alone. For several threads."""

    def __init__(self, limit: int, size_of: Callable[[Value], int]) -> None:
        self.limit, self._size_of = limit, size_of
        self._values: OrderedDict[object, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: object) -> Value | None:
        """Return a value; None if it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: object, value: Value) -> None:
        """Keep a value; those that were used longest ago make room."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            self._shrink(self.limit, least=1)

    def make_room(self, size: int) -> None:
        """Remove the values used longest ago until one of ``size`` bytes fits."""
        with self._lock:
            self._shrink(self.limit - size, least=0)

    def forget(self, key: object) -> None:
        """Remove a value, if it is kept."""
        with self._lock:
            self._values.pop(key, None)

    @property
    def used(self) -> int:
        """Bytes of all values."""
        with self._lock:
            return sum(map(self._size_of, self._values.values()))

    def _shrink(self, limit: int, least: int) -> None:
        while len(self._values) > least and sum(map(self._size_of, self._values.values())) > limit:
            self._values.popitem(last=False)


class Scans:
    """The images of a project that were opened last; may be used from several threads."""

    def __init__(self) -> None:
        self._recent: Recent[Scan] = Recent(MAX_SCANS, lambda scan: scan.voxels_xyz.nbytes)
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)

    def open(self, item: Item, path: Path) -> Scan:
        """Return the scan of an image, a file or a folder with a DICOM series.

        UnreadableImage (a ValueError) says that its file was damaged, or why it cannot be read.
        """
        with self._locks[item.id]:
            scan = self._recent.get(item.id)
            if scan is None:
                self._recent.make_room(4 * math.prod(item.shape_xyz))
                try:
                    scan = imaging.read(images.files_of(path), item.modality)
                except (UnreadableImage, FileNotFoundError) as error:
                    raise UnreadableImage(images.explain(path, error)) from None
                self._recent.put(item.id, scan)
            return scan

    def forget(self, id: str) -> None:
        """Close an image, if it is open."""
        self._recent.forget(id)


class PackedMasks:
    """The masks of files as bits (``masks.pack``), as long as the files stay what they were."""

    def __init__(self) -> None:
        self._recent: Recent[tuple[tuple, np.ndarray]] = Recent(MAX_BITS, lambda value: value[1].nbytes)

    def get(self, path: Path) -> np.ndarray | None:
        """Return the bits of a file; None if they are not kept, or the file is another one now."""
        found = self._recent.get(path)
        return found[1] if found is not None and found[0] == _stamp(path) else None

    def put(self, path: Path, bits: np.ndarray) -> None:
        """Keep the bits of a file as it is now."""
        if (stamp := _stamp(path)) is not None:
            self._recent.put(path, (stamp, bits))


def _stamp(path: Path) -> tuple | None:
    """Return a value that changes with the file's content; None if there is no file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
