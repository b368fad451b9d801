"""Learning from corrections: a run that fine-tunes a checkpoint on the accepted masks, what came of it, and its adoption.

A run is a process of its own (``train.retrain``) that reads nothing but its folder. What is known of it stands in files,
so that an app that was started again finds it. ``docs/reference/project-folder.md`` says what lies where.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from mpsams import checkpoint
from mpsams.checkpoint import Checkpoint

from . import images, lock, log, masks
from .index import MASK_ENDINGS
from .project import Project

MIN_ACCEPTED = 10  # accepted masks to learn from
MIN_HOLDOUT = 3  # of them, to measure on
MIN_SHOWN = 6  # held-back images from which a gain can be shown: fewer cannot make p < LEVEL, for it is 2 / 2**images at least
LEVEL = 0.05
SHARE = 0.2  # of the items that are held back, about
PATIENCE = 2.0  # seconds for a run to end by itself before it is ended
BASE_CHECKPOINT, WEIGHTS, PLAN, PROGRESS, EVALUATION = "begun_from.safetensors", "weights.safetensors", "plan.json", "progress.json", "verdict.json"
HOLDOUT, HOLDOUT_V1 = "holdout.json", "held_back.json"  # of the project: ids that are only measured on; its name in version 1
TEMP_FILES = ("images", "masks", "training", BASE_CHECKPOINT)  # of a run that has ended
_NUMBERED = re.compile(r"corrected-(\d+)-.+")
_TAIL = re.compile(r"[^-]+-seg-\d+$")


@dataclass(frozen=True)
class Progress:
    """Progress of a run. share: done, in [0, 1]. words: for people. state: "running", "done", "failed" or "cancelled"."""

    share: float
    words: str
    state: str


@dataclass(frozen=True)
class EvaluationResult:
    """The gain of a run, measured on held-back items that neither checkpoint was trained on.

    before, after: mean DSC over the items, a volume counting as one. interval: bootstrap 95% interval of after - before.
    images: how many items were measured. manually_edited: how many of them a person has changed, or drawn alone; the others
    are proposals as a checkpoint made them, which flatters it. learned: items that were learnt from. left_out: near-duplicates
    that were neither learnt from nor measured. better: whether a gain is shown, see ``is_shown``. checkpoint: the new one, until
    it is adopted.
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
    """A run, told by its folder, PROJECT/runs/NUMBER."""

    folder: Path

    def progress(self) -> Progress:
        """Return how far it is; also of a run that another app has started."""
        alive = held(self.folder.parent) and last(self.folder.parent.parent) == self  # asked first: then the rest is the last word
        told, cancelled = read(self.folder / PROGRESS), (self.folder / "cancelled").exists()
        share, words = told.get("share", 0.0), told.get("words", "starting")
        if alive:
            return Progress(share, "stopping" if cancelled else words, "running")
        if (self.folder / EVALUATION).exists():
            return Progress(1.0, "done", "done")
        if cancelled:
            return Progress(share, "cancelled; nothing has changed", "cancelled")
        gone = "it ended before it was done: it was killed, or the computer was switched off; nothing has changed"
        return Progress(share, words if told.get("failed") else gone, "failed")

    def cancel(self) -> None:
        """End it, within five seconds; nothing comes of it. One that has ended stays as it is."""
        if self.progress().state != "running":
            return
        (self.folder / "cancelled").touch()
        process = read(self.folder / "process.json")
        own = process.get("host") == socket.gethostname()  # elsewhere it sees the file
        for number in (signal.SIGTERM, signal.SIGKILL):
            if own:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process["pid"], number)
            until = time.monotonic() + PATIENCE
            while held(self.folder.parent) and time.monotonic() < until:
                time.sleep(0.05)
        if not held(self.folder.parent):
            clear(self.folder)

    def evaluation(self) -> EvaluationResult:
        """Return its evaluation. ValueError while it runs, and where nothing came of it."""
        told = read(self.folder / EVALUATION)
        if not told:
            raise ValueError(f"run {self.folder.name} has no verdict, it is {self.progress().state}; expected one that is done")
        names = ("before", "after", "images", "learned", "left_out")
        better = is_shown(told["interval"], told.get("p"), told["images"])  # an earlier version wrote true where it was not worse
        return EvaluationResult(
            **{name: told[name] for name in names}, manually_edited=told["changed_by_hand"], interval=tuple(told["interval"]), better=better,
            checkpoint=self.folder / WEIGHTS,
        )  # fmt: skip


def is_shown(interval: Sequence[float], p: float | None, images: int) -> bool:
    """Return True if a gain is shown: on at least MIN_SHOWN images, with an interval above 0 and, where it is known, p below LEVEL."""
    return images >= MIN_SHOWN and interval[0] > 0 and (p is None or p < LEVEL)


def start(project_folder: str | Path, init: str | Path, name: str, *, epochs: int | None = None, device: str = "cpu") -> Run:
    """Begin to learn from the masks that are accepted now, in a process of its own that this app may outlive or not.

    init, name: the segmentation checkpoint to begin from, and what it is called. epochs: passes over the masks; None makes it
    about as many steps as suit a CPU. device: cpu, cuda or auto. What is accepted meanwhile waits for the next run; weights
    of earlier runs that were not adopted are dropped.

    ValueError: too few masks, a checkpoint that cannot be begun from, or a run of this project under way.
    """
    run, own = prepare(project_folder, init, name, epochs=epochs, device=device)
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # ``train`` is found where this process finds it
    with own, (run.folder / "log.txt").open("ab") as text:
        process = subprocess.Popen(
            [sys.executable, "-m", "train.retrain", "--run", "."],  # in its folder, so that it writes no path of this machine
            cwd=run.folder, env=os.environ | {"PYTHONPATH": paths}, stdin=own, stdout=text, stderr=text, start_new_session=True,
        )  # fmt: skip  # stdin is the lock, which the process so holds until it ends, however it ends
        write(run.folder / "process.json", {"pid": process.pid, "host": socket.gethostname()})
    Thread(target=process.wait, daemon=True).start()
    return run


def prepare(
    project_folder: str | Path, init: str | Path, name: str, *, epochs: int | None = None, device: str = "cpu"
) -> tuple[Run, BinaryIO]:
    """A run folder with all that a run needs, and the lock to be held while it runs. ValueError: as for ``start``."""
    if os.name != "posix":
        raise ValueError(f"learning from corrections is not there on {os.name!r}; expected Linux or macOS")
    folder, begun = Path(project_folder), checkpoint.load(init)
    if begun.metadata.get("kind") != "segmentation":
        raise ValueError(f"{name} is a {begun.metadata.get('kind')!r} checkpoint; expected a segmentation")
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    own = hold(runs)
    try:
        told = log.read(folder / "log.jsonl")[0]
        ids, modality = select_modality(folder / "accepted", told, begun)
        known = (read(folder / HOLDOUT) or read(folder / HOLDOUT_V1)).get("items", [])
        learned = checkpoint.training_patients(begun).get("folder", set())
        kept = select_holdout(ids, known, learned)
        if len(ids) < MIN_ACCEPTED or len(kept - learned) < MIN_HOLDOUT or len(ids - kept) < MIN_HOLDOUT:
            raise ValueError(too_few_sentence(len(ids)))
        write(folder / HOLDOUT, {"items": sorted(kept | set(known))})
        for earlier in _numbered(runs):
            clear(earlier)
            (earlier / WEIGHTS).unlink(missing_ok=True)
        run = Run(runs / f"{1 + max([int(path.name) for path in _numbered(runs)], default=0):04}")
        run.folder.mkdir()
        there = ids & snapshot(folder / "accepted", run.folder, ids)
        _link(Path(init), run.folder / BASE_CHECKPOINT)
        plan = {
            "name": name, "sha256": begun.sha256, "method": begun.metadata.get("method", ""), "epochs": epochs, "device": device,
            "modality": modality, "learn": sorted(there - kept), "held_back": sorted(there & kept - learned),
            "changed": sorted(there & edited_items(told)), "made": log.now(),
        }  # fmt: skip
        write(run.folder / PLAN, plan)
    except BaseException:
        own.close()
        raise
    return run, own


def too_few_sentence(count: int) -> str:
    """Return a sentence on why so many accepted masks are not enough."""
    at_least = f"at least {MIN_ACCEPTED} accepted masks are needed; there are {count}"
    return at_least if count < MIN_ACCEPTED else f"of {count} accepted masks too few are left to learn from, or to measure on; accept some more"


def select_holdout(ids: Collection[str], known: Collection[str] = (), learned: Collection[str] = ()) -> set[str]:
    """Return the items that are held back: those whose hash says so, and whatever was held back before.

    So an item's part does not depend on when the others come. Where that makes too few, the next by their hash are held back
    as well, and from then on. known: held back before. learned: what the checkpoint was trained on already.
    """
    place = {id: int(hashlib.sha256(f"held back {id}".encode()).hexdigest()[:8], 16) / 2**32 for id in ids}
    kept = {id for id in ids if place[id] < SHARE or id in known}
    others = sorted(set(ids) - kept - set(learned), key=place.get)
    return kept | set(others[: max(0, MIN_HOLDOUT - len(kept - set(learned)))])


def select_modality(accepted: Path, told: list[dict], begun: Checkpoint) -> tuple[set[str], str]:
    """The accepted items of one modality, and which: the only one there is, else that of the checkpoint."""
    modality = {row.get("item"): row.get("modality") for row in told if row.get("action") == "added"}
    ids = {path.name[:16] for path in (accepted / "images").glob("[!.]*") if not path.name.endswith(images.UNFINISHED)}
    found = {modality.get(id) for id in ids}
    wanted = next(iter(found)) if len(found) == 1 else begun.metadata.get("data", {}).get("modality")
    return {id for id in ids if modality.get(id) == wanted}, wanted or ""


def edited_items(told: list[dict]) -> set[str]:
    """The items whose accepted mask is not just what a checkpoint proposed, by the lines of the log."""
    last = {row.get("item"): row for row in told if row.get("action") == "accepted"}
    return {id for id, row in last.items() if row.get("proposal") is None or row.get("pixels_added", 0) + row.get("pixels_removed", 0) > 0}


def snapshot(accepted: Path, folder: Path, ids: Collection[str]) -> set[str]:
    """Hard links to the images and masks as they are now; which items are there (one that is just reopened is not)."""
    there = set()
    for image in sorted((accepted / "images").iterdir()):
        id = image.name[:16]
        if id not in ids or image.name.endswith(images.UNFINISHED):
            continue
        try:
            images.link(image, folder / "images")
            ending = next(ending for ending in MASK_ENDINGS if (accepted / "masks" / (id + ending)).exists())
            images.link(accepted / "masks" / (id + ending), folder / "masks")
            there.add(id)
        except (FileNotFoundError, StopIteration):
            images.remove(folder / "images" / image.name)
    return there


def last(project_folder: str | Path) -> Run | None:
    """The newest run of a project, whatever became of it; None where there was none."""
    found = _numbered(Path(project_folder) / "runs")
    return Run(found[-1]) if found else None


def promoted(project_folder: str | Path) -> list[Path]:
    """The checkpoints in use that a project has learnt, the newest last."""
    return sorted((path for path in (Path(project_folder) / "checkpoints").glob("*.safetensors") if number(path.stem)), key=lambda path: number(path.stem))


def in_use_of(project_folder: str | Path, run: Run) -> Path | None:
    """Return the path of a run's checkpoint while it is in use; None while it is not."""
    sha256 = read(run.folder / EVALUATION).get("sha256")
    return next((path for path in promoted(project_folder) if masks.sha256(path) == sha256), None)


def promote(project: Project, run: Run, who: str = "") -> Path:
    """Put the checkpoint of a run that is done into use; where it then lies. Once more changes nothing.

    ValueError: it is worse, it was begun from another checkpoint than the newest in use, or its file is gone.
    """
    with project.exclusive():
        verdict, plan = run.evaluation(), read(run.folder / PLAN)
        if verdict.worse:
            fell = f"from {verdict.before:.3f} to {verdict.after:.3f} on {verdict.images} held-back images"
            raise ValueError(f"the mean DSC fell {fell}; only a checkpoint that is not worse is taken into use")
        in_use = promoted(project.folder)
        sha256, target = read(run.folder / EVALUATION)["sha256"], in_use_of(project.folder, run)
        if target is None:
            if masks.sha256(verdict.checkpoint) != sha256:
                raise ValueError(f"the checkpoint of run {run.folder.name} is no longer there; learn again")
            if in_use and masks.sha256(in_use[-1]) != plan["sha256"]:
                why = f"run {run.folder.name} did not begin from {in_use[-1].stem}, which is in use"
                raise ValueError(f"{why}; take that back first, or learn again")
            target = project.folder / "checkpoints" / f"{_name(project.folder, plan)}.safetensors"
            target.parent.mkdir(exist_ok=True)
            verdict.checkpoint.replace(target)
            checkpoint.sync(target.parent)
        learned = [row.get("checkpoint") for row in project.log() if row.get("action") == "learned"]
        if not any(isinstance(one, dict) and one.get("sha256") == sha256 for one in learned):
            row = {"checkpoint": {"name": target.stem, "sha256": sha256}, "base_checkpoint": {"name": plan["name"], "sha256": plan["sha256"]}}
            row |= {"items": verdict.learned, "holdout": verdict.images, "manually_edited": verdict.manually_edited}
            project.append_log("learned", who, **row, before=verdict.before, after=verdict.after)
        return target


def rollback(project: Project, who: str = "") -> Path:
    """Take the newest checkpoint out of use, into checkpoints/withdrawn/; where it then lies. ValueError: none is in use."""
    with project.exclusive():
        in_use = promoted(project.folder)
        if not in_use:
            raise ValueError("no checkpoint that this project has learnt is in use; there is nothing to take back")
        target = in_use[-1].parent / "withdrawn" / in_use[-1].name
        target.parent.mkdir(exist_ok=True)
        in_use[-1].replace(target)
        checkpoint.sync(target.parent)
        project.append_log("rolled back", who, checkpoint={"name": target.stem, "sha256": masks.sha256(target)})
        return target


# Files


def hold(runs: Path) -> BinaryIO:
    """The lock that a run holds. ValueError: one is under way."""
    for _ in range(5):  # who looks whether it is held holds it for a moment
        with contextlib.suppress(ValueError):
            return lock.hold(runs / "lock")
        time.sleep(0.02)
    raise ValueError("this project is learning already; wait until that is done, or cancel it")


def held(runs: Path) -> bool:
    """Return True if a run is under way; the system frees the lock of one that has died."""
    import fcntl

    if not (runs / "lock").exists():
        return False
    with (runs / "lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def clear(run: Path) -> None:
    """Remove what a run that has ended needs no more; the plan, the log, the verdict and the weights of one that is done stay."""
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
        raise ValueError(f"{path.name} of this project is damaged; expected a JSON object. Remove it to go on without it")
    return found


def write(path: Path, values: dict) -> None:
    """Write a JSON file at once or not at all."""
    checkpoint.write(path, (json.dumps(values, indent=1) + "\n").encode())


def _link(file: Path, target: Path) -> None:
    """The same file under another name: a hard link, or a copy where the disk has none."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _numbered(runs: Path) -> list[Path]:
    return sorted((path for path in runs.glob("*") if path.name.isdecimal() and path.is_dir()), key=lambda path: int(path.name))


def number(name: str) -> int:
    """Return the number of a retrained checkpoint by its name, from 1; 0 for another checkpoint."""
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else 0


def _name(project: Path, plan: dict) -> str:
    """"corrected-2-mps_ams-seg-10": the second of this project, begun from an MPS-AMS network with 10% of its labels."""
    ever = (project / "checkpoints").rglob("*.safetensors")
    tail = _TAIL.search(plan["name"])
    return f"corrected-{1 + max((number(path.stem) for path in ever), default=0)}-{tail[0] if tail else plan['method'] + '-seg-100'}"
