"""Pretrain a U-Net without labels (MPS-AMS and its ablations; the defaults are the paper's).

Writes into --out: weights.safetensors, records.jsonl, split.json, pictures/, and the state that
--resume goes on from. Ctrl-C saves and exits.

  python -m train.pretrain --config train/configs/busi-mps_ams.toml --data.root Dataset_BUSI_with_GT
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mpsams import checkpoint, figures, methods, patches, schedule, transforms, uncertainty
from mpsams.datasets import Stack
from mpsams.methods import Batch, Method
from mpsams.unet import UNet
from train import loop
from train.options import Data, Model, Run, at_least, describe, open_data, parse, peek, run, settled

MANY = 4096  # images that are enough for the covariance of patches


@dataclass(frozen=True)
class Optim:
    """How weights are learnt (paper 3.1.2: Adam, learning rate 0.0002, batch 32 on BUSI, 800 epochs).

    Args:
        epochs: passes over the training images.
        batch: images per step.
        lr: learning rate of Adam.
        flip: chance to mirror an image left-right; the paper names no augmentation.
    """

    epochs: int = 800
    batch: int = 32
    lr: float = 2e-4
    flip: float = 0.5

    def __post_init__(self) -> None:
        at_least("optim.epochs", self.epochs, 1)
        at_least("optim.batch", self.batch, 1)


@dataclass(frozen=True)
class Pretrain:
    """Options of a pretraining.

    Args:
        out: run folder; made from data set, method and seed when not given.
        resume: go on from the state saved in the run folder.
    """

    method: Any
    data: Data = Data()
    model: Model = Model()
    optim: Optim = Optim()
    run: Run = Run()
    out: str | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        patches.grid(self.data.size, self.data.size, getattr(self.method, "patch", 1))


def main(argv: Sequence[str] | None = None) -> Path:
    """Parse, train, save; returns the file with the weights."""
    name = peek(argv, "method.name", "mps_ams")
    options = parse(Pretrain, "train.pretrain", argv, {"method": methods.find(name).Config}, {"method.name": name})
    return pretrain(options, name)


def pretrain(options: Pretrain, name: str) -> Path:
    """Run a pretraining as described by the options; ``name`` is the method's."""
    device = options.run.start()
    stack, split = open_data(options.data, partial(tqdm, desc="reading", unit="img"))
    torch.manual_seed(options.run.seed)
    model = {"channels": stack.channels, "classes": stack.channels, **asdict(options.model)}
    method = methods.find(name).build(options.method, UNet(**model), options.optim.epochs)
    method = method.to(device, memory_format=torch.channels_last).train()
    out = Path(options.out or f"runs/{options.data.name}-{method.variant}-pretrain-{options.run.seed}")
    config = asdict(options) | {"method": {"name": name, **asdict(options.method)}}
    seen = stack.of(split.train, options.data.every)
    loop.begin(out, options.resume, split, config=config, images=len(seen))
    at = loop.fit(task(options, settled(config, stack), method, seen, out), out, options.run.save_minutes, options.resume)
    metadata = describe("pretrain", method.variant, config, stack, split, at) | {
        "model": model,
        "seen": len(seen),
        "transfers": list(method.transfers),
    }
    some_nchw, _ = seen.take(torch.arange(len(seen))[:: 1 + len(seen) // MANY])
    covariance = uncertainty.patch_covariance(transforms.standardise(some_nchw / 255), getattr(options.method, "patch", 16))
    tensors = method.unet.state_dict() | {"patch_covariance": covariance.float()}
    checkpoint.save(out / "weights.safetensors", tensors, metadata)
    print(f"wrote {out / 'weights.safetensors'}")
    return out / "weights.safetensors"


def task(options: Pretrain, config: dict, method: Method, seen: Stack, out: Path) -> loop.Task:
    """The loop's task: batches of training images through the method's loss."""
    mirror = transforms.Augmentation(flip=options.optim.flip)
    device = next(method.parameters()).device
    learnt = [parameter for parameter in method.parameters() if parameter.requires_grad]

    def loss(indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        return method(batch_of(seen, indices, mirror, generator, device), epoch)

    def after_epoch(epoch: int) -> dict:
        every = options.run.picture_every
        if every and (epoch % every == 0 or epoch in (1, options.optim.epochs)):
            (out / "pictures").mkdir(exist_ok=True)
            few = torch.arange(0, len(seen), 1 + len(seen) // 4)
            shown = batch_of(seen, few, transforms.Augmentation(), loop.generator(options.run.seed, 3), device)
            figures.save_sheet(method.preview(shown, epoch), out / "pictures" / f"epoch-{epoch:04d}.png")
        return method.facts(epoch)

    return loop.Task(
        module=method,
        optimizer=torch.optim.Adam([{"params": learnt, "initial_lr": options.optim.lr}], lr=options.optim.lr),
        loss=loss,
        rate=schedule.constant,
        after_step=method.after_step,
        after_epoch=after_epoch,
        images=len(seen),
        batch=options.optim.batch,
        epochs=options.optim.epochs,
        seed=options.run.seed,
        config=config,
    )


def batch_of(stack: Stack, indices: Tensor, how: transforms.Augmentation, generator: torch.Generator, device: torch.device) -> Batch:
    """Take images by number, mirror some, and bring them to float in [0, 1]."""
    x_bchw = stack.take(indices)[0].to(device).float() / 255
    mirrored = (torch.rand(len(indices), generator=generator) < how.flip).to(device)
    x_bchw = torch.where(mirrored[:, None, None, None], x_bchw.flip(3), x_bchw)
    return Batch(x_bchw.contiguous(memory_format=torch.channels_last), generator)


if __name__ == "__main__":
    run(main, "train.pretrain")
