"""Classes of whole images, such as benign and malignant: what a project defines, which image has which, and how many
have each.

Classes and their changes are lines of the project's log, so nothing of them is lost with the index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mpsams.annotation.index import Item
from mpsams.annotation.project import Project

from .definitions import (
    CLASSES,
    FREE_DIGITS,
    FREE_LETTERS,
    LONGEST,
    STRUCTURES,
    check_keys,
    complete,
    free_keys,
    give_keys,
    merge,
)

SETTING = CLASSES  # of the log that holds the definition
MAX_CLASSES = 20
DEFAULTS = {"ultrasound": ("benign", "malignant", "normal"), "ct": ("lesion", "normal"), "mri": ("lesion", "normal")}


@dataclass(frozen=True)
class ImageClass:
    """A class that images may have. colour: "#rrggbb". key: of the keyboard, one letter or digit, "" for none."""

    name: str
    colour: str = ""
    key: str = ""


@dataclass(frozen=True)
class ClassCount:
    """The images of one class in a project, "" for those without one: all, the accepted ones, and the seconds spent."""

    name: str
    images: int
    accepted: int
    seconds: float


def make(
    names: Iterable[str | ImageClass], known: Iterable[ImageClass] = (), keys: str = FREE_DIGITS
) -> tuple[ImageClass, ...]:
    """Return classes with a colour and, as far as there are free digits, a key where none is given.

    known: those of before, of which one that comes in full without a key has none. keys: to be given, in order.
    ValueError: a name that is none of a file (classes name folders of exports), two of one name or one key, no colour,
    too many.
    """
    listed, before = list(names), [one.name for one in known]
    in_full = [one for one in listed if isinstance(one, ImageClass) and match(before, one.name)]
    given = [one if isinstance(one, ImageClass) else ImageClass(one) for one in listed]
    return complete(give_keys(given, keys, in_full.__contains__), ("class", "classes"), MAX_CLASSES)


def defined(project: Project) -> tuple[ImageClass, ...]:
    """Return the classes of a project: those defined last, else the usual ones of its first image's modality.

    A project made before there were classes has none until some are defined.
    """
    rows = project.setting(SETTING)
    if isinstance(rows, list):
        try:
            return make((ImageClass(**row) for row in rows), keys="")
        except (AttributeError, TypeError, ValueError):  # a line that somebody else wrote
            return ()
    items = project.items() if project.has_default_classes else ()
    return make(DEFAULTS.get(items[0].modality, ())) if items else ()


def define(
    project: Project,
    given: Iterable[str | ImageClass],
    user: str = "",
    any_key: bool = False,
    edited_from: Iterable[ImageClass] | None = None,
) -> tuple[ImageClass, ...]:
    """Set the classes of a project, by names or in full; return them.

    Images keep the class they have. A new class without a key gets a free digit. any_key: True for classes of another
    project, which are taken as they are, though their keys may be in use here. edited_from: those there were
    when the given ones were edited; what was changed since stays. ValueError as ``make``; a new key that the canvas or
    a structure uses.
    """
    with project.exclusive():
        before, edited = defined(project), list(given)
        if edited_from is not None and before:  # else the usual ones of a modality were edited
            listed = [one if isinstance(one, ImageClass) else ImageClass(one) for one in edited]
            edited = [*merge(listed, edited_from, before, _identity)]
        made = make(edited, before, "" if any_key else FREE_DIGITS)
        if made != before:
            if not any_key:
                check_keys(made, before, free_class_keys(project), "class")
            project.append_log("configured", user, setting=SETTING, value=[asdict(one) for one in made])
        return made


def _identity(one: ImageClass) -> str:
    """Return a value that is the same for classes of one name."""
    return one.name.strip().casefold()


def free_class_keys(project: Project) -> str:
    """Return the keys that classes of a project may have: those that neither the canvas nor a structure has."""
    return free_keys(project, FREE_DIGITS + FREE_LETTERS, STRUCTURES)


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
    """Count the images of each class: those of the definition in its order, then other classes of images, then none."""
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
