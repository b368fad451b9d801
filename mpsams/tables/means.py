"""The numbers of the paper's two tables: means over runs, with intervals for other draws of labels, pretrainings and
images.

Axes: R runs, N images, K columns of a record, B bootstrap resamples, G patients. Scores are shares in [0, 1].

Over 250 lines because means, intervals and tables are computed from the same arrays of scores.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from mpsams.tables import effects
from mpsams.tables.effects import Runs
from mpsams.tables.results import COLUMNS, TEACHER, Results

TABLES = {
    "table1": ("scratch", "simclr", "byol", "swav", "mae", "simmim", "mps_ams"),
    "table2": ("base", "base_ams", "base_mps", "mps_ams"),
    # not in the paper
    "orders": (
        "scratch",
        "base",
        "base_ams",
        "base_mps",
        "mps_ams",
        "base_descent",
        "descent_ams",
        "base_oracle",
        "oracle_ams",
    ),
    "few_labels": tuple(
        method + teacher
        for teacher in ("", TEACHER)
        for method in ("scratch", "simclr", "base", "mps_ams", "geodesic", "geodesic_mps_ams")
    ),
    "maps": tuple(
        method + teacher for teacher in ("", TEACHER) for method in ("scratch", "geodesic", "centre_map", "truth_map")
    ),
}
NAMED = {
    "table1": "Table 1: rivals",
    "table2": "Table 2: ablation",
    "orders": "Orders: better ones, and the truth's",
    "few_labels": "Few labels: maps and a mean teacher",
    "maps": "Maps: geodesic, the centre's, and the truth's",
}
# A table is worth showing when there is a run of one of these.
TELLING = {
    "table1": ("simclr", "byol", "swav", "mae", "simmim"),
    "table2": ("base", "base_ams", "base_mps"),
    "orders": ("base_descent", "descent_ams", "base_oracle", "oracle_ams"),
    "few_labels": ("geodesic", "geodesic_mps_ams"),
    "maps": ("centre_map", "truth_map"),
}
HEADS = {"dsc": "DSC", "ppv": "PPV", "sen": "Sen", "false_alarms": "False alarms"}
MEASURES = ("dsc", "ppv", "sen")
AVERAGED = {"lesion": "images with a lesion", "all": "all images", "pooled": "pooled over pixels"}
AVERAGINGS = tuple(AVERAGED)
RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True)
class Cell:
    """A mean over draws, seeds averaged within each; None without values, sd None with fewer than two runs.

    values: one per run. sd: over runs. low, high: 95% interval of the mean, within [0, 1], for other test images and
    for what ``scope`` names (as in ``effects.Estimate``); None where all runs and images score the same, which says
    nothing of others. paper: the paper's own number.
    """

    method: str
    labels: float
    measure: str
    values: tuple[float, ...]
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    paper: float | None = None
    scope: str = effects.ALL


@dataclass(frozen=True)
class Line:
    """A method at a share of labels: cells by measure (dsc, ppv, sen, false_alarms); runs: number of each mean."""

    method: str
    labels: float
    runs: int
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """One of the paper's tables with one recipe and one way of averaging.

    missing: (labels, method, seed, draw) of runs that others have at these labels and this line has not.
    """

    name: str
    data: str
    recipe: str
    averaging: str
    rows: tuple[Line, ...]
    missing: tuple[tuple[float, str, int | None, int], ...]

    @property
    def labels(self) -> tuple[float, ...]:
        """The label shares, in rising order."""
        return tuple(dict.fromkeys(line.labels for line in self.rows))

    @property
    def title(self) -> str:
        """The title of the table in words."""
        return f"{NAMED[self.name].partition(':')[0]}, {self.data}, recipe “{self.recipe}”, {AVERAGED[self.averaging]}"


def score(scores_rnk: np.ndarray, averaging: str, measure: str, weights_bn: np.ndarray | None = None) -> np.ndarray:
    """Return each run's weighted mean: scores (R, N, 6), weights (B, N), one of all ones when not given -> (B, R).

    all, lesion: mean over all images, over those with a lesion. pooled: from pixels summed over images. false_alarms
    (in every averaging): share of images without lesion that got one. As in ``metrics.summary``; NaN where no image
    counts.
    """
    true_pos, pred_pos, truth_pos = np.moveaxis(scores_rnk[:, :, 3:], 2, 0)
    lesion = truth_pos > 0
    if measure == "false_alarms":
        top, bottom = ~lesion & (pred_pos > 0), ~lesion
    elif averaging == "pooled":
        top, bottom = {
            "dsc": (2 * true_pos, pred_pos + truth_pos),
            "ppv": (true_pos, pred_pos),
            "sen": (true_pos, truth_pos),
        }[measure]
    else:
        bottom = lesion if averaging == "lesion" else np.ones_like(lesion)
        top = scores_rnk[:, :, COLUMNS.index(measure)] * bottom
    weights = np.ones((1, true_pos.shape[1])) if weights_bn is None else weights_bn
    above, below = weights @ top.T.astype(float), weights @ bottom.T.astype(float)
    empty = np.full_like(below, np.nan)
    if averaging == "pooled" and measure != "false_alarms":
        empty = (weights @ (pred_pos + truth_pos).T == 0).astype(float)  # empty truth, empty prediction: right
    return np.divide(above, below, out=empty, where=below > 0)


def resample(groups: Sequence[str], count: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Draw how often each of N cases is in each of ``count`` bootstrap resamples of their groups: float (B, N)."""
    names, group_n = np.unique(np.asarray(groups), return_inverse=True)
    times_bg = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return times_bg[:, group_n].astype(float)


def paper_numbers() -> dict:
    """Return the numbers of the paper's tables: data set -> percent of labels as text -> method -> [DSC, PPV, Sen], or
    their source.
    """
    return tomllib.loads(resources.files("mpsams.tables").joinpath("paper.toml").read_text(encoding="utf-8"))


def table(
    results: Results,
    name: str = "table1",
    recipe: str = "strong",
    averaging: str = "lesion",
    paper: Mapping | None = None,
) -> Table:
    """Return the numbers of Table 1 or 2 with one recipe and one way of averaging.

    paper: data set -> percent of labels as text -> method -> [DSC, PPV, Sen], as ``paper_numbers``. A method without a
    run keeps its line, empty; at label shares where only scratch was run, scratch is the only line (as in the paper).
    """
    methods = choose("table", name, TABLES)
    choose("averaging", averaging, AVERAGED)
    weights_bn = resample(results.groups)
    rows, missing = [], []
    for labels in results.labels:
        there = [method for method in methods if results.of(method, labels, recipe)]
        if not there:
            continue
        wanted = ("scratch",) if there == ["scratch"] else methods
        known = (paper or {}).get(results.data, {}).get(f"{100 * labels:g}", {})
        scored = {measure: scores(results, labels, recipe, averaging, measure) for measure in HEADS}
        for method in wanted:
            runs, papers = (
                results.of(method, labels, recipe),
                dict(zip(MEASURES, known.get(method) or (), strict=False)),
            )
            images = {
                m: over_images(results.groups, np.array([run.scores_nk for run in runs]), averaging, m, weights_bn)
                for m in HEADS
                if method in scored[m]
            }
            cells = {m: _cell((method, labels, m), scored[m], images.get(m), papers.get(m)) for m in HEADS}
            rows.append(Line(method, labels, len(runs), cells))
        missing += [(labels, *run) for run in absent_runs(results, wanted, labels, recipe)]
    return Table(name, results.data, recipe, averaging, tuple(rows), tuple(missing))


def tables_with_runs(results: Results) -> tuple[str, ...]:
    """Return the names of the tables that have runs beyond those of other tables; Table 1 where there are none."""
    there = set(results.methods)
    return tuple(name for name, telling in TELLING.items() if there & set(telling)) or ("table1",)


def scores(
    results: Results, labels: float, recipe: str, averaging: str, measure: str
) -> dict[str, dict[tuple[int | None, int], float]]:
    """Return the score of each run by method and (seed, draw), without methods that lack any of them."""
    found = {}
    for method in results.methods:
        runs = results.of(method, labels, recipe)
        if (
            runs
            and not np.isnan(values := score(np.array([run.scores_nk for run in runs]), averaging, measure)[0]).any()
        ):
            found[method] = {(run.seed, run.draw): float(value) for run, value in zip(runs, values, strict=True)}
    return found


def seeds_by_draws(scored: Mapping[tuple[int | None, int], float], draws: Sequence[int]) -> Runs:
    """Return scores at these draws as seeds × draws, NaN where a run is missing; seeds without any run are left out."""
    seeds = list(dict.fromkeys(seed for seed, draw in scored if draw in draws))
    return Runs(
        np.array([[scored.get((seed, draw), np.nan) for draw in draws] for seed in seeds]).reshape(-1, len(draws)),
        seeds != [None],
    )


def over_images(
    groups: Sequence[str], scores_rnk: np.ndarray, averaging: str, measure: str, weights_bn: np.ndarray
) -> tuple[float, int] | None:
    """Return the squared error of the mean over runs from the choice of test images, by bootstrap, and its degrees of
    freedom.

    groups: of each case; weights_bn: ``resample`` of them. None where fewer than two groups have an image that counts.
    """
    lesion_n = scores_rnk[0, :, 5] > 0
    counts_n = ~lesion_n if measure == "false_alarms" else lesion_n | (averaging != "lesion")
    count = len({group for group, counts in zip(groups, counts_n, strict=True) if counts})
    if count < 2:
        return None
    return (
        float(np.nanvar(score(scores_rnk, averaging, measure, weights_bn).mean(axis=1))) * count / (count - 1),
        count - 1,
    )


def _cell(
    about: tuple[str, float, str], scored: Mapping[str, Mapping], images: tuple[float, int] | None, paper: float | None
) -> Cell:
    """Return the cell of a method. about: method, labels, measure. scored: of ``scores``. images: ``over_images``."""
    own = scored.get(about[0])
    if own is None:
        return Cell(*about, (), None, None, None, None, paper)
    draws = sorted({draw for _, draw in own})
    found = effects.estimate(
        seeds_by_draws(own, draws), None, [seeds_by_draws(each, draws) for each in scored.values()], images
    )
    low, high = (float(np.clip(end, 0, 1)) for end in found.interval) if found.error else (None, None)
    values = tuple(own.values())
    return Cell(*about, values, float(found.mean), mean_sd(values)[1], low, high, paper, found.scope)


def absent_runs(
    results: Results, methods: Sequence[str], labels: float, recipe: str
) -> list[tuple[str, int | None, int]]:
    """Return (method, seed, draw) without a run, of all seeds and draws that any of the methods has at these labels."""
    there = {(run.method, run.seed, run.draw) for method in methods for run in results.of(method, labels, recipe)}
    seeds = sorted({seed for _, seed, _ in there if seed is not None})
    draws = sorted({draw for *_, draw in there})
    grid = [
        (method, seed, draw)
        for method in methods
        for seed in ([None] if method.removesuffix(TEACHER) == "scratch" else seeds)
        for draw in draws
    ]
    return [run for run in grid if run not in there]


def per_image(results: Results, method: str, labels: float, recipe: str) -> dict[str, float]:
    """Return the mean DSC over a method's runs of each case with a lesion. Empty without a run."""
    runs = results.of(method, labels, recipe)
    if not runs:
        return {}
    mean_nk, dsc = np.mean([run.scores_nk for run in runs], axis=0), COLUMNS.index("dsc")
    return {case: float(row[dsc]) for case, row in zip(results.cases, mean_nk, strict=True) if row[5] > 0}


def mean_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean of one or more values and the standard deviation (n - 1) of two or more; None for fewer."""
    return (float(np.mean(values)) if len(values) else None), (
        float(np.std(values, ddof=1)) if len(values) > 1 else None
    )


def one_of(option: str, name: str, allowed: Iterable[str]) -> str:
    if name not in allowed:
        raise ValueError(f"{option} is {name!r}; expected one of: {', '.join(allowed)}")
    return name


def choose(option: str, name: str, allowed: Mapping):
    return allowed[one_of(option, name, allowed)]
