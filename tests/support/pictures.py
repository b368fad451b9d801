"""Pictures written for tests."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from mpsams.imaging import UnreadableImage, raster

H, W = 20, 30


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(rows: list[bytes] | bytes, depth: int, colour: int, before: bytes = b"", w: int = W, h: int = H) -> bytes:
    """rows: of samples, or all of them already deflated."""
    body = rows if isinstance(rows, bytes) else zlib.compress(b"".join(b"\0" + row for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def png_array(values: np.ndarray, colour: int, before: bytes = b"") -> bytes:
    """8- or 16-bit samples, (H, W) or (H, W, C)."""
    big = values.astype(values.dtype.newbyteorder(">"))
    h, w = values.shape[:2]
    return png([row.tobytes() for row in big], 8 * values.dtype.itemsize, colour, before, w, h)


def tiff(
    strip: bytes, w: int, h: int, bits: tuple, photometric: int, order: str = "<", sample_format: int = 1,
    compression: int = 1, extra: dict | None = None, big: bool = False, next_page: bool = False,
) -> bytes:  # fmt: skip
    """One strip; extra: {tag: (type, values)}."""
    tags = {
        256: (4, [w]), 257: (4, [h]), 258: (3, list(bits)), 259: (3, [compression]), 262: (3, [photometric]),
        273: (4, [0]), 277: (3, [len(bits)]), 278: (4, [h]), 279: (4, [len(strip)]),
        339: (3, [sample_format] * len(bits)), **(extra or {}),
    }  # fmt: skip
    header, number, entry, pointer = (16, "Q", "HHQ", "Q") if big else (8, "H", "HHI", "I")
    room = struct.calcsize(order + pointer)
    tags[273] = (4, [header])
    body = strip + bytes(len(strip) % 2)
    directory = struct.pack(order + number, len(tags))
    for tag, (kind, values) in sorted(tags.items()):
        packed = b"".join(struct.pack(order + {1: "B", 3: "H", 4: "I", 7: "B"}[kind], v) for v in values)
        if len(packed) > room:
            where = header + len(body)
            body += packed + bytes(len(packed) % 2)
            packed = struct.pack(order + pointer, where)
        directory += struct.pack(order + entry, tag, kind, len(values)) + packed.ljust(room, b"\0")
    at = header + len(body)
    directory += struct.pack(order + pointer, at if next_page else 0)  # a page that is its own successor
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    magic += struct.pack(order + "HH", 8, 0) if big else b""
    return magic + struct.pack(order + pointer, at) + body + directory


def tiff_array(values: np.ndarray, photometric: int = 1, order: str = "<", **more) -> bytes:
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bands = values.shape[2] if values.ndim == 3 else 1
    strip = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if more.get("compression") == 8:
        strip = zlib.compress(strip)
    bits = (8 * values.dtype.itemsize,) * bands
    return tiff(strip, values.shape[1], values.shape[0], bits, photometric, order, form, **more)


def exif(orientation: int, order: str = ">") -> bytes:
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg(image: Image.Image, app1: bytes = b"", **options) -> bytes:
    plain = encode(image, "JPEG", **options)
    return plain[:2] + (b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 if app1 else b"") + plain[2:]


def encode(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(top: int, shape: tuple = (H, W), dtype: type = np.uint8) -> np.ndarray:
    """Random samples up to and including top, which is taken at least once."""
    values = np.random.default_rng(top).integers(0, top, shape, endpoint=True)
    values.flat[-1] = top
    return values.astype(dtype)


def pixels(data: bytes) -> np.ndarray:
    return raster.grey(data)[0]


GREY8, GREY16 = noise(255), noise(65535, dtype=np.uint16)
RGB8, RGB16 = noise(255, (H, W, 3)), noise(65535, (H, W, 3), np.uint16)
RGBA8, RGBA16 = noise(255, (H, W, 4)), noise(65535, (H, W, 4), np.uint16)
PALETTE = noise(255, (256, 3))


def drop_tags(data: bytes, unwanted: set[int]) -> bytes:
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    kept = [entry for entry in entries if struct.unpack("<H", entry[:2])[0] not in unwanted]
    return data[:at] + struct.pack("<H", len(kept)) + b"".join(kept) + bytes(4)


def one_sentence(message: str) -> None:
    for word in ("PNG", "JPEG", "TIFF"):
        assert word in message
    assert message[0].isupper() and message.endswith(".") and ". " not in message and len(message) < 250


def good_files() -> dict[str, bytes]:
    grey, rgb = Image.fromarray(GREY8), Image.fromarray(RGB8)
    return {
        "png8": png_array(GREY8, 0),
        "png16": png_array(GREY16, 0, chunk(b"tRNS", b"\0\0")),
        "png rgba": png_array(RGBA8, 6, chunk(b"eXIf", exif(6))),
        "png palette": png_array(GREY8, 3, chunk(b"PLTE", PALETTE.tobytes()) + chunk(b"tRNS", bytes(range(99)))),
        "apng": encode(grey, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY8)]),
        "jpeg": jpeg(grey, b"Exif\0\0" + exif(8)),
        "jpeg rgb": jpeg(rgb, progressive=True),
        "jpeg cmyk": jpeg(rgb.convert("CMYK")),
        "tiff": tiff_array(GREY8, 0, extra={274: (3, [5])}),
        "tiff mm": tiff_array(RGB8, 2, ">"),
        "tiff float": tiff_array(GREY8.astype(np.float32), compression=8),
        "bigtiff": tiff_array(GREY16, big=True, compression=8),
        "tiff palette": tiff_array(GREY8, 3, extra={320: (3, [int(v) * 257 for v in PALETTE.T.reshape(-1)])}),
        "tiff by pillow": encode(grey, "TIFF"),  # directory first, pixels last
        "tiff lzw": encode(rgb, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encode(rgb, "TIFF", compression="jpeg"),
        "tiff group4": encode(grey.convert("1"), "TIFF", compression="group4"),
    }


GOOD = good_files()


def outcome(data: bytes) -> str:
    """ "scan" or "refused"; whatever else is raised passes through and fails the test."""
    try:
        grey_hw = pixels(data)
    except UnreadableImage as error:
        one_sentence(str(error))
        return "refused"
    assert grey_hw.dtype == np.float32 and grey_hw.ndim == 2
    assert grey_hw.min() >= 0 and grey_hw.max() <= 1
    return "scan"


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that ask for much, with what becomes of them. The 6000 tags cost plain Pillow 2.3 GB."""
    rows = [bytes(64)] * 64
    press = zlib.compressobj(9)  # piece by piece: building a bomb must not raise the peak itself
    deflated = b"".join(press.compress(bytes(2**20)) for _ in range(150)) + press.flush()
    megabyte = zlib.compress(bytes(2**20 - 1), 9)
    amplified = b"II*\0" + struct.pack("<I", 8 + 200_000) + bytes(200_000)
    amplified += struct.pack("<H", 6009) + b"".join(struct.pack("<HHII", 40000 + i, 7, 200_000, 8) for i in range(6000))
    grey = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 64), (279, 4096)]
    amplified += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in grey) + bytes(4)
    a_jpeg = jpeg(Image.new("L", (64, 64)), progressive=True)
    app1 = b"\xff\xe1" + struct.pack(">H", 65000 + 8) + b"Exif\0\0"
    scans = a_jpeg.index(b"\xff\xda")
    size = {"w": 64, "h": 64}
    strips = tiff(bytes(64), 64, 64, (8,), 1, extra={278: (4, [1]), 279: (4, [64])}) + bytes(2**22)
    for tag in (273, 279):
        strips = strips.replace(struct.pack("<HHI", tag, 4, 1), struct.pack("<HHI", tag, 4, 2**20))
    tags = {322: (4, [16384]), 323: (4, [16384]), 324: (4, [8]), 325: (4, [len(deflated)])}
    tile = tiff(deflated, 64, 64, (8,), 1, compression=8, extra=tags)
    return {
        "PNG of 144 MP": (png(deflated, 8, 0, w=12000, h=12000), "refused"),
        "PNG of 92 MP, where Pillow only warns": (png(deflated, 8, 0, w=9600, h=9600), "refused"),
        "PNG of 4 GP": (png(deflated, 8, 0, w=65535, h=65535), "refused"),
        "PNG data that inflates to 150 MiB": (png(deflated, 8, 0, **size), "scan"),
        "PNG zTXt": (png(rows, 8, 0, chunk(b"zTXt", b"a\0\0" + megabyte) * 63, **size), "scan"),
        "PNG iTXt": (png(rows, 8, 0, chunk(b"iTXt", b"a\0\1\0\0\0" + megabyte) * 63, **size), "scan"),
        "PNG iCCP": (png(rows, 8, 0, chunk(b"iCCP", b"a\0\0" + deflated), **size), "scan"),
        "PNG EXIF of 6000 tags on one value": (png(rows, 8, 0, chunk(b"eXIf", amplified), **size), "scan"),
        "PNG of 300000 empty chunks": (png(rows, 8, 0, chunk(b"IDAT", b"") * 300_000, **size), "refused"),
        "TIFF of 6000 tags on one value": (amplified, "scan"),
        "TIFF of a million strips": (strips, "refused"),
        "TIFF of 3.6 GP": (tiff(bytes(64), 60000, 60000, (8,), 1), "refused"),
        "TIFF strip that inflates to 150 MiB": (tiff(deflated, 64, 64, (8,), 1, compression=8), "scan"),
        "TIFF tile of 268 MP": (drop_tags(tile, {273, 278, 279}), "refused"),
        "JPEG of 4 GP": (a_jpeg.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 65535, 65535)), "refused"),
        "JPEG of 4 MB of EXIF": (a_jpeg[:2] + (app1 + bytes(65000)) * 60 + a_jpeg[2:], "scan"),
        "JPEG of many scans": (a_jpeg[:-2] + a_jpeg[scans:-2] * 2000 + a_jpeg[-2:], "refused"),
    }  # fmt: skip
