"""A volume and the outlines in it, as the three linked planes and the surface in the browser read them. No gradio here.

Axes: S axial slices from the feet up, of H rows to the back and W columns to the patient's left, as
``geometry.radiological_view`` has them; coronal and sagittal slices are cut from the same array. X, Y, Z voxels as
stored. Lists in JSON run W, H, S.
"""

from __future__ import annotations

import base64
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from scipy import ndimage

from mpsams import plots, transforms
from mpsams.app.components import viewer, volume_report
from mpsams.app.components.volume_report import Whole
from mpsams.imaging import geometry
from mpsams.inference import comparison
from mpsams.inference.case import Case
from mpsams.inference.comparison import DEFAULT_THRESHOLD
from mpsams.inference.network_names import parse_name, titles_of
from mpsams.inference.volumes import VolumePrediction

MOST = 2**24  # voxels that are sent; of larger volumes every second, third, ... along the finest axes
MOST_OF_BODY = 2**18
TRUTH = "#56b4e9"
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the place in W, H, S that a plane's slices run along
ORDINALS = {2: "second", 3: "third"}
NO_PLANES = (
    "Coronal and sagittal planes need a volume whose file says where its voxels lie and that has several voxels each"
    " way."
)


def has_planes(case: Case) -> bool:
    """Return True if the scan can be cut in all three planes."""
    return len(case.scan.planes) == len(geometry.PLANES)


def describe(case: Case, whole: Whole | None, network: str, thresholds: Mapping[str, float]) -> str:
    """Return the facts that the browser needs before it asks for voxels and outlines, as hidden HTML.

    network: whose outline is shown, of those in ``whole``; "" for none. thresholds: of networks whose own is not the
    default.
    """
    if not has_planes(case):
        return viewer.hidden_data("planes", {"sentence": NO_PLANES} if case.is_volume else {})
    scan, affine, steps_shw = case.scan, case.scan.affine, choose_steps(case)
    shape_shw = scan.shown().shape
    directions = geometry.steps(affine)  # type: ignore[arg-type]
    first = geometry.position(affine, scan.voxels_xyz.shape, "axial", (0, 0, 0))  # type: ignore[arg-type]
    vectors = [first, *(directions[axis] * steps_shw[axis] for axis in (2, 1, 0))]
    about = {
        "image": comparison.image_key(case),
        "volume": volume_key(case),
        "outlines": outlines_key(case, whole, network, thresholds),
        "shape": [-(-count // step) for count, step in zip(shape_shw, steps_shw, strict=True)][::-1],
        "whole": shape_shw[::-1],
        "step": steps_shw[::-1],
        "mm": [length * step for length, step in zip(scan.spacing(), steps_shw, strict=True)][::-1],  # type: ignore[arg-type]
        "patient": [[round(float(value), 4) for value in vector] for vector in vectors],
        "letters": {plane: letters_around(affine, plane) for plane in geometry.PLANES},  # type: ignore[arg-type]
        "window": list(map(float, case.display_span)),
        "unit": "HU" if case.modality == "ct" else "",
        "page": [AXES[case.plane], case.index // steps_shw[::-1][AXES[case.plane]]],
        "note": say_steps(steps_shw),
    }
    return viewer.hidden_data("planes", about)


def choose_steps(case: Case, most: int = MOST) -> tuple[int, int, int]:
    """Return steps along S, H, W for sending every n-th voxel: the finest axes are thinned until ``most`` are left."""
    shape, steps = case.scan.shown().shape, [1, 1, 1]
    spacing = case.scan.spacing() or (1.0, 1.0, 1.0)
    while math.prod(-(-count // step) for count, step in zip(shape, steps, strict=True)) > most:
        finest = min(
            (axis for axis in range(3) if steps[axis] < shape[axis]), key=lambda axis: spacing[axis] * steps[axis]
        )
        steps[finest] += 1
    return steps[0], steps[1], steps[2]


def say_steps(steps_shw: tuple[int, int, int]) -> str:
    """Return a sentence on the voxels that are left out; empty when all are sent."""
    parts = [
        f"{ORDINALS.get(step, f'{step}th')} {name}"
        for name, step in zip(("axial slice", "row", "column"), steps_shw, strict=True)
        if step > 1
    ]
    return (
        f"The volume is large: these pictures show every {' and every '.join(parts)}. The pictures above show every"
        " pixel."
        if parts
        else ""
    )


def letters_around(affine: np.ndarray, plane: str) -> list[str]:
    """Return the patient's sides at the left, right, top and bottom of a plane's pictures."""
    _, down, across = geometry.steps(affine, plane)
    return [geometry.letters(direction) for direction in (-across, across, -down, down)]


def volume_key(case: Case) -> str:
    """Return a text that changes with the volume and with its display window."""
    low, high = case.display_span
    return f"{comparison.image_key(case)} {low:g} {high:g}"


def outlines_key(case: Case, whole: Whole | None, network: str, thresholds: Mapping[str, float]) -> str:
    """Return a text that changes with the volume, its truth, the network whose outline is shown, and its threshold."""
    several = case.truth_map
    mask_xyz, names = (case.truth_xyz, "") if several is None else (several.map_xyz, repr(several.structures))
    truth = (
        0 if mask_xyz is None else zlib.crc32(mask_xyz.ravel(order="K").view(np.uint8).data, zlib.crc32(names.encode()))
    )
    prediction = _prediction(case, whole, network)
    shown = f" {network} {thresholds.get(network, DEFAULT_THRESHOLD):.2f} {prediction.checksum}" if prediction else ""
    return f"{comparison.image_key(case)} {truth}{shown}"


def encode_volume(case: Case) -> str:
    """Encode the voxels at the display window, 0 black to 255 white, as hidden HTML; empty without planes."""
    if not has_planes(case):
        return ""
    s, h, w = choose_steps(case)
    thinned_shw = case.scan.shown()[::s, ::h, ::w]
    codes_shw = np.empty(thinned_shw.shape, np.uint8)
    for codes_hw, voxels_hw in zip(codes_shw, thinned_shw, strict=True):
        codes_hw[:] = np.rint(255 * transforms.to_unit(_values_of(case, voxels_hw), case.display_span))
    return viewer.hidden_data(
        "volume", {"key": volume_key(case), "window": list(map(float, case.display_span)), "codes": pack(codes_shw)}
    )


def encode_outlines(case: Case, whole: Whole | None, network: str, thresholds: Mapping[str, float]) -> str:
    """Encode the body, the truth and the outline of a network as masks, each with its title, colour and millilitres, as
    hidden HTML. Where the truth is one of several structures, each of these is there, and the truth comes first.
    """
    if not has_planes(case):
        return ""
    layers, steps = (
        [_layer("body", "Body", "#9fb1b9", find_body(case), choose_steps(case, MOST_OF_BODY), None)],
        choose_steps(case),
    )
    millilitre = geometry.voxel_mm3(case.scan.affine) / 1000  # type: ignore[arg-type]
    prediction = _prediction(case, whole, network)
    for kind, title, colour, mask_xyz in _find_outlined(case, prediction, network, thresholds):
        mask_shw = geometry.radiological_view(mask_xyz, case.scan.affine)[
            tuple(slice(None, None, step) for step in steps)
        ]
        layers.append(_layer(kind, title, colour, mask_shw, steps, float(np.count_nonzero(mask_xyz) * millilitre)))
    return viewer.hidden_data("outlines", {"key": outlines_key(case, whole, network, thresholds), "layers": layers})


def find_body(case: Case) -> np.ndarray:
    """Return the largest thing that is not air, cavities filled: bool (S, H, W) at the steps for ``MOST_OF_BODY``."""
    s, h, w = choose_steps(case, MOST_OF_BODY)
    values_shw = _values_of(case, case.scan.shown()[::s, ::h, ::w])
    solid_shw = (
        values_shw > transforms.AIR if case.modality == "ct" else transforms.to_unit(values_shw, case.span) > 0.1
    )
    labels_shw, count = ndimage.label(solid_shw)
    if count:
        solid_shw = labels_shw == 1 + int(np.bincount(labels_shw.ravel())[1:].argmax())
    return ndimage.binary_fill_holes(solid_shw)


def pack(array: np.ndarray) -> str:
    """Pack the bytes, or bits of bools, of an array in C order, compressed by gzip, as base64."""
    data = np.packbits(array.ravel(), bitorder="little") if array.dtype == bool else np.ascontiguousarray(array)
    return base64.b64encode(gzip.compress(data.tobytes(), 1)).decode("ascii")


def _values_of(case: Case, voxels: np.ndarray) -> np.ndarray:
    """Return the values of stored voxels, the scan's background where there is none."""
    values = case.scan.scaled(voxels)
    missing = np.isnan(values)
    if missing.any():
        values[missing] = case.scan.background
    return values


def _prediction(case: Case, whole: Whole | None, network: str) -> VolumePrediction | None:
    whole = volume_report.of(case, whole)
    return whole.predictions.get(network) if whole else None


def _find_outlined(
    case: Case, prediction: VolumePrediction | None, network: str, thresholds: Mapping[str, float]
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Kind, title, colour and mask, bool (X, Y, Z), of the truth, other structures and the network, one at a time."""
    if case.truth_map is None and case.truth_xyz is not None:
        yield "truth", "True lesion", TRUTH, case.truth_xyz
    if case.truth_map is not None:
        (first, name, colour), *others = case.truth_map.structures
        yield "truth", f"{name}, the truth", colour, case.truth_map.map_xyz == first
        for label, name, colour in others:
            yield f"structure {label}", name, colour, case.truth_map.map_xyz == label
    if prediction:
        mask_xyz = prediction.mask(case.scan, thresholds.get(network, DEFAULT_THRESHOLD))
        yield "network", titles_of([network])[network], plots.outline(parse_name(network)[1])[0], mask_xyz


def _layer(
    kind: str, title: str, colour: str, mask_shw: np.ndarray, steps_shw: tuple[int, int, int], millilitres: float | None
) -> dict:
    return {
        "kind": kind,
        "title": title,
        "colour": colour,
        "shape": mask_shw.shape[::-1],
        "step": steps_shw[::-1],
        "bits": pack(mask_shw),
        "ml": millilitres,
    }
