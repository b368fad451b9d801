"""Fine-tune a U-Net for segmentation with few labels: from a pretraining, from a segmentation to be learnt further, or
from scratch.

Four recipes: "paper" (Adam, warm-up + cosine, 70 epochs; the default), "strong" (ours: AdamW, augmentation, more steps,
moving average of the weights), "teacher" ("strong", and the images whose labels are not used are learnt from as the
moving average sees them), and "assist" (for all labels: stronger augmentation, small and faint lesions drawn more
often, deep supervision; train.calibrate comes after it). Every option of a recipe can be overridden. The last weights
are kept, never the best on validation: with 10% labels the validation part would hold more labels than the training.

  python -m train.finetune --config train/configs/busi-seg-cpu.toml --data.root Dataset_BUSI_with_GT \\
      --init runs/busi-mps_ams/weights.safetensors --labels 0.1
  python -m train.finetune --config train/configs/busi-assist.toml --data.root packs/busi-192
  python -m train.finetune --data.name folder --data.root PROJECT/accepted --data.size 64 --labels 1 \\
      --init weights/busi-mps_ams-seg-10.safetensors
"""

# Over 250 lines because the options, the training and the description of the network are one command.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from mpsams import calibration, checkpoint, distributed, schedule
from mpsams.checkpoint import Checkpoint
from mpsams.datasets import Stack
from mpsams.splits import Split
from mpsams.unet import UNet, auxiliary_heads
from train import dry_run as rehearsal
from train import launch, loop, run_files, sampling, teacher
from train.averaging import Averaged
from train.command_line import parse, peek_option, run
from train.options import Data, Model, RunOptions, one_of, open_data, to_device_if_fits
from train.recipes import BATCHES, OPTIMISERS, RECIPES, Recipe, loss_of
from train.run_metadata import describe, resume_fingerprint, run_folder
from train.segmentation_batches import SampleParts, agreement, batch_of, validate
from train.starting_point import begin, inherit_defaults, init_metadata, origin

TRANSFERS = {"all": ("encoder", "decoder", "head"), "encoder": ("encoder",)}


@dataclass(frozen=True)
class Finetune:
    """Options of a fine-tuning.

    Args:
        recipe: how the segmentation is trained.
        init: checkpoint of a pretraining or a segmentation, which then also sets the U-Net's width and normalisation
            and, unless told otherwise, the size of the images and their sequences; none is from scratch.
        transfer: parts to take from it: all that its method trained (of a segmentation, everything), or only the
            encoder.
        labels: share of the training part whose labels are used, in (0, 1].
        validate_every: epochs between measurements on the validation part (for the records only); 0 is never.
        out: run folder; by default named after the options.
        resume: continue from the state saved in the run folder.
        overwrite: replace the run that is in the run folder.
        dry_run: only measure a few steps.
    """

    recipe: Recipe
    data: Data = Data()
    model: Model = Model()
    run: RunOptions = RunOptions()
    init: str | None = None
    transfer: str = "all"
    labels: float = 0.1
    validate_every: int = 10
    out: str | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        one_of("transfer", self.transfer, tuple(TRANSFERS))
        if not 0 < self.labels <= 1:
            raise ValueError(f"labels {self.labels} must lie in (0, 1]: it is a share, 0.05 for 5%")


def main(argv: Sequence[str] | None = None) -> Path | float | None:
    """Parse the options, train and save; return the file with the weights."""
    name = peek_option(argv, "recipe.name", "paper")
    one_of("recipe.name", name, tuple(RECIPES))
    preset = {f"recipe.{key}": value for key, value in asdict(RECIPES[name]).items()} | {"recipe.name": name}
    data, init = str(peek_option(argv, "data.name", Data.name)), peek_option(argv, "init", None)
    if name == "paper":
        preset["recipe.batch"] = batch_of_paper(data, peek_option(argv, "labels", Finetune.labels))
    about = init_metadata(init) if init else {}
    options = parse(Finetune, "train.finetune", argv, {"recipe": Recipe}, preset | inherit_defaults(about, data))
    with launch.process_group():
        for sentence in differences(about, options):
            print(sentence)
        return finetune(options, name)


def batch_of_paper(data: str, labels: str | float) -> int:
    """Return the paper's batch for a data set and a share of labels."""
    try:
        return BATCHES.get((data, float(labels)), Recipe.batch)
    except (TypeError, ValueError):
        return Recipe.batch  # what is wrong with it, the parser says


def differences(about: dict, options: Finetune) -> list[str]:
    """Return sentences on the options given that differ from those of the checkpoint to begin from."""
    found = []
    if about.get("size", options.data.size) != options.data.size:
        found.append(
            f"--init was trained on images of {about['size']} pixels; data.size says {options.data.size}, and so is it"
            " fine-tuned"
        )
    for name, stated in asdict(options.model).items():
        if about.get("model", {}).get(name, stated) != stated:
            found.append(
                f"the network of --init has {name} {about['model'][name]} and keeps it; model.{name} {stated} is not"
                " used"
            )
    return found


def finetune(options: Finetune, name: str) -> Path | float | None:
    """Run a fine-tuning as described by the options; ``name`` is the recipe's.

    Returns its weights, or the seconds that a dry run expects.
    """
    device = options.run.start()
    stack, split = open_data(options.data, partial(tqdm, desc="reading", unit="img", disable=distributed.rank() > 0))
    return learn(options, name, stack, split, device)


def learn(
    options: Finetune,
    name: str,
    stack: Stack,
    split: Split,
    device: torch.device,
    watch: Callable[[float], None] = lambda done: None,
) -> Path | float | None:
    """Run ``finetune`` on an open and divided data set. watch: called with the share that is done after every step."""
    if not stack.target:
        raise ValueError(
            f"{options.data.name!r} at {options.data.root} has no masks to learn from; it serves for pretraining only"
        )
    torch.manual_seed(options.run.seed)
    start = checkpoint.load(options.init) if options.init else None
    model, method = begin(options.model, stack.channels, start, split)
    config = asdict(options) | {"recipe": {"name": name, **asdict(options.recipe)}}
    init = start and start.sha256
    out = Path(
        options.out
        or folder(options, name, method, model["width"], resume_fingerprint(config, stack.sha256, init=init))
    )
    options = replace(options, run=loop.resolve_precision(options.run, device, out, options.resume))
    config["run"] = asdict(options.run)
    fixed = resume_fingerprint(config, stack.sha256, init=init)
    labelled = split.labelled(options.labels, options.run.seed)
    averaged = build_model(options, model, start, device)
    parts = sample_parts(options, stack, split, labelled, device)
    if not options.dry_run:
        count = len(parts.labelled)
        if run_files.is_finished(
            out, options.resume, loop.steps(count, options.recipe.batch, options.recipe.epochs), fixed
        ):
            return out / run_files.WEIGHTS
        run_files.begin(
            out, options.resume, options.overwrite, split, config=config, labelled=list(labelled), images=count
        )
    work = task(options, fixed, averaged, parts, watch)
    if options.dry_run:
        return rehearsal.measure_and_print(work)
    at = loop.fit(work, out, options.run.save_minutes, options.resume)
    metadata = describe("segmentation", method, config, stack, split, at) | {
        "model": model,
        "seen": len(parts.labelled),
        "recipe": name,
        "labels": options.labels,
        "labelled": list(labelled),
        "init": start and origin(start),
        **(calibration.readout_metadata(start.metadata) if start and start.metadata["kind"] == "segmentation" else {}),
    }
    measured = parts.val if len(parts.val) else parts.labelled
    metadata["bfloat16_dsc"] = launch.call_on_first(
        partial(agreement, averaged.averaged_network, measured, device, options.recipe.batch)  # type: ignore[arg-type]
    )
    launch.call_on_first(
        partial(checkpoint.save, out / run_files.WEIGHTS, averaged.averaged_network.state_dict(), metadata)
    )
    print(f"wrote {out / run_files.WEIGHTS}")
    return out / run_files.WEIGHTS


def build_model(options: Finetune, model: dict, start: Checkpoint | None, device: torch.device) -> Averaged:
    """Return the network with the weights it starts from, its moving average, and the recipe's auxiliary heads."""
    network = UNet(**model)
    if start:
        checkpoint.transfer(start, network, TRANSFERS[options.transfer])
    heads = auxiliary_heads(model["width"]).to(device) if options.recipe.deep else None
    return Averaged(options.run.prepare(network, device), options.recipe.ema_decay, heads)


def sample_parts(
    options: Finetune, stack: Stack, split: Split, labelled: Sequence[str], device: torch.device
) -> SampleParts:
    """Return the images with labels, those of the validation part, and for a teacher the rest of the training part."""
    unlabelled = sorted(set(split.train) - set(labelled))
    parts = (labelled, split.val, unlabelled) if options.recipe.teacher.weight else (labelled, split.val)
    return SampleParts(
        *(to_device_if_fits(stack.of(patients, options.data.slice_stride), device) for patients in parts)
    )


def folder(options: Finetune, name: str, method: str, width: int, fixed: dict) -> Path:
    """Return the run folder when none is given, such as runs/busi-mps_ams-seg-10-strong-256px-w16-70ep-0-1a2b3c."""
    data, seed = options.data, options.run.seed
    first = f"{data.name}-{method}-seg-{100 * options.labels:g}-{name}"
    words = (first, f"{data.size}px", f"w{width}", f"{options.recipe.epochs}ep", seed)
    return run_folder(words, fixed, options.resume, f"{first}-{seed}")


def task(
    options: Finetune,
    config: dict,
    model: Averaged,
    parts: SampleParts,
    watch: Callable[[float], None] = lambda done: None,
) -> loop.Task:
    """Return the loop's task: batches of labelled (and unlabelled) images through the loss. watch: as for ``learn``."""
    recipe, labelled, val = options.recipe, parts.labelled, parts.val
    device = next(model.parameters()).device
    network = launch.data_parallel(model.training_module)

    def loss(indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        x_bchw, truth_b1hw = batch_of(labelled, indices, recipe.augment, generator, device)
        if not parts.unlabelled:
            return loss_of(network(x_bchw), truth_b1hw, recipe)
        numbers = teacher.draw(len(parts.unlabelled), len(indices), generator)
        images_bchw = teacher.take(parts.unlabelled, numbers, device)
        plain_bchw, changed_bchw = teacher.views(images_bchw, recipe.teacher, generator)
        labels = teacher.labels(model.averaged_network, plain_bchw, recipe.teacher.sure)
        logits = network(torch.cat([x_bchw, changed_bchw]))
        sides = [each.split(len(indices)) for each in (logits if isinstance(logits, list) else [logits])]
        more = teacher.weight(recipe.teacher, epoch, recipe.epochs) * teacher.loss(sides[0][1], *labels)
        return loss_of([known_b1hw for known_b1hw, _ in sides], truth_b1hw, recipe) + more

    def after_step(done: float) -> None:
        model.update(done)
        watch(done)

    def after_epoch(epoch: int) -> dict:
        every = options.validate_every
        if not every or (epoch % every and epoch != recipe.epochs):
            return {}
        return validate(model.averaged_network, val, device, recipe.batch)

    optimiser = OPTIMISERS[recipe.optimiser]
    weights = [
        {
            "params": [*model.network.parameters(), *(model.heads.parameters() if model.heads else ())],
            "initial_lr": recipe.lr,
        }
    ]
    return loop.Task(
        module=model,
        network=network,
        optimizer=optimiser(weights, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True),
        loss=loss,
        rate=partial(schedule.warmup_cosine, warmup=recipe.warmup),
        after_step=after_step,
        after_epoch=after_epoch,
        images=len(labelled),
        batch=recipe.batch,
        epochs=recipe.epochs,
        seed=options.run.seed,
        config=config,
        parts=recipe.accumulate,
        weights=sampling.weights(labelled, recipe.balance, recipe.small, recipe.faint),
    )


if __name__ == "__main__":
    run(main, "train.finetune")
