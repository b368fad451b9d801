"""Breast ultrasound: tissue echoes, attenuation along the beam, speckle, log compression."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from mpsams.datasets.phantom.paint import blob, cover, field, generator, ridge, threads

DYNAMIC_RANGE_DB = 55.0  # from black to white


def speckle(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw fully developed speckle: a complex64 (H, W) field of unit power with the scanner's point spread.

    Its modulus is Rayleigh distributed, mean / standard deviation = 1.91 (Burckhardt, IEEE Trans.
    Sonics Ultrason. 25:1, 1978). Grains are wider than deep and widen with depth.
    """
    axial, near, far = 1.0, 1.2, 3.0  # standard deviations of the point spread, pixels
    share = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    alike = math.sqrt(2 * near * far / (near**2 + far**2))
    power = share**2 + (1 - share) ** 2 + 2 * alike * share * (1 - share)
    # A Gaussian filter of width s leaves 1 / (2 sqrt(pi) s) of the power of white noise.
    shallow = (1 - share) * np.sqrt(2 * math.pi * axial * near / power)
    deep = share * np.sqrt(2 * math.pi * axial * far / power)
    z = np.empty(shape, np.complex64)
    for part in (z.real, z.imag):
        thin = gaussian_filter1d(rng.standard_normal(shape, np.float32), axial, axis=0, mode="wrap")
        part[:] = shallow * gaussian_filter1d(thin, near, axis=1, mode="wrap", truncate=3)
        part += deep * gaussian_filter1d(thin, far, axis=1, mode="wrap", truncate=3)
    return z


def ultrasound(seed: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw a breast B-mode image, (H, W) float32 in [0, 1], and its lesion mask, (H, W) bool.

    Skin, fat with septa, gland, pectoral muscle, from top to bottom; 380-440 by 500-580 pixels.
    Echo levels in dB, attenuation summed along each beam (hence enhancement behind a cyst, shadow
    behind a tumour, shadows at a lesion's edges), interfaces as coherent echoes, speckle, spatial
    compounding, log compression to ``DYNAMIC_RANGE_DB``. Without a lesion the mask is empty.
    """
    rng = generator(seed, 0)
    shape = int(rng.integers(380, 441)), int(rng.integers(500, 581))
    level, attenuation, echoes = _breast(rng, shape)
    mask = np.zeros(shape, bool)
    if lesion:
        mask = _breast_lesion(rng, level, attenuation, echoes)
    level -= gaussian_filter1d(np.cumsum(attenuation, axis=0), 4, axis=1, truncate=2)
    look = speckle(rng, shape)
    # Three looks, far enough apart in the same field to be independent, averaged as a scanner does.
    looks = (look, look[:, ::-1], np.roll(look, shape[1] // 3, axis=1))
    level += 20 * np.log10(sum(np.abs(z + echoes) for z in looks) / 3)
    level = gaussian_filter(level, 0.6, truncate=3)
    return np.clip(1 + level / DYNAMIC_RANGE_DB, 0, 1), mask


def _breast(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Draw a breast: echo level (dB, 0 is white), attenuation beyond the compensated one (dB per pixel), echoes."""
    height, width = shape
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None]
    skin = rng.uniform(0.03, 0.05) * height + 2 * field(rng, (1, width), 1, 120)
    gland = skin + height * (rng.uniform(0.14, 0.3) + 0.05 * field(rng, (1, width), 1, 90))
    muscle = height * (rng.uniform(0.64, 0.8) + 0.03 * field(rng, (1, width), 1, 170))
    muscle = muscle + rng.normal(0, 0.09) * (x - width / 2)
    patches, streaks = field(rng, shape, 18, 40), field(rng, shape, 6, 38)
    sway = y + 24 * field(rng, shape, 60, 110) + 5 * patches

    level = -29 + 1.5 * patches + 2 * streaks  # fat, its septa
    septa = threads(np.sin(sway * (math.pi / rng.uniform(34, 50))), 1.8)
    echoes = 3.5 * septa * np.clip(0.3 + field(rng, shape, 20, 60), 0, 2)
    in_gland = cover(gland - y, 6)
    level += in_gland * (7.5 + 2 * streaks + 3 * patches - 0.5 * np.maximum(-patches, 0) ** 2)
    fibres = threads(np.sin((sway + 4 * streaks) * (math.pi / 15)), 2.2)
    echoes += in_gland * (2.2 * fibres * np.clip(field(rng, shape, 9, 30) - 0.3, 0, 2) - 0.6 * echoes)
    in_muscle = cover(muscle - y + 2 * streaks, 9)
    tilted = y - muscle + 2.5 * field(rng, shape, 12, 60)
    level += in_muscle * (-34 - 0.05 * np.maximum(y - muscle, 0) + 3 * streaks + 2 * patches - level)
    strands = threads(np.sin(tilted * (math.pi / 9)), 1.3) * np.clip(field(rng, shape, 7, 40), 0, 2)
    echoes += in_muscle * (2 * strands - echoes)
    fascia = ridge(tilted, 2.2) + 0.6 * ridge(tilted - 16, 1.8) + 0.8 * ridge(y - gland, 1.6)
    echoes += 2.5 * fascia * np.clip(0.5 + 0.7 * field(rng, shape, 200, 50), 0, 2)
    in_skin = cover(y - skin, 2)
    level += in_skin * (-24 - 0.5 * y - level)
    glare = np.clip(0.7 + 0.3 * field(rng, shape, 8, 70), 0, 2)
    echoes += 2.5 * glare * (ridge(y - skin, 1.8) + ridge(y, 3)) - in_skin * echoes

    attenuation = np.full(shape, rng.uniform(5, 13) / height, np.float32)
    attenuation *= np.clip(0.9 + 0.8 * field(rng, shape, height, 60), 0, 2.2)
    return level, attenuation, echoes


def _breast_lesion(rng: np.random.Generator, level, attenuation, echoes) -> np.ndarray:
    """Put a cyst, a solid benign or a suspicious lesion into the maps, in place; return its mask."""
    shape = height, width = level.shape
    kind = rng.choice(["cyst", "benign", "suspicious"], p=[0.2, 0.4, 0.4])
    inside_db, gain_db, rough, finest, flat = {
        "cyst": (-60, 9, 0.07, 5, rng.uniform(0.55, 0.85)),
        "benign": (rng.uniform(-42, -36), 4, 0.11, 6, rng.uniform(0.4, 0.65)),
        "suspicious": (-41, -15, 0.34, 24, rng.uniform(0.6, 0.95)),
    }[kind]
    radius = width * rng.uniform(0.07, 0.19)
    y = np.arange(height, dtype=np.float32)[:, None] - height * rng.uniform(0.32, 0.52)
    x = np.arange(width, dtype=np.float32)[None] - width * rng.uniform(0.28, 0.72)
    turn = rng.normal(0, 0.15)
    y, x = (y + turn * x) / (radius * flat), (x - turn * y) / radius
    outline = blob(rng, y, x, rough, finest) + 0.12 * rough * field(rng, shape, 9, 12)
    distance = outline * radius * min(flat, 1)

    malign = kind == "suspicious"
    inside = cover(distance, 6 if malign else 2)
    level += inside * (inside_db + 2.5 * field(rng, shape, 8, 12) - level)
    echoes *= 1 - inside
    rim = ridge(distance, 3)
    if malign:  # an echogenic halo, flecks of lime
        level += 4 * ridge(distance - 12, 10)
        flecks = threads(field(rng, shape, 6, 8), 1) * threads(field(rng, shape, 7, 6), 1)
        echoes += 9 * flecks * inside
    else:  # a capsule, bright where the beam meets it upright
        echoes += 3 * rim * np.clip(np.abs(y) / (np.hypot(y, x) + 1e-3) - 0.6, 0, 1)
    attenuation += (0.1 if not malign else 0.03) * rim - gain_db / (2 * radius * flat) * inside
    return distance < 0
