"""Speed-up of each switch of the training: on ÷ off, images/s of steps of ``train.loop``, everything else at its
default.

A switch that does not help should be off or gone. Both take turns, each in a process of its own, a few steps at a time.
What the machine cannot do is skipped with its reason. On the GPU where torch sees one, else on the CPU.

  python -m benchmarks.switches [--rounds 5] [--only compile bf16] [--quick]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import keep, record_name, row, synthetic, training
from benchmarks.interleaved import by_cpu_time, interleave, speeds
from mpsams import packs, precision
from train import loop, pretrain
from train.loop import Task
from train.options import RunOptions, to_device_if_fits
from train.state import Position

SWITCHES = {
    "channels_last": "channels_last",
    "fused": "fused Adam",
    "memory": "freed memory kept",
    "clusters": "clusters found once",
    "geodesic": "patches far down first, not at random",
    "bf16": "bf16 in channels_last, not float32",
    "compile": "torch.compile",
}
AIMS = {"geodesic": "≥ 0.97", "bf16": "≥ 2.2"}
# width, side in pixels, batch, steps of a piece
ON_CPU, ON_GPU, QUICK = (16, 128, 8, 3), (64, 256, 32, 20), (4, 32, 4, 2)
LARGER = {"bf16": [(16, 256, 8, 2)]}  # further sizes on a CPU, where the gain depends on them
IMAGES = 128


def impossible(switch: str) -> str:
    """Return the reason why a switch cannot be measured here; "" when it can."""
    gpu = torch.cuda.is_available()
    if switch == "bf16" and not (
        torch.cuda.is_bf16_supported(including_emulation=False) if gpu else precision.cpu_has_bfloat16()
    ):
        return f"this {'GPU' if gpu else 'CPU'} has no instructions for bf16"
    if switch == "compile" and not gpu and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler, and there is none"
    if switch == "memory" and gpu:
        return "it is about the C library's memory, which a training on a GPU hardly uses"
    return ""


def run_of(switch: str, on: bool) -> RunOptions:
    """Return the run's options with a switch on or off; the other side of bf16 is float32, on a GPU too."""
    if switch == "bf16":
        return RunOptions(precision="bf16" if on else "float32")
    return RunOptions(compile=switch == "compile" and on)


def task(switch: str, on: bool, pack: Path, out: Path, **shape: int) -> Task:
    """Return the training's task, with everything at its default but for one switch. shape: width, size and batch."""
    chosen = training.options(**shape, run=run_of(switch, on))
    if switch == "geodesic":
        chosen = replace(chosen, method=replace(chosen.method, **({"selector": switch} if on else {"order": "random"})))
    device = torch.device("cpu") if switch == "memory" and not on else chosen.run.start()  # which lets it be kept
    work = training.task(chosen, pack, out, device)
    if switch == "channels_last":
        work.module.to(memory_format=torch.channels_last if on else torch.contiguous_format)
    if on or switch not in ("fused", "clusters"):
        return work
    if switch == "fused":
        groups = [{"params": work.optimizer.param_groups[0]["params"], "initial_lr": chosen.optim.lr}]
        return replace(work, optimizer=torch.optim.Adam(groups, lr=chosen.optim.lr))
    stack = to_device_if_fits(packs.read(pack), device)

    def loss(indices: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
        return work.network(pretrain.batch_of(stack, None, indices, chosen.optim.flip, generator, device), epoch)

    return replace(work, loss=loss)


def run_steps(turn: Callable, steps: int, switch: str, on: bool, **settings) -> None:
    """Run steps as a candidate (see ``interleaved``), a few a piece."""
    work, at = task(switch, on, **settings), Position()
    turn()
    while True:
        losses = []
        for _ in range(steps):
            first = at.step * work.batch
            losses.append(loop.train_step(work, at, torch.arange(first, first + work.batch) % work.images, 1))
        loop.sync_losses(work, at, losses, [], False)
        turn()


def measure(switch: str, width: int, size: int, batch: int, steps: int, rounds: int) -> dict:
    """Measure one switch; return its line for the record."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(top / "compiled")  # none from before, for compile's first steps
        pack = synthetic.pack(top / "pack", IMAGES, size)
        settings = {
            "pack": pack,
            "out": top / "run",
            "width": width,
            "size": size,
            "batch": batch,
            "steps": steps,
            "switch": switch,
        }
        pieces = interleave({name: (run_steps, settings | {"on": name == "on"}) for name in ("on", "off")}, rounds)
    on, off = (speeds(pieces[name], steps * batch) for name in ("on", "off"))
    title = f"{SWITCHES[switch]}: on ÷ off, width {width}, {size} px, batch {batch}"
    cpu_time = by_cpu_time(pieces["on"], pieces["off"])
    first = {f"{name}_first_piece_s": pieces[name][0]["warm_s"] for name in pieces}
    found = {
        "on_images_per_s": statistics.median(on),
        "off_images_per_s": statistics.median(off),
        "by_cpu_time": cpu_time,
    }
    return row(title, list(zip(on, off, strict=True)), AIMS.get(switch, ""), switch=switch, **found, **first)


def main(argv: list[str] | None = None) -> dict:
    """Measure and keep; a quick run is only printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pieces of each that count")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=tuple(SWITCHES),
        default=tuple(SWITCHES),
        help="measure and print these, and keep nothing",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tiny network and no torch.compile, printed and not kept: to see that it runs",
    )
    options = parser.parse_args(argv)
    size = QUICK if options.quick else ON_GPU if torch.cuda.is_available() else ON_CPU
    skipped = {switch: reason for switch in options.only if (reason := impossible(switch))}
    if options.quick:
        skipped["compile"] = "it takes minutes"
    switches = [switch for switch in options.only if switch not in skipped]
    larger = {} if options.quick or torch.cuda.is_available() else LARGER
    sizes = [(switch, each) for switch in switches for each in [size, *larger.get(switch, [])]]
    lines = [
        measure(switch, *each, 2 if options.quick else options.rounds) for switch, each in tqdm(sizes, desc="switches")
    ]
    results = {"ratios": lines, "skipped": skipped}
    keep(record_name("switches"), results, options.quick or set(options.only) < set(SWITCHES))
    return results


if __name__ == "__main__":
    main()
