"""The forecast of a plan comes from records of runs that are alike, and from measured steps where there are none."""

from __future__ import annotations

import pytest

from mpsams import jsonl
from tests.support.small_plan import PLAN
from train import dry_run, forecast, plan, reproduce


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.toml").write_text(PLAN, encoding="utf-8")
    return tmp_path / "small.toml"


def test_runs_that_differ_in_seed_draw_or_start_alone_are_estimated_together(small):
    jobs = plan.read(small, seeds=[0, 1]).jobs("table1")
    measured = []
    found = forecast.forecast(jobs, [], lambda job: measured.append(job.name) or 10.0)
    assert {each.job.name: each.runs for each in found} == {
        "finetune/scratch-10-strong-0": 10,  # two draws from scratch and from two seeds of two methods
        "pretrain/mae-0": 2,
        "pretrain/mps_ams-0": 2,
        "finetune/scratch-50-strong-0": 1,
    }
    assert measured == [each.job.name for each in found] and sum(each.total for each in found) == 150


def test_records_of_runs_alike_are_used_and_only_the_others_measured(small):
    jobs = {job.name: job for job in plan.read(small).jobs("table1")}
    done = [(jobs["finetune/scratch-10-strong-0"], 4.0), (jobs["finetune/mae-0-10-strong-0"], 8.0)]
    missing = [job for job in jobs.values() if job not in [job for job, _ in done]]
    found = {each.job.name: each for each in forecast.forecast(missing, done, lambda job: None)}
    tuned = found["finetune/mps_ams-0-10-strong-0"]
    assert (tuned.seconds, tuned.records, tuned.runs) == (6.0, 2, 4)
    assert found["pretrain/mae-0"].seconds is None and found["pretrain/mae-0"].total == 0
    written = forecast.text(list(found.values()))
    assert "| fine-tuning with 10% of the labels, recipe strong | 4 | 6 s | 24 s | 2 records |" in written
    assert "| pretraining MAE | 1 | does not fit | – | a few steps |" in written
    assert written.endswith(f"all {len(missing)} missing runs: 24 s")


def test_the_command_measures_and_trains_nothing(small, quick_phantom, capsys, monkeypatch):
    seconds = iter((60.0, 120.0, 180.0, 240.0))
    monkeypatch.setattr(dry_run, "time_calls", lambda work: next(seconds))
    out = small.parent / "out"
    reproduce.main(["table1", "--plan", str(small), "--out", str(out), "--forecast"])
    printed = capsys.readouterr().out
    assert "| pretraining MPS-AMS | 1 |" in printed and "missing runs:" in printed
    assert next(seconds, None) is None, "four kinds of runs are measured"
    assert not list(out.glob("*/*/weights.safetensors")) and not jsonl.read(out / "records.jsonl", "result")


def test_a_list_estimates_by_the_records(small, capsys):
    found = reproduce.Reproduction(plan.read(small), small.parent / "out", None)
    jobs = found.plan.jobs("table1")
    (job,) = [job for job in jobs if job.name == "finetune/scratch-10-strong-0"]
    found.out.mkdir()
    jsonl.append(found.records, "result", run=job.name, options=reproduce.fingerprint(job), seconds=600)
    assert "missing to finetune: 6, about 60 minutes of one process" in found.report(jobs)
