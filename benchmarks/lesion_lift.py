"""How often the cluster called lesion is lesion, for both readings of the paper, on a data set with truth.

  python -m benchmarks.lesion_lift --data.name busi --data.root Dataset_BUSI_with_GT
  python -m benchmarks.lesion_lift --data.name hecktor --data.root packs/hecktor-128 --data.size 128 --patch 8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import keep
from mpsams import clusters, metrics, patches
from mpsams.datasets import Stack
from train.options import Data, parse, read

LESION_SHARE = 0.25  # of a patch, from which it counts as lesion


@dataclass(frozen=True)
class Lift:
    """Options of the measurement.

    Args:
        patch: side of a patch in pixels.
    """

    data: Data = Data()
    patch: int = 16


def with_lesion(stack: Stack, patch: int) -> torch.Tensor:
    """The numbers of the images that have a lesion patch."""
    found = [
        (patches.lesion_share(stack.take(indices)[1], patch) > LESION_SHARE).any(dim=1) for indices in torch.arange(len(stack)).split(256)
    ]
    return torch.cat(found).nonzero()[:, 0]


def measure(stack: Stack, indices: torch.Tensor, patch: int, reading: str, normalise: str) -> dict[str, float]:
    """Lift (1 is chance) and AUC (0.5 is chance) of these images; those of the distance to the centre are AUC's mark."""
    lifts, areas, sizes, hits, picked, share = [], [], [], 0.0, 0.0, 0.0
    for part in tqdm(indices.split(32), desc=f"{reading}, {normalise}", unit="batch"):
        images_bchw, masks_b1hw = stack.take(part)
        found = clusters.split(images_bchw.float() / 255, patch, reading, normalise)
        truth_bl = patches.lesion_share(masks_b1hw, patch) > LESION_SHARE
        lifts += metrics.lift(found.lesion_bl, truth_bl).tolist()
        areas += [metrics.auc(score, truth) for score, truth in zip(found.score_bl, truth_bl)]
        sizes += found.lesion_bl.sum(dim=1).tolist()
        hits += float((found.lesion_bl & truth_bl).sum())
        picked += float(found.lesion_bl.sum())
        share += float(truth_bl.float().mean(dim=1).sum())
    return {
        "lift_mean": float(np.mean(lifts)),
        "lift_median": float(np.median(lifts)),
        "lift_pooled": hits / picked / (share / len(indices)),
        "auc_mean": float(np.nanmean(areas)),
        "cluster_size_median": float(np.median(sizes)),
    }


def centre(stack: Stack, indices: torch.Tensor, patch: int) -> float:
    """Mean AUC of ranking patches by their nearness to the image centre, the mark to beat."""
    place = torch.arange(stack.size // patch) - (stack.size // patch - 1) / 2
    near_l = -(place[:, None] ** 2 + place[None] ** 2).flatten()
    truths = (patches.lesion_share(stack.take(part)[1], patch) > LESION_SHARE for part in indices.split(256))
    return float(np.nanmean([metrics.auc(near_l, truth_l) for truth_bl in truths for truth_l in truth_bl]))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and keep."""
    options = parse(Lift, "benchmarks.lesion_lift", argv)
    stack = read(options.data, partial(tqdm, desc="reading", unit="img"))
    stack = stack.of(tuple(dict.fromkeys(stack.groups)), options.data.every)
    indices = with_lesion(stack, options.patch)
    settings = [(reading, normalise) for reading in clusters.READINGS for normalise in clusters.NORMALISATIONS]
    found = {" ".join(how): measure(stack, indices, options.patch, *how) for how in settings}
    about = {"images": len(indices), "patients": len({stack.groups[i] for i in indices}), "size": stack.size, "patch": options.patch}
    keep(f"lesion_lift-{stack.name}", found | {"centre_auc_mean": centre(stack, indices, options.patch)} | about | {"source": stack.source, "target": stack.target})


if __name__ == "__main__":
    main()
