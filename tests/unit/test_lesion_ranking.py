"""The benchmark of selectors: marks that must come out as they must, candidates against slow versions, the command, the
figure.
"""

import json

import numpy as np
import pytest
import torch

from benchmarks import baselines, lesion_ranking
from mpsams import clusters, inference, patches, plots
from mpsams.selectors import geodesic

PATCH = 32


@pytest.fixture(scope="module")
def found(phantoms):
    indices = lesion_ranking.with_lesion(phantoms, PATCH)
    return {
        name: lesion_ranking.measure(phantoms, indices, PATCH, select, name)
        for name, select in lesion_ranking.selectors().items()
    }


def test_only_images_with_a_lesion_patch_take_part(phantoms):
    truth = patches.is_lesion(phantoms.stored_n1hw, PATCH)
    assert (
        lesion_ranking.with_lesion(phantoms, PATCH).tolist()
        == [i for i in range(len(phantoms)) if truth[i].any()]
        != list(range(len(phantoms)))
    )


def test_the_truth_ranks_perfectly_and_chance_does_not(found):
    truth, random = found[lesion_ranking.TRUTH], found[lesion_ranking.RANDOM]
    assert (truth["auc"] == 1).all() and (truth["lift"] >= truth["lift_top"]).all()
    assert truth["lift"] == pytest.approx(1 / truth["size"], rel=1e-5)  # a cluster of lesion alone
    assert 0.3 < random["auc"].mean() < 0.7 and (random["lift"] == 0).all() and (random["size"] == 0).all()
    for values in found.values():
        covered = np.array([values[f"cover-{epoch}"] for epoch in lesion_ranking.EPOCHS])
        assert (np.diff(covered, axis=0) >= 0).all() and (covered <= 1).all() and (values["ms"] > 0).all()


def test_reported_numbers_of_an_image_are_counted_by_hand():
    """Ten patches in a row, of which 2 and 3 are lesion; a selector that puts 3 first, then 9, and
    clusters these two.
    """
    numbers = torch.tensor([[0.0, 0.1, 0.2, 0.9, 0.0, 0.1, 0.1, 0.0, 0.1, 0.8]])
    truth = torch.zeros(1, 10, dtype=torch.bool)
    truth[0, [2, 3]] = True
    scores = lesion_ranking.rank_scores(clusters.split_numbers(numbers), truth)
    assert scores["auc"] == [pytest.approx(15 / 16)] and scores["size"] == [pytest.approx(0.2)]
    assert scores["lift"] == [pytest.approx(0.5 / 0.2)] and scores["lift_top"] == [pytest.approx(1 / 0.2)]
    assert scores["cover-1"] == [0.5]  # two of ten are hidden, 3 and 9


def test_the_score_of_rows_of_numbers_is_the_number_and_of_others_the_clusters(phantoms):
    x = phantoms.stored_nchw[:2].float() / 255
    by_numbers, by_rows = clusters.split(x, PATCH, "geodesic"), clusters.split(x, PATCH)
    assert torch.equal(lesion_ranking.score(by_numbers), geodesic.distance(x, PATCH)) and torch.equal(
        lesion_ranking.score(by_rows), by_rows.score_bl
    )


def test_intervals_hold_the_mean_and_the_other_half_is_every_second_image():
    values = {
        name: np.arange(8.0)
        for name in ("auc", "lift", "lift_top", "size", "ms", *(f"cover-{epoch}" for epoch in lesion_ranking.EPOCHS))
    }
    summary = lesion_ranking.summarise_scores(
        values, np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), size=500).astype(float)
    )
    mean, low, high = summary["auc"]
    assert mean == 3.5 and low < mean < high and summary["auc_second"] == 4.0 and summary["ms"] == 3.5


def test_candidates_alone():
    centre = baselines.centre(torch.rand(2, 1, 40, 40), 8)[0].view(5, 5)
    assert (
        centre.argmax() == 12
        and centre[2, 2] == 0
        and centre[0, 0] == pytest.approx(-(8**0.5))
        and centre[0, 2] == pytest.approx(-2)
    )
    hole = torch.full((1, 1, 128, 128), 0.6)
    hole[..., 48:64, 48:64] = 0.1
    for name, number in baselines.UNTRAINED.items():
        if "edges" not in name:
            assert (
                number(hole + 0.001 * torch.rand(hole.shape), 16).view(8, 8)[3, 3] >= number(hole, 16).view(8, 8)[0, 0]
            ), name
    assert baselines.dark_blob(hole, 16).argmax() == 3 * 8 + 3 == baselines.edges(hole, 16).argmax()


def test_unlike_the_border_is_the_loops():
    x = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    found = baselines.border(x, 8)
    for image, expected in zip(x[:, 0].numpy(), found):
        tiles = np.array([[image[r : r + 8, c : c + 8] for c in range(0, 48, 8)] for r in range(0, 48, 8)]).reshape(
            36, -1
        )
        known = np.stack([tiles.mean(1), tiles.std(1, ddof=1)], axis=1)
        known = (known - known.mean(0)) / known.std(0, ddof=1)
        edge = [i for i in range(36) if i // 6 in (0, 5) or i % 6 in (0, 5)]
        slow = [np.mean(sorted(np.linalg.norm(row - known[edge], axis=1))[:5]) for row in known]
        np.testing.assert_allclose(expected, slow, atol=2e-3)


def test_candidates_of_a_network_hide_each_patch_once(small_weights, phantoms):
    network = inference.open_network(next(small_weights.glob("*-pretrain.safetensors")))
    x = phantoms.stored_nchw[:2].float() / 255
    for name, number in baselines.network_selectors(network).items():
        values = number(x, PATCH)
        assert values.shape == (2, 64) and values.isfinite().all() and values.std() > 0, name
    difficulty = baselines.network_selectors(network)["difficulty of filling in"](x, PATCH)
    assert (difficulty > 0).all()


def test_the_command_draws_the_worst_and_keeps_nothing_when_quick(capsys, quick_phantom, tmp_path):
    before = {path: path.read_bytes() for path in lesion_ranking.RECORDS.glob("lesion_ranking-*.json")}
    options = [
        "--data.name",
        "phantom",
        "--data.size",
        "64",
        "--patch",
        "8",
        "--images",
        "4",
        "--out",
        str(tmp_path / "out"),
        "--quick",
        "true",
    ]
    lesion_ranking.main(options)
    text = capsys.readouterr().out
    record = json.loads(text[text.index("{") :])
    assert (
        record["images"] == 4
        and set(record["selectors"]) == set(lesion_ranking.selectors())
        and record["selectors"]["geodesic"]["auc"][0] > 0.5
    )
    assert (tmp_path / "out" / "worst.png").read_bytes().startswith(b"\x89PNG")
    assert before == {path: path.read_bytes() for path in lesion_ranking.RECORDS.glob("lesion_ranking-*.json")}


def test_the_figure_shows_the_records_values(tmp_path):
    record = {
        "called": "CT",
        "selectors": {
            name: {"auc": [a, a - 0.1, a + 0.05], "lift_top": [2 * a, a, 3 * a]}
            for name, a in (("geodesic", 0.9), ("other", 0.6))
        },
    }
    figure = lesion_ranking.draw_figure({"hecktor": record})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["geodesic", "other"] and len(
        figure.axes
    ) == 2
    for ax, times in zip(figure.axes, (1, 2)):
        dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() in ("o", "D")]
        assert dots == pytest.approx([0.9 * times, 0.6 * times])
    with pytest.raises(ValueError, match="no record"):
        plots.ranking({}, [])


def test_the_records_name_no_path_and_their_selectors_exist():
    for name, record in lesion_ranking.read_records().items():
        assert set(lesion_ranking.selectors()) <= set(record["selectors"]), name
        assert "/" not in json.dumps({key: record[key] for key in ("called", "network", "images")})
        geodesic = record["selectors"]["geodesic"]
        assert geodesic["auc"][1] <= geodesic["auc"][0] <= geodesic["auc"][2]


def test_only_some_are_measured_and_the_others_stay(capsys, quick_phantom, tmp_path, monkeypatch):
    options = [
        "--data.name",
        "phantom",
        "--data.size",
        "64",
        "--patch",
        "8",
        "--images",
        "4",
        "--out",
        str(tmp_path),
        "--quick",
        "true",
    ]
    kept = {
        "images": 4,
        "size": 64,
        "patch": 8,
        "network": "one",
        "selectors": {"geodesic": {"auc": [9, 9, 9]}, "other": {}},
    }
    monkeypatch.setattr(lesion_ranking, "read_records", lambda: {"phantom": kept})
    lesion_ranking.main([*options, "--only", '["geodesic"]'])
    text = capsys.readouterr().out
    record = json.loads(text[text.index("{") :])
    assert (
        set(record["selectors"]) == {"geodesic", "other"}
        and record["selectors"]["geodesic"]["auc"][0] < 1
        and record["network"] == "one"
    )
    with pytest.raises(ValueError, match="no selector is called ascent; there are: random order"):
        lesion_ranking.main([*options, "--only", '["ascent"]'])
    with pytest.raises(ValueError, match="the record of phantom is of 4 images of 64 pixels, this is of 3 of 64"):
        lesion_ranking.main([*options, "--only", '["geodesic"]', "--images", "3"])
