"""Ranking of lesion patches by selectors, on a data set with truth: the paper's, ours, others that were tried, and
baselines.

Of each selector: ROC AUC of its ranking, lift of the cluster it calls lesion and of its first 15% (how many times as
often a patch is lesion as one drawn at random), the share of the lesion that is hidden at some epochs, and milliseconds
per image. With bootstrap intervals over patients. What it gets worst is drawn into --out, which is not to be shared
where images are not.

  python -m benchmarks.lesion_ranking --data.name busi --data.root Dataset_BUSI_with_GT \\
      --weights weights/busi-mps_ams-pretrain.safetensors
  python -m benchmarks.lesion_ranking --data.name hecktor --data.root packs/hecktor-128 --data.size 128 --patch 8 \\
      --data.slice_stride 3
  python -m benchmarks.lesion_ranking --draw docs/images/lesion_ranking
"""

# Over 250 lines because the measures of a selector, their record and its figure are one command.

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import baselines, keep
from mpsams import clusters, inference, masking, metrics, patches, plots, schedule, tables
from mpsams.clusters import Clusters
from mpsams.datasets import Stack
from train.command_line import parse
from train.options import Data, read

RECORDS = Path(__file__).parents[1] / "mpsams" / "app" / "learn" / "data"  # the Learn tab shows them
TOP = 0.15  # of the patches, of which the lift is reported
EPOCHS = (1, 10, 100, 800)
BATCH = 32
WORST = 6  # images drawn
RANDOM, TRUTH, CENTRE = "random order", "the truth itself", "distance to the image centre"
CALLED = {"busi": "ultrasound", "hecktor": "CT", "brats": "T1"}  # on figures
TITLES = {
    **{
        f"{selector} {normalise}": f"{selector.replace('-', ' ')}, {normalise}"
        for selector in clusters.PAPER_SELECTORS
        for normalise in clusters.NORMALISATIONS
    },
    clusters.GEODESIC: "geodesic",
}

# images (B, 1, H, W) in [0, 1], their lesion patches (B, L), side of a patch
Select = Callable[[Tensor, Tensor, int], Clusters]


@dataclass(frozen=True)
class Ranking:
    """Options of the measurement.

    Args:
        patch: side of a patch in pixels.
        weights: a pretrained network, whose features and errors are tried as selectors too.
        only: measure only these selectors, and leave the others in the record as they are.
        images: at most this many, evenly spread; 0 is all.
        out: folder for pictures of the worst cases.
        draw: only draw the records there are into this file, as .png and .pdf, and measure nothing.
        quick: only print what is found.
    """

    data: Data = Data()
    patch: int = 16
    weights: str | None = None
    only: tuple[str, ...] = ()
    images: int = 0
    out: str | None = None
    draw: str | None = None
    quick: bool = False


def selectors(weights: str | None = None) -> dict[str, Select]:
    """Return all selectors by name: marks, the paper's, ours, and those that were tried."""
    found: dict[str, Select] = {
        RANDOM: lambda x, truth, patch: at_random(truth),
        TRUTH: lambda x, truth, patch: clusters.split_numbers(truth.float()),
    }
    for selector in clusters.PAPER_SELECTORS:
        for normalise in clusters.NORMALISATIONS:
            found[f"{selector} {normalise}"] = lambda x, truth, patch, options=(selector, normalise): clusters.split(
                x, patch, *options
            )
    found[clusters.GEODESIC] = lambda x, truth, patch: clusters.split(x, patch, clusters.GEODESIC)
    numbers = baselines.UNTRAINED | (baselines.network_selectors(inference.open_network(weights)) if weights else {})
    for name, number in numbers.items():
        found[name] = lambda x, truth, patch, number=number: clusters.split_numbers(number(x, patch))
    return found


def choose_selectors(options: Ranking) -> dict[str, Select]:
    """Return the selectors that are to be measured. ValueError names those there are."""
    found = selectors(options.weights)
    if unknown := set(options.only) - set(found):
        raise ValueError(f"no selector is called {', '.join(sorted(unknown))}; there are: {', '.join(found)}")
    return {name: select for name, select in found.items() if name in options.only or not options.only}


def at_random(truth_bl: Tensor) -> Clusters:
    """Return no lesion cluster, and a random number for each patch."""
    numbers_bl = torch.rand(truth_bl.shape, generator=torch.Generator().manual_seed(int(truth_bl.sum())))
    return Clusters(torch.zeros_like(truth_bl), numbers_bl.unsqueeze(2))


def score(found: Clusters) -> Tensor:
    """Return the scores by which patches are ranked: (B, L)."""
    return found.rows_bln[:, :, 0] if found.rows_bln.shape[2] == 1 else found.score_bl


def with_lesion(stack: Stack, patch: int) -> Tensor:
    """Return the numbers of the images that have a lesion patch."""
    batches = torch.arange(len(stack)).split(256)
    return torch.cat([patches.is_lesion(stack.take(batch)[1], patch).any(dim=1) for batch in batches]).nonzero()[:, 0]


def measure(stack: Stack, indices: Tensor, patch: int, select: Select, name: str) -> dict[str, np.ndarray]:
    """Measure per image: auc, lift (of the cluster), lift_top, size (of the cluster), cover-E at each epoch E, ms."""
    kept: dict[str, list] = {}
    for batch in tqdm(indices.split(BATCH), desc=name, unit=f"x{BATCH} img", leave=False):
        images_b1hw, masks_b1hw = stack.take(batch)
        truth_bl, x_b1hw = patches.is_lesion(masks_b1hw, patch), images_b1hw[:, :1].float() / 255
        began = time.perf_counter()
        found = select(x_b1hw, truth_bl, patch)
        took = 1000 * (time.perf_counter() - began) / len(batch)
        values = rank_scores(found, truth_bl) | {"ms": [took] * len(batch)}
        for key, column in values.items():
            kept.setdefault(key, []).extend(column)
    return {key: np.array(column, float) for key, column in kept.items()}


def rank_scores(found: Clusters, truth_bl: Tensor) -> dict[str, list[float]]:
    """Return the values of ``measure`` for a batch, without its time."""
    number_bl, length = score(found), truth_bl.shape[1]
    top_bl = masking.cut(number_bl.argsort(dim=1, descending=True), TOP)
    order_bl = masking.order(found.lesion_bl, torch.Generator().manual_seed(0))
    covered = {f"cover-{epoch}": share(masking.cut(order_bl, schedule.mask_ratio(epoch)), truth_bl) for epoch in EPOCHS}
    return {
        "auc": [metrics.auc(number_l, truth_l) for number_l, truth_l in zip(number_bl, truth_bl, strict=True)],
        "lift": metrics.lift(found.lesion_bl, truth_bl).tolist(),
        "lift_top": metrics.lift(top_bl, truth_bl).tolist(),
        "size": (found.lesion_bl.sum(dim=1) / length).tolist(),
        **covered,
    }


def share(hidden_bl: Tensor, truth_bl: Tensor) -> list[float]:
    """Return the share of the lesion patches that is hidden, per image."""
    return ((hidden_bl & truth_bl).sum(dim=1) / truth_bl.sum(dim=1)).tolist()


def summarise_scores(values: Mapping[str, np.ndarray], weights_bn: np.ndarray) -> dict:
    """Return the means with bootstrap intervals; AUC also over every second image (of volumes, neighbours of the
    others: no held-out part).
    """

    def mean(column_n: np.ndarray) -> list[float]:
        low, high = np.quantile(weights_bn @ column_n / weights_bn.sum(axis=1), (0.025, 0.975))
        return [round(float(value), 4) for value in (column_n.mean(), low, high)]

    return {
        **{key: mean(values[key]) for key in ("auc", "lift", "lift_top")},
        "auc_second": round(float(values["auc"][1::2].mean()), 4),
        "size": [round(float(q), 4) for q in np.quantile(values["size"], (0.25, 0.5, 0.75))],
        "cover": {str(epoch): round(float(values[f"cover-{epoch}"].mean()), 4) for epoch in EPOCHS},
        "ms": round(float(np.median(values["ms"])), 3),
    }


def worst(stack: Stack, indices: Tensor, patch: int, auc_n: np.ndarray) -> plots.Figure:
    """Draw the images that ``geodesic`` ranks worst: the truth, and the patches it takes for lesion."""
    rows = []
    for i in np.argsort(auc_n)[:WORST]:
        images_1chw, masks_11hw = stack.take(indices[i : i + 1])
        x_11hw = images_1chw[:, :1].float() / 255
        lesion_11hw = patches.to_pixels(
            clusters.lesion_patches(x_11hw, patch, clusters.GEODESIC), patch, *x_11hw.shape[2:]
        )
        rows.append(
            plots.Row(
                f"AUC {auc_n[i]:.2f}",
                x_11hw[0, 0].numpy(),
                masks_11hw[0, 0].numpy(),
                {"lesion cluster": lesion_11hw[0, 0].numpy()},
            )
        )
    return plots.comparison(rows, ["lesion cluster"])


def read_records(folder: Path = RECORDS) -> dict[str, dict]:
    """Return the records that were kept, by data set; those of ``CALLED`` first."""
    found = {
        path.stem.partition("-")[2]: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("lesion_ranking-*.json"))
    }
    return {name: found[name] for name in (*CALLED, *found) if name in found}


def draw_figure(records: Mapping[str, dict]) -> plots.Figure:
    """Draw all records in one figure, selectors from best to worst."""
    found = {record["called"]: record["selectors"] for record in records.values()}
    names = {name for selectors in found.values() for name in selectors if name != TRUTH}

    def mean(name: str) -> float:
        return float(np.mean([selectors[name]["auc"][0] for selectors in found.values() if name in selectors]))

    return plots.ranking(found, sorted(names, key=mean, reverse=True), TITLES, clusters.GEODESIC, CENTRE)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, draw and keep."""
    options = parse(Ranking, "benchmarks.lesion_ranking", argv)
    if options.draw:
        save(draw_figure(read_records()), Path(options.draw), ("png", "pdf"))
        return
    stack = read(options.data, partial(tqdm, desc="reading", unit="img"))
    stack = stack.of(tuple(dict.fromkeys(stack.groups)), options.data.slice_stride)
    indices = with_lesion(stack, options.patch)
    indices = indices[:: -(-len(indices) // options.images)] if options.images else indices
    weights_bn = tables.resample([stack.groups[i] for i in indices])
    each = {
        name: measure(stack, indices, options.patch, select, name) for name, select in choose_selectors(options).items()
    }
    if clusters.GEODESIC in each:
        out = Path(options.out or f"runs/lesion_ranking-{stack.name}")
        save(worst(stack, indices, options.patch, each[clusters.GEODESIC]["auc"]), out / "worst", ("png",))
        print(f"worst cases: {out / 'worst.png'}")
    about = {
        "called": CALLED.get(stack.name, stack.name),
        "images": len(indices),
        "patients": len({stack.groups[i] for i in indices}),
        "size": stack.size,
        "patch": options.patch,
        "network": Path(options.weights).stem if options.weights else None,
        "source": stack.source,
        "target": stack.target,
    }
    before = read_records().get(stack.name, {}) if options.only else {}
    if before and any(before[key] != about[key] for key in ("images", "size", "patch")):
        raise ValueError(
            f"the record of {stack.name} is of {before['images']} images of {before['size']} pixels, this is of"
            f" {len(indices)} of {stack.size}"
        )
    about["network"] = about["network"] or before.get("network")
    selectors = before.get("selectors", {}) | {
        name: summarise_scores(values, weights_bn) for name, values in each.items()
    }
    keep(f"lesion_ranking-{stack.name}", {"selectors": selectors} | about, options.quick, RECORDS)


def save(figure: plots.Figure, path: Path, suffixes: Sequence[str]) -> None:
    """Write a figure in each format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        path.with_suffix(f".{suffix}").write_bytes(plots.as_bytes(figure, suffix))


if __name__ == "__main__":
    main()
