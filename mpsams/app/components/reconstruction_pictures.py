"""The pictures of the tabs Reconstruct and Learn: the image, what networks are given of it and fill in, and how much
they err. No gradio here.

Axes: L patches, S side of the grid image.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mpsams import inference
from mpsams.app.components import viewer
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


def input_pictures(case: Case, hidden_1l: Tensor) -> tuple[str, str]:
    """Return the image, which other pictures show as #grid-image, and what the networks are given of it, as SVG."""
    given = preview(inference.hide(case.image_11ss, hidden_1l, case.study.patch))
    held = [images.hold_image(HELD, preview(case.image_11ss), SIZE), case.outline(SIZE, part=True)]
    return (
        images.svg("The image as it is", SIZE, held, viewer.LINKED),
        images.svg("The image with patches hidden", SIZE, [images.raster(given, SIZE)], viewer.LINKED),
    )


def network_pictures(case: Case, ending: str, result: ReconstructionImages) -> dict[str, str]:
    """Return the pictures of one network's filling and error as SVG, and what it is."""
    title, description = ROWS[ending]
    before, after = images.use_image(HELD, SIZE), images.raster(result.filled, SIZE)
    outline = case.outline(SIZE, part=True)
    filled, error = (
        [viewer.wiped(f"filled{ending}", after, before), outline],
        [images.raster(result.error, SIZE), outline],
    )
    return {
        "title": title,
        "description": description,
        "filled": images.svg(f"Reconstruction by {title}", SIZE, filled, viewer.LINKED),
        "error": images.svg(f"Error of {title}", SIZE, error, viewer.LINKED),
    }


def preview(unit_11ss: Tensor) -> str:
    """Return a grid image as a data URI."""
    return shared.picture("preview", unit_11ss[0, 0].numpy(), lambda x: images.uri(images.preview(x)))
