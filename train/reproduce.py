"""Reproduce a table or Figure 2: train and measure whatever its plan lists and is not there yet.

Killed at any moment and started again, it goes on from at most a minute before. Started several times with the same
--out, the processes share the work; on machines that share no disk use --shard 1/3, 2/3, 3/3 and give all records to
train.report. The plan is a TOML file: train/plans/*.toml, or your own.

  python -m train.reproduce table1 --data.name phantom          a few minutes on a CPU, nothing needed
  python -m train.reproduce table1 --plan busi-cpu --data.root Dataset_BUSI_with_GT
  python -m train.reproduce table1 --plan busi-cpu --data.root Dataset_BUSI_with_GT --forecast
  python -m train.reproduce table2 --plan busi-cpu --data.root Dataset_BUSI_with_GT --minutes 30
  python -m train.reproduce fig2 --plan busi-cpu --data.root Dataset_BUSI_with_GT
  python -m train.report runs/busi-cpu/records.jsonl
"""

# Over 250 lines because planning, running and recording the trainings of a plan are one command.

from __future__ import annotations

import argparse
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mpsams import checkpoint, datasets, inference, jsonl, packs, renames
from mpsams.arguments import Parser
from train import evaluate, evaluate_pack, figure, finetune, forecast, leakage, pack, plan, pretrain, run_files, state
from train.command_line import run
from train.job_claims import claim, time_limit
from train.options import RunOptions
from train.plan import Job, Plan

COLUMNS = ("dsc", "ppv", "sen", "hit", "said", "real", "hd95", "assd")
EVENTS = {"pretrain": "pretraining", "finetune": "result"}
TRAININGS = {"pretrain": pretrain, "finetune": finetune}
SAVE_MINUTES = "1"  # at most so often is the state saved: at the paper's scale it has 372 MB
WAIT = 5.0  # seconds between looks at what other processes are doing


def main(argv: Sequence[str] | None = None) -> Path:
    """Parse the options, list the jobs and run the missing ones; return the file with the records."""
    options = arguments().parse_args(argv)
    name = options.plan or options.name
    if name is None:
        raise ValueError(f"give --plan or --data.name; plans: {', '.join(plan.available())}")
    data = {"name": options.name} if options.name else {}
    planned = plan.read(name, data, options.seeds or (), options.draws or ())
    if not planned.parts.get(options.table):
        raise ValueError(f"the plan {planned.name!r} has no [{options.table}]")
    jobs = share(planned.jobs(options.table, options.labels or (), options.methods or ()), options.shard)
    work = Reproduction(planned, Path(options.out or f"runs/{planned.name}"), options.root)
    if options.table == "fig2" and work.brings_pack:
        raise ValueError("fig2 shows images at their own size; give --data.root the data set itself, not a pack")
    print(work.report(jobs))
    if options.forecast:
        print(f"\n{forecast.text(work.forecast(jobs))}")
    elif not options.list:
        with time_limit(options.minutes) as over:
            work.finish(jobs, over)
        if options.table == "fig2" and not over.is_set():
            drawn = figure.draw(jobs, work.done(), work.out, evaluate.Source(planned.data["name"], work.root))
            print("wrote " + ", ".join(map(str, drawn)))
        print(work.report(jobs))
    return work.records


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m train.reproduce", description=__doc__)
    parser.add_argument("table", choices=plan.TABLES, help="what to reproduce")
    parser.add_argument(
        "--plan", help=f"a TOML file, or one of: {', '.join(plan.available())} (default: the data set's name)"
    )
    parser.add_argument("--data.name", dest="name", choices=datasets.available(), help="data set (default: the plan's)")
    parser.add_argument(
        "--data.root",
        dest="root",
        help="folder of the data set in its official layout, or a pack of the plan's size; then images are measured at"
        " that size",
    )
    parser.add_argument("--out", help="folder of all runs and of records.jsonl (default: runs/PLAN)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=0,
        help="stop after so many minutes, saving the run under way (default: when done)",
    )
    parser.add_argument(
        "--shard",
        type=fraction,
        default=(1, 1),
        metavar="K/N",
        help="only the K-th of N parts, for machines that share no disk",
    )
    parser.add_argument(
        "--labels",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="other shares of labels than the plan's, such as 0.05 0.5",
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help="only these methods of the table, such as scratch base mps_ams"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="other seeds of the pretrainings than the plan's"
    )
    parser.add_argument(
        "--draws", type=int, nargs="+", metavar="N", help="other draws of labelled images than the plan's"
    )
    parser.add_argument("--list", action="store_true", help="only say what is done and what is missing")
    parser.add_argument(
        "--forecast",
        action="store_true",
        help="only measure a few steps of each kind of missing run, and say how long all of them will take here",
    )
    return parser


def fraction(text: str) -> tuple[int, int]:
    """Parse a shard, "2/3", as (2, 3)."""
    part, _, whole = text.partition("/")
    if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form K/N with 1 <= K <= N")
    return int(part), int(whole)


def share(jobs: Sequence[Job], shard: tuple[int, int]) -> list[Job]:
    """Return the K-th of N parts of the jobs; those from one pretraining, or one draw from scratch, stay together."""
    chains = list(dict.fromkeys(chain(job) for job in jobs))
    part, whole = shard
    return [job for job in jobs if chains.index(chain(job)) % whole == part - 1]


def chain(job: Job) -> tuple:
    """Return the name of a chain of jobs that must be in one shard: the pretraining, or from scratch the draw."""
    return (job.method, job.seed) if job.seed is not None else (job.method, job.draw)


class Reproduction:
    """A reproduction's folder: runs below it, and the records of the finished ones."""

    def __init__(self, planned: Plan, out: Path, root: str | None) -> None:
        self.plan, self.out, self.root = planned, out, root
        self.records = out / run_files.RECORDS
        self.brings_pack = root is not None and packs.is_pack(root)
        self.pack = Path(root) if root and self.brings_pack else out / f"pack-{planned.data['size']}"

    def done(self) -> dict[str, dict]:
        """Return the records of finished jobs by name."""
        return {row["run"]: row for row in jsonl.read(self.records) if "run" in row} if self.records.exists() else {}

    def missing_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs that have no record yet.

        ValueError when a record was made with other options than the plan has now.
        """
        done = self.done()
        for job in jobs:
            if job.name in done and done[job.name]["options"] != fingerprint(job):
                raise ValueError(
                    f"{self.out / job.name} was made with other options than the plan has now; use another --out, or"
                    " delete its record"
                )
        return [job for job in jobs if job.name not in done]

    def report(self, jobs: Sequence[Job]) -> str:
        """Report the runs that are done and missing, and the time that the missing ones may take."""
        missing, done = self.missing_jobs(jobs), self.done()
        lines = [f"{self.plan.name}: {len(jobs) - len(missing)} of {len(jobs)} runs done, records in {self.records}"]
        for kind in EVENTS:
            left = [job for job in missing if job.kind == kind]
            took = [(job, done[job.name]["seconds"]) for job in jobs if job.kind == kind and job.name in done]
            guess = f", about {forecast.minutes(left, took):.0f} minutes of one process" if took else ""
            lines += [f"missing to {kind}: {len(left)}{guess}", *(f"  {job.name}" for job in left)] if left else []
        return "\n".join(lines)

    def forecast(self, jobs: Sequence[Job]) -> list[forecast.TimeEstimate]:
        """Estimate the time of the missing runs; trains nothing, but packs the data set if that was not done yet."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.prepare()
        missing, done = self.missing_jobs(jobs), self.done()
        finished = [(job, done[job.name]["seconds"]) for job in jobs if job.name in done]

        def measure(job: Job) -> float | None:
            return forecast.measure_steps(TRAININGS[job.kind].main, job, str(self.pack))

        return forecast.forecast(missing, finished, measure, bar=True)

    def finish(self, jobs: Sequence[Job], over: threading.Event) -> None:
        """Do what is missing, in order, until the time is over. Failures are reported at the end with a ValueError."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.prepare()
        failed: dict[str, str] = {}
        while not over.is_set():
            missing = [job for job in self.missing_jobs(jobs) if job.name not in failed and job.needs not in failed]
            if not missing:
                break
            done = self.done()
            ready = (job for job in missing if job.needs is None or job.needs in done)
            if not any(self.attempt(job, failed) for job in ready):
                time.sleep(WAIT)  # other processes have what is left in hand
        if failed:
            raise ValueError("could not do " + "; ".join(f"{name}: {why}" for name, why in failed.items()))

    def prepare(self) -> None:
        """Pack the data set at the network's size and record what leaks between its parts, once;
        other processes wait. ValueError for a pack of another data set or size.
        """
        with claim(self.out / "pack.lock", wait=True):
            if self.brings_pack:
                given, wanted = packs.read(self.pack), self.plan.data
                if (given.name, given.size) != (wanted["name"], wanted["size"]):
                    raise ValueError(
                        f"{self.pack} holds {given.name} at {given.size} pixels; the plan takes {wanted['name']} at"
                        f" {wanted['size']}"
                    )
            elif packs.is_pack(self.pack) and self.root:
                packs.check(self.pack, self.dataset())
            if not packs.is_pack(self.pack):
                root = ["--data.root", self.root] if self.root else []
                pack.main([*plan.arguments(plan.flat({"data": self.plan.data})), *root, "--out", str(self.pack)])
            if not (self.records.exists() and jsonl.read(self.records, "leakage")):
                options = {
                    name: self.plan.data[name] for name in ("name", "size", "split_seed") if name in self.plan.data
                }
                found = leakage.main([*plan.arguments(plan.flat({"data": options})), "--data.root", str(self.pack)])
                jsonl.append(self.records, "leakage", plan=self.plan.name, data=self.plan.data["name"], **found)

    def dataset(self) -> datasets.Dataset:
        """Return the plan's cases of the data set in its official layout."""
        dataset = datasets.open_dataset(self.plan.data["name"], self.root, self.plan.data.get("sequences", ()))
        cases = self.plan.data.get("cases", 0)
        return dataset.select(dataset.cases[:cases]) if cases else dataset

    def attempt(self, job: Job, failed: dict[str, str]) -> bool:
        """Do a job unless another process does or did it; return True if done here. A refusal goes into ``failed``."""
        folder = self.out / job.name
        folder.mkdir(parents=True, exist_ok=True)
        with claim(folder / "lock") as mine:
            if not mine or job.name in self.done():
                return False
            print(f"\n{job.name}")
            try:
                self.perform(job, folder)
            except (ValueError, FloatingPointError) as error:
                failed[job.name] = str(error)
                print(f"failed: {error}")
        return True

    def perform(self, job: Job, folder: Path) -> None:
        """Train, or continue a training, and measure; then write the record and delete the state."""
        weights = folder / "weights.safetensors"
        if not weights.exists():
            argv = [
                *job.argv(),
                "--data.root",
                str(self.pack),
                "--data.cases",
                "0",
                "--out",
                str(folder),
                "--run.save_minutes",
                SAVE_MINUTES,
            ]
            argv += ["--init", str(self.out / job.needs / "weights.safetensors")] if job.needs else []
            TRAININGS[job.kind].main([*argv, "--resume"])
        found = checkpoint.load(weights)
        row = training_entries(
            self.plan, job, found.metadata | {"sha256": found.sha256}, jsonl.read(folder / run_files.RECORDS, "epoch")
        )
        if job.kind == "finetune":
            row |= self.measure(weights)
        jsonl.append(self.records, EVENTS[job.kind], **row)
        state.forget(folder)

    def measure(self, weights: Path) -> dict:
        """Return the scores of a segmentation on the test part, per image (and volume), as columns.

        At the images' own size, or where only a pack was given at its size.
        """
        about: dict = {"threshold": evaluate_pack.THRESHOLD, "columns": COLUMNS}
        if self.brings_pack:
            stack = packs.read(self.pack)
            found = evaluate_pack.measure(weights, stack, run_device(self.plan.parts.get("run", {})))
            about["measured_size"] = stack.size
        else:
            network = inference.open_network(weights, "float32")
            source = evaluate.Source(self.plan.data["name"], self.root)
            found = evaluate.measure(network, evaluate.select_cases(network, source, "test"), evaluate_pack.THRESHOLD)
        cases, volumes = (
            {name: [round(row[c], 4) for c in COLUMNS] for name, row in found[kind].items()}
            for kind in ("image", "volume")
        )
        return about | {"cases": cases} | ({"volumes": volumes} if volumes else {})


def run_device(options: Mapping) -> torch.device:
    """Return the device that a plan's [run] options train on."""
    return RunOptions(**{name: value for name, value in options.items() if name == "device"}).start()


def fingerprint(job: Job) -> str:
    """Return a hash of the options that make a job."""
    options = [renames.restore_option(*option) for option in job.options]
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]


def training_entries(planned: Plan, job: Job, about: dict, epochs: list[dict]) -> dict:
    """Return entries of a run's record on its training."""
    config, schedule = about["config"], about["config"]["optim" if job.kind == "pretrain" else "recipe"]
    own = {
        "size": about["size"],
        "width": about["model"]["width"],
        "epochs": schedule["epochs"],
        "batch": schedule["batch"],
    }
    training = {key: about["training"][key] for key in ("steps", "seconds")}
    row = {
        "run": job.name,
        "options": fingerprint(job),
        "plan": planned.name,
        "data": about["data"]["name"],
        **job.key,
        **own,
        **training,
    }
    row |= {
        "split": about["split"]["sha256"],
        "grouped": about["split"]["grouped"],
        "loss": [round(epoch["loss"], 5) for epoch in epochs],
    }
    if job.kind == "pretrain":
        more = [key for key in epochs[-1] if key not in ("event", "time", "epoch", "loss", "seconds", "lr")]
        curves = {key: [round(epoch[key], 5) for epoch in epochs if key in epoch] for key in more}
        return row | {
            "sha256": about["sha256"],
            "images": about["seen"],
            "patch": config["method"].get("patch"),
            "facts": curves,
        }
    init = about["init"] and about["init"]["sha256"]
    valid = {key: round(value, 4) for key, value in epochs[-1].items() if key.startswith("val_")}
    return (
        row
        | {"weights": about["sha256"], "init": init, "labelled": len(about["labelled"]), "images": about["seen"]}
        | valid
    )


if __name__ == "__main__":
    run(main, "train.reproduce")
