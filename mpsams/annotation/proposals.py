"""Masks that networks propose for the images of a project, and how urgent each image is. No gradio here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

from mpsams.annotation import acquisition, assist, disk, readers, structures
from mpsams.annotation.project import Item, Project
from mpsams.imaging import MODALITIES, geometry
from mpsams.inference import cores
from mpsams.inference.case import network_span
from mpsams.inference.network_names import choose_networks
from mpsams.inference.registry import ModelRegistry

WITNESSES = 3  # networks that are asked about a volume, at most; of a flat image all with the usual share of labels are
KNOWN = 12  # digits of an id that are shown where there is no name


def propose(project: Project, registry: ModelRegistry, id: str, user: str = "") -> Item:
    """Let a network outline an image of the project, all axial slices of a volume, the slice of a flat scan.

    The more the networks of its modality disagree, the more urgent it is (``vote_disagreement``, a mean over slices);
    where there is one alone, the less sure it is. ValueError without a network for it.
    """
    scan = project.scan(id)
    name = assist.default_model(registry, scan.modality)
    if name is None:
        raise ValueError("there is no segmentation network to propose a mask; --weights names the folder of networks")
    others = [other for other in choose_networks(registry.segmenters(scan.modality), ()) if other != name]
    networks = [registry.network(one) for one in (name, *others)]
    plane = scan.planes[0]
    is_flat = not scan.is_volume
    networks = networks if is_flat else networks[:WITNESSES]
    mask_xyz, doubts, span = scan.empty_mask(), [], network_span(scan)
    with nullcontext() if is_flat else cores.all_cores():
        for index, mask_hw in enumerate(geometry.radiological_view(mask_xyz, scan.affine, plane)):
            first, *more = (
                assist.slice_context(scan, span, plane, index, network, is_shared=is_flat) for network in networks
            )
            if first.has_body or is_flat:
                mask_hw[:] = first.proposal_hw
                if more:
                    doubts.append(acquisition.vote_disagreement([context.proposal_hw for context in (first, *more)]))
                else:
                    doubts.append(acquisition.entropy(np.clip(first.from_grid(first.probability_ss), 0, 1)))
            else:
                doubts.append(0.0)
    map_xyz = mask_xyz.view(np.uint8) * np.uint8(structures.of_checkpoint(project, name))
    return project.propose(id, map_xyz, name, networks[0].sha256, float(np.mean(doubts)), user)


def waiting(project: Project, registry: ModelRegistry) -> list[str]:
    """Return the ids of the untouched images of the queue that have no proposal, or one of another network than the one
    that would propose now.

    The masks of a first reader stay, see ``readers.start``.
    """
    now = {modality: assist.default_model(registry, modality) for modality in MODALITIES}

    def is_stale(item: Item) -> bool:
        return (
            item.checkpoint is None
            or now[item.modality] not in (None, item.checkpoint[0])
            and item.checkpoint[0] != readers.FIRST
        )

    return [item.id for item in project.queue() if item.mask is None and is_stale(item)]


def propose_all(project: Project, registry: ModelRegistry, user: str = "") -> Iterator[tuple[int, int, str]]:
    """Propose a mask for every image that waits for one; yield how many of how many, and why one was left out or ""."""
    ids = waiting(project, registry)
    for done, id in enumerate(ids, start=1):
        problem = ""
        try:
            propose(project, registry, id, user)
        except ValueError as error:
            problem = f"Image {number(project, id)}: {error}"
        except OSError as error:
            yield done, len(ids), f"Image {number(project, id)}: {disk.sentence(error)}"
            return  # the next would fail alike
        yield done, len(ids), problem


def number(project: Project, id: str) -> int:
    """Return the number of an image in the project, in the order of adding, from 1."""
    return 1 + [item.id for item in project.items()].index(id)


def titles_of(project: Project, id: str) -> str:
    """Return the title of an image on the page, as plain text: its file's name where that is known."""
    return project.name(id) or f"Image {id[:KNOWN]}"
