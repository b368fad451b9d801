"""Shared parts of the tests of opening."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
from PIL import Image

from tests.support.nifti_files import nii, noise

GREY = noise((20, 30), np.uint8, 255)


def picture(form: str = "PNG", values: np.ndarray = GREY) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, form)
    return file.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return file.getvalue()


def overlapping(times: int, name: str = "a") -> bytes:
    """One compressed megabyte, listed many times."""
    data = zipped({name: bytes(2**20)})
    start, stop = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    end = data[stop : stop + 8] + struct.pack("<HHI", times, times, (stop - start) * times) + data[stop + 16 :]
    return data[:start] + data[start:stop] * times + end


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that ask for much, with how they are refused."""
    volume = nii(noise(), dim=[3, 1024, 512, 400, 1, 1, 1, 1])
    return {
        "a megabyte listed 2000 times": (overlapping(2000), "This zip file is too large unpacked"),
        "a megabyte listed 20000 times": (overlapping(20_000), "This zip file holds 20000 files"),
        "a listing of 7 MiB": (overlapping(20_000, "a" * 300), "This zip file is damaged"),
        "a gzip that declares 400 MiB": (
            zipped({"a": gzip.compress(volume + bytes(2**24))}),
            "This NIfTI file is damaged",
        ),
    }
