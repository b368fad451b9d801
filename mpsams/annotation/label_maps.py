"""Changes of label maps: uint8 arrays of any shape, 0 for background, another value the number of a structure.

A voxel has one structure. What is drawn last wins: it takes voxels from other structures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

Drawn = tuple[int, np.ndarray, np.ndarray]  # label, mask, and votes of each voxel


def replace(label_map: np.ndarray, label: int, mask: np.ndarray) -> np.ndarray:
    """Return a map whose structure ``label`` is a bool mask; others lose what that covers and keep the rest."""
    return np.where(mask, np.uint8(label), np.where(label_map == label, np.uint8(0), label_map))


def replace_free(label_map: np.ndarray, label: int, mask: np.ndarray) -> np.ndarray:
    """Return a map whose structure ``label`` is what a bool mask holds of itself and of the background; others stay."""
    return replace(label_map, label, mask & ((label_map == 0) | (label_map == label)))


def add(label_map: np.ndarray, label: int, mask: np.ndarray) -> np.ndarray:
    """Return a map whose structure ``label`` also has a bool mask, which others lose."""
    return np.where(mask, np.uint8(label), label_map)


def clear(label_map: np.ndarray, labels: Iterable[int]) -> np.ndarray:
    """Return a label map in which some labels are background."""
    kept = np.arange(256, dtype=np.uint8)
    kept[list(labels)] = 0
    return kept[label_map]


def count(label_map: np.ndarray) -> np.ndarray:
    """Return the number of voxels of each value, int64 (256,), counted slice by slice to hold little at once."""
    slices = np.moveaxis(label_map, -1, 0) if label_map.ndim > 2 else [label_map]
    return sum((np.bincount(each.ravel(order="K"), minlength=256) for each in slices), np.zeros(256, np.int64))


def present(label_map: np.ndarray) -> list[int]:
    """Return the labels that a map holds, the smallest first."""
    return [int(label) for label in np.flatnonzero(count(label_map)) if label]


def largest_label(label_map: np.ndarray) -> int:
    """Return the largest label in a map; 0 for an empty one."""
    return int(label_map.max(initial=0))


def unknown_labels(label_map: np.ndarray, known: Collection[int]) -> list[int]:
    """Return the labels in a map that are not among those of known structures, in order."""
    highest = largest_label(label_map)
    missing = (label for label in range(1, highest + 1) if label not in known)
    return [label for label in missing if label == highest or (label_map == label).any()]


def renumber(label_map: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    """Return a map with other labels; those that are not named become background."""
    table = np.zeros(256, np.uint8)
    for old, new in numbers.items():
        table[old] = new
    return table[label_map]


def combine(drawn: Iterable[Drawn], shape: tuple[int, ...]) -> np.ndarray:
    """Return a map of structures that are asked for one after the other.

    drawn: by rising labels a label, its bool mask, and how many drew each voxel, uint8; a voxel in several masks goes
    to the structure that most drew there, with equal votes to the smaller label.
    """
    label_map, most = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for label, mask, votes in drawn:
        wins = mask & ((label_map == 0) | (votes > most))
        label_map[wins], most[wins] = label, votes[wins]
    return label_map
