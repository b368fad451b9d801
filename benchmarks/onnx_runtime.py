"""Our CPU inference ÷ ONNX Runtime on the same weights, in alternating pairs; above 1 ours is faster.

  python -m benchmarks.onnx_runtime [--widths 16 64] [--seconds 8]

Width 16 is a shipped network, 64 one with random weights. Ours computes in bfloat16 where the processor is faster in it
(``mpsams.precision``), and in float32 as well. "freed memory" says whether glibc keeps it (train.memory) or
gives it back as by default; ONNX Runtime keeps its own either way.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import keep, row, seconds
from mpsams import checkpoint, inference, precision
from mpsams.inference import Network
from mpsams.unet import UNet
from train import export, memory

SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "busi-mps_ams-seg-10.safetensors"
SIDE, BATCHES, THREADS, LEAST, MOST = 256, (1, 8), (1, 2), 3, 15


def write_synthetic(path: Path, width: int) -> Path:
    """Write a segmentation checkpoint with random weights."""
    torch.manual_seed(0)
    metadata = {
        "kind": "segmentation",
        "size": SIDE,
        "model": {"channels": 1, "classes": 1, "width": width, "norm": "batch"},
    }
    checkpoint.save(path, UNet(width=width).state_dict(), metadata)
    return path


def open_session(path: Path, precise: str) -> tuple[Network, bytes]:
    """Open our network in a precision, and build the same as an ONNX file."""
    found = checkpoint.load(path)
    example = (torch.rand(1, 1, SIDE, SIDE),)
    data = export.graph(
        export.module(found, checkpoint.unet(found)), example, export.OPSET, export.properties(path, found)
    )
    return inference.open_network(path, precise), data


def pairs(theirs: Callable[[], object], ours: Callable[[], object], lasting: float) -> list[tuple[float, float]]:
    """Time theirs and ours in turns, for ``lasting`` seconds but at least ``LEAST`` and at most ``MOST`` times; return
    seconds.
    """
    taken, began = [], time.perf_counter()
    while len(taken) < LEAST or (len(taken) < MOST and time.perf_counter() - began < lasting):
        taken.append((seconds(theirs, 1)[0], seconds(ours, 1)[0]))
    return taken


def compare(
    network: Network, data: bytes, batch: int, threads: int, lasting: float
) -> tuple[list[tuple[float, float]], dict]:
    """Return the pairs of seconds, and a record of both: images per second, and the difference of their answers."""
    torch.set_num_threads(threads)
    x_bchw = torch.rand(batch, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    session, image = export.session(data, threads), x_bchw.numpy()
    # also warms up
    gap = export.difference(data, lambda x_11ss: inference.probabilities(network, x_11ss), [(x_bchw[:1],)])
    taken = pairs(
        lambda: session.run(None, {"image": image}), lambda: inference.probabilities(network, x_bchw).numpy(), lasting
    )
    theirs, ours = (batch / statistics.median(times) for times in zip(*taken, strict=True))
    about = {
        "batch": batch,
        "threads": threads,
        "ours_images_per_s": ours,
        "onnx_runtime_images_per_s": theirs,
        "difference": gap,
    }
    return taken, about


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64], help="16 is the shipped network")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help=f"for each comparison, which takes at least {LEAST} pairs"
    )
    options = parser.parse_args()
    ours = ["float32"] + ["bf16"] * (precision.choose("auto") == torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            w: SHIPPED if w == 16 else write_synthetic(Path(folder) / f"{w}.safetensors", w) for w in options.widths
        }
        networks = {(w, precise): open_session(path, precise) for w, path in paths.items() for precise in ours}
    rows = []
    for kept in (False, True):
        if kept and not memory.keep_freed():
            break
        for (width, precise), (network, data) in networks.items():
            if not kept and (width > min(options.widths) or precise == "bf16"):
                continue  # it takes minutes
            for batch, threads in itertools.product(BATCHES, THREADS):
                taken, about = compare(network, data, batch, threads, options.seconds)
                title = (
                    f"inference ÷ ONNX Runtime, width {width}, batch {batch}, {threads} thread{'s' * (threads > 1)},"
                    f" {precise}"
                )
                setting = {"width": width, "freed_memory_kept": kept, "precision": precise}
                aim = "" if not kept else "≥ 1.3" if precise == "bf16" else "≥ 0.9"
                rows.append(row(title + ("" if kept else ", glibc's defaults"), taken, aim, **setting, **about))
    import onnxruntime

    keep("onnx_runtime", {"size": SIDE, "opset": export.OPSET, "onnxruntime": onnxruntime.__version__, "ratios": rows})


if __name__ == "__main__":
    main()
