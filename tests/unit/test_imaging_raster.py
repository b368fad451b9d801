"""PNG, JPEG and TIFF reading: exact values against files written by hand here, and hostile bytes."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams.imaging import UnreadableImage, pixels_only, raster
from tests.support.pictures import (  # noqa: F401
    GOOD,
    GREY8,
    GREY16,
    PALETTE,
    RGB8,
    RGB16,
    RGBA8,
    RGBA16,
    H,
    W,
    bombs,
    chunk,
    drop_tags,
    encode,
    exif,
    good_files,
    jpeg,
    noise,
    one_sentence,
    outcome,
    pixels,
    png,
    png_array,
    tiff,
    tiff_array,
)

# Files by hand: PNG and TIFF from their specifications, so that Pillow is not its own judge.


def packed_rows(levels: np.ndarray, depth: int) -> list[bytes]:
    bits = (levels[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def luminance(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 in 16-bit fixed point, 0 to 255."""
    r, g, b = np.moveaxis(rgb.astype(np.int64), -1, 0)
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


def check(data: bytes, expected: np.ndarray, words: str, tolerance: float = 1e-6) -> None:
    grey_hw, origin = raster.grey(data)
    assert origin == words
    assert grey_hw.dtype == np.float32 and grey_hw.flags.c_contiguous
    assert grey_hw.shape == expected.shape
    np.testing.assert_allclose(grey_hw, expected, rtol=0, atol=tolerance)


SIZE = f"{W} × {H} pixels"
LA8, LA16 = noise(255, (H, W, 2)), noise(65535, (H, W, 2), np.uint16)


# PNG


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits(depth):
    levels = noise(2**depth - 1)
    name = "black and white" if depth == 1 else "grey"
    check(png(packed_rows(levels, depth), depth, 0), levels / (2**depth - 1), f"PNG, {depth}-bit {name}, {SIZE}")


def test_png_grey_and_colour():
    check(png_array(GREY8, 0), GREY8 / 255, f"PNG, 8-bit grey, {SIZE}")
    check(png_array(RGB8, 2), luminance(RGB8) / 255, f"PNG, 8-bit RGB, {SIZE}")
    check(png_array(RGB16, 2), luminance(RGB16 >> 8) / 255, f"PNG, 16-bit RGB, upper 8 bits read, {SIZE}")


def test_png_transparency_is_black():
    over_black = LA8[..., 0] * (LA8[..., 1] / 255) / 255
    check(png_array(LA8, 4), over_black, f"PNG, 8-bit grey with transparency, {SIZE}")
    over_black = luminance(RGBA8[..., :3]) * (RGBA8[..., 3] / 255) / 255
    check(png_array(RGBA8, 6), over_black, f"PNG, 8-bit RGB with transparency, {SIZE}")
    over_black = (LA16[..., 0] >> 8) * ((LA16[..., 1] >> 8) / 255) / 255
    check(png_array(LA16, 4), over_black, f"PNG, 16-bit grey with transparency, upper 8 bits read, {SIZE}")
    high = RGBA16 >> 8
    over_black = luminance(high[..., :3]) * (high[..., 3] / 255) / 255
    check(png_array(RGBA16, 6), over_black, f"PNG, 16-bit RGB with transparency, upper 8 bits read, {SIZE}")


def test_png_palette():
    grey = luminance(PALETTE)[GREY8] / 255
    check(png_array(GREY8, 3, chunk(b"PLTE", PALETTE.tobytes())), grey, f"PNG, 8-bit palette, {SIZE}")
    alphas = noise(255, (256,))
    before = chunk(b"PLTE", PALETTE.tobytes()) + chunk(b"tRNS", alphas.tobytes())
    check(png_array(GREY8, 3, before), grey * alphas[GREY8] / 255, f"PNG, 8-bit palette, {SIZE}")
    one_clear = chunk(b"PLTE", PALETTE.tobytes()) + chunk(b"tRNS", b"\xff\xff\0")
    check(png_array(GREY8, 3, one_clear), grey * (GREY8 != 2), f"PNG, 8-bit palette, {SIZE}")


def test_png_transparent_colour_is_black():
    key = int(GREY8[3, 3])
    expected = GREY8 * (key != GREY8) / 255
    check(png_array(GREY8, 0, chunk(b"tRNS", struct.pack(">H", key))), expected, f"PNG, 8-bit grey, {SIZE}")
    key = int(GREY16[3, 3])
    expected = GREY16 * (key != GREY16) / 65535
    check(png_array(GREY16, 0, chunk(b"tRNS", struct.pack(">H", key))), expected, f"PNG, 16-bit grey, {SIZE}")
    key = RGB8[3, 3]
    expected = luminance(RGB8) * (key != RGB8).any(-1) / 255
    check(png_array(RGB8, 2, chunk(b"tRNS", struct.pack(">HHH", *map(int, key)))), expected, f"PNG, 8-bit RGB, {SIZE}")


@pytest.mark.parametrize(
    "top, bits", [(200, 8), (255, 8), (256, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16), (65535, 16)]
)
def test_16_bits_fill_the_smallest_even_depth_that_holds_them(top, bits):
    values = noise(top, dtype=np.uint16)
    words = "" if bits == 16 else f" using {bits} bits"
    check(png_array(values, 0), values / (2**bits - 1), f"PNG, 16-bit grey{words}, {SIZE}")
    check(tiff_array(values), values / (2**bits - 1), f"TIFF, 16-bit grey{words}, {SIZE}")


def test_animated_png_gives_its_first_picture():
    frames = [Image.fromarray(GREY8), Image.fromarray(255 - GREY8)]
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    check(data, GREY8 / 255, f"PNG, 8-bit grey, {SIZE}, first of several pictures")


def test_interlaced_png_by_pillow_agrees():
    adam7 = Image.open(io.BytesIO(png_array(GREY8, 0)))
    check(encode(adam7, "PNG", optimize=True), GREY8 / 255, f"PNG, 8-bit grey, {SIZE}")


# TIFF


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [1, 8])
def test_tiff_grey_in_both_byte_orders_and_both_polarities(order, compression):
    more = {"order": order, "compression": compression}
    words = f"TIFF, 8-bit grey, {SIZE}"
    check(tiff_array(GREY8, **more), GREY8 / 255, words)
    check(tiff_array(GREY8, photometric=0, **more), 1 - GREY8 / 255, words)
    words = f"TIFF, 16-bit grey, {SIZE}"
    check(tiff_array(GREY16, **more), GREY16 / 65535, words)
    check(tiff_array(GREY16, photometric=0, **more), 1 - GREY16 / 65535, words)
    floats = np.linspace(-3, 5, H * W, dtype=np.float32).reshape(H, W)
    words = f"TIFF, 32-bit grey scaled from -3 to 5, {SIZE}"
    if order == ">" and compression == 8:  # Pillow 12 swaps the bytes twice: better refused than wrong
        assert outcome(tiff_array(floats, **more)) == "refused"
        assert outcome(tiff_array(noise(999, dtype=np.int16), **more)) == "refused"
        return
    check(tiff_array(floats, **more), (floats + 3.0) / 8, words)
    check(tiff_array(floats, photometric=0, **more), 1 - (floats + 3.0) / 8, words)


@pytest.mark.filterwarnings("ignore")
def test_bigtiff_in_the_order_that_pillow_knows():
    for values, full in [(GREY8, 255), (GREY16, 65535)]:
        words = f"TIFF, {8 * values.dtype.itemsize}-bit grey, {SIZE}"
        for photometric, expected in [(1, values / full), (0, 1 - values / full)]:
            for compression in (1, 8):
                check(tiff_array(values, photometric, big=True, compression=compression), expected, words)
    assert outcome(tiff_array(GREY8, order=">", big=True)) == "refused"


@pytest.mark.parametrize("order", "<>")
def test_tiff_colour_bits_and_signs(order):
    check(tiff_array(RGB8, 2, order), luminance(RGB8) / 255, f"TIFF, 8-bit RGB, {SIZE}")
    expected = luminance(RGB16 >> 8) / 255
    for compression in (1, 8):
        data = tiff_array(RGB16, 2, order, compression=compression)
        check(data, expected, f"TIFF, 16-bit RGB, upper 8 bits read, {SIZE}")
    expected = LA8[..., 0] * (LA8[..., 1] / 255) / 255
    straight = {338: (3, [2])}
    check(tiff_array(LA8, 1, order, extra=straight), expected, f"TIFF, 8-bit grey with transparency, {SIZE}")
    expected = (255 - LA8[..., 0]) * (LA8[..., 1] / 255) / 255
    check(tiff_array(LA8, 0, order, extra=straight), expected, f"TIFF, 8-bit grey with transparency, {SIZE}")
    expected = luminance(RGBA8[..., :3]) * (RGBA8[..., 3] / 255) / 255
    check(tiff_array(RGBA8, 2, order, extra=straight), expected, f"TIFF, 8-bit RGB with transparency, {SIZE}")
    colours = {320: (3, [int(v) * 257 for v in PALETTE.T.reshape(-1)])}
    check(tiff_array(GREY8, 3, order, extra=colours), luminance(PALETTE)[GREY8] / 255, f"TIFF, 8-bit palette, {SIZE}")
    bits = noise(1)
    for photometric, expected in [(1, bits), (0, 1 - bits)]:
        data = tiff(b"".join(packed_rows(bits, 1)), W, H, (1,), photometric, order)
        check(data, expected, f"TIFF, 1-bit black and white, {SIZE}")
    signed = (noise(3000, dtype=np.int16) - 1024).astype(np.int16)
    signed.flat[0] = -1024
    words = f"TIFF, 16-bit grey scaled from -1024 to 1976, {SIZE}"
    check(tiff_array(signed, 1, order), (signed + 1024.0) / 3000, words)
    signed = (noise(200) - 100.0).astype(np.int8)
    signed.flat[0] = -100
    check(tiff_array(signed, 1, order), (signed + 100.0) / 200, f"TIFF, 8-bit grey scaled from -100 to 100, {SIZE}")


def test_tiff_unsigned_32_bits_do_not_wrap():
    values = noise(4_000_000_000, dtype=np.uint32)
    values.flat[0] = 0
    check(tiff_array(values), values / 4e9, f"TIFF, 32-bit grey scaled from 0 to 4e+09, {SIZE}")


def test_tiff_of_one_value_is_black_and_of_no_number_is_refused():
    assert not pixels(tiff_array(np.full((H, W), 7, np.float32))).any()
    for bad in (np.nan, np.inf, -np.inf):
        values = np.zeros((H, W), np.float32)
        values[2, 3] = bad
        with pytest.raises(UnreadableImage, match="infinite or not numbers; .* PNG, JPEG or TIFF"):
            pixels(tiff_array(values))
    extremes = np.full((H, W), -3e38, np.float32)
    extremes[0, 0] = 3e38
    assert pixels(tiff_array(extremes)).sum() == 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "group4", "jpeg"])
def test_tiff_compressions(compression):
    source = Image.fromarray(GREY8).convert("1" if compression == "group4" else "L")
    expected = np.asarray(source).astype(float) / (1 if compression == "group4" else 255)
    found = pixels(encode(source, "TIFF", compression=compression))
    assert np.abs(found - expected).max() <= (0.2 if compression == "jpeg" else 1e-6)


def test_tiff_tiles_beyond_the_edge():
    tiles = np.zeros((2, 2, 16, 16), np.uint8)
    for (row, column), tile in ((rc, tiles[rc]) for rc in np.ndindex(2, 2)):
        part = GREY8[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        tile[: part.shape[0], : part.shape[1]] = part
    tags = {322: (3, [16]), 323: (3, [16]), 324: (4, [8 + 256 * i for i in range(4)]), 325: (4, [256] * 4)}
    data = tiff(tiles.tobytes(), W, H, (8,), 1, extra=tags)
    check(drop_tags(data, {273, 278, 279}), GREY8 / 255, f"TIFF, 8-bit grey, {SIZE}")


def test_many_pages_give_the_first():
    pages = [Image.fromarray(GREY8), Image.fromarray(255 - GREY8)]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    check(data, GREY8 / 255, f"TIFF, 8-bit grey, {SIZE}, first of several pictures")
    check(tiff_array(GREY8, next_page=True), GREY8 / 255, f"TIFF, 8-bit grey, {SIZE}, first of several pictures")


# JPEG and orientation


def test_jpeg_kinds():
    smooth = np.linspace(0, 255, W, dtype=np.uint8)[None].repeat(H, 0)
    colour = np.stack([smooth, smooth[:, ::-1], np.full_like(smooth, 128)], -1)
    best = {"quality": 100, "subsampling": 0}
    check(jpeg(Image.fromarray(smooth), **best), smooth / 255, f"JPEG, 8-bit grey, {SIZE}", 3 / 255)
    for options in ({}, {"progressive": True}, {"keep_rgb": True}):
        data = jpeg(Image.fromarray(colour), **best, **options)
        check(data, luminance(colour) / 255, f"JPEG, 8-bit RGB, {SIZE}", 4 / 255)
    cmyk = Image.fromarray(np.dstack([255 - colour, np.zeros_like(smooth)]), "CMYK")
    check(jpeg(cmyk, **best), luminance(colour) / 255, f"JPEG, 8-bit CMYK, {SIZE}", 4 / 255)


def test_jpeg_padding_and_adobe_colours():
    smooth = np.linspace(0, 255, W, dtype=np.uint8)[None].repeat(H, 0)
    colour = np.stack([smooth, smooth[:, ::-1], np.full_like(smooth, 128)], -1)
    data = jpeg(Image.fromarray(colour), quality=100, subsampling=0, keep_rgb=True)
    data = data[:2] + b"\xff" * 5 + data[2:]
    assert b"JFIF" not in data and b"Adobe" in data and b"R\x11" in data  # components called R, G and B
    for name, number in zip(b"RGB", (1, 2, 3), strict=True):
        data = data.replace(bytes([name, 0x11]), bytes([number, 0x11])).replace(bytes([name, 0]), bytes([number, 0]), 1)
    check(data, luminance(colour) / 255, f"JPEG, 8-bit RGB, {SIZE}", 4 / 255)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", "<>")
def test_orientation_is_applied(orientation, order):
    coordinates = {  # stored pixel (row, column) -> where the EXIF specification shows it
        2: lambda r, c: (r, W - 1 - c), 3: lambda r, c: (H - 1 - r, W - 1 - c), 4: lambda r, c: (H - 1 - r, c),
        5: lambda r, c: (c, r), 6: lambda r, c: (c, H - 1 - r), 7: lambda r, c: (W - 1 - c, H - 1 - r),
        8: lambda r, c: (W - 1 - c, r),
    }.get(orientation, lambda r, c: (r, c))  # fmt: skip
    shape = (W, H) if 5 <= orientation <= 8 else (H, W)
    expected = np.zeros(shape)
    for r, c in np.ndindex(H, W):
        expected[coordinates(r, c)] = GREY8[r, c] / 255
    size = f"{shape[1]} × {shape[0]} pixels"
    check(png_array(GREY8, 0, chunk(b"eXIf", exif(orientation, order))), expected, f"PNG, 8-bit grey, {size}")
    data = tiff_array(GREY8, order=order, extra={274: (3, [orientation])})
    check(data, expected, f"TIFF, 8-bit grey, {size}")
    data = jpeg(Image.fromarray(GREY8), b"Exif\0\0" + exif(orientation, order), quality=100)
    check(data, expected, f"JPEG, 8-bit grey, {size}", 4 / 255)


def test_broken_exif_is_upright():
    for broken in (b"", b"II", b"II*\0\xff\xff\xff\xff", exif(6)[:20], b"II+\0\x08\0\0\0" + b"\xff" * 8, b"junk" * 9):
        check(png_array(GREY8, 0, chunk(b"eXIf", broken)), GREY8 / 255, f"PNG, 8-bit grey, {SIZE}")


def test_pillow_sees_no_metadata(monkeypatch):
    """Nor another plugin: a JPEG with a multi-picture index would be handed to MPO."""
    seen, real = [], Image.open

    def watched(file, formats):
        seen.append(file.getvalue())
        assert len(formats) == 1 and formats[0] in ("PNG", "JPEG", "TIFF")
        return real(file, formats=formats)

    monkeypatch.setattr(raster.Image, "open", watched)
    name = b"DOE^JANE"
    notes = chunk(b"tEXt", b"Comment\0" + name) + chunk(b"eXIf", exif(1) + name) + chunk(b"prVt", name)
    pixels(png_array(GREY8, 0, notes))
    pixels(jpeg(Image.fromarray(GREY8), b"Exif\0\0" + exif(1) + name, comment=name))
    both = [Image.fromarray(GREY8), Image.fromarray(255 - GREY8)]
    pair = encode(both[0], "MPO", save_all=True, append_images=both[1:], quality=100)
    check(pair, GREY8 / 255, f"JPEG, 8-bit grey, {SIZE}", 4 / 255)
    assert len(seen) == 3 and not any(name in data for data in seen)
    monkeypatch.undo()
    tagged = tiff_array(GREY8, extra={270: (7, list(name)), 700: (7, list(name))})
    kept = Image.open(pixels_only.tiff(tagged).file).tag_v2
    assert 256 in kept and 270 not in kept and 700 not in kept


# Refusals


OTHERS = {
    "empty": (b"", "file is empty"),
    "DICOM": (bytes(128) + b"DICM" + bytes(200), "no picture"),
    "NIfTI": (struct.pack("<i", 348) + bytes(400), "no picture"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
    "HTML": (b"<!doctype html><script>alert(1)</script>", "no picture"),
    "zip": (b"PK\x03\x04" + bytes(60), "no picture"),
    "text": ("only text, with ünïcode".encode(), "no picture"),
    "one byte": (b"\x89", "no picture"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "no picture"),
    **{form: (encode(Image.fromarray(GREY8), form), "no picture") for form in ("GIF", "BMP", "PPM", "WEBP")},
    "PNG without a header": (png_array(GREY8, 0)[:8] + chunk(b"tEXt", b"a\0") + png_array(GREY8, 0)[8:], "PNG is"),
    "PNG signature": (b"\x89PNG\r\n\x1a\n", "PNG is damaged"),
    "JPEG signature": (b"\xff\xd8\xff", "JPEG is damaged"),
    "TIFF signature": (b"II*\0", "TIFF is damaged"),
    "TIFF directory beyond the end": (b"MM\0*\xff\xff\xff\xff", "TIFF is damaged"),
    "BigTIFF directory beyond the end": (b"II+\0\x08\0\0\0" + b"\xff" * 8, "TIFF is damaged"),
    "LAB": (tiff_array(RGB8, 8), "TIFF is damaged, incomplete or of a rare kind"),
    "float16": (tiff_array(GREY8.astype(np.float16)), "TIFF is damaged, incomplete or of a rare kind"),
    "too small": (png_array(noise(9, (15, 40)), 0), "is 40 × 15 pixels; .*sides from 16 pixels"),
    "too long": (png_array(noise(9, (16, 321)), 0), "is 321 × 16 pixels; .*at most 20 times"),
    "too long upright": (png_array(noise(9, (321, 16)), 0), "is 16 × 321 pixels; .*at most 20 times"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_refusals_say_what_was_wrong_and_what_is_allowed(name):
    data, words = OTHERS[name]
    with pytest.raises(UnreadableImage, match=words) as caught:
        raster.read(data, "ct")
    one_sentence(str(caught.value))


def test_limits_are_reached_but_not_passed(monkeypatch):
    assert pixels(png_array(noise(9, (16, 320)), 0)).shape == (16, 320)
    monkeypatch.setattr(raster, "MAX_PIXELS", H * W)
    assert pixels(png_array(GREY8, 0)).shape == (H, W)
    monkeypatch.setattr(raster, "MAX_PIXELS", H * W - 1)
    with pytest.raises(UnreadableImage, match=f"is {SIZE}; .*million pixels"):
        pixels(png_array(GREY8, 0))
    monkeypatch.undo()
    data = png_array(GREY8, 0)
    monkeypatch.setattr(raster, "MAX_BYTES", len(data))
    pixels(data)
    with pytest.raises(UnreadableImage, match="larger than .* MiB") as caught:
        pixels(data + b"\0")
    one_sentence(str(caught.value))


def test_a_scan_of_a_picture_lies_as_it_is_shown():
    scan = raster.read(png_array(GREY8, 0), "mri")
    assert (scan.modality, scan.origin) == ("mri", f"PNG, 8-bit grey, {SIZE}")
    assert scan.voxels_xyz.shape == (W, H, 1) and scan.planes == ("axial",)
    assert scan.affine is None and scan.spacing() is None and scan.source is None
    assert np.array_equal(scan.slice(0), raster.grey(png_array(GREY8, 0))[0])
    assert scan.slice(0)[3, 7] == scan.voxels_xyz[7, 3, 0] == np.float32(GREY8[3, 7]) / np.float32(255)


# Hostile bytes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GOOD)
def test_flipped_bits(name):
    """48 files each, 768 in all; half of the flips fall into the headers."""
    rng, data = np.random.default_rng(list(name.encode())), GOOD[name]
    assert outcome(data) == "scan"
    found = set()
    for _ in range(48):
        broken = bytearray(data)
        reach = len(data) if rng.random() < 0.5 else 64
        start = 0 if data[:2] not in (b"II", b"MM") else -reach  # a TIFF has its directory at the end
        for at in rng.integers(0, reach, rng.integers(1, 5)):
            broken[start + at if start else at] ^= 1 << rng.integers(8)
        found.add(outcome(bytes(broken)))
    assert "refused" in found


@pytest.mark.parametrize("name", GOOD)
def test_truncation(name):
    data = GOOD[name]
    step = max(1, len(data) // 24)
    for length in {*range(1, 12), *range(12, len(data) - 1, step), *range(len(data) - 14, len(data) - 1)}:
        assert outcome(data[:length]) == "refused", length


@pytest.mark.filterwarnings("ignore")
def test_lying_png_headers():
    """The checksum is right, so only sense can tell."""
    rng, data = np.random.default_rng(5), GOOD["png8"]
    found = []
    for _ in range(200):
        fields = [W, H, 8, 0, 0, 0, 0]
        which = int(rng.integers(7))
        sides, others = [0, 1, 16, 29, 31, 4096, 2**31 - 1, 2**32 - 1], [0, 1, 2, 3, 4, 6, 16, 31, 255]
        fields[which] = int(rng.choice(others if which > 1 else sides))
        found.append(outcome(data[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", *fields)) + data[33:]))
    assert found.count("refused") > 100


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["tiff", "tiff mm", "bigtiff", "tiff lzw", "tiff jpeg"])
def test_lying_tiff_directories(name):
    rng, data = np.random.default_rng(list(name.encode())), GOOD[name]
    order, big = ("<" if data[:2] == b"II" else ">"), b"+" in data[2:4]
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    entry, first = ("HHQQ", at + 8) if big else ("HHII", at + 2)
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    found = []
    for _ in range(60):
        where = first + int(rng.integers(count)) * struct.calcsize(order + entry)
        fields = list(struct.unpack_from(order + entry, data, where))
        which = int(rng.integers(4))
        large = [2**31 - 1, 2**32 - 1] if which > 1 else []
        fields[which] = int(rng.choice([0, 1, 2, 3, 5, 7, 12, 16, 322, 1000, 65535, *large]))
        broken = bytearray(data)
        struct.pack_into(order + entry, broken, where, *fields)
        found.append(outcome(bytes(broken)))
    assert "refused" in found


def test_tiff_values_beyond_the_end():
    """Not found by Pillow, as what `_tiff` appends is there."""
    data = GOOD["tiff palette"]
    at = data.index(struct.pack("<HHI", 320, 3, 768)) + 8
    assert outcome(data[:at] + struct.pack("<I", len(data) - 1500) + data[at + 4 :]) == "refused"


def test_lying_jpeg_size():
    data = GOOD["jpeg"]
    at = data.index(b"\xff\xc0") + 5
    for h, w in [(0, 30), (20, 0), (65535, 65535), (21, 65000), (15, 30)]:
        assert outcome(data[:at] + struct.pack(">HH", h, w) + data[at + 4 :]) == "refused"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_bombs_stay_small():
    """All in one fresh process, whose peak is its own; each line is name, outcome, growth of the peak in MiB."""
    code = (
        "import re, warnings; warnings.simplefilter('ignore')\n"
        "from tests.support.pictures import bombs, outcome, GOOD\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        "rest = bombs(); [outcome(data) for data in GOOD.values()]\n"
        "for name, (data, _) in rest.items():\n"
        "    before = peak()\n"
        "    print(name, outcome(data), peak() - before, sep='|', flush=True)\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert {name: found for name, found, _ in lines} == {name: expected for name, (_, expected) in bombs().items()}
    assert max(float(growth) for *_, growth in lines) < 40, done.stdout


def test_reading_changes_no_global_state():
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = list(warnings.filters)
        assert outcome(png([bytes(9)], 8, 0, w=9600, h=9600)) == "refused"
        assert warnings.filters == state
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


# Masks


DISC = np.hypot(*(np.mgrid[:H, :W] - np.array([9, 14])[:, None, None])) < 6


@pytest.mark.parametrize("lesion", [1, 255])
def test_mask_of_labels(lesion):
    mask = raster.mask_of(png_array(DISC * np.uint8(lesion), 0), (H, W)).lesion
    assert mask.dtype == bool and np.array_equal(mask, DISC)
    assert np.array_equal(raster.mask_of(png_array(DISC * np.uint16(lesion), 0), (H, W)).lesion, DISC)
    assert np.array_equal(raster.mask_of(tiff_array(DISC * np.uint8(lesion)), (H, W)).lesion, DISC)


def test_mask_of_several_labels_and_of_colour():
    labels = DISC.astype(np.uint8)
    labels[9, 10:13] = 3
    assert np.array_equal(raster.mask_of(png_array(labels, 0), (H, W)).lesion, DISC)
    labels[0, 0] = 4
    assert (
        raster.mask_of(png_array(labels, 0), (H, W)).lesion.sum() == DISC.sum() + 1
    )  # four levels, the last of labels
    labels[0, 0] = 0
    red_and_white = np.where(labels[..., None] == 3, 255, DISC[..., None] * np.array([90, 0, 0])).astype(np.uint8)
    assert np.array_equal(raster.mask_of(png_array(red_and_white, 2), (H, W)).lesion, DISC)


def test_mask_with_soft_edges():
    assert np.array_equal(raster.mask_of(jpeg(Image.fromarray(DISC * np.uint8(255)), quality=90), (H, W)).lesion, DISC)
    ramp = np.linspace(0, 200, W).astype(np.uint8)[None].repeat(H, 0)
    assert np.array_equal(raster.mask_of(png_array(ramp, 0), (H, W)).lesion, ramp > 100)


def test_mask_without_lesion_and_all_lesion():
    assert not raster.mask_of(png_array(np.zeros((H, W), np.uint8), 0), (H, W)).lesion.any()
    assert raster.mask_of(png_array(np.full((H, W), 255, np.uint8), 0), (H, W)).lesion.all()


def test_mask_of_another_size_names_both():
    with pytest.raises(UnreadableImage, match="mask is 30 × 20 pixels but its image is 20 × 30 pixels") as caught:
        raster.mask_of(png_array(GREY8, 0), (W, H))
    one_sentence(str(caught.value))
    with pytest.raises(UnreadableImage, match="file is empty"):
        raster.mask_of(b"", (H, W))


def test_written_mask_comes_back():
    data = raster.write_mask(DISC)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (W, H))
        assert np.array_equal(np.asarray(image), DISC * np.uint8(255))
    assert np.array_equal(raster.mask_of(data, (H, W)).lesion, DISC)
    with Image.open(io.BytesIO(raster.write_mask(DISC * np.uint8(3)))) as image:
        assert np.array_equal(np.asarray(image), DISC * np.uint8(3))  # of a label map the values
    for wrong in (DISC.astype(np.int16), DISC[None]):
        with pytest.raises(ValueError, match="allowed is bool"):
            raster.write_mask(wrong)
