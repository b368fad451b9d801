"""Fine-tune a U-Net for segmentation with few labels: from a pretraining, from a segmentation to be learnt further, or from scratch.

Four recipes: "paper" (Adam, warm-up + cosine, 70 epochs; the default), "strong" (ours: AdamW, augmentation, more steps,
moving average of the weights), "teacher" ("strong", and the images whose labels are not used are learnt from as the
moving average sees them), and "assist" (for all labels: stronger augmentation, small and faint lesions drawn more often,
deep supervision; train.calibrate comes after it). Every option of a recipe can be overridden.
The last weights are kept, never the best on validation: with 10% labels the validation part would
hold more labels than the training.

  python -m train.finetune --config train/configs/busi-seg-cpu.toml --data.root Dataset_BUSI_with_GT \\
      --init runs/busi-mps_ams/weights.safetensors --labels 0.1
  python -m train.finetune --config train/configs/busi-assist.toml --data.root packs/busi-192
  python -m train.finetune --data.name folder --data.root PROJECT/accepted --data.size 64 --labels 1 \\
      --init weights/busi-mps_ams-seg-10.safetensors
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from mpsams import (
    calibration,
    checkpoint,
    datasets,
    distortions,
    distributed,
    inference,
    metrics,
    schedule,
    splits,
    transforms,
)
from mpsams.checkpoint import Checkpoint
from mpsams.datasets import Stack
from mpsams.splits import Split
from mpsams.transforms import Augmentation
from mpsams.unet import Supervised, UNet, auxiliary_heads
from train import dry_run as rehearsal
from train import launch, loop, sampling, teacher
from train.command_line import parse, peek_option, run
from train.options import (
    Data,
    Model,
    RunOptions,
    describe,
    one_of,
    open_data,
    resume_fingerprint,
    run_folder,
    to_device_if_fits,
)
from train.recipes import BATCHES, OPTIMISERS, RECIPES, Recipe, loss_of

TRANSFERS = {"all": ("encoder", "decoder", "head"), "encoder": ("encoder",)}
KINDS = {"pretrain": "pretraining", "segmentation": "segmentation"}  # of checkpoints to begin from


@dataclass(frozen=True)
class Finetune:
    """Options of a fine-tuning.

    Args:
        recipe: how the segmentation is trained.
        init: checkpoint of a pretraining or a segmentation, which then also sets the U-Net's width and normalisation and, unless told
            otherwise, the size of the images and their sequences; none is from scratch.
        transfer: parts to take from it: all that its method trained (of a segmentation, everything), or only the encoder.
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


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Parse, train, save; returns the file with the weights."""
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
    """The paper's batch for a data set and a share of labels."""
    try:
        return BATCHES.get((data, float(labels)), Recipe.batch)
    except (TypeError, ValueError):
        return Recipe.batch  # what is wrong with it, the parser says


def init_metadata(init: str) -> dict:
    """The metadata of the checkpoint to begin from, before any image is read; ValueError when it is none to begin from."""
    about = checkpoint.metadata(init)
    if about.get("kind") not in KINDS:
        raise ValueError(f"--init is a {about.get('kind')} checkpoint; expected the weights of a pretraining or a segmentation")
    return about


def inherit_defaults(about: dict, data: str) -> dict[str, Any]:
    """Defaults of options that a checkpoint to begin from sets, by dotted name: size, sequences, width and normalisation."""
    found = {"data.size": about.get("size"), **{f"model.{name}": about.get("model", {}).get(name) for name in ("width", "norm")}}
    if data in datasets.available() and hasattr(datasets.find(data), "SEQUENCES"):
        found["data.sequences"] = tuple(about.get("data", {}).get("sequences", ()))
    return {name: value for name, value in found.items() if value}


def differences(about: dict, options: Finetune) -> list[str]:
    """Sentences on options that were given and are not what the checkpoint to begin from has."""
    found = []
    if about.get("size", options.data.size) != options.data.size:
        found.append(f"--init was trained on images of {about['size']} pixels; data.size says {options.data.size}, and so is it fine-tuned")
    for name, stated in asdict(options.model).items():
        if about.get("model", {}).get(name, stated) != stated:
            found.append(f"the network of --init has {name} {about['model'][name]} and keeps it; model.{name} {stated} is not used")
    return found


def finetune(options: Finetune, name: str) -> Path | None:
    """Run a fine-tuning as described by the options; ``name`` is the recipe's. Returns its weights, None after a dry run."""
    device = options.run.start()
    stack, split = open_data(options.data, partial(tqdm, desc="reading", unit="img", disable=distributed.rank() > 0))
    return learn(options, name, stack, split, device)


def learn(
    options: Finetune, name: str, stack: Stack, split: Split, device: torch.device, watch: Callable[[float], None] = lambda done: None
) -> Path | None:
    """``finetune`` on a data set that is open and divided. watch: is told the share that is done after every step."""
    if not stack.target:
        raise ValueError(f"{options.data.name!r} at {options.data.root} has no masks to learn from; it serves for pretraining only")
    torch.manual_seed(options.run.seed)
    start = checkpoint.load(options.init) if options.init else None
    model, method = begin(options.model, stack.channels, start, split)
    network = UNet(**model)
    if start:
        checkpoint.transfer(start, network, TRANSFERS[options.transfer])
    config = asdict(options) | {"recipe": {"name": name, **asdict(options.recipe)}}
    init = start and start.sha256
    out = Path(options.out or folder(options, name, method, model["width"], resume_fingerprint(config, stack.sha256, init=init)))
    options = replace(options, run=loop.resolve_precision(options.run, device, out, options.resume))
    config["run"] = asdict(options.run)
    fixed = resume_fingerprint(config, stack.sha256, init=init)
    labelled = split.labelled(options.labels, options.run.seed)
    heads = auxiliary_heads(model["width"]).to(device) if options.recipe.deep else None
    averaged = Averaged(options.run.prepare(network, device), options.recipe.ema_decay, heads)
    seen, val = (to_device_if_fits(stack.of(patients, options.data.slice_stride), device) for patients in (labelled, split.val))
    if not options.dry_run:
        if loop.is_finished(out, options.resume, loop.steps(len(seen), options.recipe.batch, options.recipe.epochs), fixed):
            return out / loop.WEIGHTS
        loop.begin(out, options.resume, options.overwrite, split, config=config, labelled=list(labelled), images=len(seen))
    rest = to_device_if_fits(stack.of(sorted(set(split.train) - set(labelled)), options.data.slice_stride), device) if options.recipe.teacher.weight else None
    work = task(options, fixed, averaged, SampleParts(seen, val, rest), watch)
    if options.dry_run:
        rehearsal.measure_and_print(work)
        return None
    at = loop.fit(work, out, options.run.save_minutes, options.resume)
    metadata = describe("segmentation", method, config, stack, split, at) | {
        "model": model,
        "seen": len(seen),
        "recipe": name,
        "labels": options.labels,
        "labelled": list(labelled),
        "init": start and origin(start),
        "bfloat16_dsc": launch.call_on_first(partial(agreement, averaged.averaged_network, val if len(val) else seen, device, options.recipe.batch)),  # type: ignore[arg-type]
    }
    if start and start.metadata["kind"] == "segmentation":
        metadata |= calibration.readout_metadata(start.metadata)
    launch.call_on_first(partial(checkpoint.save, out / loop.WEIGHTS, averaged.averaged_network.state_dict(), metadata))
    print(f"wrote {out / loop.WEIGHTS}")
    return out / loop.WEIGHTS


def folder(options: Finetune, name: str, method: str, width: int, fixed: dict) -> Path:
    """The run folder when none is given, such as runs/busi-mps_ams-seg-10-strong-256px-w16-70ep-0-1a2b3c; ``name`` is the recipe's."""
    data, seed = options.data, options.run.seed
    first = f"{data.name}-{method}-seg-{100 * options.labels:g}-{name}"
    words = (first, f"{data.size}px", f"w{width}", f"{options.recipe.epochs}ep", seed)
    return run_folder(words, fixed, options.resume, f"{first}-{seed}")


def begin(model: Model, channels: int, start: Checkpoint | None, split: Split) -> tuple[dict, str]:
    """The sizes of the U-Net to fine-tune, and the name of the method it comes from.

    ValueError when the start has seen patients that this split tests or validates on, or other channels.
    """
    if start is None:
        return {"channels": channels, "classes": 1, **asdict(model)}, "scratch"
    kind = KINDS[start.metadata["kind"]]
    if start.metadata["model"]["channels"] != channels:
        raise ValueError(f"the {kind} has {start.metadata['model']['channels']} channels, the images have {channels}; use one data.sequences")
    leaked = (set(split.test) | set(split.val)) & checkpoint.training_patients(start).get(split.dataset, set())
    if leaked:
        own = splits.restore(start.metadata["split"])
        use = f"data.split_seed {own.seed}, data.grouped {str(own.grouped).lower()}, and the same images"
        hint = f"use its split: {use}" if own.dataset == split.dataset else "it was begun from one that was trained on them"
        raise ValueError(f"the {kind} has seen {len(leaked)} images of this split's test and validation parts; {hint}")
    return start.metadata["model"] | {"classes": 1}, start.metadata["method"]


def origin(start: Checkpoint) -> dict:
    """Metadata of a fine-tuned checkpoint on the one it started from, with the patients that one was trained on."""
    told = {name: start.metadata.get(name) for name in ("kind", "method", "training")} | {"sha256": start.sha256}
    return told | {"seen": {dataset: sorted(patients) for dataset, patients in checkpoint.training_patients(start).items()}}


Tensors = tuple[Tensor, ...] | list[Tensor]


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Return the update of an exponential moving average, for ``AveragedModel``.

    After n updates the decay is at most (1 + n) / (10 + n), so that the random weights of the start are soon forgotten.
    """

    def update(averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
        count = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, updates)

    return update


class Averaged(nn.Module):
    """A network, and if ``decay`` is above 0 the exponential moving average of its weights (and statistics).

    heads: of deep supervision, which are trained with it and not kept.
    """

    def __init__(self, network: UNet, decay: float, heads: nn.ModuleList | None = None) -> None:
        super().__init__()
        self.network, self.heads = network, heads
        self.average = AveragedModel(network, multi_avg_fn=moving_average(decay), use_buffers=True) if decay else None

    @property
    def averaged_network(self) -> nn.Module:
        """The network to keep: the average where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def training_module(self) -> nn.Module:
        """The module to train: images -> logits, with deep supervision one at each of its sides, the whole side first."""
        return self.network if self.heads is None else Supervised(self.network, self.heads)

    def update(self, progress: float) -> None:
        """Let the average follow the network, after each optimiser step."""
        if self.average is not None:
            self.average.update_parameters(self.network)


class SampleParts(NamedTuple):
    """Samples to learn from, to validate on, and those of the training part without labels (None where they are not used)."""

    labelled: Stack
    val: Stack
    unlabelled: Stack | None = None


def task(
    options: Finetune, config: dict, model: Averaged, parts: SampleParts, watch: Callable[[float], None] = lambda done: None
) -> loop.Task:
    """The loop's task: batches of labelled (and unlabelled) images through the loss. watch: as for ``learn``."""
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
    weights = [{"params": [*model.network.parameters(), *(model.heads.parameters() if model.heads else ())], "initial_lr": recipe.lr}]
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


def batch_of(
    stack: Stack, indices: Tensor, augment: Augmentation, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Images and truth of a batch, changed together as drawn from ``generator``; images standardised."""
    x_bchw, truth_b1hw = (taken.to(device) for taken in stack.take(indices))
    x_bchw = x_bchw.float() / 255
    if augment != Augmentation():
        drawn = transforms.draw(len(indices), augment, generator)
        more = distortions.draw(len(indices), augment, stack.size, generator)
        bent = distortions.offset(more, stack.size)
        x_bchw = transforms.apply_intensity(transforms.apply_geometry(x_bchw, drawn, offset_bhw2=bent), drawn)
        x_bchw = distortions.apply_intensity(x_bchw, more)
        truth_b1hw = transforms.apply_geometry(truth_b1hw.float(), drawn, "nearest", bent) > 0.5
    return transforms.standardise(x_bchw), truth_b1hw


def agreement(network: UNet, stack: Stack, device: torch.device, batch: int) -> float:
    """``inference.agreement_in_bfloat16`` on a data set at the network's size."""
    lots = torch.arange(len(stack)).split(batch)
    images = (batch_of(stack, indices, Augmentation(), torch.Generator(), device)[0] for indices in lots)
    return inference.agreement_in_bfloat16(network.eval(), images)


@torch.inference_mode()
def validate(network: nn.Module, val: Stack, device: torch.device, batch: int) -> dict[str, float]:
    """Mean overlap on the validation part at the network's size and threshold 0.5."""
    found = []
    for indices in torch.arange(len(val)).split(batch):
        x_bchw, truth_b1hw = batch_of(val, indices, Augmentation(), torch.Generator(), device)
        said_b1hw = network(x_bchw) > 0
        found.append(metrics.overlap(said_b1hw[:, 0], truth_b1hw[:, 0]))
    return {f"val_{name}": float(torch.cat([part[name] for part in found]).mean()) for name in found[0]}


if __name__ == "__main__":
    run(main, "train.finetune")
