"""The images a browser tab outlines: those at hand, and those put aside with their masks compressed. No gradio here.

Axes: X, Y, Z voxels as stored.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mpsams.annotation.open_image import OpenImage
from mpsams.inference.case import Case, Upload

AT_HAND, VOXELS = 8, 2**28  # images that a tab has at hand, and voxels of their masks
LAST = 2  # images that stay at hand: that on screen, and that which a late answer is about
UNTOUCHED = 64  # images put aside of which nothing would be lost; those that were drawn on are all kept


@dataclass(frozen=True)
class CompressedImage:
    """An image that was put aside.

    work: without its mask and whatever else can be made again. mask: compressed. case: of a sample, which all share, or
    None where the image is opened again from the project or its upload. view: what was seen of it, as ``Case`` has it.
    """

    work: OpenImage
    mask: bytes
    shape_xyz: tuple[int, ...]
    order: str
    item: str
    content: str
    upload: Upload | None
    case: Case | None
    view: dict

    @property
    def is_safe(self) -> bool:
        """Whether nothing is lost with it: nothing was drawn, or the project has it."""
        return not self.work.dirty if self.item else not (self.work.drawn or self.work.history)

    def is_of(self, case: Case) -> bool:
        """Whether this is the image of a case."""
        if self.case is not None:
            return self.case.is_same_image(case)
        return self.content == case.content and self.shape_xyz == case.scan.voxels_xyz.shape


def compress(work: OpenImage) -> CompressedImage:
    """An image with its mask in few bytes; ``restore`` is the way back."""
    case, order = work.case, "F" if work.mask_xyz.flags.f_contiguous else "C"
    mask = zlib.compress(np.packbits(work.mask_xyz.ravel(order=order)), 1)
    rest = replace(work, case=None, network=None, mask_xyz=None, proposal_xyz=None, lent=None, looks=OrderedDict(), scribbles={})
    view = {name: getattr(case, name) for name in ("plane", "index", "seen", "seed", "reading", "modality")}
    return CompressedImage(rest, mask, work.mask_xyz.shape, order, case.item, case.content, case.upload, None if case.content else case, view)


def restore(aside: CompressedImage, case: Case) -> OpenImage:
    """The image as it was, over its case opened again; network and proposal are the caller's to add."""
    bits = np.frombuffer(zlib.decompress(aside.mask), np.uint8)
    mask_xyz = np.unpackbits(bits, count=int(np.prod(aside.shape_xyz))).astype(bool).reshape(aside.shape_xyz, order=aside.order)
    return replace(aside.work, case=case, mask_xyz=mask_xyz)


class OpenImages:
    """Images by the token of their sheets, in the order they were last on screen. works: at hand. aside: put aside."""

    def __init__(self) -> None:
        self.works: OrderedDict[str, OpenImage] = OrderedDict()
        self.aside: OrderedDict[str, CompressedImage] = OrderedDict()

    def find(self, fits: Callable[[OpenImage], bool]) -> OpenImage | None:
        """The image at hand that fits, the one last on screen first."""
        return next(filter(fits, reversed(self.works.values())), None)

    def find_aside(self, fits: Callable[[CompressedImage], bool]) -> CompressedImage | None:
        """The same of those put aside."""
        return next(filter(fits, reversed(self.aside.values())), None)

    def add(self, work: OpenImage) -> None:
        """Put an image at hand; of what is too much the longest unseen is put aside, but never that which was last on screen."""
        self.aside.pop(work.token, None)
        self.works[work.token] = work
        while len(self.works) > LAST and (len(self.works) > AT_HAND or sum(one.mask_xyz.size for one in self.works.values()) > VOXELS):
            self._put_aside(next(iter(self.works)))

    def thin(self, left: int = 0) -> None:
        """Put aside all but so many."""
        for token in list(self.works)[: len(self.works) - left]:
            self._put_aside(token)

    def _put_aside(self, token: str) -> None:
        self.aside[token] = compress(self.works[token])
        del self.works[token]
        safe = [one for one, aside in self.aside.items() if aside.is_safe]
        for one in safe[: max(0, len(safe) - UNTOUCHED)]:
            del self.aside[one]
