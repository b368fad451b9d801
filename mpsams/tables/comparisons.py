"""One method against each other on the draws of labels they share: what is shown, and what could not have been
detected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mpsams.tables import effects
from mpsams.tables.means import AVERAGED, TABLES, choose, mean_sd, scores, seeds_by_draws
from mpsams.tables.results import COLUMNS, Results, RunScores

SOUGHT = 0.02  # the difference we want to detect


@dataclass(frozen=True)
class Comparison:
    """One method against one rival on the draws of labels that both have runs of.

    by_draw: (draw, difference) of each, seeds averaged, positive where the method is ahead. seeds: how many
    pretrainings of the method and of the rival stand behind them, 0 from scratch. scope, mean, error, df, low, high,
    p_runs: as in ``effects.Estimate``, by the model of that module. p_cases: Wilcoxon's signed ranks over ``unit``
    (each the mean of its runs), for these trained networks only; None for pooled scores. Both after Holm's correction.
    smallest: the difference detected with a probability of 80% by as many runs; needed: from how many to how many draws
    (pretrainings, where scope is one draw) detect 0.02 as often; needed_seeds: with so many pretrainings. rival_mean:
    of all the rival's runs.
    None: cannot be said.
    """

    method: str
    rival: str
    labels: float
    rival_mean: float | None
    unit: str
    by_draw: tuple[tuple[int, float], ...] = ()
    seeds: tuple[int, int] = (0, 0)
    scope: str = effects.NETWORKS
    mean: float | None = None
    error: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    p_runs: float | None = None
    p_cases: float | None = None
    smallest: float | None = None
    needed: tuple[int, int] | None = None
    needed_seeds: tuple[int, int] | None = None

    @property
    def shown_here(self) -> bool:
        """True where both p are below 5% after correction: a difference within what ``scope`` names."""
        return self.p_runs is not None and max(p for p in (self.p_runs, self.p_cases) if p is not None) < effects.LEVEL

    @property
    def shown(self) -> bool:
        """True where other draws, pretrainings and images can all be expected to agree, at 5% after correction."""
        return self.shown_here and self.scope == effects.ALL


def compare(
    results: Results,
    name: str = "table1",
    recipe: str = "strong",
    averaging: str = "lesion",
    method: str = "mps_ams",
    measure: str = "dsc",
) -> tuple[Comparison, ...]:
    """Compare one method with each other one at each label share; p-values are corrected over all comparisons."""
    methods = choose("table", name, TABLES)
    choose("averaging", averaging, AVERAGED)
    shares = [
        labels
        for labels in results.labels
        if any(results.of(m, labels, recipe) for m in {method, *methods} - {"scratch"})
    ]
    found = [
        _pair(results, (method, rival), labels, recipe, averaging, measure)
        for labels in shares
        for rival in methods
        if rival != method
    ]
    corrected = zip(found, holm([c.p_runs for c in found]), holm([c.p_cases for c in found]), strict=True)
    return tuple(Comparison(**(vars(c) | {"p_runs": p_runs, "p_cases": p_cases})) for c, p_runs, p_cases in corrected)


def _pair(
    results: Results, methods: tuple[str, str], labels: float, recipe: str, averaging: str, measure: str
) -> Comparison:
    """Compare a method with its rival, before correction."""
    method, rival = methods
    scored = scores(results, labels, recipe, averaging, measure)
    ours, theirs = scored.get(method, {}), scored.get(rival, {})
    about = (method, rival, labels, mean_sd(tuple(theirs.values()))[0], results.unit)
    draws = sorted({draw for _, draw in ours} & {draw for _, draw in theirs})
    if not draws:
        return Comparison(*about)
    a, b = seeds_by_draws(ours, draws), seeds_by_draws(theirs, draws)
    found = effects.estimate(a, b, [seeds_by_draws(each, draws) for each in scored.values()])
    by_draw = tuple(zip(draws, (np.nanmean(a.score_sd, axis=0) - np.nanmean(b.score_sd, axis=0)).tolist(), strict=True))
    seeds = tuple(len(runs.score_sd) if runs.pretrained else 0 for runs in (a, b))
    runs = [[run for run in results.of(name, labels, recipe) if run.draw in draws] for name in methods]
    tested = _signed_ranks(results, *runs, averaging, measure) if averaging != "pooled" else None  # type: ignore[arg-type, call-arg]
    return Comparison(
        *about,
        by_draw,
        seeds,  # type: ignore[arg-type]
        found.scope,
        float(found.mean),
        p_cases=tested,
        **_numbers(found, len(draws), max(seeds)),
    )


def _numbers(found: effects.Estimate, draws: int, seeds: int) -> dict:
    """Return error, interval, p, and what could be detected; nothing where the error is unknown."""
    if found.error is None:
        return {}
    (low, high), error, df = found.interval, float(found.error), float(found.df)
    times = effects.times_larger(error, df, SOUGHT)
    needed, more = (tuple(math.ceil(each * count) for each in times) for count in (draws, seeds))
    return {
        "error": error,
        "df": df,
        "low": float(low),
        "high": float(high),
        "p_runs": float(found.p),
        "smallest": effects.detectable(error, df),
        "needed": more if found.scope == effects.DRAW else needed,
        "needed_seeds": more if found.scope == effects.ALL and seeds else None,
    }


def _signed_ranks(
    results: Results, ours: Sequence[RunScores], theirs: Sequence[RunScores], averaging: str, measure: str
) -> float | None:
    """Return Wilcoxon's signed-rank p over images (patients), each averaged over the runs; None with fewer than two."""
    from scipy.stats import wilcoxon

    lesion_n = ours[0].scores_nk[:, 5] > 0
    named: dict[str, list[float]] = {}
    for group, value, counts in zip(
        results.groups,
        _by_image(ours, measure) - _by_image(theirs, measure),
        lesion_n | (averaging != "lesion"),
        strict=True,
    ):
        if counts:
            named.setdefault(group, []).append(value)
    values = np.round([np.mean(each) for each in named.values()], 12)  # ties are ties, whatever the order of summation
    if len(values) < 2:
        return None
    return 1.0 if not values.any() else float(wilcoxon(values, zero_method="pratt").pvalue)


def _by_image(runs: Sequence[RunScores], measure: str) -> np.ndarray:
    """Return each image's mean over draws, seeds averaged within each: (N,)."""
    return np.mean(
        [
            np.mean([run.scores_nk[:, COLUMNS.index(measure)] for run in runs if run.draw == draw], axis=0)
            for draw in {run.draw for run in runs}
        ],
        axis=0,
    )


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Correct p-values by Holm's method, so that all can be judged at one level. None is not counted and stays."""
    order = sorted((value, k) for k, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    for rank, (value, k) in enumerate(order):
        before = corrected[order[rank - 1][1]] if rank else 0.0
        corrected[k] = max(before, min(1.0, value * (len(order) - rank)))  # type: ignore[type-var]
    return corrected


def strongest(comparisons: Iterable[Comparison], labels: float) -> Comparison | None:
    """Return the comparison with the rival of the highest mean at these labels; None without one."""
    known = [c for c in comparisons if c.labels == labels and c.rival_mean is not None]
    return max(known, key=lambda c: c.rival_mean or 0.0, default=None)
