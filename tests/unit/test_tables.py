"""Tables from records: reading, three ways of averaging, intervals, paired tests and power, against loops and
hand-computed values.
"""

import csv
import io
import itertools
import json
import math
import re

import numpy as np
import pytest

from mpsams import metrics, tables
from mpsams.tables import Comparison, comparisons, effects, writing
from tests.support import made_records

COLUMNS = made_records.COLUMNS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_records.write(
        tmp_path_factory.mktemp("made") / "made.jsonl",
        methods=("scratch", "simclr", "mae", "mps_ams"),
        recipes=("strong",),
    )


@pytest.fixture(scope="module")
def results(made):
    return tables.read(made)


def row(method="mps_ams", seed=0, draw=0, dsc=(0.5, 0.7), **more):
    """A result whose images have these DSC: lesions of 100 pixels, of which as many are hit as said."""
    cases = {f"benign ({k})": [value, value, value, 100 * value, 100, 100] for k, value in enumerate(dsc)}
    return made_records.result(method, seed, draw, 0.1, "strong") | {"cases": cases} | more


def lines(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


# --- reading


def test_runs_of_several_machines_make_the_same_results_in_any_order(made, results, tmp_path):
    text = made.read_text(encoding="utf-8").splitlines()
    one, two = (
        lines(tmp_path / "1.jsonl", map(json.loads, text[::2])),
        lines(tmp_path / "2.jsonl", map(json.loads, text[1::2])),
    )
    merged = tables.read([two, str(one), one])
    assert [run.key for run in merged.runs] == [run.key for run in results.runs]
    assert all((a.scores_nk == b.scores_nk).all() for a, b in zip(merged.runs, results.runs, strict=True))
    assert merged.pretrainings == results.pretrainings and len(merged.pretrainings) == 3 * 2
    assert results.repeats == 0 and merged.repeats == sum(json.loads(t)["event"] == "result" for t in text[::2])
    assert results.methods == ("scratch", "simclr", "mae", "mps_ams") and results.labels == (0.05, 0.1, 0.5, 1.0)
    assert results.cases == tuple(sorted(made_records.CASES)) and results.unit == "images" and not results.volumes


def test_the_first_record_of_a_run_counts(tmp_path):
    found = tables.read(lines(tmp_path / "r.jsonl", [row(dsc=(0.9, 0.9), time=8.0), row(dsc=(0.5, 0.7), time=3.0)]))
    assert found.runs[0].scores_nk[:, 0].tolist() == [0.5, 0.7] and found.repeats == 1


def test_a_run_with_a_teacher_is_compared_with_its_start(tmp_path):
    rows = [row("base", 0, d, [0.5 + 0.01 * d] * 2) | {"method": "geodesic"} for d in (0, 1, 2)]
    rows += [row("base", 0, d, [0.6 + 0.02 * d] * 2) | {"method": "geodesic", "recipe": "teacher"} for d in (0, 1, 2)]
    rows += [row("scratch", None, d, [0.4] * 2, recipe="teacher") for d in (0, 1)]
    found = tables.read(lines(tmp_path / "r.jsonl", rows))
    assert found.methods == ("geodesic", "geodesic+teacher", "scratch+teacher") and found.recipes == ("strong",)
    assert tables.tables_with_runs(found) == ("few_labels",)
    compared = {c.rival: c for c in tables.compare(found, "few_labels", method="geodesic+teacher")}
    assert compared["geodesic"].mean == pytest.approx(0.11) and compared["scratch"].mean is None
    table = tables.table(found, "few_labels")
    assert (0.1, "scratch+teacher", None, 2) in table.missing and (0.1, "scratch", None, 0) in table.missing
    assert "| 10% | geodesic map, teacher |" in tables.markdown(table)


def test_columns_are_found_by_name_and_more_of_them_do_no_harm(tmp_path):
    turned = row(columns=["hd95", *COLUMNS[::-1]])
    turned["cases"] = {case: [3.5, *values[::-1]] for case, values in turned["cases"].items()}
    plain = tables.read(lines(tmp_path / "a.jsonl", [row()]))
    assert (tables.read(lines(tmp_path / "b.jsonl", [turned])).runs[0].scores_nk == plain.runs[0].scores_nk).all()


def test_rows_of_a_plan_and_of_volumes(tmp_path):
    path = made_records.write(
        tmp_path / "v.jsonl",
        methods=("scratch",),
        draws=(0,),
        labels=(0.1,),
        recipes=("strong",),
        more_scratch=(),
        plan="brats-gpu",
        data="brats",
        patients=3,
    )
    other = lines(tmp_path / "other.jsonl", [row(plan="busi-cpu")])
    assert tables.plans([other, path]) == {"brats-gpu": [path], "busi-cpu": [other]}
    slices, volumes = tables.read([path, other], "brats-gpu"), tables.read([path, other], "brats-gpu", per="volume")
    assert slices.volumes and slices.unit == "patients" and slices.groups[:7] == ("p00",) * 6 + ("p01",)
    assert volumes.cases == volumes.groups == ("p00", "p01", "p02") and volumes.unit == "volumes"
    assert (volumes.runs[0].scores_nk[:, 5] == slices.runs[0].scores_nk[:, 5].reshape(3, 6).sum(axis=1)).all()
    with pytest.raises(ValueError, match="brats.*'busi'|busi.*'brats'"):
        tables.read([path, other])


def test_a_row_that_was_cut_off_is_left_out(tmp_path):
    path = lines(tmp_path / "r.jsonl", [row(), row(draw=1)])
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert len(tables.read(path).runs) == 1


@pytest.mark.parametrize(
    "second, message",
    [
        (row(draw=1, split="other"), "line 2 has split 'other'"),
        (row(draw=1, data="brats"), "line 2 has data 'brats'"),
        (row(draw=1, width=64), "line 2 has width 64.*16"),
        (row(draw=1, dsc=(0.5, 0.6, 0.7)), r"line 2 measured other images than .*line 1 \(3 and 2\)"),
        (row(draw=1, cases={"benign (0)": [0, 0, 0, 0, 1, 90], "benign (1)": [0, 0, 0, 0, 1, 100]}), "another truth"),
        (row(draw=1, cases={}), "line 2 has no cases"),
        (row(draw=1, cases={"benign (0)": [0.5, 0.5], "benign (1)": [0.5]}), "line 2 has a case without 6 numbers"),
        (row(draw=1, dsc=(0.5, 1.5)), r"line 2, case 'benign \(1\)': shares must lie in \[0, 1\]"),
        (row(draw=1, dsc=(0.5, float("nan"))), r"line 2, case 'benign \(1\)'"),
        (row(draw=1, columns=["dsc", "ppv"]), "line 2 has columns.*expected dsc, ppv, sen, hit, said, real"),
        (row() | {"draw": "one"}, "line 2 has draw 'one'; expected a number"),
        (row() | {"draw": 1.5}, "line 2 has draw 1.5; expected a whole number"),
        (row(draw=1, labels=10), "line 2 has labels 10; expected a share"),
        (row(draw=1) | {"method": 3}, "line 2 has method 3; expected a text"),
        (
            made_records.pretraining("mae", 0) | {"facts": {"effective_rank": 3}},
            "line 2 has a loss or a fact that is no list",
        ),
        ([1, 2], "line 2 is no record"),
        ({"time": 3}, "line 2 is no record"),
    ],
)
def test_what_is_wrong_with_a_row_is_reported_with_its_line(tmp_path, second, message):
    with pytest.raises(ValueError, match=message) as refused:
        tables.read(lines(tmp_path / "r.jsonl", [row(), second]))
    assert "r.jsonl" in str(refused.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="absent.jsonl cannot be read"):
        tables.read(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="no result.*train.reproduce"):
        tables.read(lines(tmp_path / "p.jsonl", [made_records.pretraining("mae", 0)]))
    with pytest.raises(ValueError, match="no result of plan 'x'"):
        tables.read(lines(tmp_path / "r.jsonl", [row()]), plan="x")
    with pytest.raises(ValueError, match="per is 'slice'; expected image or volume"):
        tables.read(tmp_path / "r.jsonl", per="slice")
    with pytest.raises(ValueError, match="line 1 has no volumes"):
        tables.read(tmp_path / "r.jsonl", per="volume")


# --- means


def summed(run):
    """``metrics.summary`` of a run."""
    return metrics.summary([dict(zip(COLUMNS, values), hd95=0.0, assd=0.0) for values in run.scores_nk.tolist()])


@pytest.mark.parametrize("averaging, suffix", [("all", ""), ("lesion", "_lesion"), ("pooled", "_pooled")])
def test_a_cell_is_the_mean_over_runs_of_what_metrics_says(results, averaging, suffix):
    line = next(
        line for line in tables.table(results, averaging=averaging).rows if (line.method, line.labels) == ("mae", 0.05)
    )
    each = [summed(run) for run in results.of("mae", 0.05, "strong")]
    assert line.runs == len(each) == 6
    for measure in tables.MEASURES:
        values = [means[measure + suffix] for means in each]
        cell = line.cells[measure]
        assert cell.values == pytest.approx(values)
        assert (cell.mean, cell.sd) == pytest.approx(
            (sum(values) / 6, math.sqrt(sum((v - sum(values) / 6) ** 2 for v in values) / 5))
        )
    assert line.cells["false_alarms"].mean == pytest.approx(np.mean([means["false_alarms"] for means in each]))


@pytest.mark.parametrize("kept", ["normal", "benign"])
@pytest.mark.parametrize("predicted", [True, False])
def test_scores_of_nothing_are_as_in_metrics(results, kept, predicted):
    run = results.runs[0]
    scores_nk = run.scores_nk[[name.startswith(kept) for name in results.cases]]
    if not predicted:
        scores_nk = scores_nk.copy()
        scores_nk[:, :3], scores_nk[:, 3:5] = (scores_nk[:, 5:] == 0), 0
    means = summed(type("Run", (), {"scores_nk": scores_nk}))
    for averaging, suffix in (("all", ""), ("lesion", "_lesion"), ("pooled", "_pooled")):
        for measure in tables.MEASURES:
            assert tables.score(scores_nk[None], averaging, measure)[0, 0] == pytest.approx(
                means[measure + suffix], nan_ok=True
            )
    assert tables.score(scores_nk[None], "all", "false_alarms")[0, 0] == pytest.approx(
        means["false_alarms"], nan_ok=True
    )


def test_resampling_draws_as_many_groups_and_keeps_a_patient_together():
    weights_bn = tables.resample(["a", "a", "b", "c", "c", "c"], 500)
    assert (weights_bn[:, 0] == weights_bn[:, 1]).all() and (weights_bn[:, 3] == weights_bn[:, 5]).all()
    assert (weights_bn[:, [0, 2, 3]].sum(axis=1) == 3).all() and weights_bn[:, 0].mean() == pytest.approx(1, abs=0.12)
    assert (tables.resample("abc", 500) == tables.resample("abc", 500)).all()


@pytest.mark.parametrize(
    "averaging, measure", [("lesion", "dsc"), ("all", "ppv"), ("pooled", "dsc"), ("pooled", "sen")]
)
def test_the_squared_error_over_images_is_that_of_a_slow_bootstrap(results, averaging, measure):
    runs = results.of("simclr", 0.1, "strong")[:2]
    source, means = np.random.default_rng(5), []
    suffix = {"all": "", "lesion": "_lesion", "pooled": "_pooled"}[averaging]
    for _ in range(400):
        drawn = source.integers(len(results.cases), size=len(results.cases))
        means.append(
            np.mean([summed(type("Run", (), {"scores_nk": run.scores_nk[drawn]}))[measure + suffix] for run in runs])
        )
    scores_rnk = np.array([run.scores_nk for run in runs])
    found, df = tables.over_images(results.groups, scores_rnk, averaging, measure, tables.resample(results.groups))
    assert df == (33 if averaging == "lesion" else 41) and math.sqrt(found) == pytest.approx(np.std(means), rel=0.15)


def test_the_interval_of_a_mean_is_that_of_draws_pretrainings_and_images(results):
    """By loops: the means of 3 draws, those of 2 seeds pooled over both pretrained methods with them, and the bootstrap
    over images.
    """
    from scipy.stats import t

    score = {
        m: [
            [
                float(np.mean([case[0] for case in run.scores_nk]))
                for run in results.of(m, 0.1, "strong")
                if run.seed == s
            ]
            for s in (0, 1)
        ]
        for m in ("simclr", "mae", "mps_ams")
    }
    by_draw = [(score["mae"][0][d] + score["mae"][1][d]) / 2 for d in range(3)]
    variances = {m: np.var([np.mean(row) for row in rows], ddof=1) for m, rows in score.items()}
    seeds = max(np.mean(list(variances.values())), variances["mae"]) / 2
    runs_rnk = np.array([run.scores_nk for run in results.of("mae", 0.1, "strong")])
    images, _ = tables.over_images(results.groups, runs_rnk, "all", "dsc", tables.resample(results.groups))
    half = math.sqrt(
        sum(v * t.ppf(0.975, df) ** 2 for v, df in ((np.var(by_draw, ddof=1) / 3, 2), (seeds, 3), (images, 41)))
    )
    cell = next(
        line for line in tables.table(results, averaging="all").rows if (line.method, line.labels) == ("mae", 0.1)
    ).cells["dsc"]
    assert (cell.low, cell.high) == pytest.approx((max(0, np.mean(by_draw) - half), min(1, np.mean(by_draw) + half)))
    assert cell.scope == effects.ALL and cell.mean == pytest.approx(np.mean(by_draw))


def test_scores_that_are_all_the_same_have_no_interval(tmp_path):
    found = tables.table(
        tables.read(lines(tmp_path / "r.jsonl", [row("mae", s, d, (1.0, 1.0)) for s in (0, 1) for d in (0, 1)]))
    )
    cell = next(line for line in found.rows if line.method == "mae").cells["dsc"]
    assert (cell.mean, cell.sd, cell.low, cell.high) == (1, 0, None, None) and "| 1.000 ± 0.000 |" in tables.markdown(
        found
    )
    assert "(" not in tables.latex(found).split("MAE &")[1].splitlines()[0]


def test_intervals_say_what_they_hold_for(results):
    def cut(keep):
        return tables.table(
            tables.Results(
                **{**vars(results), "runs": tuple(run for run in results.runs if run.labels == 0.1 and keep(run))}
            )
        )

    one_seed, one_draw, one_run = (
        cut(lambda r: r.seed in (None, 0)),
        cut(lambda r: r.draw == 0),
        cut(lambda r: r.seed in (None, 0) and r.draw == 0),
    )
    scopes = [
        {line.method: line.cells["dsc"].scope for line in found.rows if line.runs}
        for found in (one_seed, one_draw, one_run)
    ]
    assert scopes[0] == {"scratch": "all"} | dict.fromkeys(("simclr", "mae", "mps_ams"), "pretrainings")
    assert set(scopes[1].values()) == {"draw"} and set(scopes[2].values()) == {"networks"}
    marks = {
        "†": "for these pretrainings only",
        "‡": "for this draw of labels only",
        "§": "for these trained networks only",
    }
    for found, (mark, words) in zip((one_seed, one_draw, one_run), marks.items(), strict=True):
        assert f"){mark} |" in tables.markdown(found) and f"; {mark} {words}" in tables.note(found)
        assert "\\dag" in tables.latex(found) or mark != "†"
        assert not any(other in tables.latex(found).split("tabular")[1] for other in "†‡§")
        rows = list(csv.DictReader(io.StringIO(tables.csv([found]))))
        assert (
            next(r for r in rows if r["method"] == "mae")["scope"]
            == next(line for line in found.rows if line.method == "mae").cells["dsc"].scope
        )
    assert "†" not in tables.markdown(tables.table(results))


def test_runs_that_are_missing_leave_a_dash_and_are_reported(made, tmp_path):
    rows = [json.loads(text) for text in made.read_text(encoding="utf-8").splitlines()]
    rows = [
        r
        for r in rows
        if r["event"] == "result" and not (r["method"] == "mae" and r["labels"] == 0.05) and r["labels"] < 0.5
    ]
    rows = [r for r in rows if (r["method"], r["seed"], r["draw"], r["labels"]) != ("simclr", 1, 2, 0.1)]
    found = tables.table(tables.read(lines(tmp_path / "r.jsonl", rows)))
    assert (0.1, "simclr", 1, 2) in found.missing and sum(
        labels == 0.05 and method == "mae" for labels, method, *_ in found.missing
    ) == 6
    empty = next(line for line in found.rows if (line.method, line.labels) == ("mae", 0.05))
    assert empty.runs == 0 and empty.cells["dsc"].mean is None and empty.cells["dsc"].low is None
    text = tables.markdown(found)
    assert "| 5% | MAE | – | – | – | – | – |" in text and "| 5% | BYOL | – |" in text
    assert "at 5%: U-Net 3, SimCLR 6, BYOL –" in text and "6 of MAE at 5%" in text and "1 of SimCLR at 10%" in text


def test_label_shares_of_scratch_alone_have_one_line(results):
    rows = tables.table(results).rows
    assert [line.method for line in rows if line.labels == 0.5] == ["scratch"]
    assert [line.method for line in rows if line.labels == 0.1] == list(tables.TABLES["table1"])
    assert [line.labels for line in tables.table(results, "table2").rows] == [0.05] * 4 + [0.1] * 4


def test_unknown_names_are_refused(results):
    with pytest.raises(ValueError, match="table is 'table3'; expected one of: table1, table2"):
        tables.table(results, "table3")
    with pytest.raises(ValueError, match="averaging is 'mean'; expected one of: lesion, all, pooled"):
        tables.table(results, averaging="mean")


def test_per_image_is_the_mean_over_runs(results):
    found = tables.per_image(results, "mae", 0.1, "strong")
    assert len(found) == 34 and not any(case.startswith("normal") for case in found)
    at = results.cases.index("benign (7)")
    assert found["benign (7)"] == pytest.approx(
        np.mean([run.scores_nk[at, 0] for run in results.of("mae", 0.1, "strong")])
    )
    assert tables.per_image(results, "byol", 0.1, "strong") == {}


# --- comparisons


def test_holm_by_hand():
    assert tables.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert tables.holm([0.5, None, 0.6, 0.02]) == [1.0, None, 1.0, pytest.approx(0.06)]
    assert tables.holm([]) == [] and tables.holm([None]) == [None]


def compared(tmp_path, rows, **how):
    found = {c.rival: c for c in tables.compare(tables.read(lines(tmp_path / "r.jsonl", rows)), **how)}
    return {rival: c for rival, c in found.items() if c.by_draw or rival == "byol"}


def test_methods_are_compared_on_the_draws_they_share_with_seeds_averaged(tmp_path):
    rows = [row("mps_ams", s, d, [0.5 + 0.1 * s + 0.01 * d + 0.002 * s * d] * 2) for s in (0, 1) for d in (0, 1, 2)]
    rows += [row("mae", s, d, [0.4 + 0.1 * s] * 2) for s, d in ((0, 0), (0, 1), (1, 1), (2, 2), (1, 7))]
    rows += [row("scratch", None, d, [0.3 + 0.02 * d] * 2) for d in (1, 2, 3)]
    found = compared(tmp_path, rows)
    assert [draw for draw, _ in found["mae"].by_draw] == [0, 1, 2] and found["mae"].seeds == (2, 3)
    assert [difference for _, difference in found["mae"].by_draw] == pytest.approx([0.15, 0.561 - 0.45, 0.572 - 0.6])
    assert found["mae"].mean == pytest.approx((0.15 + 0.111 - 0.028) / 3)
    assert found["scratch"].by_draw == ((1, pytest.approx(0.241)), (2, pytest.approx(0.232))) and found[
        "scratch"
    ].seeds == (2, 0)
    assert (
        found["mae"].rival_mean == pytest.approx((0.4 + 0.4 + 0.5 + 0.5 + 0.6) / 5)
        and found["byol"].by_draw == ()
        and found["byol"].mean is None
    )


def test_interval_and_p_over_runs_by_loops(results):
    """The variance of the draws' differences, and that of seeds pooled over the three pretrained methods
    of the table.
    """
    from scipy.stats import t

    score = {
        m: [
            [
                float(np.mean([case[0] for case in run.scores_nk]))
                for run in results.of(m, 0.05, "strong")
                if run.seed == s
            ]
            for s in (0, 1)
        ]
        for m in ("simclr", "mae", "mps_ams")
    }
    by_draw = [np.mean([score["mps_ams"][s][d] - score["mae"][s][d] for s in (0, 1)]) for d in range(3)]
    variances = {m: np.var([np.mean(row) for row in rows], ddof=1) for m, rows in score.items()}
    seeds = max(2 * np.mean(list(variances.values())), variances["mps_ams"] + variances["mae"]) / 2
    half = math.sqrt(np.var(by_draw, ddof=1) / 3 * t.ppf(0.975, 2) ** 2 + seeds * t.ppf(0.975, 3) ** 2)
    c = next(c for c in tables.compare(results, averaging="all") if (c.rival, c.labels) == ("mae", 0.05))
    assert (c.mean, c.low, c.high) == pytest.approx(
        (np.mean(by_draw), np.mean(by_draw) - half, np.mean(by_draw) + half)
    )
    assert (
        c.error == pytest.approx(math.sqrt(np.var(by_draw, ddof=1) / 3 + seeds))
        and c.scope == "all"
        and c.seeds == (2, 2)
    )
    alone = comparisons._pair(results, ("mps_ams", "mae"), 0.05, "strong", "all", "dsc")
    assert (
        (alone.p_runs < 0.05) == (alone.low > 0 or alone.high < 0)
        and c.p_runs >= alone.p_runs
        and c.p_cases >= alone.p_cases
    )


def test_with_one_pretraining_each_a_paired_t_test_for_these_pretrainings_only(tmp_path):
    from scipy.stats import ttest_rel

    gains = (0.2, 0.21, 0.2, 0.19)
    ours = [[0.4 + 0.05 * d + gain, 0.5 + gain] * 4 for d, gain in enumerate(gains)]
    rows = [row("mps_ams", 0, d, dsc) for d, dsc in enumerate(ours)] + [
        row("mae", 0, d, [0.4 + 0.05 * d, 0.5] * 4) for d in range(4)
    ]
    found, slow = (
        compared(tmp_path, rows)["mae"],
        ttest_rel(np.mean(ours, axis=1), [0.45 + 0.025 * d for d in range(4)]),
    )
    assert (found.low, found.high) == pytest.approx(
        tuple(slow.confidence_interval(0.95))
    ) and found.p_runs == pytest.approx(slow.pvalue)
    assert found.scope == "pretrainings" and found.shown_here and not found.shown and found.needed_seeds is None
    sentence = tables.sentence(found)
    assert (
        "for these pretrainings only, from 4 draws × 1 pretraining;" in sentence
        and "a difference is shown for these pretrainings only." in sentence
    )
    assert "| only for these pretrainings |" in tables.comparison_table([found])
    more = compared(tmp_path, rows + [row("simclr", s, d, [0.4 + 0.1 * s] * 8) for s in (0, 1) for d in range(4)])[
        "mae"
    ]
    assert more.scope == "all" and more.low < found.low  # another method tells how much pretrainings vary


def test_signed_ranks_count_all_signs(tmp_path):
    ours, theirs = (0.9, 0.8, 0.33, 0.7, 0.66, 0.51), (0.5, 0.75, 0.4, 0.42, 0.65, 0.3)
    found = compared(tmp_path, [row("mps_ams", 0, 0, ours), row("mae", 0, 0, theirs)])["mae"]
    difference = np.subtract(ours, theirs)
    ranks = np.argsort(np.argsort(abs(difference))) + 1
    sums = [sum(rank for rank, up in zip(ranks, signs) if up) for signs in itertools.product((0, 1), repeat=6)]
    mine = sum(ranks[difference > 0])
    p = 2 * min(np.mean([s >= mine for s in sums]), np.mean([s <= mine for s in sums]))
    assert found.p_cases == pytest.approx(min(1, p))
    assert (
        found.p_runs is None
        and found.low is None
        and found.smallest is None
        and found.needed is None
        and not found.shown
    )


def test_only_images_with_a_lesion_are_ranked_and_pooled_scores_not_at_all(results):
    lesion, everything, pooled = (
        next(c for c in tables.compare(results, averaging=averaging) if (c.rival, c.labels) == ("simclr", 0.1))
        for averaging in ("lesion", "all", "pooled")
    )
    assert lesion.p_cases != everything.p_cases and pooled.p_cases is None and pooled.p_runs is not None


def test_equal_methods_are_level_and_not_shown(tmp_path):
    rows = [row(method, 0, d, (0.5, 0.6, 0.1 * d)) for method in ("mae", "mps_ams") for d in (0, 1)]
    found = compared(tmp_path, rows)["mae"]
    assert (found.mean, found.error, found.p_runs, found.p_cases, found.smallest, found.needed) == (
        0,
        0,
        1,
        1,
        0,
        (2, 2),
    )
    assert tables.sentence(found).startswith(
        "MPS-AMS and MAE are level"
    ) and "no difference could be shown" in tables.sentence(found)


def test_several_seeds_on_one_draw_are_for_this_draw_only(tmp_path):
    rows = [
        row(method, s, 4, [0.4 + gain + 0.02 * s * (gain > 0)] * 3)
        for s in (0, 1, 2)
        for method, gain in (("mae", 0), ("mps_ams", 0.05))
    ]
    found = compared(tmp_path, rows)["mae"]
    assert (found.scope, found.seeds, found.by_draw) == (
        "draw",
        (3, 3),
        ((4, pytest.approx(0.07)),),
    ) and found.mean == pytest.approx(0.07)
    assert found.error == pytest.approx(0.02 / math.sqrt(3))  # of MPS-AMS; that of MAE is 0
    assert "for this draw of labels only, from 1 draw × 3 pretrainings;" in tables.sentence(found)
    assert re.search(r"would need about \d+ to \d+ pretrainings\.$", tables.sentence(found))


def test_what_is_needed_multiplies_draws_and_pretrainings_alike(results):
    c = next(c for c in tables.compare(results) if (c.rival, c.labels) == ("mae", 0.05))
    low, high = effects.times_larger(c.error, c.df, 0.02)
    assert (
        c.needed == (math.ceil(3 * low), math.ceil(3 * high))
        and c.needed_seeds == (math.ceil(2 * low), math.ceil(2 * high))
        and low < high
    )
    assert c.smallest == pytest.approx(effects.detectable(c.error, c.df))


def test_the_strongest_rival_has_the_highest_mean(results):
    found = tables.compare(results)
    means = {
        m: np.mean([summed(run)["dsc_lesion"] for run in results.of(m, 0.1, "strong")])
        for m in ("scratch", "simclr", "mae")
    }
    assert tables.strongest(found, 0.1).rival == max(means, key=means.get) == "mae"
    assert tables.strongest(found, 0.5) is None and {c.labels for c in found} == {0.05, 0.1} and len(found) == 12


ABOUT = {
    "method": "mps_ams",
    "rival": "simclr",
    "labels": 0.1,
    "rival_mean": 0.6,
    "unit": "images",
    "by_draw": ((0, 0.012),) * 6,
    "seeds": (2, 2),
    "mean": 0.012,
}
KNOWN = {
    "scope": "all",
    "error": 0.007,
    "df": 5.0,
    "low": -0.004,
    "high": 0.028,
    "p_runs": 0.31,
    "p_cases": 0.04,
    "smallest": 0.021,
    "needed": (41, 1106),
    "needed_seeds": (14, 369),
}


def test_sentences_say_what_the_numbers_say():
    c = Comparison(**ABOUT, **KNOWN)
    assert (
        tables.sentence(c)
        == "MPS-AMS is ahead of SimCLR by 0.012 with 10% of the labels (95% interval −0.004 … +0.028 for other draws"
        " and pretrainings, from 6 draws × 2 pretrainings; after correction p = 0.31 over runs and p = 0.04 over"
        " images for these trained networks only): no difference could be shown. Detectable at 80% power: 0.021;"
        " detecting 0.02 would need about 41 to 1100 draws and 14 to 370 pretrainings of each method."
    )
    shown = Comparison(**(vars(c) | {"mean": -0.03, "p_runs": 0.01, "p_cases": 0.0001}))
    assert "MPS-AMS is behind SimCLR by 0.030" in tables.sentence(
        shown
    ) and "networks only): a difference is shown. Detectable" in tables.sentence(shown)
    assert (
        shown.shown
        and not Comparison(**(vars(shown) | {"p_cases": 0.2})).shown
        and Comparison(**(vars(shown) | {"p_cases": None})).shown
    )
    assert "× 2 and 1 pretrainings;" in tables.sentence(Comparison(**(vars(c) | {"seeds": (1, 2)})))
    assert "from 6 draws × 2 pretrainings;" in tables.sentence(Comparison(**(vars(c) | {"seeds": (2, 0)})))
    alone = tables.sentence(Comparison(**(ABOUT | {"by_draw": ((0, 0.012),), "seeds": (1, 1)}), p_cases=0.001))
    assert (
        "on one draw and with one pretraining" in alone
        and "no interval can be given, and no difference could be shown" in alone
    )
    none = Comparison(**(ABOUT | {"by_draw": (), "mean": None}))
    assert tables.sentence(none) == "MPS-AMS and SimCLR share no draw with 10% of the labels: they cannot be compared."


# --- writing down

PAPER = {
    "busi": {
        "5": {"scratch": [0.3863, 0.5234, 0.4531], "mps_ams": [0.5002, 0.7034, 0.5661]},
        "100": {"scratch": [0.6821, 0.8005, 0.6542]},
    }
}


def cells_of(text):
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]


def test_markdown_has_the_numbers_the_best_in_bold_and_the_papers(results):
    found = tables.table(results, paper=PAPER)
    head, _, *rows = cells_of(tables.markdown(found))
    assert [c.strip() for c in head] == [
        "Labels",
        "Method",
        "DSC",
        "paper",
        "PPV",
        "paper",
        "Sen",
        "paper",
        "False alarms",
        "Runs",
    ]
    assert all(len(cells) == len(head) for cells in rows) and len(rows) == 2 * 7 + 2
    best = max(
        (line for line in found.rows if line.labels == 0.05 and line.runs), key=lambda line: line.cells["dsc"].mean
    )
    for line, cells in zip(found.rows, rows, strict=True):
        cell = line.cells["dsc"]
        if cell.mean is not None:
            assert f"{cell.mean:.3f}" in cells[2] and f"± {cell.sd:.3f} ({cell.low:.3f}–{cell.high:.3f})" in cells[2]
        assert cells[2].startswith("**") == (line is best or (line.labels == 0.1 and line.method == "mps_ams"))
    # alone, so not bold
    assert rows[0][3] == "0.386" and rows[6][3] == "**0.500**" and rows[1][3] == "–" and rows[-1][3] == "0.682"
    assert "paper" not in tables.markdown(tables.table(results))


def test_fewest_false_alarms_are_best():
    cells = [tables.Cell("mae", 0.1, "false_alarms", (v,), v, None, v, v) for v in (0.2, 0.1, 0.3)]
    block = [tables.Line("mae", 0.1, 1, {"false_alarms": cell}) for cell in cells]
    assert [writing._best(block, cell, "mean") for cell in cells] == [False, True, False]


def test_csv_is_long_and_exact(results):
    made = [tables.table(results, averaging=averaging, paper=PAPER) for averaging in tables.AVERAGINGS]
    rows = list(csv.DictReader(io.StringIO(tables.csv(made))))
    assert len(rows) == (2 * 7 + 2) * (3 * 3 + 1)  # false alarms once
    cell = next(line for line in made[0].rows if (line.method, line.labels) == ("mps_ams", 0.05)).cells["ppv"]
    (found,) = (
        r
        for r in rows
        if (r["method"], r["labels"], r["averaging"], r["measure"]) == ("mps_ams", "0.05", made[0].averaging, "ppv")
    )
    assert [float(found[key]) for key in ("mean", "sd", "low", "high")] == pytest.approx(
        [cell.mean, cell.sd, cell.low, cell.high], abs=1e-6
    )
    assert (
        found["paper"] == "0.7034"
        and found["runs"] == "6"
        and found["recipe"] == "strong"
        and found["table"] == "table1"
    )
    assert next(r for r in rows if r["method"] == "byol")["mean"] == ""


@pytest.mark.parametrize("paper", [None, PAPER])
def test_latex_is_a_whole_table(results, paper):
    text = tables.latex(tables.table(results, paper=paper))
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    columns = 2 + 3 * (3 if paper else 2) + 2 + 1
    spec = text.split("\\begin{tabular}{")[1].splitlines()[0].replace("@{\\,}", "")[:-1]
    assert len(spec) == columns and text.count("{") == text.count("}")
    for line in rows:
        spans = sum(int(part[0]) - 1 for part in line.split("\\multicolumn{")[1:])
        assert line.count("&") + 1 + spans == columns, line
    assert "5\\% & U-Net" in text and all("%" not in line.replace("\\%", "") for line in rows)
    assert text.count("\\midrule") == 4 and "\\textbf{" in text


def test_comparisons_as_table_and_csv(results):
    found = tables.compare(results)
    head, _, *rows = cells_of(tables.comparison_table(found))
    assert len(rows) == 12 and all(len(cells) == len(head) for cells in rows)
    assert next(cells for cells in rows if cells[1] == "BYOL")[-1] == "cannot be said"
    text = list(csv.DictReader(io.StringIO(tables.comparisons_csv([(("table1", "strong", "lesion"), found)]))))
    assert float(text[0]["mean"]) == pytest.approx(found[0].mean, abs=1e-6) and text[0]["rival"] == "scratch"
    assert (text[0]["draws"], text[0]["seeds"], text[0]["rival_seeds"], text[0]["scope"]) == ("3", "2", "0", "all")


def test_a_table_without_runs_says_so(results):
    assert "No run of its methods" in tables.markdown(tables.table(results, recipe="paper"))
    assert (
        tables.format_signed(-0.0001) == "0.000"
        and tables.format_signed(-0.02) == "−0.020"
        and tables.format_signed(None) == "–"
    )
