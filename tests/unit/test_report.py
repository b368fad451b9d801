"""train.report end to end on made-up records, and the paper's numbers against its text."""

import csv
import json
import math
import re
import sys

import pytest

from mpsams import jsonl, methods, plots, tables
from tests.support import ROOT, made_records
from train import report
from train.command_line import run

LINES = slice(82, 111)  # of the paper's text: both tables


def test_the_papers_numbers_are_those_of_its_text():
    source = ROOT.parent / "shared" / "paper" / "mps-ams.txt"
    if not source.is_file():
        pytest.skip(f"no paper at {source}")

    ours = tables.paper_numbers()
    keys = {title: key for key, title in tables.TITLES.items()} | {"base+AMS+MPS": "mps_ams"}
    percent, seen = None, set()
    for line in source.read_text(encoding="utf-8").splitlines()[LINES]:
        first, *rest = line.rstrip("\t").split("\t")
        percent = first.removesuffix("%") if first.endswith("%") else percent
        if len(rest) == 10 and rest[0] in keys:
            for k, data in enumerate(("busi", "hecktor", "brats")):
                assert ours[data][percent][keys[rest[0]]] == [float(value) for value in rest[1 + 3 * k : 4 + 3 * k]], (
                    data,
                    percent,
                    rest[0],
                )
                seen.add((data, percent, keys[rest[0]]))
    assert len(seen) == 3 * (7 + 7 + 1 + 1 + 3)
    assert seen == {
        (data, p, m) for data in ("busi", "hecktor", "brats") for p, methods in ours[data].items() for m in methods
    }


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A report of three methods in two files, one run missing; what was printed, and the results."""
    folder = tmp_path_factory.mktemp("report")
    how = {"labels": (0.1,), "recipes": ("strong",), "more_scratch": (1.0,), "draws": (0, 1, 2)}
    one = made_records.write(folder / "1.jsonl", methods=("scratch", "simclr"), **how)
    two = made_records.write(folder / "2.jsonl", methods=("base", "mps_ams"), **how)
    rows = two.read_text(encoding="utf-8").splitlines(keepends=True)
    two.write_text(
        "".join(r for r in rows if not ('"method": "base"' in r and '"seed": 1' in r and '"draw": 2' in r)),
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "as_bytes", lambda figure, suffix: suffix.encode())  # test_plots writes them
        written = report.main([str(one), str(two), "--out", str(folder / "out")])
    assert written == [folder / "out" / "made-up" / "report.md"]
    return written[0], tables.read([one, two])


def test_a_report_says_in_what_its_rivals_differ_from_their_papers(reported):
    text, deviations = reported[0].read_text(encoding="utf-8"), methods.deviations()
    assert (
        deviations["all"] in text and deviations["simclr"] in text and deviations["byol"] not in text
    )  # which was not run


def test_a_report_holds_the_tables_of_the_library(reported):
    path, results = reported
    text = path.read_text(encoding="utf-8")

    paper = tables.paper_numbers()
    for name in ("table1", "table2"):
        for averaging in tables.AVERAGINGS:
            assert tables.markdown(tables.table(results, name, "strong", averaging, paper)) in text
            comparisons = tables.compare(results, name, "strong", averaging)
            assert tables.comparison_table(comparisons) in text
            assert tables.sentence(tables.strongest(comparisons, 0.1)) in text
    assert "0.591" in text and "0.682" in text  # the paper's MPS-AMS at 10% and U-Net at 100%
    assert "In the paper the strongest rival is MAE, and the difference +0.028." in text


def test_a_report_tells_scale_time_and_what_is_missing(reported):
    text = reported[0].read_text(encoding="utf-8")
    assert "U-Net of width 16 at 64 × 64 pixels. Measured on 42 test images, 34 of them with a lesion" in text
    assert "6 pretrainings took 1.0 hours and 23 fine-tunings 0.8 hours" in text
    assert "| MPS-AMS | 0, 1 | 60 | 1080 | 562 |" in text and "| 10% | strong | 56 | 100 | 700 | 0, 1, 2 | 20 |" in text
    assert "- 10% labels, recipe “strong”, base: seed 1 with draw 2\n" in text
    assert re.search(
        "- 10% labels, recipe “strong”, [^:]*BYOL[^:]*: seed 0 with draw 0, 1, 2; seed 1 with draw 0, 1, 2\n", text
    )
    assert re.search(r"By draw: [+−]0\.\d{3}, [+−]0\.\d{3}, [+−]0\.\d{3}\.", text)
    assert (
        "for these trained networks only" in text
        and "for other draws of labels, other pretrainings and other images" in text
    )


def test_a_report_leaves_its_files_beside_it(reported):
    path, results = reported
    names = {file.name for file in path.parent.iterdir()}
    figures = {"curves", "labels-strong", "scatter-strong-10"}
    assert {f"{name}.{suffix}" for name in figures for suffix in ("png", "pdf")} <= names
    assert {f"table{k}-strong-{averaging}.tex" for k in (1, 2) for averaging in tables.AVERAGINGS} <= names
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"!\[.+?\]\((.+?)\)", text)) == {f"{name}.png" for name in figures}
    rows = list(csv.DictReader((path.parent / "tables.csv").open(encoding="utf-8")))
    assert {r["averaging"] for r in rows} == {"all", "lesion", "pooled", "no lesion"} and {
        r["table"] for r in rows
    } == {"table1", "table2"}
    assert len(list(csv.DictReader((path.parent / "comparisons.csv").open(encoding="utf-8")))) == 3 * (6 + 3)


def test_the_terminal_shows_lesion_only_and_all(reported):
    results = reported[1]
    text = report.short_summary(results)
    means = [
        next(line for line in tables.table(results, averaging=a).rows if line.method == "mps_ams").cells["dsc"].mean
        for a in ("lesion", "all")
    ]
    assert re.search(rf"MPS-AMS +{means[0]:.3f} \| {means[1]:.3f}", text) and "BYOL" in text and "– | –" in text


def test_a_plan_of_ours_lists_what_it_has_no_record_of(reported):
    from train import plan

    results = reported[1]
    lines = report.missing_runs(results, "phantom")
    jobs = {
        job.name: job
        for part in ("table1", "table2")
        for job in plan.read("phantom").jobs(part)
        if job.kind == "finetune"
    }
    done = {run.key for run in results.runs}
    lacking = [job for job in jobs.values() if (job.method, job.seed, job.draw, job.labels, job.recipe) not in done]
    assert 0 < len(lacking) < len(jobs)
    assert f"Of the {len(jobs)} fine-tunings of the plan `phantom` {len(jobs) - len(lacking)} are recorded." in lines
    missing = [line.removeprefix("- ").partition(": ") for line in lines if line.startswith("- ")]
    methods = [len(label.split("”, ")[1].split(",")) for label, _, _ in missing]
    draws = [sum(len(each.split(",")) for each in runs.split("draw ")[1:]) for *_, runs in missing]
    assert sum(map(math.prod, zip(methods, draws, strict=True))) == len(lacking) and len(set(missing)) == len(missing)


def test_volumes_are_reported_too(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda *about: [])
    path = made_records.write(
        tmp_path / "v.jsonl",
        methods=("scratch", "mps_ams"),
        draws=(0, 1),
        seeds=(0,),
        labels=(0.1,),
        recipes=("strong",),
        more_scratch=(),
        data="brats",
        patients=5,
    )
    (written,) = report.main([str(path), "--out", str(tmp_path), "--against", "scratch"])
    text = written.read_text(encoding="utf-8")
    assert (
        "## Table 1: rivals, recipe “strong”, per image" in text
        and "## Table 1: rivals, recipe “strong”, per volume" in text
    )
    assert "30 test images of 5 patients" in text and "p over" in text and "U-Net against each" in text
    assert (written.parent / "tables-volume.csv").exists() and (
        written.parent / "table1-strong-all-volume.tex"
    ).exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["absent.jsonl"], "absent.jsonl cannot be read as records"),
        (["bad.jsonl"], "bad.jsonl, line 1 has plan None; expected a text"),
        ([], "no records in results/; name the records.jsonl"),
        (["--against", "moco"], "against is 'moco'; expected one of: scratch, simclr"),
    ],
)
def test_what_is_refused_is_a_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text(json.dumps({"event": "result", "time": 1}) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["train.report", *arguments])
    with pytest.raises(SystemExit) as refused:
        run(report.main, "train.report")
    assert str(refused.value).startswith("train.report: ") and message in str(refused.value)


def test_plans_get_reports_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "draw", lambda *about: [])
    (tmp_path / "results").mkdir()
    for name in ("one", "two"):
        made_records.write(
            tmp_path / "results" / f"{name}.jsonl",
            methods=("mps_ams",),
            seeds=(0,),
            draws=(0,),
            labels=(0.1,),
            recipes=("strong",),
            plan=name,
        )
    assert [path.parent.name for path in report.main([])] == ["one", "two"]


def test_leakage_is_reported_with_the_tables(tmp_path):
    path = made_records.write(tmp_path / "made-up.jsonl", seeds=[0], draws=[0], recipes=["strong"])
    kinds = {
        name: {"pairs": 168, "torn": torn, "test_leaked": leaked}
        for name, torn, leaked in (("grouped", 0, 0.0), ("random", 60, 0.372))
    }
    jsonl.append(path, "leakage", plan="made-up", data="busi", **kinds)
    (written,) = report.main([str(path), "--out", str(tmp_path / "out")])
    text = written.read_text(encoding="utf-8")
    assert (
        "168 pairs of images are near-duplicates" in text
        and "0.0% of the test images with a twin" in text
        and "seed, 37.2%." in text
    )
