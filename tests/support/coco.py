"""COCO files of masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpsams.annotation import run_lengths


def write_coco(path: Path, masks: Mapping[str, np.ndarray], image: str) -> None:
    """Write an annotation of each mask, bool (X, Y, 1), in their order, with its name as the category."""
    height, width = next(iter(masks.values()))[:, :, 0].T.shape
    rows = [
        {"id": number, "image_id": 1, "category_id": number, "segmentation": {"size": [height, width], "counts": runs}}
        for number, mask_xyz in enumerate(masks.values(), start=1)
        for runs in [run_lengths.compress(run_lengths.encode(mask_xyz[:, :, 0].T))]
    ]
    images = [{"id": 1, "file_name": image, "height": height, "width": width}]
    categories = [{"id": number, "name": name} for number, name in enumerate(masks, start=1)]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
