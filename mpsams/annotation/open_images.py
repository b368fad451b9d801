"""The images that a browser tab has open: those in memory, and those whose masks are compressed.

Axes: X, Y, Z voxels as stored.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mpsams.annotation import masks
from mpsams.annotation.open_image import OpenImage
from mpsams.inference.case import Case, UploadedFiles

MAX_IMAGES, MAX_VOXELS = 8, 2**28  # images in memory for a tab, and voxels of their masks
LAST = 2  # images that always stay in memory: the one on screen, and the one that a late command may be about
MAX_UNTOUCHED = 64  # compressed images without changes that are kept; those that were drawn on are all kept


@dataclass(frozen=True)
class CompressedImage:
    """An open image that takes little memory.

    image: without its mask and whatever else can be computed again. mask: its bits, compressed. order: of the mask's
    axes in memory. case: of a sample, which all sessions share; None if the image is opened again from the project or
    its upload. view: slice, window and clustering as last shown.
    """

    image: OpenImage
    mask: bytes
    shape_xyz: tuple[int, ...]
    order: Literal["C", "F"]
    item: str
    content: str
    upload: UploadedFiles | None
    case: Case | None
    view: dict

    @property
    def is_safe(self) -> bool:
        """True if nothing is lost with it: nothing was drawn, or the project has it."""
        return not self.image.is_dirty if self.item else not (self.image.edited or self.image.history)

    def is_of(self, case: Case) -> bool:
        """Return True if this is the image of a case."""
        if self.case is not None:
            return self.case.is_same_image(case)
        return self.content == case.content and self.shape_xyz == case.scan.voxels_xyz.shape


def compress(image: OpenImage) -> CompressedImage:
    """Return an image with its mask compressed; ``restore`` is the inverse."""
    case = image.case
    order: Literal["C", "F"] = "F" if image.mask_xyz.flags.f_contiguous else "C"
    mask = zlib.compress(masks.pack(image.mask_xyz, order).tobytes(), 1)
    rest = replace(
        image,
        case=None,  # type: ignore[arg-type]  # until ``restore``
        network=None,
        mask_xyz=np.empty(0, np.uint8),
        proposal_xyz=None,
        truth_copy=None,
        contexts=OrderedDict(),
        scribbles={},
        propagation=None,  # it holds the image as it was
    )
    view = {name: getattr(case, name) for name in ("plane", "index", "display_span", "seed", "selector", "modality")}
    return CompressedImage(
        rest,
        mask,
        image.mask_xyz.shape,
        order,
        case.item,
        case.content,
        case.upload,
        None if case.content else case,
        view,
    )


def restore(compressed: CompressedImage, case: Case) -> OpenImage:
    """Return the image as it was. case: of it, opened again. Its network and proposal are left to the caller."""
    bits = np.frombuffer(zlib.decompress(compressed.mask), np.uint8)
    bits = bits.reshape(-1, math.ceil(math.prod(compressed.shape_xyz) / 8))
    mask_xyz = masks.unpack(bits, compressed.shape_xyz, compressed.order)
    return replace(compressed.image, case=case, mask_xyz=mask_xyz)


class OpenImages:
    """Open images by their tokens, the one last on screen last. in_memory: ready for use. compressed: the others."""

    def __init__(self) -> None:
        self.in_memory: OrderedDict[str, OpenImage] = OrderedDict()
        self.compressed: OrderedDict[str, CompressedImage] = OrderedDict()

    def find(self, matches: Callable[[OpenImage], bool]) -> OpenImage | None:
        """Return the image in memory that matches and was on screen last."""
        return next(filter(matches, reversed(self.in_memory.values())), None)

    def find_compressed(self, matches: Callable[[CompressedImage], bool]) -> CompressedImage | None:
        """Return the compressed image that matches and was on screen last."""
        return next(filter(matches, reversed(self.compressed.values())), None)

    def add(self, image: OpenImage) -> None:
        """Add an image; if too many are in memory, those longest unseen are compressed, but never the last ``LAST``."""
        self.compressed.pop(image.token, None)
        self.in_memory[image.token] = image
        while len(self.in_memory) > LAST and self._is_over_limit():
            self._compress(next(iter(self.in_memory)))

    def touch(self, image: OpenImage) -> None:
        """Note that an image is on screen."""
        self.in_memory.move_to_end(image.token)

    def rename(self, image: OpenImage, token: str) -> None:
        """Give an image another token."""
        del self.in_memory[image.token]
        image.token = token
        self.add(image)

    def compress_all_but(self, count: int) -> None:
        """Compress all images but the last ``count``."""
        for token in list(self.in_memory)[: len(self.in_memory) - count]:
            self._compress(token)

    def _is_over_limit(self) -> bool:
        voxels = sum(image.mask_xyz.size for image in self.in_memory.values())
        return len(self.in_memory) > MAX_IMAGES or voxels > MAX_VOXELS

    def _compress(self, token: str) -> None:
        self.compressed[token] = compress(self.in_memory.pop(token))
        safe = [token for token, compressed in self.compressed.items() if compressed.is_safe]
        for token in safe[: max(0, len(safe) - MAX_UNTOUCHED)]:
            del self.compressed[token]
