"""Strokes that a simulated annotator needs to outline a lesion: with a brush from nothing, with a brush from the
network's proposal, and with scribbles from either, with the features of each network given and with none.

The annotator mends the largest wrong region by one stroke along its middle, and stops when the Dice coefficient is
high enough. With a brush it may take whichever of four sizes mends most; a scribble is always thin. Images with a
lesion only, at 256 x 256. The proposal is one network's, whichever network's features are compared.

  python -m benchmarks.annotator --data.name phantom --images 24
  python -m benchmarks.annotator --data.name busi --data.root Dataset_BUSI_with_GT --images 30
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from tqdm import tqdm

from benchmarks import keep
from mpsams import inference, metrics, splits
from mpsams.annotation import scribble
from mpsams.datasets import Stack
from mpsams.inference import Network
from train.command_line import parse
from train.options import Data, read

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
BRUSHES = (3.0, 6.0, 12.0, 24.0)  # radii in pixels, of which the annotator takes the one that mends most
PEN = 2.0  # radius of a scribble in pixels
DEEP = 0.5  # a scribble keeps to where a wrong region is at least so deep, of its greatest depth
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to half of a pixel's neighbours
AFTER = (0, 1, 2, 3, 5, 10)  # strokes after which the Dice coefficient is told
NOTHING = "no network"

Draw = Callable[[np.ndarray], np.ndarray]  # strokes so far, int8 (H, W) -> mask, bool (H, W)


@dataclass(frozen=True)
class Annotator:
    """Options of the measurement.

    Args:
        weights: the segmentation network that proposes.
        features: networks whose features the scribbles are compared with.
        part: of the networks' split when the data set is theirs: train, val or test; of none of them in train.
        images: at most so many, evenly spread; 0 is all.
        dsc: the Dice coefficient at which an image is done.
        most: strokes after which the annotator gives up.
        noise: how far the hand strays, deviation in pixels.
        quick: only print what is found.
    """

    data: Data = Data()
    weights: str = str(WEIGHTS / "busi-mps_ams-seg-10.safetensors")
    features: tuple[str, ...] = tuple(
        str(WEIGHTS / f"busi-{name}.safetensors") for name in ("mps_ams-pretrain", "mps_ams-seg-10", "scratch-seg-10")
    )
    part: str = "test"
    images: int = 0
    dsc: float = 0.90
    most: int = 40
    noise: float = 1.0
    quick: bool = False


@dataclass(frozen=True)
class Stroke:
    """One stroke: which pixels, bool (H, W); whether it says lesion; its length in pixels."""

    pixels_hw: np.ndarray
    lesion: bool
    length: int


def largest_wrong(truth_hw: np.ndarray, mask_hw: np.ndarray) -> np.ndarray | None:
    """The largest connected region that is all missed or all too much, bool (H, W); None when the mask is right."""
    labels_hw, missed = ndimage.label(truth_hw & ~mask_hw)
    surplus_hw, surplus = ndimage.label(mask_hw & ~truth_hw)
    labels_hw = np.where(surplus_hw > 0, surplus_hw + missed, labels_hw)
    if missed + surplus == 0:
        return None
    sizes = np.bincount(labels_hw.ravel())
    return labels_hw == 1 + int(sizes[1:].argmax())


def middle(region_hw: np.ndarray, least: float) -> tuple[np.ndarray, float]:
    """A line along a region's middle between the two ends farthest apart: pixels (n, 2), and the least depth along it.

    least: how deep the line must lie, in pixels from the region's edge; less where nothing is so deep.
    """
    depth_hw = ndimage.distance_transform_edt(np.pad(region_hw, 1))[1:-1, 1:-1]
    labels_hw, _ = ndimage.label(depth_hw >= min(least, depth_hw.max()), structure=np.ones((3, 3)))
    deepest = np.unravel_index(depth_hw.argmax(), depth_hw.shape)
    pixels_n2 = np.argwhere(labels_hw == labels_hw[deepest])
    place_hw = np.full(region_hw.shape, -1)
    place_hw[tuple(pixels_n2.T)] = np.arange(len(pixels_n2))
    graph = ways(place_hw, depth_hw)
    first = place_hw[deepest]
    for _ in range(2):  # the farthest from the farthest
        start = first
        distance_n, before_n = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
        first = int(distance_n.argmax())
    line = [first]
    while line[-1] != start:
        line.append(int(before_n[line[-1]]))
    line_n2 = pixels_n2[line]
    return line_n2, float(depth_hw[tuple(line_n2.T)].min())


def ways(place_hw: np.ndarray, depth_hw: np.ndarray) -> coo_array:
    """Steps between neighbouring pixels of a region, longer where it is less deep.

    place_hw: a pixel's number, -1 outside.
    """
    height, width = place_hw.shape
    rows, columns, costs = [], [], []
    for down, right in STEPS:
        here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
        there = slice(down, height), slice(max(0, right), width - max(0, -right))
        both = (place_hw[here] >= 0) & (place_hw[there] >= 0)
        rows.append(place_hw[here][both])
        columns.append(place_hw[there][both])
        costs.append(np.hypot(down, right) * 2 / (depth_hw[here][both] + depth_hw[there][both]))
    count = int(place_hw.max()) + 1
    return coo_array(
        (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    ).tocsr()


def draw_stroke(
    line_n2: np.ndarray, radius: float, shape_hw: tuple[int, int], noise: float, rng: np.random.Generator
) -> np.ndarray:
    """The pixels that a round pen touches along a line, by a hand that strays slowly: bool (H, W)."""
    strayed_n2 = line_n2.astype(float)
    if noise:
        slow_n2 = ndimage.gaussian_filter1d(rng.normal(size=(len(line_n2), 2)), 5.0, axis=0, mode="reflect")
        strayed_n2 = (
            strayed_n2 + noise * slow_n2 / max(slow_n2.std(), 1e-9)
            if len(line_n2) > 1
            else strayed_n2 + noise * rng.normal(size=2)
        )
    rows, columns = np.clip(strayed_n2.round().astype(int), 0, np.array(shape_hw) - 1).T
    clear_hw = np.ones(shape_hw, bool)
    clear_hw[rows, columns] = False
    return ndimage.distance_transform_edt(clear_hw) <= radius


def brush(
    truth_hw: np.ndarray, mask_hw: np.ndarray, noise: float, rng: np.random.Generator, radii: Sequence[float] = BRUSHES
) -> Stroke | None:
    """The next stroke of a brush along the largest wrong region: of the sizes, no larger than fits, the one that mends
    most pixels, less those it spills on. None when all is right.
    """
    region_hw = largest_wrong(truth_hw, mask_hw)
    if region_hw is None:
        return None
    lesion, best, most = bool(truth_hw[region_hw][0]), None, -np.inf
    for radius in radii:
        line_n2, depth = middle(region_hw, radius + 1)
        pixels_hw = draw_stroke(line_n2, min(radius, max(0.0, np.ceil(depth) - 1)), region_hw.shape, noise, rng)
        right_hw = pixels_hw & (truth_hw == lesion)
        mended = int((right_hw & (mask_hw != lesion)).sum() - (pixels_hw & ~right_hw).sum())
        if mended > most:
            best, most = Stroke(pixels_hw, lesion, len(line_n2)), mended
    return best


def pen(truth_hw: np.ndarray, mask_hw: np.ndarray, noise: float, rng: np.random.Generator) -> Stroke | None:
    """The next scribble: thin, along the middle of the largest wrong region. None when all is right."""
    region_hw = largest_wrong(truth_hw, mask_hw)
    if region_hw is None:
        return None
    deepest = float(ndimage.distance_transform_edt(np.pad(region_hw, 1)).max())
    line_n2, depth = middle(region_hw, DEEP * deepest)
    pixels_hw = draw_stroke(line_n2, min(PEN, max(0.0, np.ceil(depth) - 1)), region_hw.shape, noise, rng)
    return Stroke(pixels_hw, bool(truth_hw[region_hw][0]), len(line_n2))


@dataclass(frozen=True)
class Session:
    """The annotation of one image.

    dsc: before the first stroke and after each. lengths: of the strokes in pixels. ms: to answer each of them.
    """

    dsc: tuple[float, ...]
    lengths: tuple[int, ...]
    ms: tuple[float, ...]

    def strokes(self, goal: float) -> int | None:
        """Number of strokes to the goal; None when it was not reached."""
        return next((count for count, dsc in enumerate(self.dsc) if dsc >= goal), None)


def dice(mask_hw: np.ndarray, truth_hw: np.ndarray) -> float:
    """Dice coefficient of two masks (H, W)."""
    return float(metrics.overlap(*(torch.from_numpy(each[None]) for each in (mask_hw, truth_hw)))["dsc"])


def annotate_by_brush(
    truth_hw: np.ndarray, start_hw: np.ndarray, goal: float, most: int, noise: float, seed: int
) -> Session:
    """Paint until the goal is reached, from a mask, bool (H, W)."""
    rng, mask_hw, dsc, lengths = np.random.default_rng(seed), start_hw, [dice(start_hw, truth_hw)], []
    while dsc[-1] < goal and len(lengths) < most and (stroke := brush(truth_hw, mask_hw, noise, rng)):
        mask_hw = np.where(stroke.pixels_hw, stroke.lesion, mask_hw)
        lengths.append(stroke.length)
        dsc.append(dice(mask_hw, truth_hw))
    return Session(tuple(dsc), tuple(lengths), ())


def annotate_by_scribble(
    truth_hw: np.ndarray, follow: Draw, goal: float, most: int, noise: float, seed: int
) -> Session:
    """Scribble until the goal is reached; a later stroke goes over an earlier one."""
    rng, strokes_hw = np.random.default_rng(seed), np.zeros(truth_hw.shape, np.int8)
    mask_hw = follow(strokes_hw)
    dsc, lengths, ms = [dice(mask_hw, truth_hw)], [], []
    while dsc[-1] < goal and len(lengths) < most and (stroke := pen(truth_hw, mask_hw, noise, rng)):
        strokes_hw = np.where(stroke.pixels_hw, np.int8(1 if stroke.lesion else -1), strokes_hw)
        began = time.perf_counter()
        mask_hw = follow(strokes_hw)
        ms.append(1000 * (time.perf_counter() - began))
        lengths.append(stroke.length)
        dsc.append(dice(mask_hw, truth_hw))
    return Session(tuple(dsc), tuple(lengths), tuple(ms))


def choose_images(options: Annotator, stack: Stack, networks: Sequence[Network]) -> list[int]:
    """The numbers of the images to outline: with a lesion and, where the data set is the networks' own, held out.

    Of the first network's part, and in no network's training part.
    """
    own = [splits.restore(network.metadata["split"]) for network in networks if "split" in network.metadata]
    own = [split for split in own if split.dataset == stack.name]
    wanted = set(own[0].part(options.part)).difference(*(split.train for split in own)) if own else set(stack.groups)
    found = [
        i for i, group in enumerate(stack.groups) if group in wanted and bool(stack.take(torch.tensor([i]))[1].any())
    ]
    if not found:
        raise ValueError(f"no image of part {options.part!r} of {stack.name!r} has a lesion")
    count = min(options.images or len(found), len(found))
    return [found[number * len(found) // count] for number in range(count)]


def sessions(
    unit_hw: np.ndarray,
    truth_hw: np.ndarray,
    proposer: Network,
    networks: dict[str, Network | None],
    options: Annotator,
    seed: int,
) -> dict[str, Session]:
    """Everything that is compared on one image: "brush, from nothing", and so on."""
    probability_hw, none_hw = (
        inference.to_image(inference.grid_probability(proposer, unit_hw), truth_hw.shape),
        np.zeros(truth_hw.shape, np.float32),
    )
    limits = options.dsc, options.most, options.noise, seed
    found = {}
    proposal_hw = inference.lesion_mask(proposer.readout.rule, probability_hw)
    for start, from_hw, mask_hw in (("nothing", none_hw, none_hw > 0.5), ("proposal", probability_hw, proposal_hw)):
        found[f"brush, from {start}"] = annotate_by_brush(truth_hw, mask_hw, *limits)
        for name, network in networks.items():
            of = scribble.prepare(unit_hw, from_hw, inference.features(network, unit_hw) if network else None)
            found[f"scribble, from {start}, {name}"] = annotate_by_scribble(
                truth_hw, lambda strokes_hw, of=of: scribble.refine(of, strokes_hw) > 0.5, *limits
            )
    return found


def summarise_sessions(found: Sequence[Session], goal: float, most: int) -> dict:
    """Median and quartiles of strokes (those who gave up count as ``most``), who reached the goal, Dice after some
    strokes, ms a stroke.
    """
    strokes = [most if (count := one.strokes(goal)) is None else count for one in found]
    ms = [value for one in found for value in one.ms]
    low, median, high = np.percentile(strokes, (25, 50, 75))
    return {
        "median": float(median),
        "quartiles": [float(low), float(high)],
        "mean": round(float(np.mean(strokes)), 2),
        "reached": round(float(np.mean([one.strokes(goal) is not None for one in found])), 3),
        "dsc_after": {
            str(count): round(float(np.median([one.dsc[min(count, len(one.dsc) - 1)] for one in found])), 3)
            for count in AFTER
        },
        "length": round(float(np.median([sum(one.lengths) for one in found])), 1),
        "ms": [round(float(q), 1) for q in np.percentile(ms, (50, 95))] if ms else None,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Outline every image in every way, and keep what it took."""
    options = parse(Annotator, "benchmarks.annotator", argv)
    proposer = inference.open_network(options.weights)
    networks = {Path(path).stem: inference.open_network(path) for path in options.features}
    stack = read(options.data, partial(tqdm, desc="reading", unit="img"))
    indices = choose_images(options, stack, [proposer, *networks.values()])
    kept: dict[str, list[Session]] = {}
    for i in tqdm(indices, desc="outlining", unit="img"):
        images_1chw, masks_11hw = stack.take(torch.tensor([i]))
        unit_hw, truth_hw = images_1chw[0, 0].numpy().astype(np.float32) / 255, masks_11hw[0, 0].numpy()
        for name, session in sessions(unit_hw, truth_hw, proposer, {NOTHING: None, **networks}, options, i).items():
            kept.setdefault(name, []).append(session)
    about = {
        "called": stack.name,
        "images": len(indices),
        "part": options.part,
        "size": stack.size,
        "proposal": Path(options.weights).stem,
        "dsc": options.dsc,
        "most": options.most,
        "noise": options.noise,
        "source": stack.source,
    }
    keep(
        f"annotator-{stack.name}",
        {"ways": {name: summarise_sessions(found, options.dsc, options.most) for name, found in kept.items()}} | about,
        options.quick,
    )


if __name__ == "__main__":
    main()
