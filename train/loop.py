"""The epoch loop that every training shares: progress, records, saving, stopping, going on."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mpsams import checkpoint, records, splits
from mpsams.splits import Split

STATE = "state.safetensors"
RECORDS = "records.jsonl"


@dataclass
class Task:
    """What is trained and how.

    module: everything with weights that a resume must restore. loss: (indices (B,), epoch, generator)
    -> scalar. rate: share of training done -> learning-rate factor. after_step: share done -> None.
    after_epoch: epoch -> numbers for the record. images: per epoch. config: what must not change
    between a run and its resumption.
    """

    module: nn.Module
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

    @property
    def steps(self) -> int:
        """Optimiser steps in an epoch; the last batch may be smaller."""
        return math.ceil(self.images / self.batch)


@dataclass
class Position:
    """Where a run stands: optimiser steps done, seconds spent, and the losses of the epoch under way."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


def generator(seed: int, *key: int) -> torch.Generator:
    """A CPU generator that depends on nothing but these numbers; so a step's randomness needs no saving."""
    state = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def begin(out: Path, resume: bool, split: Split, **facts) -> None:
    """Make the run folder with its split and its first record; a run that is not resumed starts with no records."""
    out.mkdir(parents=True, exist_ok=True)
    splits.save(split, out / "split.json")
    records.keep(out / RECORDS, lambda row: resume)
    records.append(out / RECORDS, "start", split=split.sha256, **facts)


def fit(task: Task, out: Path, save_minutes: float = 5.0, resume: bool = False) -> Position:
    """Train to the last epoch, or save and exit with 128 + n on signal n (Ctrl-C, SIGTERM).

    Writes a record per epoch and the state every ``save_minutes`` into ``out``. A loss that is not
    finite raises FloatingPointError naming epoch and step; the last saved state stands.
    """
    at = Position()
    if resume and (out / STATE).exists():
        at = restore(task, out / STATE)
        records.keep(out / RECORDS, lambda row: row.get("epoch", 0) <= at.step // task.steps)
    elif resume:
        print(f"nothing to resume: {out / STATE} does not exist; starting at epoch 1")
    saved = time.monotonic()
    with stop_signal() as stop, progress(task, at) as bar:
        for epoch in range(at.step // task.steps + 1, task.epochs + 1):
            for indices in batches(task, epoch, at.step % task.steps):
                train_step(task, at, indices, epoch)
                bar.set_postfix(epoch=f"{epoch}/{task.epochs}", loss=f"{at.losses[-1]:.4f}", refresh=False)
                bar.update(len(indices))
                if stop and at.step % task.steps:
                    break
            else:
                finish_epoch(task, at, epoch, out)
            if stop:
                save(task, at, out / STATE)
                bar.close()
                print(f"stopped in epoch {epoch} after step {at.step}; saved {out / STATE}; go on with --resume")
                raise SystemExit(128 + stop[0])
            if time.monotonic() - saved > 60 * save_minutes or epoch == task.epochs:
                save(task, at, out / STATE)
                saved = time.monotonic()
    return at


def batches(task: Task, epoch: int, skip: int) -> Iterator[Tensor]:
    """The batches of image indices of an epoch in its own random order, without the first ``skip``."""
    order = torch.randperm(task.images, generator=generator(task.seed, 1, epoch))
    yield from order.split(task.batch)[skip:]


def train_step(task: Task, at: Position, indices: Tensor, epoch: int) -> None:
    """One optimiser step."""
    began = time.monotonic()
    done, total = at.step, task.steps * task.epochs
    for group in task.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * task.rate(done / total)
    loss = task.loss(indices, epoch, generator(task.seed, 2, done))
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"loss is {value} in epoch {epoch}, step {done % task.steps + 1} of {task.steps}; stopped")
    task.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    task.optimizer.step()
    task.after_step((done + 1) / total)
    at.step += 1
    at.losses.append(value)
    at.seconds += time.monotonic() - began


def finish_epoch(task: Task, at: Position, epoch: int, out: Path) -> None:
    """Write the record of an epoch."""
    task.module.eval()
    facts = task.after_epoch(epoch)
    task.module.train()
    values = {"epoch": epoch, "loss": float(np.mean(at.losses)), "seconds": round(at.seconds, 2)}
    records.append(out / RECORDS, "epoch", **values, lr=task.optimizer.param_groups[0]["lr"], **facts)
    at.losses = []


def progress(task: Task, at: Position) -> tqdm:
    """A bar over all images of the run: images/s and time left."""
    done = at.step // task.steps * task.images + at.step % task.steps * task.batch
    return tqdm(total=task.images * task.epochs, initial=done, unit="img", mininterval=2, smoothing=0.05, dynamic_ncols=True)


@contextmanager
def stop_signal() -> Iterator[list[int]]:
    """A list that receives the number of the first SIGINT or SIGTERM; the second acts as usual."""
    received: list[int] = []

    def note(number: int, _frame) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save(task: Task, at: Position, path: Path) -> None:
    """Write the state from which ``restore`` goes on exactly."""
    tensors = {f"module.{name}": tensor for name, tensor in task.module.state_dict().items()}
    for index, entries in task.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    metadata = {"kind": "state", "config": task.config, "step": at.step, "seconds": at.seconds, "losses": at.losses}
    checkpoint.save(path, tensors, metadata)


def restore(task: Task, path: Path) -> Position:
    """Load a saved state into the task; ValueError names the options that have changed since."""
    state = checkpoint.load(path)
    then, now = state.metadata["config"], json.loads(json.dumps(task.config))  # tuples become lists
    if then != now:
        changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
        raise ValueError(f"{path} comes from a run with other options in: {', '.join(changed)}; use those, or another --out")
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "optimizer": {}}
    for name, tensor in state.tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = tensor
    task.module.load_state_dict(parts["module"])
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = tensor
    task.optimizer.load_state_dict({"state": entries, "param_groups": task.optimizer.state_dict()["param_groups"]})
    return Position(state.metadata["step"], state.metadata["seconds"], state.metadata["losses"])
