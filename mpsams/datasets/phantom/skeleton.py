"""Bones, teeth and cartilage of the neck and the face, and the hollows in them, in Hounsfield units.

Millimetres from the centre: z up from the lower jaw, y to the back, x to the patient's left, side = abs(x).
"""

from __future__ import annotations

import numpy as np

from mpsams.datasets.phantom.paint import PixelGrid, beyond, course, ellipse, stroke, window

_LEVELS = (-126, -107, -88, -69, -51, -34, -17, 0, 17)  # middle of each vertebral body, from T3 to C2
_SPINE = course((-112, 15, 1.2), (-90, 7, 1.15), (-50, -3, 1.05), (0, 0, 1), (24, -1, 1), (50, -2, 1))  # back by, size
_JAW = course((-18, -24, 58, 42, 3.5), (0, -18, 64, 47, 5.2), (8, -24, 59, 42, 4.6), (18, -38, 48, 30, 3.8))  # an arch
_JAW_ENDS = course((-20, -84), (-14, -62), (-6, -34), (0, -17), (18, -24))  # where the arch ends, y
_RAMUS = course((0, -30, -17), (20, -38, -10), (42, -34, -3), (50, -22, 1), (58, -8, 3))  # from y to y
_TEETH = course((8, -38, 48, 29), (20, -38, 49, 29), (34, -39, 49, 29), (42, -42, 46, 28))  # an arch
_THYROID = course((-54, -24), (-44, -31), (-34, -30), (-26, -24))  # its front, y


def paint(rng: np.random.Generator, grid: PixelGrid, image_shw: np.ndarray, z_s, y_shw, x_shw) -> np.ndarray:
    """Paint the bones of every slice; return the distance to them, (S, H, W)."""
    rough_shw = 0.6 * grid.field(rng, 5.52)
    spongy_shw, jaw_shw = (270 + 60 * grid.field(rng, 1.38) for _ in range(2))
    distance_shw = np.full(grid.shape, np.inf, np.float32)
    slices = zip(z_s.tolist(), distance_shw, image_shw, y_shw, x_shw, rough_shw, spongy_shw, jaw_shw, strict=True)
    for z, distance, image, y, x, *textures in slices:
        box = window(image > -500)
        distance[box] = _slice(grid, z, image[box], y[box], x[box], [texture[box] for texture in textures])
    return distance_shw


def _slice(grid: PixelGrid, z: float, image: np.ndarray, y, x, textures: list[np.ndarray]) -> np.ndarray:
    """Paint the bones of one slice; return the distance to them.

    textures: of the jaw's outline, of the spongy bone, and of the jaw's.
    """
    side, (rough, spongy, spongy_jaw) = np.abs(x), textures
    bones = [_spine(grid, image, z, y, side, spongy)]
    if -20 < z < 58:
        bones.append(_hollow_bone(grid, image, _jaw(z, y, x, rough), 1050, spongy_jaw, 2.3))
    if 8 < z < 42 and abs(z - 22) > 2:
        bones.append(_teeth(grid, image, z, y, x))
    if z > 36:
        bones += [_base(grid, image, z, y, side, spongy), _face(grid, image, z, y, side)]
    if -72 < z < -12:
        bones.append(_larynx(grid, image, z, y, side))
    if z < -94:
        bones.append(_shoulder(grid, image, z, y, side, spongy))
    return np.minimum.reduce(bones)


def _hollow_bone(grid: PixelGrid, image, distance, cortex: float, spongy, shell: float) -> np.ndarray:
    """Paint a shell of cortex around spongy bone; return the distance to it."""
    grid.paint(image, distance, cortex, 0.6)
    grid.paint(image, distance + shell, spongy, 0.8)
    return distance


def _spine(grid: PixelGrid, image: np.ndarray, z: float, y, side, spongy) -> np.ndarray:
    """Paint vertebrae, discs, the canal with the cord, and the vertebral arteries; return the distance to the bone."""
    back, size = _SPINE(z)
    y, side = (y - back) / size, side / size
    canal = ellipse(y, side, (44, 0), (7.5, 11))
    foramen = ellipse(y, side, (31, 17.5), (2.8, 2.8))
    bone = np.full_like(y, np.inf)
    if z < 25:
        above = min((z - level for level in _LEVELS), key=abs)  # of the body's middle
        if abs(above) > 5:
            grid.paint(image, ellipse(y, side, (26, 0), (8, 12)), 90)  # disc
        bone = np.minimum.reduce(
            [
                ellipse(y, side, (26, 0), (8.5, 12.5)) + beyond(above, -6, 6),
                stroke(y, side, (28, 9), (33, 22), (3.5, 3.5)) + beyond(above, -3, 5),
                ellipse(y, side, (39, 19), (6.5, 7)),
                stroke(y, side, (43, 17), (58, 2), (3.2, 3)) + beyond(above, -7, 4),
                stroke(y, side, (57, 0), (70, 3.5), (3, 2.2)) + beyond(above, -8, 2),
            ]
        )
    elif z < 50:
        bone = np.minimum.reduce(
            [
                ellipse(y, side, (24, 0), (5.5, 5.5)) + beyond(z, 0, 41),  # dens
                ellipse(y, side, (27, 19), (9, 8))
                + beyond(z, 29, 48),  # atlas: its masses, arches and transverse processes
                stroke(y, side, (15, 0), (19, 17), (3, 3)) + beyond(z, 33, 43),
                stroke(y, side, (29, 24), (31, 38), (3.5, 3)) + beyond(z, 33, 41),
                stroke(y, side, (32, 24), (55, 0), (3, 3.5)) + beyond(z, 34, 42),
                stroke(y, side, (36, 20), (55, 3), (3.5, 3.5)) + beyond(z, 0, 27),  # arch of the axis
            ]
        )
    if z < 50:
        bone = _hollow_bone(grid, image, np.maximum(bone, -np.minimum(canal, foramen)), 800, spongy, 1.5)
        grid.paint(image, canal, 8)
    grid.paint(image, ellipse(y, side, (44, 0), (4.2, 6.5)), 42, 0.8)  # spinal cord
    grid.paint(image, ellipse(y, side, (31, 17.5), (1.6, 1.6)), 150)  # vertebral artery
    return bone * size


def _jaw(z: float, y, x, rough) -> np.ndarray:
    """Return the distance to the mandible: its arch, and from the angles up its two rami."""
    centre, tall, broad, thick = _JAW(z)
    arch = np.abs(ellipse(y, x, (centre, 0), (tall, broad))) - thick + rough + beyond(z, -17, 16)
    arch = 2 * np.logaddexp(arch / 2, (y - _JAW_ENDS(z)[0]) / 2)
    if z <= 1:
        return arch
    front, back = _RAMUS(z)
    return np.minimum(arch, stroke(y, np.abs(x), (front, 48.5), (back, 47.5), (2.2, 3)) + rough)


def _teeth(grid: PixelGrid, image: np.ndarray, z: float, y, x) -> np.ndarray:
    """Paint both rows of teeth, which are apart from height 20 to 24, the sockets of the upper ones or the hard palate;
    return the distance.
    """
    centre, tall, broad = _TEETH(z)
    row = np.maximum(np.abs(ellipse(y, x, (centre, 0), (tall, broad))), y + 34)
    if z > 28:
        grid.paint(image, row - 5.5, 700, 0.8)
    if z > 38:
        palate = np.maximum(ellipse(y, x, (centre, 0), (tall, broad)), y + 34)
        grid.paint(image, palate, 800)
        return np.minimum(palate, row - 5.5)
    crown = abs(z - 22) < 8
    turns = np.arctan2(x, centre - y)
    between = 1.3 * np.abs(np.cos(9 * turns)) ** 6
    teeth = row - (4.6 if crown else 3.4) + between
    grid.paint(image, teeth, 2200 if crown else 1400, 0.8)
    return teeth


def _base(grid: PixelGrid, image: np.ndarray, z: float, y, side, spongy) -> np.ndarray:
    """Paint occiput, mastoids, petrous bones and clivus around the posterior fossa with cerebellum and brainstem."""
    fossa = ellipse(y, side, (38, 0), (46, 62), 0, (z - 94, 46))
    foramen = ellipse(y, side, (42, 0), (14, 13))
    mastoid = ellipse(y, side, (24, 55), (15, 9), 0, (z - 64, 24))
    bone = np.minimum.reduce(
        [
            np.maximum(np.abs(fossa - 2.2) - 2.2, -foramen if z < 58 else -np.inf),
            np.maximum(ellipse(y, side, (15 - 0.4 * (z - 52), 0), (5, 11)), 50 - z),  # clivus
            np.maximum(stroke(y, side, (22, 50), (4, 16), (8, 5)), 56 - z),
        ]
    )
    if z > 50:
        brain = np.minimum(ellipse(y, side, (22, 0), (11, 14)), ellipse(y, side, (54, 20), (34, 40)))
        grid.paint(image, fossa, 8)
        grid.paint(image, np.maximum(brain, fossa + 2), 38, 1)
        grid.paint(image, ellipse(y, side, (36, 0), (3.5, 7), 0, (z - 68, 12)), 8, 1)  # fourth ventricle
    _hollow_bone(grid, image, bone, 950, spongy + 200, 1.6)
    grid.paint(image, mastoid, 800)
    grid.paint(image, mastoid + 2, np.where(spongy < 255, -850, 500))  # its cells
    if abs(z - 68) < 4:
        grid.paint(image, stroke(y, side, (10, 50), (10, 90), (2.6, 3)), -1000)  # ear canal
    return np.minimum(bone, mastoid)


def _face(grid: PixelGrid, image: np.ndarray, z: float, y, side) -> np.ndarray:
    """Paint upper jaw, cheek bones and pterygoid plates, and the air of the nose and its sinuses."""
    sinus = 3 * np.logaddexp.reduce([  # a pyramid
        ellipse(y, side, (-52, 27), (24, 17), 0, (z - 62, 21)) / 3, (-0.5 * y + 0.87 * side - 59) / 3, (17 - side) / 3
    ])  # fmt: skip
    nose = ellipse(y, side, (-62, 0), (34, 13.5), 0, (z - 60, 22))
    sphenoid = ellipse(y, side, (-14, 0), (13, 16), 0, (z - 80, 14))
    bone = np.minimum.reduce(
        [
            np.abs(sinus - 0.7) - 0.7,
            np.abs(nose - 0.5) - 0.5,
            np.abs(sphenoid - 0.7) - 0.7,
            stroke(y, side, (-74, 38), (-46, 60), (3.5, 3)) + beyond(z, 54, 74),
            stroke(y, side, (-46, 61), (6, 66), (2, 2.4)) + beyond(z, 62, 69),
            stroke(y, side, (-34, 14), (-18, 19), (2, 1.2)) + beyond(z, 40, 60),
        ]
    )
    grid.paint(image, bone, 600, 0.6)
    grid.paint(image, sinus + 0.6, -1000)
    grid.paint(image, np.minimum(nose, sphenoid) + 0.5, -1000)
    for height, reach in ((48, 24), (60, 20), (71, 13)):  # turbinates
        grid.paint(image, ellipse(y, side, (-58, 8), (reach, 4.4), 0, (z - height, 6)), 60)
    grid.paint(image, np.maximum(side - 0.9, nose), 200)  # septum
    return bone


def _larynx(grid: PixelGrid, image: np.ndarray, z: float, y, side) -> np.ndarray:
    """Paint hyoid bone, thyroid and cricoid cartilage."""
    hyoid = np.maximum(np.abs(ellipse(y, side, (-14, 0), (23, 21))) - 2.2, y + 4) + beyond(z, -22, -16)
    front = _THYROID(z)[0]
    thyroid = stroke(y, side, (front, 0), (2, 20), (1.8, 1.8)) + beyond(z, -53, -27)
    cricoid = np.abs(ellipse(y, side, (-12, 0), (13, 12))) - 1.8 + beyond(z, -66, -54)
    grid.paint(image, hyoid, 600)
    grid.paint(image, np.minimum(thyroid, cricoid), 230)
    return np.minimum.reduce([hyoid, thyroid, cricoid])


def _shoulder(grid: PixelGrid, image: np.ndarray, z: float, y, side, spongy) -> np.ndarray:
    """Paint clavicle, first rib and the head of the humerus; return the distance to them."""
    clavicle = np.minimum(stroke(y, side, (-24, 12), (-14, 62), (6, 5)) + beyond(z, -111, -105),
                          stroke(y, side, (-14, 62), (24, 140), (5, 5)) + beyond(z, -107, -101))  # fmt: skip
    rib = stroke(y, side, (46, 26), (22, 64), (3.5, 3.5)) + beyond(z, -108, -100)
    humerus = ellipse(y, side, (26, 150), (20, 20), 0, (z + 116, 18))
    return _hollow_bone(grid, image, np.minimum.reduce([clavicle, rib, humerus]), 800, spongy, 1.8)
