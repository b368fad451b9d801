"""Division of cases into training, validation and test, 8:1:1: near-duplicates stay together, labels are nested.

Axes: N images, S x S pixels of a thumbnail.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BLOCK = 512  # thumbnails that are compared with all others at once
NEARLY = 1e-4  # distance below the threshold from which a correlation in single precision is computed again in double
THUMBNAIL = 32  # side of the thumbnails that near-duplicates are found on
ALIKE = 0.98  # thumbnail correlation above which two images are near-duplicates


@dataclass(frozen=True)
class Split:
    """A division of a data set's cases, with the numbers that made it.

    dataset: name. seed: of the shuffle. grouped: True if near-duplicates were kept together.
    train, val, test: case names, sorted.
    """

    dataset: str
    seed: int
    grouped: bool
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of everything in the split; what checkpoints and records refer to."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def part(self, name: str) -> tuple[str, ...]:
        """Return the cases of "train", "val", "test" or "all" (in that order). ValueError lists the names."""
        parts = {"train": self.train, "val": self.val, "test": self.test, "all": self.train + self.val + self.test}
        if name not in parts:
            raise ValueError(f"unknown part {name!r} of a split; available: {', '.join(parts)}")
        return parts[name]

    def labelled(self, fraction: float, seed: int) -> tuple[str, ...]:
        """Return the training cases whose labels may be used: round(fraction * len(train)), at least one.

        Drawn with ``seed``; for one seed a smaller fraction is a subset of a larger one.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"label fraction {fraction} must lie in (0, 1]")
        order = np.random.default_rng([seed, 7]).permutation(len(self.train))
        return tuple(self.train[i] for i in order[: max(1, round(fraction * len(self.train)))])


def near_duplicates(thumbnails_nss: np.ndarray, threshold: float = ALIKE) -> list[tuple[int, int]]:
    """Find pairs i < j of images whose thumbnails correlate above the threshold: (N, S, S) -> index pairs.

    A constant thumbnail correlates with nothing. Comparison in blocks, so that memory grows with N, though time with
    its square.
    """
    flat = np.asarray(thumbnails_nss, dtype=np.float32).reshape(len(thumbnails_nss), -1)
    flat = flat - flat.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-4)
    pairs = []
    for start in range(0, len(flat), BLOCK):
        near = np.nonzero(np.triu(flat[start : start + BLOCK] @ flat[start:].T > threshold - NEARLY, k=1))
        first, second = (each + start for each in near)
        exact = np.einsum("pk,pk->p", flat[first], flat[second], dtype=np.float64) if len(first) else np.zeros(0)
        pairs += [
            pair
            for pair, value in zip(zip(first.tolist(), second.tolist(), strict=True), exact, strict=True)
            if value > threshold
        ]
    return pairs


def join(groups: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Merge given groups (one label per case) along pairs of case indices; returns a group number per case."""
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    first = [int(member[i]) for i, _ in pairs]
    second = [int(member[j]) for _, j in pairs]
    count = int(member.max()) + 1
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1][member].tolist()


def make(dataset: str, cases: Sequence[str], groups: Sequence, seed: int = 0, grouped: bool = True) -> Split:
    """Divide cases 8:1:1 at random without tearing a group apart.

    groups: one label per case. Test and validation get round(N / 10) cases each where groups allow it,
    never more. ValueError when there are too few cases or groups to fill three parts.
    """
    if len(cases) != len(groups) or len(set(cases)) != len(cases):
        raise ValueError(f"{len(cases)} cases must be unique and have one group each, got {len(groups)} groups")
    members: dict = {}
    for case, group in zip(cases, groups, strict=True):
        members.setdefault(group, []).append(case)
    room = round(len(cases) / 10)
    parts: dict[str, list[str]] = {"test": [], "val": [], "train": []}
    keys = list(members)
    for index in np.random.default_rng([seed, 3]).permutation(len(keys)):
        group = members[keys[index]]
        free = (name for name in ("test", "val") if len(parts[name]) + len(group) <= room)
        parts[next(free, "train")] += group
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise ValueError(
            f"{len(cases)} cases in {len(keys)} groups cannot be divided 8:1:1: nothing is left for "
            f"{' and '.join(empty)}; at least 10 cases in several groups are needed"
        )
    return Split(dataset, seed, grouped, *(tuple(sorted(parts[name])) for name in ("train", "val", "test")))


def leakage(split: Split, cases: Sequence[str], pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Measure the leakage of a split through near-duplicates.

    pairs: index pairs into ``cases``. Returns pairs (all), torn (pairs whose halves lie in different
    parts), and test_leaked: share of test cases with a near-duplicate in train.
    """
    part = {case: name for name in ("train", "val", "test") for case in split.part(name)}
    named = [(cases[i], cases[j]) for i, j in pairs]
    torn = [(a, b) for a, b in named if part[a] != part[b]]
    leaked = {a if part[a] == "test" else b for a, b in torn if {part[a], part[b]} == {"test", "train"}}
    return {"pairs": len(named), "torn": len(torn), "test_leaked": len(leaked) / len(split.test)}


def save(split: Split, path: Path) -> None:
    """Write the split as JSON with its hash, whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(asdict(split) | {"sha256": split.sha256}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def restore(values: dict) -> Split:
    """Return a split from its JSON values; ValueError when the hash they carry is not theirs."""
    values = dict(values)
    stated = values.pop("sha256", None)
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    split = Split(**fields)
    if stated not in (None, split.sha256):
        raise ValueError(f"split of {split.dataset!r} has been altered: its hash is {split.sha256}, not {stated}")
    return split


def load(path: Path) -> Split:
    """Read a split that ``save`` wrote."""
    return restore(json.loads(path.read_text(encoding="utf-8")))
