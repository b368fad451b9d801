"""Standard errors of means over runs that cross pretrainings (seeds) with draws of labels: a two-way random-effects
model.

Axes: S seeds of one method, D draws; leading axes are repetitions, as in a simulation. NaN where a run is missing.

  score[m, s, d] = mean[m] + draw[d] + (method × draw)[m, d] + seed[m, s] + rest[m, s, d]

Methods share their draws, so a difference is taken within each draw. Seeds of different methods are independent, even
those of the same number. The squared error of a mean or of a difference is the sum of

  draws   the variance of the D values of the draws (seeds averaged within each), divided by D
  seeds   for each pretrained method, the variance of one pretraining's mean over the draws, divided by S; pooled over
          all methods that were pretrained more than once, or the compared methods' own where that is larger

Half the 95% interval is the root of the sum of (t × standard error)² over the parts, each with t of its own degrees of
freedom (Banerjee 1960, Sankhya 22, 357): it covers at least 95% whatever the parts' shares. (Satterthwaite's degrees of
freedom are too many where the part with few of them happens to be small: with 7 methods, 3 draws and 3 seeds, equal
methods would then be shown to differ in up to 15% of experiments, after Holm's correction.) The rest counts in both
parts, so intervals are conservative: in the simulations of tests/unit/test_effects.py they cover the truth in 95% of
experiments, and in more where the rest is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL, POWER = 0.05, 0.8  # of two-sided tests; of a difference to be detected
ALL, PRETRAININGS, DRAW, NETWORKS = "all", "pretrainings", "draw", "networks"  # what an interval holds for


@dataclass(frozen=True)
class Runs:
    """Scores of a method: score_sd (..., S, D), NaN without a run; pretrained: False if rows are no pretrainings."""

    score_sd: np.ndarray
    pretrained: bool = True


@dataclass(frozen=True)
class Estimate:
    """A mean (a difference), a float or an array, and the parts of its squared error with their degrees of freedom.

    scope: ``ALL`` (other draws and pretrainings), ``PRETRAININGS`` (other draws, these pretrainings only), ``DRAW``
    (other pretrainings, this draw only) or ``NETWORKS`` (these networks only). Without parts the error is unknown: all
    else is None.
    """

    mean: float | np.ndarray
    scope: str
    parts: tuple[tuple[float | np.ndarray, int], ...] = ()

    @property
    def error(self):
        """The standard error; None without any part."""
        return np.sqrt(sum(variance for variance, _ in self.parts)) if self.parts else None

    @property
    def df(self):
        """Degrees of freedom with which Student's t gives this interval; the fewest of the parts if the error is 0."""
        from scipy.special import stdtridf

        if not self.parts:
            return None
        edge = np.divide(self._half(LEVEL), self.error, out=np.full(np.shape(self.error), np.nan), where=self.error > 0)
        return np.where(np.isnan(edge), min(df for _, df in self.parts), stdtridf(1 - LEVEL / 2, edge))[()]

    @property
    def interval(self) -> tuple:
        """Low and high end of the 95% interval."""
        return (self.mean - self._half(LEVEL), self.mean + self._half(LEVEL)) if self.parts else (None, None)

    @property
    def p(self):
        """Two-sided p against a mean of 0: the level whose interval ends at 0."""
        from scipy.optimize import elementwise

        if not self.parts:
            return None
        shape = np.shape(self.mean)
        variances = [np.broadcast_to(variance, shape) for variance, _ in self.parts]
        found = elementwise.find_root(
            self._beyond, (np.full(shape, -40.0), np.zeros(shape)), args=(self.mean, *variances)
        )
        return np.nan_to_num(np.exp(found.x), nan=0.0)[()]  # no root: not even the widest interval reaches 0

    def _beyond(self, log_level, mean, *variances):
        """Return the square of half an interval less that of the mean."""
        return (
            sum(
                variance * _edge(df, np.exp(log_level)) ** 2
                for variance, (_, df) in zip(variances, self.parts, strict=True)
            )
            - mean**2
        )

    def _half(self, level: float):
        """Return half the interval that covers all but ``level``."""
        return np.sqrt(sum(variance * _edge(df, level) ** 2 for variance, df in self.parts))


def _edge(df: float, level):
    """Return the t that is exceeded, up or down, with a probability of ``level``."""
    from scipy.special import stdtrit

    return -stdtrit(df, level / 2)


def estimate(
    ours: Runs, theirs: Runs | None, others: Sequence[Runs], images: tuple[float, int] | None = None
) -> Estimate:
    """Estimate the mean of a method, or its difference to another, on the same D draws, each with a run of both.

    others: all methods of the table on these draws, for the pooled variance between seeds. images: squared error of the
    mean over test images and its degrees of freedom, when the interval is to hold for other images too.
    """
    both = [ours] if theirs is None else [ours, theirs]
    means = [np.nanmean(runs.score_sd, axis=-2) for runs in both]
    by_draw = means[0] if theirs is None else means[0] - means[1]
    count = by_draw.shape[-1]
    seeds = _between_seeds([runs for runs in both if runs.pretrained or count == 1], others)
    if count > 1:
        draws = by_draw.var(axis=-1, ddof=1) / count, count - 1
        scope = ALL if seeds is not None or not any(runs.pretrained for runs in both) else PRETRAININGS
    else:
        draws, scope = None, DRAW if seeds is not None else NETWORKS
    return Estimate(by_draw.mean(axis=-1), scope, tuple(part for part in (draws, seeds, images) if part is not None))


def seed_variance(runs: Runs) -> tuple[float | np.ndarray, int] | None:
    """Return the variance between the seeds' means over the draws that all seeds have, and S - 1; None with one seed or
    no such draw.
    """
    shared = runs.score_sd[..., ~np.isnan(runs.score_sd).any(axis=tuple(range(runs.score_sd.ndim - 1)))]
    if not runs.pretrained or runs.score_sd.shape[-2] < 2 or not shared.shape[-1]:
        return None
    return shared.mean(axis=-1).var(axis=-1, ddof=1), runs.score_sd.shape[-2] - 1


def _between_seeds(both: Sequence[Runs], others: Sequence[Runs]) -> tuple[float | np.ndarray, int] | None:
    """Return the seeds' part of the squared error and its degrees of freedom; None where no method has two seeds."""
    known = [found for runs in others if (found := seed_variance(runs)) is not None]
    if not known or not both:
        return None
    df = sum(each for _, each in known)
    pooled = sum(variance * each for variance, each in known) / df
    shares = [_share(runs.score_sd) for runs in both]
    own = [pooled if (found := seed_variance(runs)) is None else found[0] for runs in both]
    return (
        np.maximum(pooled * sum(shares), sum(share * variance for share, variance in zip(shares, own, strict=True))),
        df,
    )


def _share(score_sd: np.ndarray) -> float:
    """Return the sum of squared weights of seeds in a mean over draws of means over seeds; 1 / S with all runs."""
    there_sd = ~np.isnan(score_sd.reshape(-1, *score_sd.shape[-2:])[0])
    return float(((there_sd / there_sd.sum(axis=0)).mean(axis=1) ** 2).sum())


# --- what could be detected


def power(difference: float, error: float, df: float) -> float:
    """Return the power of a t-test, two-sided at 5%, for a difference whose standard error is ``error`` > 0."""
    from scipy.stats import nct

    edge, shift = _edge(df, LEVEL), difference / error
    return float(nct.sf(edge, df, shift) + nct.sf(edge, df, -shift))


def detectable(error: float, df: float) -> float:
    """Return the difference that is found with a probability of 80%."""
    from scipy.optimize import brentq

    return error * float(brentq(lambda shift: power(shift, 1.0, df) - POWER, 0.0, 100.0)) if error else 0.0


def runs_needed(sd: float, difference: float) -> int:
    """Return the number of paired runs that find a difference with a probability of 80% when their differences have
    this sd; at least 2.
    """
    few, many = 1, 2
    while sd and power(difference, sd / many**0.5, many - 1) < POWER:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if power(difference, sd / middle**0.5, middle - 1) < POWER else (few, middle)
    return many


def times_larger(error: float, df: float, difference: float) -> tuple[float, float]:
    """Return the factors, from and to, by which draws and pretrainings must grow to find a difference with a
    probability of 80%.

    The range is that of the 80% interval of the squared error, which is known from few runs: df × error² / chi-squared.
    """
    from scipy.special import chdtri

    ends = [df / float(chdtri(df, tail)) for tail in (0.1, 0.9)]
    return tuple(runs_needed(error * (end * (df + 1)) ** 0.5, difference) / (df + 1) for end in ends)  # type: ignore[return-value]
