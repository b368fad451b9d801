"""The pictures of the tabs Reconstruct and Learn: the image, what networks are given of it and fill in, and how much
they err. No gradio here.

Axes: L patches, S side of the grid image.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mpsams import inference
from mpsams.app.components import html, viewer
from mpsams.inference import Network, Reconstruction, shared
from mpsams.inference.case import SIDE, Case
from mpsams.plots import images

SIZE = (SIDE, SIDE)
HELD = "grid-image"  # name of the image in the page
MAX_ERROR = 0.4  # error that is drawn brightest, of intensities in [0, 1]
ROWS = {
    "-mps_ams-pretrain": ("MPS-AMS", "Trained hiding lesion-like patches first, 25% rising to 81%"),
    "-base-pretrain": ("base", "Trained hiding 75% at random"),
}


@dataclass(frozen=True)
class ReconstructionImages:
    """The pictures of a network's reconstruction as data URIs, and the mean errors.

    filled, error: as of ``Reconstruction``, which says what the errors are.
    """

    filled: str
    error: str
    error_hidden: float
    error_lesion: float
    error_background: float


def draw_reconstruction(
    network: Network, image_11ss: Tensor, hidden_1l: Tensor, patch: int, truth_11ss: Tensor | None = None
) -> ReconstructionImages:
    """Return the pictures of ``inference.reconstruct``, from the store of shared results if they are there.

    The pictures take a fifth of the memory of the tensors that they are drawn from, which are not kept.
    """
    arguments = image_11ss, hidden_1l, patch, truth_11ss
    (key,) = shared.reconstruction_keys([network], *arguments)
    return shared.results.get(key, lambda: _draw(inference.reconstruct(network, *arguments)))


def _draw(found: Reconstruction) -> ReconstructionImages:
    return ReconstructionImages(
        images.uri(images.preview(found.filled_11ss[0, 0].numpy())),
        images.heat_uri(found.error_11ss[0, 0].numpy(), MAX_ERROR),
        found.error_hidden,
        found.error_lesion,
        found.error_background,
    )


def input_pictures(case: Case, epoch: float, hidden_1l: Tensor) -> str:
    """Return the image, and what the networks are given of it; other pictures show the image as #grid-image."""
    at = inference.mask_at(case.study, epoch)
    whole = images.svg(
        "The image as it is",
        SIZE,
        [images.hold_image(HELD, preview(case.image_11ss), SIZE), case.outline(SIZE, part=True)],
        viewer.LINKED,
    )
    part = images.svg(
        "The image with patches hidden",
        SIZE,
        [images.raster(preview(inference.hide(case.image_11ss, hidden_1l, case.study.patch)), SIZE)],
        viewer.LINKED,
    )
    caption = f"{at.hidden} of {case.study.length} patches hidden ({html.percent(at.ratio)}), set to the image’s mean."
    outlined = "The image, 256 × 256" + (", true lesion outlined." if case.has_lesion else ".")
    return html.row(
        [html.figure(whole, "Original", outlined), html.figure(part, "What the networks see", caption)], "stack"
    )


def network_column(case: Case, ending: str, result: ReconstructionImages) -> str:
    """Return the pictures of one network's filling and error, as HTML."""
    title, description = ROWS[ending]
    before, after = images.use_image(HELD, SIZE), images.raster(result.filled, SIZE)
    layers = viewer.wiped(f"filled{ending}", after, before) + case.outline(SIZE, part=True)
    picture = images.svg(f"Reconstruction by {title}", SIZE, [layers], viewer.LINKED)
    error = images.svg(
        f"Error of {title}", SIZE, [images.raster(result.error, SIZE), case.outline(SIZE, part=True)], viewer.LINKED
    )
    return html.row(
        [
            html.figure(picture, f"{title} <em>fills in</em>", f"{description}.{viewer.wipe('Original', 'Filled in')}"),
            html.figure(error, f"{title} <em>error</em>", "Distance from the original, hidden patches only."),
        ],
        "stack",
    )


def preview(unit_11ss: Tensor) -> str:
    """Return a grid image as a data URI."""
    return shared.picture("preview", unit_11ss[0, 0].numpy(), lambda x: images.uri(images.preview(x)))
