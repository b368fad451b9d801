"""Our training loop with MPS-AMS ÷ bare steps of the same U-Net on one fixed batch: images/s.

Ours is ``train.loop.fit`` with everything that happens in a training: batches, flips, masks, records, looks at the
loss, pictures. Clusters are found once before the first epoch: their share of 800 epochs is reported separately.
Both take turns, an epoch each. On the GPU where torch sees one, else on the CPU.

  python -m benchmarks.loop [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from benchmarks import keep, record_name, row, synthetic
from benchmarks.interleaved import by_cpu_time, interleave, speeds
from benchmarks.training import EPOCHS, bare, ours

# width, side in pixels, batch, steps of an epoch
ON_CPU = ((16, 128, 16, 6), (16, 256, 8, 3))
ON_GPU = ((16, 128, 16, 39), (16, 256, 32, 20), (64, 256, 32, 20))
QUICK = ((4, 32, 4, 2),)


def measure(width: int, size: int, batch: int, steps: int, rounds: int) -> tuple[dict, dict]:
    """Measure one size; return its line for the record, and what was measured for it."""
    details = {"width": width, "size": size, "batch": batch}
    with tempfile.TemporaryDirectory() as folder:
        pack = synthetic.pack(Path(folder) / "pack", steps * batch, size)
        pieces = interleave(
            {
                "ours": (ours, details | {"pack": pack, "out": Path(folder) / "run"}),
                "bare": (bare, details | {"steps": steps}),
            },
            rounds,
        )
    clustering = pieces["ours"][0]["clustering_s"]
    mine, peer = (speeds(pieces[name], steps * batch) for name in ("ours", "bare"))
    line = row(
        f"training loop with MPS-AMS ÷ bare steps of its U-Net, width {width}, {size} px, batch {batch}",
        list(zip(mine, peer, strict=True)),
        "≥ 0.95",
    )
    line["by_cpu_time"] = by_cpu_time(pieces["ours"], pieces["bare"])
    details = details | {
        "images_an_epoch": steps * batch,
        "ours_images_per_s": statistics.median(mine),
        "bare_images_per_s": statistics.median(peer),
        "clustering_s": clustering,
        "clustering_as_share_of_800_epochs": clustering / EPOCHS * statistics.median(mine) / (steps * batch),
    }
    return line, details


def main(argv: list[str] | None = None) -> dict:
    """Measure and keep; a quick run is only printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that count")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network, printed and not kept: to see that it runs"
    )
    options = parser.parse_args(argv)
    sizes = QUICK if options.quick else ON_GPU if torch.cuda.is_available() else ON_CPU
    measured = [measure(*size, 2 if options.quick else options.rounds) for size in sizes]
    results = {"ratios": [line for line, _ in measured], "details": [details for _, details in measured]}
    keep(record_name("loop"), results, options.quick)
    return results


if __name__ == "__main__":
    main()
