"""Schedules over epochs, as pure floats: the mask ratio (paper 2.2) and learning-rate factors."""

from __future__ import annotations

import math

HORIZON = 800  # epochs of the paper's masked pretraining


def mask_ratio(epoch: float, start: float = 0.25, tau: float = 12.0) -> float:
    """Return the ratio of adaptive masking (paper 2.2): start + ln(epoch) / tau, clamped to [0, 1].

    epoch counts from 1 and may be fractional; the paper's values 0.25 and 12 give 25% at epoch 1
    and 80.7% at epoch 800. ValueError for an epoch below 1 or a tau that is not positive.
    """
    if not epoch >= 1:
        raise ValueError(f"epoch {epoch} must be at least 1: epochs are counted from 1")
    if not tau > 0:
        raise ValueError(f"tau {tau} must be positive")
    return min(1.0, max(0.0, start + math.log(epoch) / tau))


def rescale(epoch: float, epochs: int, horizon: int = HORIZON) -> float:
    """Map epoch 1..epochs of a run to the paper's axis 1..horizon (linear, ends meet).

    A short run then still sweeps the ratio from its first to its last value, and spends the same
    share of its time at each ratio as a run of ``horizon`` epochs does. A run of one epoch lies at 1.
    """
    if epochs < 1 or not 1 <= epoch <= epochs:
        raise ValueError(f"epoch {epoch} must lie between 1 and the number of epochs, {epochs}")
    return 1.0 if epochs == 1 else 1.0 + (epoch - 1) * (horizon - 1) / (epochs - 1)


def warmup_cosine(progress: float, warmup: float = 0.1, floor: float = 0.0) -> float:
    """Return a learning-rate factor in [0, 1]: a linear rise over the share ``warmup``, half a cosine to ``floor``.

    progress: share of the training done before this step, in [0, 1].
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress {progress} must lie in [0, 1]")
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def constant(progress: float) -> float:
    """Return the learning-rate factor 1 at all times (the paper's pretraining names no schedule)."""
    return 1.0


def cosine_rise(start: float, progress: float) -> float:
    """Return BYOL's decay of the moving average: from ``start`` to 1 along half a cosine (Grill et al. 2020, appendix
    J).

    progress: share of the training done, in [0, 1].
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress {progress} must lie in [0, 1]")
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
