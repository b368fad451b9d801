"""The paper's pretraining on one GPU: how long, which share of the card's bf16 matrix rate, and where the rest goes.

MPS-AMS, width 64, 256 × 256, batch 32, as many made-up images as BUSI trains on. A few epochs of the real loop are
timed after one that warms up; the time of 800 is then extrapolated, and says so, unless all 800 are run (--epochs 800).
The rate's peer is a large bf16 matrix product in the same run. FLOPs are those of convolutions and matrix products,
counted by PyTorch.

  python -m benchmarks.gpu [--epochs 20] [--compile] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import keep, row, synthetic, training
from train import loop
from train.loop import Task
from train.options import RunOptions
from train.state import Position

FULL = {"width": 64, "size": 256, "batch": 32, "images": 624}  # BUSI's 780, eight in ten
QUICK = {"width": 4, "size": 64, "batch": 8, "images": 32}
SIDE, PRODUCTS = 8192, 20  # of the matrices, and how many products are timed
PROFILED, ROWS = 10, 20  # steps in the profile, and lines kept of it


class Enough(Exception):
    """As many epochs as were to be measured are done."""


def flops(work: Callable[[], object]) -> int:
    """Return floating-point operations, a multiplication and an addition being two, of the convolutions and matrix
    products in a call.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def matrix_rate(device: torch.device, side: int = SIDE, products: int = PRODUCTS) -> float:
    """Measure FLOP/s of bf16 products of square matrices: the median of a few."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    taken = []
    for _ in range(products + 3):  # the first do not count
        wait(device)
        began = time.perf_counter()
        a @ b
        wait(device)
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(taken[3:])


def wait(device: torch.device) -> None:
    """Wait until the device has done all work it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def epochs_of(work: Task, out: Path, count: int) -> list[float]:
    """Return the seconds of each of the first ``count`` epochs of the real loop."""
    marks = [time.perf_counter()]

    def turn() -> None:
        wait(work.device)
        marks.append(time.perf_counter())
        if len(marks) > count:
            raise Enough

    with contextlib.suppress(Enough):
        training.run_with(work, out, turn)
    return [after - before for before, after in pairwise(marks)]


def step_of(work: Task) -> Callable[[], None]:
    """Return a function that does a step of the loop on the first images and waits for it."""
    at = Position()
    return lambda: float(loop.train_step(work, at, torch.arange(work.batch) % work.images, 1))


def where_time_goes(step: Callable[[], None], device: torch.device, steps: int = PROFILED) -> list[dict]:
    """Return the kernels by the device's time for them, the slowest first: their share of it, and ms a step.

    On a CPU operators.
    """
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as seen:
        for _ in range(steps):
            step()
    spent = {
        each.key: each.self_device_time_total if on_gpu else each.self_cpu_time_total for each in seen.key_averages()
    }
    whole = sum(spent.values())
    slowest = sorted(spent, key=spent.get, reverse=True)[:ROWS]
    return [{"name": name, "share": spent[name] / whole, "ms_per_step": spent[name] / 1000 / steps} for name in slowest]


def whole_training(preparing: float, epochs: list[float]) -> float:
    """Return the seconds of a training of 800 epochs: what was measured, and the median for each epoch that was not."""
    return preparing + sum(epochs) + (training.EPOCHS - len(epochs)) * statistics.median(epochs[1:])


def measure(epochs: int, compiled: bool, width: int, size: int, batch: int, images: int) -> dict:
    """Measure everything for one size."""
    device = torch.device("cuda")
    chosen = training.options(width, size, batch, RunOptions(compile=compiled, device=device.type))
    with tempfile.TemporaryDirectory() as folder:
        pack, out = synthetic.pack(Path(folder) / "pack", images, size), Path(folder) / "run"
        out.mkdir()
        # what is compiled is not counted
        plain = training.task(training.options(width, size, batch, RunOptions(device=device.type)), pack, out)
        counted = flops(step_of(plain))
        del plain
        began = time.perf_counter()
        work = training.task(chosen, pack, out)
        preparing = time.perf_counter() - began
        taken = epochs_of(work, out, epochs)
        profiled = where_time_goes(step_of(work), device)
    rate = matrix_rate(device)
    speed = images / statistics.median(taken[1:])
    shares = [(counted / batch * images / each, rate) for each in taken[1:]]
    whole = whole_training(preparing, taken)
    setting = f"MPS-AMS, width {width}, {size} px, batch {batch}"
    return {
        "ratios": [
            row(f"FLOP/s of training ÷ of a bf16 matrix product, {setting}", shares, "≥ 0.35"),
            row(
                f"10 minutes ÷ 800 epochs{' (extrapolated)' * (len(taken) < training.EPOCHS)}, {setting}",
                [(600, whole)],
                "≥ 1",
            ),
        ],
        "epochs_measured": len(taken),
        "extrapolated": len(taken) < training.EPOCHS,
        "seconds_of_800_epochs": whole,
        "images_per_s": speed,
        "gflop_per_image": counted / batch / 1e9,
        "tflop_per_s": counted / batch * speed / 1e12,
        "matrix_tflop_per_s": rate / 1e12,
        "compiled": compiled,
        "profile": profiled,
    }


def main(argv: list[str] | None = None) -> dict:
    """Measure and keep; a quick run is only printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="epochs to time; 800 is the whole training")
    parser.add_argument(
        "--compile", action="store_true", help="with torch.compile; the record is then called gpu-compiled"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network, printed and not kept: to see that it runs"
    )
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: PyTorch sees no GPU here, and this measures one; benchmarks.loop measures a CPU")
    if not 3 <= options.epochs <= training.EPOCHS:
        parser.error(f"--epochs {options.epochs} must be at least 3 and at most {training.EPOCHS}")
    results = measure(3 if options.quick else options.epochs, options.compile, **(QUICK if options.quick else FULL))
    keep("gpu-compiled" if options.compile else "gpu", results, options.quick)
    return results


if __name__ == "__main__":
    main()
