"""Records of the benchmark of information, on synthetic images; its figure; and that docs/results/information.md says
what its records do.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from benchmarks import doc_selectors, information
from mpsams import clusters, masking, plots, schedule, uncertainty
from mpsams.plots import bits as drawing
from mpsams.plots import looks

ORDERS = {"random", *clusters.PAPER_SELECTORS, "block"}


@pytest.fixture(scope="module")
def found(phantoms):
    return information.measure(phantoms, 32, images=12)


@pytest.fixture(scope="module")
def kept():
    return list(information.records().values())


# --- the measurement


def test_curves_of_synthetic_images_are_the_bits_of_their_clusters(found, phantoms):
    assert (found["images"], found["patients"], found["covariance_over"], found["patches"]) == (12, 12, 12, 64)
    for selector in clusters.PAPER_SELECTORS:
        sizes = (
            clusters.lesion_patches(phantoms.take(torch.arange(12))[0].float() / 255, 32, selector).sum(dim=1).tolist()
        )
        for epoch in (1, 10, 100, 800):
            at = found["epochs"].index(epoch)
            for name, ratio in (("mps_ams", schedule.mask_ratio(epoch)), ("base_mps", 0.75)):
                bits = [uncertainty.lesion_first_bits(64, size, masking.hidden_count(64, ratio)) for size in sizes]
                curve = found["undecided"][selector][name]
                assert curve["mean"][at] == pytest.approx(np.mean(bits), abs=0.006)
                assert [curve["low"][at], curve["high"][at]] == pytest.approx(
                    np.quantile(bits, [0.25, 0.75]).tolist(), abs=0.006
                )
    assert found["undecided"]["random"]["base"]["mean"] == [round(uncertainty.random_bits(64, 48), 2)] * len(
        found["epochs"]
    )


def test_shared_bits_begin_and_end_at_0_and_do_not_care_who_is_hidden(found):
    assert set(found["shared"]) == ORDERS
    for shared in found["shared"].values():
        assert shared["mean"][0] == shared["mean"][-1] == 0
        assert all(low <= high and low >= 0 for low, high in zip(shared["low"], shared["high"]))
    assert max(found["random_mixed"]) < max(found["random_from_half"]) < 1.5 * max(found["shared"]["random"]["mean"])
    assert max(found["shared"]["block"]["mean"]) < max(found["shared"]["random"]["mean"])


def test_the_same_seed_measures_the_same(found, phantoms):
    assert information.measure(phantoms, 32, images=12) == found
    assert information.measure(phantoms, 32, images=12, seed=1)["shared"] != found["shared"]


def test_orderings_are_counted_where_they_fail():
    """Two images of 256 patches: one lesion patch, which breaks H3 <= H2 once more than half is hidden, and eighty,
    which never do.
    """
    lesion = torch.zeros(2, 256, dtype=torch.bool)
    lesion[0, 7], lesion[1, :80] = True, True
    order = masking.order(lesion, torch.Generator().manual_seed(0))
    counts = [masking.hidden_count(256, schedule.mask_ratio(epoch)) for epoch in range(1, 801)]
    found = information.ordering(lesion, order)
    gaps = [uncertainty.lesion_first_bits(256, 1, n) - uncertainty.classified_bits(256, 1, n) for n in counts]
    assert found["compared"] == 1600 and found["h2_above_h1"] == found["h3_above_h1"] == found["masks_not_counted"] == 0
    assert found["h3_above_h2"] == sum(gap > 1e-6 for gap in gaps) == sum(n > 128 for n in counts)
    assert (found["images_h3_above_h2"], found["largest_cluster"], found["first_epoch"]) == (
        1,
        1,
        1 + [n > 128 for n in counts].index(True),
    )
    assert found["most_bits"] == pytest.approx(max(gaps), abs=6e-4)
    foreign = information.ordering(lesion, order.flip(1))["masks_not_counted"]  # background first is another strategy
    assert foreign == 1600


def test_without_a_cluster_nothing_can_fail():
    lesion = torch.zeros(3, 16, dtype=torch.bool)
    counts = information.ordering(lesion, masking.order(lesion))
    assert counts["compared"] == 2400 and not any(value for key, value in counts.items() if key != "compared")


def test_a_block_is_one_square_and_every_patch_is_hidden_in_the_end():
    orders = information.block_order(50, 6, 6, torch.Generator().manual_seed(0))
    assert (orders.sort(dim=1).values == torch.arange(36)).all()
    seen = set()
    for order in orders:
        y, x = order // 6, order % 6
        seen.add(int(order[0]))
        far = torch.maximum((y - y[0]).abs(), (x - x[0]).abs())
        assert (far.diff() >= 0).all()  # rings around the first
    assert len(seen) > 15


def test_means_over_epochs_are_a_loop_over_epochs():
    shared_nk = torch.rand(5, 65, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    means = information.over_epochs(shared_nk)
    mean = shared_nk.mean(dim=0)
    counts = {
        "fixed": [48] * 800,
        "adaptive": [masking.hidden_count(64, schedule.mask_ratio(epoch)) for epoch in range(1, 801)],
    }
    for ratio, hidden in counts.items():
        assert means[ratio]["bits"] == pytest.approx(np.mean([mean[n] for n in hidden]), abs=0.006)
        assert means[ratio]["per_hidden"] == pytest.approx(np.mean([mean[n] / n for n in hidden]), abs=6e-5)


def test_mixed_images_keep_each_patchs_values():
    means = torch.rand(30, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    other = information.mixed_mask_share(means, torch.Generator().manual_seed(1))
    assert torch.equal(other.sort(dim=0).values, means.sort(dim=0).values) and not torch.equal(other, means)


def test_the_command_runs_on_phantoms_and_a_quick_one_keeps_nothing(capsys, quick_phantom):
    before = {path: path.read_bytes() for path in information.HERE.glob("information-*.json")}
    information.main(
        ["--data.name", "phantom", "--data.cases", "6", "--data.size", "64", "--patch", "8", "--quick", "true"]
    )
    record = json.loads(capsys.readouterr().out)
    assert (
        record["images"] == 6
        and record["patches"] == 64
        and set(record["shared"]) == ORDERS
        and "phantoms" in record["source"]
    )
    assert before == {path: path.read_bytes() for path in information.HERE.glob("information-*.json")}


def test_too_few_images_and_a_patch_that_does_not_fit_are_refused(phantoms, capsys):
    with pytest.raises(SystemExit):
        information.main(["--images", "1"])
    assert "images is 1; expected at least 2" in capsys.readouterr().err
    with pytest.raises(ValueError, match="patch side 24"):
        information.measure(phantoms, 24)


# --- the figure


def test_the_figure_shows_the_records_values(found):
    figure = plots.information({"made up": found, "again": found})
    axes = np.array(figure.axes).reshape(3, 2)
    assert [ax.get_title() for ax in axes[0]] == ["made up", "again"]
    selector = clusters.PAPER_SELECTORS[0]
    for ax in axes[0]:
        pairs = [("random", "base"), ("random", "base_ams"), (selector, "base_mps"), (selector, "mps_ams")]
        means = [found["undecided"][order][name]["mean"] for order, name in pairs]
        assert [list(line.get_ydata()) for line in ax.lines] == means and all(
            list(line.get_xdata()) == found["epochs"] for line in ax.lines
        )
    for total, each in axes[1:].T:
        for line, per_hidden, name in zip(total.lines, each.lines, drawing.ORDERS):
            ratios = np.array(line.get_xdata())
            assert ratios[0] > 0 and ratios[-1] == drawing.LAST
            bits = np.array(found["shared"][name]["mean"])[[found["ratios"].index(ratio) for ratio in ratios]]
            assert np.allclose(line.get_ydata(), bits) and np.allclose(per_hidden.get_ydata(), bits / (64 * ratios))


def test_every_line_has_its_name_beside_it_and_no_two_look_alike(found):
    figure = plots.information({"made up": found})
    for ax in figure.axes:
        names = [text for text in ax.texts if text.get_text() in {line.get_label() for line in ax.lines}]
        assert len(names) == len(ax.lines) == 4 and ax.get_legend() is None
        heights = sorted(text.get_position()[1] for text in names)
        assert min(np.diff(heights)) >= drawing.APART - 1e-9
        assert len({(line.get_color(), str(line.get_linestyle())) for line in ax.lines}) == 4
        assert {line.get_color() for line in ax.lines} <= {
            looks.BLACK,
            looks.ORANGE,
            looks.GREEN,
            looks.BLUE,
            looks.VERMILLION,
            looks.GREY,
        }
    shown = figure.get_window_extent()
    assert all(
        shown.x0 <= box.x0 and box.x1 <= shown.x1
        for ax in figure.axes
        for text in ax.texts
        for box in [text.get_window_extent()]
    )


def test_names_move_apart_and_keep_their_middle():
    assert drawing.draw_by_cluster([0.1, 0.5], 0.2) == [0.1, 0.5]
    moved = drawing.draw_by_cluster([0.3, 0.3, 0.31], 0.2)
    assert np.diff(moved) == pytest.approx([0.2, 0.2]) and np.mean(moved) == pytest.approx(np.mean([0.3, 0.3, 0.31]))
    assert drawing.draw_by_cluster([], 0.2) == []


def test_no_record_is_no_figure():
    with pytest.raises(ValueError, match="no record"):
        plots.information({})


def test_the_command_draws_png_and_pdf(tmp_path, monkeypatch, found):
    monkeypatch.setattr(information, "records", lambda: {"made up": found})
    information.main(["--draw", str(tmp_path / "out")])
    assert (tmp_path / "out" / "information.png").read_bytes()[:4] == b"\x89PNG" and (
        tmp_path / "out" / "information.pdf"
    ).read_bytes()[:4] == b"%PDF"


# --- what docs/results/information.md says in words, its records must say in numbers


def test_the_records_are_of_the_three_sets_and_of_no_machine(kept):
    assert set(information.records()) >= set(doc_selectors.SETS.values())
    text = "".join(path.read_text(encoding="utf-8") for path in information.HERE.glob("information-*.json"))
    assert not re.search(r"/(?:work|tmp|home|root)\b", text) and len(text) < 20_000 * len(kept)


def test_h1_is_never_passed_and_h2_only_by_small_clusters_of_which_much_is_hidden(kept):
    for record in kept:
        for check in record["ordering"].values():
            assert check["h2_above_h1"] == check["h3_above_h1"] == check["masks_not_counted"] == 0
            assert check["largest_cluster"] <= 6 and check["most_bits"] < 0.5
            assert check["first_epoch"] == 0 or schedule.mask_ratio(check["first_epoch"]) > 0.5


def test_lesion_first_shares_less_and_adaptive_more(kept):
    for record in kept:
        mean = {order: np.array(values["mean"])[4:-4] for order, values in record["shared"].items()}
        for selector in clusters.PAPER_SELECTORS:
            assert (mean["block"] < mean[selector]).all() and (mean[selector] < mean["random"]).all()
            assert all(share < 0.5 for share in record["more_than_random"][selector][4:-4])
        for over in record["shared_over_epochs"].values():
            assert over["fixed"]["bits"] < over["adaptive"]["bits"] < 1.1 * over["fixed"]["bits"]
            assert over["fixed"]["per_hidden"] < over["adaptive"]["per_hidden"]
        assert max(record["random_mixed"]) < 0.05 * max(record["shared"]["random"]["mean"])


def test_lesion_first_leaves_less_to_chance_and_begins_with_the_least(kept):
    for record in kept:
        for selector in clusters.PAPER_SELECTORS:
            random, first = record["undecided"]["random"], record["undecided"][selector]
            for ours, theirs in (("mps_ams", "base_ams"), ("base_mps", "base")):
                assert (np.array(first[ours]["mean"]) < np.array(random[theirs]["mean"])).all()
            assert first["mps_ams"]["mean"][0] < first["base_mps"]["mean"][0]
        assert random["base"]["mean"][0] == random["base_ams"]["mean"][0]
