"""Scalp, skull and face as T1 shows them, and the room they leave for the brain.

Millimetres from the centre: z up from the thalamus, y to the back, x to the patient's left, side = abs(x).
"""

from __future__ import annotations

import numpy as np

from mpsams.datasets.phantom.paint import PixelGrid, beyond, course, cover, ellipse, stroke, window

_FACE = course((-76, -26, 62, 58), (-60, -27, 67, 63), (-40, -24, 70, 68), (-14, -18, 70, 64))
_NOSE = course((-76, -88, 8, 14), (-64, -94, 15, 14), (-52, -92, 13, 11), (-34, -86, 8, 8))


def tent(y, side) -> np.ndarray:
    """Return the height of the tentorium, between cerebrum and cerebellum."""
    return -6 - 0.3 * side - 0.12 * np.maximum(y - 25, 0)


def petrous(side) -> np.ndarray:
    """Return the position of the petrous ridges from front to back, in front of the cerebellum."""
    return 0.45 * side


def paint(rng: np.random.Generator, grid: PixelGrid, z_s, y_shw, x_shw) -> tuple[np.ndarray, np.ndarray]:
    """Paint the head without its brain; return it and the distance to the brain's surface, both (S, H, W) float32."""
    z, side = z_s[:, None, None], np.abs(x_shw)
    image = np.zeros(grid.shape, np.float32)
    tall = np.where(z < 0, np.float32(110), np.float32(84))
    head = ellipse(y_shw, x_shw, (0, 0), (98, 78 * (1 + 0.0008 * y_shw)), 0, (z, tall)) + 0.6 * grid.field(rng, 40)
    skull = head + rng.uniform(5, 7) + 0.8 * grid.field(rng, 30) - 3 * cover(70 - y_shw, 20)
    surface = skull + rng.uniform(5.5, 8) + 0.8 * grid.field(rng, 25)
    fat = 235 + 15 * grid.field(rng, 6)
    diploe = np.abs(skull + 3) - 0.7 - 0.6 * grid.field(rng, 20)
    for part, height, y, x in zip(head, z_s.tolist(), y_shw, x_shw, strict=True):
        if height < -14:
            part[:] = _with_face(part, height, y, x)
    above_floor = np.where(z < 0, _floor(y_shw[:1], side[:1]) - z, -np.inf)
    surface, bone = np.maximum(surface, above_floor), np.maximum(skull, above_floor - 4)
    grid.paint(image, head, 120)
    grid.paint(image, head + 1.5, fat)
    for k, height in enumerate(z_s.tolist()):
        if height < -6:
            box = (k, *window(head[k] < 0))
            _face(grid, height, image[box], y_shw[box], side[box], (head[box], fat[box]))
    grid.paint(image, bone, 18, 0.8)
    grid.paint(image, np.maximum(diploe, above_floor - 4), 75, 0.8)
    grid.paint(image, surface - 2, 30, 0.8)
    return image, surface


def _floor(y, side) -> np.ndarray:
    """Return the height of the skull base, at which the brain ends."""
    front = 1 / (1 + np.exp((y + 30 - 0.012 * (side - 38) ** 2) / 4))
    back = 1 / (1 + np.exp((petrous(side) - y) / 3))
    middle = -24 - 20 / (1 + np.exp((20 - side) / 3))
    orbits = -30 + 8 * np.exp(-(((side - 32) / 16) ** 2))  # their roofs
    return front * orbits + back * (0.008 * ((y - 40) ** 2 + side**2) - 64) + (1 - front - back) * middle


def _with_face(head: np.ndarray, z: float, y, x) -> np.ndarray:
    centre, *radii = _FACE(z)
    parts = [-head / 5, -ellipse(y, x, (centre, 0), radii) / 5]
    if z < -34:
        nose, *radii = _NOSE(z)
        parts.append(-ellipse(y, x, (nose, 0), radii) / 5)
    return -5 * np.logaddexp.reduce(parts)


def _face(grid: PixelGrid, z: float, image: np.ndarray, y, side, soft_tissue: tuple) -> None:
    """Paint muscles, orbits, sinuses, nose, clivus and mastoids.

    soft_tissue: the distance to the head's surface, and the values of its fat.
    """
    head, fat = soft_tissue
    muscle = np.minimum.reduce(
        [
            ellipse(y, side, (-22, 65), (26, 5), 6, (z + 34, 26)),  # temporal
            ellipse(y, side, (-30, 56), (15, 6), -10, (z + 74, 24)),  # masseter
            ellipse(y, side, (-24, 36), (13, 9), 10, (z + 66, 18)),  # pterygoids
            ellipse(y, side, (58, 14), (15, 12), 0, (z + 88, 34)),  # of the neck
            ellipse(y, side, (50, 38), (12, 15), -35, (z + 88, 34)),
            ellipse(y, side, (24, 53), (14, 7), -20, (z + 88, 28)),  # sternocleidomastoid
            ellipse(y, side, (4, 9), (6, 9), 0, (z + 80, 24)),
        ]
    )
    grid.paint(image, np.maximum(head + 6, 12 + z), 150 + 1.2 * (fat - 235), 3)
    grid.paint(image, np.maximum(muscle, head + 4), 88, 1)
    clivus = -10 - 0.6 * (z + 30)
    for distance, value in (
        (ellipse(y, side, (-56, 0), (26, 13), 0, (z + 38, 14)), 60 + 2 * (fat - 235)),  # ethmoid cells
        (ellipse(y, side, (-60, 30), (22, 16), 0, (z + 64, 19)), 8),  # maxillary sinus
        (ellipse(y, side, (-24, 0), (11, 13), 0, (z + 36, 9)), 8),  # sphenoid sinus
        (ellipse(y, side, (-86, 9), (4.5, 11), 0, (z + 16, 9)), 8),  # frontal sinus
        (ellipse(y, side, (-66, 0), (30, 12), 0, (z + 60, 20)), 8),  # nose
        (np.maximum(side - 1, np.abs(y + 64) - 30) + beyond(z, -80, -44), 110),  # its septum
        (ellipse(y, side, (-62, 8), (20, 3.5), 0, (z + 70, 6)), 120),  # turbinates
        (ellipse(y, side, (-58, 8), (17, 3.5), 0, (z + 56, 5)), 120),
        (ellipse(y, side, (clivus, 0), (5.5, 11)) + beyond(z, -62, -30), 165),
        (ellipse(y, side, (28, 57), (15, 10), 0, (z + 48, 18)), 15),  # mastoid cells
        # atlas
        (
            np.minimum(ellipse(y, side, (27, 0), (16, 17)), ellipse(y, side, (20, 22), (9, 10))) + beyond(z, -90, -60),
            25,
        ),
        (ellipse(y, side, (20, 22), (7, 8)) + beyond(z, -90, -60), 140),
        (ellipse(y, side, (27, 0), (11, 14)) + beyond(z, -90, -58), 45),
        (ellipse(y, side, (25, 0), (7, 8)) + beyond(z, -90, -54), 142),  # spinal cord
        (ellipse(y, side, (10, 0), (5, 6)) + beyond(z, -90, -60), 140),  # dens
        (ellipse(y, side, (-66, 33), (22, 17), 20, (z + 34, 17)), 215),  # fat of the orbit
        (stroke(y, side, (-82, 47), (-44, 22), (1.8, 1.5)) + beyond(z, -39, -29), 105),  # muscles of the eye
        (stroke(y, side, (-80, 21), (-44, 17), (1.8, 1.5)) + beyond(z, -39, -29), 105),
        (stroke(y, side, (-64, 33), (-40, 17), (2, 2)) + beyond(z, -36, -31), 120),  # optic nerve
        (ellipse(y, side, (-76, 33), (12.5, 12.5), 0, (z + 34, 12.5)), 95),  # eyeball
        (ellipse(y, side, (-76, 33), (11.2, 11.2), 0, (z + 34, 11.2)), 42),
        (ellipse(y, side, (-85, 33), (2.2, 4.5), 0, (z + 34, 4.5)), 100),  # lens
    ):
        grid.paint(image, np.maximum(distance, head + 3), value, 0.8)
