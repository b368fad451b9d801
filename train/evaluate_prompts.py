"""Measure a prompt checkpoint with simulated users: DSC from one box and after each click, at each image's own size.

The object of an image is the largest connected part of its truth. The box is its bounding box with each side moved by
up to 8% of the box. The first click is at the deepest point of the object, each next one at the deepest point of the
largest error. Peers, which need no training, are measured with the same boxes and users in the same run.

  python -m train.evaluate_prompts --weights weights/prompt.safetensors --data.name busi \\
      --data.root Dataset_BUSI_with_GT --split test
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from mpsams import checkpoint, datasets, inference
from mpsams.inference import prompts
from mpsams.inference.prompts import Prompt
from train import memory, prompt_peers, simulated_users
from train.command_line import check_replace, parse, run
from train.evaluate import PARTS, Source, is_same_measurement
from train.options import at_least, one_of, print_notes
from train.prompt_targets import Target, open_images, targets

BOX_JITTER = 0.08
CLICKS = (1, 3, 5)  # after which the DSC is reported
MOST_CLICKS = 10  # after which a user who has not reached ``ENOUGH`` gives up
ENOUGH = 0.9
Answer = Callable[[np.ndarray, Prompt], tuple[np.ndarray, float | None]]  # image in [0, 1], prompt -> mask, confidence


@dataclass(frozen=True)
class EvaluatePrompts:
    """Options of an evaluation of prompts.

    Args:
        weights: a prompt checkpoint.
        data: which images; a folder of the data set in its official layout, or a pack, whose images are measured at
            its size.
        split: all, train, val or test, as divided when the checkpoint was trained.
        peers: also measure GrabCut (needs opencv-python-headless), random walker (needs scikit-image) and the
            scribble classifier.
        peers_every: measure peers on every n-th object only; the network's numbers on those are given beside theirs.
        limit: measure at most this many objects, spread evenly over the images; 0 is all.
        seed: of the boxes.
        json: file for the means and the numbers of every object; an earlier one of the same measurement is replaced.
        overwrite: replace the file of another measurement.
    """

    weights: str
    data: Source = field(default_factory=Source)
    split: str = "test"
    peers: bool = False
    peers_every: int = 1
    limit: int = 0
    seed: int = 0
    json: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        one_of("split", self.split, PARTS)
        at_least("limit", self.limit, 0)
        at_least("peers_every", self.peers_every, 1)


def main(argv: Sequence[str] | None = None) -> dict:
    """Parse, measure, print, write; returns what the file holds, but for the numbers of every object."""
    options = parse(EvaluatePrompts, "train.evaluate_prompts", argv)
    memory.keep_freed()
    network = inference.open_network(options.weights, "float32")  # so that numbers do not depend on the processor
    prompts.check_network(network)
    images = open_images(network.metadata, options.data, options.split)
    about: dict = {
        "weights": Path(options.weights).name,
        "sha256": network.sha256,
        "data": images.name,
        "split": options.split,
    }
    about |= {
        "pack": isinstance(images, datasets.Stack),
        "limit": options.limit,
        "seed": options.seed,
        "box_jitter": BOX_JITTER,
        "most_clicks": MOST_CLICKS,
    }
    if options.json and not is_same_measurement(Path(options.json), about):
        check_replace(Path(options.json), options.overwrite)
    peers: dict[str, Answer] = prompt_peers.available() if options.peers else {}  # type: ignore[assignment]
    print_notes(images.notes)
    rows = measure_all(
        network_answer(network), peers, targets(images, options.limit), options.seed, options.peers_every
    )
    if not rows["network"]:
        raise ValueError(f"the {options.split!r} part of {images.name!r} has no object to measure against")
    found = {"images": len(rows["network"])} | summarise(list(rows["network"].values()))
    if peers:
        found["peers"] = {name: compare(rows["network"], rows[name]) for name in peers}
    print("\n".join(describe_row(name, found["peers"][name] if name in peers else found) for name in rows))
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(Path(options.json), (json.dumps(found | about | {"cases": rows}, indent=1) + "\n").encode())
    return found


def network_answer(network: inference.Network) -> Answer:
    """Return a function that answers a prompt with a prompt network."""

    def answer(unit_hw: np.ndarray, prompt: Prompt) -> tuple[np.ndarray, float | None]:
        found = prompts.segment_prompt(network, unit_hw, prompt)
        return found.mask, found.confidence

    return answer


def measure_all(
    network: Answer, peers: dict[str, Answer], objects: Iterable[Target], seed: int, peers_every: int
) -> dict[str, dict[str, dict]]:
    """Return the numbers of ``measure`` by case, of "network" and of each peer by its name; all see the same boxes."""
    rows: dict[str, dict[str, dict]] = {name: {} for name in ("network", *peers)}
    for number, each in enumerate(objects):
        networks = {"network": network} | (peers if number % peers_every == 0 else {})
        for name, answer in networks.items():
            rng = np.random.default_rng([seed, zlib.crc32(each.case.encode())])
            rows[name][each.case] = measure(answer, each.unit_hw, each.truth_hw, rng)
    return rows


def compare(network: dict[str, dict], peer: dict[str, dict]) -> dict:
    """Return ``summarise`` of a peer, its number of objects, and "network": of the network on those."""
    same = summarise([network[case] for case in peer])
    return {"images": len(peer)} | summarise(list(peer.values())) | {"network": same}


def measure(
    answer: Answer, unit_hw: np.ndarray, truth_hw: np.ndarray, rng: np.random.Generator, most: int = MOST_CLICKS
) -> dict:
    """Measure DSC from a box and after each click, the confidence in the box's answer, and each answer's time in ms.

    A user clicks up to ``most`` times, but after ``max(CLICKS)`` only until the DSC is ``ENOUGH``.
    """
    taken: list[float] = []

    def ask(prompt: Prompt) -> tuple[np.ndarray, float | None]:
        began = time.perf_counter()
        mask_hw, confidence = answer(unit_hw, prompt)
        taken.append(1000 * (time.perf_counter() - began))
        return mask_hw, confidence

    mask_hw, confidence = ask(Prompt(box=simulated_users.jittered_box(truth_hw, BOX_JITTER, rng)))
    box, clicks = dice(mask_hw, truth_hw), list[float]()
    prompt = Prompt(positive=(simulated_users.deepest_point(truth_hw),))
    while len(clicks) < most and not (len(clicks) >= max(CLICKS) and max(clicks) >= ENOUGH):
        mask_hw, _ = ask(prompt)
        clicks.append(dice(mask_hw, truth_hw))
        prompt = simulated_users.next_click(prompt, mask_hw, truth_hw)
    return {"box": box, "confidence": confidence, "clicks": clicks, "ms": [round(value, 2) for value in taken]}


def dice(mask_hw: np.ndarray, truth_hw: np.ndarray) -> float:
    """Return the DSC of a mask and a truth that is not empty, in [0, 1]."""
    return 2 * int((mask_hw & truth_hw).sum()) / (int(mask_hw.sum()) + int(truth_hw.sum()))


def summarise(rows: Sequence[dict]) -> dict:
    """Return the means that SPEC names, of the rows of ``measure``: "box", "clicks", "clicks_to_90" and "ms_p95".

    Of clicks_to_90, "reached" is the share of objects with a DSC of ``ENOUGH`` after ``MOST_CLICKS`` clicks or fewer;
    "median" is over all objects, the others counted as one click more, and None where it is one of those.
    "confidence" is the mean confidence in answers to boxes, and its rank correlation with their DSC.
    """
    needed = [
        next((number for number, value in enumerate(row["clicks"], 1) if value >= ENOUGH), MOST_CLICKS + 1)
        for row in rows
    ]
    median = float(np.median(needed))
    found = {
        "box": overlap([row["box"] for row in rows]),
        "clicks": {str(count): overlap([row["clicks"][count - 1] for row in rows]) for count in CLICKS},
        "clicks_to_90": {
            "median": median if median <= MOST_CLICKS else None,
            "reached": float(np.mean([value <= MOST_CLICKS for value in needed])),
        },
        "ms_p95": float(np.percentile([value for row in rows for value in row["ms"]], 95)),
    }
    if rows[0]["confidence"] is None:
        return found
    confidence, overlaps = ([row[name] for row in rows] for name in ("confidence", "box"))
    related = (
        float(stats.spearmanr(confidence, overlaps).statistic)
        if min(len(set(confidence)), len(set(overlaps))) > 1
        else None
    )
    return found | {"confidence": {"mean": float(np.mean(confidence)), "rank_correlation": related}}


def overlap(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and the median DSC, and the share of objects at ``ENOUGH`` or better."""
    return {
        "dsc": float(np.mean(values)),
        "median": float(np.median(values)),
        "at_least_90": float(np.mean(np.asarray(values) >= ENOUGH)),
    }


def describe_row(name: str, means: dict) -> str:
    """Return a line of the means for the terminal."""
    values = {"box": means["box"]} | {
        f"{count} click{'s' * (count != '1')}": each for count, each in means["clicks"].items()
    }
    words = [
        f"{prompt} {each['dsc']:.3f} (median {each['median']:.3f}, {each['at_least_90']:.0%} at .90)"
        for prompt, each in values.items()
    ]
    needed, median = means["clicks_to_90"], means["clicks_to_90"]["median"] or f"over {MOST_CLICKS}"
    words.append(f"clicks to .90: {median} (reached {needed['reached']:.0%})")
    return f"{name}: {', '.join(words)}; {means['ms_p95']:.0f} ms (p95)"


if __name__ == "__main__":
    run(main, "train.evaluate_prompts")
