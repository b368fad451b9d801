"""Brain T1: an axial slice at the height of the thalamus, or the whole head above the upper teeth.

Millimetres from the centre: z up from the thalamus, y to the back, x to the patient's left, side = abs(x).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mpsams.datasets.phantom import skull
from mpsams.datasets.phantom.paint import (
    PixelGrid,
    beyond,
    course,
    cover,
    ellipse,
    generator,
    stroke,
    threads,
    tumour,
    window,
)

SLICE = PixelGrid((1, 256, 256), (4, 1, 1))

_STEM = course(
    (-76, 25, 7, 8), (-56, 20, 8, 10), (-43, 16, 9, 13), (-30, 12, 13, 18), (-14, 14, 11, 17), (-3, 12, 9, 13)
)


def t1(seed: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw an axial T1-weighted brain at the level of the thalamus and its tumour mask, (256, 256) each.

    Intensities are float32 and not negative: scalp fat about 235, white matter 150, grey matter 112,
    cerebrospinal fluid 45, tumour core about 80 with a soft margin, times a smooth bias field of about
    10%, with Rician noise of sigma 3.5 (Gudbjartsson & Patz, Magn. Reson. Med. 34:910, 1995). 1 mm pixels.
    """
    image_shw, mask_shw = slices(seed, SLICE, lesion)
    return image_shw[0], mask_shw[0]


def slices(seed: int, grid: PixelGrid, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw the slices of a brain and its tumour mask as ``t1``, on any grid: (S, H, W) float32 and bool.

    There is anatomy from 76 mm below the thalamus to the vertex.
    """
    rng = generator(seed, 2)
    z, y, x = grid.coordinates()
    turn = rng.normal(0, 0.06)
    y, x = (y + turn * x) / rng.uniform(0.93, 1.05), (x - turn * y) / rng.uniform(0.93, 1.05)
    image, surface = skull.paint(rng, grid, z, y, x)
    y, x = y + 1.6 * grid.field(rng, 20), x + 1.6 * grid.field(rng, 20)
    distance = np.full(grid.shape, np.inf, np.float32)
    if lesion:
        distance, y, x = tumour(rng, grid, z, y, x, ((-30, 36, 19), (22, 40, 18), (-6, 44, 17), (45, 30, 16)))
    brain = _brain(rng, grid, z, y, x, surface)
    core = 78 + 12 * grid.field(rng, 7)
    brain += 0.45 * cover(distance - 5, 8) * (95 - brain)  # oedema
    brain += cover(distance, 2.5) * (core - brain)
    grid.paint(image, surface, brain, 0.7)
    image = gaussian_filter(image, 0.6, axes=(1, 2)) * (1 + 0.06 * grid.field(rng, 130))
    noise = 3.5 * rng.standard_normal((2, *grid.shape), np.float32)
    return np.hypot(image + noise[0], noise[1]).astype(np.float32), (distance < 0) & (surface < 0)


def _brain(rng: np.random.Generator, grid: PixelGrid, z_s, y_shw, x_shw, surface_shw: np.ndarray) -> np.ndarray:
    """Draw white matter, folded cortex, deep grey matter, ventricles, cerebellum and brainstem, (S, H, W) float32."""
    tissue_shw = 150 + 3 * grid.field(rng, 12)
    fluid_shw = _fluid(rng, grid, z_s[:, None, None], y_shw, x_shw, surface_shw)
    box = window((surface_shw < 2 * grid.spacing[1]).any(axis=0))  # type: ignore[arg-type]  # all else is fluid
    from_fluid_shw = np.zeros(grid.shape, np.float32)
    from_fluid_shw[:, *box] = distance_transform_edt(~fluid_shw[:, *box], sampling=grid.spacing)
    ribbon_shw = from_fluid_shw - 3.6 + 0.9 * grid.field(rng, 9)
    grid.paint(tissue_shw, ribbon_shw, 112, 0.9)
    open_to = 0.2 + 0.9 * np.exp(np.minimum(surface_shw, 0) / 7) + 0.25 * grid.field(rng, 14)
    fluid_shw = np.maximum(from_fluid_shw - open_to, -0.5)
    swell = rng.uniform(-0.8, 1.5)
    for z, *parts in zip(z_s.tolist(), tissue_shw, y_shw, np.abs(x_shw), fluid_shw, strict=True):
        tissue, y, side, fluid = (part[box] for part in parts)
        _deep_grey(grid, tissue, z, y, side)
        grid.paint(tissue, fluid, 45, 0.9)
        _ventricles(grid, tissue, z, y, side, swell)
        if z < -3:
            _below_the_tent(grid, tissue, z, y, side)
    return tissue_shw


def _deep_grey(grid: PixelGrid, tissue: np.ndarray, z: float, y, side) -> None:
    grey = np.minimum.reduce(
        [
            ellipse(y, side, (-24, 14), (9, 5.5), -15, (z, 14)),  # caudate head
            ellipse(y, side, (-6, 29), (15, 5.5), -14, (z, 17)),  # putamen
            ellipse(y, side, (8, 11), (12, 8), 18, (z, 13)),  # thalamus
        ]
    )
    grid.paint(tissue, grey, 122, 1.2)
    grid.paint(tissue, ellipse(y, side, (-3, 22), (8, 3.5), -22, (z, 9)), 136, 1.5)  # pallidum


def _ventricles(grid: PixelGrid, tissue: np.ndarray, z: float, y, side, swell: float) -> None:
    bowed = side - 0.0036 * (y - 4) ** 2  # the horns curve outwards
    ventricles = np.minimum.reduce(
        [
            stroke(y, bowed, (-32, 9), (-8, 2.5), (2.6, 1.6)) + 0.5 * beyond(z, -7, 14),
            stroke(y, bowed, (20, 12), (42, 15), (2.2, 3.4)) + 0.5 * beyond(z, -7, 9),
            np.hypot(stroke(y, bowed, (-26, 7), (28, 12), (0, 0)), 0.7 * (z - 16 + 0.01 * (y - 2) ** 2))
            - 3.6,  # the bodies arch
            stroke(y, side, (16, 27), (-8, 29), (0.6, 0.8)) + 0.5 * beyond(z, -18, -8),
            stroke(y, side, (-6, 0), (14, 0), (1.0, 1.2)) + beyond(z, -16, 4),
        ]
    )
    grid.paint(tissue, ventricles - swell, 45, 0.8)
    grid.paint(tissue, np.maximum(side - 0.7, np.abs(y + 20) - 14) + beyond(z, -5, 20), 125, 0.6)  # septum


def _below_the_tent(grid: PixelGrid, tissue: np.ndarray, z: float, y, side) -> None:
    """Paint brainstem and cerebellum in their fluid."""
    tent = np.maximum(z - skull.tent(y, side), skull.petrous(side) - y)
    grid.paint(tissue, tent, 45, 1)
    cerebellum = np.maximum(ellipse(y, side, (47, 22), (36, 38), 0, (z + 35, 29)), tent + 1.5)
    grid.paint(tissue, cerebellum, 112 + 14 * np.cos(2 * np.pi * cerebellum / 5), 0.8)  # folia
    grid.paint(tissue, ellipse(y, side, (45, 20), (14, 24), 0, (z + 35, 13)), 148, 4)
    centre, *radii = _STEM(z)
    grid.paint(tissue, ellipse(y, side, (-6, 0), (13, 14), 0, (z + 20, 8)), 45)  # the cistern above the sella
    grid.paint(tissue, ellipse(y, side, (centre, 0), radii), 142, 1)
    grid.paint(tissue, ellipse(y, side, (30, 0), (5, 8), 0, (z + 36, 14)), 45, 0.8)  # fourth ventricle


def _fluid(rng: np.random.Generator, grid: PixelGrid, z, y, x, surface: np.ndarray) -> np.ndarray:
    """Return the pixels in which fluid touches the cortex: around the brain, in sulci and fissures, (S, H, W) bool."""
    side = np.abs(x)
    cycles = [np.fft.fftfreq(size, step) for size, step in zip(grid.shape[:2], grid.spacing[:2], strict=True)]
    cycles.append(np.fft.rfftfreq(grid.shape[2], grid.spacing[2]))  # per millimetre
    frequency = np.sqrt(sum(axis**2 for axis in np.ix_(*cycles)))
    band = np.exp(-(((frequency - 1 / 27) / 0.007) ** 2))
    folding = np.fft.irfftn(band * np.fft.rfftn(rng.standard_normal(grid.shape)), grid.shape, axes=(0, 1, 2))
    radial = 1.1 * np.clip(1.5 - np.abs(z) / 25, 0, 1) * np.clip(np.hypot(y, x) / 15 - 1, 0, 1)
    waves = folding / folding.std() + radial * np.sin(11 * np.arctan2(x, y * 0.8))
    depth = 19 + 5 * grid.field(rng, 12)
    near_insula = ellipse(y, side, (0, 34), (26, 14), 0, (z, 24)) < 0
    folds = (threads(waves, 0.7, grid.spacing[0] / grid.spacing[1]) > 0.4) & (surface > -depth) & ~near_insula
    middle = x + 1.2 * grid.field(rng, 10, 60)
    corpus_callosum = ((y - 2) / 44) ** 2 + (np.maximum(z, 0) / 30) ** 2 < 1
    fissure = (np.abs(middle) < 0.8) & ~corpus_callosum
    sylvian = stroke(y, side, (-8, 64), (2, 43), (1, 0.6))
    insula = np.maximum(np.abs(ellipse(y, side, (0, 14), (30, 28))) - 0.7, np.abs(y) - 17)
    return (surface > 0) | folds | fissure | ((np.minimum(sylvian, insula) < 0) & (np.abs(z - 2) < 12))
