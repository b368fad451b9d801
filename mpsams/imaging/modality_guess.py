"""The modality of a volume that does not state it, guessed from its values."""

from __future__ import annotations

import numpy as np

from . import Scan

_MANY = 64  # voxels along each axis that are looked at
_AIR = (-1100, -900)  # Hounsfield units
_PARTLY_AIR = (-650, -350)  # Hounsfield units that hardly anything in a body has
_LEAST, _SURE = 0.01, 0.05  # share of air in a CT, and in one that nobody would doubt
_NEGATIVE = -200  # values below are not those of an ordinary MR image
_CT = "CT (the file does not state it; a few of its values are near -1000, as those of air are)"
_MRI = "MRI (the file does not state it; it has negative values, but no air near -1000 as a CT has)"
_NOTE = "The modality was guessed: {}. State it if this is wrong."


def guess(scan: Scan) -> tuple[str, tuple[str, ...]]:
    """Return "ct" or "mri", and a sentence on the guess; no sentence where at least 5% is air, or no value is below
    -200, as in most MRI.

    CT is guessed only where values gather around that of air: at least 1% of up to 64³ voxels lie between -1100 and
    -900, and twice as many as between -650 and -350. Differences of MR images, phases and noise are spread out or
    fall off towards -1000.
    """
    some = scan.voxels_xyz[tuple(slice(None, None, -(-n // _MANY)) for n in scan.voxels_xyz.shape)]
    with np.errstate(all="ignore"):  # slopes may be as large as they like
        values = some[~scan.missing(some)].astype(np.float64) * scan.slope + scan.intercept
    if not (values < _NEGATIVE).any():
        return "mri", ()
    air, partly = (float(np.mean((values >= low) & (values <= high))) for low, high in (_AIR, _PARTLY_AIR))
    if air >= _LEAST and air >= 2 * partly:
        return "ct", () if air >= _SURE else (_NOTE.format(_CT),)
    return "mri", (_NOTE.format(_MRI),)
