"""COCO's annotations.json: written with one annotation for each marked picture or slice, and read from strangers.

A picture NAME is the image "NAME.png"; an axial slice of a volume, counted from 0 as shown, is "NAME/007.png".
Axes: X, Y, Z as stored; S slices of H x W pixels as shown.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mpsams.annotation import _rle
from mpsams.imaging import Scan, UnreadableImage, geometry

MAX_BYTES = 32 * 2**20
MAX_PARTS = 4_000_000  # lists, objects and commas, of which Python makes objects
MAX_ITEMS = 200_000  # images, and annotations
MAX_WORK = 2**32  # pixels of all masks that are drawn, one after another
_PER_BYTE = 100  # pixels that take as long as a byte of JSON
_PER_MASK = 2**16  # and as beginning another mask, however small
_LONGEST = 64  # characters of a label
_ENDINGS = re.compile(r"\.(png|jpe?g|tiff?|bmp|nii|nii\.gz|dcm)$", re.IGNORECASE)
_ALLOWED = f"allowed is COCO JSON with images, annotations and categories, of up to {MAX_BYTES >> 20} MiB"


@dataclass
class Work:
    """How many pixels may still be drawn."""

    left: int = MAX_WORK

    def spend(self, pixels: int) -> None:
        """UnreadableImage when there is nothing left."""
        self.left -= pixels
        if self.left < 0:
            raise UnreadableImage(f"This COCO file has far more masks than its images need; {_ALLOWED}.")


def document(items: Iterable[tuple[str, np.ndarray, np.ndarray | None, str]]) -> bytes:
    """The file for items of (name, bool (X, Y, Z) mask, affine, label); equal items, equal bytes.

    Of a volume the slices with a mask are images; of one without any, all slices are, none of them annotated.
    """
    items = list(items)
    labels = sorted({label for *_, label in items})
    images, annotations = [], []
    for name, mask_xyz, affine, label in items:
        for file_name, mask_hw in _slices(name, mask_xyz, affine):
            height, width = (int(n) for n in mask_hw.shape)
            image = len(images) + 1
            images.append({"id": image, "file_name": file_name, "height": height, "width": width})
            if mask_hw.any():
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image, "category_id": labels.index(label) + 1, "iscrowd": 0,
                    "area": int(mask_hw.sum()), "bbox": _rle.box(mask_hw),
                    "segmentation": {"size": [height, width], "counts": _rle.packed(_rle.runs(mask_hw))},
                })  # fmt: skip
    categories = [{"id": number, "name": label, "supercategory": "lesion"} for number, label in enumerate(labels, start=1)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    return (json.dumps(whole, separators=(",", ":")) + "\n").encode()


def _slices(name: str, mask_xyz: np.ndarray, affine: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    shown = geometry.shown(mask_xyz, affine)
    if is_flat(mask_xyz.shape, affine):
        yield f"{name}.png", shown[0]
        return
    marked = np.flatnonzero(shown.any((1, 2)))
    for number in marked if len(marked) else range(len(shown)):
        yield f"{name}/{number:03d}.png", shown[number]


def is_flat(shape_xyz: tuple[int, ...], affine: np.ndarray | None) -> bool:
    """Whether an image is a flat one in pixel space, not a volume."""
    return affine is None and shape_xyz[2] == 1


def read(data: bytes, scans: Mapping[str, Scan], work: Work) -> tuple[dict[str, np.ndarray], dict[str, str], list[str], list[str]]:
    """The masks of the scans it names: bool (X, Y, Z) by name, labels, sentences on what does not fit, names of no scan.

    Annotations of one image are merged. An image without any has an empty mask. RLE, compressed or not, and polygons.
    work: what may still be done, of all files of an upload.
    Raises UnreadableImage whatever the bytes, where there is nothing to be read.
    """
    work.spend(_PER_BYTE * len(data))
    whole = _parsed(data)
    images, annotations, categories = (_listed(whole, key) for key in ("images", "annotations", "categories"))
    masks: dict[str, np.ndarray] = {}
    labels: dict[str, set[str]] = {}
    known, notes, strangers = {}, [], []
    for image in images:
        name, number = _place(str(image.get("file_name", "")), scans)
        if name is None:
            strangers.append(str(image.get("file_name", ""))[:200])
            continue
        shown = geometry.shown(np.broadcast_to(False, scans[name].voxels_xyz.shape), scans[name].affine)
        if number >= len(shown) or (image.get("height"), image.get("width")) != shown.shape[1:]:
            size = _size(shown.shape)
            notes.append(f"{name}: its size or slice in the COCO file is not that of the image ({size}), so it was left out.")
            continue
        masks.setdefault(name, np.zeros(scans[name].voxels_xyz.shape, bool))
        known[_number(image.get("id"))] = name, number
    titles = {_number(category.get("id")): _label(category.get("name")) for category in categories}
    for annotation in annotations:
        place = known.get(_number(annotation.get("image_id")))
        if place is None:
            continue
        name, number = place
        mask_hw = geometry.shown(masks[name], scans[name].affine)[number]
        try:
            work.spend(_PER_MASK)
            mask_hw |= _drawn(annotation.get("segmentation"), mask_hw.shape, work)
        except UnreadableImage as refusal:
            notes.append(f"{name}: {refusal}")
            if work.left < 0:
                break
        else:
            labels.setdefault(name, set()).add(titles.get(_number(annotation.get("category_id")), ""))
    agreed = {name: label for name, found in labels.items() if len(found) == 1 and (label := next(iter(found)))}
    return masks, agreed, list(dict.fromkeys(notes)), strangers


def _parsed(data: bytes) -> dict:
    if len(data) > MAX_BYTES:
        raise UnreadableImage(f"The COCO file is too large; {_ALLOWED}.")
    if sum(map(data.count, (b"[", b"{", b","))) > MAX_PARTS:
        raise UnreadableImage(f"The COCO file has far too many parts; {_ALLOWED}.")
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, numbers of thousands of digits, lists in lists without end
        raise UnreadableImage(f"This is no JSON that can be read; {_ALLOWED}.") from None
    if not isinstance(whole, dict) or not {"images", "annotations"} <= set(whole):
        raise UnreadableImage(f"This JSON is not of COCO's form; {_ALLOWED}.")
    return whole


def _listed(whole: dict, key: str) -> list[dict]:
    found = whole.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise UnreadableImage(f"This JSON is not of COCO's form; {_ALLOWED}.")
    if len(found) > MAX_ITEMS:
        raise UnreadableImage(f"The COCO file has {len(found)} {key}; allowed are up to {MAX_ITEMS}.")
    return found


def _place(file_name: str, scans: Mapping[str, Scan]) -> tuple[str | None, int]:
    """The scan and slice that a file name means."""
    *folders, last = re.split(r"[/\\]", _ENDINGS.sub("", unicodedata.normalize("NFC", file_name[:1000])))
    if last in scans and is_flat(scans[last].voxels_xyz.shape, scans[last].affine):
        return last, 0
    if folders and folders[-1] in scans and re.fullmatch(r"[0-9]{1,6}", last):
        return folders[-1], int(last)
    return None, 0


def _drawn(segmentation: object, shape_hw: tuple[int, int], work: Work) -> np.ndarray:
    """A bool (H, W) mask of a segmentation in any of COCO's forms."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != list(shape_hw):
            raise UnreadableImage("a mask in the COCO file is of another size than its image, so it was left out.")
        work.spend(shape_hw[0] * shape_hw[1])
        if isinstance(counts, str):
            return _rle.filled(_rle.unpacked(counts), shape_hw)
        if isinstance(counts, list) and all(type(count) is int and 0 <= count < 2**40 for count in counts):
            return _rle.filled(np.array(counts, np.int64), shape_hw)
    if isinstance(segmentation, list) and segmentation and all(map(_is_polygon, segmentation)):
        mask_hw = np.zeros(shape_hw, bool)
        for numbers in segmentation:
            corners_n2 = np.array(numbers, np.float64).reshape(-1, 2)
            work.spend(_rle.cost(corners_n2, shape_hw))
            mask_hw |= _rle.polygon(corners_n2, shape_hw)
        return mask_hw
    raise UnreadableImage("a mask in the COCO file is neither run lengths nor polygons, so it was left out.")


def _is_polygon(numbers: object) -> bool:
    return (
        isinstance(numbers, list) and len(numbers) >= 6 and len(numbers) % 2 == 0
        and all(type(number) in (int, float) and math.isfinite(number) and abs(number) < 1e6 for number in numbers)
    )  # fmt: skip


def _number(value: object) -> int | None:
    return value if type(value) is int else None


def _label(value: object) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() else ""


def _size(shape_shw: tuple[int, ...]) -> str:
    slices = f"{shape_shw[0]} slices of " if shape_shw[0] > 1 else ""
    return f"{slices}{shape_shw[2]} × {shape_shw[1]} pixels"
