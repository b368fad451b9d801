"""Draw images as rows, networks as columns: the outlines of chosen networks on chosen images, as in Figure 2 of the
paper.

The file's ending says what is written: .pdf (vector), .png (300 dpi) or .csv (the numbers). Masks stand in the order of
the images.

  python -m train.figure --images '["a.png", "b.png"]' --truths '["a_mask.png", "b_mask.png"]' --out figure.pdf
  python -m train.figure --images '["ct.nii.gz"]' --slices '[41]' --networks '["hecktor-assist"]' --crop body \\
      --out figure.png

Figure 2 from a reproduction's runs is drawn by train.reproduce, which first trains what the figure needs and is not
there yet:

  python -m train.reproduce fig2 --plan busi-cpu --data.root Dataset_BUSI_with_GT
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpsams import checkpoint, datasets, inference, plots, splits, tables
from mpsams.imaging import MODALITIES
from mpsams.inference import case as _case
from mpsams.inference import comparison, network_names, open_case
from mpsams.inference.comparison import DEFAULT_THRESHOLD
from mpsams.inference.figure_rows import CROPS, FORMS, FigureRow, make_row
from mpsams.inference.figure_rows import draw as draw_rows
from mpsams.inference.registry import ModelRegistry
from train.command_line import check_replace, parse, run
from train.evaluate import Source
from train.options import one_of, print_notes
from train.plan import Job

ROWS = 6


def draw(jobs: Sequence[Job], done: Mapping[str, Mapping], out: Path, source: Source, count: int = ROWS) -> list[Path]:
    """Draw the finished fine-tunings among the jobs into ``out``: fig2.pdf and fig2.png."""
    runs = [job for job in jobs if job.kind == "finetune"]
    networks = {job.method: inference.open_network(out / job.name / "weights.safetensors") for job in runs}
    network = next(iter(networks.values()))
    modality = source.modality or network.metadata.get("data", {}).get("modality")  # as they were trained
    dataset = datasets.open_dataset(source.name, source.root, network.sequences, modality)  # type: ignore[arg-type]
    test = dataset.of(splits.restore(network.metadata["split"]).test)
    rows = []
    for case in choose_cases([done[job.name] for job in runs], count):
        sample = test.read(case)
        masks = {
            name: inference.lesion_mask(
                each.readout.rule, inference.probability(each, sample.unit, sample.box), box=sample.box
            )
            for name, each in networks.items()
        }
        rows.append(plots.Row(case, sample.unit.reshape(-1, *sample.unit.shape[-2:])[0], sample.mask, masks))
    figure = plots.comparison(rows, list(networks), tables.TITLES)
    written = [out / f"fig2.{form}" for form in ("pdf", "png")]
    for path in written:
        checkpoint.write(path, plots.as_bytes(figure, path.suffix[1:]))
    return written


def choose_cases(results: Sequence[Mapping], count: int) -> list[str]:
    """Return cases with a lesion from the easiest to the hardest, evenly by the rank of their mean DSC over all
    methods; nothing is picked by hand.
    """
    columns = results[0]["columns"]
    dsc, real = columns.index("dsc"), columns.index("real")
    lesions = [case for case, values in results[0]["cases"].items() if values[real] > 0]
    ranked = sorted(lesions, key=lambda case: (-np.mean([row["cases"][case][dsc] for row in results]), case))
    at = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[index] for index in at]


@dataclass(frozen=True)
class Drawing:
    """Options of the figure.

    Args:
        images: files of the images, a row each.
        truths: files of their lesion masks, as many as images; none is no truth.
        slices: of volumes, from 1, as many as images; none is the middle.
        weights: folder of the networks.
        networks: names of networks, a column each; none is those that the app compares.
        modality: ultrasound, ct or mri; empty for what the files say.
        threshold: probability from which a pixel is lesion.
        crop: whole, body or lesion.
        out: file to write, ending in .pdf, .png or .csv.
        overwrite: replace the file if it exists.
    """

    out: str
    images: tuple[str, ...]
    truths: tuple[str, ...] = ()
    slices: tuple[int, ...] = ()
    weights: str = "weights"
    networks: tuple[str, ...] = ()
    modality: str = ""
    threshold: float = DEFAULT_THRESHOLD
    crop: str = "whole"
    overwrite: bool = False

    def __post_init__(self) -> None:
        one_of("crop", self.crop, tuple(CROPS))
        one_of("the ending of out", Path(self.out).suffix[1:], tuple(FORMS))
        one_of("modality", self.modality, ("", *MODALITIES))
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold} must lie between 0 and 1")
        for name, given in {"truths": self.truths, "slices": self.slices}.items():
            if given and len(given) != len(self.images):
                raise ValueError(f"{len(given)} {name} for {len(self.images)} images; expected as many, or none")


def rows_of(options: Drawing) -> list[FigureRow]:
    """Return every image with what the networks outline on it."""
    registry, rows = ModelRegistry(options.weights), []
    for number, file in enumerate(options.images):
        case = open_case.open_upload(
            [Path(file)],
            options.modality or None,
            lambda modality: open_case.clustering_options(registry.clustering(modality)),
        )
        if options.slices:
            index = options.slices[number] - 1
            if not 0 <= index < case.slices:
                raise ValueError(f"slice {index + 1} of {file} does not exist; there are 1 to {case.slices}")
            case = _case.move_to_slice(
                case, case.plane, index, open_case.clustering_options(registry.clustering(case.modality))
            )
        case = _case.set_truth(case, Path(options.truths[number])) if options.truths else case
        names = (
            network_names.choose_networks(registry.segmenters(case.modality), ())
            if not options.networks
            else options.networks
        )
        if not names:
            raise ValueError(
                f"no segmentation network is in {options.weights}; expected files such as"
                " busi-mps_ams-seg-10.safetensors"
            )
        print_notes([f"{Path(file).name}: {note}" for note in case.notes])
        *_, predictions = comparison.predict_slice(replace(case, title=Path(file).name), names, registry)
        rows.append(make_row(comparison.SliceComparison(predictions, options.threshold)))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, ask the networks, draw and write the figure."""
    options = parse(Drawing, "train.figure", argv)
    out = Path(options.out)
    check_replace(out, options.overwrite)
    checkpoint.write(out, draw_rows(rows_of(options), options.crop, out.suffix[1:]))


if __name__ == "__main__":
    run(main, "train.figure")
