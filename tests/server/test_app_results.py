"""Texts of Segment & compare and Results, without a browser: agreement, scores, which networks take part, tables and
sentences.
"""

from __future__ import annotations

import csv
import itertools
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpsams import checkpoint, inference, metrics, plots, tables
from mpsams.app.components import network_grid, result_reader, result_report
from mpsams.app.components.result_report import Choice
from mpsams.app.tabs import results
from mpsams.datasets import phantom
from mpsams.imaging import MODALITIES
from mpsams.inference import case as _case
from mpsams.inference import comparison, figure_rows, network_names, open_case, slice_scores
from mpsams.inference.comparison import SliceComparison, SlicePredictions, Thresholds
from mpsams.inference.registry import ModelRegistry
from mpsams.unet import UNet
from tests.support import made_records

SEG = tuple(f"busi-{method}-seg-10" for method in ("scratch", "simclr", "mps_ams"))
CHOICE = Choice("made-up", "table1", "strong", "lesion", "dsc", "image")


@pytest.fixture(scope="module")
def case() -> _case.Case:
    return open_case.open_sample(
        phantom.samples()[0], open_case.clustering_options(ModelRegistry("nowhere").clustering())
    )


@pytest.fixture(scope="module")
def compared(case) -> SliceComparison:
    """Three networks with known opinions on a case with truth: the truth, the truth and a stripe, nothing."""
    truth_ss = case.truth_11ss[0, 0].numpy().astype(np.float32)
    stripe_ss = truth_ss.copy()
    stripe_ss[:20] = 0.6
    return SliceComparison(
        SlicePredictions(case, dict(zip(SEG, (truth_ss, stripe_ss, np.zeros_like(truth_ss)), strict=True)), SEG[2]), 0.5
    )


# --- which networks


def test_networks_have_titles_in_the_papers_order_and_say_what_differs():
    assert list(network_names.titles_of(SEG[::-1]).values()) == ["From scratch", "SimCLR", "MPS-AMS"]
    assert network_names.titles_of(["busi-mae-seg-10", "busi-mae-seg-5"]) == {
        "busi-mae-seg-5": "MAE 5%",
        "busi-mae-seg-10": "MAE 10%",
    }
    assert set(network_names.titles_of(["a-mae-seg-5", "b-mae-seg-5", "mine"]).values()) == {
        "MAE 5% a",
        "MAE 5% b",
        "mine",
    }


def test_those_with_a_tenth_of_the_labels_take_part_unless_others_are_chosen():
    there = ["busi-mae-seg-10", "busi-mae-seg-5", "busi-scratch-seg-10"]
    assert network_names.choose_networks(there, ()) == ["busi-mae-seg-10", "busi-scratch-seg-10"]
    assert network_names.choose_networks(there, ["busi-mae-seg-5", "gone"]) == ["busi-mae-seg-5"]
    assert network_names.choose_networks(["busi-mae-seg-5"], ["gone"]) == ["busi-mae-seg-5"]


def test_an_encoder_alone_is_never_offered(tmp_path):
    metadata = {
        "size": 32,
        "model": {"channels": 1, "classes": 1, "width": 2, "norm": "batch"},
        "data": {"modality": "ultrasound"},
    }
    for method in tables.METHODS:
        checkpoint.save(
            tmp_path / f"busi-{method}-seg-10.safetensors",
            UNet(width=2).state_dict(),
            metadata | {"kind": "segmentation", "method": method},
        )
    for method, parts in (("simclr", ["encoder"]), ("base", ["encoder", "decoder"])):
        written = metadata | {"kind": "pretrain", "method": method, "transfers": parts}
        checkpoint.save(tmp_path / f"busi-{method}-pretrain.safetensors", UNet(width=2).state_dict(), written)
    registry = ModelRegistry(tmp_path)
    assert (
        registry.names("-pretrain") == ["busi-base-pretrain"]
        and registry.find("-simclr-pretrain", "ultrasound") is None
    )
    names = registry.segmenters("ultrasound")
    assert len(names) == len(tables.METHODS) and registry.segmenters("ct") == names  # far from home, but something


def test_a_network_of_each_method_and_the_assistants_stay_open_together(tmp_path):
    model = {"channels": 1, "classes": 1, "width": 2, "norm": "batch"}
    names = {f"busi-{method}-seg-10": "ultrasound" for method in tables.METHODS}
    names |= {f"{modality}-assist": modality for modality in MODALITIES}
    for name, modality in names.items():
        metadata = {"kind": "segmentation", "size": 32, "model": model, "data": {"modality": modality}}
        checkpoint.save(tmp_path / f"{name}.safetensors", UNet(**model).state_dict(), metadata)
    registry = ModelRegistry(tmp_path)
    opened = [registry.network(name) for name in names]
    assert all(registry.network(name) is network for name, network in zip(names, opened, strict=True))


def test_networks_of_another_modality_or_several_channels_take_no_part(tmp_path):
    for name, modality, channels in (
        ("busi-mae-seg-10", "ultrasound", 1),
        ("hecktor-mae-seg-10", "ct", 1),
        ("brats-mae-seg-10", "mri", 2),
    ):
        model = {"channels": channels, "classes": 1, "width": 2, "norm": "batch"}
        metadata = {"kind": "segmentation", "method": "mae", "size": 32, "model": model, "data": {"modality": modality}}
        checkpoint.save(tmp_path / f"{name}.safetensors", UNet(**model).state_dict(), metadata)
    registry = ModelRegistry(tmp_path)
    assert registry.segmenters("ct") == ["hecktor-mae-seg-10"] and registry.segmenters("ultrasound") == [
        "busi-mae-seg-10"
    ]
    assert registry.segmenters("mri") == ["busi-mae-seg-10"] and ModelRegistry(tmp_path / "none").segmenters("ct") == []


def test_networks_of_any_size_are_asked_once_for_a_slice(case, small_weights, monkeypatch):
    registry, calls = ModelRegistry(small_weights), []
    chance = inference.grid_probability
    monkeypatch.setattr(
        inference, "grid_probability", lambda network, *rest: calls.append(network.size) or chance(network, *rest)
    )
    steps = list(comparison.predict_slice(case, SEG, registry))
    assert (
        [predictions.waiting for predictions in steps] == [2, 1, 0]
        and list(steps[0].probabilities) == [SEG[2]]
        and steps[0].shown == SEG[2]
    )
    assert sorted(calls) == [128, 256, 256] and list(steps[-1].probabilities) == list(SEG)
    brighter = _case.set_window(case, (0.1, 0.6))
    (fewer,) = comparison.predict_slice(brighter, SEG[:2], registry, steps[-1])
    assert len(calls) == 3 and list(fewer.probabilities) == list(SEG[:2]) and fewer.shown == SEG[0]
    assert np.array_equal(fewer.probabilities[SEG[1]], chance(registry.network(SEG[1]), case.unit_hw, case.box))
    (none,) = comparison.predict_slice(case, (), registry)
    assert none.pictures == [] and none.shown == ""


# --- what they say


def overlap(said_hw: np.ndarray, real_hw: np.ndarray) -> dict[str, float]:
    """By the metrics of the evaluation."""
    both = (torch.as_tensor(np.ascontiguousarray(mask_hw))[None] for mask_hw in (said_hw, real_hw))
    return {name: float(value) for name, value in metrics.overlap(*both).items()}


def test_masks_scores_and_agreement_are_those_of_slow_loops(compared, case):
    slow = {
        name: inference.to_image(probability_ss, case.shape_hw, case.box) >= 0.5
        for name, probability_ss in compared.predictions.probabilities.items()
    }
    for name, mask_hw in slow.items():
        assert np.array_equal(compared.masks[name], mask_hw)
        slow_scores = overlap(mask_hw, case.truth_hw)
        assert slice_scores.scores(mask_hw, case) == pytest.approx(slow_scores)
        assert compared.scores[name] == pytest.approx(
            slow_scores | ({} if mask_hw.any() else {"ppv": np.nan}), nan_ok=True
        )
    pairs = [overlap(slow[a], slow[b])["dsc"] for a, b in itertools.combinations(SEG, 2)]
    assert compared.mean_agreement == pytest.approx(np.mean(pairs))
    share = np.mean(list(slow.values()), axis=0)
    assert comparison.disagreement(compared.votes_hw, 3) == pytest.approx(4 * share * (1 - share), abs=1e-6)


def test_masks_that_are_empty_count_as_metrics_say():
    nothing, all_of_it = np.packbits(np.zeros(64, bool)), np.packbits(np.ones(64, bool))
    assert slice_scores.overlap(nothing, nothing) == {"dsc": 1, "ppv": 1, "sen": 1}
    assert (
        slice_scores.overlap(all_of_it, nothing)
        == slice_scores.overlap(nothing, all_of_it)
        == {"dsc": 0, "ppv": 0, "sen": 0}
    )


def test_the_ppv_of_nothing_and_the_sensitivity_for_nothing_are_dashes(compared):
    assert "PPV –, Sen 0.00" in network_grid.cells(
        compared
    ) and "PPV – (of the outlined is lesion)" in network_grid.large(compared)
    normal = replace(compared.case, truth_xyz=np.zeros_like(compared.case.truth_xyz))
    scores = SliceComparison(replace(compared.predictions, case=normal)).scores
    assert (
        np.isnan(scores[SEG[0]]["sen"])
        and scores[SEG[0]]["ppv"] == 0
        and np.isnan(scores[SEG[2]]["ppv"])
        and scores[SEG[2]]["dsc"] == 1
    )


def test_each_network_has_a_threshold_of_its_own_on_its_image_alone(compared, case):
    thresholds = Thresholds().change(case, [SEG[1]], 0.7)
    own = SliceComparison(compared.predictions, own=thresholds.on(case))
    # the stripe of 0.6 is gone
    assert (
        np.array_equal(own.masks[SEG[0]], compared.masks[SEG[0]])
        and own.masks[SEG[1]].sum() < compared.masks[SEG[1]].sum()
    )
    assert "threshold 0.70" in network_grid.cells(own) and "Threshold 0.70." in network_grid.large(
        SliceComparison(replace(own.predictions, shown=SEG[1]), own=own.own)
    )
    both = thresholds.change(case, [SEG[0]], 0.3)
    assert dict(both.on(case)) == {SEG[1]: 0.7, SEG[0]: 0.3}
    other = open_case.open_sample(
        phantom.samples()[1], open_case.clustering_options(ModelRegistry("nowhere").clustering())
    )
    as_ct = _case.set_modality(case, "ct", open_case.clustering_options(ModelRegistry("nowhere").clustering()))
    assert both.on(other) == both.on(as_ct) == {} and dict(both.change(other, [SEG[0]], 0.4).on(other)) == {SEG[0]: 0.4}
    with pytest.raises(ValueError, match="between 0 and 1"):
        Thresholds().change(case, SEG, 1.0)


def test_the_networks_are_sorted_by_their_dsc_and_have_bars_in_colours_of_their_own(compared):
    best_first = sorted(SEG, key=lambda name: -compared.scores[name]["dsc"])
    assert (
        network_grid.ordered(compared, "dsc")[-3:] == best_first
        and network_grid.ordered(compared, "paper") == compared.predictions.pictures
    )
    bars = network_grid.bars(compared, "dsc")
    titles = [compared.predictions.titles[name] for name in best_first]
    places = [bars.index(f"<dt>{title}</dt>") for title in titles]
    assert places == sorted(places) and f"{compared.scores[SEG[1]]['dsc']:.3f}" in bars
    assert network_grid.bars(SliceComparison(replace(compared.predictions, waiting=1)), "dsc") == ""
    looks = list(plots.OUTLINES.values())
    # the truth is blue
    assert len(set(looks)) == len(looks) and not {colour for colour, _ in looks} & {"#56B4E9", "#0072B2"}
    every = network_grid.large(SliceComparison(replace(compared.predictions, shown="dispute")))
    assert all(f"stroke:{plots.outline(method)[0]}" in every for method in ("scratch", "simclr"))


def test_the_report_states_whether_the_image_was_seen(compared):
    assert "It is not recorded whether the networks have seen this image." in network_grid.verdict(compared)
    predictions = replace(
        compared.predictions, parts=dict(zip(SEG, ("training", "held out", "unknown"), strict=True)), shown=SEG[0]
    )
    known = SliceComparison(predictions)
    assert (
        "This image was training for From scratch; held out for SimCLR; unknown for MPS-AMS."
        in network_grid.verdict(known)
    )
    assert '<i class="part">held out</i>' in network_grid.cells(
        known
    ) and "was trained on this image and its label" in network_grid.large(known)


def test_the_verdict_says_how_many_agree_on_what(compared, case):
    verdict = network_grid.verdict(compared)
    any_share, both = (np.mean(compared.votes_hw >= 1), np.mean(compared.votes_hw == 3))
    assert (
        "2 of 3 networks outline something" in verdict and f"{100 * (any_share - both):.1f}%" in verdict and both == 0
    )
    assert (
        "Nearest to the truth on this one image: From scratch" in verdict
        and "furthest: MPS-AMS with DSC 0.000" in verdict
    )
    one = SliceComparison(SlicePredictions(case, {SEG[0]: compared.predictions.probabilities[SEG[0]]}, SEG[0]), 0.5)
    assert (
        "From scratch outlines" in network_grid.verdict(one)
        and np.isnan(one.mean_agreement)
        and "dispute" not in one.predictions.pictures
    )
    silent = SliceComparison(
        SlicePredictions(case, dict.fromkeys(SEG[:2], np.zeros((256, 256), np.float32)), SEG[0]), 0.5
    )
    assert "Neither of the 2 networks outlines anything" in network_grid.verdict(silent) and silent.mean_agreement == 1
    waiting = SliceComparison(
        SlicePredictions(case, {SEG[0]: compared.predictions.probabilities[SEG[0]]}, SEG[0], waiting=9), 0.5
    )
    assert "1 of 10 have answered" in network_grid.verdict(waiting)


def test_a_normal_image_is_scored_by_silence(compared):
    normal = next(sample for sample in phantom.samples() if not sample.draw().mask.any())
    case = open_case.open_sample(normal, open_case.clustering_options(ModelRegistry("nowhere").clustering()))
    loud, quiet = np.ones((256, 256), np.float32), np.zeros((256, 256), np.float32)
    verdict = network_grid.verdict(
        SliceComparison(SlicePredictions(case, dict(zip(SEG[:2], (loud, quiet), strict=True)), SEG[0]), 0.5)
    )
    assert "no lesion here" in verdict and "SimCLR" in verdict and "From scratch," not in verdict


def test_every_cell_is_a_button_with_words_and_one_is_pressed(compared):
    html = network_grid.cells(compared)
    assert html.count("<button") == html.count('role="img"') == 5 and html.count('aria-pressed="true"') == 1
    assert f"DSC {compared.scores[SEG[0]]['dsc']:.3f}" in html and "MPS-AMS outlines nothing" in html
    for which in compared.predictions.pictures:
        large = network_grid.large(
            SliceComparison(SlicePredictions(compared.case, compared.predictions.probabilities, which), 0.5)
        )
        assert large.count("<figure") == 2 and large.count("aria-label") == large.count("<svg") + 1  # the slider
    assert network_grid.large(SliceComparison(SlicePredictions(compared.case, {}), 0.5)) == ""


def test_the_figure_is_a_vector_file_of_what_is_on_screen(compared):
    row = figure_rows.make_row(compared)
    assert figure_rows.draw([row], "whole", "pdf").startswith(b"%PDF") and figure_rows.draw(
        [row, row], "lesion", "png"
    ).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="allowed are whole, body, lesion"):
        figure_rows.draw([row], "half", "pdf")
    with pytest.raises(ValueError, match="expected at least one"):
        figure_rows.draw([], "whole", "pdf")


def test_the_caption_and_the_numbers_say_thresholds_and_scores(compared, case):
    own = SliceComparison(replace(compared.predictions, parts={SEG[1]: "held out"}), own={SEG[1]: 0.7})
    rows = [figure_rows.make_row(compared), figure_rows.make_row(own)]
    caption = figure_rows.caption(rows, "lesion")
    mean = np.mean([compared.scores[SEG[1]]["dsc"], own.scores[SEG[1]]["dsc"]])
    assert (
        caption.startswith("Threshold 0.50, but SimCLR 0.50 and 0.70.")
        and f"SimCLR {mean:.3f}" in caption
        and "Mean DSC over 2 images" in caption
        and "Cropped to the lesion" in caption
    )
    head, *lines = figure_rows.table(rows).splitlines()
    assert head == "image,network,threshold,dsc,ppv,sen,area_share,image_was" and len(lines) == 6
    found = dict(zip(head.split(","), next(csv.reader([lines[4]])), strict=True))
    assert (
        found["network"] == SEG[1]
        and found["threshold"] == "0.70"
        and found["dsc"] == f"{own.scores[SEG[1]]['dsc']:.4f}"
        and found["image_was"] == "held out"
    )
    empty = dict(zip(head.split(","), next(csv.reader([lines[2]])), strict=True))
    assert empty["network"] == SEG[2] and empty["ppv"] == "" and empty["dsc"] == "0.0000"


def test_networks_of_one_method_share_a_column_whatever_they_learnt_from(compared):
    row = figure_rows.make_row(compared)

    def renamed(values):
        return {name.replace("busi", "hecktor"): value for name, value in values.items()}

    other = replace(
        row, **{field: renamed(getattr(row, field)) for field in ("masks", "thresholds", "scores", "areas", "parts")}
    )
    assert figure_rows.columns([row, other]) == ["From scratch", "SimCLR", "MPS-AMS"]
    assert "Mean DSC over 2 images: From scratch" in figure_rows.caption([row, other])


def test_a_crop_holds_the_lesion_and_keeps_the_scores_of_the_whole(compared):
    row = figure_rows.make_row(compared)
    cut = figure_rows._cut(row, "one", "lesion")
    assert (
        cut.truth_hw.sum()
        and not (cut.truth_hw[0].any() or cut.truth_hw[:, 0].any())
        and cut.image_hw.size < row.image_hw.size
    )
    assert cut.scores == {compared.predictions.titles[name]: values for name, values in compared.scores.items()}
    assert figure_rows._cut(row, "one", "body").image_hw.shape == figure_rows._cut(row, "one", "whole").image_hw.shape


# --- results


@pytest.fixture(scope="module")
def reader(small_records) -> result_reader.Reader:
    return result_reader.Reader(ModelRegistry("nowhere", small_records))


def test_the_page_shows_the_numbers_of_the_tables(reader, small_records):
    html = reader.numbers("once", CHOICE)
    found = tables.table(tables.read(small_records / "made-up.jsonl"), "table1", "strong", "lesion")
    assert html.count('<tr class="ours"') == 2 and html.count("<tbody>") == len(found.labels) == 4
    for line in found.rows:
        cell = line.cells["dsc"]
        assert (
            f"{cell.low:.3f} to {cell.high:.3f}" in html
            and f" ± {cell.sd:.3f}" in html
            and tables.TITLES[line.method] in html
        )
    assert "<td>0.591</td>" in html and "<td>0.500</td>" in html  # the paper's own, 10% and 5%
    assert reader.numbers("once", CHOICE) is html  # kept


def test_every_choice_has_its_own_numbers(reader):
    others = ({"table": "table2"}, {"recipe": "paper"}, {"averaging": "pooled"}, {"measure": "sen"}, {})
    assert len({reader.numbers("once", replace(CHOICE, **other)) for other in others}) == 5


def test_what_was_shown_is_counted_from_the_comparisons(reader, small_records):
    compared = tables.compare(tables.read(small_records / "made-up.jsonl"))
    html = result_report.difference_report(compared, CHOICE)
    ahead = sum(c.shown and c.mean > 0 for c in compared)
    assert f"ahead in {ahead} of {len(compared)} comparisons" in html and html.count("<li>") == len(compared) + 2
    assert "nothing can be compared yet" in result_report.difference_report((), CHOICE)


def test_what_holds_for_these_pretrainings_only_is_marked_and_not_counted_as_shown(tmp_path):
    gain = {"scratch": 0.0, "mae": 0.0, "mps_ams": 0.25}
    path = made_records.write(
        tmp_path / "one.jsonl",
        methods=tuple(gain),
        seeds=(0,),
        draws=range(6),
        labels=(0.1,),
        recipes=("strong",),
        gain=gain,
        more_scratch=(),
    )
    found = tables.read(path)
    compared = tables.compare(found)
    assert sum(c.shown_here for c in compared) == 2 and not any(c.shown for c in compared)
    html = result_report.difference_report(compared, CHOICE)
    assert (
        "ahead in 0 of 2 comparisons" in html
        and "2 of these differences are shown for these pretrainings or this draw of labels only" in html
    )
    cell = next(line for line in tables.table(found).rows if line.method == "mae").cells["dsc"]
    assert f"{cell.high:.3f}†</small>" in result_report.table(
        tables.table(found), "dsc"
    ) and "† for these pretrainings only" in result_report.table(tables.table(found), "dsc")


def test_an_interval_is_drawn_where_its_numbers_are():
    cell = tables.Cell("mae", 0.1, "dsc", (0.5,), 0.5, None, 0.45, 0.6, 0.55)
    assert result_report.span([cell]) == (0.4, 0.7)
    drawn = result_report.range_of(cell, (0.4, 0.8))
    assert drawn == [("i", "left:12.5%;width:37.5%"), ("b", "left:25.0%"), ("s", "left:37.5%")]


def test_plots_say_what_they_show(reader):
    labels, points = reader.by_labels("once", CHOICE), reader.scatter("once", CHOICE, ("mae", "mps_ams"), 0.1)
    curves = result_report.curves([made_records.pretraining(method, 0) for method in ("mae", "mps_ams")])
    assert "MAE from 1." in curves and "in 60 epochs" in curves and result_report.curves([]) == ""
    for html in (labels, curves, points):
        assert 'src="data:image/svg+xml;base64,' in html and len(html.partition('alt="')[2].partition('"')[0]) > 60
    x, y = (
        tables.per_image(reader.results("once", "made-up", "image"), method, 0.1, "strong")
        for method in ("mae", "mps_ams")
    )
    assert f"on {sum(y[case] > x[case] for case in x)} of {len(x)} images" in points
    assert "No run of MAE" in reader.scatter("once", CHOICE, ("mae", "mps_ams"), 1.0)


def test_files_are_those_of_the_tables(reader):
    csv, markdown, latex = (reader.file("once", CHOICE, form) for form in ("csv", "md", "tex"))
    assert csv.count("\n") > 100 and "pooled" in csv and "table2" in csv
    assert "| MPS-AMS |" in markdown and markdown.startswith("# Table 1") and "\\bottomrule" in latex


def test_records_that_cannot_be_read_are_named_and_the_others_shown(tmp_path):
    made_records.write(tmp_path / "good.jsonl", methods=("scratch", "mps_ams"), seeds=(0,), draws=(0,), more_scratch=())
    (tmp_path / "bad.jsonl").write_text('{"event": "result"}\n', encoding="utf-8")
    registry = ModelRegistry(tmp_path, tmp_path)
    found, before = result_reader.find_records(registry), result_reader.records_version(registry)
    assert (
        list(found.plans) == ["made-up"]
        and len(found.wrong) == 1
        and "bad.jsonl" in found.wrong[0]
        and str(tmp_path) not in found.wrong[0]
    )
    os.utime(tmp_path / "good.jsonl", ns=(1, 1))
    assert result_reader.records_version(registry) != before
    empty = result_reader.find_records(ModelRegistry(tmp_path, tmp_path / "none"))
    assert not empty.plans and empty.key == "none" and result_reader.records_version(ModelRegistry(tmp_path)) == "none"


def test_the_tab_says_in_what_the_rivals_differ_from_their_papers():
    from html import unescape

    from mpsams import methods

    page = unescape(results.rivals())
    assert all(text in page for text in methods.deviations().values())


def test_the_papers_numbers_are_there():
    assert results.kept_of("b", ("a", "b")) == "b" and results.kept_of("x", ("a", "b"), "b") == "b"
