"""Speed and memory, each against a peer or a bound in the same run."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """Wall seconds of each of ``times`` calls, sorted."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)


def keep(name: str, values: dict) -> None:
    """Print the values and keep them in benchmarks/NAME.json with what machine they are from."""
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    text = json.dumps(values | {"about": about}, indent=1)
    print(text)
    (Path(__file__).parent / f"{name}.json").write_text(text + "\n", encoding="utf-8")
