"""Pictures made from tensors: contact sheets, heat maps, and the layers of the app's SVG pictures.

Axes: B batch, H x W pixels or cells. Raster pictures are uint8, (H, W) grey or (H, W, 3). An SVG layer
is a path in cell units (x to the right, y down), so a mask of patches and one of pixels are drawn alike.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from mpsams.transforms import Box

# Anchors of a black - purple - orange - pale ramp, rising evenly in lightness: readable without colour vision.
_RAMP = np.array(
    [
        (4, 4, 12),
        (40, 16, 84),
        (98, 26, 110),
        (158, 44, 98),
        (212, 74, 66),
        (243, 126, 26),
        (250, 193, 52),
        (252, 252, 170),
    ]
)


def grey(image_hw: np.ndarray) -> np.ndarray:
    """Convert (H, W) floats in [0, 1] to uint8 (H, W, 3)."""
    return np.repeat((np.clip(image_hw, 0, 1) * 255).round().astype(np.uint8)[:, :, None], 3, axis=2)


def save_sheet(columns: dict[str, Tensor], path: Path, gap: int = 4) -> None:
    """Save named columns of images, float (B, 1, H, W) in [0, 1] each, as one PNG; nothing for no columns."""
    if not columns:
        return
    images = [
        np.concatenate([np.pad(x, gap, constant_values=1.0) for x in t[:, 0].float().cpu().numpy()])
        for t in columns.values()
    ]
    Image.fromarray(grey(np.concatenate(images, axis=1))).save(path)


def heat(values_hw: np.ndarray, top: float = 1.0) -> np.ndarray:
    """Colour (H, W) floats as uint8 (H, W, 3): black at 0, purple and orange, pale yellow from ``top`` on."""
    if not top > 0:
        raise ValueError(f"top {top} must be positive")
    at = np.clip(np.asarray(values_hw) / top, 0, 1) * (len(_RAMP) - 1)
    stops = np.arange(len(_RAMP))
    return np.stack([np.interp(at, stops, _RAMP[:, c]) for c in range(3)], axis=2).round().astype(np.uint8)


def heat_uri(values_hw: np.ndarray, top: float = 1.0) -> str:
    """Return ``heat`` as a data URI of 256 colours, which is drawn sooner and is smaller than one of all colours."""
    picture = Image.fromarray((np.clip(np.asarray(values_hw) / top, 0, 1) * 255).round().astype(np.uint8))
    picture.putpalette(heat(np.arange(256)[None] / 255).tobytes())
    return _uri(picture)


def ramp_css() -> str:
    """Return the heat map's colours from low to high, as a CSS gradient for a colour bar."""
    return f"linear-gradient(to right, {', '.join(f'rgb({r} {g} {b})' for r, g, b in _RAMP)})"


def png(picture: np.ndarray) -> bytes:
    """Return uint8 (H, W) or (H, W, 3) as PNG bytes, written fast rather than small."""
    return _png(Image.fromarray(picture))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def uri(picture: np.ndarray) -> str:
    """Return uint8 (H, W) or (H, W, 3) as a data URI, which a page shows without asking the server again."""
    return _uri(Image.fromarray(picture))


def _uri(picture: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(picture)).decode("ascii")


def preview(unit_hw: np.ndarray, longest: int = 768) -> np.ndarray:
    """Shrink (H, W) floats in [0, 1] to uint8 (h, w) until no side is longer than ``longest``; never enlarge."""
    picture = Image.fromarray((np.clip(unit_hw, 0, 1) * 255).round().astype(np.uint8))
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def shrunk_mask(mask_hw: np.ndarray, longest: int = 512) -> np.ndarray:
    """Thin out a mask for drawing, bool (H, W) -> bool (h, w): every n-th pixel, until no side exceeds ``longest``."""
    step = -(-max(mask_hw.shape) // longest)
    return mask_hw[step // 2 :: step, step // 2 :: step]


def fill_path(mask_hw: np.ndarray) -> str:
    """Return the path over the True cells of a bool (H, W): one rectangle per run in a row; empty for no cell."""
    return "".join(f"M{a} {y}h{b - a}v1h{a - b}z" for y, a, b in _runs(mask_hw))


def edge_path(mask_hw: np.ndarray) -> str:
    """Return the path along the border between True and False cells of a bool (H, W); outside the image is False."""
    padded = _framed(mask_hw, 1)
    across = (padded[1:] != padded[:-1])[:, 1:-1]  # line y lies between rows y - 1 and y
    down = (padded[:, 1:] != padded[:, :-1])[1:-1].T
    level = "".join(f"M{a} {y}h{b - a}" for y, a, b in _runs(across))
    return level + "".join(f"M{x} {a}v{b - a}" for x, a, b in _runs(down))


def contour_path(mask_hw: np.ndarray) -> str:
    """Return closed lines around the True cells of a bool (H, W), cutting corners; they can be dashed."""
    from contourpy import contour_generator

    lines = contour_generator(z=np.pad(np.asarray(mask_hw, np.float32), 1)).lines(0.5)
    return "".join(f"M{'L'.join(f'{x - 0.5:g} {y - 0.5:g}' for x, y in line_n2[:-1])}Z" for line_n2 in lines)  # type: ignore[misc]


def grid_path(rows: int, columns: int) -> str:
    """Return the inner lines of a grid of cells."""
    return "".join(f"M0 {y}h{columns}" for y in range(1, rows)) + "".join(f"M{x} 0v{rows}" for x in range(1, columns))


def cells(mask_1l: Tensor, columns: int) -> np.ndarray:
    """Return a patch mask (1, L), row-major, as bool (rows, columns) for drawing."""
    return mask_1l[0].reshape(-1, columns).numpy()


def _runs(mask_hw: np.ndarray) -> Iterable[tuple[int, int, int]]:
    """Return the runs of True in each row of a bool (H, W): row, first column, column after the last."""
    steps = np.diff(_framed(mask_hw, 0).view(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    return zip(rows.tolist(), starts.tolist(), np.nonzero(steps == -1)[1].tolist(), strict=True)


def _framed(mask_hw: np.ndarray, rows: int) -> np.ndarray:
    """Return a bool (H, W) with False in a column on either side, and in as many rows above and below: ``np.pad``
    takes ten times as long for small masks.
    """
    height, width = mask_hw.shape
    framed = np.zeros((height + 2 * rows, width + 2), bool)
    framed[rows : rows + height, 1:-1] = mask_hw
    return framed


def layer(path: str, kind: str, shape_hw: tuple[int, int], size_hw: tuple[float, float], style: str = "") -> str:
    """Return a path over cells of shape_hw as SVG, stretched over a picture of size_hw; ``kind`` is its CSS class,
    ``style`` more of its CSS.
    """
    if not path:
        return ""
    y, x = size_hw[0] / shape_hw[0], size_hw[1] / shape_hw[1]
    return f'<path class="{kind}"{_styled(style)} transform="scale({x:g} {y:g})" d="{path}"/>'


def _styled(css: str) -> str:
    return f' style="{css}"' if css else ""


def raster(source: str, size_hw: tuple[float, float], at_yx: tuple[float, float] = (0, 0)) -> str:
    """Return a data URI as SVG, stretched to size_hw, its upper left corner at at_yx."""
    place = f'x="{at_yx[1]:g}" y="{at_yx[0]:g}" width="{size_hw[1]:g}" height="{size_hw[0]:g}"'
    return f'<image href="{source}" {place} preserveAspectRatio="none"/>'


def box_on_image(source: str, box: Box | None, shape_hw: tuple[int, int], size_hw: tuple[float, float]) -> str:
    """Return a data URI as SVG over a box of a picture of shape_hw that is drawn at size_hw; None is all of it."""
    if box is None:
        return raster(source, size_hw)
    y, x = size_hw[0] / shape_hw[0], size_hw[1] / shape_hw[1]
    return raster(source, (box.height * y, box.width * x), (box.top * y, box.left * x))


def box_path(top: int, left: int, height: int, width: int) -> str:
    """Return the path around a box of cells."""
    return f"M{left} {top}h{width}v{height}h{-width}z"


def hold_image(name: str, source: str, size_hw: tuple[float, float]) -> str:
    """Return a data URI as SVG, of size_hw, that other pictures of the page may show by ``shared(name)``."""
    image = f'<image id="{name}" href="{source}" width="1000" height="1000" preserveAspectRatio="none"/>'
    return f'<g transform="scale({size_hw[1] / 1000:g} {size_hw[0] / 1000:g})">{image}</g>'


def alias(name: str, held_name: str) -> str:
    """Give an image that is ``hold_image`` another name under which it may be ``shared``; draws nothing."""
    return f'<defs><use id="{name}" href="#{held_name}"/></defs>'


def use_image(name: str, size_hw: tuple[float, float]) -> str:
    """Return an image that the page has ``hold_image`` elsewhere, stretched over a picture of size_hw."""
    return f'<use href="#{name}" transform="scale({size_hw[1] / 1000:g} {size_hw[0] / 1000:g})"/>'


def svg(description: str, size_hw: tuple[float, float], layers: Sequence[str], extra: str = "") -> str:
    """Return layers, the lowest first, as one SVG. description: for screen readers. extra: more attributes."""
    role = "" if "role=" in extra else 'role="img" '
    return (
        f'<svg {role}aria-label="{escape(description)}" viewBox="0 0 {size_hw[1]:g} {size_hw[0]:g}"'
        f" {extra}>{''.join(layers)}</svg>"
    )


def line(points: Sequence[tuple[float, float]], kind: str, style: str = "") -> str:
    """Return a polyline through points (x, y) with y upwards, in a picture 100 high; ``kind`` is its CSS class,
    ``style`` more of its CSS.
    """
    d = "L".join(f"{x:.2f} {100 - y:.2f}" for x, y in points)
    return f'<path class="{kind}"{_styled(style)} d="M{d}"/>'
