"""Pretrain a U-Net without labels (MPS-AMS and its ablations; the defaults are the paper's).

Writes into --out: weights.safetensors, records.jsonl, split.json, pictures/, and the state that
--resume goes on from. Ctrl-C saves and exits. On several GPUs or machines, torchrun starts the same command.

  python -m train.pretrain --config train/configs/busi-mps_ams-cpu.toml --data.root Dataset_BUSI_with_GT --dry-run
  python -m train.pretrain --config train/configs/busi-mps_ams-cpu.toml --data.root Dataset_BUSI_with_GT
  torchrun --nproc-per-node=8 --max-restarts=3 -m train.pretrain --data.root packs/busi-256 --out runs/busi
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mpsams import checkpoint, distributed, methods, patches, schedule, transforms, uncertainty
from mpsams.datasets import Stack
from mpsams.methods import Batch, Method
from mpsams.plots import images as figures
from mpsams.unet import UNet
from train import dry_run as rehearsal
from train import launch, loop, run_files
from train.command_line import parse, peek_option, run
from train.options import Data, Model, RunOptions, at_least, open_data, to_device_if_fits
from train.run_metadata import describe, resume_fingerprint, run_folder

MANY = 4096  # images that are enough for the covariance of patches
CHUNK = 32  # images that are clustered at once
# by method, of the paper or ours; 800 for all others
EPOCHS = {"simclr": 200, "byol": 200, "swav": 200, "geodesic": 30}
BATCHES = {"busi": 32, "hecktor": 48, "brats": 36}  # of the paper (3.1.2), by data set


@dataclass(frozen=True)
class Optim:
    """Optimisation (paper 3.1.2: Adam, learning rate 0.0002).

    Args:
        epochs: passes over the training images; by default 200 for simclr, byol and swav and 800 for masked methods as
            in the paper, 30 for geodesic.
        batch: images per step, of all processes together; by default the paper's: 48 on hecktor, 36 on brats, else 32.
        lr: learning rate of Adam.
        flip: probability of a left-right flip; the paper names no augmentation.
        accumulate: number of parts in which a batch is computed, if it does not fit into memory.
    """

    epochs: int = 800
    batch: int = 32
    lr: float = 2e-4
    flip: float = 0.5
    accumulate: int = 1

    def __post_init__(self) -> None:
        at_least("optim.epochs", self.epochs, 1)
        at_least("optim.batch", self.batch, 1)
        at_least("optim.accumulate", self.accumulate, 1)


@dataclass(frozen=True)
class Pretrain:
    """Options of a pretraining.

    Args:
        out: run folder; by default named after the options.
        resume: continue from the state saved in the run folder.
        overwrite: replace the run that is in the run folder.
        dry_run: only measure a few steps.
    """

    method: Any
    data: Data = Data()
    model: Model = Model()
    optim: Optim = Optim()
    run: RunOptions = RunOptions()
    out: str | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        patches.grid(self.data.size, self.data.size, getattr(self.method, "patch", 1))


def main(argv: Sequence[str] | None = None) -> Path | float | None:
    """Parse, train, save; returns the file with the weights."""
    name = peek_option(argv, "method.name", "mps_ams")
    own = methods.find(name).Config
    paper = {
        "optim.epochs": EPOCHS.get(name, Optim.epochs),
        "optim.batch": BATCHES.get(str(peek_option(argv, "data.name", Data.name)), Optim.batch),
    }
    options = parse(Pretrain, "train.pretrain", argv, {"method": own}, paper | {"method.name": name})
    with launch.process_group():
        return pretrain(options, name)


def pretrain(options: Pretrain, name: str) -> Path | float | None:
    """Run a pretraining as described by the options; ``name`` is the method's.

    Returns its weights, or the seconds that a dry run expects.
    """
    device = options.run.start()
    stack, split = open_data(options.data, partial(tqdm, desc="reading", unit="img", disable=distributed.rank() > 0))
    torch.manual_seed(options.run.seed)
    model = {"channels": stack.channels, "classes": stack.channels, **asdict(options.model)}
    method = methods.find(name).build(options.method, UNet(**model), options.optim.epochs)
    config = asdict(options) | {"method": {"name": name, **asdict(options.method)}}
    out = Path(options.out or folder(options, method.variant, resume_fingerprint(config, stack.sha256)))
    options = replace(options, run=loop.resolve_precision(options.run, device, out, options.resume))
    config["run"] = asdict(options.run)
    fixed = resume_fingerprint(config, stack.sha256)
    method = options.run.prepare(method, device)
    seen = to_device_if_fits(stack.of(split.train, options.data.slice_stride), device)
    if not options.dry_run:
        if run_files.is_finished(
            out, options.resume, loop.steps(len(seen), options.optim.batch, options.optim.epochs), fixed
        ):
            return out / run_files.WEIGHTS
        run_files.begin(out, options.resume, options.overwrite, split, config=config, images=len(seen))
    work = task(options, fixed, method, seen, out)
    if options.dry_run:
        return rehearsal.measure_and_print(work)
    at = loop.fit(work, out, options.run.save_minutes, options.resume)
    metadata = describe("pretrain", method.variant, config, stack, split, at) | {
        "model": model,
        "seen": len(seen),
        "transfers": list(method.transfers),
    }
    tensors = method.unet.state_dict() | {
        "patch_covariance": covariance(seen, getattr(options.method, "patch", 16)).float()
    }
    launch.call_on_first(partial(checkpoint.save, out / run_files.WEIGHTS, tensors, metadata))
    print(f"wrote {out / run_files.WEIGHTS}")
    return out / run_files.WEIGHTS


def folder(options: Pretrain, variant: str, fixed: dict) -> Path:
    """Return the run folder when none is given, such as runs/busi-mps_ams-pretrain-256px-w64-800ep-0-1a2b3c."""
    data, seed = options.data, options.run.seed
    words = (
        data.name,
        variant,
        "pretrain",
        f"{data.size}px",
        f"w{options.model.width}",
        f"{options.optim.epochs}ep",
        seed,
    )
    return run_folder(words, fixed, options.resume, f"{data.name}-{variant}-pretrain-{seed}")


def task(options: Pretrain, config: dict, method: Method, seen: Stack, out: Path) -> loop.Task:
    """Return the loop's task: batches of training images through the method's loss."""
    device = next(method.parameters()).device
    learnt = [parameter for parameter in method.parameters() if parameter.requires_grad]
    known = precompute_masks(method, seen, device)
    network = launch.data_parallel(method, method.idle)

    def loss(indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        return network(batch_of(seen, known, indices, options.optim.flip, generator, device), epoch)

    def after_epoch(epoch: int) -> dict:
        every = options.run.picture_every
        if every and (epoch % every == 0 or epoch in (1, options.optim.epochs)):
            (out / "pictures").mkdir(exist_ok=True)
            few = torch.arange(0, len(seen), 1 + len(seen) // 4)
            shown = batch_of(seen, known, few, 0.0, loop.generator(options.run.seed, 3), device)
            figures.save_sheet(method.preview(shown, epoch), out / "pictures" / f"epoch-{epoch:04d}.png")
        return method.epoch_metrics(epoch)

    return loop.Task(
        module=method,
        network=network,
        optimizer=torch.optim.Adam(
            [{"params": learnt, "initial_lr": options.optim.lr}], lr=options.optim.lr, fused=True
        ),
        loss=loss,
        rate=schedule.constant,
        after_step=method.after_step,
        after_epoch=after_epoch,
        images=len(seen),
        batch=options.optim.batch,
        epochs=options.optim.epochs,
        seed=options.run.seed,
        config=config,
        parts=options.optim.accumulate,
    )


def covariance(stack: Stack, patch: int) -> Tensor:
    """Return the covariance of the patch means over (at most ``MANY``) standardised images, which the app's information
    plot needs: (L, L).
    """
    some = torch.arange(len(stack))[:: 1 + len(stack) // MANY].split(CHUNK)
    means = [F.avg_pool2d(transforms.standardise(stack.take(indices)[0].cpu() / 255), patch) for indices in some]
    return uncertainty.patch_covariance(torch.cat(means), 1)


@torch.no_grad()
def precompute_masks(method: Method, stack: Stack, device: torch.device) -> Tensor | None:
    """Return ``Method.precompute_mask`` of every image, (N, rows, columns); each process computes a part."""

    def ask(start: int, end: int) -> Tensor | None:
        images_bchw, truth_b1hw = stack.take(torch.arange(start, min(end, len(stack))))
        return method.precompute_mask(images_bchw.to(device).float() / 255, truth_b1hw.to(device))

    one = ask(0, 1)
    if one is None:
        return None
    found = torch.zeros(len(stack), *one.shape[1:], dtype=torch.uint8)
    starts = range(CHUNK * distributed.rank(), len(stack), CHUNK * distributed.world_size())
    for start in tqdm(starts, desc="clustering", unit=f"x{CHUNK} img", disable=distributed.rank() > 0, leave=False):
        found[start : start + CHUNK] = ask(start, start + CHUNK).cpu()  # type: ignore[union-attr]
    return distributed.all_reduce(found).to(device, one.dtype)


def batch_of(
    stack: Stack, known: Tensor | None, indices: Tensor, flip: float, generator: torch.Generator, device: torch.device
) -> Batch:
    """Take images by number, mirror some with what is known of them, and bring them to float in [0, 1]."""
    x_bchw = stack.take(indices)[0].to(device, non_blocking=True).float() / 255
    mirrored_b111 = (distributed.uniform(len(indices), 1, 1, 1, generator=generator) < flip).to(
        device, non_blocking=True
    )
    x_bchw = torch.where(mirrored_b111, x_bchw.flip(3), x_bchw)
    if known is None:
        return Batch(x_bchw, generator)
    map_brc = known[indices.to(known.device, non_blocking=True)]
    return Batch(x_bchw, generator, torch.where(mirrored_b111[..., 0], map_brc.flip(2), map_brc))


if __name__ == "__main__":
    run(main, "train.pretrain")
