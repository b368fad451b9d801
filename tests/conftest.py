"""What many tests share: phantoms at the network's size, read once, and the folder of real data."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from mpsams import datasets
from mpsams.datasets import Stack, phantom

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def phantoms() -> Stack:
    """Twelve ultrasound phantoms at 256 x 256, three of them without lesion."""
    dataset = datasets.open_dataset("phantom")
    return datasets.stack(dataset.select(dataset.cases[:12]), 256)


_read_once = cache(phantom._read)


@pytest.fixture
def quick_phantom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phantom data set paints each case only once in all tests that use this."""
    monkeypatch.setattr(phantom, "_read", _read_once)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, ../shared/data or $MPSAMS_DATA; skips where it is absent."""
    folder = Path(os.environ.get("MPSAMS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set MPSAMS_DATA to test on it")
    return folder
