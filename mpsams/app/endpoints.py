"""Answers of the named endpoints: clusters and masks as plain values, and the network's name."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from mpsams.inference import MaskedPatches
from mpsams.inference.case import SIDE, Case, move_to_slice
from mpsams.inference.open_case import clustering_options, open_upload
from mpsams.inference.registry import ASSISTANT, ModelRegistry

LAST_EPOCH = 8103  # after it the schedule hides the whole image


def case_of(
    registry: ModelRegistry, file: str | None, modality: str, number: float = 0, seed: float = 0, selector: str = ""
) -> Case:
    """Return the case an endpoint is asked about: an uploaded file at slice ``number``, from 1; 0 is the middle.

    Slices are axial, of a single slice itself, in whichever plane a volume was acquired.

    modality: "" for what the file says. UnreadableImage or ValueError when there is no such case.
    """
    if file is None:
        raise ValueError("no image was given")

    def how(modality: str) -> dict:
        return clustering_options(registry.clustering(modality, selector), seed)

    case = open_upload([Path(file)], modality or None, how)
    if case.plane != case.scan.planes[0]:
        case = move_to_slice(case, case.scan.planes[0], 0, how(case.modality))  # opens in the middle
    if not number:
        return case
    if not 1 <= number <= case.slices:
        raise ValueError(f"slice {number:g} does not exist; there are 1 to {case.slices}, and 0 for the middle")
    return move_to_slice(case, case.plane, int(number) - 1, how(case.modality))


def epoch_of(epoch: float) -> float:
    """Return the epoch, if at least one patch is left visible at it. ValueError otherwise."""
    if not 1 <= epoch <= LAST_EPOCH:
        raise ValueError(f"epoch {epoch:g}; allowed are 1 to {LAST_EPOCH}")
    return epoch


def clusters(case: Case) -> dict:
    """Return the clusters of a case; patches are row-major indices, distances None where a cluster is empty."""
    found = case.study.clusters
    answer = {
        "patch": case.study.patch,
        "columns": SIDE // case.study.patch,
        "selector": case.selector,
        "reading": case.selector,  # its name in earlier versions
        "seed": case.seed,
        "lesion": indices(found.lesion_bl),
        "to_lesion": [finite(value) for value in found.to_lesion_bl[0].tolist()],
        "to_background": [finite(value) for value in found.to_background_bl[0].tolist()],
        "score": found.score_bl[0].tolist(),
        "notes": notes(case),
    }
    if case.agreement is not None:
        lift, auc = finite(case.agreement.lift), finite(case.agreement.auc)
        answer["agreement"] = {"lift": lift, "auc": auc, "lesion_patches": case.agreement.lesion_patches}
    return answer


def mask(case: Case, at: MaskedPatches) -> dict:
    """Return the patches hidden at an epoch, as row-major indices."""
    return {
        "epoch": at.epoch,
        "ratio": at.ratio,
        "hidden": at.hidden,
        "patches": case.study.length,
        "lesion_first": indices(at.lesion_first_1l),
        "random": indices(at.random_1l),
        "bits": {"lesion_first": at.bits, "random": at.random_bits},
        "chance": {"lesion": at.probability_lesion, "background": at.probability_background},
        "notes": notes(case),
    }


def notes(case: Case) -> list[str]:
    """Return sentences on the scan, on its truth, and on other images in the upload, which endpoints cannot choose."""
    choices = case.scan.choices
    several = (
        [f"There are {len(choices)} images in this upload; this is of: {choices[case.scan.choice]}."]
        if len(choices) > 1
        else []
    )
    return [*case.notes, *several]


def indices(mask_1l: torch.Tensor) -> list[int]:
    """Return the True places of a bool (1, L)."""
    return torch.nonzero(mask_1l[0])[:, 0].tolist()


def finite(value: float) -> float | None:
    """Return the value, or None where JSON has no number for it: NaN and infinity."""
    return value if math.isfinite(value) else None


def network_name(registry: ModelRegistry, stated: str, ending: str, modality: str) -> str:
    """Return the network an endpoint is to use: the stated one, or for "" the modality's assistant, else the one that
    ends so, else any of its kind.

    ValueError when it is not there or of another kind than those that end so.
    """
    kind, mark = ("pretrain", "-pretrain") if ending.endswith("-pretrain") else ("segmentation", "-seg-")
    if kind == "segmentation":
        name = (
            stated
            or registry.assistant(modality)
            or registry.find(ending, modality)
            or next(iter(registry.segmenters(modality)), None)
        )
    else:
        name = stated or registry.find(ending, modality) or registry.find(mark, modality)
    if name is None or name not in registry.names() or registry.network(name).metadata["kind"] != kind:
        there = (
            ", ".join(
                other
                for other in registry.names()
                if mark in other or kind == "segmentation" and other.endswith(ASSISTANT)
            )
            or "none at all"
        )
        there = f"there are: {there}"
        raise ValueError(
            f"weights {name!r} are no {kind} network here; {there}" if name else f"no {kind} network here; {there}"
        )
    return name
