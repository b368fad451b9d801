"""Prepare a data set of volumes once for training: memory-mapped slices at the network's size.

Slices without a body are left out. Memory stays that of one patient; Ctrl-C and a second call go on where it
stopped. Training then takes the pack as --data.root.

  python -m train.pack --data.name hecktor --data.root hecktor_nii --data.size 128 --out packs/hecktor-128
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from mpsams import datasets, packs
from train import memory
from train.command_line import parse, run
from train.options import Data, print_notes


@dataclass(frozen=True)
class Pack:
    """Options of a packing.

    Args:
        out: folder of the pack; made from data set and size when not given.
    """

    data: Data = Data()
    out: str | None = None


def main(argv: Sequence[str] | None = None) -> Path:
    """Parse, pack, say what was done; returns the folder."""
    options = parse(Pack, "train.pack", argv)
    data = options.data
    torch.set_num_threads(1)  # slices are so small that more only wait for each other
    out = Path(options.out or f"packs/{data.name}-{data.size}")
    began = time.monotonic()
    dataset = datasets.open_dataset(data.name, data.root, data.sequences, data.modality)
    if data.cases:
        dataset = dataset.select(dataset.cases[: data.cases])
    about = packs.write(dataset, data.size, out, partial(tqdm, desc="packing", unit="patient"))
    print_notes(about["notes"])
    taken, peak = time.monotonic() - began, memory.peak()
    print(
        f"wrote {out}: {len(about['cases'])} of {about['slices_read']} slices, {about['size']} × {about['size']}"
        f" pixels, {about['slices_read'] / taken:.0f} slices/s"
        + (f", peak memory {peak / 2**20:.0f} MB" if peak else "")
    )
    return out


if __name__ == "__main__":
    run(main, "train.pack")
