"""Learning from corrections: a run that fine-tunes a checkpoint on the accepted masks.

A run is a process of its own (``train.retrain``) that reads nothing but its folder. All of its state is kept in files,
so that an app that was started again finds it; ``docs/reference/project-folder.md`` describes them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from mpsams import checkpoint
from mpsams.annotation import images, log, masks
from mpsams.annotation.index import MASK_ENDINGS
from mpsams.annotation.retraining_run import (
    BASE_CHECKPOINT,
    HOLDOUT,
    HOLDOUT_V1,
    PLAN,
    WEIGHTS,
    Run,
    clear,
    hold,
    read,
    run_folders,
    write,
)
from mpsams.annotation.structures import Structure
from mpsams.checkpoint import Checkpoint

MIN_ACCEPTED = 10  # accepted masks to learn from
MIN_HOLDOUT = 3  # of them, to measure on
SHARE = 0.2  # of the items that are held back, about


def start(
    project_folder: str | Path,
    init: str | Path,
    name: str,
    *,
    epochs: int | None = None,
    device: str = "cpu",
    structure: Structure | None = None,
) -> Run:
    """Begin to learn from the masks that are accepted now, in a process of its own that this app may outlive or not.

    init, name: the segmentation checkpoint to begin from, and what it is called. epochs: passes over the masks; None
    makes it about as many steps as suit a CPU. device: cpu, cuda or auto. structure: the one to learn, of a project
    with several, where the rest counts as background; None is all that is marked. What is accepted meanwhile waits for
    the next run; weights of earlier runs that were not adopted are dropped.

    ValueError: too few masks, a checkpoint that cannot be begun from, or a run of this project under way.
    """
    run, own = prepare(project_folder, init, name, epochs=epochs, device=device, structure=structure)
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # ``train`` is found where this process finds it
    with own, (run.folder / "log.txt").open("ab") as text:
        process = subprocess.Popen(
            # in its folder, so that it writes no path of this machine
            [sys.executable, "-m", "train.retrain", "--run", "."],
            cwd=run.folder,
            env=os.environ | {"PYTHONPATH": paths},
            stdin=own,
            stdout=text,
            stderr=text,
            start_new_session=True,
        )  # stdin is the lock, which the process so holds until it ends, however it ends
        write(run.folder / "process.json", {"pid": process.pid, "host": socket.gethostname()})
    Thread(target=process.wait, daemon=True).start()
    return run


def prepare(
    project_folder: str | Path,
    init: str | Path,
    name: str,
    *,
    epochs: int | None = None,
    device: str = "cpu",
    structure: Structure | None = None,
) -> tuple[Run, BinaryIO]:
    """Make a run folder with all that a run needs; return the run and the lock to hold. ValueError: as ``start``."""
    if os.name != "posix":
        raise ValueError(f"learning from corrections is not there on {os.name!r}; expected Linux or macOS")
    folder, begun = Path(project_folder), checkpoint.load(init)
    if begun.metadata.get("kind") != "segmentation":
        raise ValueError(f"{name} is a {begun.metadata.get('kind')!r} checkpoint; expected a segmentation")
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    own = hold(runs)
    try:
        rows = log.read(folder / "log.jsonl")[0]
        ids, modality = select_modality(folder / "accepted", rows, begun)
        known = (read(folder / HOLDOUT) or read(folder / HOLDOUT_V1)).get("items", [])
        learned = checkpoint.training_patients(begun).get("folder", set())
        kept = select_holdout(ids, known, learned)
        if len(ids) < MIN_ACCEPTED or len(kept - learned) < MIN_HOLDOUT or len(ids - kept) < MIN_HOLDOUT:
            raise ValueError(too_few_sentence(len(ids)))
        write(folder / HOLDOUT, {"items": sorted(kept | set(known))})
        for earlier in run_folders(runs):
            clear(earlier)
            (earlier / WEIGHTS).unlink(missing_ok=True)
        run = Run(runs / f"{1 + max([int(path.name) for path in run_folders(runs)], default=0):04}")
        run.folder.mkdir()
        there = ids & snapshot(folder / "accepted", run.folder, ids, structure.label if structure else None)
        _link(Path(init), run.folder / BASE_CHECKPOINT)
        plan = {
            "name": name,
            "sha256": begun.sha256,
            "method": begun.metadata.get("method", ""),
            "epochs": epochs,
            "device": device,
            "modality": modality,
            "learn": sorted(there - kept),
            "held_back": sorted(there & kept - learned),
            "changed": sorted(there & edited_items(rows)),
            "made": log.now(),
        } | ({"structure": structure.name, "structure_label": structure.label} if structure else {})
        write(run.folder / PLAN, plan)
    except BaseException:
        own.close()
        raise
    return run, own


def too_few_sentence(count: int) -> str:
    """Return a sentence on why so many accepted masks are not enough."""
    at_least = f"at least {MIN_ACCEPTED} accepted masks are needed; there are {count}"
    return (
        at_least
        if count < MIN_ACCEPTED
        else f"of {count} accepted masks too few are left to learn from, or to measure on; accept some more"
    )


def select_holdout(ids: Collection[str], known: Collection[str] = (), learned: Collection[str] = ()) -> set[str]:
    """Return the items that are held back: those whose hash says so, and whatever was held back before.

    So an item's part does not depend on when the others come. Where that makes too few, the next by their hash are held
    back as well, and from then on. known: held back before. learned: what the checkpoint was trained on already.
    """
    place = {id: int(hashlib.sha256(f"held back {id}".encode()).hexdigest()[:8], 16) / 2**32 for id in ids}
    kept = {id for id in ids if place[id] < SHARE or id in known}
    others = sorted(set(ids) - kept - set(learned), key=place.__getitem__)
    return kept | set(others[: max(0, MIN_HOLDOUT - len(kept - set(learned)))])


def select_modality(accepted: Path, rows: list[dict], begun: Checkpoint) -> tuple[set[str], str]:
    """Return the accepted items of one modality, and that modality: the only one, else that of the checkpoint."""
    modality = {row.get("item"): row.get("modality") for row in rows if row.get("action") == "added"}
    ids = {path.name[:16] for path in (accepted / "images").glob("[!.]*") if not path.name.endswith(images.UNFINISHED)}
    found = {modality.get(id) for id in ids}
    wanted = next(iter(found)) if len(found) == 1 else begun.metadata.get("data", {}).get("modality")
    return {id for id in ids if modality.get(id) == wanted}, wanted or ""


def edited_items(rows: list[dict]) -> set[str]:
    """Return the items whose accepted mask a person changed or drew, by the lines of the log."""
    last = {row.get("item"): row for row in rows if row.get("action") == "accepted"}
    return {
        id
        for id, row in last.items()
        if id is not None
        and (row.get("proposal") is None or row.get("pixels_added", 0) + row.get("pixels_removed", 0) > 0)
    }


def snapshot(accepted: Path, folder: Path, ids: Collection[str], label: int | None = None) -> set[str]:
    """Link to the images and masks as they are now; return the items that are there (not one just reopened).

    label: of the structure that copies of the masks hold in place of links; None for masks as they are.
    """
    there = set()
    for image in sorted((accepted / "images").iterdir()):
        id = image.name[:16]
        if id not in ids or image.name.endswith(images.UNFINISHED):
            continue
        try:
            images.link(image, folder / "images")
            ending = next(ending for ending in MASK_ENDINGS if (accepted / "masks" / (id + ending)).exists())
            mask = accepted / "masks" / (id + ending)
            if label is None:
                images.link(mask, folder / "masks")
            else:
                masks.copy_structure(mask, folder / "masks" / mask.name, label)
            there.add(id)
        except (FileNotFoundError, StopIteration):
            images.remove(folder / "images" / image.name)
    return there


# Files


def _link(file: Path, target: Path) -> None:
    """Put a file under another name: as a hard link, or as a copy where the disk has none."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
