"""The choice between float32 and bfloat16: by name, by hardware, and by measurement."""

from __future__ import annotations

import pytest
import torch

from mpsams import precision


@pytest.fixture(autouse=True)
def fresh():
    precision.cpu_speedup.cache_clear()
    yield
    precision.cpu_speedup.cache_clear()


@pytest.mark.parametrize(
    "hardware, speedup, expected",
    [(True, 2.5, torch.bfloat16), (True, 1.0, torch.float32), (False, 2.5, torch.float32)],
)
def test_auto_needs_hardware_and_a_measured_gain(monkeypatch, hardware, speedup, expected):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: hardware)
    monkeypatch.setattr(precision, "cpu_speedup", lambda: speedup)
    assert precision.choose("auto") == expected


def test_a_name_is_obeyed_whatever_the_hardware(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    assert precision.choose("bf16") == torch.bfloat16 and precision.choose("float32") == torch.float32
    assert [precision.name_of(dtype) for dtype in precision.PRECISIONS.values()] == list(precision.PRECISIONS)


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="'fp8'; allowed are auto, float32, bf16"):
        precision.choose("fp8")


def test_the_measurement_leaves_the_random_state_alone_and_is_made_once():
    state = torch.get_rng_state()
    first = precision.cpu_speedup()
    assert first > 0 and precision.cpu_speedup() == first
    assert torch.equal(torch.get_rng_state(), state)
