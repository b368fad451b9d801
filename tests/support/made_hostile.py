"""Hostile uploads made from a seed: damaged, lying, exploding and disguised files, each with a name that may be strange
too.

All begin with valid files of phantoms, in which SECRET stands wherever a name could. Equal seeds make equal files.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from mpsams import imaging
from mpsams.annotation import coco as _coco
from mpsams.datasets import phantom
from mpsams.imaging import Scan
from mpsams.imaging.dicom import annotation_seg
from tests.support import made_volumes
from tests.support.dicom_files import compressed, enhanced, instance, save, series
from tests.support.dicom_files import noise as dicom_noise
from tests.support.nifti_files import header_of, nii

SECRET = "SECRET"
MIB = 2**20
NAMES = (
    f"../../../../tmp/{SECRET}.png",
    f"..\\..\\{SECRET}.png",
    f"/etc/{SECRET}",
    f"{SECRET}\0.png",
    f"{SECRET}\n.png",
    f"{SECRET}\r\nX-Header: 1.nii",
    SECRET * 60 + ".nii.gz",
    f"{SECRET}-Änne-杏-\U0001f9e0.png",
    f"{SECRET}\u202egnp.exe",
    "CON",
    "nul.png",
    "COM1.dcm",
    f".{SECRET}",
    "..",
    ".",
    " ",
    "",
    f"{SECRET}; rm -rf $HOME.png",
    f"<img src=x onerror=alert('{SECRET}')>.png",
    f"{SECRET}.png.exe",
    "-rf",
    f"{SECRET}%2e%2e%2f.png",
    "{0.__class__}",
    "%s%n",
    f"{SECRET}.nii.gz",
    f"{SECRET}.dcm",
    f"{SECRET}.zip",
    f"{SECRET}.json",
    f"{SECRET}_mask.png",
    "flat_mask.png",
    "volume_seg.nii.gz",
    f"{'a' * 250}.png",
)
NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    15,
    16,
    17,
    127,
    255,
    256,
    4095,
    4096,
    4097,
    32767,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
FLOATS = (0.0, -1.0, 1e-38, 1e38, -1e38, 3e-45, float("nan"), float("inf"), float("-inf"), 352.5, -352.0, 1e30, 2.0**31)

Maker = Callable[[random.Random], bytes]


def made(seed: int, number: int) -> list[tuple[str, bytes]]:
    """That many uploads of a seed; the kinds take turns."""
    return [one(seed, index) for index in range(number)]


def one(seed: int, index: int) -> tuple[str, bytes]:
    """The name and the bytes of one of them."""
    source = random.Random(f"{seed}.{index}")
    data = FAMILIES[index % len(FAMILIES)](source)
    return (source.choice(NAMES) if source.random() < 0.5 else f"{SECRET}-{index}.bin"), data


def family(index: int) -> str:
    """The kind of an upload."""
    return FAMILIES[index % len(FAMILIES)].__name__


# What is valid


@cache
def scans() -> dict[str, Scan]:
    """Images for masks: a picture, a NIfTI volume and a DICOM series, by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "flat").write_bytes(png())
        (folder / "volume").write_bytes(nifti(compress=False))
        found = {kind: imaging.read([folder / kind]) for kind in ("flat", "volume")}
        return found | {"ct": imaging.read(series(folder, dicom_noise((4, 32, 40))))}


@cache
def grey() -> np.ndarray:
    """A phantom, uint8 (H, W), and not square."""
    return np.ascontiguousarray((phantom.ultrasound(18)[0][:224, :256] * 255).round().astype(np.uint8)[::2, ::2])


@cache
def png(mode: str = "L") -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET, zip=True)
    image = Image.fromarray(grey().astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey()).convert(mode)
    return _saved(image, "PNG", pnginfo=info)


@cache
def valid() -> dict[str, bytes]:
    """Files that open, or fit as masks, one of each kind."""
    image, sixteen = Image.fromarray(grey()), Image.fromarray(grey().astype(np.uint16) * 16)
    floats = Image.fromarray(grey().astype(np.float32) / 7 - 3)
    found = {f"png {mode}": png(mode) for mode in ("L", "1", "P", "LA", "RGB", "RGBA", "I;16")}
    found["mask"] = _saved(image.point(lambda grey: 255 * (grey > 128)), "PNG")
    found |= {
        "jpeg": _saved(image, "JPEG", comment=SECRET),
        "progressive": _saved(image.convert("RGB"), "JPEG", progressive=True),
    }
    found |= {
        f"tiff {way}": _saved(image, "TIFF", compression=way, description=SECRET)
        for way in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")
    }
    found |= {
        "tiff 16": _saved(sixteen, "TIFF"),
        "tiff float": _saved(floats, "TIFF"),
        "tiff pages": _saved(image, "TIFF", save_all=True, append_images=[image] * 3),
    }
    found |= {
        "nifti": nifti(False),
        "nifti gz": nifti(True),
        "nifti 2": _nifti(version=2),
        "nifti big": _nifti(order=">"),
        "nifti float": _nifti(np.float32),
    }
    found |= {
        "nifti mask": _gzipped(
            nii(np.asarray(scans()["volume"].voxels_xyz > 0).astype(np.uint8), scans()["volume"].affine)
        )
    }
    found |= {f"dicom {name}": _dicom(ds, syntax) for name, ds, syntax in _instances()}
    found |= {"seg": annotation_seg.write(scans()["ct"], _ball("ct"), "lesion", ""), "coco": coco()}
    with tempfile.TemporaryDirectory() as folder:
        slices = [path.read_bytes() for path in series(Path(folder), dicom_noise((4, 32, 40)))]
    found["zip series"] = zipped({f"{SECRET}/{number}": data for number, data in enumerate(slices)})
    found["zip masks"] = zipped(
        {"masks/flat_mask.png": found["mask"], "masks/volume.nii.gz": found["nifti mask"], "annotations.json": coco()}
    )
    return found


@cache
def nifti(compress: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = made_volumes.save(
            Path(folder) / ("volume.nii.gz" if compress else "volume.nii"), made_volumes.body(0)[0], "PSR"
        )
        data = bytearray(gzip.decompress(path.read_bytes()) if compress else path.read_bytes())
    data[148:154] = SECRET.encode()
    return _gzipped(bytes(data)) if compress else bytes(data)


@cache
def coco() -> bytes:
    return _coco.document([_coco.Marked(name, _ball(name), scan.affine, ("lesion",)) for name, scan in scans().items()])


def _ball(name: str) -> np.ndarray:
    mask_xyz = np.zeros(scans()[name].voxels_xyz.shape, bool)
    mask_xyz[4:12, 5:11] = True
    return mask_xyz


def _instances() -> list[tuple]:
    frames = dicom_noise((3, 34, 40))
    small = dicom_noise((34, 40), dtype=np.uint8, low=0, high=200)
    places = [(-10, -20, 30 + 2.5 * k) for k in range(3)]
    return [
        ("slice", instance(frames[0], "1"), ExplicitVRLittleEndian),
        ("implicit", instance(frames[0], "1"), ImplicitVRLittleEndian),
        ("cine", instance(frames, "2"), ExplicitVRLittleEndian),
        ("enhanced", enhanced(frames, places), ExplicitVRLittleEndian),
        ("colour", instance(np.stack([small] * 3, -1), "3"), ExplicitVRLittleEndian),
        *(
            (f"coded {number}", compressed(instance(frames, "4"), syntax), syntax)
            for number, syntax in enumerate((RLELossless, JPEGLSLossless, JPEG2000Lossless))
        ),
    ]


def _dicom(ds, syntax: str) -> bytes:
    ds.SOPInstanceUID = "1.2.3.4.9"  # for compression makes one up
    with tempfile.TemporaryDirectory() as folder:
        return save(ds, Path(folder) / "x", syntax).read_bytes()


def _nifti(dtype: type = np.int16, **more) -> bytes:
    return nii(dicom_noise((20, 26, 7), dtype=dtype), **more)


def _saved(image: Image.Image, form: str, **more) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **more)
    return file.getvalue()


def _gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these members, in their order, always of the same date."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, data in members.items():
            out.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


# Damage


def some(source: random.Random, *kinds: str) -> bytearray:
    """A valid file whose kind begins so."""
    return bytearray(valid()[source.choice([kind for kind in valid() if kind.startswith(kinds or "")])])


def cut(source: random.Random) -> bytes:
    data = some(source)
    return bytes(
        data[
            : source.choice(
                (
                    source.randrange(64),
                    source.randrange(1024),
                    source.randrange(len(data)),
                    len(data) - source.randrange(1, 20),
                )
            )
        ]
    )


def flipped(source: random.Random) -> bytes:
    return _flipped(source, some(source), 1.0)


def flipped_at_the_head(source: random.Random) -> bytes:
    return _flipped(source, some(source), 0.1)


def _flipped(source: random.Random, data: bytearray, part: float) -> bytes:
    for _ in range(source.choice((1, 2, 8, 64))):
        data[source.randrange(max(1, min(len(data), max(200, int(len(data) * part)))))] ^= 1 << source.randrange(8)
    return bytes(data)


def overwritten(source: random.Random) -> bytes:
    data, length = some(source), source.choice((1, 4, 32, 500))
    at = source.randrange(len(data))
    data[at : at + length] = source.choice((b"\0" * length, b"\xff" * length, source.randbytes(length), b""))
    return bytes(data)


def spliced(source: random.Random) -> bytes:
    one, other = some(source), some(source)
    return bytes(one[: source.randrange(len(one))] + other[source.randrange(len(other)) :])


def bytes_as_numbers(source: random.Random) -> bytes:
    data = some(source)
    for _ in range(source.choice((1, 3))):
        at, number = source.randrange(0, min(len(data) - 8, 2000), 2), source.choice(NUMBERS)
        struct.pack_into(source.choice(("<I", ">I")), data, at, number)
    return bytes(data)


def wrong(source: random.Random) -> bytes:
    text = f"{SECRET} " * source.randrange(1, 400)
    return source.choice(
        (
            b"",
            b"\0",
            b"%PDF-1.7\n" + text.encode(),
            f"<!doctype html><script>alert('{SECRET}')</script>".encode(),
            b"MZ" + source.randbytes(3000),
            b"\x7fELF" + source.randbytes(3000),
            text.encode(),
            source.randbytes(source.randrange(1, 5000)),
            f"<svg xmlns='http://www.w3.org/2000/svg'>{text}</svg>".encode(),
            _saved(Image.fromarray(grey()), "GIF"),
            _saved(Image.fromarray(grey()), "BMP"),
            _saved(Image.fromarray(grey()), "WEBP"),
            b"\x80\x04\x95" + text.encode(),
            b"\0\0\0\x18ftypmp42" + source.randbytes(3000),
            b"%!PS-Adobe-3.0 EPSF\n" + text.encode(),
            b"ustar" * 300,
            b"7z\xbc\xaf\x27\x1c" + source.randbytes(900),
            b"\x89HDF\r\n\x1a\n" + source.randbytes(900),
            b"\xef\xbb\xbf" + text.encode(),
            text.encode("utf-16"),
            b"\n" * 100_000,
            b"[" * 100_000,
            b"\xff" * 100_000,
        )
    )


def signature_only(source: random.Random) -> bytes:
    begins = (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"II*\0",
        b"MM\0*",
        b"II+\0\x08\0\0\0",
        b"\x5c\1\0\0",
        b"\0\0\1\x5c",
        b"\x1c\2\0\0",
        b"\x1f\x8b\x08\0",
        b"PK\3\4",
        b"PK\5\6",
        bytes(128) + b"DICM",
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
        b'{"images":',
    )
    return source.choice(begins) + source.choice(
        (source.randbytes(source.randrange(4000)), bytes(source.randrange(4000)))
    )


def polyglot(source: random.Random) -> bytes:
    one, other, page = some(source, "png", "jpeg", "tiff", "nifti"), some(source, "zip"), b"<script>alert(1)</script>"
    dicom = some(source, "dicom")
    dicom[:128] = source.choice(
        (bytes(one[:128]).ljust(128), b"MZ".ljust(128, b"\x90"), page.ljust(128), b"PK\3\4".ljust(128))
    )
    return bytes(
        source.choice(
            (
                one + other,
                page + one,
                b"%PDF-1.4\n" + one,
                b"MZ" + one,
                dicom,
                other + one,
                b"GIF89a" + other,
                one + page,
                dicom + other,
            )
        )
    )


# Pictures


def chunk(name: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, bits: int, colour: int, pixels: bytes, *before: bytes, interlace: int = 0) -> bytes:
    """A PNG that says whatever it likes of its compressed pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@cache
def zeros(size: int) -> bytes:
    """So many zeros, deflated by zlib."""
    pack = zlib.compressobj(9)
    return b"".join(
        [*(pack.compress(bytes(MIB)) for _ in range(size // MIB)), pack.compress(bytes(size % MIB)), pack.flush()]
    )


def png_bomb(source: random.Random) -> bytes:
    width, height = source.choice(
        (
            (12000, 12000),
            (65535, 65535),
            (2**31 - 1, 1),
            (4096, 4096),
            (4096, 4096),
            (3000, 5000),
            (50_000, 16),
            (16, 300),
        )
    )
    bits, colour = source.choice(((8, 0), (16, 0), (8, 2), (16, 6), (8, 3), (1, 0)))
    palette = [chunk(b"PLTE", bytes(range(240)))] * (colour == 3)
    return png_of(
        width, height, bits, colour, zeros(source.choice((1, 100, 200)) * MIB), *palette, interlace=source.randrange(2)
    )


def png_lies(source: random.Random) -> bytes:
    width, height = (source.choice((*NUMBERS[:15], -1)) & 0xFFFFFFFF for _ in range(2))
    bits, colour = source.choice((0, 1, 2, 3, 4, 8, 16, 32, 255)), source.choice((0, 1, 2, 3, 4, 5, 6, 7, 255))
    return png_of(
        width, height, bits, colour, zlib.compress(source.randbytes(9000)), interlace=source.choice((0, 1, 2))
    )


def png_parts(source: random.Random) -> bytes:
    bomb = source.choice((b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"sPLT", b"tEXt", b"acTL", b"fdAT"))
    parts = [chunk(bomb, b"x\0\0" + zeros(64 * MIB))] * source.choice((1, 20)) + [
        chunk(b"tRNS", source.randbytes(source.randrange(9)))
    ]
    parts += [chunk(b"tEXt", SECRET.encode())] * source.choice((0, 70_000)) + [
        chunk(b"PLTE", source.randbytes(source.randrange(900)))
    ]
    source.shuffle(parts)
    return png_of(64, 64, 8, source.choice((0, 2, 3, 4)), zlib.compress(bytes(64 * 64 * 3 + 64)), *parts)


def narrow(source: random.Random) -> bytes:
    sides = source.choice(((1, 1), (15, 15), (16, 16), (16, 321), (17, 340), (1, 65500), (2000, 100), (4096, 205)))
    return _saved(
        Image.new(source.choice(("L", "RGB", "1")), sides[:: source.choice((1, -1))]),
        source.choice(("PNG", "JPEG", "TIFF")),
    )


def jpeg_lies(source: random.Random) -> bytes:
    data = some(source, "jpeg", "progressive")
    at = next(data.find(bytes((0xFF, mark))) for mark in (0xC0, 0xC2) if data.find(bytes((0xFF, mark))) >= 0)
    match source.randrange(4):
        case 0:
            struct.pack_into(">HH", data, at + 5, source.choice(NUMBERS[:16]), source.choice(NUMBERS[:16]))
        case 1:
            data[at + 9] = source.randrange(256)
        case 2:
            scan = data.find(b"\xff\xda")
            data[scan:scan] = data[scan:] * source.choice((2, 60))
        case _:
            struct.pack_into(">H", data, at + 2, source.choice((0, 1, 2, 9, 65535)))
    return bytes(data)


def directory(entries: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    """A TIFF directory: tag -> type, count, value."""
    packed = b"".join(
        struct.pack("<HHII", tag, kind, count & 0xFFFFFFFF, value & 0xFFFFFFFF)
        for tag, (kind, count, value) in sorted(entries.items())
    )
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def _entries(width: int, height: int, **more) -> dict:
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 400),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, width * height),
    }


def tiff_lies(source: random.Random) -> bytes:
    entries = _entries(64, 48)
    for _ in range(source.choice((1, 2, 4))):
        tag = source.choice((*entries, 322, 323, 324, 325, 338, 339, 317, 284, 320, 347, 292, 530))
        entries[tag] = (
            source.choice((1, 2, 3, 4, 5, 12, 16, 99)),
            source.choice((0, 1, 1, 1, *NUMBERS)),
            source.choice(NUMBERS),
        )
    return (b"II*\0" + struct.pack("<I", 8) + directory(entries, source.choice((0, 8, 2**31)))).ljust(
        400, b"\0"
    ) + source.randbytes(64 * 48)


def tiff_bomb(source: random.Random) -> bytes:
    side, way = source.choice(
        ((4096, 8), (4096, 5), (4000, 32946), (40_000, 8), (4096, 32773), (4096, 34925), (4096, 50000))
    )
    entries = _entries(side, side) | {
        259: (3, 1, way),
        258: (3, 1, source.choice((8, 16, 32, 64))),
        339: (3, 1, source.choice((1, 2, 3))),
        279: (4, 1, len(zeros(100 * MIB))),
    }
    if source.random() < 0.4:
        entries |= {
            322: (4, 1, source.choice((16, 4096, 2**20))),
            323: (4, 1, 4096),
            324: (4, 1, 400),
            325: (4, 1, 2**16),
        }
    return (b"II*\0" + struct.pack("<I", 8) + directory(entries)).ljust(400, b"\0") + zeros(100 * MIB)


def tiff_pages(source: random.Random) -> bytes:
    page, count = len(directory(_entries(20, 20))), source.choice((1, 3000, 20_000))
    pages = b"".join(
        directory(_entries(20, 20), 800 + page * (k + 1) if k < count - 1 else source.choice((0, 800)))
        for k in range(count)
    )
    return b"II*\0" + struct.pack("<I", 800) + bytes(800 - 8) + pages


def tiff_values(source: random.Random) -> bytes:
    values = grey().astype(np.float32)
    values.flat[source.randrange(values.size)] = source.choice(FLOATS)
    return _saved(Image.fromarray(values), "TIFF")


# Volumes


def nifti_lies(source: random.Random) -> bytes:
    version = source.choice((1, 1, 2))
    header = header_of((20, 26, 7), np.int16, version=version)
    for _ in range(source.choice((1, 1, 2, 4))):
        name = source.choice(
            (
                "dim",
                "dim",
                "datatype",
                "bitpix",
                "vox_offset",
                "scl_slope",
                "scl_inter",
                "pixdim",
                "srow_x",
                "srow_y",
                "srow_z",
                "quatern_b",
                "qoffset_x",
                "qform_code",
                "sform_code",
                "xyzt_units",
                "magic",
                "intent_code",
                "cal_max",
                "slice_end",
            )
        )
        kind, shape = header[name].dtype, header[name].shape
        if kind.kind == "S":
            header[name] = source.choice((b"ni1", b"n+2", b"", b"SECR"))
            continue
        with np.errstate(all="ignore"):
            value = (
                np.array(source.choice(FLOATS) if kind.kind == "f" else source.choice((*NUMBERS, -1, -32768)))
                .astype(np.int64 if kind.kind != "f" else kind)
                .astype(kind)
            )
        if shape:
            header[name][source.randrange(shape[0])] = value
        else:
            header[name] = value
    data = header.binaryblock + bytes(4) + dicom_noise((20, 26, 7)).tobytes("F")
    return _gzipped(data) if source.random() < 0.4 else data


def nifti_bomb(source: random.Random) -> bytes:
    """Zeros without end behind a header that asks for all, a part, or far more of them."""
    shape = source.choice(
        (
            (512, 512, 100),
            (1024, 1024, 200),
            (512, 512, 2000),
            (4096, 4096, 30),
            (32767,) * 3,
            (16, 16, 4096, 400),
            (64, 64, 64),
        )
    )
    data = header_of((20, 26, 7), np.int16)
    data["dim"][: len(shape) + 1] = (len(shape), *shape)
    head = data.binaryblock + bytes(4)
    return source.choice((_gzipped(head), head)) + gzip.compress(bytes(64 * MIB), 1, mtime=0) * source.choice(
        (1, 4, 17)
    )


def nifti_values(source: random.Random) -> bytes:
    voxels = dicom_noise((20, 26, 7)).astype(source.choice((np.float32, np.float64)))
    voxels[source.choice((..., 3, (..., 2)))] = source.choice(FLOATS)
    lengths = [source.choice((1.0, 1e-30, 1e30, 0, float("nan"))), 1, source.choice((1.0, 5000.0, -1e-4))]
    rows = np.diag(lengths)
    return nii(voxels, **{f"srow_{axis}": [*row, 0] for axis, row in zip("xyz", rows, strict=True)})


def gzips(source: random.Random) -> bytes:
    inner = some(source)
    for _ in range(source.choice((1, 2, 9))):
        inner = _gzipped(bytes(inner))
    bomb = gzip.compress(bytes(64 * MIB), 1, mtime=0) * 20
    return source.choice(
        (
            bytes(inner),
            bomb,
            _gzipped(bomb),
            bytes(inner) + source.randbytes(99),
            b"\x1f\x8b\x08\x1c\xff\xff" + bytes(inner),
        )
    )


# DICOM


def dicom_lies(source: random.Random) -> bytes:
    ds = (
        instance(dicom_noise((34, 40)), "1")
        if source.random() < 0.5
        else enhanced(dicom_noise((3, 34, 40)), [(0, 0, k) for k in range(3)])
    )
    wild = ("1e999", "nan", "-1", "0", "1e-300", "99999999999999", SECRET, "")
    for _ in range(source.choice((1, 1, 3))):
        keyword = source.choice(
            (
                "Rows",
                "Columns",
                "BitsAllocated",
                "BitsStored",
                "SamplesPerPixel",
                "PixelRepresentation",
                "NumberOfFrames",
                "PixelSpacing",
                "WindowWidth",
                "WindowCenter",
                "ImagePositionPatient",
                "ImageOrientationPatient",
                "RescaleSlope",
                "RescaleIntercept",
                "PhotometricInterpretation",
                "SOPClassUID",
                "SliceThickness",
            )
        )
        if keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation"):
            setattr(ds, keyword, source.choice(NUMBERS[:16]))
        else:
            count = {"PixelSpacing": 2, "ImagePositionPatient": 3, "ImageOrientationPatient": 6}.get(keyword, 1)
            data = "\\".join(source.choice(wild) for _ in range(count)).encode()
            ds._dict[ds[keyword].tag if keyword in ds else _tag(keyword)] = _raw(keyword, data + b" " * (len(data) % 2))
    ds.preamble = bytes(128)
    file = io.BytesIO()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(file, enforce_file_format=False, little_endian=True, implicit_vr=False)
    syntax = source.choice(
        (ExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, "1.2.3")
    ).encode()
    return file.getvalue().replace(ExplicitVRLittleEndian.encode() + b"\0", syntax.ljust(20, b"\0"))


def _tag(keyword: str):
    from pydicom.tag import Tag

    return Tag(keyword)


def _raw(keyword: str, value: bytes):
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import RawDataElement

    return RawDataElement(_tag(keyword), dictionary_VR(_tag(keyword)), len(value), value, 0, False, True)


def dicom_lengths(source: random.Random) -> bytes:
    data = some(source, "dicom", "seg")
    found = [hit.start() for hit in re.finditer(rb"[\x00-\x40\x7f]\x00[A-Z]{2}", bytes(data))] or [140]
    for _ in range(source.choice((1, 2))):
        at = source.choice(found)
        struct.pack_into(
            source.choice(("<H", "<I")),
            data,
            min(at + source.choice((4, 6, 8)), len(data) - 4),
            source.choice(NUMBERS[:15]),
        )
    return bytes(data)


def dicom_nested(source: random.Random) -> bytes:
    """Sequences in sequences, or very many elements, before the pixels."""
    item, end = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    begin = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 0xFFFFFFFF)
    deep, many = source.choice((50, 900, 5000, 100_000)), source.choice((50, 3000, 200_000))
    parts = source.choice(
        (
            (begin + item) * deep,
            begin + (item + end) * many,
            b"".join(struct.pack("<HH2sHH", 9, k % 65536, b"LO", 6, 6)[:8] + b"SECRET" for k in range(many)),
        )
    )
    data = some(source, "dicom slice")
    at = data.find(struct.pack("<HH", 0x28, 2))
    return bytes(data[:at]) + parts + (bytes(data[at:]) if source.random() < 0.7 else b"")


def dicom_coded(source: random.Random) -> bytes:
    """Compressed frames that are damaged, of another size, or something else."""
    data = some(source, "dicom coded")
    at = data.rfind(b"\xe0\x7f\x10\x00") + 12
    match source.randrange(3):
        case 0:
            for _ in range(source.choice((1, 5, 100))):
                data[source.randrange(at, len(data))] = source.randrange(256)
        case 1:
            for mark, where in ((b"\xff\x51", 6), (b"\xff\xf7", 5)):  # sizes in JPEG 2000 and JPEG-LS
                if (found := data.find(mark, at)) >= 0:
                    struct.pack_into(">H", data, found + where, source.choice((1, 40, 4000, 65535)))
        case _:
            del data[source.randrange(at, len(data)) :]
    return bytes(data)


def dicom_deflated(source: random.Random) -> bytes:
    data = bytes(some(source, "dicom slice")).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    return data[:330] + zeros(source.choice((1, 200)) * MIB)[2:]


def seg_lies(source: random.Random) -> bytes:
    import pydicom

    ds = pydicom.dcmread(io.BytesIO(valid()["seg"]))
    for _ in range(source.choice((1, 2))):
        match source.randrange(6):
            case 0:
                setattr(ds, source.choice(("Rows", "Columns", "BitsAllocated")), source.choice(NUMBERS[:16]))
            case 1:
                ds.NumberOfFrames = source.choice((-1, 0, 1, 4, 20_000, 2**31 - 1))
            case 2:
                ds.PixelData = source.randbytes(source.randrange(0, 4000, 2))
            case 3:
                ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence) * source.choice(
                    (0, 2, 500)
                )
            case 4:
                ds.SegmentSequence[0].SegmentLabel = source.choice((SECRET * 9, "", "\x1b[2J", "a\\b"))
            case _:
                ds.SegmentationType = source.choice(("FRACTIONAL", "LABELMAP", ""))
    file = io.BytesIO()
    ds.save_as(file)
    return file.getvalue()


# Zips


def zip_bomb(source: random.Random) -> bytes:
    """Members that unpack to far more than is allowed: alone, one in another, or all made of the same bytes."""
    inner = zeros_zipped()
    match source.randrange(3):
        case 0:
            return _overlapping(inner, source.choice((4, 6, 2000)))
        case 1:
            return zipped({f"{k}.zip": inner for k in range(30)}, zipfile.ZIP_STORED)
        case _:
            return zipped({"a.nii.gz": gzip.compress(bytes(64 * MIB), 1, mtime=0) * 17})


@cache
def zeros_zipped() -> bytes:
    return zipped({"a.nii": bytes(200 * MIB)})


def _overlapping(single: bytes, count: int) -> bytes:
    """A zip of one member whose table of contents names it many times."""
    at, size = (struct.unpack("<I", single[-22 + k : -18 + k])[0] for k in (16, 12))
    table = single[at : at + size] * count
    return (
        single[:at]
        + table
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, min(count, 65535), min(count, 65535), len(table), at, 0)
    )


def zip_names(source: random.Random) -> bytes:
    names = [
        *NAMES,
        "con",
        "a" * 60_000,
        "/" * 400,
        "a/" * 5000,
        f"C:\\{SECRET}",
        "//server/share/x",
        "../" * 900 + "x",
        "masks/flat.png",
        "flat_mask.png",
        "a\\..\\..\\b",
    ]
    source.shuffle(names)
    return zipped(
        {
            name.replace("\0", "\1"): bytes(some(source, "png", "mask", "nifti", "dicom"))
            for name in names[: source.choice((1, 3, 20))]
        }
    )


def zip_links(source: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name, kind in (
            ("link", 0o120777),
            ("device", 0o060666),
            ("pipe", 0o010666),
            ("socket", 0o140777),
            ("folder/", 0o040755),
            ("plain.png", 0o104777),
        ):
            member = zipfile.ZipInfo(name)
            member.external_attr, member.create_system = kind << 16, 3
            out.writestr(member, source.choice((b"/etc/passwd", b"../../" + SECRET.encode(), valid()["png L"])))
        if source.random() < 0.5:
            for _ in range(3):
                out.writestr("twice.png", valid()["mask"])
    return file.getvalue()


def zip_lies(source: random.Random) -> bytes:
    data = some(source, "zip")
    local, listed = data.find(b"PK\3\4"), data.find(b"PK\1\2")
    match source.randrange(5):
        case 0:
            struct.pack_into("<H", data, listed + 8, source.choice((1, 0x41, 0x800, 0xFFFF)))  # encrypted
        case 1:
            struct.pack_into("<H", data, listed + 10, source.choice((1, 9, 12, 14, 93, 99)))
        case 2:
            struct.pack_into(
                "<I",
                data,
                source.choice((listed + 20, listed + 24, listed + 42, local + 18, local + 22)),
                source.choice(NUMBERS),
            )
        case 3:
            struct.pack_into("<I", data, len(data) - source.choice((6, 10, 14)), source.choice(NUMBERS))
        case _:
            extra = struct.pack("<HHQQQ", 1, 24, 2**62, 2**62, source.choice((0, 2**62)))
            struct.pack_into("<II", data, listed + 20, 0xFFFFFFFF, 0xFFFFFFFF)
            struct.pack_into("<H", data, listed + 30, len(extra))
            length = struct.unpack_from("<H", data, listed + 28)[0]
            data[listed + 46 + length : listed + 46 + length] = extra
    return bytes(data)


def zip_many(source: random.Random) -> bytes:
    small = source.choice((b"", b"x", valid()["png 1"]))
    return zipped({f"{k}": small for k in range(source.choice((10, 300, 700, 4096, 4097, 9000)))}, zipfile.ZIP_STORED)


def zip_of_hostile(source: random.Random) -> bytes:
    makers = [cut, flipped, png_lies, nifti_lies, tiff_lies, dicom_lengths, coco_lies, seg_lies, wrong]
    return zipped(
        {
            f"{source.choice(('flat', 'masks/volume', 'ct', 'x'))}-{k}": source.choice(makers)(source)
            for k in range(source.randrange(1, 9))
        }
    )


# COCO


def coco_lies(source: random.Random) -> bytes:
    whole = json.loads(coco())
    wild = (
        None,
        True,
        -1,
        0,
        1.5,
        1e308,
        10**400,
        float("nan"),
        float("inf"),
        "",
        SECRET,
        "flat",
        [],
        {},
        [[]],
        [[1e308] * 6],
        [[0, 0, 1e5, 1e5, 0, 5]],
        "0" * 5000,
        "\udcff",
        "P" * 99,
        {"size": [112, 128], "counts": [-5, 14341]},
        {"size": [112, 128], "counts": [2**62, 2**62, 2**62]},
        {"size": [112, 128], "counts": "o" * 9999},
        [[0, 0, 0, 112] * 40_000],
        ["a"] * 9,
        "\x1b[2J",
    )
    for _ in range(source.choice((1, 1, 3))):
        at = source.choice(
            [
                whole,
                *(item for items in whole.values() for item in items),
                *(mark["segmentation"] for mark in whole["annotations"]),
            ]
        )
        at[source.choice(list(at))] = source.choice(wild)
        if not all(
            isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in whole.values()
        ) or not all(isinstance(mark.get("segmentation"), dict) for mark in whole["annotations"]):
            break
    return json.dumps(whole).encode()


def coco_bomb(source: random.Random) -> bytes:
    whole = json.loads(coco())
    match source.randrange(4):
        case 0:
            whole["annotations"] = whole["annotations"][:1] * source.choice((5000, 40_000))
        case 1:
            whole["annotations"][0]["segmentation"] = [[0, 0, 128, 112, 0, 112, 128, 0] * 30_000]
        case 2:
            return b'{"images":' * 50_000
        case _:
            return b'{"images":[],"annotations":[' + b"9" * source.choice((5000, 5 * MIB)) + b"]}"
    return json.dumps(whole).encode()


def named(source: random.Random) -> bytes:
    """Valid files of which only the name is strange."""
    return bytes(some(source))


FAMILIES: tuple[Maker, ...] = (
    cut,
    flipped,
    flipped_at_the_head,
    overwritten,
    spliced,
    bytes_as_numbers,
    wrong,
    signature_only,
    polyglot,
    png_bomb,
    png_lies,
    png_parts,
    narrow,
    jpeg_lies,
    tiff_lies,
    tiff_bomb,
    tiff_pages,
    tiff_values,
    nifti_lies,
    nifti_bomb,
    nifti_values,
    gzips,
    dicom_lies,
    dicom_lengths,
    dicom_nested,
    dicom_coded,
    dicom_deflated,
    seg_lies,
    zip_bomb,
    zip_names,
    zip_links,
    zip_lies,
    zip_many,
    zip_of_hostile,
    coco_lies,
    coco_bomb,
    named,
)

# families of which every upload is refused as an image, with the reason
NO_IMAGES = {
    "wrong": "text, programs and formats that are not read",
    "signature_only": "the first bytes of a format, then random bytes or zeros",
    "seg_lies": "a segmentation, which is a mask",
    "zip_bomb": "more than may be unpacked",
    "coco_lies": "annotations without images",
    "coco_bomb": "annotations without images",
}
# families of which every upload can be opened as an image, with the reason
IMAGES = {"tiff_pages": "the first page is valid, and only that one is read"}
