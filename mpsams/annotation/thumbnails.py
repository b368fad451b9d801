"""Small pictures of a project's images for lists."""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
from PIL import Image

from mpsams import imaging, transforms
from mpsams.annotation import images
from mpsams.annotation.project import Project
from mpsams.inference.case import network_span

SIDE = 80  # pixels of a thumbnail's longer side
MOST_AT_ONCE = 32  # thumbnails of one call
KEPT = 8192  # thumbnails that stay in memory, about 2 KB each


class Thumbnails:
    """Thumbnails of a project's images, made when they are first asked for. May be used from several threads."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._made: OrderedDict[str, str] = OrderedDict()  # data URIs by id, which stands for the image's content
        self._lock = Lock()

    def get(self, ids: Sequence[str]) -> dict[str, str]:
        """Return JPEGs as data URIs by id, at most ``MOST_AT_ONCE``; unreadable and unknown images are left out."""
        found = {}
        for id in ids[:MOST_AT_ONCE]:
            with self._lock:
                if id not in self._made:
                    self._made[id] = self._make(id)
                self._made.move_to_end(id)
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
                found[id] = self._made[id]
        return {id: uri for id, uri in found.items() if uri}

    def _make(self, id: str) -> str:
        try:
            scan = imaging.read(images.files_of(self.project.image(id)), self.project.item(id).modality)
        except (ValueError, OSError):
            return ""
        plane = scan.acquired_plane
        values_hw = scan.slice(len(scan.shown(plane)) // 2, plane)
        return encode(transforms.to_unit(values_hw, network_span(scan)))


def encode(unit_hw: np.ndarray) -> str:
    """Return a slice (H, W) in [0, 1] as the data URI of a JPEG whose longer side has at most ``SIDE`` pixels."""
    picture = Image.fromarray((255 * np.clip(unit_hw, 0, 1)).astype(np.uint8))
    picture.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")
