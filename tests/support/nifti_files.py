"""NIfTI files written for tests."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

from mpsams.imaging import UnreadableImage, nifti
from tests.support.affines import AFFINES, STRAIGHT

SHAPE = (17, 18, 5)


def noise(shape: tuple = SHAPE, dtype: type = np.int16, top: int = 100) -> np.ndarray:
    return np.random.default_rng(7).integers(0, top, shape, endpoint=True).astype(dtype)


def header_of(
    shape: tuple, dtype: type, affine=None, version: int = 1, order: str = "<", codes: tuple = (1, 0), **fields
):
    """A header by nibabel; codes: of sform and qform; fields: whatever it would not allow."""
    header = (nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header)(endianness=order)
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    affine = np.diag([-1.0, -1, 2, 1]) if affine is None else affine
    header.set_sform(affine, codes[0])
    header.set_qform(affine, codes[1])
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = 1, 0, header.single_vox_offset
    for name, value in fields.items():
        header[name] = value
    return header


def nii(voxels: np.ndarray, affine: np.ndarray | None = None, order: str = "<", **more) -> bytes:
    """A file by hand: header, four zeros, voxels with the first axis fastest."""
    header = header_of(voxels.shape, voxels.dtype, affine, order=order, **more)
    big = voxels.dtype if voxels.dtype.fields else voxels.dtype.newbyteorder(order)
    gap = bytes(max(4, int(header["vox_offset"]) - header.sizeof_hdr) if np.isfinite(header["vox_offset"]) else 4)[
        : 2**16
    ]
    return header.binaryblock + gap + voxels.astype(big).tobytes("F")


def one_sentence(message: str) -> None:
    assert "NIfTI" in message and "allowed are .nii and .nii.gz" in message
    assert message[0].isupper() and message.endswith(".") and ". " not in message.replace(".nii and", "")
    assert len(message) < 260


def outcome(data: bytes, folder: Path) -> str:
    """ "scan" or "refused"; whatever else is raised passes through and fails the test."""
    path = folder / "upload"
    path.write_bytes(data)
    try:
        scan = nifti.read(path)
    except UnreadableImage as error:
        one_sentence(str(error))
        return "refused"
    assert scan.voxels_xyz.ndim == 3 and scan.voxels_xyz.nbytes <= nifti.MAX_BYTES
    for plane in scan.planes:
        values = scan.slice(0, plane)
        assert values.dtype == np.float32 and values.ndim == 2 and np.isfinite(values).all()
    assert scan.affine is None or min(scan.spacing()) > 0
    mask = np.zeros(scan.voxels_xyz.shape, bool)
    mask[0, -1, 0] = True
    assert gzip.decompress(nifti.write_mask(scan, mask))[-mask.size :] == mask.tobytes("F")
    return "scan"


def good_files() -> dict[str, bytes]:
    rgb = noise((*SHAPE, 3), np.uint8, 255).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    return {
        "plain": nii(noise(), AFFINES["PIR 15°"], codes=(1, 1)),
        "big": nii(noise(), STRAIGHT["SLA"], ">", codes=(0, 1)),
        "gzip": gzip.compress(nii(noise(), STRAIGHT["LPS"], codes=(0, 0))),
        "NIfTI-2": nii(noise(dtype=np.float32), version=2, codes=(1, 1)),
        "NIfTI-2 gzip": gzip.compress(nii(noise(dtype=np.float64), order=">", version=2, codes=(0, 1))),
        "4-D": nii(noise((*SHAPE, 2), np.uint8)),
        "RGB": gzip.compress(nii(rgb)),
    }


GOOD = good_files()


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that ask for much, with what becomes of them."""
    press = [gzip.compress(bytes(2**20), 9)] * 50  # members of one gzip file
    lie = {"dim": [3, 1024, 1024, 768, 1, 1, 1, 1]}
    half = {"dim": [3, 1024, 512, 400, 1, 1, 1, 1]}
    return {
        "1.5 GiB declared": (gzip.compress(nii(noise(), **lie)) + b"".join(press), "refused"),
        "400 MiB declared, 50 MiB there": (gzip.compress(nii(noise(), **half)) + b"".join(press), "refused"),
        "50 MiB after the voxels": (gzip.compress(nii(noise())) + b"".join(press), "scan"),
        "400 MiB before the voxels": (gzip.compress(nii(noise(), vox_offset=2**28)) + b"".join(press), "refused"),
        "400 MiB declared, not gzipped": (nii(noise(), **half), "refused"),
    }
