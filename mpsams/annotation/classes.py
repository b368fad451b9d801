"""Classes of whole images, such as benign and malignant: what a project defines, which image has which, and how many
have each.

Classes and their changes are lines of the project's log, so nothing of them is lost with the index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mpsams.annotation.index import Item
from mpsams.annotation.project import Project

from . import export_names

SETTING = "classes"  # of the log that holds the definition
MAX_CLASSES = 20
LONGEST = 64  # characters of a name, as of a label in DICOM
# told apart by the colour-blind too
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")
KEYS = "56789"  # keys that the canvas leaves free
DEFAULTS = {"ultrasound": ("benign", "malignant", "normal"), "ct": ("lesion", "normal"), "mri": ("lesion", "normal")}
_COLOUR = re.compile("#[0-9a-f]{6}")


@dataclass(frozen=True)
class ImageClass:
    """A class that images of a project may have.

    colour: "#rrggbb". key: of the keyboard, one letter or digit, "" for none.
    """

    name: str
    colour: str = ""
    key: str = ""


@dataclass(frozen=True)
class ClassCount:
    """Images of one class in a project, "" for those without one: all of them, the accepted ones, and the seconds spent
    on all.
    """

    name: str
    images: int
    accepted: int
    seconds: float


def make(names: Iterable[str | ImageClass]) -> tuple[ImageClass, ...]:
    """Return classes with a colour and, for the first five, a key where none is given.

    ValueError: a name that is none of a file (classes name folders of exports), two of one name or one key, no colour,
    too many.
    """
    given = [one if isinstance(one, ImageClass) else ImageClass(one) for one in names]
    if len(given) > MAX_CLASSES:
        raise ValueError(f"{len(given)} classes; allowed are up to {MAX_CLASSES}")
    free = [key for key in KEYS if key not in {one.key for one in given}]
    made = []
    for number, one in enumerate(given):
        key = one.key or (free.pop(0) if number < len(KEYS) and free else "")
        made.append(
            _check(ImageClass(one.name.strip(), (one.colour or COLOURS[number % len(COLOURS)]).lower(), key.lower()))
        )
    for field, values in (
        ("name", [one.name.casefold() for one in made]),
        ("key", [one.key for one in made if one.key]),
    ):
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise ValueError(f"two classes have the {field} {twice!r}; allowed are different ones")
    return tuple(made)


def parse(text: str) -> ImageClass:
    """Return the class of a text NAME, NAME:COLOUR or NAME:COLOUR:KEY, as "benign" or "benign:#0072b2:5"; ``make``
    checks it.
    """
    name, colour, key, *more = *text.split(":"), "", ""
    if len(more) > 2:
        raise ValueError(f"class {text[:LONGEST]!r}; allowed are NAME, NAME:COLOUR and NAME:COLOUR:KEY")
    return ImageClass(name, colour, key)


def defined(project: Project) -> tuple[ImageClass, ...]:
    """Return the classes of a project: those defined last, else the usual ones of its first image's modality.

    A project made before there were classes has none until some are defined.
    """
    rows = project.setting(SETTING)
    if isinstance(rows, list):
        try:
            return make(ImageClass(**row) for row in rows)
        except (AttributeError, TypeError, ValueError):  # a line that somebody else wrote
            return ()
    items = project.items() if project.has_default_classes else ()
    return make(DEFAULTS.get(items[0].modality, ())) if items else ()


def define(project: Project, given: Iterable[str | ImageClass], user: str = "") -> tuple[ImageClass, ...]:
    """Set the classes of a project, by names or in full; return them.

    Images keep the class they have. ValueError as ``make``.
    """
    made = make(given)
    if made != defined(project):
        project.append_log("configured", user, setting=SETTING, value=[asdict(one) for one in made])
    return made


def classify(project: Project, id: str, image_class: str, user: str = "") -> Item:
    """Give an image a class of the project, "" for none; its status and mask stay. ValueError for another class."""
    with project.exclusive():
        item, names = project.item(id), [one.name for one in defined(project)]
        name = match(names, image_class)
        if image_class and not name:
            raise ValueError(
                f"class {image_class[:LONGEST]!r}; allowed are"
                f" {', '.join(names) or 'none, as the project defines no classes'}"
            )
        if item.image_class != name:
            project.append_log("classified", user, item=item.id, image_class=name, before=item.image_class)
        return project.item(id)


def undo(project: Project, id: str, user: str = "") -> Item:
    """Give an image the class that it had before the last change; done twice, it changes nothing."""
    with project.exclusive():
        item = project.item(id)
        if item.image_class != item.class_before:
            project.append_log("classified", user, item=id, image_class=item.class_before, before=item.image_class)
        return project.item(id)


def match(names: Iterable[str], name: str) -> str:
    """Return the name among some that is the same but for capitals and spaces around it; "" if there is none."""
    return next((one for one in names if one.casefold() == name.strip().casefold()), "")


def count(project: Project) -> list[ClassCount]:
    """Count the images of each class: those of the definition in its order, then others that images have, then "" for
    none.
    """
    items = project.items()
    names = dict.fromkeys(
        [*(one.name for one in defined(project)), *sorted({item.image_class for item in items} - {""})]
    )
    counts = []
    for name in (*names, ""):
        own = [item for item in items if item.image_class == name]
        counts.append(
            ClassCount(
                name,
                len(own),
                sum(item.status == "accepted" for item in own),
                round(sum(item.seconds for item in own), 1),
            )
        )
    return counts


def _check(one: ImageClass) -> ImageClass:
    if len(one.name) > LONGEST or not export_names.is_safe(one.name):
        raise ValueError(
            f"class {one.name[:LONGEST]!r}; allowed are 1 to {LONGEST} letters, digits, spaces and . ( ) + - _, as in a"
            " file's name"
        )
    if not _COLOUR.fullmatch(one.colour):
        raise ValueError(f"colour {one.colour[:20]!r} of class {one.name!r}; allowed is #rrggbb")
    if one.key and (len(one.key) > 1 or not one.key.isalnum()):
        raise ValueError(f"key {one.key[:20]!r} of class {one.name!r}; allowed is one letter or digit, or none")
    return one
