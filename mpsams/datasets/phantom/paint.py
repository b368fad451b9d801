"""The painter's tools: smooth random fields, shapes as signed distances, and laying them on an image.

Distances are in the coordinates' unit and negative inside; images are painted in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator


def generator(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of one case; each anatomy has its own stream. ValueError if the seed is negative."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
    return np.random.default_rng([stream, seed])


@dataclass(frozen=True)
class PixelGrid:
    """The pixels of one slice or of many, and where they lie.

    shape: (S, H, W); spacing: millimetres between slices, rows and columns; bottom: height of the lowest slice, in
    millimetres above the anatomy's reference slice. A picture is a grid of one slice at height 0.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    bottom: float = 0.0

    def coordinates(self) -> tuple[np.ndarray, ...]:
        """Return millimetres up, to the back and to the patient's left, float32 (S,), (S, H, W), (S, H, W)."""
        depth, height, width = self.shape
        z = self.bottom + self.spacing[0] * np.arange(depth, dtype=np.float32)
        y = (np.arange(height, dtype=np.float32)[:, None] - height / 2) * self.spacing[1]
        x = (np.arange(width, dtype=np.float32) - width / 2) * self.spacing[2]
        return z, np.broadcast_to(y, self.shape), np.broadcast_to(x, self.shape)

    def field(self, rng: np.random.Generator, tall: float, wide: float | None = None) -> np.ndarray:
        """Draw a ``field`` on the grid, (S, H, W); scales in millimetres, up and to the back the same."""
        scales = [
            max(round(mm / step, 6), 1.5) for mm, step in zip((tall, tall, wide or tall), self.spacing, strict=True)
        ]
        if self.shape[0] == 1:
            return field(rng, self.shape[1:], *scales[1:])[None]
        return field(rng, self.shape, *scales)

    def paint(self, image: np.ndarray, distance: np.ndarray, value, soft: float = 0.5) -> None:
        """Paint as ``paint`` in millimetres, with edges as soft as pixels and (of a whole stack) slices make them."""
        soft = max(soft, self.spacing[1] / 2)
        if distance.ndim == 3 and len(distance) > 1:
            soft = np.maximum(soft, np.abs(np.gradient(distance, axis=0)) / 2)
        paint(image, distance, value, soft)


def beyond(z: float, low: float, high: float) -> float:
    """Return what to add to a distance so that a shape soon ends outside these heights."""
    return 4 * max(low - z, z - high, 0)


def course(*keys: tuple[float, ...]) -> Callable[[float], list[float]]:
    """Return a smooth function of height through keys (height, number, ...), which are given from the feet up."""
    heights, *numbers = zip(*keys, strict=True)
    curve = PchipInterpolator(heights, np.transpose(numbers))
    return lambda z: curve(np.clip(z, heights[0], heights[-1])).tolist()


def field(rng: np.random.Generator, shape: tuple[int, ...], *scales: float) -> np.ndarray:
    """Return a smooth Gaussian random field, float32, mean 0, variance 1 everywhere; a scale in pixels by axis."""
    weights = []
    for size, scale in zip(shape, scales, strict=True):
        knots = np.arange(-2, math.ceil(size / scale) + 3) * scale
        kernel = np.exp(-(((np.arange(size)[:, None] - knots) / scale) ** 2)).astype(np.float32)
        weights.append(kernel / np.sqrt((kernel**2).sum(axis=1, keepdims=True)))
    coarse = rng.standard_normal([weight.shape[1] for weight in weights], np.float32)
    *deep, tall, wide = weights
    for weight in deep:
        coarse = np.tensordot(weight, coarse, 1)
    return tall @ coarse @ wide.T


def ellipse(y, x, centre, radii, degrees=0.0, height=(0.0, math.inf)) -> np.ndarray:
    """Return the distance to an ellipse (first-order), turned clockwise by ``degrees``.

    centre, radii: (y, x). height: of an ellipsoid, how far the slice is from its middle, and its radius up and down.
    """
    (centre_y, centre_x), (radius_y, radius_x), (z, radius_z) = centre, radii, height
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u = (cos * (x - centre_x) + sin * (y - centre_y)) / radius_x
    v = (cos * (y - centre_y) - sin * (x - centre_x)) / radius_y
    w = z / radius_z
    level = np.sqrt(u * u + v * v + w * w) + 1e-6
    return level * (level - 1) / np.sqrt((u / radius_x) ** 2 + (v / radius_y) ** 2 + ((w / radius_z) ** 2 + 1e-12))


def stroke(y, x, start, end, radii) -> np.ndarray:
    """Return the distance to a stroke whose radius runs from one end's to the other's. start, end: (y, x)."""
    (start_y, start_x), (start_radius, end_radius) = start, radii
    along_y, along_x = end[0] - start_y, end[1] - start_x
    t = ((y - start_y) * along_y + (x - start_x) * along_x) / (along_y**2 + along_x**2)
    t = np.clip(t, 0, 1)
    away = np.hypot(y - start_y - t * along_y, x - start_x - t * along_x)
    return away - start_radius - t * (end_radius - start_radius)


def blob(rng: np.random.Generator, y, x, roughness: float, finest: int = 7, z=0.0) -> np.ndarray:
    """Draw the level of an irregular outline around the origin: -1 at the centre, 0 on the outline of radius 1.

    The outline's waves fall off with their frequency, up to ``finest`` per turn, and towards the poles of a solid.
    """
    turn = np.linspace(-np.pi, np.pi, 512)
    edge = np.ones_like(turn)
    for k in range(2, finest + 1):
        edge += roughness / k * rng.uniform(-1.5, 1.5) * np.cos(k * turn + rng.uniform(0, 2 * np.pi))
    place = ((np.arctan2(y, x) + math.pi) * (511 / (2 * math.pi)) + 0.5).astype(np.intp)
    edge = np.maximum(edge, 0.4).astype(np.float32)[place]
    flat = np.hypot(y, x)
    away = np.hypot(flat, z)
    return away / (edge + (flat / np.maximum(away, 1e-6) - 1) * (edge - 1)) - 1


def cover(distance: np.ndarray, soft: float | np.ndarray) -> np.ndarray:
    """Return the share of a pixel that lies inside: 1 to 0 over ``soft`` to either side of the edge."""
    return np.clip(0.5 - distance / (2 * soft), 0, 1)


def paint(image: np.ndarray, distance: np.ndarray, value, soft: float | np.ndarray = 0.5) -> None:
    """Lay ``value``, a number or an image, over the inside, in place."""
    image += cover(distance, soft) * (value - image)


def window(inside: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that hold what is inside, (H, W) bool; all of them if nothing is."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return (
        (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(None), slice(None))
    )


def ridge(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a line along distance 0, 1 on it."""
    return np.exp(-((distance / width) ** 2))


def threads(level: np.ndarray, width: float, step: float = 1.0) -> np.ndarray:
    """Return lines (in slices ``step`` apart: sheets) of even thickness along the zeros of a field; pixels."""
    steps = (step, 1, 1)[-level.ndim :]
    along = [axis for axis, size in enumerate(level.shape) if size > 1]
    slopes = np.gradient(level, *(steps[axis] for axis in along), axis=along)
    return np.exp(-(level**2) / (width**2 * sum(slope**2 for slope in slopes) + 1e-9))


def tumour(rng: np.random.Generator, grid: PixelGrid, z, y, x, sites: tuple) -> tuple[np.ndarray, ...]:
    """Draw a tumour at height 0 and one of the sites (y, |x|, radius), on either side; millimetres.

    Returns the distance to its irregular outline, and y and x with the anatomy around it pushed aside.
    """
    site_y, site_x, size = sites[rng.integers(len(sites))]
    site_y, site_x = site_y + rng.normal(0, 2), (site_x + rng.normal(0, 2)) * int(rng.choice([-1, 1]))
    radius = size * rng.uniform(0.75, 1.25)
    near = np.abs(z) < 2.5 * radius  # slices
    to_z, to_y, to_x = z[near, None, None] / radius, (y[near] - site_y) / radius, (x[near] - site_x) / radius
    bump = 0.06 * grid.field(rng, 5)[near]
    stretch = rng.uniform(0.8, 1.25)
    distance, y, x = np.full_like(y, np.inf), y.copy(), x.copy()
    distance[near] = (blob(rng, to_y * stretch, to_x, 0.22, z=to_z) + bump) * radius
    push = 0.45 * radius * np.exp(-(to_y**2 + to_x**2 + to_z**2) / 2)
    y[near] -= push * to_y
    x[near] -= push * to_x
    return distance, y, x
