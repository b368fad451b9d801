"""COCO's JSON as untrusted bytes: bounded, parsed and told from other tools' files; its ids as keys."""

from __future__ import annotations

import json
import math

from mpsams.imaging import UnreadableImage

MAX_BYTES = 32 * 2**20
MAX_PARTS = 4_000_000  # lists, objects and commas, of which Python makes objects
MAX_ITEMS = 200_000  # images, and annotations
ALLOWED = f"allowed is COCO JSON with images, annotations and categories, of up to {MAX_BYTES >> 20} MiB"

_LONGEST = 64  # characters of a label


def read(data: bytes) -> tuple[list[dict], list[dict], list[dict]]:
    """Read images, annotations and categories of a COCO file: lists of JSON objects. UnreadableImage for others."""
    if len(data) > MAX_BYTES:
        raise UnreadableImage(f"The COCO file is too large; {ALLOWED}.")
    if sum(map(data.count, (b"[", b"{", b","))) > MAX_PARTS:
        raise UnreadableImage(f"The COCO file has far too many parts; {ALLOWED}.")
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        # no JSON, no UTF-8, numbers of thousands of digits, lists in lists without end
        raise UnreadableImage(f"This is no JSON that can be read; {ALLOWED}.") from None
    if not isinstance(whole, dict) or not {"images", "annotations"} <= set(whole):
        raise UnreadableImage(f"This JSON is {_form(whole)}; {ALLOWED}.")
    return tuple(_entries(whole, key) for key in ("images", "annotations", "categories"))  # type: ignore[return-value]


def _form(whole: object) -> str:
    """Describe a JSON file that is not COCO's."""
    keys = set(whole) if isinstance(whole, dict) else set()
    first = whole[0] if isinstance(whole, list) and whole and isinstance(whole[0], dict) else {}
    if {"shapes", "imagePath"} <= keys:
        return "LabelMe's, not COCO's; convert it with labelme2coco"
    if "_via_img_metadata" in keys or "_via_settings" in keys:
        return "VGG Image Annotator's, not COCO's; export it there as COCO"
    if {"image_id", "segmentation"} <= set(first):
        return "a list of COCO results without images, not a whole COCO file"
    if "annotations" in first and "data" in first:
        return "Label Studio's, not COCO's; export it there as COCO"
    return "not of COCO's form"


def _entries(whole: dict, key: str) -> list[dict]:
    found = whole.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise UnreadableImage(f"This JSON is not of COCO's form; {ALLOWED}.")
    if len(found) > MAX_ITEMS:
        raise UnreadableImage(f"The COCO file has {len(found)} {key}; allowed are up to {MAX_ITEMS}.")
    return found


def id_of(value: object) -> tuple[str, object] | None:
    """Return an id as a key: numbers, texts and truth values never meet, and 1.0 is 1. None for any other value."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    kind = {bool: "truth", int: "number", float: "number", str: "text"}.get(type(value))
    return None if kind is None else (kind, value)


def label_of(value: object) -> str:
    """Return a label that is short and printable; "" for any other value."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() else ""
