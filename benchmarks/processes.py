"""Two processes of one thread ÷ one process of one thread: images/s of ``train.pretrain`` at the same global batch, on
the CPU.

Both are the command itself, the two processes started by torchrun, with its gradients averaged and its BatchNorm over
all rows or its own; they take turns, a training of a few epochs each. What counts is the time from one epoch's record
to the next; the cost of starting is reported separately.

  python -m benchmarks.processes [--rounds 3] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from benchmarks import keep, row, synthetic
from mpsams import jsonl
from train.run_files import RECORDS

ROOT = Path(__file__).resolve().parents[1]
FULL = {"width": 16, "size": 128, "batch": 16, "images": 120, "epochs": 4}  # eight in ten are trained on
QUICK = {"width": 2, "size": 32, "batch": 4, "images": 20, "epochs": 3}


def command(processes: int, synced: bool, pack: Path, out: Path, settings: dict) -> list[str]:
    """Return the command of ``train.pretrain`` in ``processes`` processes of one thread, with BatchNorm over all of
    them or over each.

    settings: "width", "size", "batch" and "epochs".
    """
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    given = {
        "data.name": "folder",
        "data.root": pack,
        "data.size": settings["size"],
        "model.width": settings["width"],
        "optim.batch": settings["batch"],
        "optim.epochs": settings["epochs"],
    }
    given |= {
        "run.threads": 1,
        "run.device": "cpu",
        "run.picture_every": 0,
        "out": out,
        "run.synced": str(synced).lower(),
    }
    return [sys.executable, *start, "-m", "train.pretrain", *(f"--{name}={value}" for name, value in given.items())]


def measure_training(processes: int, synced: bool, pack: Path, out: Path, settings: dict) -> dict[str, float]:
    """Train once: images/s of the median epoch after the first, and the seconds until training began."""
    alone = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    began = time.time()
    done = subprocess.run(
        command(processes, synced, pack, out, settings), env=alone, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"train.pretrain in {processes} processes has failed:\n{done.stderr}")
    start, *_ = found = jsonl.read(out / RECORDS)
    times = [each["time"] for each in found if each["event"] == "epoch"]
    assert start["processes"] == processes
    taken = statistics.median(after - before for before, after in pairwise(times))
    return {"images_per_s": start["images"] / taken, "starting_s": start["time"] - began}


def main(argv: list[str] | None = None) -> dict:
    """Measure and keep; a quick run is only printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each that count")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network, printed and not kept: to see that it runs"
    )
    options = parser.parse_args(argv)
    settings = dict(QUICK if options.quick else FULL)
    kinds = {"one": (1, True), "two": (2, True), "apart": (2, False)}
    runs_of: dict[str, list[dict]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as folder:
        pack = synthetic.pack(Path(folder) / "pack", settings.pop("images"), settings["size"], each=2)
        for number in range(1 if options.quick else options.rounds):
            for name, runs in runs_of.items():
                runs.append(measure_training(*kinds[name], pack, Path(folder) / f"run-{name}-{number}", settings))
    one, two, apart = ([each["images_per_s"] for each in runs] for runs in runs_of.values())
    title = (
        f"two processes ÷ one, of one thread, width {settings['width']}, {settings['size']} px, batch"
        f" {settings['batch']} in all, BatchNorm over"
    )
    medians = {
        f"{name}_{key}": statistics.median(each[key] for each in runs)
        for name, runs in runs_of.items()
        for key in ("images_per_s", "starting_s")
    }
    rows = [
        row(f"{title} {words}", list(zip(runs, one, strict=True)), "≥ 1.8", threads=1)
        for words, runs in (("both", two), ("each", apart))
    ]
    results = {"ratios": rows, "details": settings | medians}
    keep("processes", results, options.quick)
    return results


if __name__ == "__main__":
    main()
