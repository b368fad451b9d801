"""The part of a network's data set that an image lies in, found by the image's content. No gradio here.

A table of a data set, written by ``python -m train.image_hashes`` as ``weights/NAME-images.json``, has the hash of each
image and the case it belongs to; a checkpoint says which cases it was trained, chosen and tested on.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

ENDING = "-images.json"
UNKNOWN = "unknown"
PARTS = {"train": "training", "val": "validation", "test": "held out"}
WITHOUT_LABEL = "training, without its label"
MEANING = {
    "training": "the network was trained on this image and its label",
    WITHOUT_LABEL: "the network was trained on this image, but not on its label",
    "validation": "the network was chosen with the help of this image",
    "held out": "the network was neither trained nor chosen on this image",
    UNKNOWN: "nothing is recorded of this image",
}


def read_tables(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Read the tables of a folder: data set -> hash of an image -> its cases, several where there are copies.

    ValueError for a file that is none.
    """
    tables = (
        _read_table(path, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.glob(f"*{ENDING}"))
    )
    return {table["dataset"]: table["images"] for table in tables}


@functools.lru_cache(16)
def _read_table(path: Path, modified_ns: int, size: int) -> dict:
    """Read a table's file, once for each version of it."""
    table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict) or not isinstance(table.get("images"), dict):
        raise ValueError(f"{path.name} holds no table of images; expected one that python -m train.image_hashes writes")
    return table


def find_cases(tables: Mapping[str, Mapping[str, list[str]]], content: str) -> dict[str, list[str]]:
    """Return the cases that an image is: data set -> cases. content: ``Scan.content_sha256``."""
    return {dataset: images[content] for dataset, images in tables.items() if content in images}


def part_of(about: Mapping, cases: Mapping[str, list[str]]) -> str:
    """Return the part that an image was in when a network was trained: a key of ``MEANING``.

    The network it was begun from counts.

    about: a checkpoint's metadata. cases: what ``find_cases`` found.
    """
    seen_before = (about.get("init") or {}).get("seen", {})
    splits = [*([about["split"]] if "split" in about else []), *about.get("splits", ())]
    parts = {part for split in splits for part in PARTS if set(cases.get(split["dataset"], ())) & set(split[part])}
    if any(set(own) & set(seen_before.get(dataset, ())) for dataset, own in cases.items()):
        return PARTS["train"]
    if "train" in parts and "labelled" in about and not set().union(*cases.values()) & set(about["labelled"]):
        return WITHOUT_LABEL
    return next((words for part, words in PARTS.items() if part in parts), UNKNOWN)
