"""The folder of a project: the files that belong to it, the check that it is one, and the lines that its log gets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpsams.annotation import log, masks
from mpsams.annotation.index import Item
from mpsams.imaging import Scan

FORMAT, VERSION = "mps-ams annotations", 2
LABELLED_VERSION = 3  # of a project whose masks have several structures, so that an earlier app does not lose them
FOLDERS = ("images", "proposals", "masks", "accepted", "accepted/images", "accepted/masks")
FILES = ("project.json", "log.jsonl", "names.private.jsonl", "lock")
LONGEST = 200  # characters of a name, a person's or a file's


def is_project(folder: Path) -> bool:
    """Return True if a folder holds a project, maybe a damaged one."""
    return (folder / "project.json").is_file() or (folder / "log.jsonl").is_file()


def validate_folder(folder: Path) -> None:
    """Raise ValueError unless a folder is a project we can open, or may become one."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder, or a name for a new one")
    for name in FILES:
        if (folder / name).is_dir():
            raise ValueError(
                f"{name} in {folder} is a folder; expected a file of the project. Move that folder elsewhere"
            )
    for name in FOLDERS:
        if (folder / name).is_file():
            raise ValueError(
                f"{name} in {folder} is a file; expected a folder of the project. Move that file elsewhere"
            )
    about = folder / "project.json"
    if about.is_file():
        try:
            description = json.loads(about.read_bytes())
            found, version = description["format"], int(description["version"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            message = (
                f"{about} is damaged; expected JSON with a format and a version. Remove it if the folder is a project"
            )
            raise ValueError(message) from None
        if found != FORMAT or version > LABELLED_VERSION:
            raise ValueError(
                f"{folder} is of format {found!r}, version {version}; this app opens {FORMAT!r} up to version"
                f" {LABELLED_VERSION}"
            )
        return
    others = (
        [path for path in folder.iterdir() if path.name not in ("lock", "project.json.partial")]
        if folder.is_dir()
        else []
    )
    if others and not (folder / "log.jsonl").is_file():
        raise ValueError(f"{folder} holds files that are no project; expected an empty folder, or a name for a new one")


def added_line(id: str, ending: str, scan: Scan) -> list[dict]:
    """Return the line of the log for a new image."""
    shape = [int(side) for side in scan.voxels_xyz.shape]
    row = {"item": id, "action": "added", "modality": scan.modality, "image_ending": ending}
    return [row | {"mask_ending": masks.ending(scan), "shape": shape}]


def add_time_and_user(rows: Sequence[dict], user: str) -> list[dict]:
    """Return lines of the log with their time and user."""
    head = {"time": log.now(), "user": printable(user)}
    return [head | row | head for row in rows]


def pack_truth(truth_xyz: np.ndarray | None, item: Item) -> np.ndarray | None:
    """Return a truth mask as bits; None where there is none. ValueError if it is of another shape than its image."""
    if truth_xyz is None:
        return None
    if truth_xyz.shape != item.shape_xyz:
        raise ValueError(f"truth is of shape {truth_xyz.shape}; expected that of the mask, {item.shape_xyz}")
    return masks.pack(truth_xyz)


def compare_masks(before: np.ndarray, after: np.ndarray, proposed: np.ndarray | None, truth: np.ndarray | None) -> dict:
    """Compare the packed masks of a correction for the log: pixels, and DSC with the truth and with the proposal, None
    where there is none.
    """
    added, removed = masks.changes(before, after)
    return {
        "pixels_added": added,
        "pixels_removed": removed,
        "dsc_before": None if truth is None else masks.agreement(masks.any_structure(before), truth),
        "dsc_after": None if truth is None else masks.agreement(masks.any_structure(after), truth),
        "dsc_proposal": None if proposed is None else masks.agreement(proposed, after),
    }


def check_finite(name: str, value: float) -> float:
    value = float(value)
    if not math.isfinite(value) or (name == "seconds" and value < 0):
        raise ValueError(f"{name} {value}; expected a finite number{', 0 or more' if name == 'seconds' else ''}")
    return value


def printable(text: str) -> str:
    """Return a name on one line, of characters that every file can hold."""
    held = str(text).encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "_" for letter in held)[:LONGEST]
