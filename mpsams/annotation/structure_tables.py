"""Files beside exported label maps: dataset.json with the names of their labels, and structures.csv with their sizes.

dataset.json is that of nnU-Net (version 2), with ``structures`` added: label, name, colour and key of each. Names of
labels are read from it, from one without ``structures`` and from one of nnU-Net's version 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from mpsams.annotation.coco_json import label_of
from mpsams.imaging import Scan, UnreadableImage, geometry

from . import label_maps
from .structures import MAX_STRUCTURES, Structure, make, safe_name

DATASET_FILE, SIZES_FILE = "dataset.json", "structures.csv"
MAX_BYTES = 2**24
_BACKGROUND = "background"


def dataset(structures: Sequence[Structure], images: int, ending: str) -> bytes:
    """Return dataset.json. images: number of exported images. ending: of their files' names, as ".png"."""
    names = {_BACKGROUND: 0} | {one.name: one.label for one in structures}
    content = {"channel_names": {"0": "image"}, "labels": names, "numTraining": images, "file_ending": ending}
    return (json.dumps(content | {"structures": [asdict(one) for one in structures]}, indent=1) + "\n").encode()


def read_dataset(data: bytes) -> tuple[Structure, ...]:
    """Return the structures that a dataset.json names; () for other JSON. UnreadableImage for unreadable labels."""
    try:
        content = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        return ()
    if not isinstance(content, dict) or "images" in content or not isinstance(labels := content.get("labels"), dict):
        return ()
    rows = content.get("structures")
    try:
        if isinstance(rows, list):
            return make(Structure(**row) for row in rows)
        pairs = [(value, name) if isinstance(value, str) else (name, value) for name, value in labels.items()]
        named = [Structure(safe_name(label_of(name)), label=int(value)) for name, value in pairs if int(value) > 0]
        return make(one for one in named if one.label <= MAX_STRUCTURES) if named else ()
    except (AttributeError, TypeError, ValueError):
        raise UnreadableImage(
            f"{DATASET_FILE} was left out: allowed are labels by name, whole numbers up to {MAX_STRUCTURES}."
        ) from None


def sizes(
    scan: Scan, map_xyz: np.ndarray, structures: Iterable[Structure], head: Mapping[str, object]
) -> list[dict[str, object]]:
    """Return the size of each structure of an image, as rows of structures.csv.

    head: their first columns, which say the image. area_mm2 is that of a flat image, volume_ml of others, both "" where
    the spacing is not known.
    """
    counts, affine = label_maps.count(map_xyz), scan.affine
    pixel = geometry.pixel_mm2(affine, scan.planes[0]) if affine is not None and not scan.is_volume else None
    voxel = geometry.voxel_mm3(affine) if affine is not None and scan.is_volume else None
    rows = []
    for one in structures:
        voxels = int(counts[one.label])
        area: object = "" if pixel is None else round(voxels * pixel, 3)
        volume: object = "" if voxel is None else round(voxels * voxel / 1000, 5)
        row = {"structure": one.name, "value": one.label, "pixels": voxels, "area_mm2": area, "volume_ml": volume}
        rows.append(dict(head) | row)
    return rows
