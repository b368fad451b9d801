"""Measure a segmentation checkpoint: overlap and surface distances per image, at each image's own size.

Of volumes, every axial slice is an image, also those without body or lesion, and the same numbers follow per
volume. Distances are in millimetres where the spacing is known, else in pixels.

  python -m train.evaluate --weights weights/busi-mps_ams-seg-10.safetensors --data.root Dataset_BUSI_with_GT \\
      --split test
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mpsams import checkpoint, datasets, inference, jsonl, metrics, splits
from mpsams.calibration import Reliability
from mpsams.datasets import Dataset
from mpsams.imaging import MODALITIES
from mpsams.inference import Network
from train import memory
from train.command_line import check_replace, parse, run
from train.options import one_of, print_notes

PARTS = ("all", "train", "val", "test")


@dataclass(frozen=True)
class Source:
    """The images to measure on.

    Args:
        name: data set; the checkpoint's own when not given.
        root: folder of the data set in its official layout (not a pack: images are measured at their own size).
        modality: ultrasound, ct or mri, of a folder of one's own; as in the training when it was trained on one, else
            what the first file says.
    """

    name: str | None = None
    root: str | None = None
    modality: str = ""

    def __post_init__(self) -> None:
        one_of("data.modality", self.modality, ("", *MODALITIES))


@dataclass(frozen=True)
class Evaluate:
    """Options of an evaluation.

    Args:
        weights: a segmentation checkpoint.
        split: all, train, val or test, as divided when the checkpoint was trained.
        threshold: probability from which a pixel counts as lesion.
        rule: follow the checkpoint's rule for "no lesion here", if it has one (train.calibrate); false keeps every part
            of a mask.
        json: file for the means and the numbers of every image; an earlier one of the same measurement is replaced.
        overwrite: replace the file of another measurement.
    """

    weights: str
    data: Source = Source()
    split: str = "test"
    threshold: float = 0.5
    rule: bool = True
    json: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        one_of("split", self.split, PARTS)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold} must lie between 0 and 1")


def main(argv: Sequence[str] | None = None) -> dict:
    """Parse the options, measure, print and write; return the means."""
    options = parse(Evaluate, "train.evaluate", argv)
    memory.keep_freed()
    network = inference.open_network(options.weights, "float32")  # so that numbers do not depend on the processor
    if network.metadata["kind"] != "segmentation":
        raise ValueError(f"{options.weights} is a {network.metadata['kind']} checkpoint; expected a segmentation")
    network = network if options.rule else replace(network, metadata=network.metadata | {"rule": None})
    dataset = select_cases(network, options.data, options.split)
    about = {
        "weights": Path(options.weights).name,
        "sha256": network.sha256,
        "split": options.split,
        "data": dataset.name,
        "threshold": options.threshold,
    }
    about |= {key: network.metadata.get(key) for key in ("rule", "flips_averaged", "calibrated")}
    if options.json and not is_same_measurement(Path(options.json), about):
        check_replace(Path(options.json), options.overwrite)
    if not dataset.target:
        raise ValueError(f"{dataset.name!r} at {options.data.root} has no masks to measure against")
    sample_notes: list[tuple[str, str]] = []
    reliability = Reliability()
    found = measure(network, collect_notes(dataset, sample_notes), options.threshold, reliability=reliability)
    notes = [*dataset.notes, *datasets.add_names(sample_notes)]
    means = {kind: metrics.summary(list(rows.values())) for kind, rows in found.items() if rows}
    for kind, values in means.items():
        if left_out := round(values["images"] - values["distances"]):
            named = f"{left_out} {kind}{'s' * (left_out > 1)}"
            notes.append(f"HD95 and ASSD were not measured for {named}, whose outlines are too large.")
    print_notes(notes)
    for kind, values in means.items():
        print(f"per {kind}\n" + "\n".join(f"  {name:16s} {value:.4f}" for name, value in values.items()))
    if options.json:
        rows = {kind: {name: jsonl.nan_to_none(row) for name, row in of.items()} for kind, of in found.items()}
        about |= {"cases": rows["image"], "notes": notes, "reliability": reliability.table()}
        if "volume" in means:
            about |= {"per_volume": jsonl.nan_to_none(means["volume"]), "volumes": rows["volume"]}
        text = json.dumps(jsonl.nan_to_none(means["image"]) | about, indent=1, allow_nan=False)
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(Path(options.json), (text + "\n").encode())
    return means["image"]


def is_same_measurement(path: Path, about: dict) -> bool:
    """Return True if a file holds an earlier result of the same measurement."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and all(held.get(key) == value for key, value in about.items())


def select_cases(network: Network, source: Source, part: str) -> Dataset:
    """Return the cases to measure: those of the checkpoint's own split, or everything when the data set is another."""
    split = splits.restore(network.metadata["split"])
    name, trained = source.name or split.dataset, network.metadata.get("data", {}).get("modality", "")
    dataset = datasets.open_dataset(
        name, source.root, network.sequences, source.modality or (trained if name == split.dataset else "")
    )
    if trained and dataset.modality != trained:
        dataset = replace(
            dataset,
            notes=(*dataset.notes, f"The checkpoint was trained on {trained}; these images are {dataset.modality}."),
        )
    if part == "all":
        return dataset
    if dataset.name != split.dataset:
        raise ValueError(
            f"the checkpoint was trained on {split.dataset!r}, so {dataset.name!r} has no part {part!r} for it; use"
            " --split all"
        )
    return dataset.of(split.part(part))


def collect_notes(dataset: Dataset, sample_notes: list[tuple[str, str]]) -> Dataset:
    """Return the data set with a reader that adds each sample's notes to ``sample_notes``: patient, sentence."""
    group = dict(zip(dataset.cases, dataset.groups, strict=True))

    def read(case: str) -> datasets.Sample:
        sample = dataset.read(case)
        sample_notes.extend((group[case], note) for note in sample.notes)
        return sample

    return replace(dataset, read=read)


def measure(
    network: Network,
    dataset: Dataset,
    threshold: float,
    score: Callable[..., dict[str, float]] = metrics.case,
    reliability: Reliability | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure all cases with a progress bar; return numbers by "image" and case, of volumes by "volume" and patient.

    score: (predicted, truth, spacing) -> numbers. reliability: counts the probabilities of all pixels.
    """
    images: dict[str, dict] = {}
    volumes: dict[str, dict] = {}
    slices: list[tuple] = []
    cases = zip(dataset.groups, tqdm(dataset, desc="evaluating", unit="img", total=len(dataset)), strict=True)
    for group, samples in itertools.groupby(cases, key=lambda pair: pair[0]):
        slices = []
        for _, sample in samples:
            probability_hw = inference.probability(network, sample.unit, sample.box)
            predicted_hw = inference.lesion_mask(network.readout.rule, probability_hw, threshold, sample.box)
            if reliability:
                reliability.add(probability_hw, sample.mask)
            images[sample.case] = score(predicted_hw, sample.mask, sample.spacing_hw)
            slices.append((predicted_hw, sample.mask))
        if group != sample.case:
            predicted_shw, truth_shw = (np.stack(masks) for masks in zip(*slices, strict=True))
            volumes[group] = score(predicted_shw, truth_shw, sample.spacing if sample.steps is None else sample.steps)
    return {"image": images, "volume": volumes}


if __name__ == "__main__":
    run(main, "train.evaluate")
