"""One retraining of a project: its folder, its progress, its result, and the lock that it holds while it runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import filelock

from mpsams import checkpoint
from mpsams.annotation import images, lock

# held-back images from which a gain can be shown: fewer cannot make p < LEVEL, for it is 2 / 2**images at least
MIN_SHOWN = 6
LEVEL = 0.05
EXIT_TIMEOUT = 2.0  # seconds for a run to end by itself before it is ended
BASE_CHECKPOINT, WEIGHTS, PLAN, PROGRESS, EVALUATION = (
    "begun_from.safetensors",
    "weights.safetensors",
    "plan.json",
    "progress.json",
    "verdict.json",
)
# of the project: ids that are only measured on; its name in version 1
HOLDOUT, HOLDOUT_V1 = "holdout.json", "held_back.json"
TEMP_FILES = ("images", "masks", "training", BASE_CHECKPOINT)  # of a run that has ended


@dataclass(frozen=True)
class Progress:
    """Progress of a run. share: done, in [0, 1]. words: for people. state: "running", "done", "failed", "cancelled"."""

    share: float
    words: str
    state: str


@dataclass(frozen=True)
class EvaluationResult:
    """The gain of a run, measured on held-back items that neither checkpoint was trained on.

    before, after: mean DSC over the items, a volume counting as one. interval: bootstrap 95% interval of after -
    before.
    images: how many items were measured. manually_edited: how many of them a person has changed, or drawn alone; the
    others are proposals as a checkpoint made them, which flatters it. learned: items that were learnt from. left_out:
    near-duplicates that were neither learnt from nor measured. better: whether a gain is shown, see ``is_shown``.
    checkpoint: the new one, until it is adopted.
    """

    before: float
    after: float
    interval: tuple[float, float]
    images: int
    manually_edited: int
    learned: int
    left_out: int
    better: bool
    checkpoint: Path

    @property
    def worse(self) -> bool:
        """Return True if the mean fell, by however little; then it is not offered."""
        return self.after < self.before


@dataclass(frozen=True)
class Run:
    """A run in its folder, PROJECT/runs/NUMBER."""

    folder: Path

    def progress(self) -> Progress:
        """Return the progress of the run; also of one that another app has started."""
        # asked first: then the rest is the last word
        alive = held(self.folder.parent) and last(self.folder.parent.parent) == self
        record, cancelled = read(self.folder / PROGRESS), (self.folder / "cancelled").exists()
        share, words = record.get("share", 0.0), record.get("words", "starting")
        if alive:
            return Progress(share, "stopping" if cancelled else words, "running")
        if (self.folder / EVALUATION).exists():
            return Progress(1.0, "done", "done")
        if cancelled:
            return Progress(share, "cancelled; nothing has changed", "cancelled")
        gone = "it ended before it was done: it was killed, or the computer was switched off; nothing has changed"
        return Progress(share, words if record.get("failed") else gone, "failed")

    def cancel(self) -> None:
        """End the run within five seconds, without a result. One that has ended stays as it is."""
        if self.progress().state != "running":
            return
        (self.folder / "cancelled").touch()
        process = read(self.folder / "process.json")
        own = process.get("host") == socket.gethostname()  # elsewhere it sees the file
        for number in (signal.SIGTERM, signal.SIGKILL):
            if own:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process["pid"], number)
            until = time.monotonic() + EXIT_TIMEOUT
            while held(self.folder.parent) and time.monotonic() < until:
                time.sleep(0.05)
        if not held(self.folder.parent):
            clear(self.folder)

    def evaluation(self) -> EvaluationResult:
        """Return the evaluation of the run. ValueError while it runs, and where it ended without a result."""
        record = read(self.folder / EVALUATION)
        if not record:
            raise ValueError(
                f"run {self.folder.name} has no result; it is {self.progress().state}; expected one that is done"
            )
        names = ("before", "after", "images", "learned", "left_out")
        # an earlier version wrote true where it was not worse
        better = is_shown(record["interval"], record.get("p"), record["images"])
        return EvaluationResult(
            **{name: record[name] for name in names},
            manually_edited=record["changed_by_hand"],
            interval=tuple(record["interval"]),
            better=better,
            checkpoint=self.folder / WEIGHTS,
        )


def is_shown(interval: Sequence[float], p: float | None, images: int) -> bool:
    """Return True if a gain is shown: MIN_SHOWN images, an interval above 0 and, where it is known, p below LEVEL."""
    return images >= MIN_SHOWN and interval[0] > 0 and (p is None or p < LEVEL)


def last(project_folder: str | Path) -> Run | None:
    """Return the newest run of a project, in any state; None where there was none."""
    found = run_folders(Path(project_folder) / "runs")
    return Run(found[-1]) if found else None


def hold(runs: Path) -> BinaryIO:
    """Take the lock that a run holds, and return it. ValueError: another run is under way."""
    for _ in range(5):  # who looks whether it is held holds it for a moment
        with contextlib.suppress(ValueError):
            return lock.hold(runs / "lock")
        time.sleep(0.02)
    raise ValueError("this project is learning already; wait until that is done, or cancel it")


def held(runs: Path) -> bool:
    """Return True if a run is under way; the system frees the lock of one that has died."""
    if not (runs / "lock").exists():
        return False
    with (runs / "lock").open("rb") as file:
        return not filelock.lock_descriptor(file.fileno(), blocking=False)


def clear(run: Path) -> None:
    """Remove what an ended run needs no more; plan, log, verdict and the weights of one that is done stay."""
    for name in (*TEMP_FILES, *([] if (run / EVALUATION).exists() else [WEIGHTS])):
        images.remove(run / name)


def read(path: Path) -> dict:
    """Read a JSON file of a project; empty if there is none. ValueError names a damaged one."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"{path.name} of this project is damaged; expected a JSON object. Remove it to go on without it"
        )
    return found


def write(path: Path, values: dict) -> None:
    """Write a JSON file at once or not at all."""
    checkpoint.write(path, (json.dumps(values, indent=1) + "\n").encode())


def run_folders(runs: Path) -> list[Path]:
    return sorted(
        (path for path in runs.glob("*") if path.name.isdecimal() and path.is_dir()), key=lambda path: int(path.name)
    )
