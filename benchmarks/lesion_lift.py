"""How often the cluster called lesion is lesion, for both readings of the paper, on a data set with truth.

  python -m benchmarks.lesion_lift [--name busi] --root Dataset_BUSI_with_GT
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import keep
from mpsams import clusters, datasets, metrics, patches

PATCH = 16
LESION_SHARE = 0.25  # of a patch, from which it counts as lesion


def measure(stack: datasets.Stack, reading: str, normalise: str) -> dict[str, float]:
    """Lift (1 is chance) and AUC (0.5 is chance) over the images that have a lesion patch."""
    chosen, truth, areas = [], [], []
    for x_b1hw, masks_b1hw in map(stack.take, torch.arange(len(stack)).split(32)):
        found = clusters.split(x_b1hw.float() / 255, PATCH, reading, normalise)
        lesion_bl = patches.lesion_share(masks_b1hw, PATCH) > LESION_SHARE
        chosen += found.lesion_bl
        truth += lesion_bl
        areas += [metrics.auc(score, lesion) for score, lesion in zip(found.score_bl, lesion_bl)]
    pairs = [(c, t) for c, t in zip(chosen, truth) if t.any()]
    lifts = [float(metrics.lift(c[None], t[None])) for c, t in pairs]
    hits, picked, share = (sum(float(v) for v in values) for values in zip(*((((c & t).sum()), c.sum(), t.float().mean()) for c, t in pairs)))
    return {
        "lift_mean": float(np.mean(lifts)),
        "lift_median": float(np.median(lifts)),
        "lift_pooled": hits / picked / (share / len(pairs)),
        "auc_mean": float(np.nanmean(areas)),
        "cluster_size_median": float(np.median([int(c.sum()) for c, _ in pairs])),
        "images": len(pairs),
    }


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="busi", help="data set (default: busi)")
    parser.add_argument("--root", help="its folder")
    options = parser.parse_args()
    stack = datasets.stack(datasets.open_dataset(options.name, options.root), 256, partial(tqdm, desc="reading", unit="img"))
    settings = [(reading, normalise) for reading in clusters.READINGS for normalise in clusters.NORMALISATIONS]
    keep(f"lesion_lift-{options.name}", {" ".join(how): measure(stack, *how) for how in settings})


if __name__ == "__main__":
    main()
