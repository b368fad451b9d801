"""Gain of a segmentation network from corrected masks: mean DSC on held-out images before and after, as the app
measures it.

A project is filled with images that the network was not trained on, their true masks are accepted as a person's
corrections of its proposals, and it learns from them as the app lets it (``train.retrain``). Images of the network's
own data set are of its validation and test parts. Every learning rate begins anew from the same network; more than one
is a search, so its numbers are not held out.

  python -m benchmarks.corrections --data.name phantom --rates "[1e-4, 3e-4, 1e-3]"
  python -m benchmarks.corrections --data.name busi --data.root Dataset_BUSI_with_GT --images 100
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from benchmarks import keep
from mpsams import datasets, inference, splits
from mpsams.annotation import retraining
from mpsams.annotation.project import Project
from mpsams.datasets import Dataset
from mpsams.inference import Network
from train.command_line import parse
from train.evaluate import Source
from train.retrain import Corrections as Defaults
from train.retrain import correct

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class Corrections:
    """Options of the measurement.

    Args:
        weights: the segmentation network to begin from.
        images: at most this many, evenly spread; 0 is all.
        steps: of training.
        rates: learning rates.
        quick: only print what is found.
    """

    data: Source = Source(name="phantom")
    weights: str = str(WEIGHTS / "busi-mps_ams-seg-10.safetensors")
    images: int = 0
    steps: int = Defaults.steps
    rates: tuple[float, ...] = (Defaults.lr,)
    quick: bool = False


def unseen_images(network: Network, source: Source, most: int) -> Dataset:
    """Return the images that the network was not trained on."""
    dataset, split = (
        datasets.open_dataset(source.name or "phantom", source.root),
        splits.restore(network.metadata["split"]),
    )
    dataset = dataset.of(split.val + split.test) if dataset.name == split.dataset else dataset
    count = min(most or len(dataset), len(dataset))
    return dataset.select([dataset.cases[number * len(dataset) // count] for number in range(count)])


def fill(project: Project, dataset: Dataset, network: Network, name: str) -> None:
    """Add all images with the network's proposals, and accept the true masks."""
    with tempfile.TemporaryDirectory() as folder:
        for sample in tqdm(dataset, desc="correcting", unit="img", total=len(dataset)):
            path = Path(folder) / "image.png"
            Image.fromarray((sample.unit * 255).round().astype("uint8")).save(path)
            item = project.add(path, dataset.modality)
            mask_hw = inference.lesion_mask(network.readout.rule, inference.probability(network, sample.unit))
            project.propose(item.id, mask_hw.T[:, :, None], name, network.sha256)
            project.accept(item.id, sample.mask.T[:, :, None])


def main(argv: Sequence[str] | None = None) -> None:
    """Fill a project, learn from it at every rate, and keep what came of it."""
    options = parse(Corrections, "benchmarks.corrections", argv)
    weights = Path(options.weights)
    network = inference.open_network(weights)
    dataset, found = unseen_images(network, options.data, options.images), []
    with tempfile.TemporaryDirectory() as folder:
        with Project(Path(folder) / "project") as project:
            fill(project, dataset, network, weights.stem)
        for rate in options.rates:
            run, own = retraining.prepare(Path(folder) / "project", weights, weights.stem)
            with own:
                began = time.perf_counter()
                result = correct(run.folder, options.steps, rate)
            wanted = ("before", "after", "interval", "images", "learned", "left_out", "changed_by_hand", "better")
            found.append(
                {"lr": rate, "seconds": round(time.perf_counter() - began, 1)} | {name: result[name] for name in wanted}
            )
    about = {"called": dataset.name, "weights": weights.stem, "accepted": len(dataset), "steps": options.steps}
    keep(
        f"corrections-{dataset.name}", about | {"rates": found, "source": datasets.source(dataset.name)}, options.quick
    )


if __name__ == "__main__":
    main()
