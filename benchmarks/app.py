"""The app as a user meets it: its first page, the epoch slider, a segmentation, a large volume, and memory.

Starts the app on a free port with the shipped weights, measures, and stops it. The volume (512 x 512 x 300) is opened
in Chromium, from the end of its upload to its first slice; moving a slice is all that the server does for it.

  python -m benchmarks.app [--calls 60]
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
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

BOUNDS = {
    "slider_p95_ms": 100, "segment_p95_ms": 400, "peak_memory_mib": 1200,
    "volume_first_slice_s": 3, "volume_slice_p95_ms": 150, "volume_peak_memory_mib": 2048,
}  # fmt: skip
LARGE = (512, 512, 300)


@contextmanager
def app(*options: str):
    """Run the app; yield its address, its process id, and the seconds until its page answered. options: of its command
    line.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, began = f"http://127.0.0.1:{port}", time.perf_counter()
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port), *options], stdout=subprocess.DEVNULL)
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
    """Return the highest resident memory of a process so far, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def p95(taken: list[float]) -> float:
    """Return the 95th percentile of sorted seconds, in milliseconds."""
    return 1000 * float(np.percentile(taken, 95))


def slider(calls: int) -> list[float]:
    """Measure the seconds the server spends on each of many slider events, on all pictures."""
    from mpsams.app.components import mask_maps
    from mpsams.app.tabs import masking
    from mpsams.datasets import phantom
    from mpsams.inference import open_case
    from mpsams.inference.registry import ModelRegistry

    registry = ModelRegistry(Path("weights"))
    covariance = masking.covariance(registry, "ultrasound")
    clustering = open_case.clustering_options(registry.clustering())
    cases = [open_case.open_sample(sample, clustering) for sample in phantom.samples()]
    events = random.Random(0)
    return seconds(
        lambda: mask_maps.view(events.choice(cases), events.randint(1, 800), events.randrange(256), covariance), calls
    )


def large_volume(folder: Path) -> Path:
    """Write a noisy ellipsoid in air as a compressed CT of LARGE voxels."""
    import nibabel

    x, y, z = (np.linspace(-1, 1, side, dtype=np.float32) for side in LARGE)
    inside = (x[:, None, None] ** 2 + y[:, None] ** 2) * 2 + z**2 < 1
    noise = np.random.default_rng(0).integers(-20, 20, (64, 512, 300), dtype=np.int16)
    voxels = np.where(inside, np.int16(40), np.int16(-1000)) + np.tile(noise, (8, 1, 1))
    nibabel.Nifti1Image(voxels, np.diag([-0.9, -0.9, 1.5, 1])).to_filename(folder / "large.nii.gz")
    return folder / "large.nii.gz"


def first_slice(address: str, path: Path) -> float:
    """Measure the seconds from the end of the upload until the page shows a slice."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page()
        page.goto(address, wait_until="domcontentloaded")
        page.get_by_role("button", name="Open your own").click(timeout=60_000)
        with page.expect_response(
            lambda response: "/upload" in response.url and response.request.method == "POST", timeout=120_000
        ):
            page.locator("#own input[type=file]").first.set_input_files(str(path))
        began = time.perf_counter()
        page.locator("#shown").get_by_text(f"of {LARGE[2]}").first.wait_for(timeout=120_000)
        taken = time.perf_counter() - began
        browser.close()
    return taken


def moves(path: Path, calls: int) -> dict[str, list[float]]:
    """Measure the seconds the server spends on moving to another slice while each of the tabs is open, all that is
    redrawn together.
    """
    from mpsams.app.components import mask_maps, network_grid, slice_view
    from mpsams.app.tabs import masking, reconstruct
    from mpsams.inference import comparison, open_case
    from mpsams.inference.case import move_to_slice
    from mpsams.inference.registry import ModelRegistry

    registry = ModelRegistry(Path("weights"))
    case = open_case.open_upload(
        [path], None, lambda modality: open_case.clustering_options(registry.clustering(modality))
    )
    clustering = open_case.clustering_options(registry.clustering(case.modality))
    covariance = masking.covariance(registry, case.modality)
    events = random.Random(0)

    def compare(case) -> None:
        *_, predictions = comparison.predict_slice(case, registry.segmenters(case.modality), registry)
        compared = comparison.SliceComparison(predictions, 0.5)
        for draw in (network_grid.verdict, network_grid.large, network_grid.cells):
            draw(compared)

    tabs = {
        "masking": lambda case: mask_maps.view(case, 100, 0, covariance),
        "reconstruct": lambda case: reconstruct.view(case, 100, "first", registry),
        "segment": compare,
    }

    def move(show) -> None:
        moved = move_to_slice(case, "axial", events.randrange(case.slices), clustering)
        slice_view.current_slice(moved)
        show(moved)

    return {name: seconds(lambda show=show: move(show), calls) for name, show in tabs.items()}


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=60, help="of each kind")
    calls = parser.parse_args().calls
    from gradio_client import Client, handle_file

    with app() as (address, pid, ready), tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "image.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)).save(picture)
        client = Client(address, verbose=False)
        requests = {
            name: seconds(lambda name=name: client.predict(handle_file(picture), api_name=f"/{name}"), calls)
            for name in ("segment", "mask")
        }
        memory = peak_memory(pid)
        large = large_volume(Path(folder))
        volume = {"volume_first_slice_s": first_slice(address, large), "volume_peak_memory_mib": peak_memory(pid)}
        moved = moves(large, calls)
    volume |= {f"volume_slice_p95_ms_{name}": p95(taken) for name, taken in moved.items()}
    results = {f"{name}_p95_ms": p95(taken) for name, taken in requests.items()}
    results |= {"page_ready_s": ready, "slider_p95_ms": p95(slider(calls)), "peak_memory_mib": memory, "calls": calls}
    keep("app", results | volume | {"bounds": BOUNDS})


if __name__ == "__main__":
    main()
