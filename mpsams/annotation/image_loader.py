"""Opens images for an annotation session: new ones, those that were compressed, and those of before a restart of the
app.

Over 250 lines because all ways to open an image share its token, its lock and its warnings.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from mpsams.annotation import assist, commands, consensus, disk, proposals, structures
from mpsams.annotation.open_image import OpenImage
from mpsams.annotation.open_images import LAST, CompressedImage, OpenImages, restore
from mpsams.annotation.project import ConflictError, Item, Project
from mpsams.annotation.reader_views import ReaderView
from mpsams.imaging import Scan
from mpsams.inference import Network, open_case
from mpsams.inference import case as _case
from mpsams.inference.case import Case
from mpsams.inference.registry import ModelRegistry

CONFLICT = """Someone else has saved this image since you opened it, so what you drew was not saved. To keep yours,
download the mask; then open the image again from the list to see theirs.""".replace("\n", " ")
MAX_PREFETCHED = 2**24  # voxels of an image that is read ahead
NO_PROPOSAL = "No proposal was made: {}"
NO_FILE = (
    "the file of this image is no longer here, so this was not saved. Open it again; what you drew before is kept, and"
    " comes back with it"
)


class ImageLoader:
    """Opens the images of one session and keeps them. images: open ones. prefetched: the case likely to be next."""

    def __init__(
        self,
        registry: ModelRegistry,
        project: Project | None,
        reserve_memory: Callable[[int], None],
        view: ReaderView | None = None,
    ) -> None:
        """view: of the reader whose project it is; None is the first reader."""
        self.registry, self.project, self.reserve_memory = registry, project, reserve_memory
        self.view = view
        self.images = OpenImages()
        self.prefetched: Case | None = None
        self._warning = ""

    def pop_warning(self) -> str:
        """Return what went wrong while an image was opened, once; "" if nothing did."""
        warning, self._warning = self._warning, ""
        return warning

    def clustering(self, case: Case) -> dict:
        """Return the clustering settings of a case for ``case.moved``."""
        return open_case.clustering_options(self.registry.clustering(case.modality, case.selector), case.seed)

    def find_or_open(self, case: Case, user: str) -> OpenImage:
        """Return the open image of a case; it is opened if need be."""
        image = self.images.find(lambda image: image.case.is_same_image(case)) or self._restore(
            lambda one: one.is_of(case), case
        )
        if image is None:
            return self._open(case, user)
        image.update_case(case)
        self.images.touch(image)
        return image

    def open_item(self, item: Item, user: str) -> OpenImage:
        """Return the open image of a project's item as it is now; it is opened if need be."""
        image = self.images.find(lambda image: image.item == item.id and image.is_current(item)) or self._restore(
            lambda one: one.item == item.id and one.image.sha256 == (item.mask or "")
        )
        if image is None:
            ahead, self.prefetched = self.prefetched, None
            image = self._open(ahead if ahead is not None and ahead.item == item.id else self.case_of(item), user)
        self.images.touch(image)
        return image

    def prefetch(self, item: Item, user: str) -> None:
        """Read an item of the project and let the network propose its mask, so that ``open_item`` is fast.

        Not for large volumes.

        May run while the session opens and saves images. An image that cannot be read is left to ``open_item``, which
        says why.
        """
        is_known = self.prefetched is not None and self.prefetched.item == item.id
        if (
            is_known
            or self.project is None
            or math.prod(item.shape_xyz) > MAX_PREFETCHED
            or any(image.item == item.id for image in list(self.images.in_memory.values()))
        ):
            return
        try:
            if (
                item.status == "new"
                and min(item.shape_xyz) == 1
                and not self._is_consensus
                and assist.default_model(self.registry, item.modality) is not None
            ):
                proposals.propose(self.project, self.registry, item.id, user)
            self.prefetched = self.case_of(item)
        except (ValueError, OSError):
            return

    def restore_token(self, token: str) -> OpenImage | None:
        """Bring a compressed image back into memory by its token; None if there is none."""
        return self._restore(lambda one: one.image.token == token)

    def resume(self, key: str, user: str) -> OpenImage | None:
        """Open the image of a slice that another session gave out before a restart of app or page; None for other keys.

        ConflictError: its mask is neither the one that was last saved under that key nor the one it was opened with.
        """
        match = commands.KEY.fullmatch(key)
        if match is None or match[1] in self.images.in_memory or self.project is None:
            return None
        token, id = match[1], match[1][:16]
        if all(item.id != id for item in self.project.items()):
            return None
        item = self.project.item(id)
        last: dict = next(
            (row for row in reversed(self.project.log()) if row.get("item") == id and row.get("mask")), {}
        )
        if last.get("token") != token and token[16:24] != self._start(item):
            raise ConflictError(CONFLICT)
        image = self.images.find(lambda image: image.item == id and image.is_current(item) and not image.is_dirty)
        if image is None:
            return self._open(self.case_of(item), user, token)
        self.images.rename(image, token)
        return image

    def _open(self, case: Case, user: str, token: str = "") -> OpenImage:
        """Open an image with its saved mask, else its proposal, else an empty mask. token: "" makes a new one."""
        self._reserve_memory(case)
        network, structure = self._network(case)
        image = OpenImage(token or secrets.token_hex(16), case.title, case, network, structure, empty_map(case.scan))
        if case.item:
            project = self._item_project
            if (
                not case.is_volume
                and network is not None
                and not self._is_consensus
                and project.item(case.item).status == "new"
            ):
                try:
                    proposals.propose(project, self.registry, case.item, user)
                except OSError as error:  # the image can be shown all the same
                    self._warning = NO_PROPOSAL.format(disk.as_sentence(error))
            mask_xyz, image.proposal_xyz = project.labels(case.item), self._proposal(case.item, case.scan)
            item = project.item(case.item)  # as it is after a damaged mask was found
            start_xyz = image.proposal_xyz if mask_xyz is None else mask_xyz
            if start_xyz is not None:
                image.mask_xyz[:] = start_xyz  # keeps the memory order of the scan
            image.token = token or item.id + self._start(item) + secrets.token_hex(4)
            image.sha256, image.title = item.mask or "", proposals.titles_of(project, item.id)
        elif not case.is_volume and network is not None:
            image.mask(case.plane, case.index)[:] = image.context(case.plane, case.index).proposal_hw
        self.images.add(image)
        return image

    @property
    def _item_project(self) -> Project:
        """The project of the images that are items of one."""
        assert self.project is not None
        return self.project

    @property
    def _is_consensus(self) -> bool:
        return self.view is not None and self.view.is_consensus

    def _proposal(self, id: str, scan: Scan) -> np.ndarray | None:
        """Return the proposed mask of a project's image; for the consensus the majority of the readers in the memory
        order of the scan, empty while fewer than two have a mask.
        """
        if self.view is None or not self.view.is_consensus:
            return self._item_project.proposed_labels(id)
        found, proposal_xyz = [one.map_xyz for one in self.view.masks(id)], empty_map(scan)
        if len(found) > 1:
            proposal_xyz[:] = consensus.merge(found, "majority")
        return proposal_xyz

    def _network(self, case: Case) -> tuple[Network | None, Callable[[], int]]:
        """Return the network that proposes for a case, if any, and a function that returns its structure's label."""
        name = assist.default_model(self.registry, case.modality)
        if name is None or self.project is None or not case.item:
            return None if name is None else self.registry.network(name), lambda: 1
        return self.registry.network(name), partial(structures.of_checkpoint, self.project, name)

    def _start(self, item: Item) -> str:
        """Return the first 8 digits of the sha256 of the mask an image is opened with, zeros without one, by reader."""
        reader = self.view.name if self.view else ""
        return (
            hashlib.sha256(f"{reader} {item.mask}".encode()).hexdigest()[:8] if reader else (item.mask or "0" * 8)[:8]
        )

    def _restore(self, matches: Callable[[CompressedImage], bool], case: Case | None = None) -> OpenImage | None:
        """Bring back a compressed image; None if none matches. case: its open case. ValueError: it cannot be opened."""

        def is_current(one: CompressedImage) -> bool:
            return not one.item or not one.is_safe or one.image.sha256 == (self._item_project.item(one.item).mask or "")

        compressed = self.images.find_compressed(lambda one: matches(one) and is_current(one))
        if compressed is None:
            return None
        case = case or self._reopen(compressed)
        self._reserve_memory(case)
        image = restore(compressed, case)
        image.network, image.network_structure = self._network(case)
        image.proposal_xyz = self._proposal(compressed.item, case.scan) if compressed.item else None
        self.images.add(image)
        return image

    def _reopen(self, compressed: CompressedImage) -> Case:
        """Return the case of a compressed image as it was seen last."""
        case, view = compressed.case, compressed.view
        if compressed.item:
            case = self.case_of(self._item_project.item(compressed.item))
        elif compressed.upload is not None:
            upload = compressed.upload
            try:
                case = open_case.open_upload(
                    upload.files,
                    upload.modality,
                    lambda m: open_case.clustering_options(self.registry.clustering(m)),
                    upload.choice,
                )
            except (ValueError, OSError):
                raise ValueError(NO_FILE) from None
            if not compressed.is_of(case):
                raise ValueError(NO_FILE)
        assert case is not None  # a sample keeps its case
        settings = open_case.clustering_options(
            self.registry.clustering(view["modality"], view["selector"]), view["seed"]
        )
        if case.modality != view["modality"]:
            case = _case.set_modality(case, view["modality"], settings)
        case = _case.move_to_slice(case, view["plane"], 0, settings)  # shows the middle of the plane
        return replace(
            _case.move_to_slice(case, view["plane"], view["index"], settings), display_span=view["display_span"]
        )

    def case_of(self, item: Item) -> Case:
        """Return the case of a project's item, at the middle slice of the plane in which it was last drawn on, else
        acquired.
        """
        scan = self._item_project.scan(item.id)
        settings = open_case.clustering_options(self.registry.clustering(scan.modality))
        return open_case.open_scan(
            f"Image {proposals.number(self._item_project, item.id)} of the project",
            scan,
            settings,
            item.id,
            self._drawn_plane(item, scan),
        )

    def _drawn_plane(self, item: Item, scan: Scan) -> str:
        """Return the plane in which an item was last drawn on, "" if none was; in earlier versions the first."""
        if item.mask is None or scan.acquired_plane == scan.planes[0]:
            return ""
        drawn = (row for row in reversed(self._item_project.log()) if row.get("item") == item.id and row.get("token"))
        return next((row.get("plane", scan.planes[0]) for row in drawn), "")

    def _reserve_memory(self, case: Case) -> None:
        """Reserve memory for an image's mask and proposal; others are compressed if need be. ValueError without any."""
        size = 2 * case.scan.voxels_xyz.size
        try:
            self.reserve_memory(size)
        except ValueError:
            self.images.compress_all_but(LAST)
            self.reserve_memory(size)


def empty_map(scan: Scan) -> np.ndarray:
    """Return a label map without structures, in the memory order of a scan."""
    return scan.empty_mask().view(np.uint8)
