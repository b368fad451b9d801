"""Adoption of a checkpoint that a project has trained, and its withdrawal."""

from __future__ import annotations

import re
from pathlib import Path

from mpsams import checkpoint
from mpsams.annotation import masks, structures
from mpsams.annotation.project import Project
from mpsams.annotation.retraining_run import EVALUATION, PLAN, Run, read

_NUMBERED = re.compile(r"corrected-(\d+)-.+")
_TAIL = re.compile(r"[^-]+-seg-\d+$")


def promoted(project_folder: str | Path) -> list[Path]:
    """Return the checkpoints in use that a project has learnt, the newest last."""
    return sorted(
        (path for path in (Path(project_folder) / "checkpoints").glob("*.safetensors") if number(path.stem)),
        key=lambda path: number(path.stem),
    )


def in_use_of(project_folder: str | Path, run: Run) -> Path | None:
    """Return the path of a run's checkpoint while it is in use; None while it is not."""
    sha256 = read(run.folder / EVALUATION).get("sha256")
    return next((path for path in promoted(project_folder) if masks.sha256(path) == sha256), None)


def promote(project: Project, run: Run, user: str = "") -> Path:
    """Put the checkpoint of a run that is done into use; return its new path. Doing it again changes nothing.

    ValueError: it is worse, it was begun from another checkpoint than the newest in use, or its file is gone.
    """
    with project.exclusive():
        result, plan = run.evaluation(), read(run.folder / PLAN)
        if result.worse:
            fell = f"from {result.before:.3f} to {result.after:.3f} on {result.images} held-back images"
            raise ValueError(f"the mean DSC fell {fell}; only a checkpoint that is not worse is taken into use")
        in_use = promoted(project.folder)
        sha256, target = read(run.folder / EVALUATION)["sha256"], in_use_of(project.folder, run)
        if target is None:
            if masks.sha256(result.checkpoint) != sha256:
                raise ValueError(f"the checkpoint of run {run.folder.name} is no longer there; learn again")
            if in_use and masks.sha256(in_use[-1]) != plan["sha256"]:
                why = f"run {run.folder.name} did not begin from {in_use[-1].stem}, which is in use"
                raise ValueError(f"{why}; take that back first, or learn again")
            target = project.folder / "checkpoints" / f"{_name(project.folder, plan)}.safetensors"
            target.parent.mkdir(exist_ok=True)
            result.checkpoint.replace(target)
            checkpoint.sync(target.parent)
        learned = [row.get("checkpoint") for row in project.log() if row.get("action") == "learned"]
        if not any(isinstance(one, dict) and one.get("sha256") == sha256 for one in learned):
            row: dict[str, object] = {
                "checkpoint": {"name": target.stem, "sha256": sha256},
                "base_checkpoint": {"name": plan["name"], "sha256": plan["sha256"]},
            }
            row |= {"items": result.learned, "holdout": result.images, "manually_edited": result.manually_edited}
            if (structure := learnt_structure(project, plan)) is not None:
                structures.set_learnt(project, target.stem, structure.label, user)
            project.append_log("learned", user, **row, before=result.before, after=result.after)
        return target


def rollback(project: Project, user: str = "") -> Path:
    """Take the newest checkpoint out of use, into checkpoints/withdrawn/; return its path. ValueError without one."""
    with project.exclusive():
        in_use = promoted(project.folder)
        if not in_use:
            raise ValueError("no checkpoint that this project has learnt is in use; there is nothing to take back")
        target = in_use[-1].parent / "withdrawn" / in_use[-1].name
        target.parent.mkdir(exist_ok=True)
        in_use[-1].replace(target)
        checkpoint.sync(target.parent)
        project.append_log("rolled back", user, checkpoint={"name": target.stem, "sha256": masks.sha256(target)})
        return target


def number(name: str) -> int:
    """Return the number of a retrained checkpoint by its name, from 1; 0 for another checkpoint."""
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else 0


def learnt_structure(project: Project, plan: dict) -> structures.Structure | None:
    """Return the structure that a run learns, as it is defined now; None for all of them, or one that was removed.

    plan: of the run; an older one has the structure's name only.
    """
    defined = structures.defined(project)
    if "structure_label" in plan:
        return next((one for one in defined if one.label == plan["structure_label"]), None)
    return structures.find(defined, plan.get("structure", ""))


def _name(project: Path, plan: dict) -> str:
    """Return the name of the next checkpoint, such as "corrected-2-mps_ams-seg-10": the second of this project, begun
    from an MPS-AMS network with 10% of its labels.
    """
    ever = (project / "checkpoints").rglob("*.safetensors")
    tail = _TAIL.search(plan["name"])
    last = max((number(path.stem) for path in ever), default=0)
    return f"corrected-{last + 1}-{tail[0] if tail else plan['method'] + '-seg-100'}"
