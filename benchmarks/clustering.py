"""Cost of clustering a batch: as a share of the training step, and against scikit-learn's KMeans per image.

python -m benchmarks.clustering [--width 16] [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from benchmarks import keep, seconds
from mpsams import clusters, datasets
from mpsams.methods import Batch, mps_ams
from mpsams.patches import patchify
from mpsams.unet import UNet
from train import memory


def images(count: int = 32, size: int = 256) -> Tensor:
    """Return phantom images with lesions, float (count, 1, size, size) in [0, 1]."""
    phantom = datasets.open_dataset("phantom")
    return datasets.stack(phantom.select(phantom.cases[:count]), size).stored_nchw.float() / 255


def with_scikit_learn(rows_bll: Tensor, first_b: Tensor, second_b: Tensor) -> np.ndarray:
    """Run the peer: KMeans called per image from the same centres; True = the cluster begun at ``first_b``."""
    labels = []
    for rows, first, second in zip(rows_bll.numpy(), first_b, second_b, strict=True):
        begin = np.stack([rows[first], rows[second]])
        means = KMeans(2, init=begin, n_init=1, max_iter=clusters.ITERATIONS, tol=0, algorithm="lloyd").fit(rows)
        labels.append(means.labels_ == 0)
    return np.stack(labels)


def compare(x_bchw: Tensor, selector: str, repeats: int) -> dict[str, float]:
    """Measure median seconds and ratios of one selector on one batch."""
    rows = clusters.relation(x_bchw, selector=selector)
    brightness = patchify(x_bchw, 16).mean(dim=2)
    first, second = brightness.argmax(dim=1), brightness.argmin(dim=1)
    ours = clusters.two_means(rows, first, second).numpy()
    theirs = with_scikit_learn(rows, first, second)
    batched = statistics.median(seconds(lambda: clusters.two_means(rows, first, second), repeats))
    looped = statistics.median(seconds(lambda: with_scikit_learn(rows, first, second), repeats))
    whole = statistics.median(seconds(lambda: clusters.lesion_patches(x_bchw, selector=selector), repeats))
    relate = statistics.median(seconds(lambda: clusters.relation(x_bchw, selector=selector), repeats))
    return {
        "clustering_s": whole,
        "relation_s": relate,
        "two_means_s": batched,
        "kmeans_per_image_s": looped,
        "kmeans_over_ours": looped / batched,
        "kmeans_with_relation_over_ours": (looped + relate) / whole,
        "labels_agree": float((ours == theirs).mean()),
    }


def training_step(x_bchw: Tensor, width: int) -> float:
    """Measure the seconds of a pretraining step without clustering (random order), the faster of two after a
    warm-up.
    """
    method = mps_ams.build(mps_ams.Config(order="random"), UNet(width=width), 800)
    optimiser = torch.optim.Adam(method.parameters(), lr=2e-4)

    def step() -> None:
        optimiser.zero_grad()
        method(Batch(x_bchw, torch.Generator().manual_seed(0)), 1).backward()
        optimiser.step()

    step()
    return seconds(step, 2)[0]


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16, help="of the U-Net in the training step")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    memory.keep_freed()
    x_bchw = images()
    step = training_step(x_bchw, options.width)
    results = {selector: compare(x_bchw, selector, options.repeats) for selector in clusters.PAPER_SELECTORS}
    for row in results.values():
        row["share_of_step"] = row["clustering_s"] / step
    keep("clustering", {"batch": len(x_bchw), "size": 256, "width": options.width, "step_s": step, "readings": results})


if __name__ == "__main__":
    main()
