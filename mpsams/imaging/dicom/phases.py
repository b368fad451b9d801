"""Frames at the same places to volumes in which each place is taken once: phases, echoes, kinds of image.

The places repeat; what tells the frames there apart is looked for in their headers (``marks.ORDER``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import marks
from .frames import Frame

_MOST_ATTRIBUTES, _LEVELS = 12, 2


@dataclass(frozen=True)
class FrameParts:
    """Indices of frames, part by part, no place twice in any.

    names: what tells parts apart, () where it is only the order of the frames at each place. certain: whether the parts
    are known not to mix phases.
    """

    parts: list[np.ndarray]
    names: tuple[str, ...] = ()
    certain: bool = True


def separate(frames: Sequence[Frame], places: np.ndarray) -> FrameParts:
    """Separate frames, each at the place (N,) of that number, into parts: what tells them apart explains as much as
    possible.

    First what has one value for each part, then combinations of such values, then what only grows from part to part,
    such as times and image numbers. Where nothing explains them, the k-th frames at each place make the k-th part.
    """
    members = np.arange(len(frames))
    if _depth(members, places) == 1:
        return FrameParts([members])
    attributes = _attributes(frames, members, places)
    if found := _resolve(members, places, attributes, _LEVELS):
        return found
    even = len(set(np.bincount(places))) == 1
    order = next((attribute.codes for attribute in attributes if _distinct(attribute.codes, places)), None)
    order = np.array([frame.order for frame in frames])[:, ::-1].T if order is None else order[None]
    ranks = np.empty(len(frames), int)
    ranked = np.lexsort((*order, places))
    firsts = np.searchsorted(places[ranked], places[ranked])
    ranks[ranked] = np.arange(len(frames)) - firsts
    return FrameParts(_parts(members, ranks), certain=even)


@dataclass(frozen=True)
class _Attribute:
    """An attribute that differs among frames: the rank (N,) of each one's value, and the values (N,) where larger ones
    belong to later parts.
    """

    name: str
    codes: np.ndarray
    values: np.ndarray | None


def _attributes(frames: Sequence[Frame], members: np.ndarray, places: np.ndarray) -> list[_Attribute]:
    """Return the attributes that differ among frames, in the order in which they are tried."""
    found: dict[bytes, _Attribute] = {}
    numbers = np.array([frame.index + 1 if frame.image.frames > 1 else frame.number for frame in frames])
    counted = _by_count(numbers, members, places)
    for name in marks.ORDER:
        if name == "image number" and counted is not None:
            found.setdefault(counted.tobytes(), _Attribute(name, counted, None))
        values = [frame.mark(name) for frame in frames]
        known = sorted(set(values) - {None})
        ranks = {value: rank for rank, value in enumerate(known, start=1)}
        codes = np.array([ranks.get(value, 0) for value in values])
        if len(set(values)) > 1:
            grows = name in marks.SEQUENCES and None not in values
            along = numbers if name == "image number" else np.array(values, float) if grows else None
            found.setdefault(codes.tobytes(), _Attribute(name, codes, along if grows else None))
    return list(found.values())


def _by_count(numbers: np.ndarray, members: np.ndarray, places: np.ndarray) -> np.ndarray | None:
    """Return the part (N,) of images numbered from 1 or 0 part by part, or place by place; None for other numbers."""
    size, depth = len(set(places)), _depth(members, places)
    for first in (1, 0):
        for group, turned in ((size, False), (depth, True)):
            rounds, steps = np.divmod(numbers - first, group)
            parts, slots = (steps, rounds) if turned else (rounds, steps)
            pairs = set(zip(places.tolist(), slots.tolist(), strict=True))
            alike = len(pairs) == len({place for place, _ in pairs}) == len({slot for _, slot in pairs})
            if alike and len(set(parts)) == depth and _distinct((parts - parts.min()).astype(int), places):
                return (parts - parts.min()).astype(int)
    return None


def _resolve(members: np.ndarray, places: np.ndarray, attributes: list[_Attribute], levels: int) -> FrameParts | None:
    """Split frames into parts as ``separate``; None where two frames of a part remain at one place."""
    depth = _depth(members, places)
    if depth == 1:
        return FrameParts([members])
    split = [(attribute, _parts(members, attribute.codes)) for attribute in attributes]
    for attribute, parts in split:
        if len(parts) == depth and all(_depth(part, places) == 1 for part in parts):
            return FrameParts(parts, (attribute.name,))
    if levels and (found := _combine(places, split, depth, levels)):
        return found
    for attribute in attributes:
        if found := _runs(members, attribute, places, depth):
            return found
    for attribute, parts in split:
        if len(parts) * len(set(places[members])) < 2 * len(members) and all(
            _depth(part, places) == 1 for part in parts
        ):
            return FrameParts(parts, (attribute.name,))
    return None


def _combine(places: np.ndarray, split: list, depth: int, levels: int) -> FrameParts | None:
    """Split frames by one attribute whose values leave less to explain, and each part by the attributes after it."""
    coarse = [k for k, (_, parts) in enumerate(split) if 1 < len(parts) < depth][:_MOST_ATTRIBUTES]
    for k in coarse:
        attribute, parts = split[k]
        if sum(_depth(part, places) for part in parts) == depth:
            rest = [later for later, _ in split[k + 1 :]]
            found: list[FrameParts] = []
            for part in parts:
                inner = _resolve(part, places, rest, levels - 1)
                if inner is None:
                    break
                found.append(inner)
            else:
                names = dict.fromkeys((attribute.name, *(inner for part in found for inner in part.names)))
                resolved = [part for inner in found for part in inner.parts]
                return FrameParts(resolved, tuple(names), all(inner.certain for inner in found))
    return None


def _depth(members: np.ndarray, places: np.ndarray) -> int:
    """Return the largest number of frames at one place."""
    return int(np.bincount(places[members]).max())


def _parts(members: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Return members by their code, the lowest first."""
    order = members[np.argsort(codes[members], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _distinct(codes: np.ndarray, places: np.ndarray) -> bool:
    """Return True if no two frames at one position have the same code."""
    return len(np.unique(codes * (int(places.max()) + 1) + places)) == len(codes)


def _runs(members: np.ndarray, attribute: _Attribute, places: np.ndarray, depth: int) -> FrameParts | None:
    """Split members in the order of an attribute's values, a new part beginning where places repeat; None where these
    are not depth, or the attribute has no values.

    Where images are missing at a part's ends, it depends on the direction of reading where the parts meet. The widest
    steps count then, else which parts begin at an end of the volume; where both are the same it is not certain.
    """
    blocks, values = _parts(members, attribute.codes), attribute.values
    if values is None or any(_depth(block, places) > 1 for block in blocks):
        return None
    onwards, backwards = _cut(blocks, places), [part[::-1] for part in _cut(blocks[::-1], places)[::-1]]
    ranked = []
    for parts in (onwards, backwards):
        if len(parts) == depth and _overlap(parts, places):
            steps = sum(values[later[0]] - values[before[-1]] for before, later in zip(parts, parts[1:], strict=False))
            ends = sum(places[part[0]] in (places.min(), places.max()) for part in parts)
            ranked.append(((round(float(steps), 3), ends), parts))
    if not ranked:
        return None
    best = max(rank for rank, _ in ranked)
    found = [parts for rank, parts in ranked if rank == best]
    certain = len(found) == 1 or all(set(one) == set(other) for one, other in zip(*found, strict=True))
    return FrameParts(found[0], (attribute.name,), certain)


def _cut(blocks: Sequence[np.ndarray], places: np.ndarray) -> list[np.ndarray]:
    """Join blocks of members one after the other to parts, a new one beginning where places repeat."""
    parts: list[list[int]] = [[]]
    taken: set[int] = set()
    for block in blocks:
        here = set(places[block].tolist())
        if taken & here:
            parts.append([])
            taken = set()
        parts[-1] += block.tolist()
        taken |= here
    return [np.array(part) for part in parts]


def _overlap(parts: list[np.ndarray], places: np.ndarray) -> bool:
    """Return True if each part has more than half of its positions in common with the largest.

    One that has not may be the rest of the part before it, which a single repeated image has cut in two.
    """
    largest = set(places[max(parts, key=len)].tolist())
    return all(2 * len(largest & set(places[part].tolist())) > len(part) for part in parts)
