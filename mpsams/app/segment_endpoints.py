"""The named endpoints of the Segment & compare tab: /segment and /export.

Axes: X, Y, Z voxels as stored.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np

from mpsams.app import endpoints as answers
from mpsams.app.events import endpoint
from mpsams.app.gradio_compat import save_to_cache
from mpsams.app.server.lanes import NETWORK
from mpsams.imaging import export, geometry
from mpsams.inference import shared, volumes
from mpsams.inference.case import MODALITIES, Case, set_truth
from mpsams.inference.comparison import DEFAULT_THRESHOLD
from mpsams.inference.registry import ModelRegistry
from mpsams.inference.slice_scores import scores, slice_mask

DEFAULT = "-mps_ams-seg-10"
FORMATS = {"png": "PNG", "nifti": "NIfTI", "dicom-seg": "DICOM-SEG, de-identified"}


def endpoints(registry: ModelRegistry, button: gr.DownloadButton) -> None:
    """Register /segment and /export."""
    image, truth = (gr.File(type="filepath", visible=False, label=name) for name in ("image", "truth"))
    modality = gr.Textbox(
        "", visible=False, label=f"modality, one of {', '.join(MODALITIES)}; empty for what the file says"
    )
    threshold = gr.Number(DEFAULT_THRESHOLD, visible=False, label="threshold in (0, 1)")
    weights = gr.Textbox(
        "", visible=False, label="name of a segmentation network; empty for the assistant of the modality, else MPS-AMS"
    )
    number = gr.Number(0, precision=0, visible=False, label="slice of a volume, from 1; 0 for all of them")
    form = gr.Textbox(
        "", visible=False, label=f"format, one of {', '.join(FORMATS)}; empty for the one that fits the upload"
    )

    def found(image, modality, weights, threshold, number, truth=None) -> tuple[str, Case, np.ndarray]:
        """Return the network's name, the case, and its mask on the grid of the upload."""
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold} must lie between 0 and 1")
        case = answers.case_of(registry, image, modality, number)
        name = answers.network_name(registry, weights, DEFAULT, case.modality)
        case = set_truth(case, Path(truth)) if truth else case
        network = registry.network(name)
        if number or not case.is_volume:
            probability = shared.grid_probability(network, case.unit_hw, case.box)
            return name, case, slice_mask(case, probability, threshold, network.readout.rule)
        *_, (_, predictions) = volumes.segment(case, [network])
        return name, case, predictions[0].mask(case.scan, threshold)

    def segment(image, truth=None, modality="", threshold=DEFAULT_THRESHOLD, weights="", slice=0):
        """Outline the lesion: its area and box in pixels, of a volume its millilitres; with a truth mask also DSC, PPV
        and Sen.
        """
        name, case, mask_xyz = found(image, modality, weights, threshold, slice, truth)
        answer = {
            "weights": name,
            "width": case.shape_hw[1],
            "height": case.shape_hw[0],
            "threshold": threshold,
            "notes": answers.notes(case),
        }
        return answer | measure(case, mask_xyz, of_volume=case.is_volume and not slice)

    def export_mask(image, modality="", threshold=DEFAULT_THRESHOLD, weights="", slice=0, format=""):
        """Export the lesion mask as a file in the geometry of the upload, PNG of a picture, NIfTI or DICOM-SEG of a
        volume; and notes.
        """
        name, case, mask_xyz = found(image, modality, weights, threshold, slice)
        return write_mask(case, mask_xyz, format or export.formats(case.scan)[0], button), {
            "weights": name,
            "notes": answers.notes(case),
        }

    endpoint(
        "segment", segment, [image, truth, modality, threshold, weights, number], gr.JSON(visible=False), lane=NETWORK
    )
    parts = [gr.File(visible=False, label="mask"), gr.JSON(visible=False)]
    endpoint("export", export_mask, [image, modality, threshold, weights, number, form], parts, lane=NETWORK)


def measure(case: Case, mask_xyz: np.ndarray, of_volume: bool) -> dict:
    """Measure a mask on the slice of the case, or of_volume on all slices."""
    if of_volume:
        areas = geometry.radiological_view(mask_xyz, case.scan.affine).sum(axis=(1, 2))
        per_slice = {str(k + 1): int(area) for k, area in enumerate(areas) if area}
        numbers = {name: answers.finite(value) for name, value in volumes.measure(case, mask_xyz).items()}
        return numbers | {"slices": len(areas), "lesion_pixels": per_slice}
    mask_hw = geometry.radiological_view(mask_xyz, case.scan.affine, case.plane)[case.index]
    rows, columns = (np.flatnonzero(mask_hw.any(axis=axis)) for axis in (1, 0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else None
    return {"lesion_pixels": int(mask_hw.sum()), "box": box} | scores(mask_hw, case)


def write_mask(case: Case, mask_xyz: np.ndarray, form: str, near: gr.components.Component) -> str:
    """Write a mask as a file into gradio's cache, emptied by age, in a folder named by a hash of the content."""
    data, ending = export.write(case.scan, mask_xyz, form, "MPS-AMS U-Net")
    return save_to_cache(data, f"lesion-mask{ending}", near)
