"""A plan says what a table needs; reproduce does it, goes on after any end, and shares the work without
doing it twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpsams import checkpoint, inference, jsonl, metrics, packs, splits, tables
from tests.support.small_plan import PLAN
from tests.support.waiting import wait_until
from train import job_claims, pack, plan, publish, reproduce

ROOT = Path(__file__).resolve().parents[2]
ALL, FIRST = 2 + 2 * 3 + 1, 2 + 3 + 1  # runs of the small plan; of its first draw


@pytest.fixture
def small(tmp_path) -> Path:
    (tmp_path / "small.toml").write_text(PLAN, encoding="utf-8")
    return tmp_path / "small.toml"


def command(small: Path, *more: str) -> list[str]:
    return ["table1", "--plan", str(small), "--out", str(small.parent / "out"), *more]


def records_by_run(rows: list[dict]) -> dict[str, dict]:
    """Records by run, without what depends on the clock or on it through a file's hash."""
    clock = ("time", "seconds", "weights", "init", "sha256")
    return {row["run"]: {key: value for key, value in row.items() if key not in clock} for row in rows if "run" in row}


@pytest.mark.parametrize("name", plan.available())
def test_every_shipped_plan_is_complete_and_its_options_are_those_of_the_commands(name, tmp_path):
    found = plan.read(name)
    for table in (table for table in plan.TABLES if found.parts.get(table)):
        jobs = found.jobs(table)
        assert len({job.name for job in jobs}) == len(jobs) > 0
        done = set()
        for job in jobs:
            assert job.needs is None or job.needs in done, f"{job.name} comes before {job.needs}"
            done.add(job.name)
    for job in {(job.kind, job.method, job.recipe): job for job in jobs}.values():
        module = reproduce.TRAININGS[job.kind]
        parsed = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, job.kind, lambda options, name: parsed.append((options, name)))
            module.main([*job.argv(), "--data.root", str(tmp_path)])
        options, _ = parsed[0]
        assert options.data.size == found.data["size"] and options.run.seed == (
            job.seed if job.kind == "pretrain" else job.draw
        )


def test_the_order_of_a_plan_and_what_a_share_of_labels_changes(small):
    jobs = plan.read(small).jobs("table1")
    names = [job.name for job in jobs]
    assert names[:5] == [
        "finetune/scratch-10-strong-0",
        "pretrain/mae-0",
        "finetune/mae-0-10-strong-0",
        "pretrain/mps_ams-0",
        "finetune/mps_ams-0-10-strong-0",
    ]
    assert len(names) == ALL
    assert [name for name in names if "-50-" in name] == ["finetune/scratch-50-strong-0"]
    epochs = {job.name: dict(job.options)["recipe.epochs"] for job in jobs if job.kind == "finetune"}
    assert epochs["finetune/scratch-50-strong-0"] == 1 and epochs["finetune/scratch-10-strong-0"] == 3
    assert {job.labels for job in plan.read(small).jobs("table1", labels=[0.3]) if job.labels} == {0.3}
    more = plan.read(small, {"name": "busi"}, seeds=[3, 4], draws=[7])
    assert more.data["name"] == "busi" and {job.seed for job in more.jobs("table1")} == {3, 4, None}
    assert {job.draw for job in more.jobs("table1") if job.kind == "finetune"} == {7}


def test_only_some_methods_of_a_table(small, capsys):
    jobs = plan.read(small).jobs("table1", methods=["mps_ams"])
    assert {job.method for job in jobs} == {"mps_ams"} and len(jobs) == 1 + 2
    assert {job.method for job in plan.read(small).jobs("table1", methods=["scratch"])} == {"scratch"}
    with pytest.raises(ValueError, match=r"methods of \[table1\]: unknown simclr; .* scratch, mae, mps_ams"):
        reproduce.main(command(small, "--methods", "scratch", "simclr"))


def test_shards_are_a_partition_and_tear_no_chain_apart():
    jobs = plan.read("busi-cpu").jobs("table1")
    parts = [reproduce.share(jobs, (part, 3)) for part in (1, 2, 3)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in jobs)
    for part in parts:
        assert part and {job.needs for job in part if job.needs} <= {job.name for job in part}


@pytest.mark.parametrize(
    "change, message",
    [
        (("[table1]", "[table7]"), "unknown table7; expected some of: seeds"),
        (
            ('methods = ["mae", "mps_ams"]', 'methods = ["dino"]'),
            r"methods of \[table1\]: unknown dino; expected some of: mae, mps_ams",
        ),
        (("labels = [0.1]\nscratch", "labels = [10]\nscratch"), "shares in \\(0, 1\\]"),
        (("seeds = [0]", "seeds = []"), "lacks seeds"),
        (("size = 32", "size = "), "is not TOML"),
        (("size = 32", ""), "lacks data.name or data.size"),
    ],
)
def test_a_plan_with_a_fault_is_refused_in_a_sentence(small, change, message):
    assert change[0] in PLAN
    small.write_text(PLAN.replace(*change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        plan.read(small)


def test_a_plan_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="no plan 'nothing'; .*busi-cpu.*phantom"):
        plan.read("nothing")


def test_options_of_a_plan_that_no_command_knows_stop_it(small, quick_phantom, capsys):
    small.write_text(PLAN.replace("validate_every", "validate_often"), encoding="utf-8")
    with pytest.raises(SystemExit):
        reproduce.main(command(small))
    assert "validate_often" in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory, quick_phantom) -> Path:
    """The small plan's table, whole: the plan's file."""
    path = tmp_path_factory.mktemp("finished") / "small.toml"
    path.write_text(PLAN, encoding="utf-8")
    reproduce.main(command(path))
    return path


def test_a_whole_table_is_recorded(finished):
    every = jsonl.read(finished.parent / "out" / "records.jsonl")
    rows = [row for row in every if row["event"] != "leakage"]
    assert len(every) - len(rows) == 1
    jobs = plan.read(finished).jobs("table1")
    assert sorted(row["run"] for row in rows) == sorted(job.name for job in jobs)
    results = [row for row in rows if row["event"] == "result"]
    splits, tests = {row["split"] for row in results}, {tuple(row["cases"]) for row in results}
    assert (
        len(splits) == 1
        and len(tests) == 1
        and all(len(values) == len(row["columns"]) for row in results for values in row["cases"].values())
    )
    shared = {row["method"]: row["init"] for row in results}
    made = {row["method"]: row["sha256"] for row in rows if row["event"] == "pretraining"}
    assert shared == made | {"scratch": None}
    for row in results:
        weights = finished.parent / "out" / row["run"] / "weights.safetensors"
        found = checkpoint.load(weights)
        assert (
            found.sha256 == row["weights"]
            and found.metadata["labels"] == row["labels"]
            and found.metadata["recipe"] == row["recipe"]
        )
        assert found.metadata["config"]["run"]["seed"] == row["draw"] and len(row["loss"]) == row["epochs"]
        assert not (weights.parent / "state.safetensors").exists() and "val_dsc" in row
    same_draw = {
        tuple(checkpoint.load(finished.parent / "out" / row["run"] / "weights.safetensors").metadata["labelled"])
        for row in results
        if row["draw"] == 1 and row["labels"] == 0.1
    }
    assert len(same_draw) == 1, "methods are compared on other images"
    assert tables.read(finished.parent / "out" / "records.jsonl").methods == ("scratch", "mae", "mps_ams")


def test_of_each_method_the_best_on_validation_is_shipped(finished, tmp_path):
    path = finished.parent / "out" / "records.jsonl"
    written = publish.main(["--best", str(path), "--weights", str(tmp_path)])
    assert {file.name for file in written} == {
        f"phantom-{method}-seg-10.safetensors" for method in ("scratch", "mae", "mps_ams")
    }
    rows = [row for row in jsonl.read(path, "result") if row["labels"] == 0.1]
    for file in written:
        found = checkpoint.load(file).metadata
        own = {row["weights"]: row["val_dsc"] for row in rows if row["method"] == found["method"]}
        assert (
            own[found["rounded_from"]] == max(own.values())
            and found["chosen"] == "best on the validation part of 2 runs"
        )
        assert found["chosen"] in file.with_suffix(".md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="no run with labels 0.2 and recipe 'strong'"):
        publish.main(["--best", str(path), "--weights", str(tmp_path), "--labels", "0.2"])


def test_every_pretraining_has_a_card(finished, tmp_path):
    out = finished.parent / "out" / "pretrain"
    for file in publish.main([str(out / "mae-0"), str(out / "mps_ams-0"), "--weights", str(tmp_path)]):
        assert "patch" in file.with_suffix(".md").read_text(encoding="utf-8")


def test_what_is_done_is_not_done_again(finished, capsys):
    before = (finished.parent / "out" / "records.jsonl").read_bytes()
    reproduce.main(command(finished))
    assert (finished.parent / "out" / "records.jsonl").read_bytes() == before
    assert f"{ALL} of {ALL} runs done" in capsys.readouterr().out


def test_other_options_than_those_recorded_are_refused(finished, tmp_path):
    other = tmp_path / "small.toml"
    other.write_text(PLAN.replace("batch = 6", "batch = 7"), encoding="utf-8")
    with pytest.raises(ValueError, match="pretrain/mae-0 was made with other options"):
        reproduce.main(["table1", "--plan", str(other), "--out", str(finished.parent / "out")])


def test_figure_2_shows_cases_chosen_by_rank(finished):
    reproduce.main(["fig2", *command(finished)[1:]])
    out = finished.parent / "out"
    assert (out / "fig2.pdf").read_bytes().startswith(b"%PDF")
    picture = np.asarray(Image.open(out / "fig2.png").convert("RGB"))
    assert min(picture.shape[:2]) > 100 and picture.std() > 10


def test_the_cases_of_figure_2_go_from_easy_to_hard():
    from train import figure

    row = {"columns": ["dsc", "real"], "cases": {f"c{i}": [i / 10, 5] for i in range(10)} | {"normal": [1.0, 0]}}
    assert figure.choose_cases([row, row], 4) == ["c9", "c6", "c3", "c0"]
    assert figure.choose_cases([row], 99) == [f"c{i}" for i in reversed(range(10))]


def test_states_are_saved_once_a_minute_and_at_the_end_of_a_run(small, quick_phantom, monkeypatch):
    """Not after each epoch, of which each run here has two or three."""
    written, large = [], checkpoint.save_large
    monkeypatch.setattr(checkpoint, "save_large", lambda path, *rest: (written.append(path), large(path, *rest)))
    reproduce.main(command(small, "--draws", "0"))
    assert len(written) == len(set(written)) == FIRST


def test_another_folder_of_data_is_not_taken_for_the_one_that_was_packed(small, tmp_path):
    """The runs would be trained on the first folder's images, and measured on the second's."""
    small.write_text(
        PLAN.replace('name = "phantom"', 'name = "folder"').replace("cases = 14", "cases = 0"), encoding="utf-8"
    )
    for name, count in (("one", 12), ("two", 13)):
        for part in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
            for number in range(count):
                values = (
                    np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)
                    if part == "images"
                    else np.eye(32, dtype=np.uint8) * 255
                )
                Image.fromarray(values).save(tmp_path / name / part / f"{number}.png")
    work = reproduce.Reproduction(plan.read(small), small.parent / "out", str(tmp_path / "one"))
    (small.parent / "out").mkdir()
    work.prepare()
    work.prepare()
    with pytest.raises(ValueError, match="was made from other patients"):
        reproduce.Reproduction(plan.read(small), small.parent / "out", str(tmp_path / "two")).prepare()


def test_a_pack_is_enough_and_its_images_are_measured_at_its_size(small, quick_phantom, tmp_path):
    data = ["--data.name", "phantom", "--data.cases", "14"]
    pack.main([*data, "--data.size", "32", "--out", str(tmp_path / "pack")])
    given = ["--data.root", str(tmp_path / "pack"), "--methods", "scratch", "--labels", "0.1", "--draws", "0"]
    records = reproduce.main(command(small, *given))
    (row,) = jsonl.read(records, "result")
    assert row["measured_size"] == 32 and not (records.parent / "pack-32").exists()
    weights = records.parent / row["run"] / "weights.safetensors"
    network, stack = inference.open_network(weights, "float32"), packs.read(tmp_path / "pack")
    test = stack.of(splits.restore(network.metadata["split"]).test)
    assert set(row["cases"]) == set(test.cases)
    for index, case in enumerate(test.cases):
        image_1chw, truth_11hw = test.take(torch.tensor([index]))
        predicted_hw = inference.probabilities(network, image_1chw.float() / 255)[0, 0].numpy() > 0.5
        assert row["cases"][case][:1] == [round(metrics.case(predicted_hw, truth_11hw[0, 0].numpy())["dsc"], 4)]
    other = tmp_path / "other.jsonl"
    at_own_size = {key: value for key, value in row.items() if key not in ("event", "time", "measured_size")}
    jsonl.append(other, "result", **at_own_size | {"draw": 1})
    with pytest.raises(ValueError, match="measured_size"):
        tables.read([records, other])
    with pytest.raises(ValueError, match="own size"):
        reproduce.main(["fig2", *command(small, *given[:2])[1:]])
    pack.main([*data, "--data.size", "64", "--out", str(tmp_path / "larger")])
    with pytest.raises(ValueError, match="holds phantom at 64 pixels; the plan takes phantom at 32"):
        reproduce.main(command(small, "--data.root", str(tmp_path / "larger")))


def test_a_list_does_nothing(small, capsys):
    reproduce.main(command(small, "--list"))
    printed = capsys.readouterr().out
    assert (
        f"0 of {ALL} runs done" in printed and "pretrain/mps_ams-0" in printed and not (small.parent / "out").exists()
    )


def test_a_run_that_fails_is_reported_and_the_others_are_done(small, quick_phantom, monkeypatch):
    perform = reproduce.Reproduction.perform

    def failing(self, job, folder):
        if job.name == "pretrain/mae-0":
            raise FloatingPointError("loss is nan in epoch 1")
        perform(self, job, folder)

    monkeypatch.setattr(reproduce.Reproduction, "perform", failing)
    with pytest.raises(ValueError, match="could not do pretrain/mae-0: loss is nan in epoch 1"):
        reproduce.main(command(small, "--draws", "0"))
    done = set(records_by_run(jsonl.read(small.parent / "out" / "records.jsonl")))
    assert (
        "finetune/mps_ams-0-10-strong-0" in done and not any("mae" in name for name in done) and len(done) == FIRST - 2
    )


def test_a_lock_is_had_once_and_freed(tmp_path):
    with job_claims.claim(tmp_path / "lock") as first, job_claims.claim(tmp_path / "lock") as second:
        assert first and not second
    with job_claims.claim(tmp_path / "lock") as third:
        assert third


def test_the_time_given_ends_a_run_which_goes_on_later(small, quick_phantom, monkeypatch, capsys):
    finished = []

    def finish(self, jobs, over) -> None:
        time.sleep(30)  # time must pass: what is given is over before
        finished.append(jobs)

    monkeypatch.setattr(reproduce.Reproduction, "finish", finish)
    reproduce.main(command(small, "--minutes", "0.005"))
    assert not finished and "0.005 minutes are over" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def first_draw(path: Path) -> dict[str, dict]:
    return {
        name: row
        for name, row in records_by_run(jsonl.read(path.parent / "out" / "records.jsonl")).items()
        if row.get("draw", 0) == 0
    }


def killed(small: Path, after: int) -> bool:
    """Start the command in a process of its own and kill it once so many epochs are recorded anywhere; whether it was
    alive.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "train.reproduce", *command(small, "--draws", "0")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    out = small.parent / "out"

    def has_come() -> bool:
        return sum(path.read_bytes().count(b'"epoch", ') for path in out.glob("*/*/records.jsonl")) >= after

    wait_until(lambda: process.poll() is not None or has_come(), 600)
    if process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)
    return True


def through_kills(small: Path, finished: Path, moments: list[int]) -> None:
    for moment in moments:
        assert killed(small, moment)
        for folder in (small.parent / "out").glob("*/*/"):
            epochs = (
                [row["epoch"] for row in jsonl.read(folder / "records.jsonl", "epoch")]
                if (folder / "records.jsonl").exists()
                else []
            )
            if epochs and not (folder / "weights.safetensors").exists() and (folder / "state.safetensors").exists():
                state = checkpoint.load(folder / "state.safetensors").metadata
                assert len(state["losses"]) == 0 and len(epochs) - 1 <= state["step"] // json_steps(folder) <= len(
                    epochs
                )
    reproduce.main(command(small, "--draws", "0"))
    assert first_draw(small) == first_draw(finished) and len(first_draw(small)) == FIRST


def json_steps(folder: Path) -> int:
    """Steps of an epoch of the run in that folder."""
    start = jsonl.read(folder / "records.jsonl", "start")[-1]
    batch = start["config"]["optim" if folder.parent.name == "pretrain" else "recipe"]["batch"]
    return -(-start["images"] // batch)


def test_killed_and_started_again_it_ends_as_if_nothing_had_happened(small, finished, quick_phantom):
    through_kills(small, finished, [3])


@pytest.mark.slow
def test_killed_ten_times(small, finished, quick_phantom):
    through_kills(small, finished, list(range(1, 11)))


@pytest.mark.slow
def test_two_processes_share_the_work(small, finished):
    start = [sys.executable, "-m", "train.reproduce", *command(small, "--draws", "0")]
    both = [
        subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(jsonl.read(small.parent / "out" / "records.jsonl")) == FIRST + 1 and first_draw(small) == first_draw(
        finished
    )
    assert all(f"{FIRST} of {FIRST} runs done" in text for text in outputs)


def test_help_and_a_shard_that_is_none(capsys):
    with pytest.raises(SystemExit):
        reproduce.main(["table1", "--shard", "4/3"])
    assert "'4/3' is not of the form K/N" in capsys.readouterr().err
    with pytest.raises(ValueError, match="give --plan or --data.name"):
        reproduce.main(["table1"])
