"""The cost of a training, measured on a few of its steps: speed, time, memory, and the largest batch that fits."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mpsams import distributed
from train import launch, loop, memory
from train.loop import Task
from train.state import Position

STEPS, SECONDS = 5, 30.0  # steps to measure, and seconds after which none is begun
FEW = 2  # images of a process in the first step, which BatchNorm and comparisons of images need
SHARE = 0.9  # of the free memory, which a batch may take
COPIES = 3  # of the weights that training adds: gradients and Adam's two moments
GIB = 2**30


def measure_and_print(task: Task) -> float | None:
    """Measure and print; return the seconds of the whole training, None when nothing could be computed.

    The task's weights are spoilt afterwards, nothing is written.

    Batches grow from a few images to the task's. On a CPU none is computed that is predicted to need more memory than
    is free; on a GPU the first that does not fit ends the growth. Speed is that of the last.
    """
    grow = grow_on_gpu if task.device.type == "cuda" else grow_on_cpu
    batch, each = grow(task)
    if batch == 0:
        return None
    taken = time_calls(lambda: step(task, batch))
    speed, total = batch / taken, task.images * task.epochs
    print(
        f"{speed:.1f} images/s in batches of {batch}"
        + (f" over {distributed.world_size()} processes" if distributed.world_size() > 1 else "")
    )
    print(
        f"an epoch of {task.images} images takes {format_duration(task.images / speed)}, all {task.epochs} epochs"
        f" {format_duration(total / speed)}"
    )
    print(f"largest batch that fits: {largest(task, batch, each)}")
    return total / speed


def grow_on_cpu(task: Task) -> tuple[int, float]:
    """Return the largest batch, up to the task's, that was computed, and the bytes of memory that each further image
    takes in its process.

    What is predicted not to fit is reported and not computed; (0, 0) when that is even the first.
    """
    batch, each, sizes = 0, 0.0, growing_batches(task)
    for number, size in enumerate(sizes):
        needed = (
            each * (size - batch) / distributed.world_size()
            if number
            else COPIES * sum(p.nbytes for p in task.module.parameters() if p.requires_grad)
        )
        if launch.sum_values([needed > SHARE * free()])[0]:
            refuse(task, batch, each, needed)
            return batch, each
        before = memory.peak() or 0
        with saved_tensors(task.module) as saved:
            step(task, size)
        after = memory.peak() or 0
        each = max(
            each,
            sum(saved.values()) / size * distributed.world_size(),
            (after - before) / (size - batch) * distributed.world_size() if number else 0,
        )
        batch = size
    took, limit = memory.peak(), memory.available()
    if took and limit is not None:
        print(
            f"memory: {took / GIB:.2f} GiB at most of {(took + limit / processes_here()) / GIB:.1f} GiB, in each"
            " process"
        )
    return batch, each


def growing_batches(task: Task) -> list[int]:
    """Return the batches to compute: from a few images of each process and part, doubled up to the task's."""
    sizes = [min(whole(task), FEW * distributed.world_size() * task.parts)]
    while sizes[-1] < whole(task):
        sizes.append(min(2 * sizes[-1], whole(task)))
    return sizes


def whole(task: Task) -> int:
    """Return the number of images of the task's largest step: a batch, or all images when they are fewer."""
    return min(task.batch, task.images)


def refuse(task: Task, batch: int, each: float, needed: float) -> None:
    """Say why no larger batch is computed."""
    if not batch:
        print(
            f"the network alone needs about {needed / GIB:.2f} GiB for training, {free() / GIB:.2f} GiB are free for"
            " each process; nothing was computed"
        )
        return
    more = each * (whole(task) - batch) / distributed.world_size()
    print(
        f"a batch of {whole(task)} would take about {((memory.peak() or 0) + more) / GIB:.2f} GiB, {more / GIB:.2f}"
        f" more than now; {free() / GIB:.2f} GiB are free for each process, so it was not computed. It does not fit;"
        " compute it in parts (accumulate) or take a smaller one"
    )


def grow_on_gpu(task: Task) -> tuple[int, float]:
    """Return the largest batch, up to the task's, that fits, and 0 for the memory per image, not measured."""
    batch = 0
    for size in growing_batches(task):
        if not possible(task, size):
            print(
                f"a batch of {size} does not fit into the GPU's memory; compute it in parts (accumulate) or take a"
                " smaller one"
            )
            break
        batch = size
    device = task.device
    print(
        f"memory: {torch.cuda.max_memory_reserved(device) / GIB:.2f} GiB at most of"
        f" {torch.cuda.get_device_properties(device).total_memory / GIB:.1f} GiB, in each process"
    )
    return batch, 0.0


def largest(task: Task, batch: int, each: float) -> str:
    """Return the largest batch that fits, in words, after ``batch`` was computed with ``each`` bytes for each image."""
    if task.device.type == "cuda":
        return (
            "ask one process alone; it is as many times larger as there are processes"
            if distributed.world_size() > 1
            else str(largest_tried(task, batch))
        )
    if not each or memory.available() is None:
        return "unknown here"
    fits = batch + int(SHARE * free() / each * distributed.world_size())
    return f"all {task.images} images of an epoch" if fits >= task.images else f"about {fits}"


def step(task: Task, batch: int) -> None:
    """Do the first training step, on ``batch`` images, and wait for its end."""
    float(loop.train_step(task, Position(), torch.arange(batch) % task.images, 1))


@contextlib.contextmanager
def saved_tensors(module: nn.Module) -> Iterator[dict[int, int]]:
    """Yield the bytes of the tensors that are kept for a backward pass inside, by address, without the module's own."""
    own, found = {each.untyped_storage().data_ptr() for each in (*module.parameters(), *module.buffers())}, {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield found


def free() -> float:
    """Return the bytes that each process of this machine may still take; infinity where the system does not tell."""
    left = memory.available()
    return math.inf if left is None else left / processes_here()


def time_calls(work: Callable[[], None]) -> float:
    """Return the median seconds of a few calls of a function that was called before; of one call when it takes long."""
    began = time.monotonic()
    taken: list[float] = []
    while len(taken) < STEPS and (not taken or not any(launch.sum_values([time.monotonic() - began > SECONDS]))):
        start = time.monotonic()
        work()
        taken.append(time.monotonic() - start)
    return statistics.median(taken)


def processes_here() -> int:
    """Return the number of processes of the training that share this machine's memory, if machines are alike."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def largest_tried(task: Task, fits: int) -> int:
    """Return the largest batch that a GPU can compute, to within an eighth, from one that it can: doubled until it
    fails, then halved in between.
    """
    fails = None
    while fails is None or fails - fits > max(distributed.world_size(), fits // 8):
        batch = 2 * fits if fails is None else (fits + fails) // 2
        if possible(task, batch):
            fits = batch
        else:
            fails = batch
    return fits


def possible(task: Task, batch: int) -> bool:
    """Return True if one step on ``batch`` images fits into the GPU's memory."""
    try:
        step(task, batch)
    except torch.OutOfMemoryError:
        task.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return False
    return True


def format_duration(seconds: float) -> str:
    """Return seconds in words: 90 as "1 min 30 s"."""
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    words = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(words[:2]) or f"{seconds:.1f} s"
