"""Overlap, surfaces, summaries, lift and AUC against loops, and every undefined case of the protocol."""

import math
import tracemalloc

import numpy as np
import pytest
import torch

from mpsams import metrics


def blobs(seed, side=24, share=0.5):
    """Smooth random masks, some of which touch the border."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(-3, 4))
    return noise > np.quantile(noise, 1 - share)


def test_overlap_is_the_loop():
    pred = torch.stack([torch.tensor(blobs(seed)) for seed in range(6)])
    truth = torch.stack([torch.tensor(blobs(seed + 50, share=0.3)) for seed in range(6)])
    found = metrics.overlap(pred, truth)
    assert set(found) == {"dsc", "ppv", "sen"} and all(v.shape == (6,) for v in found.values())
    for b in range(6):
        true_pos = pred_pos = truth_pos = 0
        for y in range(24):
            for x in range(24):
                p, t = bool(pred[b, y, x]), bool(truth[b, y, x])
                true_pos, pred_pos, truth_pos = true_pos + (p and t), pred_pos + p, truth_pos + t
        assert float(found["ppv"][b]) == pytest.approx(true_pos / pred_pos)
        assert float(found["sen"][b]) == pytest.approx(true_pos / truth_pos)
        assert float(found["dsc"][b]) == pytest.approx(2 * true_pos / (pred_pos + truth_pos))


@pytest.mark.parametrize(
    "predicted, real, value", [(False, False, 1.0), (False, True, 0.0), (True, False, 0.0), (True, True, 1.0)]
)
def test_overlap_of_empty_masks(predicted, real, value):
    pred, truth = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    pred[:, 1], truth[:, 1] = float(predicted), float(real)
    assert {k: float(v) for k, v in metrics.overlap(pred, truth).items()} == {"dsc": value, "ppv": value, "sen": value}


def test_overlap_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(1, 4, 4\).*\(1, 4, 5\)"):
        metrics.overlap(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))


def border(mask):
    """Pixels of a mask with one of their neighbours along an axis outside of it or of the image; in any
    number of axes.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            beside = np.roll(np.pad(mask, 1), step, axis)
            inner &= beside[(slice(1, -1),) * mask.ndim]
    return np.argwhere(mask & ~inner)


def slow_surface(pred, truth, spacing=1.0):
    a, b = border(pred) * spacing, border(truth) * spacing
    there = np.array([min(math.dist(p, q) for q in b) for p in a])
    back = np.array([min(math.dist(p, q) for q in a) for p in b])
    both = np.concatenate([there, back])
    return {"hd95": max(np.percentile(there, 95), np.percentile(back, 95)), "assd": both.mean()}


def slow_case(pred, truth, spacing=1.0):
    """All numbers of an image or a volume, without anything of ``metrics``."""
    true_pos, pred_pos, truth_pos = (sum(map(bool, mask.ravel())) for mask in (pred & truth, pred, truth))
    nothing, diagonal = (
        not (pred_pos or truth_pos),
        math.sqrt(sum((side * step) ** 2 for side, step in zip(pred.shape, np.broadcast_to(spacing, pred.ndim)))),
    )
    shares = {
        "dsc": 2 * true_pos / max(pred_pos + truth_pos, 1),
        "ppv": true_pos / max(pred_pos, 1),
        "sen": true_pos / max(truth_pos, 1),
    }
    far = (
        slow_surface(pred, truth, spacing)
        if pred_pos and truth_pos
        else dict.fromkeys(("hd95", "assd"), diagonal * (not nothing))
    )
    return (
        {name: 1.0 if nothing else share for name, share in shares.items()}
        | far
        | {"hit": true_pos, "said": pred_pos, "real": truth_pos}
    )


@pytest.mark.parametrize("seed", range(5))
def test_surface_is_the_loop(seed):
    pred, truth = blobs(seed, share=0.3), blobs(seed + 10, share=0.2)
    assert metrics.surface(pred, truth) == pytest.approx(slow_surface(pred, truth), abs=1e-5)


@pytest.mark.parametrize("spacing", [(0.3, 2.0), (5.0, 1.0)])
def test_surface_in_millimetres_is_the_loop(spacing):
    pred, truth = blobs(3, share=0.3), blobs(14, share=0.2)
    found = metrics.surface(pred, truth, spacing)
    assert found == pytest.approx(slow_surface(pred, truth, spacing), abs=1e-5)
    assert abs(found["assd"] - metrics.surface(pred, truth)["assd"]) > 0.1


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0), (3.0, 0.7, 1.2), (0.5, 2.0, 2.0)])
def test_surface_of_a_volume_is_the_loop(spacing):
    pred, truth = (
        np.stack([blobs(7 * k + more, 14, share) for k in range(5)]) for more, share in ((0, 0.25), (100, 0.2))
    )
    truth[-1] = False  # touches one end and not the other
    assert metrics.surface(pred, truth, spacing) == pytest.approx(slow_surface(pred, truth, spacing or 1.0), abs=1e-5)


def test_surface_of_a_volume_by_hand():
    pred, truth = np.zeros((2, 6, 20, 20), bool)
    pred[1, 4:9, 4:9], truth[3, 4:9, 4:9] = True, True  # the same plate two slices apart
    assert metrics.surface(pred, truth, (2.5, 1.0, 1.0)) == pytest.approx({"hd95": 5.0, "assd": 5.0})
    assert metrics.surface(pred, truth) == pytest.approx({"hd95": 2.0, "assd": 2.0})
    empty = np.zeros_like(pred)
    diagonal = math.sqrt((6 * 2.5) ** 2 + (20 * 0.5) ** 2 + (20 * 3.0) ** 2)
    assert metrics.surface(pred, empty, (2.5, 0.5, 3.0)) == pytest.approx({"hd95": diagonal, "assd": diagonal})


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_measured_as_an_image(axis):
    pred, truth, empty = blobs(1), blobs(2, share=0.3), np.zeros((24, 24), bool)
    spacing, steps = [0.5, 2.0], np.insert([0.5, 2.0], axis, 7.0)
    for one, other in ((pred, truth), (pred, empty), (empty, empty)):
        found = metrics.case(np.expand_dims(one, axis), np.expand_dims(other, axis), steps)
        assert found == metrics.case(one, other, spacing)
        assert found == metrics.case(np.expand_dims(one, axis), np.expand_dims(other, axis), np.diag(steps))


def test_surface_of_a_sheared_volume_is_the_loop():
    """A gantry tilted by 20 degrees: the axes are not at right angles, so lengths of edges alone do
    not give distances.
    """
    pred, truth = (
        np.stack([blobs(7 * k + more, 12, share) for k in range(6)]) for more, share in ((0, 0.25), (100, 0.2))
    )
    steps = np.array([[0, 5 * math.sin(0.35), 5 * math.cos(0.35)], [0, 0.8, 0], [0.8, 0, 0]])
    a, b = border(pred) @ steps, border(truth) @ steps
    there = np.array([min(math.dist(p, q) for q in b) for p in a])
    back = np.array([min(math.dist(p, q) for q in a) for p in b])
    expected = {
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "assd": np.concatenate([there, back]).mean(),
    }
    assert metrics.surface(pred, truth, steps) == pytest.approx(expected)
    point, other = np.zeros((2, 6, 12, 12), bool)
    point[1, 2, 3], other[4, 9, 3] = True, True
    away = math.hypot(7 * 0.8 + 3 * 5 * math.sin(0.35), 3 * 5 * math.cos(0.35))
    assert metrics.surface(point, other, steps) == pytest.approx({"hd95": away, "assd": away})
    empty, longest = (
        np.zeros_like(pred),
        max(math.dist((0, 0, 0), np.array(pred.shape) * signs @ steps) for signs in ((1, 1, 1), (1, -1, 1))),
    )
    assert metrics.surface(pred, empty, steps)["hd95"] == pytest.approx(longest)


@pytest.mark.parametrize("spacing", [None, (3.0, 0.7, 1.2)])
def test_surface_is_monais(spacing):
    measures = pytest.importorskip("monai.metrics")
    pred, truth = np.zeros((2, 14, 40, 44), bool)
    pred[3:9, 8:30, 4:20], truth[4:12, 12:33, 9:22], truth[1, 2, 3] = True, True, True
    pair = [torch.as_tensor(mask)[None, None].float() for mask in (pred, truth)]
    how = {"include_background": True, "spacing": list(spacing or (1.0, 1.0, 1.0))}
    expected = {
        "hd95": float(measures.compute_hausdorff_distance(*pair, percentile=95, **how)),
        "assd": float(measures.compute_average_surface_distance(*pair, symmetric=True, **how)),
    }
    assert metrics.surface(pred, truth, spacing) == pytest.approx(expected, abs=1e-4)


def test_numbers_of_a_volume_need_no_more_than_a_few_bytes_a_voxel():
    grid = np.ogrid[:160, :160, :160]
    pred, truth = (np.asfortranarray(sum((axis - middle) ** 2 for axis in grid) < 60**2) for middle in (75, 85))
    tracemalloc.start()
    found = metrics.case(pred, truth, (2.0, 1.0, 1.0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["dsc"] > 0.7 and 10 < found["hd95"] < 30
    assert peak < 8 * pred.size


def test_numbers_do_not_depend_on_the_order_in_memory_nor_on_what_lies_around():
    pred, truth = (np.stack([blobs(7 * k + more, 14, 0.25) for k in range(5)]) for more in (0, 100))
    expected = metrics.case(pred, truth, (3.0, 0.7, 1.2))
    assert metrics.case(np.asfortranarray(pred), truth, (3.0, 0.7, 1.2)) == pytest.approx(expected)
    padded = metrics.case(np.pad(pred, 9), np.pad(truth, 9), (3.0, 0.7, 1.2))
    assert {name: padded[name] for name in ("dsc", "hd95", "assd")} == pytest.approx(
        {name: expected[name] for name in ("dsc", "hd95", "assd")}
    )
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.case(pred, truth[1:])


def test_distances_are_left_out_where_the_surfaces_are_too_large(monkeypatch):
    pred, truth = np.zeros((2, 20, 30), bool)
    pred[5:10, 5:10], truth[5:10, 8:13] = True, True
    monkeypatch.setattr(metrics, "MOST_SURFACE", 31)
    found = metrics.case(pred, truth)
    assert math.isnan(found["hd95"]) and math.isnan(found["assd"]) and found["dsc"] == pytest.approx(0.4)
    monkeypatch.setattr(metrics, "MOST_SURFACE", 32)
    assert metrics.surface(pred, truth)["hd95"] == pytest.approx(3)


def test_surface_of_a_shifted_square_and_of_itself():
    pred, truth = np.zeros((2, 20, 30), bool)
    pred[5:10, 5:10], truth[5:10, 8:13] = True, True
    assert metrics.surface(pred, truth)["hd95"] == pytest.approx(3)
    assert metrics.surface(truth, truth) == {"hd95": 0.0, "assd": 0.0}
    point, other = np.zeros((2, 20, 30), bool)
    point[0, 0], other[3, 4] = True, True
    assert metrics.surface(point, other) == pytest.approx({"hd95": 5.0, "assd": 5.0})


def test_surface_of_empty_masks():
    empty, some = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    some[3:6, 3:6] = True
    assert metrics.surface(empty, empty) == {"hd95": 0.0, "assd": 0.0}
    assert metrics.surface(empty, some) == metrics.surface(some, empty) == {"hd95": 50.0, "assd": 50.0}


def test_case_holds_all_numbers():
    pred, truth = np.zeros((2, 10, 10), bool)
    pred[0, :6], truth[0, 2:10] = True, True
    found = metrics.case(pred, truth)
    assert found == pytest.approx(
        {"dsc": 8 / 14, "ppv": 4 / 6, "sen": 0.5, **slow_surface(pred, truth), "hit": 4, "said": 6, "real": 8}
    )


def test_case_of_a_volume_counts_voxels_of_all_slices():
    pred, truth = np.zeros((2, 4, 10, 10), bool)
    pred[1:3, 2:6, 2:6], truth[2, 2:6, 3:8] = True, True
    found = metrics.case(pred, truth, (4.0, 1.0, 2.0))
    counts = {"dsc": 24 / 52, "ppv": 12 / 32, "sen": 12 / 20, "hit": 12, "said": 32, "real": 20}
    assert found == pytest.approx(counts | slow_surface(pred, truth, (4.0, 1.0, 2.0)), abs=1e-5)


def cases():
    """A good one, a missed one, a quiet normal and a false alarm: (hit, said, real) each."""
    rows = []
    for true_pos, pred_pos, truth_pos in ((6, 8, 10), (0, 0, 5), (0, 0, 0), (0, 3, 0)):
        nothing = pred_pos + truth_pos == 0
        share = {
            "dsc": 2 * true_pos / max(pred_pos + truth_pos, 1),
            "ppv": true_pos / max(pred_pos, 1),
            "sen": true_pos / max(truth_pos, 1),
        }
        rows.append(
            {k: 1.0 if nothing else v for k, v in share.items()}
            | {"hd95": 7.0 * (not nothing), "assd": 1.0 * (not nothing)}
            | {"hit": true_pos, "said": pred_pos, "real": truth_pos}
        )
    return rows


def test_summary_by_hand():
    found = metrics.summary(cases())
    assert found == pytest.approx(
        {
            "dsc": (12 / 18 + 0 + 1 + 0) / 4, "ppv": (0.75 + 0 + 1 + 0) / 4, "sen": (0.6 + 0 + 1 + 0) / 4,
            "hd95": 21 / 4, "assd": 0.75,
            "dsc_lesion": 1 / 3, "ppv_lesion": 0.375, "sen_lesion": 0.3, "hd95_lesion": 7.0, "assd_lesion": 1.0,
            "dsc_pooled": 12 / 26, "ppv_pooled": 6 / 11, "sen_pooled": 6 / 15,
            "false_alarms": 0.5, "images": 4, "lesions": 2, "distances": 4,
        }
    )  # fmt: skip


def test_a_distance_that_was_left_out_does_not_count():
    rows = cases()
    rows[0] |= {"hd95": math.nan, "assd": math.nan}  # an outline of more than MOST_SURFACE pixels
    found = metrics.summary(rows)
    assert (found["hd95"], found["hd95_lesion"]) == pytest.approx((14 / 3, 7.0)) and found["distances"] == 3
    assert found["dsc"] == metrics.summary(cases())["dsc"]
    alone = metrics.summary(rows[:1])
    assert math.isnan(alone["hd95"]) and math.isnan(alone["assd_lesion"]) and alone["distances"] == 0


def test_summary_of_normals_only_and_of_lesions_only():
    quiet = metrics.summary(cases()[2:3])
    assert quiet["dsc"] == quiet["dsc_pooled"] == quiet["ppv_pooled"] == quiet["sen_pooled"] == 1.0
    assert math.isnan(quiet["dsc_lesion"]) and quiet["false_alarms"] == 0.0
    alarm = metrics.summary(cases()[3:])
    assert alarm["dsc_pooled"] == alarm["ppv_pooled"] == alarm["sen_pooled"] == 0.0 and alarm["false_alarms"] == 1.0
    missed = metrics.summary(cases()[1:2])
    assert missed["dsc_pooled"] == missed["ppv_pooled"] == missed["sen_pooled"] == 0.0
    assert math.isnan(missed["false_alarms"]) and missed["lesions"] == 1


def test_a_miss_never_improves_a_mean():
    good, missed = np.zeros((2, 20, 20), bool)
    good[5:9, 5:9] = True
    rows = [metrics.case(good, good)]
    before, after = metrics.summary(rows), metrics.summary(rows + [metrics.case(missed, good)])
    for name in ("dsc", "ppv", "sen", "dsc_pooled", "sen_pooled", "dsc_lesion"):
        assert after[name] < before[name], name
    for name in ("hd95", "assd", "hd95_lesion", "assd_lesion"):
        assert after[name] > before[name], name


def test_summary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no images"):
        metrics.summary([])


def test_lift_is_the_loop_with_its_undefined_cases():
    chosen = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0] * 8, [1] * 8, [0] * 8]).bool()
    lesion = torch.tensor([[1, 0, 0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0, 0, 0], [1] + [0] * 7, [0] * 8, [0] * 8]).bool()
    found = metrics.lift(chosen, lesion).tolist()
    assert found[:3] == pytest.approx([0.5 / 0.25, 1.0, 0.0])
    assert math.isnan(found[3]) and math.isnan(found[4])


def test_auc_counts_pairs():
    source = np.random.default_rng(0)
    score, lesion = torch.tensor(source.integers(0, 6, 40) / 5.0), torch.tensor(source.random(40) < 0.3)
    pairs = [(float(a), float(b)) for a in score[lesion] for b in score[~lesion]]
    assert metrics.auc(score, lesion) == pytest.approx(np.mean([1.0 if a > b else 0.5 * (a == b) for a, b in pairs]))
    assert math.isnan(metrics.auc(score, torch.zeros(40))) and math.isnan(metrics.auc(score, torch.ones(40)))


def test_auc_refuses_scores_that_are_nan():
    with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
        metrics.auc(torch.tensor([0.5, torch.nan, 0.2]), torch.tensor([1, 0, 0]))
    assert metrics.auc(torch.tensor([0.5, torch.inf, -torch.inf]), torch.tensor([1, 0, 0])) == 0.5
