"""Names of images in an export: those of the user's files, made safe and different, or hashes of their content.

Names from users are untrusted: what is returned holds no folder, no control character and nothing that a system keeps
for itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from mpsams.imaging import name_matching

ALLOWED = re.compile(r"\w([\w .()+-]{0,98}[\w)+-])?")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names that Windows keeps for itself
_LONGEST = 80  # characters, so that a digest still fits behind them
_DIGITS = 8  # of an id, behind a name that several images have


def is_safe(name: str) -> bool:
    """Return True if a name can be that of a file on any system."""
    return (
        bool(ALLOWED.fullmatch(name))
        and not RESERVED.fullmatch(name.lower())
        and unicodedata.normalize("NFC", name) == name
    )


def make_safe(name: str) -> str:
    """Return a name without folders, with "_" for what a file's name may not contain; "" if nothing is left."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    text = re.sub(r"[^\w .()+-]", "_", last)[:_LONGEST]
    text = re.sub(r"[^\w)+-]+$", "", re.sub(r"^[^\w]+", "", text))
    return text if is_safe(text) else f"_{text}" if text and is_safe(f"_{text}") else ""


def of_images(names: Mapping[str, str]) -> dict[str, str]:
    """Return the name in an export for each image: that of its file without the ending, made safe.

    names: of the users' files, by the images' ids. Where several images would have one name, capitals aside, and where
    a name ends as those of masks do, eight digits of the id stand behind it; where nothing of a name is left, it is the
    id.
    """
    stems = {id: make_safe(name_matching.stem(name)) for id, name in names.items()}
    counts = Counter(stem.casefold() for stem in stems.values())
    found: dict[str, str] = {}
    taken = set(counts)
    for id, stem in stems.items():
        if stem and counts[stem.casefold()] == 1 and not name_matching.is_marked(stem):
            found[id] = stem
            continue
        name = f"{stem}-{id[:_DIGITS]}" if stem else id
        found[id] = id if name.casefold() in taken else name
        taken.add(found[id].casefold())
    return found
