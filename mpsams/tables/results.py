"""Run records of train.reproduce -> runs measured on the same images.

Axes: N images, K columns of a record. Scores are shares in [0, 1]. A run is one fine-tuning: a draw of the labelled
images, after the pretraining of one seed (none from scratch).

Over 250 lines because it is one reader: each function checks a part of the same rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpsams import jsonl

TITLES = {
    "scratch": "U-Net",
    "simclr": "SimCLR",
    "byol": "BYOL",
    "swav": "SwAV",
    "mae": "MAE",
    "simmim": "SimMIM",
    "base": "base",
    "base_ams": "base+AMS",
    "base_mps": "base+MPS",
    "mps_ams": "MPS-AMS",
    "base_descent": "base+geodesic",
    "descent_ams": "geodesic-AMS",
    "base_oracle": "base+truth",
    "oracle_ams": "truth-AMS",
}
METHODS = tuple(TITLES)
TEACHER = "+teacher"  # a method's name ends with it where the recipe was "teacher": "strong", and a mean teacher
# beyond the paper's tables
TITLES |= {
    "geodesic": "geodesic map",
    "geodesic_mps_ams": "geodesic map and MPS-AMS",
    "centre_map": "closeness to the centre",
    "truth_map": "true masks",
}
TITLES |= {method + TEACHER: f"{title}, teacher" for method, title in TITLES.items()}
COLUMNS = ("dsc", "ppv", "sen", "hit", "said", "real")


@dataclass(frozen=True)
class RunScores:
    """The scores of one fine-tuned network on the test images.

    seed: of the pretraining, None from scratch. draw: of the fine-tuning and of its labelled images. labels: share of
    the training part. scores_nk: (N, 6) as in ``COLUMNS``, in the order of ``Results.cases``. about: the rest of the
    record.
    """

    plan: str
    method: str
    seed: int | None
    draw: int
    labels: float
    recipe: str
    scores_nk: np.ndarray
    about: Mapping

    @property
    def key(self) -> tuple:
        """Identity of a run; of two runs with the same key one counts."""
        return self.method, self.seed, self.draw, self.labels, self.recipe


@dataclass(frozen=True)
class Results:
    """Runs that were measured on the same images.

    split: its hash. per: what a case is, "image" or "volume". groups: the patient of each case, or the case itself.
    pretrainings: their records. repeats: how many runs were recorded again and left out.
    """

    data: str
    split: str
    per: str
    cases: tuple[str, ...]
    groups: tuple[str, ...]
    runs: tuple[RunScores, ...]
    pretrainings: tuple[Mapping, ...]
    repeats: int

    def of(self, method: str, labels: float, recipe: str) -> tuple[RunScores, ...]:
        """Return the runs of one cell of a table, by seed and draw."""
        return tuple(run for run in self.runs if (run.method, run.labels, run.recipe) == (method, labels, recipe))

    @property
    def plans(self) -> tuple[str, ...]:
        """Names of the plans that the runs belong to."""
        return tuple(sorted({run.plan for run in self.runs}))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods with a run, in the paper's order; others after them."""
        return tuple(sorted({run.method for run in self.runs}, key=_place))

    @property
    def labels(self) -> tuple[float, ...]:
        """Label shares with a run, rising."""
        return tuple(sorted({run.labels for run in self.runs}))

    @property
    def recipes(self) -> tuple[str, ...]:
        """Recipes with a run, "strong" first."""
        return tuple(sorted({run.recipe for run in self.runs}, reverse=True))

    @property
    def volumes(self) -> bool:
        """True if the runs were measured per volume too."""
        return any(run.about["volumes"] for run in self.runs)

    @property
    def unit(self) -> str:
        """The independent units of intervals and tests: images, or patients where they have several."""
        return f"{self.per}s" if self.groups == self.cases else "patients"


def plans(paths: Iterable[str | Path]) -> dict[str, list[Path]]:
    """Return the files with rows of each plan, by its name, both sorted. ValueError as ``read``."""
    found: dict[str, list[Path]] = {}
    for path in sorted(map(Path, paths)):
        for name in dict.fromkeys(_text(row, "plan", f"{path}, line {number}") for number, row in _rows(path)):
            found.setdefault(name, []).append(path)
    return dict(sorted(found.items()))


def read(paths: str | Path | Iterable[str | Path], plan: str | None = None, per: str = "image") -> Results:
    """Read one or several files of train.reproduce as one set of results; of a run that was recorded twice the first
    counts. A run with the recipe "teacher" counts as the method METHOD+teacher with the recipe "strong", so that a
    table can compare it with its start.

    plan: only rows of that plan. per: "image", or "volume" where volumes were measured. ValueError names file and line
    of a malformed row, of one measured on other data, another split or other cases, and of one of another size or
    width.
    """
    if per not in ("image", "volume"):
        raise ValueError(f"per is {per!r}; expected image or volume")
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    rows = [
        (f"{path}, line {n}", row)
        for path in map(Path, paths)
        for n, row in _rows(path)
        if row["event"] in ("pretraining", "result")
    ]
    rows = [(where, row) for where, row in rows if plan in (None, _text(row, "plan", where))]
    rows.sort(key=lambda pair: _number(pair[1], "time", pair[0]))
    found = [(where, *_run(row, where, per)) for where, row in rows if row["event"] == "result"]
    if not found:
        raise ValueError(
            f"{', '.join(map(str, paths))}: no result{f' of plan {plan!r}' if plan else ''}; run train.reproduce first"
        )
    first, _, (names, _) = found[0]
    for where, run, (cases, scores_nk) in found:
        _agree(first, found[0][1].about, where, run.about)
        if cases != names or (scores_nk[:, 5] != found[0][2][1][:, 5]).any():
            raise ValueError(
                f"{where} measured other {per}s than {first} ({len(cases)} and {len(names)}), or has another truth of"
                " them"
            )
    runs: dict[tuple, RunScores] = {}
    before: dict[tuple, Mapping] = {}
    for _, run, _ in found:
        runs.setdefault(run.key, run)
    for where, row in rows:
        if row["event"] == "pretraining":
            _agree(first, found[0][1].about, where, row, ("data",))
            before.setdefault((_text(row, "method", where), _whole(row, "seed", where)), _check_pretraining(row, where))
    patients = set(found[0][1].about["volumes"] or ())
    groups = tuple(name.rpartition("/")[0] if name.rpartition("/")[0] in patients else name for name in names)
    ordered = tuple(sorted(runs.values(), key=_run_order))
    shown = tuple(before[key] for key in sorted(before, key=lambda key: (_place(key[0]), key[1])))
    return Results(
        found[0][1].about["data"],
        found[0][1].about["split"],
        per,
        names,
        groups,
        ordered,
        shown,
        len(found) - len(runs),
    )


def _rows(path: Path) -> list[tuple[int, dict]]:
    """Return all rows of a file with their line numbers; a last line that was cut off is left out."""
    try:
        return list(enumerate(jsonl.read(path), 1))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as records: {error}") from None
    except (KeyError, TypeError):
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        bad = next(n for n, row in enumerate(lines, 1) if not isinstance(row, dict) or "event" not in row)
        raise ValueError(f"{path}, line {bad} is no record: expected an object with an event") from None


def _run(row: Mapping, where: str, per: str) -> tuple[RunScores, tuple[tuple[str, ...], np.ndarray]]:
    """Return a row of a result as a run, with its cases. ValueError says what is wrong with the row."""
    measured = row.get("cases" if per == "image" else "volumes")
    if not isinstance(measured, dict) or not measured:
        raise ValueError(f"{where} has no {'cases' if per == 'image' else 'volumes'}")
    columns = row.get("columns")
    if not isinstance(columns, list) or not set(COLUMNS) <= set(map(str, columns)):
        raise ValueError(f"{where} has columns {columns}; expected {', '.join(COLUMNS)}")
    names = tuple(sorted(measured))
    try:
        scores_nk = np.array([measured[name] for name in names], float)[:, [columns.index(name) for name in COLUMNS]]
    except (ValueError, TypeError, IndexError):
        raise ValueError(f"{where} has a case without {len(columns)} numbers") from None
    shares, (true_pos, pred_pos, truth_pos) = scores_nk[:, :3], scores_nk[:, 3:].T
    sound = (
        (shares >= 0).all(1) & (shares <= 1).all(1) & (true_pos >= 0) & (true_pos <= pred_pos) & (true_pos <= truth_pos)
    )
    if not (sound & np.isfinite(scores_nk).all(1)).all():
        raise ValueError(
            f"{where}, case {names[int(np.argmin(sound))]!r}: shares must lie in [0, 1], and hit between 0, said and"
            " real"
        )
    seed = None if row.get("seed") is None else _whole(row, "seed", where)
    about = {key: value for key, value in row.items() if key not in ("cases", "volumes", "columns")}
    about |= {
        "volumes": tuple(sorted(row.get("volumes") or ())),
        "data": _text(row, "data", where),
        "split": _text(row, "split", where),
    }
    for key in ("size", "width", "seconds"):
        _number(row, key, where)
    share = _number(row, "labels", where)
    if not 0 < share <= 1:
        raise ValueError(f"{where} has labels {share}; expected a share above 0 and up to 1")
    method, recipe = _text(row, "method", where), _text(row, "recipe", where)
    if recipe == "teacher":
        method, recipe = method + TEACHER, "strong"
    run = RunScores(
        _text(row, "plan", where), method, seed, _whole(row, "draw", where), share, recipe, scores_nk, about
    )
    return run, (names, scores_nk)


def _check_pretraining(row: Mapping, where: str) -> Mapping:
    """Return a pretraining's row. ValueError unless it has a loss per epoch and lists of facts."""
    lists = [row.get("loss"), *row.get("facts", {}).values()]
    if not all(isinstance(values, list) and all(isinstance(v, int | float) for v in values) for values in lists):
        raise ValueError(f"{where} has a loss or a fact that is no list of numbers")
    _number(row, "seconds", where)
    return row


def _agree(
    first: str,
    one: Mapping,
    where: str,
    other: Mapping,
    keys: Sequence[str] = ("data", "split", "size", "width", "measured_size"),
) -> None:
    """Raise ValueError unless two rows say the same of what a table must have in common."""
    for key in keys:
        if one.get(key) != other.get(key):
            raise ValueError(
                f"{where} has {key} {other.get(key)!r}, but {first} has {one.get(key)!r}; they belong in different"
                " tables"
            )


def _text(row: Mapping, key: str, where: str) -> str:
    if not isinstance(row.get(key), str):
        raise ValueError(f"{where} has {key} {row.get(key)!r}; expected a text")
    return row[key]


def _number(row: Mapping, key: str, where: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} has {key} {value!r}; expected a number")
    return value


def _whole(row: Mapping, key: str, where: str) -> int:
    if _number(row, key, where) != int(row[key]):
        raise ValueError(f"{where} has {key} {row[key]!r}; expected a whole number")
    return int(row[key])


def _run_order(run: RunScores) -> tuple:
    return _place(run.method), run.labels, run.recipe, -1 if run.seed is None else run.seed, run.draw


def _place(method: str) -> tuple[int, str]:
    """Return a sort key: the paper's order, others after it."""
    return (METHODS.index(method) if method in METHODS else len(METHODS)), method
