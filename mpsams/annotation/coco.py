"""COCO's annotations.json: written with one annotation for each marked picture or slice, and read from strangers.

A picture NAME is the image "NAME.png"; an axial slice of a volume, counted from 0 as shown, is "NAME/007.png".

Over 250 lines because reading and writing share the entries, the names and the run lengths of one format.

Axes: X, Y, Z as stored; S slices of H x W pixels as shown.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mpsams.annotation import coco_json, run_lengths
from mpsams.annotation.coco_json import ALLOWED, id_of, label_of
from mpsams.imaging import Scan, UnreadableImage, geometry
from mpsams.imaging.name_matching import Names
from mpsams.imaging.overlaps import Overlap, Overlay

MAX_WORK = 2**32  # pixels of all masks that are drawn, one after another
_PER_BYTE = 100  # pixels that take as long as a byte of JSON
_PER_VOLUME = 16  # voxels of a mask, drawn on or not, that take as long as a pixel
_PER_MASK = 2**16  # and as beginning another mask, however small
_MOST_LABELS = 254
_REVIEWED = "reviewed"  # of an image without annotations: it was looked at, and nothing is on it
_STRUCTURE = "structure"  # supercategory of those that masks have several of
_CLASS = "class"  # of an image: that of the whole image
# names of categories that are no lesion
_NOTHING = ("background", "_background_", "ignore", "void", "unlabelled", "unlabeled")


@dataclass
class PixelBudget:
    """A limit on the pixels that may still be drawn."""

    left: int = MAX_WORK

    def spend(self, pixels: int) -> None:
        """UnreadableImage when there is nothing left."""
        self.left -= pixels
        if self.left < 0:
            raise UnreadableImage(f"This COCO file has far more masks than its images need; {ALLOWED}.")


class Marked(NamedTuple):
    """An image to be written.

    mask_xyz: bool, or a label map. labels: the names of what is marked, from label 1 on. image_class: "" for none.
    has_structures: True if the names are those of structures.
    """

    name: str
    mask_xyz: np.ndarray
    affine: np.ndarray | None
    labels: Sequence[str]
    image_class: str = ""
    has_structures: bool = False


def document(items: Iterable[Marked]) -> bytes:
    """The file for items; equal items, equal bytes.

    Of a volume the slices with a mask are images; of one without any, all slices are. An image without annotation has
    "reviewed": true, by which ``draw`` knows it from one that nobody has looked at; one of a class has it as "class".
    A mask has one annotation, of label maps with several names each connected part of each structure has one.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    categories: list[str] = []  # of the annotations
    structures: set[str] = set()  # their names
    names: set[str] = set()
    for name, mask_xyz, affine, labels, image_class, has_structures in items:
        structures |= set(labels if has_structures else ())
        names |= set(labels)
        for file_name, mask_hw in _slices(name, mask_xyz, affine):
            height, width = (int(n) for n in mask_hw.shape)
            images.append(
                {"id": len(images) + 1, "file_name": file_name, "height": height, "width": width}
                | ({_CLASS: image_class} if image_class else {})
                | ({} if mask_hw.any() else {_REVIEWED: True})
            )
            for label, part_hw in _objects(mask_hw, labels):
                annotations.append(_annotation(len(annotations) + 1, len(images), part_hw))
                categories.append(label)
    numbers = {name: number for number, name in enumerate(sorted(names), start=1)}
    for annotation, name in zip(annotations, categories, strict=True):
        annotation["category_id"] = numbers[name]
    listed = [
        {"id": number, "name": name, "supercategory": _STRUCTURE if name in structures else "lesion"}
        for name, number in numbers.items()
    ]
    whole = {"images": images, "annotations": annotations, "categories": listed}
    return (json.dumps(whole, separators=(",", ":")) + "\n").encode()


def _objects(mask_hw: np.ndarray, labels: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The parts of a mask with the name of each: all of it, or each connected part of each of several structures."""
    if len(labels) == 1:
        yield from [(labels[0], mask_hw > 0)] * bool(mask_hw.any())
        return
    for label, name in enumerate(labels, start=1):
        parts_hw, count = ndimage.label(mask_hw == label, np.ones((3, 3)))
        yield from ((name, parts_hw == part) for part in range(1, count + 1))


def _annotation(number: int, image: int, mask_hw: np.ndarray) -> dict:
    height, width = mask_hw.shape
    return {
        "id": number,
        "image_id": image,
        "category_id": 0,
        "iscrowd": 0,
        "area": int(mask_hw.sum()),
        "bbox": run_lengths.box(mask_hw),
        "segmentation": {"size": [height, width], "counts": run_lengths.compress(run_lengths.encode(mask_hw))},
    }


def _slices(name: str, mask_xyz: np.ndarray, affine: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    shown = geometry.radiological_view(mask_xyz, affine, geometry.planes(mask_xyz.shape, affine)[0])
    if is_flat(mask_xyz.shape, affine):
        yield f"{name}.png", shown[0]
        return
    marked = np.flatnonzero(shown.any((1, 2)))
    for number in marked if len(marked) else range(len(shown)):
        yield f"{name}/{number:03d}.png", shown[number]


def is_flat(shape_xyz: tuple[int, ...], affine: np.ndarray | None) -> bool:
    """Return True if an image is a flat one in pixel space, not a volume."""
    return affine is None and shape_xyz[2] == 1


@dataclass(frozen=True)
class Entry:
    """An image of a COCO file that means one of ours: the slice as shown, None for a picture; what is drawn on it."""

    number: int | None
    size: tuple
    annotations: tuple[dict, ...]
    is_empty: bool  # said to have been looked at, with nothing on it
    image_class: str = ""


@dataclass(frozen=True)
class Document:
    """The annotations of a COCO file that belong to our images.

    entries: by the image's key. strangers: file names that match no image.

    refused: key of an image and why its entry cannot be used. notes: sentences on the rest of the file. structures:
    names of categories that are called structures, as ``document`` calls those of label maps.
    """

    entries: dict[str, list[Entry]]
    titles: dict[object, str]
    refused: list[tuple[str, str]]
    notes: list[str]
    strangers: list[str]
    structures: frozenset[str] = frozenset()

    def has_structures(self, classes: Collection[str]) -> bool:
        """Return True if the categories are structures: they are called so, or an image has several.

        classes: of images, in lower case, which are no structures.
        """
        if self.structures:
            return True
        for entries in self.entries.values():
            titles = {
                self.titles.get(id_of(each.get("category_id")), "") for one in entries for each in one.annotations
            }
            if len({title.casefold() for title in titles} - {"", *_NOTHING, *classes}) > 1:
                return True
        return False


def read(data: bytes, names: Names, budget: PixelBudget) -> Document:
    """Match the images and annotations of a COCO file with ours. Nothing is drawn yet.

    An annotation belongs to the image whose id is the same JSON value: 7, "7" and "007" are three ids. Images whose id
    is missing or repeated, and images that may mean several of ours, are refused. budget: what may still be done, of
    all files. Raises UnreadableImage whatever the bytes, where the file is not COCO.
    """
    budget.spend(_PER_BYTE * len(data))
    images, annotations, categories = coco_json.read(data)
    ids = Counter(id_of(image.get("id")) for image in images)
    drawn: dict[object, list[dict]] = {}
    for annotation in annotations:
        drawn.setdefault(id_of(annotation.get("image_id")), []).append(annotation)
    found, refused, strangers = _placed(images, names)
    entries: dict[str, list[Entry]] = {}
    for key, number, image in found:
        own = id_of(image.get("id"))
        if own is None or ids[own] > 1:
            reason = "has no id" if own is None else "has the id of another one"
            refused.append(
                (key, f"its entry in the COCO file {reason}, so it cannot be told which annotations are its own.")
            )
            continue
        size = (image.get("height"), image.get("width"))
        entries.setdefault(key, []).append(
            Entry(number, size, tuple(drawn.get(own, ())), image.get(_REVIEWED) is True, label_of(image.get(_CLASS)))
        )
    for key, _ in refused:
        entries.pop(key, None)
    lost = sum(len(annotations_) for own, annotations_ in drawn.items() if own is None or own not in ids)
    notes = [
        f"{lost} annotation{'s' * (lost != 1)} of the COCO file name no image of the file, by their image_id, and were"
        " left out."
    ] * bool(lost)
    named = frozenset(label_of(each.get("name")) for each in categories if each.get("supercategory") == _STRUCTURE)
    return Document(entries, _titles(categories), refused, notes, strangers, named)


def _placed(
    images: list[dict], names: Names
) -> tuple[list[tuple[str, int | None, dict]], list[tuple[str, str]], list[str]]:
    """Images of a COCO file with the key and slice each means; refusals, and file names that mean none of ours."""
    best: dict[tuple[str, int | None], list[tuple[int, str, dict]]] = {}
    refused, strangers = [], []
    for image in images:
        file_name = str(image.get("file_name", ""))[:1000]
        *folders, last = re.split(r"[/\\]", file_name)
        number, (keys, level) = None, names.of_image(last)
        if folders and (digits := re.fullmatch(r"([0-9]{1,6})(\.\w{1,5})?", last)) and names.of_image(folders[-1])[0]:
            number, (keys, level) = int(digits[1]), names.of_image(folders[-1])  # even if another image is called 007
        if len(keys) > 1:
            refused += [
                (key, "another image here has the same name, so it cannot be told which of them the COCO file means.")
                for key in sorted(keys)
            ]
        elif keys:
            best.setdefault((next(iter(keys)), number), []).append((level, file_name, image))
        else:
            strangers.append(file_name[:200])
    found = []
    for (key, number), candidates in best.items():
        top = min(level for level, *_ in candidates)
        strangers += [name[:200] for level, name, _ in candidates if level > top]
        matches = [(name, image) for level, name, image in candidates if level == top]
        if len({name for name, _ in matches}) > 1:
            refused.append(
                (
                    key,
                    (
                        "several images of the COCO file have its name, in other folders or with other endings, so it"
                        " cannot be told which is meant."
                    ),
                )
            )
        else:
            found += [(key, number, image) for _, image in matches]
    return found, refused, strangers


def draw(
    document: Document, key: str, scan: Scan, budget: PixelBudget
) -> tuple[np.ndarray | None, list[str], list[str], set[Overlap]]:
    """The label map of one of a document's images, uint8 (X, Y, Z), the names of its labels from 1 on, why parts were
    left out, and the labels that overlap; a pixel in several has the one whose annotations are the smallest.

    None where nothing is drawn on it, but an empty mask where the file says that it was reviewed, as ``document``
    writes it.
    """
    map_xyz, drawn = scan.empty_mask().view(np.uint8), False
    labels: dict[str, int] = {}
    reasons: list[str] = []
    overlay = Overlay()
    shown_shw = geometry.radiological_view(map_xyz, scan.affine, scan.planes[0])
    budget.spend(map_xyz.size // _PER_VOLUME)
    for entry in document.entries[key]:
        number, flat = entry.number or 0, is_flat(scan.voxels_xyz.shape, scan.affine)
        named_alike = not flat if entry.number is not None else len(shown_shw) == 1
        if number >= len(shown_shw) or not named_alike or entry.size != shown_shw.shape[1:]:
            reasons.append(
                f"its size or slice in the COCO file is not that of the image ({_size(shown_shw.shape)}), so it was"
                " left out."
            )
            continue
        drawn = drawn or entry.is_empty
        for annotation in entry.annotations:
            name = document.titles.get(id_of(annotation.get("category_id")), "")
            if name.casefold() in _NOTHING:
                continue
            label = labels.get(name, min(len(labels) + 1, _MOST_LABELS))
            make_mask = partial(_draw_segmentation, annotation.get("segmentation"), shown_shw.shape[1:])
            try:
                budget.spend(_PER_MASK)
                again = partial(make_mask, PixelBudget())  # drawn once more, it has been counted
                overlay.add(shown_shw[number], label, make_mask(budget), again)
            except UnreadableImage as refusal:
                reasons.append(str(refusal))
                if budget.left < 0:
                    break
            else:
                labels[name] = label
                drawn = True
    return map_xyz if drawn else None, list(labels), reasons, overlay.finish()


def _titles(categories: list[dict]) -> dict[object, str]:
    """Name by id, "" for an id that several categories have."""
    ids = Counter(id_of(category.get("id")) for category in categories)
    return {
        own: label_of(category.get("name")) if ids[own] == 1 else ""
        for category in categories
        if (own := id_of(category.get("id"))) is not None
    }


def _draw_segmentation(segmentation: object, shape_hw: tuple[int, int], budget: PixelBudget) -> np.ndarray:
    """A bool (H, W) mask of a segmentation in any of COCO's forms."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != list(shape_hw):
            raise UnreadableImage("a mask in the COCO file is of another size than its image, so it was left out.")
        budget.spend(shape_hw[0] * shape_hw[1])
        if isinstance(counts, str):
            return run_lengths.decode(run_lengths.decompress(counts), shape_hw)
        if isinstance(counts, list) and all(type(count) is int and 0 <= count < 2**40 for count in counts):
            return run_lengths.decode(np.array(counts, np.int64), shape_hw)
    if segmentation in ([], None):
        raise UnreadableImage(
            "an annotation in the COCO file has no segmentation, only a box or nothing, so it was left out."
        )
    if isinstance(segmentation, list) and all(map(_is_polygon, segmentation)):
        mask_hw = np.zeros(shape_hw, bool)
        for numbers in segmentation:
            corners_n2 = np.array(numbers, np.float64).reshape(-1, 2)
            budget.spend(run_lengths.polygon_cost(corners_n2, shape_hw))
            mask_hw |= run_lengths.polygon(corners_n2, shape_hw)
        return mask_hw
    raise UnreadableImage("a mask in the COCO file is neither run lengths nor polygons, so it was left out.")


def _is_polygon(numbers: object) -> bool:
    return (
        isinstance(numbers, list) and len(numbers) >= 6 and len(numbers) % 2 == 0
        and all(type(number) in (int, float) and math.isfinite(number) and abs(number) < 1e6 for number in numbers)
    )  # fmt: skip


def _size(shape_shw: tuple[int, ...]) -> str:
    slices = f"{shape_shw[0]} slices of " if shape_shw[0] > 1 else ""
    return f"{slices}{shape_shw[2]} × {shape_shw[1]} pixels"
