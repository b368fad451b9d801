"""Changes of label maps: uint8 arrays of any shape, 0 for background, another value the number of a structure.

A voxel has one structure. What is drawn last wins: it takes voxels from other structures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def replace(label_map: np.ndarray, label: int, mask: np.ndarray) -> np.ndarray:
    """Return a map whose structure ``label`` is a bool mask; others lose what that covers and keep the rest."""
    return np.where(mask, np.uint8(label), np.where(label_map == label, np.uint8(0), label_map))


def replace_free(label_map: np.ndarray, label: int, mask: np.ndarray) -> np.ndarray:
    """Return a map whose structure ``label`` is what a bool mask holds of itself and of the background; others stay."""
    return replace(label_map, label, mask & ((label_map == 0) | (label_map == label)))


def add(label_map: np.ndarray, label: int, mask: np.ndarray) -> np.ndarray:
    """Return a map whose structure ``label`` also has a bool mask, which others lose."""
    return np.where(mask, np.uint8(label), label_map)


def largest_label(label_map: np.ndarray) -> int:
    """Return the largest label in a map; 0 for an empty one."""
    return int(label_map.max(initial=0))


def renumber(label_map: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    """Return a map with other labels; those that are not named become background."""
    table = np.zeros(256, np.uint8)
    for old, new in numbers.items():
        table[old] = new
    return table[label_map]


def combine(masks: Mapping[int, np.ndarray], votes: Mapping[int, Sequence[np.ndarray]]) -> np.ndarray:
    """Return a map of bool masks by label, of one shape.

    votes: by label the masks of those who drew it; a voxel in several masks goes to the structure most of them gave it,
    of two alike to the smaller label. ValueError without masks.
    """
    if not masks:
        raise ValueError("no masks; expected at least one")
    label_map = np.zeros(next(iter(masks.values())).shape, np.uint8)
    most = np.zeros(label_map.shape, np.uint8)
    for label in sorted(masks):
        count = np.stack(votes[label]).sum(axis=0, dtype=np.uint8)
        wins = masks[label] & ((label_map == 0) | (count > most))
        label_map[wins], most[wins] = label, count[wins]
    return label_map
