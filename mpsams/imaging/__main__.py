"""Print as JSON what the reader understood of an image, a volume or a DICOM series.

python -m mpsams.imaging scan.nii.gz
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpsams import imaging
from mpsams.arguments import Parser
from mpsams.imaging import MODALITIES, Scan, geometry

ABOUT = (
    "Print as JSON what the reader understood of a file: the same reader that the app, the annotation project and the"
    " data sets use."
)
EPILOG = """
keys of the JSON:
  file         name of the file or folder
  choices      titles of everything in it that can be opened; empty when there is only one thing
  choice       number of the one described here, see --choice
  modality     ultrasound, ct or mri
  origin       format, type and size in words
  shape        voxels along X, Y and Z as they are stored; a picture has Z = 1
  spacing_mm   distance between voxel centres along X, Y and Z in millimetres; null without geometry
  affine       4 x 4 matrix from voxel indices to RAS millimetres; null without geometry
  voxel_mm3    volume of a voxel, |det(affine)|; null without geometry
  range        lowest and highest value after the file's scaling, without padding and NaN; null when there is none
  slice_means  mean of these values in each axial slice, from the feet up, of a single slice its mean;
               null for a slice without any
  notes        sentences on what to know before trusting the image

A file that cannot be read gives {"error": sentence, "file": name} and exit code 1; wrong options give exit code 2.

examples:
  python -m mpsams.imaging breast.png
  python -m mpsams.imaging scan.nii.gz --choice 2 --modality mri     the third volume of a 4-D file, as MRI
  python -m mpsams.imaging series/                                   a folder with the files of a DICOM series
  python -m mpsams.imaging series/*.dcm                              the same, file by file
  python -m mpsams.imaging upload.zip
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, print; returns the exit code."""
    parser = Parser(prog="python -m mpsams.imaging", description=ABOUT, epilog=EPILOG)
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="one file, the files of one DICOM series, or a folder of them",
    )
    parser.add_argument(
        "--choice", type=int, default=0, metavar="N", help="number of the volume or series to open, from 0 (default: 0)"
    )
    parser.add_argument(
        "--modality", choices=MODALITIES, help="modality of the image (default: as the file states it, else guessed)"
    )
    options = parser.parse_args(argv)
    # of the libraries, as are their logs, which may quote the file; what matters is in the notes
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    code, answer = 0, {"file": options.files[0].resolve().name}
    try:
        answer |= describe(imaging.read(list_files(options.files), options.modality, options.choice))
    except OSError as error:
        code, answer = 1, {"error": f"{error.strerror or type(error).__name__}.", **answer}
    except ValueError as error:
        code, answer = 1, {"error": str(error), **answer}
    print(json.dumps(answer, indent=1, allow_nan=False, ensure_ascii=False))
    return code


def list_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and in place of a folder all files in it and below."""
    return [
        file
        for path in paths
        for file in (sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path])
    ]


def describe(scan: Scan) -> dict:
    """Return the values of EPILOG as JSON takes them, without the name of the file."""
    lows, highs, means = [], [], []
    for slice_hw in scan.shown(scan.planes[0]):
        values = slice_hw[~scan.missing(slice_hw)].astype(np.float64) * scan.slope + scan.intercept
        means.append(float(values.mean()) if values.size else None)
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    affine = scan.affine
    return {
        "choices": list(scan.choices),
        "choice": scan.choice,
        "modality": scan.modality,
        "origin": scan.origin,
        "shape": list(scan.voxels_xyz.shape),
        "spacing_mm": None if affine is None else np.linalg.norm(affine[:3, :3], axis=0).tolist(),
        "affine": None if affine is None else affine.tolist(),
        "voxel_mm3": None if affine is None else geometry.voxel_mm3(affine),
        "range": [min(lows), max(highs)] if lows else None,
        "slice_means": means,
        "notes": list(scan.notes),
    }


if __name__ == "__main__":
    sys.exit(main())
