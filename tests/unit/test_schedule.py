"""The mask ratio's values in the paper, and the shapes of the other schedules."""

import math

import pytest

from mpsams import schedule


@pytest.mark.parametrize("epoch, ratio", [(1, 0.25), (2, 0.3078), (10, 0.4419), (100, 0.6338), (800, 0.8071)])
def test_mask_ratio_of_the_paper(epoch, ratio):
    assert schedule.mask_ratio(epoch) == pytest.approx(ratio, abs=5e-5)


def test_mask_ratio_formula_clamp_and_growth():
    assert schedule.mask_ratio(7.5, 0.1, 5.0) == pytest.approx(0.1 + math.log(7.5) / 5)
    assert schedule.mask_ratio(1e9) == 1.0 and schedule.mask_ratio(1, start=-0.5) == 0.0
    values = [schedule.mask_ratio(epoch) for epoch in range(1, 801)]
    assert all(a < b for a, b in zip(values, values[1:]))


@pytest.mark.parametrize("epoch", [0, 0.99, -3, math.nan])
def test_mask_ratio_refuses_epochs_below_one(epoch):
    with pytest.raises(ValueError, match="epoch .* at least 1"):
        schedule.mask_ratio(epoch)


@pytest.mark.parametrize("tau", [0, -1, math.nan])
def test_mask_ratio_refuses_a_tau_that_is_not_positive(tau):
    with pytest.raises(ValueError, match="tau .* positive"):
        schedule.mask_ratio(3, tau=tau)


def test_rescaled_meets_both_ends_and_is_linear():
    assert [schedule.rescale(e, 3) for e in (1, 2, 3)] == pytest.approx([1, 400.5, 800])
    assert [schedule.rescale(e, 800) for e in (1, 17, 800)] == pytest.approx([1, 17, 800])
    assert schedule.rescale(1, 1) == 1 and schedule.rescale(5, 5, horizon=9) == pytest.approx(9)
    assert schedule.mask_ratio(schedule.rescale(20, 20)) == pytest.approx(0.8071, abs=5e-5)


@pytest.mark.parametrize("epoch, epochs", [(0, 5), (6, 5), (1, 0), (math.nan, 5)])
def test_rescaled_refuses_epochs_outside_the_run(epoch, epochs):
    with pytest.raises(ValueError, match="between 1 and the number of epochs"):
        schedule.rescale(epoch, epochs)


def test_warmup_cosine_rises_then_falls_to_the_floor():
    assert 0 < schedule.warmup_cosine(0.0) < 0.02
    assert schedule.warmup_cosine(0.1) == 1
    assert schedule.warmup_cosine(0.55) == pytest.approx(0.5)  # half of the cosine
    assert schedule.warmup_cosine(1.0) == pytest.approx(0) and schedule.warmup_cosine(1.0, floor=0.2) == pytest.approx(
        0.2
    )
    values = [schedule.warmup_cosine(i / 1000, 0.25, 0.05) for i in range(1001)]
    assert all(a < b for a, b in zip(values[:250], values[1:251])) and all(
        a > b for a, b in zip(values[250:], values[251:])
    )
    assert max(values) == 1 and max(abs(a - b) for a, b in zip(values, values[1:])) < 0.01
    assert schedule.warmup_cosine(0.0, warmup=0) == 1 and schedule.constant(0.3) == 1


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
def test_warmup_cosine_refuses_progress_outside(progress):
    with pytest.raises(ValueError, match="progress"):
        schedule.warmup_cosine(progress)


@pytest.mark.parametrize("start", [0.99, 0.996, 0.5, 0.0])
def test_rising_is_byols_formula(start):
    assert schedule.cosine_rise(start, 0.0) == pytest.approx(start) and schedule.cosine_rise(start, 1.0) == 1.0
    assert schedule.cosine_rise(start, 0.5) == pytest.approx((1 + start) / 2)
    steps = 40
    for step in range(steps + 1):
        by_hand = 1 - (1 - start) * (math.cos(math.pi * step / steps) + 1) / 2
        assert schedule.cosine_rise(start, step / steps) == pytest.approx(by_hand, rel=1e-12)
    values = [schedule.cosine_rise(start, step / steps) for step in range(steps + 1)]
    assert all(a < b for a, b in zip(values, values[1:]))
    assert schedule.cosine_rise(1.0, 0.3) == 1.0


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
def test_rising_refuses_progress_outside(progress):
    with pytest.raises(ValueError, match="progress"):
        schedule.cosine_rise(0.99, progress)
