"""One mask and one class made of those of several readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from . import label_maps
from .staple import staple

METHODS = ("majority", "staple")  # of a consensus
MERGES = (*METHODS, "union", "intersection")


def merge(maps: Sequence[np.ndarray], method: str) -> np.ndarray:
    """Return one label map of several of one shape, structure by structure.

    method: "majority", the voxels that more than half of the maps hold, of two both; "staple", those that STAPLE gives
    a probability of at least one half; "union" and "intersection".
    Where that gives a voxel two structures, it has the one that more of the maps give it. ValueError for another method
    than those of ``MERGES``, or without masks.
    """
    if method not in MERGES or not maps:
        raise ValueError(
            f"method {method[:40]!r} for {len(maps)} masks; allowed are {', '.join(MERGES)} for one or more"
        )

    needed = {"majority": len(maps) // 2 + 1, "union": 1, "intersection": len(maps)}  # maps that hold a voxel

    def merged() -> Iterator[label_maps.Drawn]:
        for label in sorted(set().union(*map(label_maps.present, maps))):
            votes = np.zeros_like(maps[0], np.uint8)
            for each in maps:  # one after the other, to hold a single mask
                votes += each == label
            if method == "staple":
                yield label, staple([each == label for each in maps]).probability >= 0.5, votes
            else:
                yield label, votes >= needed[method], votes

    return label_maps.combine(merged(), maps[0].shape)


def common_class(given: Iterable[str], allowed: Sequence[str]) -> str:
    """Return the class that more than half of the readers gave who gave one, capitals aside; else ""."""
    named = [name.casefold() for name in given if name]
    return next((name for name in allowed if 2 * named.count(name.casefold()) > len(named) > 1), "")
