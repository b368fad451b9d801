"""The epoch loop that every training shares: progress, records, saving, stopping, going on."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mpsams import distributed, jsonl, precision
from train import launch, sampling, state
from train.options import RunOptions
from train.run_files import RECORDS, agree_to_resume
from train.state import STATE, Position

LOOK = 20  # steps between looks at what a GPU has done so far; a CPU is looked at after each


@dataclass
class Task:
    """A training: the network and its loss, batches, optimiser, schedule and records.

    module: everything with weights that a resume must restore. network: the part that ``loss`` calls, as
    ``launch.data_parallel`` made it. loss: (indices (B,), epoch, generator) -> scalar. rate: share of training done ->
    learning-rate factor. after_step: share done -> None. after_epoch: epoch -> numbers for the record; only the first
    process is asked. images: per epoch. batch: images per step, of all processes. parts: in how many
    parts a batch is computed, one after the other. config: what must not change between a run and its resumption.
    weights: the share of an epoch's draws that falls on each image (``sampling.weights``); None sees each image once.
    """

    module: nn.Module
    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor, int, torch.Generator], Tensor]
    rate: Callable[[float], float]
    after_step: Callable[[float], None]
    after_epoch: Callable[[int], dict]
    images: int
    batch: int
    epochs: int
    seed: int
    config: dict
    parts: int = 1
    weights: Tensor | None = None

    @property
    def steps(self) -> int:
        """Optimiser steps in an epoch; the last batch may be smaller."""
        return steps(self.images, self.batch)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.module.parameters()).device


def steps(images: int, batch: int, epochs: int = 1) -> int:
    """Return the number of optimiser steps in ``epochs`` epochs; an epoch's last batch may be smaller."""
    return math.ceil(images / batch) * epochs


def generator(seed: int, *key: int) -> torch.Generator:
    """Return a CPU generator that depends on nothing but these numbers, so that a step's randomness needs no saving."""
    drawn = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(drawn >> np.uint64(1)))


def resolve_precision(run: RunOptions, device: torch.device, out: Path, resume: bool) -> RunOptions:
    """Return the options with the precision that "auto" stands for here; a resumed run keeps the one it began with."""
    resume = agree_to_resume(resume)

    def find() -> str:
        starts = jsonl.read(out / RECORDS, "start") if resume and (out / RECORDS).exists() else []
        before = starts[-1]["config"]["run"].get("precision", "auto") if starts else None
        if before == "auto" and device.type == "cpu":
            return "float32"  # which earlier versions used on every CPU
        return before if before in precision.PRECISIONS else precision.name_of(precision.choose("auto", device))

    return replace(run, precision=launch.call_on_first(find)) if run.precision == "auto" else run


def fit(task: Task, out: Path, save_minutes: float = 5.0, resume: bool = False) -> Position:
    """Train to the last epoch, or save and exit with 128 + n on signal n (Ctrl-C, SIGTERM).

    Writes a record per epoch and, every ``save_minutes`` (0: after each epoch), the state into ``out``. A loss that is
    not finite raises FloatingPointError naming epoch and step; the last saved state stands.
    """
    resume = agree_to_resume(resume)
    at = (state.restore(out, task.module, task.optimizer, task.config) if resume else None) or Position()
    if resume and distributed.rank() == 0:
        print(f"going on after step {at.step}" if at.step else f"nothing to resume in {out}; starting at epoch 1")
        jsonl.keep(out / RECORDS, lambda row: row.get("epoch", 0) <= at.step // task.steps)
    look = 1 if task.device.type == "cpu" else LOOK
    saved, ahead = time.monotonic(), []
    with stop_signal() as stop, progress(task, at) as bar, state.Saver(out) as saver:
        for epoch in range(at.step // task.steps + 1, task.epochs + 1):
            for indices in batches(task, epoch, at.step % task.steps):
                ahead.append(train_step(task, at, indices, epoch))
                bar.update(len(indices))
                whole = at.step % task.steps == 0
                if not whole and at.step % look:
                    continue
                due = (whole if save_minutes == 0 else time.monotonic() - saved > 60 * save_minutes) or (
                    whole and epoch == task.epochs
                )
                number, due = sync_losses(task, at, ahead, stop, due)
                bar.set_postfix(epoch=f"{epoch}/{task.epochs}", loss=f"{at.losses[-1]:.4f}", refresh=False)
                if whole:
                    finish_epoch(task, at, epoch, out)
                if number or due:
                    saver.save(task.module, task.optimizer, at, task.config)
                    saved = time.monotonic()
                if number:
                    saver.wait()
                    bar.close()
                    print(f"stopped in epoch {epoch} after step {at.step}; saved {out / STATE}; go on with --resume")
                    raise SystemExit(128 + number)
    return at


def batches(task: Task, epoch: int, skip: int) -> Iterator[Tensor]:
    """Yield the batches of image indices of an epoch in its own random order, without the first ``skip``."""
    source = generator(task.seed, 1, epoch)
    order = (
        torch.randperm(task.images, generator=source) if task.weights is None else sampling.draw(task.weights, source)
    )
    yield from order.split(task.batch)[skip:]


def train_step(task: Task, at: Position, indices: Tensor, epoch: int) -> Tensor:
    """Do one optimiser step on these images, of which each process takes a share; return that share's loss."""
    began = time.monotonic()
    done, total = at.step, task.steps * task.epochs
    for group in task.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * task.rate(done / total)
    task.optimizer.zero_grad(set_to_none=True)
    source, parts, losses = (
        generator(task.seed, 2, done),
        indices.tensor_split(min(task.parts, -(-len(indices) // distributed.world_size()))),
        [],
    )
    for number, part in enumerate(parts, 1):
        with nullcontext() if number == len(parts) else launch.no_sync(task.network):
            loss = task.loss(distributed.shard(part), epoch, source) * (len(part) / len(indices))
            loss.backward()
        losses.append(loss.detach())
    task.optimizer.step()
    task.after_step((done + 1) / total)
    at.step += 1
    at.seconds += time.monotonic() - began
    return torch.stack(losses).sum()


def sync_losses(task: Task, at: Position, ahead: list[Tensor], stop: list[int], due: bool) -> tuple[int, bool]:
    """Wait for the losses of the last steps, and agree with the other processes.

    Returns the number of the signal that any of them received (0: none) and whether the first wants to save.
    FloatingPointError when a loss is not finite.
    """
    began = time.monotonic()
    own = [value / distributed.world_size() for value in torch.stack(ahead).tolist()]
    ahead.clear()
    *losses, terminated, interrupted, due = launch.sum_values(  # type: ignore[assignment]
        [*own, stop[:1] == [signal.SIGTERM], stop[:1] == [signal.SIGINT], due and distributed.rank() == 0]
    )
    at.seconds += time.monotonic() - began
    for number, value in enumerate(losses, at.step - len(losses)):
        if not math.isfinite(value):
            epoch, step = divmod(number, task.steps)
            raise FloatingPointError(f"loss is {value} in epoch {epoch + 1}, step {step + 1} of {task.steps}; stopped")
    at.losses += losses
    return int(signal.SIGTERM if terminated else signal.SIGINT if interrupted else 0), bool(due)


def finish_epoch(task: Task, at: Position, epoch: int, out: Path) -> None:
    """Write the record of an epoch; what the first process refuses, such as a collapse, ends all."""

    def tell() -> None:
        task.module.eval()
        metrics = task.after_epoch(epoch)
        task.module.train()
        values = {"epoch": epoch, "loss": float(np.mean(at.losses)), "seconds": round(at.seconds, 2)}
        jsonl.append(out / RECORDS, "epoch", **values, lr=task.optimizer.param_groups[0]["lr"], **metrics)

    launch.call_on_first(tell)
    at.losses = []


def progress(task: Task, at: Position) -> tqdm:
    """Return a bar over all images of the run: images/s and time left."""
    done = at.step // task.steps * task.images + at.step % task.steps * task.batch
    style = {
        "unit": "img",
        "mininterval": 2,
        "smoothing": 0.05,
        "dynamic_ncols": True,
        "disable": distributed.rank() > 0,
    }
    return tqdm(total=task.images * task.epochs, initial=done, **style)


@contextmanager
def stop_signal() -> Iterator[list[int]]:
    """Yield a list that receives the first SIGINT or SIGTERM; the second acts as usual, except under torchrun."""
    received: list[int] = []

    def note(number: int, _frame) -> None:
        received.append(number)
        if not launch.is_distributed():  # torchrun, SLURM and a terminal may each pass the same signal on
            for each, handler in before.items():
                signal.signal(each, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
