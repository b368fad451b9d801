"""Masks that exist already, found for the scans of a project: PNG, JPEG, TIFF, NIfTI, DICOM-SEG, COCO; files, folders,
zips.

Uploads are untrusted: formats are told by content, names only tell which scan is meant and are never used as paths, and
sentences name nothing but the project's own scans.

Over 250 lines because the kinds of files of one upload are merged image by image under one budget and one report.

Axes: X, Y, Z as the scan stores them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from mpsams.annotation import (
    class_table,
    coco,
    coco_json,
    label_maps,
    masks,
    structure_matching,
    structure_tables,
    upload,
    upload_layout,
)
from mpsams.annotation.structure_matching import StructureMatcher
from mpsams.annotation.upload import File
from mpsams.imaging import Scan, UnreadableImage, mask_files, name_matching, nifti, raster
from mpsams.imaging.dicom import annotation_seg
from mpsams.imaging.mask_values import JOINED, LesionMask
from mpsams.imaging.overlaps import Overlap, Overlay

KINDS = ("benign", "malignant", "normal")  # folders of BUSI, which are labels
MAX_EACH = 32  # masks of one image

_OPENS = "masks may be PNG, JPEG, TIFF, NIfTI, DICOM-SEG or COCO JSON, also in a folder or a zip"
_BESIDE = (".txt", ".md", ".csv", ".yaml", ".yml", ".db", ".ini")  # files that lie beside masks and are none
_CONTINUOUS = """a {} of its name has continuous greys, as an image and not a mask has, so it was left out; put masks
into a folder masks, or write _mask after the image's name.""".replace("\n", " ")
_JOINED = f"""{JOINED} To import them as structures, define structures first, or put a dataset.json with their names
beside the masks.""".replace("\n", " ")
_NO_NUMBER = "The mask's only value, {}, is the number of no structure here, so it was taken as {}."
_AMBIGUOUS = """a mask may belong to it or to another image here, by their names, so it was left out; name it by the
image's id, which names.csv in an export lists.""".replace("\n", " ")
_TITLES = 5  # images named in one sentence


@dataclass
class Report:
    """The messages of an import, collected while it runs.

    refused: an image's title and why a mask of it was left out. taken: an image's title and how the values or the grid
    of a mask that was read were taken. classes: of images by their keys, as tables (CSV) say.
    """

    refused: list[tuple[str, str]] = field(default_factory=list)
    taken: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list, repr=False)
    classes: dict[str, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """All of it, images with the same refusal or remark in one sentence."""
        reasons: dict[str, list[str]] = {}
        for title, reason in dict.fromkeys(self.refused + self.taken):
            reasons.setdefault(reason, []).append(title)
        more = {
            reason: f" and {len(titles) - _TITLES} more" * (len(titles) > _TITLES) for reason, titles in reasons.items()
        }
        lines = [f"{', '.join(titles[:_TITLES])}{more[reason]}: {reason}" for reason, titles in reasons.items()]
        if count := len(self.strangers):
            belong = "s belong" if count > 1 else " belongs"
            lines.append(
                f"{count} mask{belong} to no image here: a mask has its image's name, maybe with _mask after it."
            )
        return lines + list(dict.fromkeys(self.notes))


@dataclass(frozen=True)
class Mask:
    """The mask of one image, all of its files merged.

    map_xyz: label map, uint8; with structures in the labels of the project. is_whole: nothing was left out.
    image_class: of the whole image where the upload says it, by a folder of that name or in COCO, else what is marked,
    "" where the files do not agree on one.
    """

    key: str
    map_xyz: np.ndarray = field(repr=False)
    is_whole: bool
    image_class: str


def each(
    path: Path,
    scans: Mapping[str, Scan],
    names: Mapping[str, Sequence[str]],
    report: Report,
    classes: Collection[str],
    matcher: StructureMatcher,
) -> Iterator[Mask]:
    """The masks in a file, folder or zip, one image after the other, so that only one scan and its mask need be held.

    scans: by key; may open them when asked. names: of each key, the first to be shown. report: is filled. classes: that
    images may have; a folder of such a name gives it to the images of its masks. matcher: of the structures in masks.

    A picture or NIfTI file belongs to the scan of its name, see ``name_matching``; where there is one file and one
    scan, to that. Which files are masks is told by folders and names, else by content, see ``upload_layout``. A mask is
    merged with those that are numbered (_mask_1); two that differ and have one name are refused. Values and grids are
    taken as everywhere, see ``mask_files``. A DICOM-SEG belongs to the scan whose images it refers to. COCO: see
    ``coco``.

    Raises UnreadableImage where the upload as a whole cannot be read, whatever the bytes. What is refused yields
    nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield from _Upload(upload.files(Path(path), Path(folder)), scans, names, report, classes, matcher).masks()


class _Upload:
    """The files of an upload, sorted by the scans they belong to."""

    def __init__(
        self,
        files: list[File],
        scans: Mapping[str, Scan],
        names: Mapping[str, Sequence[str]],
        report: Report,
        classes: Collection[str],
        matcher: StructureMatcher,
    ) -> None:
        self.classes, self.matcher = {name.casefold() for name in (*KINDS, *classes)}, matcher
        self.folders = self.classes | {name.casefold() for name in matcher.names}
        self.scans, self.titles, self.report = scans, {key: next(iter(known)) for key, known in names.items()}, report
        self.work, self.images = coco.PixelBudget(), 0
        self.covered: dict[int, str] = {}  # structures of an image that others cover in part: label, name
        self.named: dict[str, list[File]] = {}
        self.documents: list[coco.Document] = []
        self.segments: dict[str, list[tuple[np.ndarray, list[str], set[Overlap]]]] = {}  # of DICOM-SEG, maps as bits
        matched = name_matching.Names(names)
        kinds = {file.path: upload.kind(file.path) for file in files}
        alone = len(scans) == 1 and sum(map(bool, kinds.values())) == 1
        allowance, slices = annotation_seg.allowance(), None
        for file in files:
            kind = kinds[file.path]
            try:
                if kind == "coco":
                    self._json(upload.read(file.path, coco_json.MAX_BYTES), matched)
                elif kind == "dicom":
                    slices = annotation_seg.slices(scans) if slices is None else slices
                    key, map_xyz, labels, overlaps = annotation_seg.read_segments(file.path, scans, allowance, slices)
                    self.segments.setdefault(key, []).append((masks.pack(map_xyz), labels, overlaps))
                elif kind == "xml":
                    report.notes.append(
                        "An XML file was left out: those of CVAT and Pascal VOC are not read; export the masks there as"
                        " COCO or PNG."
                    )
                elif kind:
                    self._place(file, set(scans) if alone else matched.of_mask(file.parts[:-1], file.parts[-1]))
                elif file.parts[-1].lower().endswith(".csv"):
                    self._table(file, matched)
                elif file.role != "image" and not file.parts[-1].lower().endswith(_BESIDE):
                    report.notes.append(f"A file was left out: by its content it is no mask; {_OPENS}.")
            except UnreadableImage as refusal:
                report.notes.append(str(refusal))

    def _json(self, data: bytes, names: name_matching.Names) -> None:
        if described := structure_tables.read_dataset(data):
            self.matcher.described = described
            return
        document = coco.read(data, names, self.work)
        self.documents.append(document)
        self.report.refused += [(self.titles[key], reason) for key, reason in document.refused]
        self.report.notes += document.notes
        self.report.strangers += document.strangers

    def _table(self, file: File, names: name_matching.Names) -> None:
        found, strangers = class_table.read(upload.read(file.path, class_table.MAX_BYTES), set(self.scans), names)
        self.report.classes |= found
        if found and strangers:
            self.report.notes.append(
                f"{strangers} row{'s' * (strangers > 1)} of a CSV file belong{'s' * (strangers == 1)} to no image here."
            )

    def _place(self, file: File, keys: set[str]) -> None:
        if file.role == "image":
            self.images += 1
        elif not keys:
            self.report.strangers.append("/".join(file.parts)[:200])
        elif len(keys) > 1:
            self.report.refused += [(self.titles[key], _AMBIGUOUS) for key in sorted(keys)]
        else:
            self.named.setdefault(next(iter(keys)), []).append(file)

    def masks(self) -> Iterator[Mask]:
        """One image after the other."""
        count = 0
        for mask in self._each_mask():
            count += 1
            yield mask
        if not count and self.images:
            self.report.notes.append(
                "The pictures in this upload are images and not masks, by their folders or their pixels."
            )
        elif not count and not self.report.sentences() and not self.report.classes:
            self.report.notes.append(f"There are no masks in this upload; {_OPENS}.")

    def _each_mask(self) -> Iterator[Mask]:
        """The mask of each image that has one; those that depend on the structures of the others come last."""
        undecided = []
        for key in self.scans:
            try:
                mask = self._mask(key)
            except structure_matching.Undecided:
                undecided.append(key)
                continue
            if mask is not None:
                yield mask
        self.matcher.is_complete = True
        yield from filter(None, map(self._mask, undecided))

    def _mask(self, key: str) -> Mask | None:
        """All that the upload has for one image, merged; None where that is nothing."""
        before, self.covered = len(self.report.refused), {}
        self.matcher.drop_plans()
        classes = {entry.image_class for document in self.documents for entry in document.entries.get(key, ())} - {""}
        try:
            parts = list(self._parts(key))
        except UnreadableImage as refusal:  # of the image itself
            self._refuse(key, str(refusal))
            return None
        if not parts:
            return None
        labels = {label for _, found in parts for label in found}
        if len(labels - {""}) > 1:
            self.report.taken.append(
                (self.titles[key], "what is marked on it has several names; all of it was taken as lesion.")
            )
        label, image_class = (next(iter(found)) if len(found) == 1 else "" for found in (labels, classes))
        map_xyz = self._merge(key, [map_xyz for map_xyz, _ in parts])
        self._note_missing(key, map_xyz)
        return Mask(key, map_xyz, len(self.report.refused) == before, image_class or label)

    def _merge(self, key: str, maps: list[np.ndarray]) -> np.ndarray:
        """One label map of several with the labels of the project."""
        if len(maps) == 1:
            return maps[0]
        merged_xyz, overlay = np.zeros_like(maps[0]), Overlay()
        for map_xyz in maps:
            for label in label_maps.present(map_xyz):
                overlay.add(merged_xyz, label, map_xyz == label, partial(np.equal, map_xyz, label))
        self._note_overlaps(key, overlay.finish())
        return merged_xyz

    def _note_overlaps(self, key: str, overlaps: set[Overlap]) -> None:
        for top, below, is_smaller in sorted(overlaps):
            if top != below:
                one, other = self.matcher.name_of(top), self.matcher.name_of(below)
                self.covered[below] = other
                reason = f"{one} and {other} overlap; there the mask has {one}, the smaller of the two."
                if not is_smaller:
                    reason = f"{one} and {other} overlap and have the same size; there the mask has {one}."
                self.report.taken.append((self.titles[key], reason))

    def _note_missing(self, key: str, map_xyz: np.ndarray) -> None:
        """Note the structures of which others leave nothing."""
        for label, name in sorted(self.covered.items()):
            if not (map_xyz == label).any():
                reason = f"{name} lies wholly under other structures, so the mask has none of it."
                self.report.taken.append((self.titles[key], reason))

    def _take(
        self,
        key: str,
        map_xyz: np.ndarray,
        names: Sequence[str],
        is_named: bool = False,
        overlaps: Collection[Overlap] = (),
    ) -> tuple[np.ndarray, set[str]]:
        """A label map with the labels of the project, and what is marked in it, names of structures left out.

        names: of its labels from 1 on. is_named: True if they are those of structures. overlaps: of its labels.
        """
        present = sorted({*label_maps.present(map_xyz), *(label for each in overlaps for label in each[:2])})
        named = {number: name for number, name in enumerate(names, start=1) if name}
        if len(present) > 1 and not named and not self.matcher.keeps_numbers:
            self.report.taken.append((self.titles[key], _JOINED.format(len(present))))
        table = self.matcher.table(present, named, is_named)
        if not named and self.matcher.names and self.matcher.is_unknown_value(present) and present[0] > 1:
            name = self.matcher.name_of(table[present[0]])
            self.report.taken.append((self.titles[key], _NO_NUMBER.format(present[0], name)))
        self._note_overlaps(key, {Overlap(table[top], table[below], smaller) for top, below, smaller in overlaps})
        known = {name.casefold() for name in self.matcher.names}
        labels = set() if is_named else {name for name in names if name.casefold() not in known}
        return structure_matching.apply(map_xyz, table), labels

    def _parts(self, key: str) -> Iterator[tuple[np.ndarray, set[str]]]:
        """The label maps of one image, and what is marked in them."""
        if key in self.named:
            yield from self._named_masks(key)
        for document in self.documents:
            if key not in document.entries:
                continue
            map_xyz, labels, reasons, overlaps = coco.draw(document, key, self.scans[key], self.work)
            if map_xyz is None and not reasons:
                reasons = ["the COCO file lists it without annotations, so it was left as it is."]
            for reason in reasons:
                self._refuse(key, reason)
            if map_xyz is not None:
                yield self._take(key, map_xyz, labels, document.has_structures(self.classes), overlaps)
        for bits, labels, overlaps in self.segments.get(key, ()):
            map_xyz = self.scans[key].empty_mask().view(np.uint8)
            np.copyto(map_xyz, masks.unpack(bits, map_xyz.shape))
            yield self._take(key, map_xyz, labels, len({*labels} - {""}) > 1, overlaps)

    def _refuse(self, key: str, reason: str) -> None:
        self.report.refused.append((self.titles[key], reason))

    def _named_masks(self, key: str) -> list[tuple[np.ndarray, set[str]]]:
        """The masks of a scan's files and the labels of their folders."""
        files, scan = self.named[key], self.scans[key]
        read: dict[str, tuple[np.ndarray, set[str]]] = {}
        noted = len(self.report.taken)
        named_masks = [file for file in files if file.role == "mask"]
        by_class = [file for file in named_masks if not upload_layout.shows_instances(file.parts)]
        self.images += len(files) - len(named_masks) if named_masks else 0
        for number, file in enumerate(by_class or named_masks or files):
            try:
                if number >= MAX_EACH:
                    raise UnreadableImage(f"More than {MAX_EACH} masks are of this image; the others were left out.")
                if _is_image(file, scan, is_named=bool(named_masks)):
                    self.images += 1
                    continue
                found, stem = mask_files.read(file.path, scan), name_matching.stem(file.parts[-1]).casefold()
                if upload_layout.shows_instances(file.parts):  # numbers of objects, not of structures
                    found = LesionMask(found.lesion, found.notes)
                folder = next((part for part in file.parts[-2:-1] if part.casefold() in self.folders), "")
                map_xyz, structure = self._in_folder(found, folder)
                notes = found.notes_on_labels if map_xyz is found.labels else found.notes
                self.report.taken += [(self.titles[key], note) for note in notes]
                map_xyz, labels = self._take(key, map_xyz, [structure] * bool(structure))
                mask = map_xyz, labels | ({folder} if folder and not structure else set())
                stem = f"{structure.casefold()}/{stem}" if structure else stem  # each of them has a folder
                if stem in read and not np.array_equal(read[stem][0], mask[0]):
                    self._refuse(
                        key,
                        "several masks of its name differ, so none was taken; number those that belong together:"
                        " _mask_1, _mask_2.",
                    )
                    del self.report.taken[noted:]
                    self.matcher.drop_plans()
                    return []
                read[stem] = mask
            except UnreadableImage as refusal:
                self._refuse(key, str(refusal))
        return list(read.values())

    def _in_folder(self, found: LesionMask, folder: str) -> tuple[np.ndarray, str]:
        """The label map of a mask, and the structure that its folder names, "" for none.

        A folder of a class may have the name of a structure too: of a map with several labels it is the class alone.
        """
        is_structure = folder.casefold() in {name.casefold() for name in self.matcher.names}
        if found.labels is None or (is_structure and folder.casefold() not in self.classes):
            return found.lesion.view(np.uint8), folder if is_structure else ""
        is_structure = is_structure and len(label_maps.present(found.labels)) < 2
        return found.lesion.view(np.uint8) if is_structure else found.labels, folder if is_structure else ""


def _is_image(file: File, scan: Scan, is_named: bool) -> bool:
    """Return True if a file is an image and no mask, by its pixels. is_named: its folder or name says it is a mask.

    UnreadableImage where it is neither the scan itself nor like any mask.
    """
    if upload.kind(file.path) == "nifti":
        found = None if is_named else nifti.read(file.path, "mri")
        if found is None or found.voxels_xyz.shape != scan.voxels_xyz.shape:
            return False
        levels = np.unique(found.values(2**18))
        if np.array_equal(found.voxels_xyz, scan.voxels_xyz) and len(levels) > 4:
            return True
        if len(levels) > 256 and levels[-1] > 1.5:
            raise UnreadableImage(_CONTINUOUS.format("volume"))
        return False
    if not coco.is_flat(scan.voxels_xyz.shape, scan.affine):
        return False  # ``mask_files`` refuses it, or takes it for the only slice
    values_hw, _ = raster.grey(upload.read(file.path, raster.MAX_BYTES))
    if upload_layout.is_same(values_hw, scan.slice(0)) and not (is_named and len(np.unique(values_hw)) <= 4):
        return True
    if not is_named and values_hw.shape == scan.shown().shape[1:] and upload_layout.is_photograph(values_hw):
        raise UnreadableImage(_CONTINUOUS.format("picture"))
    return False
