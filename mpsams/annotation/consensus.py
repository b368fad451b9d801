"""One mask and one class made of those of several readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from . import label_maps
from .staple import staple


def majority(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the voxels that more than half of the masks hold: of two, those that both hold."""
    return np.asarray(np.sum(masks, axis=0, dtype=np.uint16) * 2 > len(masks))


def most_probable(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the voxels that STAPLE gives a probability of at least one half."""
    return staple(masks).probability >= 0.5


METHODS: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {"majority": majority, "staple": most_probable}
MERGES: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = METHODS | {
    "union": lambda masks: np.any(masks, axis=0), "intersection": lambda masks: np.all(masks, axis=0),
}  # fmt: skip


def merge(maps: Sequence[np.ndarray], method: str) -> np.ndarray:
    """Return one label map of several of one shape, structure by structure.

    Where that gives a voxel two structures, it has the one that more of the maps give it. ValueError for another method
    than those of ``MERGES``, or without masks.
    """
    if method not in MERGES or not maps:
        raise ValueError(
            f"method {method[:40]!r} for {len(maps)} masks; allowed are {', '.join(MERGES)} for one or more"
        )
    present = sorted(set().union(*map(label_maps.present, maps)))

    def merged() -> Iterator[label_maps.Drawn]:
        for label in present:
            masks = [each == label for each in maps]
            yield label, MERGES[method](masks), np.asarray(np.sum(masks, axis=0, dtype=np.uint8))

    return label_maps.combine(merged(), maps[0].shape)


def common_class(given: Iterable[str], allowed: Sequence[str]) -> str:
    """Return the class that more than half of the readers gave who gave one, capitals aside; "" if fewer than two did,
    or without majority.
    """
    named = [name.casefold() for name in given if name]
    return next((name for name in allowed if 2 * named.count(name.casefold()) > len(named) > 1), "")
