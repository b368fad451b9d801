"""Speed and memory, each against a peer or a bound in the same run."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """Return the wall seconds of each of ``times`` calls, sorted."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)


def row(title: str, pairs: Sequence[tuple[float, float]], aim: str = "", **more) -> dict:
    """Return a line for a record's "ratios" and the README: the median of first ÷ second of each pair, and the
    quartiles beside it.

    title: "a ÷ b". aim: such as "≥ 0.95"; empty where there is none. ValueError without pairs.
    """
    if not pairs:
        raise ValueError(f"{title}: no pair was measured")
    values = [first / second for first, second in pairs]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"what": title, "median": median, "quartiles": [low, high], "pairs": len(values), "aim": aim, **more}


def cpu() -> str:
    """Return the model name of the CPU."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"


def keep(name: str, values: dict, quick: bool = False, folder: Path = Path(__file__).parent) -> None:
    """Print the values and keep them in NAME.json in the folder with what machine they are from; a quick run is only
    printed.
    """
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    text = json.dumps(values | {"about": about}, indent=1, ensure_ascii=False)
    print(text)
    if not quick:
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def record_name(name: str) -> str:
    """Return the name of the benchmark's record on this machine: "NAME-gpu" where torch sees a GPU, which is then
    measured.
    """
    return f"{name}-gpu" if torch.cuda.is_available() else name
