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
from tqdm import tqdm

from benchmarks import keep
from benchmarks.annotator_strokes import brush, pen
from mpsams import inference, metrics, splits
from mpsams.annotation import scribble
from mpsams.datasets import Stack
from mpsams.inference import Network
from train.command_line import parse
from train.options import Data, read

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
AFTER = (0, 1, 2, 3, 5, 10)  # strokes after which the Dice coefficient is measured
NOTHING = "no network"

Draw = Callable[[np.ndarray], np.ndarray]  # strokes so far, int8 (H, W) -> mask, bool (H, W)


@dataclass(frozen=True)
class Annotator:
    """Options of the measurement.

    Args:
        weights: the segmentation network that proposes.
        features: networks whose features the scribbles are compared with.
        part: of the networks' split when the data set is theirs: train, val or test; of none of them in train.
        images: at most this many, evenly spread; 0 is all.
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
class Session:
    """The annotation of one image.

    dsc: before the first stroke and after each. lengths: of the strokes in pixels. ms: to answer each of them.
    """

    dsc: tuple[float, ...]
    lengths: tuple[int, ...]
    ms: tuple[float, ...]

    def strokes(self, goal: float) -> int | None:
        """Return the number of strokes to the goal; None when it was not reached."""
        return next((count for count, dsc in enumerate(self.dsc) if dsc >= goal), None)


def dice(mask_hw: np.ndarray, truth_hw: np.ndarray) -> float:
    """Return the Dice coefficient of two masks (H, W)."""
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
    """Return the numbers of the images to outline: with a lesion and, where the data set is the networks' own, held
    out.

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
    """Run everything that is compared on one image: "brush, from nothing", and so on."""
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
    """Return the median and quartiles of strokes (those who gave up count as ``most``), who reached the goal, Dice
    after some strokes, ms a stroke.
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
