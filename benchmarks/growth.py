"""Time and memory against the number of images, which is to say: time per image, and what a process keeps for itself.

Each number of made-up slices is packed and then, in a fresh process, opened (with its split, and where patients are
unknown with the search for near-duplicates), clustered and trained on for an epoch by a tiny network: what grows with
the data must be seen beside it. Anonymous memory is what only the process has; the pages of the pack that it has looked
at count as memory too, but the kernel takes them back when it needs them. On the CPU.

  python -m benchmarks.growth [--images 1000 4000 16000 64000] [--unknown 1000 4000 16000] [--quick]
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from benchmarks import keep, row, synthetic, training
from benchmarks.interleaved import interleave
from mpsams import packs
from train.options import RunOptions, open_data

IMAGES, UNKNOWN = (1000, 4000, 16000, 64000), (1000, 4000, 16000)
EACH = 20  # slices of a patient, where patients are known
FULL = {"width": 2, "size": 64, "batch": 64}
QUICK = {"width": 2, "size": 32, "batch": 16}
EVERY = 0.01  # seconds between looks at the memory


def mib(name: str) -> float:
    """Return MiB of one kind of this process's memory, as the kernel counts it: RssAnon or RssFile."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))[1]) / 1024


class Watch:
    """Sees how far this process's anonymous memory grows from where it was, looking every ``EVERY`` seconds."""

    def __init__(self) -> None:
        self.before, self.mapped = mib("RssAnon"), mib("RssFile")
        self.most = self.before
        threading.Thread(target=self.look, daemon=True).start()

    def look(self) -> None:
        over = threading.Event()
        while not over.wait(EVERY):
            self.most = max(self.most, mib("RssAnon"))

    def usage(self) -> dict[str, float]:
        """Return in MiB the most anonymous memory, its growth since the start, and the pages of files since then."""
        self.most = max(self.most, mib("RssAnon"))
        return {
            "anonymous_mib": self.most,
            "grown_mib": self.most - self.before,
            "mapped_mib": mib("RssFile") - self.mapped,
        }


def open_pack(turn: Callable, pack: Path, size: int, train: bool, out: Path, **settings) -> None:
    """Work as a candidate (see ``interleaved``): opening, dividing, and if ``train`` clustering and an epoch."""
    chosen = training.options(size=size, run=RunOptions(device="cpu"), **settings)
    # what libraries take once
    training.bare_step(replace(chosen, data=replace(chosen.data, size=32)), chosen.run.start())()
    watch = Watch()
    turn()
    stack, _ = open_data(replace(chosen.data, root=str(pack)))
    turn(images=len(stack), **watch.usage())
    if not train:
        return
    work = training.task(chosen, pack, out)
    turn(**watch.usage())
    out.mkdir()
    training.run_with(work, out, lambda: turn(**watch.usage()))


def measure(count: int, each: int, size: int, **settings) -> dict:
    """Measure time and memory for one number of images."""
    with tempfile.TemporaryDirectory() as folder:
        pack = synthetic.pack(Path(folder) / "pack", count, size, each)
        bytes_ = sum((pack / name).stat().st_size for name in (packs.IMAGES, packs.MASKS))
        train = each > 1
        work = {"pack": pack, "size": size, "train": train, "out": Path(folder) / "run", **settings}
        _, *pieces = interleave({str(count): (open_pack, work)}, rounds=3 if train else 1, warm=0)[str(count)]
    stages = dict(zip(("opening_s", "clustering_s", "epoch_s"), (piece["seconds"] for piece in pieces), strict=True))
    whole = sum(stages.values())
    memory = {key: pieces[-1][key] for key in ("anonymous_mib", "grown_mib", "mapped_mib")}
    return {"images": count, **stages, "ms_per_image": 1000 * whole / count, "pack_mib": bytes_ / 2**20, **memory}


def lines(found: list[dict], words: str) -> list[dict]:
    """Return lines on the largest number of images ÷ the smallest: time per image and memory."""
    few, many = found[0], found[-1]
    counts = f"{many['images']} images ÷ {few['images']}, {words}"
    return [
        row(f"time per image, {counts}", [(many["ms_per_image"], few["ms_per_image"])], "≤ 1.1"),
        row(f"anonymous memory, {counts}", [(many["anonymous_mib"], few["anonymous_mib"])], "≤ 1.1"),
    ]


def main(argv: list[str] | None = None) -> dict:
    """Measure and keep; a quick run is only printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="how many, of known patients")
    parser.add_argument(
        "--unknown", type=int, nargs="*", default=UNKNOWN, help="how many, of unknown patients, which are only opened"
    )
    parser.add_argument("--quick", action="store_true", help="a few images, printed and not kept: to see that it runs")
    options = parser.parse_args(argv)
    settings = QUICK if options.quick else FULL
    known, unknown = ((200, 400), (100,)) if options.quick else (options.images, options.unknown)
    results = {
        "size": settings["size"],
        "known": [measure(count, EACH, **settings) for count in tqdm(known, desc="known patients")],
        "unknown": [measure(count, 1, **settings) for count in tqdm(unknown, desc="unknown patients")],
    }
    results["ratios"] = lines(results["known"], "patients known")
    if unknown:
        results["ratios"] += lines(results["unknown"], "patients unknown, opened only")
    keep("growth", results, options.quick)
    return results


if __name__ == "__main__":
    main()
