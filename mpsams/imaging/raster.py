"""PNG, JPEG and TIFF bytes to grey pixels, and lesion masks from and to such bytes.

Uploads are untrusted. `pixels_only` copies out what carries pixels and nothing else; then the size is
judged from the header; only then is anything decoded.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from . import Scan, UnreadableImage, mask_colours, mask_values, pixels_only
from .mask_values import LesionMask

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 4096 * 4096
MIN_SIDE = 16
MAX_ASPECT = 20

_OPENS = "a picture may be PNG, JPEG or TIFF"
_SIZES = (
    f"allowed are PNG, JPEG and TIFF of up to {MAX_PIXELS / 1e6:.1f} million pixels, "
    f"sides from {MIN_SIDE} pixels, and at most {MAX_ASPECT} times as long as wide"
)
_COLOURS = {
    "1": "black and white", "P": "palette", "PA": "palette with transparency", "LA": "grey with transparency",
    "RGB": "RGB", "RGBA": "RGB with transparency", "CMYK": "CMYK",
}  # fmt: skip


class _Decoded(NamedTuple):
    """A decoded picture and the meaning of its samples; mode: Pillow's."""

    form: str
    mode: str
    bits: int
    picture: pixels_only.Picture


def kind(data: bytes) -> str | None:
    """Return the format by the first bytes: "PNG", "JPEG" or "TIFF", or None for any other."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "TIFF" if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) else None


def read(data: bytes, modality: str) -> Scan:
    """Read the first picture of a PNG, JPEG or TIFF as a flat Scan of that modality; see ``grey``."""
    grey_hw, origin = grey(data)
    return Scan(grey_hw.T[:, :, None], modality, origin)


def grey(data: bytes) -> tuple[np.ndarray, str]:
    """Decode the first picture of a PNG, JPEG or TIFF, told by content, as float32 (H, W) in [0, 1], and describe it.

    Colour becomes ITU-R 601 luminance as in Pillow's "L", transparent becomes black, EXIF orientation is
    applied, MinIsWhite is inverted. What is 1.0:
      up to 8 bits      all bits set
      16-bit unsigned   the smallest of 8, 10, 12, 14, 16 bits, all set, that holds the image's maximum,
                        for scanners store 12 bits in 16; of 16-bit *colour* Pillow keeps the upper 8 bits
      any other type    the image's own maximum, and its minimum is 0.0 (signed, 32-bit, float)

    Raises UnreadableImage, and nothing else, whatever the bytes.
    """
    decoded, (grey_hw, alpha_hw) = _decode(data, _channels)
    reduced = ", upper 8 bits read" if decoded.bits == 16 and grey_hw.dtype == np.uint8 else ""
    grey_hw, scale = _to_unit(grey_hw)
    if decoded.picture.white_is_zero:
        grey_hw = 1 - grey_hw
    if alpha_hw is not None:
        grey_hw *= alpha_hw / np.float32(255)
    grey_hw = _turn_upright(grey_hw, decoded.picture.orientation)
    form, mode = decoded.form, decoded.mode
    colour = "grey with transparency" if form == "PNG" and data[25] == 4 else _COLOURS.get(mode, "grey")
    pages = ", first of several pictures" if decoded.picture.several else ""
    return grey_hw, f"{form}, {decoded.bits}-bit {colour}{reduced}{scale}, {_size(grey_hw.shape)}{pages}"


def mask_of(data: bytes, shape_hw: tuple[int, int]) -> LesionMask:
    """Read a truth mask, bool (H, W), True = lesion, as `grey` reads files, with notes; see ``mask_values.lesion``.

    Colours: see ``mask_colours``; the numbers of a palette's colours may be labels. What is transparent is background;
    of a picture that is black wherever it is not transparent, what is not transparent is lesion.

    Raises UnreadableImage as `grey` does, if the size is not shape_hw, the image's (height, width), and for values that
    are no mask's.
    """
    decoded, (samples, index_hw, alpha_hw) = _decode(data, _samples)
    notes: tuple[str, ...] = ()
    if index_hw is not None and mask_colours.are_labels(samples, index_hw):
        samples, alpha_hw = index_hw if alpha_hw is None else np.where(alpha_hw > 0, index_hw, 0), None
    elif samples.ndim == 3:
        samples, notes = mask_colours.channel(samples, index_hw)
    if decoded.picture.white_is_zero:
        samples = _white(samples) - samples
    if alpha_hw is not None and alpha_hw.min() < 255:
        if samples[alpha_hw > 0].max(initial=0) == 0:
            samples, notes = alpha_hw, (*notes, "The mask is black; what is not transparent in it was taken as lesion.")
        else:
            samples = np.where(alpha_hw == 255, samples, samples * (alpha_hw / 255))
    mask_hw = _turn_upright(samples, decoded.picture.orientation)
    if mask_hw.shape != tuple(shape_hw):
        raise UnreadableImage(
            f"The mask is {_size(mask_hw.shape)} but its image is {_size(shape_hw)}; "
            "a mask is a PNG, JPEG or TIFF with exactly the image's width and height."
        )
    found = mask_values.lesion([Scan(mask_hw.T[:, :, None], "mri", "")])
    labels_hw = None if found.labels is None else found.labels[:, :, 0].T
    return LesionMask(found.lesion[:, :, 0].T, notes + found.notes, labels_hw)


def write_mask(mask_hw: np.ndarray) -> bytes:
    """Write an (H, W) mask as 8-bit grey PNG without geometry: of a bool 255 and 0, of a uint8 label map its values."""
    if mask_hw.dtype not in (bool, np.uint8) or mask_hw.ndim != 2:
        raise ValueError(f"mask is {mask_hw.dtype} of shape {mask_hw.shape}; allowed is bool or uint8, (H, W)")
    png = io.BytesIO()
    Image.fromarray(mask_hw.astype(np.uint8) * (255 if mask_hw.dtype == bool else 1)).save(png, "PNG")
    return png.getvalue()


def _decode(data: bytes, channels: Callable[[Image.Image, int], Any]) -> tuple[_Decoded, Any]:
    """Decode the first picture in a file; return it and what ``channels(image, TIFF's sample format)`` makes of it.

    Raises UnreadableImage, and nothing else, whatever the bytes.
    """
    if not data:
        raise UnreadableImage(f"The file is empty; {_OPENS}.")
    if len(data) > MAX_BYTES:
        raise UnreadableImage(f"The file is larger than the {MAX_BYTES >> 20} MiB allowed; {_OPENS}.")
    form = kind(data)
    if form is None:
        raise UnreadableImage(f"By its content, whatever its name, this is no picture; {_OPENS}.")
    try:
        picture = {"PNG": pixels_only.png, "JPEG": pixels_only.jpeg, "TIFF": pixels_only.tiff}[form](data)
        image = Image.open(picture.file, formats=(form,))
        tags: Any = image.tag_v2 if form == "TIFF" else {}  # type: ignore[attr-defined]
        for at, size in ((273, 279), (324, 325)):  # strips, tiles
            if any(start + n > len(data) for start, n in zip(tags.get(at, ()), tags.get(size, ()), strict=False)):
                raise ValueError("pixels cut off")
        if image.mode in "IF" and tags.prefix == b"MM" and image.tile[0].codec_name == "libtiff":
            raise ValueError("libtiff put these bytes in order and Pillow 12 would swap them again")
        _refuse_size(
            *image.size, tile=int(tags.get(pixels_only.TILE_WIDTH, 0)) * int(tags.get(pixels_only.TILE_LENGTH, 0))
        )
        image.load()
        samples = channels(image, tags.get(pixels_only.SAMPLE_FORMAT, (1,))[0])
        bits = {"PNG": data[24], "JPEG": 8, "TIFF": max(tags.get(pixels_only.BITS, (1,)))}[form]
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"The image has far too many pixels; {_SIZES}.") from error
    except Exception as error:
        # Broken files make Pillow raise OSError, SyntaxError, ValueError, KeyError, struct.error, zlib.error,
        # OverflowError, MemoryError and more, undocumented; and the copying below IndexError or struct.error.
        message = f"This {form} is damaged, incomplete or of a rare kind; {_OPENS} of 8 or 16 bits."
        raise UnreadableImage(message) from error
    return _Decoded(form, image.mode, bits, picture), samples


def _refuse_size(width: int, height: int, tile: int) -> None:
    """Refuse a picture by its size. tile: area of a TIFF tile, which a false header makes larger than the image."""
    if tile > MAX_PIXELS:
        raise UnreadableImage(f"The image is in tiles of far too many pixels; {_SIZES}.")
    long, short = max(width, height), min(width, height)
    if long * short > MAX_PIXELS or short < MIN_SIDE or long > MAX_ASPECT * short:
        raise UnreadableImage(f"The image is {_size((height, width))}; {_SIZES}.")


def _size(shape_hw: tuple[int, int]) -> str:
    return f"{shape_hw[1]} × {shape_hw[0]} pixels"


def _channels(image: Image.Image, sample_format: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return grey samples (H, W) in the file's own type and range; alpha (H, W) from 0, hidden, to 255, or None."""
    if image.mode[0] in "IF":  # more than 8 bits
        grey_hw, key = np.asarray(image), image.info.get("transparency")
        alpha_hw = None if key is None else np.uint8(255) * (grey_hw != key)
    else:
        if image.mode in ("P", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
        alpha_hw = np.asarray(image.getchannel("A")) if "A" in image.getbands() else None
        grey_hw = np.asarray(image.convert("L"))
    # Pillow hands out two TIFF types under the other sign
    other_sign = {("uint8", 2): np.int8, ("int32", 1): np.uint32}.get((grey_hw.dtype.name, sample_format))
    return (grey_hw if other_sign is None else grey_hw.view(other_sign)), alpha_hw


def _samples(image: Image.Image, sample_format: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Samples (H, W) of a grey image as in ``_channels``, else (H, W, 3); a palette's indices; alpha; or None."""
    palette = image.mode in ("P", "PA")
    if not palette and image.mode in ("1", "L", "LA", "La") or image.mode[0] in "IF":
        grey_hw, alpha_hw = _channels(image, sample_format)
        return grey_hw, None, alpha_hw
    index_hw = np.asarray(image.getchannel(0)) if palette else None
    if palette or "transparency" in image.info:
        image = image.convert("RGBA")
    alpha_hw = np.asarray(image.getchannel("A")) if "A" in image.getbands() else None
    return np.asarray(image.convert("RGB")), index_hw, alpha_hw


def _white(grey_hw: np.ndarray) -> np.ndarray:
    """Return the sample that is white, in its own type: all of the bits in use, or the highest of any other type."""
    if grey_hw.dtype.kind == "u" and grey_hw.dtype.itemsize <= 2:
        return grey_hw.dtype.type(255 if grey_hw.dtype.itemsize == 1 else 2 ** _bits(grey_hw) - 1)
    return grey_hw.max()


def _bits(grey_hw: np.ndarray) -> int:
    """Return the fewest of 8, 10, 12, 14 and 16 bits that hold the highest sample."""
    return next(bits for bits in (8, 10, 12, 14, 16) if grey_hw.max() < 2**bits)


def _to_unit(grey_hw: np.ndarray) -> tuple[np.ndarray, str]:
    """Scale samples to [0, 1], float32 (H, W), by the rule in `grey`, with a note where there is a choice in it."""
    low, high = float(grey_hw.min()), float(grey_hw.max())
    if grey_hw.dtype.kind == "u" and grey_hw.dtype.itemsize <= 2:
        bits = 8 if grey_hw.dtype.itemsize == 1 else _bits(grey_hw)
        words = f" using {bits} bits" if bits < 8 * grey_hw.dtype.itemsize else ""
        return grey_hw.astype(np.float32) / np.float32(2**bits - 1), words
    if not np.isfinite([low, high]).all():
        raise UnreadableImage(f"Some pixels are infinite or not numbers; {_OPENS} with finite values.")
    unit_hw = grey_hw.astype(np.float64)
    unit_hw -= low
    unit_hw /= (high - low) or 1.0
    return unit_hw.astype(np.float32), f" scaled from {low:g} to {high:g}"


def _turn_upright(grey_hw: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        grey_hw = grey_hw.T
    if orientation in (2, 3, 6, 7):
        grey_hw = grey_hw[:, ::-1]
    if orientation in (3, 4, 7, 8):
        grey_hw = grey_hw[::-1]
    return np.ascontiguousarray(grey_hw)
