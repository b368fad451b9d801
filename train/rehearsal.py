"""What a training will cost, from a few of its steps: speed, time, memory, and the largest batch that fits."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mpsams import ranks
from train import distributed, loop
from train.loop import Task
from train.state import Position

STEPS, SECONDS = 5, 30.0  # measure so many steps, but stop after so long when there are two
GIB = 2**30


def tell(task: Task) -> None:
    """Measure and print; the task's weights are spoilt afterwards, nothing is written.

    On a CPU memory is what the process took at its peak, and the largest batch an estimate from two sizes; on a GPU
    batches are tried until one does not fit.
    """
    few, whole = max(1, task.batch // 4), task.batch
    runs = Position()
    step(task, runs, few)
    before = peak(task.device)
    taken = measured(lambda: step(task, runs, whole))
    after = peak(task.device)
    speed, total = whole / taken, task.images * task.epochs
    print(f"{speed:.1f} images/s in batches of {whole}" + (f" over {ranks.count()} processes" if ranks.count() > 1 else ""))
    print(f"an epoch of {task.images} images takes {spoken(task.images / speed)}, all {task.epochs} epochs {spoken(total / speed)}")
    print(f"memory: {after / GIB:.2f} GiB at most of {capacity(task.device) / GIB:.1f} GiB, in each process")
    if task.device.type == "cuda" and ranks.count() > 1:
        print("largest batch that fits: ask one process alone; it is as many times larger as there are processes")
    elif task.device.type == "cuda":
        print(f"largest batch that fits: {largest_tried(task)}")
    else:
        each = (after - before) / ((whole - few) / ranks.count()) if whole > few else 0
        fits = f"about {estimated(each, after, whole, task.device)}" if each > 0 else "not to be told from batches this small; try a larger one"
        print(f"largest batch that fits: {fits}")


def step(task: Task, at: Position, batch: int) -> None:
    """One step on so many images, waited for."""
    float(loop.train_step(task, at, torch.arange(batch) % task.images, 1))


def measured(work: Callable[[], None]) -> float:
    """Median seconds of a few calls after one that does not count."""
    work()
    began, taken = time.monotonic(), []
    while len(taken) < STEPS and (len(taken) < 2 or not any(distributed.summed([time.monotonic() - began > SECONDS]))):
        start = time.monotonic()
        work()
        taken.append(time.monotonic() - start)
    return statistics.median(taken)


def peak(device: torch.device) -> int:
    """Bytes that this process has taken at most: of the GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def capacity(device: torch.device) -> int:
    """Bytes that this process may take: of the GPU, or of the machine as far as its container may use it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    installed = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")).split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.exists() else "max"
    return min(installed, int(allowed)) if allowed.isdigit() else installed


def estimated(each: float, taken: int, batch: int, device: torch.device) -> int:
    """The batch that fills nine tenths of the memory, when every image more takes ``each`` bytes in one of the processes."""
    return max(batch, batch + int((0.9 * capacity(device) / processes_here() - taken) / each) * ranks.count())


def processes_here() -> int:
    """How many processes of the training share this machine's memory, if machines are alike."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def largest_tried(task: Task) -> int:
    """The largest batch that a GPU can compute, to within an eighth: doubled until it fails, then halved in between."""
    fits, fails = task.batch, None
    while fails is None or fails - fits > max(ranks.count(), fits // 8):
        asked = 2 * fits if fails is None else (fits + fails) // 2
        if possible(task, asked):
            fits = asked
        else:
            fails = asked
    return fits


def possible(task: Task, batch: int) -> bool:
    """Whether one step on so many images fits into the GPU's memory."""
    try:
        step(task, Position(), batch)
    except torch.OutOfMemoryError:
        task.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return False
    return True


def spoken(seconds: float) -> str:
    """90 -> "1 min 30 s"."""
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    words = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(words[:2]) or f"{seconds:.1f} s"
