"""What a lesson on the method shows and the method itself keeps to itself: how clusters came to be, places, swaps, guesses.

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


def values(image_11ss: Tensor, patch: int, normalise: str = "standardised") -> Tensor:
    """The patches as the method compares them: (1, 1, S, S) -> float (L, D); ``normalise`` as in ``clusters.relation``."""
    if normalise not in clusters.NORMALISATIONS:
        raise ValueError(f"unknown normalisation {normalise!r}; available: {', '.join(clusters.NORMALISATIONS)}")
    return patchify(transforms.standardise(image_11ss) if normalise == "standardised" else image_11ss, patch)[0]


def similarity(image_11ss: Tensor, patch: int, normalise: str = "standardised", temperature: float = 1.0) -> Tensor:
    """How alike patches are: inner products divided by sqrt(D) * temperature, float (L, L) (paper 2.1)."""
    patches_ld = values(image_11ss, patch, normalise)
    return patches_ld @ patches_ld.T / (patches_ld.shape[1] ** 0.5 * temperature)


def stages(image_11ss: Tensor, patch: int, selector: str, normalise: str, temperature: float) -> dict[str, Tensor]:
    """The matrices (L, L) of one of the paper's selectors, in the order of computation; the last is ``clusters.relation``."""
    rows_ll = clusters.relation(image_11ss, patch, selector, normalise, temperature)[0]
    if selector == "covariance-of-softmax":
        similarity_ll = similarity(image_11ss, patch, normalise, temperature)
        return {"similarity": similarity_ll, "softmax": similarity_ll.softmax(dim=1), "covariance": rows_ll}
    return {"covariance": torch.cov(values(image_11ss, patch, normalise)), "softmax": rows_ll}


def rounds(image_11ss: Tensor, rows_1ll: Tensor, patch: int) -> list[Tensor]:
    """The lesion cluster after each round of 2-means, bool (1, L): from the first two centres to the last change.

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


def swapped(found: Clusters, seed: int) -> tuple[Clusters, Tensor]:
    """The same two clusters with the other one called lesion, and the order (1, L) in which patches then get hidden."""
    lesion_1l = ~found.lesion_bl
    return replace(found, lesion_bl=lesion_1l), masking.order(lesion_1l, torch.Generator().manual_seed(seed))


def places(order_1l: Tensor) -> list[int]:
    """When each patch is hidden: an order (1, L) -> its place for patch 0, 1, ..., counted from 1."""
    return (torch.argsort(order_1l[0]) + 1).tolist()


def nearness(length: int) -> Tensor:
    """How near each patch is to the middle of a square image: minus the distance in patches, float (L,)."""
    side = round(length**0.5)
    if side * side != length:
        raise ValueError(f"{length} patches are no square")
    along = torch.arange(side) - (side - 1) / 2
    return -(along[:, None].square() + along.square()).sqrt().flatten()


def brightness(image_11ss: Tensor, patch: int) -> list[float]:
    """Mean of each patch, in [0, 1]."""
    return patchify(image_11ss, patch)[0].mean(dim=1).tolist()


def pixels(image_11ss: Tensor, patch: int, index: int) -> Tensor:
    """The pixels of one patch of a one-channel image, float (patch, patch)."""
    return patchify(image_11ss, patch)[0, index].reshape(patch, patch)


def scaled(values: Tensor, share: float = 0.0) -> Tensor:
    """Values of any shape brought to [0, 1] for drawing; the outermost ``share`` at either end is clipped. All alike: 0."""
    ends = torch.tensor([share, 1 - share], dtype=values.dtype)
    low, high = torch.quantile(values.flatten(), ends).tolist()
    return ((values - low) / max(high - low, 1e-12)).clamp(0, 1)


def off(picture_11ss: Tensor, image_11ss: Tensor, hidden_1l: Tensor, patch: int) -> float:
    """Mean distance of a picture from the image over the hidden patches, in [0, 1]; NaN when none is hidden."""
    hidden = to_pixels(hidden_1l, patch, *image_11ss.shape[2:])
    return float((picture_11ss - image_11ss).abs()[hidden].mean())


def best(score_l: Tensor, allowed_l: Tensor, count: int) -> list[int]:
    """The allowed patches of highest score, best first; fewer when fewer are allowed. The first of equals wins."""
    order = torch.argsort(score_l, descending=True, stable=True)
    return order[allowed_l[order]][:count].tolist()


def hits(picks: Sequence[int], truth_l: Tensor) -> int:
    """How many of the picked patches are lesion; a patch picked twice counts once."""
    return sum(bool(truth_l[index]) for index in set(picks))


def blind(allowed_l: Tensor, truth_l: Tensor, count: int) -> float:
    """Hits to be expected of ``count`` different picks drawn blindly from the allowed patches."""
    return min(count, int(allowed_l.sum())) * float((allowed_l & truth_l).sum()) / max(int(allowed_l.sum()), 1)


def packed(mask_l: Tensor) -> str:
    """A bool (L,) as hexadecimal digits, four patches each, the first patch highest; "" for no patch at all."""
    bits = "".join("1" if hidden else "0" for hidden in mask_l.tolist())
    return f"{int(bits, 2):0{len(bits) // 4}x}" if "1" in bits else ""


def unpacked(text: str, length: int) -> Tensor:
    """The inverse of ``packed``: bool (1, L). ValueError unless there are L / 4 hexadecimal digits, or none."""
    if text and not re.fullmatch(f"[0-9a-f]{{{length // 4}}}", text):
        raise ValueError(f"own mask {text[:80]!r} must be {length // 4} digits from 0 to 9 and a to f")
    bits = f"{int(text or '0', 16):0{length}b}"
    return torch.tensor([[bit == "1" for bit in bits]])
