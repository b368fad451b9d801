"""Brain T1: an axial slice at the height of the thalamus.

Millimetres (pixels) from the centre: y to the back, x to the patient's left.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mpsams.datasets.phantom.paint import cover, ellipse, field, generator, paint, stroke, threads, tumour

SIDE = 256  # pixels of one millimetre


def t1(seed: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """An axial T1-weighted brain at the level of the thalamus and its tumour mask, (256, 256) each.

    Intensities are float32 and not negative: scalp fat about 235, white matter 150, grey matter 112,
    cerebrospinal fluid 45, tumour core about 80 with a soft margin, times a smooth bias field of about
    10%, with Rician noise of sigma 3.5 (Gudbjartsson & Patz, Magn. Reson. Med. 34:910, 1995). 1 mm pixels.
    """
    rng = generator(seed, 2)
    shape = (SIDE, SIDE)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) - SIDE / 2
    turn = rng.normal(0, 0.06)
    y, x = (y + turn * x) / rng.uniform(0.93, 1.05), (x - turn * y) / rng.uniform(0.93, 1.05)
    image = np.zeros(shape, np.float32)
    surface = _head(rng, image, y, x)
    y, x = y + 1.6 * field(rng, shape, 20, 20), x + 1.6 * field(rng, shape, 20, 20)
    distance = np.full(shape, np.inf, np.float32)
    if lesion:
        sites = ((-30, 36, 19), (22, 40, 18), (-6, 44, 17), (45, 30, 16))
        distance, y, x = tumour(rng, y, x, sites, pixel=1)
    brain = _brain(rng, y, x, surface)
    core = 78 + 12 * field(rng, shape, 7, 7)
    brain += 0.45 * cover(distance - 5, 8) * (95 - brain)  # oedema
    brain += cover(distance, 2.5) * (core - brain)
    paint(image, surface, brain, 0.7)
    image = gaussian_filter(image, 0.6) * (1 + 0.06 * field(rng, shape, 130, 130))
    noise = 3.5 * rng.standard_normal((2, *shape), np.float32)
    return np.hypot(image + noise[0], noise[1]).astype(np.float32), (distance < 0) & (surface < 0)


def _head(rng: np.random.Generator, image: np.ndarray, y, x) -> np.ndarray:
    """Paints scalp and skull; returns the distance to the surface of the brain, pixels."""
    shape = image.shape
    head = ellipse(y, x, 0, 0, 98, 78 * (1 + 0.0008 * y)) + 0.6 * field(rng, shape, 40, 40)
    skull = head + rng.uniform(5, 7) + 0.8 * field(rng, shape, 30, 30) - 3 * cover(70 - y, 20)
    surface = skull + rng.uniform(5.5, 8) + 0.8 * field(rng, shape, 25, 25)
    paint(image, head, 120)
    paint(image, head + 1.5, 235 + 15 * field(rng, shape, 6, 6))
    paint(image, skull, 18, 0.8)
    diploe = np.abs(skull + 3) - 0.7 - 0.6 * field(rng, shape, 20, 20)
    paint(image, diploe, 75, 0.8)
    paint(image, surface - 2, 30, 0.8)
    return surface


def _brain(rng: np.random.Generator, y, x, surface: np.ndarray) -> np.ndarray:
    """White matter, folded cortex, deep grey matter and ventricles, (H, W) float32."""
    shape, side = y.shape, np.abs(x)
    tissue = 150 + 3 * field(rng, shape, 12, 12)
    from_fluid = distance_transform_edt(~_sulci(rng, y, x, surface)).astype(np.float32)
    ribbon = from_fluid - 3.6 + 0.9 * field(rng, shape, 9, 9)
    paint(tissue, ribbon, 112, 0.9)
    grey = np.minimum.reduce([
        ellipse(y, side, -24, 14, 9, 5.5, -15),  # caudate head
        ellipse(y, side, -6, 29, 15, 5.5, -14),  # putamen
        ellipse(y, side, 8, 11, 12, 8, 18),  # thalamus
    ])
    paint(tissue, grey, 122, 1.2)
    paint(tissue, ellipse(y, side, -3, 22, 8, 3.5, -22), 136, 1.5)  # pallidum
    open_to = 0.2 + 0.9 * np.exp(np.minimum(surface, 0) / 7) + 0.25 * field(rng, shape, 14, 14)
    paint(tissue, np.maximum(from_fluid - open_to, -0.5), 45, 0.9)
    bowed = side - 0.0036 * (y - 4) ** 2  # the horns curve outwards
    swell = rng.uniform(-0.8, 1.5)
    ventricles = np.minimum.reduce([
        stroke(y, bowed, -32, 9, -8, 2.5, 2.6, 1.6),
        stroke(y, bowed, 20, 12, 42, 15, 2.2, 3.4),
        stroke(y, side, -6, 0, 14, 0, 1.0, 1.2),
    ])
    paint(tissue, ventricles - swell, 45, 0.8)
    paint(tissue, np.maximum(side - 0.7, np.abs(y + 20) - 14), 125, 0.6)  # septum
    return tissue


def _sulci(rng: np.random.Generator, y, x, surface: np.ndarray) -> np.ndarray:
    """Where fluid touches the cortex: outside the brain, in the sulci and in the fissures, bool."""
    shape = y.shape
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    band = np.exp(-(((frequency - 1 / 27) / 0.007) ** 2))
    folding = np.fft.irfft2(band * np.fft.rfft2(rng.standard_normal(shape)), shape)
    waves = folding / folding.std() + 1.1 * np.sin(11 * np.arctan2(x, y * 0.8))
    depth = 19 + 5 * field(rng, shape, 12, 12)
    near_insula = ellipse(y, np.abs(x), 0, 34, 26, 14) < 0
    folds = (threads(waves, 0.7) > 0.4) & (surface > -depth) & ~near_insula
    middle = x + 1.2 * field(rng, shape, 10, 60)
    fissure = (np.abs(middle) < 0.8) & ((y < -42) | (y > 46))
    sylvian = stroke(y, np.abs(x), -8, 64, 2, 43, 1, 0.6)
    insula = np.maximum(np.abs(ellipse(y, np.abs(x), 0, 14, 30, 28)) - 0.7, np.abs(y) - 17)
    return (surface > 0) | folds | fissure | (np.minimum(sylvian, insula) < 0)
