"""Gestures and seconds that a simulated annotator needs to outline a lesion with each tool of the Annotate tab: brush,
scribbles, boxes and clicks; from nothing and from the assistant's proposal.

The annotator stops when the Dice coefficient is high enough. With brush and scribbles it mends the largest wrong region
by one stroke along its middle; a brush may take whichever of four sizes mends most, a scribble is always thin. With a
box or a click it marks each part of the lesion for the prompt network, and then clicks into the largest error; a
proposal that is not good enough gives way to these. Images with a lesion only, at 256 x 256.

Seconds are those of the answers and, by the keystroke-level model, of the hand.

  python -m benchmarks.annotator --data.name phantom
  python -m benchmarks.annotator --data.name busi --data.root Dataset_BUSI_with_GT --images 30
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import keep
from benchmarks.annotator_sessions import Effort, Session, annotate_by_brush, annotate_by_prompts, annotate_by_scribble
from mpsams import inference, splits
from mpsams.annotation import scribble
from mpsams.datasets import Stack
from mpsams.inference import Network, prompts
from mpsams.inference.prompts import Prompt
from train.command_line import parse
from train.options import Data, read

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
AFTER = (0, 1, 2, 3, 5, 10)  # gestures after which the Dice coefficient is measured
NOTHING = "no network"


@dataclass(frozen=True)
class Annotator:
    """Options of the measurement.

    Args:
        weights: the segmentation network that proposes; empty for the data set's assistant, and for phantoms BUSI's.
        prompt: the network that answers boxes and clicks.
        features: further networks whose features scribbles are compared with, beside the proposing network's and none.
        part: train, val or test, of the first network that has a split of the data set.
        images: at most this many, evenly spread; 0 is all.
        dsc: the Dice coefficient at which an image is done.
        most: gestures after which the annotator gives up.
        noise: how far the hand strays, deviation in pixels.
        quick: only print what is found.
    """

    data: Data = Data()
    weights: str = ""
    prompt: str = str(WEIGHTS / "prompt.safetensors")
    features: tuple[str, ...] = ()
    part: str = "test"
    images: int = 0
    dsc: float = 0.90
    most: int = 40
    noise: float = 1.0
    quick: bool = False


@dataclass(frozen=True)
class Networks:
    """The networks of the tools.

    proposer: makes the proposal. prompt: answers boxes and clicks. features: of scribbles, by name; None for none.
    """

    proposer: Network
    prompt: Network
    features: dict[str, Network | None]


def choose_images(options: Annotator, stack: Stack, networks: Sequence[Network]) -> list[int]:
    """Return the numbers of the images to outline: with a lesion, and held out where the data set is the networks' own.

    Of the first network's part or of none of its parts, and in no network's training part.
    """
    about = [network.metadata for network in networks]
    values = [each for one in about for each in (*([one["split"]] if "split" in one else []), *one.get("splits", ()))]
    own = [split for split in map(splits.restore, values) if split.dataset == stack.name]
    wanted = set(stack.groups).difference(*(split.train for split in own))
    if own:
        wanted -= set(own[0].part("all")) - set(own[0].part(options.part))
    found = [
        i for i, group in enumerate(stack.groups) if group in wanted and bool(stack.take(torch.tensor([i]))[1].any())
    ]
    if not found:
        raise ValueError(f"no image of part {options.part!r} of {stack.name!r} has a lesion")
    count = min(options.images or len(found), len(found))
    return [found[number * len(found) // count] for number in range(count)]


def sessions(unit_hw: np.ndarray, truth_hw: np.ndarray, networks: Networks, effort: Effort) -> dict[str, Session]:
    """Run everything that is compared on one image: "brush, from nothing", and so on."""

    def answer(prompt: Prompt) -> np.ndarray:
        return prompts.segment_prompt(networks.prompt, unit_hw, prompt).mask

    probability_hw, none_hw = (
        inference.to_image(inference.grid_probability(networks.proposer, unit_hw), truth_hw.shape),
        np.zeros(truth_hw.shape, np.float32),
    )
    found = {}
    proposal_hw = inference.lesion_mask(networks.proposer.readout.rule, probability_hw)
    for start, from_hw, mask_hw in (("nothing", none_hw, none_hw > 0.5), ("proposal", probability_hw, proposal_hw)):
        found[f"brush, from {start}"] = annotate_by_brush(truth_hw, mask_hw, effort)
        for name, network in networks.features.items():
            of = scribble.prepare(unit_hw, from_hw, inference.features(network, unit_hw) if network else None)
            found[f"scribble, from {start}, {name}"] = annotate_by_scribble(
                truth_hw, lambda strokes_hw, of=of: scribble.refine(of, strokes_hw) > 0.5, effort
            )
        for name, with_boxes in (("box", True), ("click", False)):
            found[f"{name}, from {start}"] = annotate_by_prompts(truth_hw, mask_hw, answer, with_boxes, effort)
    return found


def summarise_sessions(found: Sequence[Session], goal: float, most: int) -> dict:
    """Return the median and quartiles of gestures (those who gave up count as ``most``), who reached the goal, median
    seconds of an image, Dice after some gestures, ms of an answer.
    """
    gestures = [most if (count := one.gestures(goal)) is None else count for one in found]
    ms = [value for one in found for value in one.ms]
    low, median, high = np.percentile(gestures, (25, 50, 75))
    return {
        "median": float(median),
        "quartiles": [float(low), float(high)],
        "mean": round(float(np.mean(gestures)), 2),
        "reached": round(float(np.mean([one.gestures(goal) is not None for one in found])), 3),
        "seconds": round(float(np.median([one.seconds() for one in found])), 1),
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
    assistant = f"{'busi' if options.data.name == 'phantom' else options.data.name}-assist.safetensors"
    weights = Path(options.weights or WEIGHTS / assistant)
    proposer = inference.open_network(weights)
    others = {weights.stem: proposer} | {Path(path).stem: inference.open_network(path) for path in options.features}
    networks = Networks(proposer, inference.open_network(options.prompt), {NOTHING: None, **others})
    stack = read(options.data, partial(tqdm, desc="reading", unit="img"))
    indices = choose_images(options, stack, [*others.values(), networks.prompt])
    kept: dict[str, list[Session]] = {}
    for i in tqdm(indices, desc="outlining", unit="img"):
        images_1chw, masks_11hw = stack.take(torch.tensor([i]))
        unit_hw, truth_hw = images_1chw[0, 0].numpy().astype(np.float32) / 255, masks_11hw[0, 0].numpy()
        effort = Effort(options.dsc, options.most, options.noise, i)
        for name, session in sessions(unit_hw, truth_hw, networks, effort).items():
            kept.setdefault(name, []).append(session)
    about = {
        "called": stack.name,
        "images": len(indices),
        "part": options.part,
        "size": stack.size,
        "proposal": weights.stem,
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
