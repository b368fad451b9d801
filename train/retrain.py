"""Learn from corrections: fine-tune a segmentation on the accepted masks of an annotation project, and measure it
before and after.

Held-back masks, the same in every round, are measured and never learnt from. The project is only read; what comes of it
lies in PROJECT/runs/NUMBER: verdict.json and weights.safetensors. The app starts this command for itself, and asks
before it uses them.

  python -m train.retrain --project PROJECT --init weights/busi-mps_ams-seg-10.safetensors
"""

# Over 250 lines because dividing, training and judging are one command.

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpsams import checkpoint, datasets, inference, splits
from mpsams.annotation import masks, retraining, retraining_run
from mpsams.datasets import Dataset, Stack
from mpsams.splits import Split
from train import evaluate, finetune, memory
from train.command_line import parse, run
from train.finetune import RECIPES, Finetune
from train.options import Data, RunOptions, at_least, thumbnails
from train.progress_file import ProgressReporter

RESAMPLES = 10_000  # bootstrap resamples of the held-back items
THRESHOLD = 0.5  # probability from which a pixel counts as lesion
NICE = 10  # how far behind the app the process stands


@dataclass(frozen=True)
class Corrections:
    """Options of a learning from corrections.

    Args:
        project: folder of the project, which an app may have open.
        init: the segmentation checkpoint to begin from.
        epochs: passes over the masks; 0 makes it about so many as ``steps`` says.
        device: cpu, cuda or auto.
        run: a run folder that the app has prepared, in place of the four options above.
        steps: of batches of 8, when no epochs are given.
        lr: highest learning rate.
    """

    project: str | None = None
    init: str | None = None
    epochs: int = 0
    device: str = "cpu"
    run: str | None = None
    steps: int = 400
    lr: float = 3e-4

    def __post_init__(self) -> None:
        if (self.run is None) == (self.project is None or self.init is None):
            raise ValueError("expected either --project and --init, or --run")
        at_least("epochs", self.epochs, 0)
        at_least("steps", self.steps, 1)


def main(argv: Sequence[str] | None = None) -> dict:
    """Parse the options, learn and measure; return the result as it is written."""
    options = parse(Corrections, "train.retrain", argv)
    memory.keep_freed()
    with contextlib.ExitStack() as end:
        if options.run is None:
            prepared, own = retraining.prepare(
                options.project,  # type: ignore[arg-type]
                options.init,  # type: ignore[arg-type]
                Path(options.init).stem,  # type: ignore[arg-type]
                epochs=options.epochs or None,
                device=options.device,
            )
            end.enter_context(own)
            folder = prepared.folder
        else:
            folder = Path(options.run)
            end.enter_context(contextlib.redirect_stderr(io.StringIO()))  # bars are for people
        result = correct(folder, options.steps, options.lr)
    print(
        f"mean DSC of {result['images']} held-back items: {result['before']:.4f} before, {result['after']:.4f}"
        f" after; wrote {folder}"
    )
    return result


def correct(folder: Path, steps: int, lr: float) -> dict:
    """Learn in a run folder that ``retraining.prepare`` made; return its result, which also states any error."""
    progress = ProgressReporter(folder)
    try:
        return learn(folder, progress, steps, lr)
    except Exception as error:
        expected = isinstance(error, ValueError | FloatingPointError | OSError)
        words = getattr(error, "strerror", None) or str(error)
        progress.write(
            words if expected else f"an error in the program ({type(error).__name__}); log.txt says more", failed=True
        )
        raise
    finally:
        retraining_run.clear(folder)


def learn(folder: Path, progress: ProgressReporter, steps: int, lr: float) -> dict:
    """Read, measure, fine-tune, measure again, and write the result."""
    plan = retraining_run.read(folder / retraining_run.PLAN)
    base_checkpoint, weights = folder / retraining_run.BASE_CHECKPOINT, folder / retraining_run.WEIGHTS
    network = inference.open_network(base_checkpoint)
    dataset = corrected_stack(folder, plan["modality"])
    stack = datasets.stack(dataset, network.size, progress.count("reading", "reading"))
    stack = replace(stack, target="lesion, corrected by hand", source="an annotation project, under its owner's terms")
    split, left_out = divide(
        stack,
        plan["learn"],
        plan["held_back"],
        checkpoint.training_patients(checkpoint.load(base_checkpoint)).get("folder", set()),
    )
    print(
        f"{len(split.train)} items to learn from, {len(split.test)} held back, {len(left_out)} near-duplicates left out"
    )
    before = measure(base_checkpoint, dataset, split.test, progress, "before")
    options = finetune_options(folder, plan, stack, split, steps, lr)
    trained = finetune.learn(
        options, "corrections", stack, split, options.run.start(), progress.steps(options, stack, split)
    )
    trained.replace(weights)  # type: ignore[union-attr]
    (trained.parent / "records.jsonl").replace(folder / "records.jsonl")  # type: ignore[union-attr]
    after = measure(weights, dataset, split.test, progress, "after")
    result = compare_scores(before, after) | {
        "changed_by_hand": len(set(plan["changed"]) & set(split.test)),
        "learned": len(split.train),
        "left_out": len(left_out),
        "begun_from": {"name": plan["name"], "sha256": plan["sha256"]},
        "sha256": checkpoint.load(weights).sha256,
        "items": {
            id: {"before": before[id], "after": after[id], "changed": id in plan["changed"]} for id in split.test
        },
    }
    retraining_run.write(folder / retraining_run.EVALUATION, result)
    return result


def corrected_stack(folder: Path, modality: str) -> Dataset:
    """Return the images and masks of a run as a data set, of the modality that the project states."""
    return datasets.open_dataset("folder", folder, modality=modality)


def divide(stack: Stack, learn: Sequence[str], holdout: Sequence[str], seen: set[str]) -> tuple[Split, set[str]]:
    """Return the split of the items, and the near-duplicates that are in neither part.

    Of two alike, one in each part, the one to learn from is left out. Where the checkpoint has seen that one (seen) in
    an earlier round, the held-back one tells nothing any more, and is left out too. ValueError when that leaves too
    few.
    """
    # near-duplicates are sought among pictures only
    flat = [group for case, group in zip(stack.cases, stack.groups, strict=True) if case == group]
    pairs = [{flat[i], flat[j]} for i, j in splits.near_duplicates(thumbnails(stack.of(flat)))] if flat else []
    torn = [(pair & set(learn), pair & set(holdout)) for pair in pairs if pair & set(learn) and pair & set(holdout)]
    left_out = {id for one, other in torn for id in (one | other if one & seen else one)}
    # an image that shows neither body nor lesion is not in the stack
    train = sorted(set(learn) & set(stack.groups) - left_out)
    test = sorted(set(holdout) - left_out)
    if min(len(train), len(test)) < retraining.MIN_HOLDOUT:
        count = len(set(learn) | set(holdout))
        raise ValueError(
            f"of {count} accepted images {len(left_out)} are nearly the same as others; too few are left, accept some"
            " more"
        )
    return Split(stack.name, 0, True, tuple(train), (), tuple(test)), left_out


def finetune_options(folder: Path, plan: dict, stack: Stack, split: Split, steps: int, lr: float) -> Finetune:
    """Return the options of the fine-tuning: the strong recipe with another learning rate, for about ``steps`` steps;
    of volumes every n-th slice if need be.
    """
    recipe = replace(RECIPES["strong"], lr=lr)
    slice_stride = max(1, len(stack.of(split.train)) // (steps * recipe.batch))
    epochs = plan["epochs"] or max(1, round(steps / math.ceil(len(stack.of(split.train, slice_stride)) / recipe.batch)))
    return Finetune(
        recipe=replace(recipe, epochs=epochs),
        data=Data(
            name="folder",
            root=str(folder),
            size=stack.size,
            target=stack.target,
            source=stack.source,
            slice_stride=slice_stride,
        ),
        run=RunOptions(device=plan["device"]),
        init=str(folder / retraining_run.BASE_CHECKPOINT),
        labels=1.0,
        validate_every=0,
        out=str(folder / "training"),
    )


def measure(
    weights: Path, dataset: Dataset, ids: Sequence[str], progress: ProgressReporter, when: str
) -> dict[str, float]:
    """Return the DSC of each item at its own size, of a volume over the whole volume; by the code of train.evaluate."""
    network, found = inference.open_network(weights), {}
    for id in progress.count(when, f"measuring {when}")(ids):
        numbers = evaluate.measure(network, dataset.of([id]), THRESHOLD, overlap)
        found[id] = (numbers["volume"] or numbers["image"])[id]["dsc"]
    return found


def overlap(predicted: np.ndarray, truth: np.ndarray, spacing: object = None) -> dict[str, float]:
    """Return the DSC alone, of masks of any axes: surface distances would take far longer, and decide nothing here."""
    return {"dsc": masks.agreement(predicted, truth)}


def compare_scores(before: dict[str, float], after: dict[str, float]) -> dict:
    """Return the means over the items, a bootstrap 95% interval of the mean paired difference, its p, and True if a
    gain is shown by them.
    """
    pairs_n2 = np.array([[before[id], after[id]] for id in before])
    gains_n = pairs_n2[:, 1] - pairs_n2[:, 0]
    drawn_bn = np.random.default_rng(0).integers(len(gains_n), size=(RESAMPLES, len(gains_n)))
    interval = [float(end) for end in np.percentile(gains_n[drawn_bn].mean(axis=1), (2.5, 97.5))]
    first, second = (float(mean) for mean in pairs_n2.mean(axis=0))
    p = sign_flip_p(gains_n)
    better = retraining_run.is_shown(interval, p, len(gains_n))
    return {"before": first, "after": second, "interval": interval, "p": p, "images": len(gains_n), "better": better}


def sign_flip_p(gains_n: np.ndarray) -> float:
    """Return the two-sided p of the paired sign-flip test: the share of ways to swap before and after that move the
    mean at least as far.

    All ways where there are at most RESAMPLES of them, else that many at random and the one that was seen.
    """
    count = len(gains_n)
    every = 2**count <= RESAMPLES
    if every:
        signs_bn = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        signs_bn = 1 - 2 * np.random.default_rng(0).integers(2, size=(RESAMPLES, count))
    farther = int((np.abs(signs_bn @ gains_n) >= abs(gains_n.sum()) - 1e-12).sum())
    return farther / len(signs_bn) if every else (farther + 1) / (RESAMPLES + 1)


if __name__ == "__main__":
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICE)
    run(main, "train.retrain")
