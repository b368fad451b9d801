"""Our training loop ÷ the pipeline that one would otherwise write (``benchmarks/peer.py``): images/s.

The peer is MONAI's CacheDataset, DataLoader and BasicUNet of equal channels, and scikit-learn's KMeans per image, in
two
versions: as one would write it, and with care, which finds the clusters once and has BatchNorm as ours has. All hide
the same number of patches and learn the same loss; on a GPU all compute in bf16. The three take turns, an epoch each,
in processes of their own. On the GPU where torch sees one, else on the CPU.

  python -m benchmarks.pipeline [--rounds 5] [--workers 0 2] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import keep, record_name, row, synthetic, training
from benchmarks.interleaved import by_cpu_time, interleave, speeds
from mpsams.unet import UNet

# width, side in pixels, batch, steps of an epoch
ON_CPU = ((16, 128, 16, 3), (64, 128, 2, 2))
ON_GPU = ((16, 256, 32, 20), (64, 256, 32, 20))
QUICK = ((2, 32, 4, 2),)
VERSIONS = {"ordinary": False, "careful": True}


def theirs(turn: Callable, **settings) -> None:
    """Run the peer as a candidate; only its own process imports MONAI."""
    from benchmarks import peer

    peer.train(turn, **settings)


def measure(
    width: int, size: int, batch: int, steps: int, rounds: int, workers: tuple[int, ...]
) -> tuple[list[dict], dict]:
    """Measure one size; return its lines for the record, and what was measured for them."""
    images = steps * batch
    with tempfile.TemporaryDirectory() as folder:
        pack = synthetic.pack(Path(folder) / "pack", images, size)
        shared = {"pack": pack, "width": width, "batch": batch}
        candidates = {"ours": (training.ours, shared | {"size": size, "out": Path(folder) / "run"})}
        candidates |= {
            name: (theirs, shared | {"careful": careful, "workers": workers}) for name, careful in VERSIONS.items()
        }
        pieces_of = interleave(candidates, rounds)
    found = {name: speeds(pieces, images) for name, pieces in pieces_of.items()}
    title = f"training ÷ MONAI and scikit-learn, {{}}, width {width}, {size} px, batch {batch}"
    aim = "≥ 3" if torch.cuda.is_available() else "≥ 1.1"
    lines = [row(title.format(name), list(zip(found["ours"], found[name], strict=True)), aim) for name in VERSIONS]
    details = {"width": width, "size": size, "batch": batch, "images_an_epoch": images}
    details["ours"] = {
        "images_per_s": statistics.median(found["ours"]),
        "parameters": sum(each.numel() for each in UNet(width=width).parameters()),
    }
    for name in VERSIONS:
        first = pieces_of[name][0]
        details[name] = {
            "images_per_s": statistics.median(found[name]),
            "parameters": first["parameters"],
            "workers": first["workers"],
        }
        if not first["workers"]:
            details[name]["ours_over_it_by_cpu_time"] = by_cpu_time(pieces_of["ours"], pieces_of[name])
    return lines, details


def main(argv: list[str] | None = None) -> dict:
    """Measure and keep; a quick run is only printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that count")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        help="of the peer's DataLoader, to choose from (default: 0, half the cores, all)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network, printed and not kept: to see that it runs"
    )
    options = parser.parse_args(argv)
    sizes = QUICK if options.quick else ON_GPU if torch.cuda.is_available() else ON_CPU
    workers = (0,) if options.quick else tuple(options.workers or sorted({0, os.cpu_count() // 2, os.cpu_count()}))
    results: dict = {"ratios": [], "details": []}
    for size in sizes:
        lines, details = measure(*size, 2 if options.quick else options.rounds, workers)
        results["ratios"] += lines
        results["details"].append(details)
        workers = (details["ordinary"]["workers"],)  # tried where loading weighs most
    keep(record_name("pipeline"), results, options.quick)
    return results


if __name__ == "__main__":
    main()
