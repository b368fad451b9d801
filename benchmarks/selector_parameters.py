"""Choose similarity, normalisation and temperature of the paper's selectors on a training part, and measure the choice
on the rest.

The paper names no measure of similarity between patches. Each combination is measured by ROC AUC (mean over images with
a lesion patch) and pooled lift (how many times as often a patch of the lesion clusters is lesion as a random patch).
Chosen is, for each selector, the highest AUC on the training part among those with a pooled lift above 1 whose median
lesion cluster is not nearly empty.

  python -m benchmarks.selector_parameters --data.name busi --data.root Dataset_BUSI_with_GT
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import baselines, keep
from benchmarks.lesion_ranking import BATCH, CENTRE, score, with_lesion
from mpsams import clusters, metrics, patches
from mpsams.clusters import Clusters
from mpsams.datasets import Stack
from train.command_line import parse
from train.options import Data, at_least, divide, read

TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# of the patches in the median lesion cluster: with fewer, hiding it first is hardly different from a random order
LEAST = 0.03
DEFAULT = {
    "selector": clusters.PAPER_SELECTORS[0],
    "normalise": "standardised",
    "temperature": 1.0,
    "similarity": "inner-product",
}


@dataclass(frozen=True)
class Parameters:
    """Options of the measurement.

    Args:
        patch: side of a patch in pixels.
        images: at most this many of each part, at equal distances; 0 is all.
        quick: only print what is found, and keep nothing.
    """

    data: Data = Data(size=256)
    patch: int = 16
    images: int = 400
    quick: bool = False

    def __post_init__(self) -> None:
        at_least("images", self.images, 0)


def combinations() -> list[dict]:
    """Return all combinations of parameters of the paper's selectors; softmax-of-covariance has no distance."""
    found = itertools.product(clusters.PAPER_SELECTORS, clusters.NORMALISATIONS, TEMPERATURES, clusters.SIMILARITIES)
    rows = [dict(zip(DEFAULT, values, strict=True)) for values in found]
    return [row for row in rows if (row["selector"], row["similarity"]) != ("softmax-of-covariance", "distance")]


def cluster(row: dict, x_b1hw: Tensor, patch: int) -> Clusters:
    """Return the clusters of a combination, or of the image centre, which looks at no image."""
    if row["selector"] == CENTRE:
        return clusters.split_numbers(baselines.UNTRAINED[CENTRE](x_b1hw, patch))
    return clusters.split(x_b1hw, patch, **row)


def measure(stack: Stack, indices: Tensor, patch: int, rows: Sequence[dict]) -> list[dict]:
    """Return each row with its ``auc``, ``lift`` (pooled) and ``size`` (share of patches in the median lesion cluster)
    over these images.
    """
    chosen = torch.zeros(len(rows), 2)  # patches of lesion clusters, and the lesion patches among them
    total, lesions = 0, 0
    auc: list[list[float]] = [[] for _ in rows]
    sizes: list[list[float]] = [[] for _ in rows]
    for batch in tqdm(indices.split(BATCH), unit=f"x{BATCH} img", leave=False):
        images_b1hw, masks_b1hw = stack.take(batch)
        truth_bl, x_b1hw = patches.is_lesion(masks_b1hw, patch), images_b1hw[:, :1].float() / 255
        total, lesions = total + truth_bl.numel(), lesions + int(truth_bl.sum())
        for number, row in enumerate(rows):
            found = cluster(row, x_b1hw, patch)
            auc[number] += [
                metrics.auc(score_l, truth_l) for score_l, truth_l in zip(score(found), truth_bl, strict=True)
            ]
            sizes[number] += found.lesion_bl.float().mean(dim=1).tolist()
            chosen[number] += torch.tensor([found.lesion_bl.sum(), (found.lesion_bl & truth_bl).sum()])
    lifts = (chosen[:, 1] / chosen[:, 0].clamp(min=1) * total / lesions).tolist()
    return [
        row
        | {
            "auc": round(statistics.fmean(auc[number]), 4),
            "lift": round(lifts[number], 3),
            "size": round(statistics.median(sizes[number]), 4),
        }
        for number, row in enumerate(rows)
    ]


def choose(measured: Sequence[dict]) -> list[dict]:
    """Return the combination to use of each selector, as the module says, the better selector first.

    Of a selector none of whose combinations finds more than chance, the one of highest AUC.
    """

    def order(row: dict) -> tuple[bool, float]:
        return row["lift"] > 1 and row["size"] >= LEAST, row["auc"]

    best = [
        max((row for row in measured if row["selector"] == selector), key=order)
        for selector in clusters.PAPER_SELECTORS
    ]
    return [{key: row[key] for key in DEFAULT} for row in sorted(best, key=order, reverse=True)]


def part(stack: Stack, groups: Sequence[str], options: Parameters) -> tuple[Stack, Tensor]:
    """Return a part of the data set and the numbers of its images to measure."""
    found = stack.of(tuple(groups), options.data.slice_stride)
    indices = with_lesion(found, options.patch)
    return found, indices[:: -(-len(indices) // options.images)] if options.images else indices


def main(argv: Sequence[str] | None = None) -> None:
    """Choose on the training part, measure on the rest, keep the record."""
    options = parse(Parameters, "benchmarks.selector_parameters", argv)
    stack = read(options.data, partial(tqdm, desc="reading", unit="img"))
    split, _ = divide(options.data, stack)
    train, indices = part(stack, split.train, options)
    grid = measure(train, indices, options.patch, combinations())
    best = choose(grid)
    rest, others = part(stack, (*split.val, *split.test), options)
    rows = [*best, DEFAULT, {"selector": clusters.GEODESIC}, {"selector": CENTRE}]
    values = {
        "size": stack.size, "patch": options.patch, "split": split.sha256, "source": stack.source,
        "train": {"images": len(indices), "combinations": grid},
        "best": best,
        "rest": {"images": len(others), "selectors": measure(rest, others, options.patch, rows)},
    }  # fmt: skip
    keep(f"selector_parameters-{stack.name}", values, options.quick)


if __name__ == "__main__":
    main()
