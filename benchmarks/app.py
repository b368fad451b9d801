"""The app as a user meets it: seconds to its first page, p95 of the epoch slider and of a segmentation, memory.

Starts the app on a free port with the shipped weights, measures, and stops it.

  python -m benchmarks.app [--calls 60]
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import keep, seconds

BOUNDS = {"slider_p95_ms": 100, "segment_p95_ms": 400, "peak_memory_mib": 1200}


@contextmanager
def app():
    """The running app: (address, process id, seconds until its page answered)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, began = f"http://127.0.0.1:{port}", time.perf_counter()
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(address, timeout=10).read()
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None:
                    raise SystemExit(f"the app ended with {process.returncode}") from None
                time.sleep(0.05)
        yield address, process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(20)


def peak_memory(pid: int) -> float:
    """Highest resident memory of a process so far, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def p95(taken: list[float]) -> float:
    """The 95th percentile of sorted seconds, in milliseconds."""
    return 1000 * float(np.percentile(taken, 95))


def slider(calls: int) -> list[float]:
    """Seconds the server spends on each of many slider events, on all samples."""
    from mpsams import panels
    from mpsams.panels import masking

    library = panels.Library(Path("weights"))
    covariance = masking.covariance(library)
    how = panels.clustering(library.clustering())
    cases = [panels._case.of_sample(sample, how) for sample in panels._session.phantom.samples()]
    events = random.Random(0)
    return seconds(lambda: masking.view(events.choice(cases), events.randint(1, 800), events.randrange(256), covariance), calls)


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=60, help="of each kind")
    calls = parser.parse_args().calls
    from gradio_client import Client, handle_file

    with app() as (address, pid, ready), tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "image.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)).save(picture)
        client = Client(address, verbose=False)
        requests = {name: seconds(lambda: client.predict(handle_file(picture), api_name=f"/{name}"), calls) for name in ("segment", "mask")}
        memory = peak_memory(pid)
    results = {f"{name}_p95_ms": p95(taken) for name, taken in requests.items()}
    results |= {"page_ready_s": ready, "slider_p95_ms": p95(slider(calls)), "peak_memory_mib": memory, "calls": calls}
    keep("app", results | {"bounds": BOUNDS})


if __name__ == "__main__":
    main()
