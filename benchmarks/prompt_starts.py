"""Compare prompt networks by what they began from, and measure them on a modality that they were trained without.

--starts names networks of one training that differ in what they began from, the one from scratch first; each is
measured on all validation parts. --unseen names, by data set, the network that was trained without it; it is measured
on the test part of that data set, beside --network, which was trained on its training part. Everyone sees the same
boxes and users. Images are those of packs, at their size.

  python -m benchmarks.prompt_starts --packs '["packs/busi-192", "packs/brats-192", "packs/hecktor-192"]' \\
      --starts '{"from scratch": "runs/prompt-scratch/weights.safetensors", "geodesic": "…"}' \\
      --unseen '{"brats": "runs/prompt-without-brats/weights.safetensors", "busi": "…"}'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import keep
from mpsams import checkpoint, inference, packs, splits, tables
from mpsams.datasets import Stack
from train.command_line import parse
from train.evaluate_prompts import CLICKS, measure_all, network_answer, summarise
from train.prompt_targets import targets

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class PromptStarts:
    """Options of the measurement.

    Args:
        packs: folders that train.pack made, of the data sets to measure on.
        starts: prompt networks by what they began from, the one from scratch first.
        unseen: by the name of a data set, the prompt network that was trained without it.
        network: the prompt network that was trained on all of them.
        limit: measure at most this many objects of each part, spread evenly over the images; 0 is all.
        seed: of the boxes.
        quick: only print what is found.
    """

    packs: tuple[str, ...]
    starts: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    network: str = str(WEIGHTS / "prompt.safetensors")
    limit: int = 0
    seed: int = 0
    quick: bool = False


def main(argv: Sequence[str] | None = None) -> dict:
    """Parse, measure, print, keep; returns the numbers."""
    options = parse(PromptStarts, "benchmarks.prompt_starts", argv)
    stacks = {stack.name: stack for stack in map(packs.read, options.packs)}
    if unknown := set(options.unseen) - set(stacks):
        raise ValueError(f"no pack of {', '.join(sorted(unknown))} among those of {', '.join(stacks)}")
    own = {each["dataset"]: splits.restore(each) for each in checkpoint.metadata(options.network)["splits"]}
    for name, path in options.unseen.items():
        if name in (seen := [each["dataset"] for each in checkpoint.metadata(path)["splits"]]):
            raise ValueError(f"{path} was trained on {', '.join(seen)}, so it is not one without {name!r}")
    starts = {
        name: measure_part(stack.of(own[name].val), options.starts, options)
        for name, stack in stacks.items()
        if options.starts
    }
    unseen = {
        name: measure_part(stacks[name].of(own[name].test), {"seen": options.network, "unseen": path}, options)
        for name, path in options.unseen.items()
    }
    found = {"starts": starts, "unseen": unseen, "draws": count_draws(options.starts) | count_draws(options.unseen)}
    keep("prompt_starts", found, options.quick)
    return found


def count_draws(paths: dict[str, str]) -> dict[str, int]:
    """Return how many images each network was trained on in all, repeats included, by name."""
    about = {name: checkpoint.metadata(path) for name, path in paths.items()}
    return {name: each["config"]["learning"]["epochs"] * each["seen"] for name, each in about.items()}


def measure_part(stack: Stack, paths: dict[str, str], options: PromptStarts) -> dict[str, dict]:
    """Return ``summarise`` of each network on some images, by name, and from the second on "gain" over the first."""
    objects = list(targets(stack, options.limit))
    patients = dict(zip(stack.cases, stack.groups, strict=True))
    weights_bn = tables.resample([patients[each.case] for each in objects])
    rows = {
        name: list(
            measure_all(
                network_answer(inference.open_network(path, "float32")), {}, objects, options.seed, peers_every=1
            )["network"].values()
        )
        for name, path in paths.items()
    }
    first = next(iter(rows.values()))
    return {
        name: {"objects": len(objects)}
        | summarise(values)
        | ({} if values is first else {"gain": gains(first, values, weights_bn)})
        for name, values in rows.items()
    }


def gains(before: Sequence[dict], after: Sequence[dict], weights_bn: np.ndarray) -> dict[str, list[float]]:
    """Return the mean difference in DSC and its 95% interval over patients, [mean, low, high], of a box and of clicks.

    weights_bn: how often each object is in each of B resamples, (B, N).
    """
    dsc = [
        {"box": [row["box"] for row in rows]}
        | {str(count): [row["clicks"][count - 1] for row in rows] for count in CLICKS}
        for rows in (before, after)
    ]
    found = {}
    for name in dsc[0]:
        difference_n = np.subtract(dsc[1][name], dsc[0][name])
        means_b = weights_bn @ difference_n / weights_bn.sum(axis=1)
        found[name] = [float(difference_n.mean()), *map(float, np.percentile(means_b, (2.5, 97.5)))]
    return found


if __name__ == "__main__":
    main()
