"""Intermediate values of the method that the Learn tab shows: similarities, rounds of 2-means, the order of hiding,
masks as text.

Axes: L patches of one square image, row-major; S its side in pixels. In masks True = hidden or lesion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mpsams import clusters, masking, transforms
from mpsams.clusters import Clusters
from mpsams.patches import patchify, to_pixels


def patch_values(image_11ss: Tensor, patch: int, normalise: str = "standardised") -> Tensor:
    """Return the patches as the method compares them: (1, 1, S, S) -> float (L, D); ``normalise`` as in
    ``clusters.relation``.
    """
    if normalise not in clusters.NORMALISATIONS:
        raise ValueError(f"unknown normalisation {normalise!r}; available: {', '.join(clusters.NORMALISATIONS)}")
    return patchify(transforms.standardise(image_11ss) if normalise == "standardised" else image_11ss, patch)[0]


def scaled_similarity(
    image_11ss: Tensor,
    patch: int,
    normalise: str = "standardised",
    temperature: float = 1.0,
    similarity: str = "inner-product",
) -> Tensor:
    """Return the similarity of patches divided by the temperature, float (L, L) (paper 2.1); ``similarity`` as in
    ``clusters.relation``.
    """
    return clusters.similarities(patch_values(image_11ss, patch, normalise)[None], similarity)[0] / temperature


def relation_stages(
    image_11ss: Tensor, patch: int, selector: str, normalise: str, temperature: float, similarity: str = "inner-product"
) -> dict[str, Tensor]:
    """Return the matrices (L, L) of a reading of the paper in the order they are made; the last is
    ``clusters.relation``.
    """
    rows_ll = clusters.relation(image_11ss, patch, selector, normalise, temperature, similarity)[0]
    if selector == "covariance-of-softmax":
        similarity_ll = scaled_similarity(image_11ss, patch, normalise, temperature, similarity)
        return {"similarity": similarity_ll, "softmax": similarity_ll.softmax(dim=1), "covariance": rows_ll}
    between_ll = torch.cov if similarity == "inner-product" else torch.corrcoef
    return {"covariance": between_ll(patch_values(image_11ss, patch, normalise)), "softmax": rows_ll}


def two_means_rounds(image_11ss: Tensor, rows_1ll: Tensor, patch: int) -> list[Tensor]:
    """Return the lesion cluster after each round of 2-means, bool (1, L): from the first two centres to the last
    change.

    As ``clusters.split`` does it; the last is its answer.
    """
    brightness_1l = patchify(image_11ss, patch).mean(dim=2)
    found: list[Tensor] = []
    for count in range(clusters.ITERATIONS + 1):
        bright_1l = clusters.two_means(rows_1ll, brightness_1l.argmax(dim=1), brightness_1l.argmin(dim=1), count)
        if found and torch.equal(bright_1l, found[-1]):
            break
        found.append(bright_1l)
    is_smaller = 2 * int(found[-1].sum()) <= rows_1ll.shape[1]
    return [bright_1l if is_smaller else ~bright_1l for bright_1l in found]


def swap_clusters(found: Clusters, seed: int) -> tuple[Clusters, Tensor]:
    """Return the clusters with the other one called lesion, and the order (1, L) in which patches then get hidden."""
    lesion_1l = ~found.lesion_bl
    return replace(found, lesion_bl=lesion_1l), masking.order(lesion_1l, torch.Generator().manual_seed(seed))


def hiding_ranks(order_1l: Tensor) -> list[int]:
    """Return the place of each patch in an order (1, L), counted from 1: patch 0 first."""
    return (torch.argsort(order_1l[0]) + 1).tolist()


def centre_proximity(length: int) -> Tensor:
    """Return the negative distance of each patch from the centre of a square image, in patches: float (L,).

    ValueError when L is no square number.
    """
    side = round(length**0.5)
    if side * side != length:
        raise ValueError(f"{length} patches; their number must be a square")
    along = torch.arange(side) - (side - 1) / 2
    return -(along[:, None].square() + along.square()).sqrt().flatten()


def patch_means(image_11ss: Tensor, patch: int) -> list[float]:
    """Return the mean of each patch, in [0, 1]."""
    return patchify(image_11ss, patch)[0].mean(dim=1).tolist()


def patch_pixels(image_11ss: Tensor, patch: int, index: int) -> Tensor:
    """Return the pixels of one patch of a one-channel image, float (patch, patch)."""
    return patchify(image_11ss, patch)[0, index].reshape(patch, patch)


def rescale(values: Tensor, share: float = 0.0) -> Tensor:
    """Rescale values of any shape to [0, 1] for drawing; the share at either end is clipped. 0 where all are equal."""
    ends = torch.tensor([share, 1 - share], dtype=values.dtype)
    low, high = torch.quantile(values.flatten(), ends).tolist()
    return ((values - low) / max(high - low, 1e-12)).clamp(0, 1)


def mean_error(picture_11ss: Tensor, image_11ss: Tensor, hidden_1l: Tensor, patch: int) -> float:
    """Return the mean absolute error of a picture over the hidden patches, in [0, 1]; NaN when none is hidden."""
    hidden = to_pixels(hidden_1l, patch, *image_11ss.shape[2:])
    return float((picture_11ss - image_11ss).abs()[hidden].mean())


def top_patches(score_l: Tensor, allowed_l: Tensor, count: int) -> list[int]:
    """Return the allowed patches of highest score, best first; fewer when fewer are allowed. The first of
    equals wins.
    """
    order = torch.argsort(score_l, descending=True, stable=True)
    return order[allowed_l[order]][:count].tolist()


def count_hits(picks: Sequence[int], truth_l: Tensor) -> int:
    """Count the picked patches that are lesion; a patch picked twice counts once."""
    return sum(bool(truth_l[index]) for index in set(picks))


def expected_random_hits(allowed_l: Tensor, truth_l: Tensor, count: int) -> float:
    """Return the expected number of lesion patches among ``count`` patches drawn at random from the allowed ones,
    without replacement.
    """
    return min(count, int(allowed_l.sum())) * float((allowed_l & truth_l).sum()) / max(int(allowed_l.sum()), 1)


def pack_mask(mask_l: Tensor) -> str:
    """Return a bool (L,) as hexadecimal digits, four patches each, the first patch highest; "" for no patch at all."""
    bits = "".join("1" if hidden else "0" for hidden in mask_l.tolist())
    return f"{int(bits, 2):0{len(bits) // 4}x}" if "1" in bits else ""


def unpack_mask(text: str, length: int) -> Tensor:
    """Undo ``pack_mask``: return bool (1, L). ValueError unless there are L / 4 hexadecimal digits, or none."""
    if text and not re.fullmatch(f"[0-9a-f]{{{length // 4}}}", text):
        raise ValueError(f"own mask {text[:80]!r} must be {length // 4} digits from 0 to 9 and a to f")
    bits = f"{int(text or '0', 16):0{length}b}"
    return torch.tensor([[bit == "1" for bit in bits]])
