"""One method against each other on the runs they share: what is shown, and what could not have been seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mpsams.tables.means import AVERAGED, TABLES, chosen, mean_sd, score
from mpsams.tables.results import COLUMNS, Results, Run

LEVEL, POWER, SOUGHT = 0.05, 0.8, 0.02  # of two-sided tests; of a difference to be seen; the difference we want to see


@dataclass(frozen=True)
class Comparison:
    """One method against one rival on the runs they share.

    pairs: (seed, draw, difference) of each shared run, positive where the method is ahead. unit: "draw" ("seed" where all
    pairs have one draw); n: how many of them; mean, sd, low, high: of the differences, seeds averaged within a draw, with a
    95% t-interval. p_units: paired t over them. p_cases: Wilcoxon's signed ranks over ``resampled`` (each the mean of its
    runs), None for pooled scores. Both after Holm's correction. smallest: difference that has an 80% chance to be seen with
    this spread and number; needed: number with which 0.02 has. None: cannot be said. rival_mean: of all the rival's runs.
    """

    method: str
    rival: str
    labels: float
    rival_mean: float | None
    resampled: str
    pairs: tuple[tuple[int | None, int, float], ...]
    unit: str = "draw"
    n: int = 0
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p_units: float | None = None
    p_cases: float | None = None
    smallest: float | None = None
    needed: int | None = None

    @property
    def by_seed(self) -> dict[int | None, float]:
        """Pretraining seed -> mean difference of its runs: how much hangs on the pretraining rather than on the labels."""
        return dict(zip(dict.fromkeys(seed for seed, *_ in self.pairs), _averaged([(seed, value) for seed, _, value in self.pairs])))

    @property
    def shown(self) -> bool:
        """Whether other draws and other images both can be expected to agree, at 5% after correction."""
        tests = [p for p in (self.p_units, self.p_cases) if p is not None]
        return self.p_units is not None and max(tests) < LEVEL


def compare(results: Results, name: str = "table1", recipe: str = "strong", averaging: str = "lesion", method: str = "mps_ams",
            measure: str = "dsc") -> tuple[Comparison, ...]:  # fmt: skip
    """One method against each other method of a table, at each of its label shares; p-values corrected over all of them."""
    methods = chosen("table", name, TABLES)
    chosen("averaging", averaging, AVERAGED)
    shares = [labels for labels in results.labels if any(results.of(m, labels, recipe) for m in {method, *methods} - {"scratch"})]
    found = [_pair(results, method, rival, labels, recipe, averaging, measure) for labels in shares for rival in methods if rival != method]
    corrected = zip(found, holm([c.p_units for c in found]), holm([c.p_cases for c in found]), strict=True)
    return tuple(Comparison(**(vars(c) | {"p_units": p_units, "p_cases": p_cases})) for c, p_units, p_cases in corrected)


def _pair(results: Results, method: str, rival: str, labels: float, recipe: str, averaging: str, measure: str) -> Comparison:
    """A comparison before correction. Scratch has no pretraining seed and is paired on the draw alone."""
    ours, theirs = results.of(method, labels, recipe), results.of(rival, labels, recipe)
    shared = [(a, b) for a in ours for b in theirs if a.draw == b.draw and (a.seed == b.seed or None in (a.seed, b.seed))]
    value = {run.key: float(score(run.scores_nk[None], averaging, measure)[0, 0]) for run in (*ours, *theirs)}
    about = (method, rival, labels, mean_sd([value[run.key] for run in theirs])[0], results.resampled)
    pairs = tuple((b.seed if a.seed is None else a.seed, a.draw, value[a.key] - value[b.key]) for a, b in shared)
    if not pairs or any(math.isnan(difference) for *_, difference in pairs):
        return Comparison(*about, ())
    by_draw, by_seed = (_averaged([(pair[k], pair[2]) for pair in pairs]) for k in (1, 0))
    unit, units = ("seed", by_seed) if len(by_draw) == 1 and len(by_seed) > 1 else ("draw", by_draw)
    tested = _signed_ranks(results, shared, averaging, measure) if averaging != "pooled" else None
    return Comparison(*about, pairs, unit, len(units), float(np.mean(units)), **_spread(units), p_cases=tested)


def _averaged(named: Sequence[tuple[int | None, float]]) -> list[float]:
    """The mean of the values under each name."""
    return [float(np.mean([value for other, value in named if other == name])) for name in dict.fromkeys(name for name, _ in named)]


def _spread(differences: Sequence[float]) -> dict[str, float | int | None]:
    """sd, t-interval, p, and what could have been seen, of two or more differences; nothing of fewer."""
    from scipy.special import stdtr, stdtrit

    n = len(differences)
    mean, sd = mean_sd(differences)
    if mean is None or sd is None:
        return {}
    error = sd / math.sqrt(n)
    half = float(stdtrit(n - 1, 1 - LEVEL / 2)) * error
    p = float(2 * stdtr(n - 1, -abs(mean) / error)) if error else float(mean == 0)
    return {"sd": sd, "low": mean - half, "high": mean + half, "p_units": p, "smallest": smallest_seen(sd, n), "needed": needed(sd)}


def _signed_ranks(results: Results, shared: Sequence[tuple[Run, Run]], averaging: str, measure: str) -> float | None:
    """Wilcoxon's signed-rank p over images (patients), each first averaged over the shared runs; None with fewer than two."""
    from scipy.stats import wilcoxon

    column = COLUMNS.index(measure)
    difference_n = np.mean([a.scores_nk[:, column] - b.scores_nk[:, column] for a, b in shared], axis=0)
    counted_n = shared[0][0].scores_nk[:, 5] > 0 if averaging == "lesion" else np.ones(len(difference_n), bool)
    named = [(group, value) for group, value, counts in zip(results.groups, difference_n, counted_n, strict=True) if counts]
    values = np.round(_averaged(named), 12)  # ties are ties, whatever the order of summation
    if len(values) < 2:
        return None
    return 1.0 if not values.any() else float(wilcoxon(values, zero_method="pratt").pvalue)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: p-values for which all can be judged at one level at once. None is not counted and stays."""
    order = sorted((value, k) for k, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    for rank, (value, k) in enumerate(order):
        before = corrected[order[rank - 1][1]] if rank else 0.0
        corrected[k] = max(before, min(1.0, value * (len(order) - rank)))
    return corrected


def power(difference: float, sd: float, n: int) -> float:
    """Chance that a paired t-test of n >= 2 differences with this mean and sd > 0 finds it, two-sided at 5%."""
    return _power(difference * math.sqrt(n) / sd, _edges(n))


def smallest_seen(sd: float, n: int) -> float | None:
    """The difference that n paired runs find with 80% chance when their differences spread like this; None below two runs."""
    if n < 2:
        return None
    from scipy.optimize import brentq

    edges = _edges(n)
    return sd / math.sqrt(n) * float(brentq(lambda shift: _power(shift, edges) - POWER, 0.0, 100.0))


def _edges(n: int) -> np.ndarray:
    """What a mean of n must exceed to be found, in its true standard errors, for 400 equally likely values of their own sd."""
    from scipy.special import gammaincinv, stdtrit

    return stdtrit(n - 1, 1 - LEVEL / 2) * np.sqrt(gammaincinv((n - 1) / 2, (np.arange(400) + 0.5) / 400) * 2 / (n - 1))


def _power(shift: float, edges: np.ndarray) -> float:
    """Chance of a standard normal, shifted, to lie beyond the edges: with ``_edges`` the noncentral t, to three decimals."""
    from scipy.special import ndtr

    return float(np.mean(ndtr(shift - edges) + ndtr(-shift - edges)))


def needed(sd: float, difference: float = SOUGHT) -> int:
    """How many paired runs find a difference with 80% chance when their differences spread like this; at least 2."""
    few, many = 1, 2
    while sd and power(difference, sd, many) < POWER:
        few, many = many, 2 * many
    while sd and many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if power(difference, sd, middle) < POWER else (few, middle)
    return many


def strongest(comparisons: Iterable[Comparison], labels: float) -> Comparison | None:
    """The comparison with the rival of the highest mean at these labels; None without one."""
    known = [c for c in comparisons if c.labels == labels and c.rival_mean is not None]
    return max(known, key=lambda c: c.rival_mean, default=None)
