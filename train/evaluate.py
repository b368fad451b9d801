"""Measure a segmentation checkpoint: overlap and surface distances per image, at each image's own size.

  python -m train.evaluate --weights weights/busi-mps_ams-seg-10.safetensors --data.root Dataset_BUSI_with_GT --split test
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mpsams import datasets, inference, metrics, splits, transforms
from mpsams.datasets import Dataset
from mpsams.inference import Network
from train.options import one_of, parse, run

PARTS = ("all", "train", "val", "test")


@dataclass(frozen=True)
class Source:
    """Which images.

    Args:
        name: data set; the checkpoint's own when not given.
        root: folder of the data set in its official layout.
    """

    name: str | None = None
    root: str | None = None


@dataclass(frozen=True)
class Evaluate:
    """Options of an evaluation.

    Args:
        weights: a segmentation checkpoint.
        split: all, train, val or test, as divided when the checkpoint was trained.
        threshold: probability from which a pixel counts as lesion.
        json: file for the means and the numbers of every image.
    """

    weights: str
    data: Source = Source()
    split: str = "test"
    threshold: float = 0.5
    json: str | None = None

    def __post_init__(self) -> None:
        one_of("split", self.split, PARTS)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold} must lie between 0 and 1")


def main(argv: Sequence[str] | None = None) -> dict:
    """Parse, measure, print, write; returns the means."""
    options = parse(Evaluate, "train.evaluate", argv)
    network = inference.open_network(options.weights)
    if network.metadata["kind"] != "segmentation":
        raise ValueError(f"{options.weights} is a {network.metadata['kind']} checkpoint; expected a segmentation")
    dataset = chosen(network, options.data, options.split)
    cases = measure(network, dataset, options.threshold)
    means = metrics.summary(list(cases.values()))
    print("\n".join(f"{name:16s} {value:.4f}" for name, value in means.items()))
    if options.json:
        about = {"weights": Path(options.weights).name, "sha256": network.sha256, "split": options.split}
        about |= {"data": dataset.name, "threshold": options.threshold}
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        known = {name: None if math.isnan(value) else value for name, value in means.items()}
        Path(options.json).write_text(json.dumps(known | about | {"cases": cases}, indent=1) + "\n", encoding="utf-8")
    return means


def chosen(network: Network, source: Source, part: str) -> Dataset:
    """The cases to measure: of the checkpoint's own split, or everything when the data set is another."""
    split = splits.restore(network.metadata["split"])
    dataset = datasets.open_dataset(source.name or split.dataset, source.root)
    if part == "all":
        return dataset
    if dataset.name != split.dataset:
        raise ValueError(
            f"the checkpoint was trained on {split.dataset!r}, so {dataset.name!r} has no part {part!r} for it; use --split all"
        )
    return dataset.select(split.part(part))


def measure(network: Network, dataset: Dataset, threshold: float) -> dict[str, dict[str, float]]:
    """Case name -> its numbers (``metrics.case``), with a progress bar."""
    results = {}
    for sample in tqdm(dataset, desc="evaluating", unit="img", total=len(dataset)):
        unit = transforms.to_unit(sample.image, dataset.modality)
        results[sample.case] = metrics.case(inference.probability(network, unit) >= threshold, sample.mask)
    return results


if __name__ == "__main__":
    run(main, "train.evaluate")
