"""A training step with glibc keeping freed memory ÷ with its defaults, each in a fresh process, in turns.

python -m benchmarks.memory [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from benchmarks import keep

STEP = """
import sys, time, torch
from mpsams.unet import UNet
from train import memory
if sys.argv[1] == "kept":
    assert memory.keep_freed()
network = UNet(width=16).to(memory_format=torch.channels_last)
x = torch.randn(16, 1, 256, 256).to(memory_format=torch.channels_last)
for _ in range(3):
    began = time.perf_counter()
    (network(x) - x).square().mean().backward()
    taken = time.perf_counter() - began
print(taken)
"""


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {"kept": [], "default": []}
    for _ in range(rounds):
        for policy, values in taken.items():
            done = subprocess.run([sys.executable, "-c", STEP, policy], check=True, capture_output=True, text=True)
            values.append(float(done.stdout))
    medians = {f"{policy}_s": statistics.median(values) for policy, values in taken.items()}
    keep("memory", medians | {"default_over_kept": medians["default_s"] / medians["kept_s"], "rounds": rounds})


if __name__ == "__main__":
    main()
