"""Neck CT in Hounsfield units: a slice at the height of the lower jaw, or the neck from the shoulders to the skull
base.

Millimetres from the centre: z up from the lower jaw, y to the back, x to the patient's left.

Over 250 lines because the parts of one picture share their curves and are painted in a fixed order.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from mpsams.datasets.phantom import skeleton
from mpsams.datasets.phantom.paint import (
    PixelGrid,
    course,
    cover,
    ellipse,
    field,
    generator,
    paint,
    threads,
    tumour,
    window,
)

SLICE = PixelGrid((1, 512, 512), (4, 0.46, 0.46))

# Body: the neck's and head's ellipse from nape to face (centre y, radii y and x), and the jaw's.
_BODY = course(
    (-112, 30, 68, 210, 0, 30, 60),
    (-100, 29, 65, 165, 0, 30, 60),
    (-86, 28, 62, 108, 0, 30, 55),
    (-72, 27, 60, 76, -3, 32, 50),
    (-50, 25, 60, 65, -6, 33, 46),
    (-34, 26, 60, 64, -9, 36, 48),
    (-24, 27, 61, 66, -14, 46, 54),
    (-12, 28, 63, 69, -24, 62, 60),
    (0, 30, 66, 72, -28, 70, 63),
    (20, 26, 70, 75, -27, 72, 66),
    (40, 20, 76, 77, -24, 73, 68),
    (60, 14, 83, 78, -20, 72, 70),
    (80, 10, 88, 78, -17, 73, 72),
)
_NOSE = course((34, -92, 4, 9), (44, -97, 19, 15), (58, -93, 17, 13), (80, -88, 10, 10))
_TONGUE = course(
    (-22, -32, 16, 8), (-10, -37, 27, 12), (0, -38, 30, 13), (14, -42, 33, 21), (26, -44, 32, 23), (36, -46, 20, 12)
)
_AIRWAY = course(
    (-112, -2, 8, 9),
    (-70, -11, 8.5, 8.5),
    (-54, -12, 10, 7),
    (-43, -13, 11, 3.5),
    (-34, -12, 10, 6),
    (-24, -9, 9, 11),
    (-12, -3, 7, 15),
    (0, -3, 7, 13),
    (20, -4, 7, 12),
    (32, -6, 6, 11),
    (44, -10, 9, 13),
    (56, -14, 12, 12),
    (64, -20, 5, 5),
)
# Hounsfield units, turn in degrees, then from the feet up: height, centre y, centre |x|, radius y, radius |x|; both
# sides.
_TISSUES = (
    # medial pterygoid
    (60, -8, (-12, -18, 42, 5, 3), (0, -20, 39, 13, 5.5), (25, -18, 36, 14, 6), (50, -22, 26, 9, 4)),
    (
        62,
        -14,
        (-12, -20, 52, 6, 3),
        (0, -24, 55, 17, 4.5),
        (25, -24, 57, 18, 6),
        (50, -28, 60, 12, 5),
        (62, -34, 61, 7, 3),
    ),  # masseter
    # digastric, anterior belly
    (55, 0, (-22, -40, 8, 12, 4), (-12, -56, 8, 15, 5), (0, -66, 9, 9, 6), (9, -72, 8, 3, 3)),
    # mylohyoid and hyoglossus
    (58, 8, (-18, -34, 12, 12, 7), (0, -40, 17, 26, 9), (16, -40, 22, 26, 7), (26, -38, 24, 16, 4)),
    (42, 20, (-24, -10, 34, 4, 3), (-12, -8, 38, 10, 9), (0, -6, 38, 9, 8), (14, -6, 40, 3, 3)),  # submandibular gland
    (
        -12,
        10,
        (-18, 10, 50, 4, 3),
        (0, 8, 53, 13, 8),
        (25, 6, 57, 17, 11),
        (48, 4, 61, 14, 8),
        (58, 2, 64, 5, 3),
    ),  # parotid gland
    (
        60,
        -24,
        (-110, -18, 17, 4, 8),
        (-88, -10, 26, 8, 11),
        (-60, 8, 39, 14, 9),
        (-30, 23, 48, 18, 8),
        (0, 33, 54, 19, 7.5),
        (30, 36, 58, 14, 6),
        (50, 32, 60, 6, 4),
    ),  # sternocleidomastoid
    # longus colli
    (58, 0, (-112, 22, 9, 5, 8), (-50, 12, 8, 4, 7), (0, 14, 8, 4.5, 7), (48, 8, 8, 5, 7), (56, 6, 7, 3, 4)),
    # scalene
    (58, 30, (-112, 20, 42, 14, 9), (-60, 25, 36, 12, 8), (-30, 27, 33, 9, 7), (0, 29, 31, 7, 6), (14, 29, 30, 3, 3)),
    (
        58,
        -18,
        (-112, 58, 60, 10, 8),
        (-60, 45, 46, 14, 9),
        (0, 47, 42, 14, 8),
        (30, 38, 38, 9, 6),
        (42, 32, 38, 4, 3),
    ),  # levator scapulae
    (
        54,
        25,
        (-112, 66, 14, 9, 9),
        (-50, 52, 12, 9, 8),
        (0, 57, 13, 9, 8.5),
        (25, 58, 14, 8, 10),
        (48, 54, 14, 5, 8),
    ),  # multifidus
    (
        56,
        -22,
        (-112, 74, 22, 6, 13),
        (-50, 60, 22, 9, 13),
        (0, 64, 24, 9, 14),
        (30, 70, 22, 10, 14),
        (56, 76, 20, 4, 9),
    ),  # semispinalis
    (
        58,
        -32,
        (-112, 80, 30, 4, 14),
        (-50, 67, 30, 5, 19),
        (0, 74, 31, 5.5, 22),
        (30, 70, 40, 6, 20),
        (50, 56, 54, 4, 10),
    ),  # splenius
    (
        58,
        -20,
        (-112, 88, 60, 6, 64),
        (-92, 84, 46, 6, 50),
        (-50, 77, 24, 4, 26),
        (0, 86, 20, 3.2, 22),
        (34, 90, 12, 3, 13),
        (50, 90, 8, 2, 6),
    ),  # trapezius
    (
        205,
        0,
        (-112, 2, 20, 4, 4),
        (-50, 1, 23, 4, 4),
        (-16, 6, 27, 5, 5),
        (0, 8, 27, 3.6, 3.6),
        (40, 12, 26, 3, 3),
        (60, 8, 22, 2.5, 2.5),
    ),  # carotid artery
    (
        175,
        20,
        (-112, -2, 30, 7, 8),
        (-60, 6, 33, 6.5, 7.5),
        (0, 15, 34, 5.2, 6.2),
        (40, 20, 31, 4.5, 4.5),
        (58, 22, 30, 3, 3),
    ),  # internal jugular vein
    (190, 0, (-14, -2, 26, 1.5, 1.5), (0, -3, 30, 2, 2), (14, -12, 44, 1.5, 1.5)),  # facial artery
    (
        160,
        0,
        (-96, 2, 48, 2, 2.6),
        (-50, 14, 55, 1.8, 2.4),
        (0, 22, 64, 1.8, 2.4),
        (24, 18, 66, 1.2, 1.2),
    ),  # external jugular vein
    (45, 20, (-9, 27, 43, 1, 1.4), (0, 27, 43, 2.6, 3.6), (9, 27, 43, 1, 1.4)),  # lymph node
)
_ELSEWHERE = (  # not met at height 0
    (60, 0, (32, -20, 28, 4, 5), (46, -20, 36, 11, 9), (60, -18, 36, 10, 8), (72, -18, 36, 8, 7)),  # lateral pterygoid
    (60, 0, (44, -26, 55, 8, 2), (64, -22, 59, 22, 5), (80, -20, 62, 28, 6)),  # temporal muscle
    (50, 10, (6, -52, 42, 8, 2), (24, -54, 38, 22, 2.5), (42, -50, 42, 5, 2)),  # buccinator
    (52, 0, (10, -91, 0, 2, 10), (22, -94, 0, 4.5, 26), (34, -95, 0, 2, 14)),  # lips
    (58, 0, (20, -15, 0, 2, 3), (30, -19, 0, 5, 13), (40, -26, 0, 7, 15)),  # soft palate
    (170, 0, (-104, -4, 16, 3, 3), (-86, -6, 19, 11, 8), (-70, -8, 20, 10, 7), (-54, -6, 20, 3, 3)),  # thyroid gland
    (170, 0, (-92, -19, 0, 2, 6), (-84, -20, 0, 3.5, 18), (-76, -22, 0, 2, 6)),  # its isthmus
    (58, 15, (-110, -24, 10, 3, 9), (-60, -28, 13, 4, 11), (-22, -30, 12, 3, 8)),  # strap muscles
    (42, 0, (-112, 12, 0, 5, 8), (-70, 7, 0, 5, 10), (-40, 3, 0, 4, 16), (-18, 8, 0, 3, 16)),  # oesophagus and pharynx
    (58, -14, (-112, 44, 108, 30, 44), (-100, 46, 98, 20, 38), (-88, 50, 78, 6, 22)),  # muscles of the shoulder
    (58, 12, (-112, -14, 84, 13, 52), (-100, -6, 74, 5, 30)),  # pectoral muscles
    (58, -40, (-112, 60, 120, 8, 20), (-92, 56, 86, 8, 24), (-72, 52, 58, 8, 15), (-46, 58, 48, 5, 12),
     (-20, 70, 44, 2, 6)),  # trapezius, its edge
)  # fmt: skip


def ct(seed: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw an axial contrast-enhanced neck CT, (512, 512) float32 in Hounsfield units, and its tumour mask.

    Air -1000, fat about -100, muscle about 58, enhanced vessels about 190, cortical bone up to 1200,
    at 0.46 mm per pixel with noise of about 10 HU, correlated as after reconstruction (Riederer et al.,
    Phys. Med. Biol. 23:446, 1978). The tumour is 25-50 HU denser than muscle. Mask (512, 512) bool.
    """
    image_shw, mask_shw = slices(seed, SLICE, lesion)
    return image_shw[0], mask_shw[0]


def slices(seed: int, grid: PixelGrid, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw the slices of a neck and its tumour mask as ``ct``, on any grid: (S, H, W) float32 and bool. There is
    anatomy from 112 mm below the jaw to 80 above.
    """
    rng = generator(seed, 1)
    z, y, x = grid.coordinates()
    image = np.full(grid.shape, -1000, np.float32)
    _table(grid, image, y[:1], x[:1])
    bend = [1.8 * grid.field(rng, 32.2) + 0.45 * grid.field(rng, 5.98) for _ in "yx"]
    y = y / rng.uniform(0.94, 1.04) + bend[0]
    x = x / rng.uniform(0.94, 1.04) + bend[1] + rng.normal(0, 0.04) * y
    distance = np.full(grid.shape, np.inf, np.float32)
    if lesion:
        distance, y, x = tumour(rng, grid, z, y, x, ((2, 20, 14), (21, 39, 15), (-26, 9, 14)))
    _soft_tissue(rng, grid, image, z, y, x)
    if lesion:
        density = rng.uniform(83, 108) + 5 * grid.field(rng, 7.36)
        density -= rng.uniform(0, 35) * cover(distance + 6, 3)  # the core enhances less
        paint(image, distance, density, soft=1.2)
    _airway(rng, grid, image, z, y, x)
    bone = skeleton.paint(rng, grid, image, z, y, x)
    return _reconstruct(rng, image), (distance < 0) & (bone > 0) & (image > -300)


def _table(grid: PixelGrid, image: np.ndarray, y, x) -> None:
    """Paint a headrest: foam between two thin shells, hollowed for the head."""
    top = 102 - 0.0022 * x**2
    for edge in (top, np.full_like(x, 113)):
        grid.paint(image, np.maximum(np.abs(y - edge) - 0.7, np.abs(x) - 98), 60, 0.4)
    grid.paint(image, np.maximum(np.maximum(top + 1.5 - y, y - 111), np.abs(x) - 97), -930, 1)


def _soft_tissue(rng: np.random.Generator, grid: PixelGrid, image_shw: np.ndarray, z_s, y_shw, x_shw) -> None:
    """Paint skin, fat, muscles, glands and vessels."""
    fat_shw = -102 + 7 * grid.field(rng, 3.68)
    fat_shw += 70 * threads(grid.field(rng, 18.4), 0.8) * np.clip(grid.field(rng, 13.8), 0, 1)
    marbling = threads(grid.field(rng, 8.28), 1) * (grid.field(rng, 6.9) > 0.2)
    grain_shw = 4 * grid.field(rng, 2.76) - 25 * marbling
    changes = [(*rng.normal(0, (0.7, 0.7, 4)).tolist(), rng.uniform(0.95, 1.15)) for _ in _TISSUES]
    changes += [(0, 0, 0, 1)] * len(_ELSEWHERE)
    tissues = [
        (value, keys[0][0], keys[-1][0], course(*keys), back, out, degrees + turn, size)  # type: ignore[arg-type, index]
        for (value, degrees, *keys), (back, out, turn, size) in zip(_TISSUES + _ELSEWHERE, changes, strict=True)
    ]
    for image, z, y, x, fat, grain in zip(image_shw, z_s.tolist(), y_shw, x_shw, fat_shw, grain_shw, strict=True):
        body = _body(z, y, x)
        box = window(body < 1)  # nothing is painted elsewhere
        image, body, y, side, fat, grain = image[box], body[box], y[box], np.abs(x[box]), fat[box], grain[box]
        grid.paint(image, body, 15)
        grid.paint(image, body + 1.6, fat)
        if -22 < z < 36:
            centre, *radii = _TONGUE(z)
            grid.paint(image, ellipse(y, side, (centre, 0), radii), 55 + 2 * grain)
            # its septum, fat
            grid.paint(image, np.maximum(side - 0.5, np.abs(y - centre + 2) - 0.8 * radii[0]), -40, 1)
        for value, low, high, form, back, out, degrees, size in tissues:
            if low <= z <= high:
                centre_y, centre_x, radius_y, radius_x = form(z)
                edge = ellipse(y, side, (centre_y + back, centre_x + out), (size * radius_y, size * radius_x), degrees)
                grid.paint(image, np.maximum(edge, body), value + grain if value < 100 else value, 0.7)  # type: ignore[operator]


def _body(z: float, y, x) -> np.ndarray:
    """Return the distance to the skin."""
    back_y, *back, jaw_y, jaw_ry, jaw_rx = _BODY(z)
    parts = [-ellipse(y, x, (back_y, 0), back) / 8, -ellipse(y, x, (jaw_y, 0), (jaw_ry, jaw_rx)) / 8]
    if z > 34:
        nose, *radii = _NOSE(z)
        parts.append(-ellipse(y, x, (nose, 0), radii) / 8)
    return -8 * np.logaddexp.reduce(parts)  # a smooth union


def _airway(rng: np.random.Generator, grid: PixelGrid, image_shw: np.ndarray, z_s, y_shw, x_shw) -> None:
    """Paint the airway from the nasopharynx to the trachea, and the tips of the lungs."""
    wide = rng.uniform(0.8, 1.15)
    rough_shw = 1.2 * grid.field(rng, 4.6)
    for image, z, y, x, rough in zip(image_shw, z_s.tolist(), y_shw, x_shw, rough_shw, strict=True):
        if z > 64:
            continue
        centre, tall, broad = _AIRWAY(z)
        lumen = ellipse(y, x, (centre, 0), (tall * wide, broad * wide)) + (1 if z > -20 else 0.4) * rough
        grid.paint(image, lumen - (3.5 if z > -60 else 2), 68, 1)  # mucosa
        grid.paint(image, lumen, -1000)
        if -16 < z < 6:
            grid.paint(image, ellipse(y, x, (-6 + 0.02 * x**2 - 0.3 * z, 0), (1.3, 7)), 45)  # epiglottis
        if z < -97:
            grid.paint(image, ellipse(y, np.abs(x), (26, 44), (24, 22), 0, (z + 126, 29)), -860, 2)  # lung


def _reconstruct(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add the scanner's blur, and noise with little power at low frequencies as back-projection leaves it."""
    white = rng.standard_normal(image.shape, np.float32)
    noise = gaussian_filter(white, 0.8, axes=(1, 2)) - 0.8 * gaussian_filter(white, 2.5, axes=(1, 2))
    noise += 0.25 * np.stack([field(rng, image.shape[1:], 1.5, 25) for _ in image])  # faint streaks between dense bones
    return np.maximum(gaussian_filter(image, 0.9, axes=(1, 2)) + 35 * noise, -1024).astype(np.float32)
