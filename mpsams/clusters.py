"""Choose the patches of an image that look like lesion, batched (paper 2.1): the functions over all selectors.

Axes: B batch, C channels, H x W pixels, L patches (row-major).
"""

from __future__ import annotations

from torch import Tensor

from mpsams import selectors
from mpsams.selectors._covariance import NORMALISATIONS as NORMALISATIONS
from mpsams.selectors._covariance import SIMILARITIES as SIMILARITIES
from mpsams.selectors._covariance import similarities as similarities
from mpsams.selectors._two_means import ITERATIONS as ITERATIONS
from mpsams.selectors._two_means import Clusters as Clusters
from mpsams.selectors._two_means import split_numbers as split_numbers
from mpsams.selectors._two_means import two_means as two_means

PAPER_SELECTORS = ("covariance-of-softmax", "softmax-of-covariance")  # the two ways to read the paper's 2.1
GEODESIC = "geodesic"
SELECTORS = (*PAPER_SELECTORS, *(name for name in selectors.available() if name not in PAPER_SELECTORS))


# By modality, parameters of the paper's selectors, the better selector first. They were chosen on the training parts of
# three data sets and measured on the rest (benchmarks/selector_parameters.py, docs/results/selectors.md).
CHOSEN: dict[str, dict[str, dict[str, str | float]]] = {
    "ultrasound": {
        "softmax-of-covariance": {"normalise": "standardised", "temperature": 0.05, "similarity": "inner-product"},
        "covariance-of-softmax": {"normalise": "raw", "temperature": 0.1, "similarity": "cosine"},
    },
    "ct": {
        "covariance-of-softmax": {"normalise": "standardised", "temperature": 1.0, "similarity": "cosine"},
        "softmax-of-covariance": {"normalise": "raw", "temperature": 0.5, "similarity": "cosine"},
    },
    "mri": {
        "covariance-of-softmax": {"normalise": "standardised", "temperature": 0.1, "similarity": "cosine"},
        "softmax-of-covariance": {"normalise": "raw", "temperature": 2.0, "similarity": "cosine"},
    },
}


def default_options(modality: str, selector: str | None = None) -> dict[str, str | float]:
    """Return the selector and the parameters chosen for a modality, as keywords of ``split``.

    selector: None for the better one of the paper's. A selector that is not the paper's has no parameters.
    ValueError for an unknown modality or selector.
    """
    if modality not in CHOSEN:
        raise ValueError(f"unknown modality {modality!r}; available: {', '.join(CHOSEN)}")
    name = selectors.current_name(selector or next(iter(CHOSEN[modality])))
    selectors.find(name)
    return {"selector": name, **CHOSEN[modality].get(name, {})}


def relation(
    x_bchw: Tensor,
    patch: int = 16,
    selector: str = PAPER_SELECTORS[0],
    normalise: str = "standardised",
    temperature: float = 1.0,
    similarity: str = "inner-product",
) -> Tensor:
    """Return the matrix between patches whose rows a selector of the paper clusters: (B, C, H, W) -> (B, L, L), finite.

    The paper says "a covariance matrix after a softmax layer according to the degree of similarity between different
    patches" (2.1), which can be read in two ways, ``PAPER_SELECTORS``. It names no measure of similarity; these are its
    parameters:

    normalise: "standardised" (default) sets each image to mean 0, deviation 1 first; "raw" takes it as it is.
    temperature: positive divisor of the similarity before the softmax; 1 by default.
    similarity: one of ``SIMILARITIES``, "inner-product" by default.

    ValueError names the value and what is allowed.
    """
    if selector not in PAPER_SELECTORS:
        raise ValueError(
            f"selector {selector!r} has no matrix between patches; available: {', '.join(PAPER_SELECTORS)}"
        )
    return selectors.find(selector).relation(x_bchw, patch, normalise, temperature, similarity)


def split(
    x_bchw: Tensor,
    patch: int = 16,
    selector: str = PAPER_SELECTORS[0],
    normalise: str = "standardised",
    temperature: float = 1.0,
    similarity: str = "inner-product",
) -> Clusters:
    """Cluster each image's patches in two and call one cluster lesion, as the selector does.

    x_bchw: finite floats (B, C, H, W). selector: one of ``SELECTORS``. normalise, temperature, similarity: of the
    paper's selectors, see ``relation``; the others ignore them. The result is deterministic. With the paper's selectors
    an image whose patches are all alike has one cluster, background.
    """
    return selectors.find(selector).split(x_bchw, patch, normalise, temperature, similarity)


def lesion_patches(
    x_bchw: Tensor,
    patch: int = 16,
    selector: str = PAPER_SELECTORS[0],
    normalise: str = "standardised",
    temperature: float = 1.0,
    similarity: str = "inner-product",
) -> Tensor:
    """Return the patches in the lesion cluster, bool (B, L); see ``split``."""
    return split(x_bchw, patch, selector, normalise, temperature, similarity).lesion_bl


def scores(
    x_bchw: Tensor,
    patch: int = 16,
    selector: str = PAPER_SELECTORS[0],
    normalise: str = "standardised",
    temperature: float = 1.0,
    similarity: str = "inner-product",
) -> Tensor:
    """Return a score of each patch, float (B, L), larger = more like lesion; see ``Clusters.score_bl``."""
    return split(x_bchw, patch, selector, normalise, temperature, similarity).score_bl
