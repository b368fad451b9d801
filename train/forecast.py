"""The time that the missing runs of a plan will take: from records of runs like them, or from a few of their steps."""

from __future__ import annotations

import contextlib
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from mpsams import tables
from train.dry_run import format_duration
from train.plan import Job

HEADS = ("", "runs", "each", "all", "known from")


@dataclass(frozen=True)
class TimeEstimate:
    """The time of training of some missing runs that differ in nothing but their seed and draw.

    job: one of them. runs: how many they are. seconds: of each on one process; None where it could not be measured.
    records: number of finished runs that it is the mean of; 0 where steps were measured.
    """

    job: Job
    runs: int
    seconds: float | None
    records: int

    @property
    def total(self) -> float:
        """Seconds of all of them; 0 where it could not be measured."""
        return self.runs * (self.seconds or 0.0)


def forecast(
    missing: Sequence[Job], done: Sequence[tuple[Job, float]], measure: Callable[[Job], float | None], bar: bool = False
) -> list[TimeEstimate]:
    """Return an estimate for each group of missing runs that take equally long.

    done: finished runs and the seconds of their trainings. measure: job -> seconds of its training, which is called
    for groups of which no run is finished. bar: show the progress.
    """
    taken: dict[tuple, list[float]] = {}
    for job, seconds in done:
        taken.setdefault(alike(job), []).append(seconds)
    groups: dict[tuple, list[Job]] = {}
    for job in missing:
        groups.setdefault(alike(job), []).append(job)
    found = []
    for key, jobs in tqdm(groups.items(), desc="measuring", unit="kind", disable=not bar):
        known = taken.get(key, [])
        found.append(
            TimeEstimate(jobs[0], len(jobs), statistics.mean(known) if known else measure(jobs[0]), len(known))
        )
    return found


def minutes(missing: Sequence[Job], done: Sequence[tuple[Job, float]]) -> float:
    """Return the minutes of all missing runs by the records; those unlike any finished one count as the mean of all."""
    mean = statistics.mean(seconds for _, seconds in done)
    return sum(each.total for each in forecast(missing, done, lambda job: mean)) / 60


def alike(job: Job) -> tuple:
    """Return what a run has in common with those that take as long: all but its seed or draw.

    A fine-tuning takes as long from any start.
    """
    return job.kind, job.method if job.kind == "pretrain" else "", _without_seed(job)


def _without_seed(job: Job) -> tuple:
    return tuple(sorted((name, str(value)) for name, value in job.options if name != "run.seed"))


def measure_steps(training: Callable[[Sequence[str]], object], job: Job, pack: str) -> float | None:
    """Return the seconds that a training will take, from a few of its steps; None where it does not fit into memory.

    training: ``main`` of train.pretrain or train.finetune. pack: the plan's packed data set. A fine-tuning is measured
    from scratch.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        seconds = training([*job.argv(), "--data.root", pack, "--data.cases", "0", "--dry-run"])
    assert seconds is None or isinstance(seconds, float)
    return seconds


def text(estimates: Sequence[TimeEstimate]) -> str:
    """Return a table of the estimates and their sum, as Markdown."""
    rows = []
    for each in estimates:
        job = each.job
        title = (
            f"pretraining {tables.TITLES.get(job.method, job.method)}"
            if job.kind == "pretrain"
            else f"fine-tuning with {100 * job.labels:g}% of the labels, recipe {job.recipe}"  # type: ignore[operator]
        )
        known = f"{each.records} record{'s' * (each.records > 1)}" if each.records else "a few steps"
        alone, all_runs = (
            ("does not fit", tables.DASH)
            if each.seconds is None
            else (format_duration(each.seconds), format_duration(each.total))
        )
        rows.append([title, str(each.runs), alone, all_runs, known])
    total = sum(each.total for each in estimates)
    lines = [" | ".join(row) for row in (HEADS, ["---"] * len(HEADS), *rows)]
    return "\n".join(
        [
            "Forecast for one process here, without validation and the measurement on the test part:",
            "",
            *(f"| {line} |" for line in lines),
            "",
            f"all {sum(each.runs for each in estimates)} missing runs: {format_duration(total)}",
        ]
    )
