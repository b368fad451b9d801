"""DSC of whole volumes from one box: the prompt network outlines the largest slice, and its mask is carried on both
ways.

With --slices 3 a box each is given on three slices, spread over the object; every slice is then carried on from the
nearest. The box is the object's on that slice, each side moved by up to 8% of the box. Volumes of the checkpoint's own
split.

  python -m benchmarks.propagation --data.name brats --data.root lgg_t1 --split test
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from benchmarks import keep
from mpsams import datasets, inference, splits
from mpsams.inference import Network, prompts
from mpsams.inference.prompts import Prompt
from mpsams.inference.propagation import SliceMask, dice, propagate
from train import simulated_users
from train.command_line import parse
from train.evaluate import PARTS, Source
from train.evaluate_prompts import BOX_JITTER
from train.options import one_of


@dataclass(frozen=True)
class Propagation:
    """Options of the measurement.

    Args:
        weights: a prompt checkpoint.
        data: which volumes, a folder of the data set in its official layout.
        split: all, train, val or test.
        slices: slices on which a box is given.
        limit: measure at most this many volumes; 0 is all.
        seed: of the boxes.
        quick: only print what is found.
    """

    weights: str = "weights/prompt.safetensors"
    data: Source = field(default_factory=Source)
    split: str = "test"
    slices: int = 1
    limit: int = 0
    seed: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        one_of("split", self.split, PARTS)


def main(argv: Sequence[str] | None = None) -> dict:
    """Parse, measure, print, keep; returns the numbers."""
    options = parse(Propagation, "benchmarks.propagation", argv)
    network = inference.open_network(options.weights, "float32")
    prompts.check_network(network)
    images = datasets.open_dataset(options.data.name, options.data.root, modality=options.data.modality)
    if options.split != "all":
        split = next(
            splits.restore(values) for values in network.metadata["splits"] if values["dataset"] == images.name
        )
        images = images.of(split.part(options.split))
    rng = np.random.default_rng(options.seed)
    scores = {
        name: volume_dice(network, *arrays, options.slices, rng) for name, arrays in volumes(images, options.limit)
    }
    values = list(scores.values())
    found = {
        "volumes": len(values),
        "slices": options.slices,
        "dsc": float(np.mean(values)),
        "median": float(np.median(values)),
    }
    print(
        f"{found['volumes']} volumes, boxes on {options.slices}: mean DSC {found['dsc']:.3f}, median"
        f" {found['median']:.3f}"
    )
    if not options.quick:
        keep(f"propagation-{options.data.name}-{options.slices}", found | {"per_volume": scores})
    return found


def volumes(images: datasets.Dataset, limit: int):
    """Yield name, slices (S, H, W) in [0, 1] and their truth of each volume that has an object."""
    names = list(dict.fromkeys(images.groups))
    for name in names[: limit or None]:
        samples = [images[k] for k, group in enumerate(images.groups) if group == name]
        truth = np.stack([sample.mask for sample in samples])
        if truth.any():
            yield name, (np.stack([sample.unit.reshape(-1, *sample.unit.shape[-2:])[0] for sample in samples]), truth)


def volume_dice(
    network: Network, unit_shw: np.ndarray, truth_shw: np.ndarray, boxes: int, rng: np.random.Generator
) -> float:
    """Return the DSC of a volume from ``boxes`` boxes."""
    areas = truth_shw.sum(axis=(1, 2))
    there = np.flatnonzero(areas)
    starts = (
        [int(areas.argmax())]
        if boxes == 1
        else sorted(
            {int(place) for place in np.quantile(there, (np.arange(boxes) + 0.5) / boxes).round() if areas[int(place)]}
        )
    )
    edges = [0, *((a + b + 1) // 2 for a, b in pairwise(starts)), len(areas)]
    predicted_shw = np.zeros(truth_shw.shape, bool)
    for start, low, high in zip(starts, edges[:-1], edges[1:], strict=True):
        box = simulated_users.jittered_box(simulated_users.largest_part(truth_shw[start]), BOX_JITTER, rng)
        first = prompts.segment_prompt(network, unit_shw[start], Prompt(box=box))
        if not first.mask.any():
            continue
        predicted_shw[start] = first.mask
        for indices in (range(start + 1, high), range(start - 1, low - 1, -1)):
            for each in propagate(
                network, unit_shw.__getitem__, SliceMask(start, first.mask, first.confidence), indices
            ):
                predicted_shw[each.index] = each.mask
    return dice(predicted_shw, truth_shw)


if __name__ == "__main__":
    main()
