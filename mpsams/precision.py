"""Choose the precision of convolutions: float32, or bfloat16 where the processor is faster in it."""

from __future__ import annotations

import functools
import statistics
import time

import torch
from torch import nn

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
SPEEDUP = 1.1  # bfloat16 is chosen on a CPU where it is this many times as fast as float32
ROUNDS = 5


def choose(name: str, device: torch.device | str = "cpu") -> torch.dtype:
    """Return the precision of that name; "auto" is bfloat16 where it is faster on this device, else float32.

    A GPU must support bfloat16; a CPU must have it in hardware, and a measurement of about 0.2 s must confirm that it
    is faster. ValueError for another name.
    """
    if name in PRECISIONS:
        return PRECISIONS[name]
    if name != "auto":
        raise ValueError(f"precision {name!r}; allowed are auto, {', '.join(PRECISIONS)}")
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if cpu_has_bfloat16() and cpu_speedup() >= SPEEDUP else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a precision in ``PRECISIONS``."""
    return next(name for name, each in PRECISIONS.items() if each == dtype)


def cpu_has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX) and PyTorch uses it."""
    return (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    ) and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@functools.cache
def cpu_speedup() -> float:
    """Return the processor time of a training step in float32 over that in bfloat16, median of alternating pairs."""
    with torch.random.fork_rng(devices=[]):
        layers = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1))
        x_bchw = torch.randn(4, 16, 64, 64)
    fast = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step(precision: torch.dtype) -> float:
        began = time.process_time()
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            fast(x_bchw).float().square().mean().backward()
        return time.process_time() - began

    pairs = [(step(torch.float32), step(torch.bfloat16)) for _ in range(ROUNDS + 1)][1:]
    return statistics.median(slow / quick for slow, quick in pairs)
