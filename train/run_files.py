"""The folder of a run: made anew or resumed, never replaced unasked."""

from __future__ import annotations

from pathlib import Path

from mpsams import checkpoint, distributed, jsonl, splits
from mpsams.splits import Split
from train import launch, state
from train.run_metadata import checkpoint_fingerprint
from train.state import STATE

RECORDS, WEIGHTS, SPLIT = "records.jsonl", "weights.safetensors", "split.json"
RUN = (STATE, state.PREVIOUS, WEIGHTS, RECORDS, SPLIT)  # files of a run folder


def begin(out: Path, resume: bool, overwrite: bool, split: Split, **values) -> None:
    """Make the run folder with its split and its first record; a run that is not resumed starts with no records.

    ValueError when the folder holds another run and neither ``resume`` nor ``overwrite``, which deletes it, is wanted.
    """
    resume = agree_to_resume(resume)

    def make() -> None:
        refuse_other_records(out)
        if not resume and any((out / name).exists() for name in RUN):
            if not overwrite:
                raise ValueError(
                    f"{out} holds a run already: --resume goes on with it, --overwrite replaces it, another --out"
                    " starts a new one"
                )
            forget(out)
        out.mkdir(parents=True, exist_ok=True)
        splits.save(split, out / SPLIT)
        jsonl.keep(out / RECORDS, lambda row: True)  # without a last line that was cut off
        jsonl.append(out / RECORDS, "start", split=split.sha256, processes=distributed.world_size(), **values)

    launch.call_on_first(make)


def refuse_other_records(out: Path) -> None:
    """Raise ValueError when the records of a folder are not those of one run."""
    rows = jsonl.read(out / RECORDS) if (out / RECORDS).exists() else []
    if any(row.get("event") not in ("start", "epoch") for row in rows):
        raise ValueError(f"{out} holds the records of many runs, as train.reproduce writes them; use another --out")


def forget(out: Path) -> None:
    """Delete the run that a folder holds, and its pictures."""
    for path in (*(out / name for name in RUN), *out.glob("pictures/epoch-*.png")):
        path.unlink(missing_ok=True)


def is_finished(out: Path, resume: bool, steps: int, config: dict) -> bool:
    """Return whether a run to be resumed is finished, with its weights in the folder, and print a sentence if so.

    steps: of the whole run. config: as ``Task.config``. ValueError when the folder holds a run with other options.
    """

    def look() -> bool:
        saved = state.saved_metadata(out)
        if saved:
            state.check(out, saved["config"], config)
        if not (out / WEIGHTS).exists() or (saved and saved["step"] < steps):
            return False
        differing = state.changed_options(checkpoint_fingerprint(checkpoint.metadata(out / WEIGHTS)), config)
        if differing and not saved:
            raise ValueError(
                f"{out} holds a finished run with other options in: {differing}; --overwrite replaces it, another --out"
                " starts a new one"
            )
        return not differing

    done = agree_to_resume(resume) and launch.call_on_first(look)
    if done:
        print(f"this run is finished, nothing is left to do: {out / WEIGHTS}")
    return done


def agree_to_resume(resume: bool) -> bool:
    """Return True if any process asks to resume: a machine that joined later does not know that it is a restart."""
    return any(launch.sum_values([resume]))
