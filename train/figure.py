"""Figure 2 of the paper from a reproduction's runs: cases as rows; image, truth and every method as columns.

It is drawn by train.reproduce, which first trains what the figure needs and is not there yet:

  python -m train.reproduce fig2 --data.name phantom
  python -m train.reproduce fig2 --plan busi-cpu --data.root Dataset_BUSI_with_GT
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mpsams import checkpoint, datasets, inference, plots, splits, tables
from train.evaluate import Source
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
            name: inference.lesion_mask(each.readout.rule, inference.probability(each, sample.unit, sample.box), box=sample.box)
            for name, each in networks.items()
        }
        rows.append(plots.Row(case, sample.unit.reshape(-1, *sample.unit.shape[-2:])[0], sample.mask, masks))
    figure = plots.comparison(rows, list(networks), tables.TITLES)
    written = [out / f"fig2.{form}" for form in ("pdf", "png")]
    for path in written:
        checkpoint.write(path, plots.as_bytes(figure, path.suffix[1:]))
    return written


def choose_cases(results: Sequence[Mapping], count: int) -> list[str]:
    """Cases with a lesion from the easiest to the hardest, evenly by the rank of their mean DSC over all methods; nothing is picked by hand."""
    columns = results[0]["columns"]
    dsc, real = columns.index("dsc"), columns.index("real")
    lesions = [case for case, values in results[0]["cases"].items() if values[real] > 0]
    ranked = sorted(lesions, key=lambda case: (-np.mean([row["cases"][case][dsc] for row in results]), case))
    at = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[index] for index in at]


if __name__ == "__main__":
    print(__doc__)
