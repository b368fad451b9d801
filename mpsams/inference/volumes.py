"""Segmentation of a whole volume, slice by slice, its measurements and a plot of areas. No gradio here.

Axes: N axial slices, S side of a network's image; X, Y, Z voxels as stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mpsams import inference, metrics, transforms
from mpsams.calibration import Rule
from mpsams.imaging import Scan, geometry
from mpsams.inference import Network, cores
from mpsams.inference.case import Case
from mpsams.plots import images
from mpsams.transforms import Box


@dataclass(frozen=True)
class VolumePrediction:
    """Probabilities of a network for axial slices, float32 (N, S, S) in [0, 1], the boxes it saw, and its rule."""

    probability_nss: np.ndarray
    boxes: tuple[Box | None, ...]
    rule: Rule | None = None

    def __deepcopy__(self, memo: dict) -> VolumePrediction:
        return self

    @cached_property
    def checksum(self) -> int:
        """A number that differs between predictions."""
        return zlib.crc32(np.ascontiguousarray(self.probability_nss).data)

    def mask(self, scan: Scan, threshold: float) -> np.ndarray:
        """Return the mask, bool (X, Y, Z) on the scan's grid: ``inference.lesion_mask`` of each slice."""
        mask_xyz = scan.empty_mask()
        for mask_hw, probability_ss, box in zip(
            geometry.radiological_view(mask_xyz, scan.affine), self.probability_nss, self.boxes, strict=True
        ):
            if probability_ss.max() >= threshold:
                mask_hw[:] = inference.lesion_mask(
                    self.rule, inference.to_image(probability_ss, mask_hw.shape, box), threshold, box
                )
        return mask_xyz


def segment(case: Case, networks: Sequence[Network]) -> Iterator[tuple[int, list[VolumePrediction]]]:
    """Predict every axial slice with every network; yields the number of slices done, and at the end the predictions,
    before it an empty list.
    """
    scan, spacing = case.scan, case.scan.spacing()
    count, boxes = len(scan.shown()), []
    found = [np.zeros((count, network.size, network.size), np.float32) for network in networks]
    for k in range(count):
        values_hw = scan.slice(k)
        boxes.append(transforms.frame(values_hw, spacing and spacing[1:], scan.modality))
        unit_hw = transforms.to_unit(values_hw, case.span)
        if transforms.has_body(transforms.crop(unit_hw, boxes[-1])):
            with cores.all_cores():
                for network, probability_nss in zip(networks, found, strict=True):
                    probability_nss[k] = inference.grid_probability(network, unit_hw, boxes[-1])
        yield k + 1, []
    yield (
        count,
        [
            VolumePrediction(probability_nss, tuple(boxes), network.readout.rule)
            for network, probability_nss in zip(networks, found, strict=True)
        ],
    )


def measure(case: Case, mask_xyz: np.ndarray) -> dict[str, float]:
    """Measure voxels and, where the geometry is known, millilitres; against a truth also DSC, PPV, Sen and HD95.

    HD95 is in millimetres, in voxels without geometry, and NaN where the surfaces are too large (``metrics.surface``).
    """
    affine = case.scan.affine
    found: dict[str, float] = {"voxels": int(np.count_nonzero(mask_xyz))}
    if affine is not None:
        found["millilitres"] = found["voxels"] * geometry.voxel_mm3(affine) / 1000
    if case.truth_xyz is not None:
        scores = metrics.case(mask_xyz, case.truth_xyz, None if affine is None else affine[:3, :3].T)
        found |= {name: scores[name] for name in ("dsc", "ppv", "sen", "hd95")}
    return found


def area_profile(case: Case, masks: dict[str, np.ndarray], styles: Mapping[str, str]) -> tuple[str, str]:
    """Return a plot of the lesion area by axial slice as SVG, a curve for each mask, and its largest area in words.

    styles: CSS of the curves.
    """
    areas = {
        kind: geometry.radiological_view(mask_xyz, case.scan.affine).sum(axis=(1, 2))
        for kind, mask_xyz in masks.items()
    }
    top, count = max(1, *(int(area.max()) for area in areas.values())), len(case.scan.shown())
    lines = [
        images.line([(100 * k / (count - 1), 100 * value / top) for k, value in enumerate(area)], "cover", styles[kind])
        for kind, area in areas.items()
    ]
    picture = images.svg(
        "Lesion area of each axial slice, from the feet up", (100, 100), lines, 'preserveAspectRatio="none"'
    )
    affine = case.scan.affine
    most = f"{top} px" if affine is None else f"{top * geometry.pixel_mm2(affine) / 100:.3g} cm²"
    return picture, most
