"""Several readers: the same images in a project for each, how far two of them agree, and the consensus of all as
another project.

Over 250 lines because agreement and consensus read the masks of several projects in the same way.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams import metrics
from mpsams.annotation.index import OPEN, Item
from mpsams.annotation.project import Project
from mpsams.imaging import UnreadableImage

from . import class_table, classes, images, structures
from .consensus import METHODS, common_class, merge
from .masks import agreement as label_agreement
from .masks import pack

AUTHOR = "consensus ({})"  # in the log of a consensus, with the method
ADD_THEM = "They are compared once the first reader has structures of these names."
NO_MASKS: dict[str, object] = {"dsc": "", "hd95": "", "unit": ""}  # in a row of agreement
FIRST = "mask of the first reader"  # what proposed, in a second project that is not blind


@dataclass(frozen=True)
class ReaderAgreement:
    """Agreement of two readers.

    rows: for each image that both have worked on its id, name, the readers, their classes, dsc and hd95, and the unit
    of hd95, mm or px; "" where there is none, and hd95 None where the surfaces are too large to measure it. Those that
    agree least come first. notes: sentences on what was not measured. overall: images (with a mask of both),
    dsc, hd95_mm and hd95_px (means over these), their medians with _median, classified (images with a class of both),
    same_class (their share) and kappa (Cohen's); None where there is nothing to measure. structures: the same for each
    structure of the first reader by its name, of images in which a reader outlined it; {} while there is a single one.
    Rows then have "dsc NAME" and "hd95 NAME" too; their dsc counts voxels of the same structure, their hd95 is that of
    all structures as one.
    """

    rows: list[dict[str, object]]
    overall: dict[str, float | None]
    notes: list[str] = field(default_factory=list)
    structures: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def csv(self) -> bytes:
        """Return the rows as a CSV file. ValueError where there are none."""
        if not self.rows:
            raise ValueError("no image has a mask or a class of both readers; expected at least one")
        return class_table.document(self.rows)


def start(
    project: Project, folder: str | Path, blind: bool = True, user: str = "", notes: list[str] | None = None
) -> int:
    """Make a project for a second reader, or add what it lacks: images, names, classes and structures to choose from;
    return how many images are new.

    folder: of the second project. blind: nothing of the first reader's masks is in it; else they are its proposals. The
    classes that images have are never copied. notes: as in ``copy_images``. ValueError: the folder holds something
    else, or is the project's own.
    """
    if Path(folder).resolve() == project.folder.resolve():
        raise ValueError("the folder is that of the project itself; expected another one for the second reader")
    with Project(folder) as second:
        is_new = not second.items()
        if is_new:
            classes.define(second, classes.defined(project), user, any_key=True)
        copy_structures(project, second, user, notes)
        added = copy_images(project, second, user, notes)
        for item in () if blind else map(project.item, added):
            map_xyz = None if item.mask is None else project.labels(item.id)
            if map_xyz is not None:
                map_xyz = structures.translate(map_xyz, structures.pair_labels(project, second))
                second.propose(item.id, map_xyz, FIRST, item.mask or "", user=user)
        return len(added)


def copy_structures(project: Project, other: Project, user: str = "", notes: list[str] | None = None) -> None:
    """Give another project the structures of this one, and note there which one each checkpoint has learnt.

    A structure there that is renamed here gets its new name. notes: gets a sentence where the masks there hold others
    of the same numbers or names; then all stay as they are.
    """
    if not structures.is_defined(project):
        return
    try:
        structures.give(project, other, user)
    except ValueError as error:
        if notes is not None:
            notes.append(f"The structures of {other.folder.name} stay as they are: {error}.")
    structures.copy_learnt(project, other, user)


def copy_images(project: Project, other: Project, user: str = "", notes: list[str] | None = None) -> list[str]:
    """Add the images that another project lacks, and their names; return their ids.

    The files are hard links, which take no space. notes: gets a sentence on each image that cannot be read, which is
    left out.
    """
    known, added = {item.id for item in other.items()}, []
    for item in project.items():
        if item.id in known:
            continue
        image = project.image(item.id)
        try:
            images.link(image, other.folder / "images")
            other.add(image, item.modality, item.name, user)
            added.append(item.id)
        except (UnreadableImage, FileNotFoundError) as error:
            images.remove(other.folder / "images" / image.name)
            _note_refusal(item, images.explain(image, error), notes)
    return added


def _can_be_read(project: Project, item: Item, notes: list[str] | None) -> bool:
    """Return True if the file of an image is whole. notes: gets a sentence where it is not."""
    try:
        project.scan(item.id)
    except UnreadableImage as refusal:
        _note_refusal(item, str(refusal), notes)
        return False
    return True


def _note_refusal(item: Item, refusal: str, notes: list[str] | None) -> None:
    if notes is not None:
        notes.append(f"{item.name or item.id} was left out: {refusal}")


def consensus(
    projects: Sequence[Project],
    folder: str | Path,
    user: str = "consensus",
    method: str = "majority",
    notes: list[str] | None = None,
) -> int:
    """Make a project of the masks and classes that readers agree on; return how many images have a mask in it.

    It is exported as any project. method, user, notes: see ``fill_consensus``. ValueError: fewer than two, another
    method, or a folder in use.
    """
    if len(projects) < 2:
        raise ValueError(f"{len(projects)} projects; expected those of two readers or more")
    if Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
        raise ValueError(f"{Path(folder).name} is there already; expected a new folder for the consensus")
    start(projects[0], folder, True, user, notes)
    with Project(folder) as result:
        for _ in fill_consensus(projects, result, method, user, notes):
            pass
        return sum(item.mask is not None for item in result.items())


def fill_consensus(
    projects: Sequence[Project],
    result: Project,
    method: str = "majority",
    user: str = "",
    notes: list[str] | None = None,
) -> Iterator[tuple[int, int]]:
    """Save the consensus of the readers for each image of a project; yields how many images are done, of how many.

    method: "majority", the voxels that more than half of the readers outline who have a mask, of two both; or "staple",
    those that STAPLE gives a probability of at least one half. The class is that of more than half of the readers who
    gave one. Images of which fewer than two readers have a mask get none. Accepted images, masks that a person drew,
    and classes that are given stay. user: for the log; "" names the method. notes: gets a sentence on each image that
    cannot be read, and on structures of readers that the result does not define, which are left out. ValueError for
    another method.
    """
    if method not in METHODS:
        raise ValueError(f"method {method[:40]!r}; allowed are {', '.join(METHODS)}")
    user = user or AUTHOR.format(method)
    makers = {user, *(AUTHOR.format(each) for each in METHODS)}
    allowed, found = [one.name for one in classes.defined(result)], result.items()
    first = structures.pair_labels(projects[0], result)  # which has the names that structures had before
    pairs = [
        {label: first[own] for label, own in structures.pair_labels(project, projects[0]).items() if own in first}
        | structures.pair_labels(project, result)
        for project in projects
    ]
    missing = {
        one.name
        for project, known in zip(projects, pairs, strict=True)
        for one in structures.defined(project)
        if one.label not in known
    }
    if missing and notes is not None:
        notes.append(f"Left out, as the consensus does not define them: {', '.join(sorted(missing))}. {ADD_THEM}")
    given = [{item.id: item for item in project.items()} for project in projects]
    for done, item in enumerate(found, start=1):
        own = [
            (project, known, items[item.id])
            for project, known, items in zip(projects, pairs, given, strict=True)
            if item.id in items
        ]
        is_free = item.status in OPEN and (item.mask is None or item.reader in makers)
        masks = [
            structures.translate(mask, known)
            for project, known, one in own
            if is_free and one.mask is not None and (mask := project.labels(item.id)) is not None
        ]
        if len(masks) > 1 and _can_be_read(result, item, notes):
            result.save(item.id, merge(masks, method), user)
        name = common_class((one.image_class for _, _, one in own), allowed)
        if name and not item.image_class:
            classes.classify(result, item.id, name, user)
        yield done, len(found)


def measure(first: Project, second: Project, known: dict[tuple, dict[str, object]] | None = None) -> ReaderAgreement:
    """Compare the saved or accepted masks and the classes of the images that are in two projects.

    known: results by image, masks and structures, which are looked up here and added to, so that only masks that
    changed are compared again.
    """
    known = {} if known is None else known
    others = {item.id: item for item in second.items()}
    rows = []
    notes: list[str] = []
    defined, pairs = structures.defined(first), structures.pair_labels(second, first)
    names = [one.name for one in defined] if len(defined) > 1 else []
    missing = sorted(one.name for one in structures.defined(second) if one.label not in pairs)
    if missing:
        notes.append(f"Left out, as the first of these readers does not define them: {', '.join(missing)}. {ADD_THEM}")
    for item in first.items():
        other = others.get(item.id)
        if other is None:
            continue
        has_masks = bool(item.mask and other.mask)
        if not has_masks and not (item.image_class and other.image_class):
            continue
        measured = NO_MASKS | _columns(names)
        if has_masks:
            masks = item.id, item.mask, other.mask, defined, *pairs.items()
            if masks not in known and _can_be_read(first, item, notes):
                known[masks] = _compare(first, second, item, pairs)
            measured = known.get(masks, measured)
            if measured["hd95"] is None:
                notes.append(
                    f"The HD95 of {item.name or item.id} was not measured: the surfaces of its masks are too large."
                )
        rows.append(
            {
                "id": item.id,
                "name": item.name,
                "reader_1": item.reader,
                "reader_2": other.reader,
                "class_1": item.image_class,
                "class_2": other.image_class,
            }
            | measured
        )
    rows.sort(key=_agreement_of)
    return ReaderAgreement(rows, _summarise(rows), notes, {name: _summarise_masks(rows, f" {name}") for name in names})


def _columns(names: Sequence[str]) -> dict[str, object]:
    """Columns of the structures in a row, without values."""
    return {f"{column} {name}": "" for name in names for column in ("dsc", "hd95")}


def _summarise_masks(rows: Sequence[Mapping[str, object]], suffix: str = "") -> dict[str, float | None]:
    """Return the part of ``ReaderAgreement.overall`` that is about masks. suffix: of the rows' columns."""
    dsc, hd95 = f"dsc{suffix}", f"hd95{suffix}"
    measured_rows = [row for row in rows if row["unit"] and row[dsc] != ""]
    numbers = {"dsc": [float(str(row[dsc])) for row in measured_rows]} | {
        f"hd95_{unit}": [
            float(str(row[hd95])) for row in measured_rows if row["unit"] == unit and row[hd95] is not None
        ]
        for unit in ("mm", "px")
    }
    overall = {"images": float(len(measured_rows))} | {name: _mean(found) for name, found in numbers.items()}
    return overall | {f"{name}_median": _median(found) for name, found in numbers.items()}


def _summarise(rows: Sequence[Mapping[str, object]]) -> dict[str, float | None]:
    """Return ``ReaderAgreement.overall`` of the rows."""
    overall = _summarise_masks(rows)
    values = [(str(row["class_1"]), str(row["class_2"])) for row in rows if row["class_1"] and row["class_2"]]
    same = _mean([float(one.casefold() == other.casefold()) for one, other in values])
    return overall | {"classified": float(len(values)), "same_class": same, "kappa": _kappa(values)}


def _compare(first: Project, second: Project, item: Item, pairs: Mapping[int, int]) -> dict[str, object]:
    """DSC and HD95 of an image's two masks, also of structures by their names; no values where the file of one was
    damaged meanwhile, no HD95 where the surfaces are too large to measure it.

    pairs: for labels of the second project those of the first.
    """
    one, other, affine = first.labels(item.id), second.labels(item.id), first.scan(item.id).affine
    defined = structures.defined(first)
    names = [each.name for each in defined] if len(defined) > 1 else []
    if one is None or other is None:
        return NO_MASKS | _columns(names)
    other = structures.translate(other, pairs)

    def compare(mask: np.ndarray, other_mask: np.ndarray) -> tuple[float, float | None]:
        found = metrics.case(mask, other_mask, None if affine is None else affine[:3, :3].T)
        return round(found["dsc"], 4), round(found["hd95"], 3) if math.isfinite(found["hd95"]) else None

    dsc, hd95 = compare(one > 0, other > 0)
    dsc = round(label_agreement(pack(one), pack(other)), 4) if names else dsc
    row = {"dsc": dsc, "hd95": hd95, "unit": "px" if affine is None else "mm"} | _columns(names)
    for each in defined if names else ():
        parts = one == each.label, other == each.label
        if parts[0].any() or parts[1].any():
            row[f"dsc {each.name}"], row[f"hd95 {each.name}"] = compare(*parts)
    return row


def _kappa(values: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of pairs of classes; None where it is not defined, as for a single class."""
    from sklearn.metrics import cohen_kappa_score

    if not values or len({name.casefold() for pair in values for name in pair}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = float(cohen_kappa_score(*([name.casefold() for name in side] for side in zip(*values, strict=True))))
    return kappa if math.isfinite(kappa) else None


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _median(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if finite else None


def _agreement_of(row: Mapping[str, object]) -> tuple[float, bool, str]:
    """Return a value that falls with the agreement of two readers; images without two masks come behind the others."""
    one, other = str(row["class_1"]).casefold(), str(row["class_2"]).casefold()
    return (float(str(row["dsc"])) if row["unit"] else 2.0), not (one and other and one != other), str(row["name"])
