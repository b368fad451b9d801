"""Probabilities and rules against slow versions, by hand, and as the command writes them into a checkpoint."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mpsams import calibration, checkpoint, datasets, inference, packs, splits, transforms
from mpsams.calibration import Readout, Reliability, Rule
from mpsams.transforms import Box
from mpsams.unet import UNet
from train import calibrate, evaluate, finetune


def chance_map() -> np.ndarray:
    """Three parts at 0.5: 16 pixels up to 0.95, 4 pixels up to 0.99, 9 pixels up to 0.6; two of them touch at no
    corner.
    """
    probability = np.full((20, 20), 0.1, np.float32)
    probability[1:5, 1:5], probability[2, 2] = 0.7, 0.95
    probability[8:10, 8:10] = 0.99
    probability[14:17, 2:5] = 0.6
    return probability


@pytest.mark.parametrize(
    "rule, kept",
    [
        (None, (16, 4, 9)),
        (Rule(), (16, 4, 9)),
        (Rule(0.02, 0), (16, 9)),
        (Rule(0, 0.9), (16, 4)),
        (Rule(0.02, 0.9), (16,)),
        (Rule(0.1, 0), ()),
        (Rule(0, 1.0), ()),
    ],
)
def test_a_rule_leaves_out_what_is_small_or_nowhere_likely(rule, kept):
    found = calibration.threshold_mask(chance_map(), 0.5, rule, 400)
    assert found.dtype == bool and found.sum() == sum(kept)
    assert (found[1, 1], found[8, 8], found[14, 2]) == (16 in kept, 4 in kept, 9 in kept)


def test_parts_that_touch_at_a_corner_are_one():
    probability = np.zeros((6, 6), np.float32)
    probability[0:2, 0:2], probability[2:4, 2:4] = 0.9, 0.6
    assert calibration.threshold_mask(probability, 0.5, Rule(8 / 36, 0.8), 36).sum() == 8


def test_a_lower_threshold_shows_what_the_rule_had_hidden():
    rule = Rule(0, 0.9)
    assert (
        rule.peak_at(0.5) == pytest.approx(0.9) and rule.peak_at(0.1) == pytest.approx(0.5) and Rule().peak_at(0.1) == 0
    )
    counts = [calibration.threshold_mask(chance_map(), t, rule, 400).sum() for t in (0.12, 0.5, 0.8)]
    assert counts == [29, 20, 4]  # 0.95 is not likely enough at 0.8


def test_the_mask_of_a_box_counts_areas_as_a_share_of_the_box():
    rule, probability = Rule(0.03, 0), chance_map()
    assert inference.lesion_mask(rule, probability).sum() == 16
    assert inference.lesion_mask(rule, probability, box=Box(0, 0, 10, 10)).sum() == 29  # a share of 100 pixels
    assert inference.lesion_mask(None, probability, 0.65).sum() == 20


def test_reliability_is_the_loops():
    source = np.random.default_rng(0)
    probability, truth = source.random((2, 30, 40)).astype(np.float32) ** 2, None
    probability[0, 0, 0], probability[0, 0, 1] = 1.0, 0.0
    truth = source.random(probability.shape) < probability**2
    counted = Reliability()
    for each in zip(probability, truth):
        counted.add(*each)
    found = counted.table()
    values = [[] for _ in range(10)]
    for p, real in zip(probability.ravel().tolist(), truth.ravel().tolist()):
        values[min(9, math.floor(p * 10))].append((p, real))
    for bin, own in zip(found["bins"], values, strict=True):
        assert bin["pixels"] == len(own)
        assert bin["probability"] == pytest.approx(np.mean([p for p, _ in own]), rel=1e-5) and bin[
            "lesion"
        ] == pytest.approx(np.mean([r for _, r in own]))
    gaps = [abs(sum(p - r for p, r in own)) for own in values]
    assert found["ece"] == pytest.approx(sum(gaps) / 2400, rel=1e-5)
    assert found["ece_above"] == pytest.approx(sum(gaps[1:]) / (2400 - len(values[0])), rel=1e-5)
    empty = Reliability().table()
    assert empty["ece"] is empty["ece_above"] is empty["bins"][3]["lesion"] is None


@pytest.mark.parametrize("slope, shift", [(0.4, -1.0), (1.0, 0.0), (2.5, 0.7)])
def test_platt_is_logistic_regression_and_finds_what_was_put_in(slope, shift):
    source = np.random.default_rng(1)
    logits = source.normal(-2, 3, 20_000).astype(np.float32)
    truth = source.random(logits.shape) < 1 / (1 + np.exp(-(slope * logits + shift)))
    found = calibration.platt(
        calibration.tally(logits[:9000], truth[:9000]) + calibration.tally(logits[9000:], truth[9000:])
    )
    exact = LogisticRegression(C=np.inf).fit(logits[:, None], truth)
    assert found == pytest.approx((exact.coef_[0, 0], exact.intercept_[0]), rel=0.02, abs=0.02)
    assert found == pytest.approx((slope, shift), rel=0.15, abs=0.15)
    alone, nothing = calibration.platt(calibration.tally(logits, truth), intercept=False)
    exact = LogisticRegression(C=np.inf, fit_intercept=False).fit(logits[:, None], truth)
    assert alone == pytest.approx(exact.coef_[0, 0], rel=0.02) and nothing == 0


def test_a_perfect_network_is_calibrated_too_and_one_that_is_wrong_is_refused():
    logits = np.array([-8.0, -5, 6, 9], np.float32)
    slope, shift = calibration.platt(calibration.tally(logits, logits > 0))
    assert 0 < slope < 10 and abs(shift) < 10
    with pytest.raises(ValueError, match="learnt nothing"):
        calibration.platt(calibration.tally(logits, logits < 0))
    for truth in (logits > 100, logits < 100):
        with pytest.raises(ValueError, match="needs both"):
            calibration.platt(calibration.tally(logits, truth))


def made(count=30, seed=0):
    """Images of a blob that is the lesion and of a false one that is often smaller or less likely; a third has no
    lesion.
    """
    source = np.random.default_rng(seed)
    probabilities, truths = np.full((count, 24, 24), 0.05, np.float32), np.zeros((count, 24, 24), bool)
    for number in range(count):
        if number % 3:
            side = source.integers(5, 9)
            truths[number, 2 : 2 + side, 3 : 3 + side] = True
            probabilities[number, 3 : 2 + side, 3 : 3 + side] = source.uniform(0.75, 0.99)
        if source.random() < 0.6:
            side = source.integers(1, 6)
            probabilities[number, 15 : 15 + side, 14 : 14 + side] = source.uniform(0.55, 0.85)
    return probabilities, truths


def test_a_rules_judgement_is_that_of_the_masks_it_leaves():
    probabilities, truths = made()
    found = calibration.outcomes(probabilities, truths)
    for rule in (Rule(), Rule(0.02, 0), Rule(0, 0.8), Rule(0.015, 0.7)):
        masks = [calibration.threshold_mask(probability, 0.5, rule, probability.size) for probability in probabilities]
        dsc = [
            2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask, truth in zip(masks, truths) if truth.any()
        ]
        alarms = [mask.any() for mask, truth in zip(masks, truths) if not truth.any()]
        judged = calibration.score_rule(found, rule)
        assert judged["dsc_lesion"] == pytest.approx(np.mean(dsc)) and judged["false_alarms"] == pytest.approx(
            np.mean(alarms)
        )


@pytest.mark.parametrize("most", [0.0, 0.1, 0.3])
def test_the_rule_that_is_found_is_as_quiet_as_asked_and_none_of_the_others_is_better(most):
    found = calibration.outcomes(*made())
    before = calibration.score_rule(found, Rule())
    rule, quiet = calibration.find_rule(found, most)
    judged = calibration.score_rule(found, rule)
    assert quiet and judged["false_alarms"] <= most < before["false_alarms"]
    others = [Rule(area, peak) for area in np.linspace(0, 0.1, 12) for peak in np.linspace(0, 1, 12)]
    values = [calibration.score_rule(found, other) for other in others]
    assert judged["dsc_lesion"] >= max(v["dsc_lesion"] for v in values if v["false_alarms"] <= most) - 0.01


def test_without_normals_or_alarms_the_mildest_rule_is_taken_and_without_lesions_none():
    probabilities, truths = made()
    clean = np.where(truths, 0.9, 0.1).astype(np.float32)
    assert calibration.find_rule(calibration.outcomes(clean, truths), 0.1) == (Rule(), True)
    lesions = truths.any(axis=(1, 2))
    assert calibration.find_rule(calibration.outcomes(clean[lesions], truths[lesions]), 0.0) == (Rule(), True)
    with pytest.raises(ValueError, match="no lesion"):
        calibration.find_rule(calibration.outcomes(probabilities, truths & False), 0.1)


def test_metadata_of_old_checkpoints_mean_that_nothing_is_changed():
    assert calibration.readout({}) == calibration.readout({"rule": None, "calibration": None}) == Readout()
    assert calibration.readout(
        {
            "rule": {"smallest_area": 0.1, "least_peak": 0.2, "more": 1},
            "flips_averaged": True,
            "calibration": {"slope": 2.0, "intercept": 1.0},
        }
    ) == Readout(True, 2.0, 1.0, Rule(0.1, 0.2))


def test_flips_are_averaged_and_probabilities_calibrated_in_one_place(tmp_path):
    torch.manual_seed(0)
    unet = UNet(width=2)
    metadata = {"kind": "segmentation", "size": 32, "model": {"channels": 1, "classes": 1, "width": 2, "norm": "batch"}}
    plain, read = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    checkpoint.save(plain, unet.state_dict(), metadata)
    checkpoint.save(
        read, unet.state_dict(), metadata | {"flips_averaged": True, "calibration": {"slope": 1.5, "intercept": -0.3}}
    )
    unit = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    with torch.no_grad():
        x = transforms.standardise(inference.to_grid(unit, 32))
        straight, mirrored = unet.eval()(x), unet(x.flip(3)).flip(3)
    before, after = (
        inference.grid_probability(inference.open_network(path, "float32"), unit) for path in (plain, read)
    )
    np.testing.assert_allclose(before, torch.sigmoid(straight)[0, 0], atol=1e-5)
    np.testing.assert_allclose(after, torch.sigmoid(1.5 * (straight + mirrored) / 2 - 0.3)[0, 0], atol=1e-5)
    np.testing.assert_allclose(
        inference.grid_probability(inference.open_network(read, "float32"), unit[:, ::-1].copy()),
        after[:, ::-1],
        atol=1e-4,
    )


# The command

SMALL = [
    "--data.name",
    "phantom",
    "--data.size",
    "64",
    "--data.cases",
    "40",
    "--run.threads",
    "1",
    "--run.device",
    "cpu",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick_phantom):
    """A fine-tuned network that outlines phantoms, and a pack of them."""
    top = tmp_path_factory.mktemp("calibrate")
    phantom = datasets.open_dataset("phantom")
    packs.write(phantom.select(phantom.cases[:40]), 64, top / "pack")
    how = [
        "--labels",
        "1",
        "--recipe.name",
        "strong",
        "--recipe.epochs",
        "25",
        "--recipe.ema_decay",
        "0.9",
        "--validate_every",
        "0",
    ]
    finetune.main([*SMALL, *how, "--model.width", "6", "--out", str(top / "seg")])
    return top


def test_another_file_is_not_replaced_unasked(trained, tmp_path):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"another network")
    command = ["--weights", str(trained / "seg" / "weights.safetensors"), "--data.root", str(trained / "pack")]
    with pytest.raises(ValueError, match="out.safetensors exists already; --overwrite replaces it"):
        calibrate.main([*command, "--out", str(out)])
    assert out.read_bytes() == b"another network"
    calibrate.main([*command, "--out", str(out), "--overwrite"])
    assert checkpoint.load(out).metadata["flips_averaged"]


def test_the_command_writes_what_every_use_then_follows(trained, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((trained / "seg" / "weights.safetensors").read_bytes())
    before = checkpoint.load(weights)
    fields = calibrate.main(["--weights", str(weights), "--data.root", str(trained / "pack")])
    after = checkpoint.load(weights)
    assert all(torch.equal(after.tensors[name], before.tensors[name]) for name in before.tensors)
    assert {key: after.metadata[key] for key in calibration.FOUND} == json.loads(json.dumps(fields))
    assert (
        fields["flips_averaged"]
        and fields["calibrated"]["from"] == before.sha256
        and fields["calibrated"]["images"] == len(before.metadata["split"]["val"])
    )
    fitted = fields["calibration"]
    assert (
        fitted["kind"] == "platt" and fitted["slope"] > 0 and fitted["after"]["ece"] <= fitted["before"]["ece"] + 1e-3
    )
    assert sum(row["pixels"] for row in fitted["after"]["bins"]) == fields["calibrated"]["images"] * 64 * 64
    again = calibrate.main(["--weights", str(weights), "--data.root", str(trained / "pack")])
    assert again == fields  # nothing of the first is left in the second, and it still names the network
    network = inference.open_network(weights, "float32")
    assert network.readout == calibration.readout(fields)
    # of the calibrated masks
    assert (
        0.9 < after.metadata["bfloat16_dsc"] <= 1 and after.metadata["bfloat16_dsc"] != before.metadata["bfloat16_dsc"]
    )


def test_evaluation_follows_the_rule_and_says_which(trained, tmp_path):
    weights, seg = tmp_path / "weights.safetensors", trained / "seg" / "weights.safetensors"
    found = checkpoint.load(seg)
    strict = {"rule": {"smallest_area": 0.99, "least_peak": 0.0}, "flips_averaged": True}
    checkpoint.save(weights, found.tensors, found.metadata | strict)
    values = {}
    for name, path, more in (("plain", seg, []), ("strict", weights, []), ("without", weights, ["--rule", "false"])):
        evaluate.main(["--weights", str(path), "--split", "test", "--json", str(tmp_path / f"{name}.json"), *more])
        values[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert (
        values["strict"]["rule"] == strict["rule"]
        and values["strict"]["dsc_lesion"] == values["strict"]["false_alarms"] == 0
    )
    assert values["plain"]["rule"] is values["without"]["rule"] is None and values["without"]["dsc_lesion"] > 0.2
    assert values["strict"]["flips_averaged"] is True and not values["plain"]["flips_averaged"]
    table = values["plain"]["reliability"]
    assert table["ece"] >= 0 and sum(row["pixels"] for row in table["bins"]) > 1e5


@pytest.mark.parametrize("kind", ["temperature", "none"])
def test_masks_stay_as_they_are_without_intercept_rule_and_flips(trained, tmp_path, kind):
    weights, out = trained / "seg" / "weights.safetensors", tmp_path / "other.safetensors"
    before = weights.read_bytes()
    calibrate.main(
        [
            "--weights",
            str(weights),
            "--data.root",
            str(trained / "pack"),
            "--calibration",
            kind,
            "--rule",
            "false",
            "--flips_averaged",
            "false",
            "--out",
            str(out),
        ]
    )
    assert weights.read_bytes() == before
    one, other = (inference.open_network(path, "float32") for path in (weights, out))
    assert (
        other.readout.intercept == 0 and (other.readout.slope == 1) == (kind == "none") and other.readout.rule is None
    )
    unit = datasets.open_dataset("phantom")[0].unit
    np.testing.assert_array_equal(
        inference.grid_probability(one, unit) >= 0.5, inference.grid_probability(other, unit) >= 0.5
    )


def test_what_cannot_be_calibrated_is_refused_in_a_sentence(trained, tmp_path, capsys):
    weights = str(trained / "seg" / "weights.safetensors")
    with pytest.raises(SystemExit):
        calibrate.main(["--weights", weights, "--false_alarms", "10"])
    assert "false_alarms 10.0 must lie in [0, 1]" in capsys.readouterr().err
    found = checkpoint.load(weights)
    checkpoint.save(tmp_path / "p.safetensors", found.tensors, found.metadata | {"kind": "pretrain"})
    with pytest.raises(ValueError, match="is a pretrain checkpoint; expected a segmentation"):
        calibrate.main(["--weights", str(tmp_path / "p.safetensors")])
    split = replace(splits.restore(found.metadata["split"]), val=())
    checkpoint.save(
        tmp_path / "v.safetensors", found.tensors, found.metadata | {"split": asdict(split) | {"sha256": split.sha256}}
    )
    with pytest.raises(ValueError, match="trained without a validation part"):
        calibrate.main(["--weights", str(tmp_path / "v.safetensors"), "--data.root", str(trained / "pack")])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            Rule(0.004, 0.8),
            "connected parts are kept that cover at least 0.4% of the image and have a peak probability",
        ),
        (Rule(0.0, 0.84), "connected parts are kept that have a peak probability of at least 84%"),
        (Rule(0.0066, 0.0), "connected parts are kept that cover at least 0.66% of the image"),
        (Rule(0.0, 0.0), "all connected parts are kept"),
    ],
)
def test_a_rule_is_described_by_the_conditions_that_it_has(rule, words):
    assert calibration.describe(rule).startswith(words)
    assert "at least 0%" not in calibration.describe(rule)
