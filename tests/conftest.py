"""Shared fixtures: phantoms at the network's size, read once, and the folder of real data."""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # several test at once, each with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from mpsams import checkpoint, datasets
from mpsams.datasets import Stack, phantom
from mpsams.unet import UNet
from tests.support import ROOT, made_records
from tests.support.app_process import ForkedApp, free_port, wait_for_answer

LONGEST = (
    "test_browser_annotate",
    "test_browser",
    "test_server",
    "test_distributed",
    "test_imaging_dicom_volumes",
    "test_learning",
    "test_docs",
    "test_packaging",
    "test_app",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, so that no worker is left alone with one of them in the end."""
    items.sort(
        key=lambda item: next(
            (place for place, name in enumerate(LONGEST) if item.path.stem.startswith(name)), len(LONGEST)
        )
    )


@pytest.fixture(scope="session")
def phantoms() -> Stack:
    """Twelve ultrasound phantoms at 256 x 256, three of them without lesion."""
    dataset = datasets.open_dataset("phantom")
    return datasets.stack(dataset.select(dataset.cases[:12]), 256)


_read_once = cache(phantom._read)


@pytest.fixture(scope="module")
def quick_phantom():
    """The phantom data set paints each case only once in all tests that use this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "_read", _read_once)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, ../shared/data or $MPSAMS_DATA; skips where it is absent."""
    folder = Path(os.environ.get("MPSAMS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set MPSAMS_DATA to test on it")
    return folder


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory) -> Path:
    """A folder with networks the app looks for, tiny and untrained but of the shipped kind; one sees smaller images."""
    folder = tmp_path_factory.mktemp("weights")
    method = {"patch": 16, "selector": "softmax-of-covariance", "normalise": "standardised", "temperature": 1.0}
    shared = {
        "size": 256,
        "model": {"channels": 1, "classes": 1, "width": 2, "norm": "batch"},
        "config": {"method": method},
    }
    shared |= {"data": {"name": "busi", "modality": "ultrasound", "target": "breast lesion", "images": 702}}
    torch.manual_seed(0)
    for name, kind in (
        ("mps_ams", "pretrain"),
        ("base", "pretrain"),
        ("simclr", "pretrain"),
        *((name, "seg-10") for name in ("mps_ams", "scratch", "simclr")),
    ):
        metadata = shared | {
            "kind": "pretrain" if kind == "pretrain" else "segmentation",
            "method": name,
            "size": 128 if name == "simclr" else 256,
        }
        metadata |= {"transfers": ["encoder"] if name == "simclr" else ["encoder", "decoder"]}
        checkpoint.save(folder / f"busi-{name}-{kind}.safetensors", UNet(width=2).state_dict(), metadata)
    prompt = {
        "kind": "prompt",
        "method": "scratch",
        "size": 64,
        "model": shared["model"] | {"channels": 5},
        "data": {"name": "prompt", "modality": "", "images": 9},
    }
    checkpoint.save(folder / "prompt.safetensors", UNet(5, width=2).state_dict(), shared | prompt)
    return folder


@pytest.fixture(scope="session")
def small_records(tmp_path_factory) -> Path:
    """A folder with made-up records as the Results tab reads them: of a plan, and of a small one without its recipe,
    most of its methods, and its 10% of the labels.
    """
    folder = tmp_path_factory.mktemp("results")
    made_records.write(folder / "made-up.jsonl", seeds=(0,), draws=(0, 1))
    few = {"methods": ("scratch", "mae", "mps_ams"), "labels": (0.2,), "recipes": ("paper",), "more_scratch": ()}
    made_records.write(folder / "small.jsonl", seeds=(0,), draws=(0,), plan="small", **few)
    return folder


@pytest.fixture(scope="session")
def app_address(small_weights, small_records) -> str:
    """The address of an app that runs for all tests, in a process of its own."""
    port = free_port()
    options = ["--weights", str(small_weights), "--results", str(small_records), "--port", str(port)]
    process = ForkedApp(options, dict(os.environ))
    try:
        wait_for_answer(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
