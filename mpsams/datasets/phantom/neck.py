"""Neck CT: an axial slice at the height of the lower jaw, in Hounsfield units.

Millimetres from the centre: y to the back, x to the patient's left.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from mpsams.datasets.phantom.paint import cover, ellipse, field, generator, paint, stroke, threads, tumour

SIDE, MILLIMETRES = 512, 0.46  # pixels, and the size of one

# centre y, centre |x|, radius y, radius |x|, turn in degrees, Hounsfield units; millimetres, both sides
_NECK = (
    (-20, 39, 13, 5.5, -8, 60),  # medial pterygoid
    (-24, 55, 17, 4.5, -14, 62),  # masseter
    (-66, 9, 9, 6, 0, 55),  # digastric, anterior belly
    (-40, 17, 26, 9, 8, 58),  # mylohyoid and hyoglossus
    (-6, 38, 9, 8, 20, 42),  # submandibular gland
    (8, 53, 13, 8, 10, -12),  # parotid gland
    (33, 54, 19, 7.5, -24, 60),  # sternocleidomastoid
    (14, 8, 4.5, 7, 0, 58),  # longus colli
    (29, 31, 7, 6, 30, 58),  # scalene
    (47, 42, 14, 8, -18, 58),  # levator scapulae
    (57, 13, 9, 8.5, 25, 54),  # multifidus
    (64, 24, 9, 14, -22, 56),  # semispinalis
    (74, 31, 5.5, 22, -32, 58),  # splenius
    (86, 20, 3.2, 22, -20, 58),  # trapezius
    (8, 27, 3.6, 3.6, 0, 205),  # carotid artery
    (15, 34, 5.2, 6.2, 20, 175),  # internal jugular vein
    (-3, 30, 2, 2, 0, 190),  # facial artery
    (22, 64, 1.8, 2.4, 0, 160),  # external jugular vein
    (27, 43, 2.6, 3.6, 20, 45),  # lymph node
)


def ct(seed: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """An axial contrast-enhanced neck CT, (512, 512) float32 in Hounsfield units, and its tumour mask.

    Air -1000, fat about -100, muscle about 58, enhanced vessels about 190, cortical bone up to 1200,
    at 0.46 mm per pixel with noise of about 10 HU, correlated as after reconstruction (Riederer et al.,
    Phys. Med. Biol. 23:446, 1978). The tumour is 25-50 HU denser than muscle. Mask (512, 512) bool.
    """
    rng = generator(seed, 1)
    shape = (SIDE, SIDE)
    y, x = (np.mgrid[: shape[0], : shape[1]].astype(np.float32) - SIDE / 2) * MILLIMETRES
    image = np.full(shape, -1000, np.float32)
    _table(image, y, x)
    bend = [1.8 * field(rng, shape, 70, 70) + 0.45 * field(rng, shape, 13, 13) for _ in "yx"]
    y = y / rng.uniform(0.94, 1.04) + bend[0]
    x = x / rng.uniform(0.94, 1.04) + bend[1] + rng.normal(0, 0.04) * y
    distance = np.full(shape, np.inf, np.float32)
    if lesion:
        distance, y, x = tumour(rng, y, x, ((2, 20, 14), (21, 39, 15), (-26, 9, 14)), pixel=MILLIMETRES)
    _soft_tissue(rng, image, y, x)
    if lesion:
        density = rng.uniform(83, 108) + 5 * field(rng, shape, 16, 16)
        density -= rng.uniform(0, 35) * cover(distance + 6, 3)  # the core enhances less
        paint(image, distance, density, soft=1.2)
    _airway(rng, image, y, x)
    bone = _bones(rng, image, y, x)
    return _reconstructed(rng, image), (distance < 0) & (bone > 0) & (image > -300)


def _table(image: np.ndarray, y, x) -> None:
    """A headrest: foam between two thin shells, hollowed for the head."""
    top = 102 - 0.0022 * x**2
    for edge in (top, np.full_like(x, 113)):
        paint(image, np.maximum(np.abs(y - edge) - 0.7, np.abs(x) - 98), 60, 0.4)
    paint(image, np.maximum(np.maximum(top + 1.5 - y, y - 111), np.abs(x) - 97), -930, 1)


def _soft_tissue(rng: np.random.Generator, image: np.ndarray, y, x) -> None:
    """Skin, fat, muscles, glands and vessels."""
    shape, side = image.shape, np.abs(x)
    back, jaw = ellipse(y, x, 30, 0, 66, 72), ellipse(y, x, -28, 0, 70, 63)
    body = -8 * np.logaddexp(-back / 8, -jaw / 8)  # a smooth union
    fat = -102 + 7 * field(rng, shape, 8, 8)
    fat += 70 * threads(field(rng, shape, 40, 40), 0.8) * np.clip(field(rng, shape, 30, 30), 0, 1)
    paint(image, body, 15)
    paint(image, body + 1.6, fat)
    marbling = threads(field(rng, shape, 18, 18), 1) * (field(rng, shape, 15, 15) > 0.2)
    grain = 4 * field(rng, shape, 6, 6) - 25 * marbling
    paint(image, ellipse(y, side, -38, 0, 30, 13), 55 + 2 * grain)  # tongue
    paint(image, np.maximum(side - 0.5, np.abs(y + 40) - 24), -40, 1)  # its septum, fat
    for centre_y, centre_x, radius_y, radius_x, degrees, value in _NECK:
        centre_y, centre_x, degrees = rng.normal((centre_y, centre_x, degrees), (0.7, 0.7, 4)).tolist()
        size = rng.uniform(0.95, 1.15)
        edge = ellipse(y, side, centre_y, centre_x, size * radius_y, size * radius_x, degrees)
        paint(image, edge, value + grain if value < 100 else value, 0.7)


def _airway(rng: np.random.Generator, image: np.ndarray, y, x) -> None:
    wide = rng.uniform(0.8, 1.15)
    lumen = ellipse(y, x, -3, 0, 7 * wide, 13 * wide) + 1.2 * field(rng, image.shape, 10, 10)
    paint(image, lumen - 3.5, 68, 1)  # mucosa
    paint(image, lumen, -1000)
    paint(image, ellipse(y, x, -6 + 0.02 * x**2, 0, 1.3, 7), 45)  # epiglottis


def _bones(rng: np.random.Generator, image: np.ndarray, y, x) -> np.ndarray:
    """Paints vertebra, canal, mandible; returns the distance to bone."""
    side = np.abs(x)
    vertebra = np.minimum.reduce([
        ellipse(y, side, 26, 0, 8.5, 12.5),
        stroke(y, side, 28, 9, 33, 22, 3.5, 3.5),
        ellipse(y, side, 39, 19, 6.5, 7),
        stroke(y, side, 43, 17, 58, 2, 3.2, 3),
        stroke(y, side, 57, 0, 70, 3.5, 3, 2.2),
    ])
    canal = ellipse(y, side, 44, 0, 7.5, 11)
    holes = np.minimum(canal, ellipse(y, side, 31, 17.5, 2.8, 2.8))
    mandible = np.abs(ellipse(y, x, -18, 0, 64, 47)) - 5.2 + 0.6 * field(rng, image.shape, 12, 12)
    mandible = 2 * np.logaddexp(mandible / 2, (y + 17) / 2)
    for bone, shell in ((np.maximum(vertebra, -holes), 1.5), (mandible, 2.3)):
        paint(image, bone, 1050 if bone is mandible else 800, 0.6)
        paint(image, bone + shell, 270 + 60 * field(rng, image.shape, 3, 3), 0.8)
    paint(image, canal, 8)
    paint(image, ellipse(y, side, 44, 0, 4.2, 6.5), 42, 0.8)  # spinal cord
    paint(image, ellipse(y, side, 31, 17.5, 1.6, 1.6), 150)  # vertebral artery
    return np.minimum(vertebra, mandible)


def _reconstructed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The scanner's blur, and noise with little power at low frequencies as back-projection leaves it."""
    white = rng.standard_normal(image.shape, np.float32)
    noise = gaussian_filter(white, 0.8) - 0.8 * gaussian_filter(white, 2.5)
    noise += 0.25 * field(rng, image.shape, 1.5, 25)  # faint streaks between dense bones
    return np.maximum(gaussian_filter(image, 0.9) + 35 * noise, -1024).astype(np.float32)
