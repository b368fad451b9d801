"""Training and evaluation of prompts: simulated users, a short training, resuming, the evaluation's file, peers."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from mpsams import checkpoint, datasets, inference, splits
from mpsams.inference import prompts
from mpsams.inference.prompts import Prompt
from mpsams.unet import UNet
from tests.support import ROOT
from train import (
    evaluate_prompts,
    prompt,
    prompt_data,
    prompt_objects,
    prompt_peers,
    prompt_targets,
    prompt_validation,
    publish,
    simulated_users,
    structures,
)

TINY = [
    "--data.size",
    "64",
    "--model.width",
    "4",
    "--learning.size",
    "32",
    "--learning.batch",
    "8",
    "--run.precision",
    "float32",
    "--validate_every",
    "0",
    "--data.sources",
    '{"phantom": "drawn for this test"}',
]
SHAPE = (50, 80)
DISC = np.hypot(*(np.mgrid[:50, :80] - np.array([20, 30])[:, None, None])) < 12


def rng(seed=0):
    return np.random.default_rng(seed)


def train(tmp_path, name, *more):
    return prompt.main([*TINY, "--out", str(tmp_path / name), *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick_phantom):
    return train(
        tmp_path_factory.mktemp("prompt"),
        "run",
        "--learning.epochs",
        "12",
        "--learning.lr",
        "0.01",
        "--learning.average",
        "0.9",
        "--learning.shapes",
        "0",
        "--learning.structures",
        "0",
    )


def test_a_box_moves_each_side_by_at_most_its_share_and_the_seed_decides():
    exact = prompts.bounding_box(DISC)
    boxes = [simulated_users.jittered_box(DISC, 0.08, rng(seed)) for seed in range(40)]
    assert simulated_users.jittered_box(DISC, 0.0, rng()) == exact and len(set(boxes)) > 10
    assert boxes == [simulated_users.jittered_box(DISC, 0.08, rng(seed)) for seed in range(40)]
    for box in boxes:
        for start, length, first, side in zip(box[:2], box[2:], exact[:2], exact[2:], strict=True):
            assert abs(start - first) <= 0.08 * side + 0.5 and abs(start + length - first - side) <= 0.08 * side + 0.5


def test_the_deepest_point_is_the_farthest_from_all_that_is_no_object_the_edge_included():
    assert simulated_users.deepest_point(DISC) == (20, 30)
    assert simulated_users.deepest_point(np.ones((9, 21), bool))[0] == 4
    ring = DISC & ~(np.hypot(*(np.mgrid[:50, :80] - np.array([20, 30])[:, None, None])) < 5)
    at = simulated_users.deepest_point(ring)
    slow = [
        min(np.hypot(row - at[0], column - at[1]) for row, column in np.argwhere(~ring)),
        ndimage.distance_transform_edt(ring).max(),
    ]
    assert slow[0] == pytest.approx(slow[1])


def test_the_next_click_is_in_the_largest_error():
    answer = DISC.copy()
    answer[15:25, 22:30] = False  # 80 pixels missed
    answer[40:46, 60:70] = True  # 60 added
    first = simulated_users.next_click(Prompt(), answer, DISC)
    assert (
        first.mask is answer
        and not first.negative
        and 15 <= first.positive[0][0] < 25
        and 22 <= first.positive[0][1] < 30
    )
    answer = DISC.copy()
    answer[40:46, 60:70] = True
    second = simulated_users.next_click(first, answer, DISC)
    assert second.positive == first.positive and 40 <= second.negative[0][0] < 46
    assert simulated_users.next_click(second, DISC, DISC) == replace(second, mask=DISC)


@pytest.mark.parametrize("seed", range(12))
def test_users_mark_the_object_and_only_it(seed):
    source = rng(seed)
    first = simulated_users.first_prompt(DISC, 0.15, source)
    assert all(DISC[point] for point in first.positive)
    line = simulated_users.scribble(DISC, source)
    assert line.any() and not (line & ~DISC).any()
    wrong = simulated_users.wrong_mask(DISC, source)
    after = simulated_users.next_prompt(first, wrong, DISC, source)
    assert (
        wrong.any()
        and all(DISC[point] for point in after.positive)
        and not any(DISC[point] for point in after.negative)
    )
    strokes = after.scribbles
    assert strokes is None or (
        not (strokes[~DISC] == prompts.OBJECT).any() and not (strokes[DISC] == prompts.BACKGROUND).any()
    )
    tiny = np.zeros(SHAPE, bool)
    tiny[49, 79] = True
    assert simulated_users.first_prompt(tiny, 0.15, source) and simulated_users.wrong_mask(tiny, source).any()


def test_shapes_change_the_image_where_they_are_and_structures_are_alike_inside():
    image = ndimage.gaussian_filter(rng(1).random((64, 64)), 3)
    image = ((image - image.min()) / (image.max() - image.min())).astype(np.float32)
    painted, shape = structures.paint_shape(image, rng(2))
    assert (
        shape.any()
        and np.abs(painted - image)[shape].mean()
        > 5 * np.abs(painted - image)[ndimage.distance_transform_edt(~shape) > 8].mean()
    )
    assert painted.dtype == np.float32 and painted.min() >= 0 and painted.max() <= 1
    found = next(
        mask for mask in (structures.find_structure(image, rng(seed)) for seed in range(20)) if mask is not None
    )
    assert (
        ndimage.label(found)[1] == 1
        and structures.SMALLEST <= found.mean() <= structures.LARGEST
        and image[found].std() < image.std()
    )
    assert structures.find_structure(np.zeros((64, 64), np.float32), rng()) is None


def test_images_are_drawn_by_set_and_taken_by_number(phantoms):
    own = replace(
        phantoms, stored_nchw=phantoms.stored_nchw[..., :32, :32], stored_n1hw=phantoms.stored_n1hw[..., :32, :32]
    )
    other = replace(own, name="other", rows=own.rows[:4], cases=own.cases[:4], groups=own.groups[:4])
    objects = prompt_data.Objects([other, own], 0.0, 0.25)
    assert (
        len(objects) == 16
        and objects.weights.sum() == pytest.approx(1)
        and objects.weights[4:].sum() == pytest.approx(0.25)
    )
    images, masks = objects.take(torch.tensor([3, 4, 15]))
    for place, index in enumerate((3, 0, 11)):
        assert torch.equal(images[place], own.stored_nchw[index].float() / 255) and torch.equal(
            masks[place], own.stored_n1hw[index]
        )


def test_for_a_share_of_slices_the_image_is_the_one_beside_and_the_prompt_the_mask_of_the_first(phantoms):
    volume = replace(phantoms, groups=("a",) * 3 + ("b",) * (len(phantoms) - 3))
    labelled = prompt_data.select_with_objects(volume)
    objects = prompt_data.Objects([labelled], 0.0, 0.0, [volume])
    assert prompt_data.rows_beside(labelled, volume)[:3].tolist() == [[-1, 1], [0, 2], [1, -1]]
    images, masks = objects.take_slices(torch.tensor([0, 2]), 1.0, torch.Generator().manual_seed(0))
    for place, (own, beside) in enumerate(((0, 1), (2, 1))):
        assert torch.equal(masks[place, 1], volume.stored_n1hw[own, 0])
        assert torch.equal(masks[place, 0], volume.stored_n1hw[beside, 0])
        assert torch.equal(images[place], volume.stored_nchw[beside].float() / 255)
    images, masks = objects.take_slices(torch.tensor([0, 2]), 0.0, torch.Generator())
    assert not masks[:, 1].any() and torch.equal(images, objects.take(torch.tensor([0, 2]))[0])
    single = prompt_data.Objects([prompt_data.select_with_objects(phantoms)], 0.0, 0.0)  # images, no volumes
    assert not single.take_slices(torch.arange(4), 1.0, torch.Generator())[1][:, 1].any()


def test_the_object_of_a_slice_is_what_goes_on_from_the_outline_beside_it_or_nothing():
    image, other = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool)
    other[2:8, 60:70] = True
    moved = np.roll(DISC, 3, axis=1)
    learning = prompt.Learning()
    _, found, asked = prompt_objects.first_turn(image, np.stack([moved | other, DISC]), learning, rng())
    assert (found == moved).all() and asked.box is None and not asked.positive
    assert evaluate_prompts.dice(asked.mask, DISC) > 0.75
    _, found, _ = prompt_objects.first_turn(image, np.stack([other, DISC]), learning, rng())
    assert not found.any()  # the object has ended
    _, found, asked = prompt_objects.first_turn(image, np.stack([DISC, np.zeros(SHAPE, bool)]), learning, rng(3))
    assert found.any()


def test_a_short_training_learns_to_follow_a_box(trained, quick_phantom):
    found = checkpoint.load(trained)
    torch.manual_seed(0)
    before = inference.Network(UNet(**found.metadata["model"]).eval(), found.metadata, "", None)
    after = inference.build_network(found, "float32")
    data = prompt_data.open_sets(prompt_data.Packs(size=64))
    start, end = (
        prompt_validation.validate(network.unet, 32, data, 6)["val_phantom_box"] for network in (before, after)
    )
    assert end > start + 0.2 and end > 0.6


def test_the_checkpoint_says_what_it_was_trained_on(trained):
    found = checkpoint.load(trained)
    about = found.metadata
    assert (about["kind"], about["size"], about["model"]) == (
        "prompt",
        32,
        {"channels": 5, "classes": 1, "width": 4, "norm": "batch"},
    )
    split = splits.restore(about["splits"][0])
    assert (
        checkpoint.training_patients(found) == {"phantom": set(split.train)}
        and about["data"]["sets"][0]["source"] == "drawn for this test"
    )
    assert 0 <= about["bfloat16_dsc"] <= 1 and about["seen"] <= len(split.train)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, quick_phantom, monkeypatch):
    more = ("--learning.epochs", "2", "--run.save_minutes", "0")
    whole = checkpoint.load(train(tmp_path, "whole", *more)).tensors
    steps, real = [], prompt.loop.train_step

    def stopped(*arguments):
        steps.append(1)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(prompt.loop, "train_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, "parts", *more)
    monkeypatch.setattr(prompt.loop, "train_step", real)
    again = checkpoint.load(train(tmp_path, "parts", *more, "--resume")).tensors
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_pretraining_begins_it_with_zeros_for_the_new_channels(tmp_path, quick_phantom):
    torch.manual_seed(1)
    unet = UNet(1, 1, 4)
    path = tmp_path / "pre.safetensors"
    about = {
        "kind": "pretrain",
        "method": "mps_ams",
        "size": 32,
        "model": {"channels": 1, "classes": 1, "width": 4, "norm": "batch"},
        "transfers": ["encoder", "decoder"],
    }
    checkpoint.save(path, unet.state_dict(), about)
    data = prompt_data.open_sets(prompt_data.Packs(size=64))
    network = prompt.begin(prompt.Model(width=8), checkpoint.load(path), data)
    first = network.encoder.blocks[0][0].weight
    assert (
        torch.equal(first[:, :1], unet.encoder.blocks[0][0].weight) and not first[:, 1:].any() and first.shape[1] == 5
    )
    assert torch.equal(network.decoder.ups[0].weight, unet.decoder.ups[0].weight)
    leaking = {
        "split": {
            "dataset": "phantom",
            "seed": 1,
            "grouped": True,
            "train": data[0].split.test,
            "val": ["a"],
            "test": ["b"],
        }
    }
    checkpoint.save(path, unet.state_dict(), about | leaking)
    with pytest.raises(ValueError, match="has seen 6 images"):
        prompt.begin(prompt.Model(), checkpoint.load(path), data)


def test_a_prompt_network_is_learnt_further(trained, tmp_path, quick_phantom):
    start = checkpoint.load(trained)
    network = prompt.begin(prompt.Model(), start, prompt_data.open_sets(prompt_data.Packs(size=64)))
    assert all(torch.equal(each, start.tensors[name]) for name, each in network.state_dict().items())
    more = train(tmp_path, "more", "--learning.epochs", "1", "--init", str(trained))
    assert checkpoint.load(more).metadata["init"]["sha256"] == start.sha256
    assert checkpoint.load(more).metadata["size"] == start.metadata["size"] == 32
    model = {"channels": 3, "classes": 1, "width": 2, "norm": "batch"}
    path = tmp_path / "other.safetensors"
    checkpoint.save(path, UNet(3, 1, 2).state_dict(), {"kind": "segmentation", "model": model, "size": 32})
    with pytest.raises(ValueError, match="segmentation checkpoint of 3 channels"):
        train(tmp_path, "refused", "--init", str(path))


def test_a_prompt_network_to_begin_from_sets_the_size_of_the_crop(trained, monkeypatch):
    chosen = []
    monkeypatch.setattr(prompt, "train", chosen.append)
    prompt.main(["--init", str(trained)])
    prompt.main(["--init", str(trained), "--learning.size", "48"])
    prompt.main([])
    assert [each.learning.size for each in chosen] == [32, 48, prompt.Learning.size]


def test_a_checkpoint_that_is_not_there_is_named_before_data_are_read(monkeypatch):
    monkeypatch.setattr(prompt, "open_sets", lambda packs: pytest.fail("data were read"))
    with pytest.raises((SystemExit, ValueError), match="nowhere"):
        prompt.main(["--init", "nowhere.safetensors"])


def test_runs_with_other_options_have_folders_of_their_own(tmp_path, quick_phantom, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = [prompt.main([*TINY, "--learning.epochs", epochs]) for epochs in ("1", "2")]
    assert len({path.parent for path in weights}) == 2
    assert all(path.parent.name.startswith("prompt-32-w4-") and path.exists() for path in weights)


def test_the_evaluation_is_the_same_twice_and_has_the_agreed_names(trained, tmp_path, quick_phantom):
    arguments = ["--weights", str(trained), "--data.name", "phantom", "--json", str(tmp_path / "a.json")]
    evaluate_prompts.main(arguments)
    first = json.loads((tmp_path / "a.json").read_text())
    evaluate_prompts.main(arguments)  # replaces it, since it is the same measurement
    second = json.loads((tmp_path / "a.json").read_text())
    overlap = {"dsc", "median", "at_least_90"}
    assert (
        first["images"] == 6
        and set(first["box"]) == overlap
        and set(first["clicks"]) == {"1", "3", "5"}
        and set(first["clicks"]["3"]) == overlap
    )
    assert set(first["clicks_to_90"]) == {"median", "reached"} and first["ms_p95"] > 0 and "peers" not in first
    for found in (first, second):
        assert found.pop("ms_p95") and all(row.pop("ms") for row in found["cases"]["network"].values())
    assert first == second
    rows = list(first["cases"]["network"].values())
    assert first["box"]["dsc"] == pytest.approx(np.mean([row["box"] for row in rows]))
    with pytest.raises(ValueError, match="--overwrite"):
        evaluate_prompts.main([*arguments, "--seed", "1"])


def test_it_is_published_as_prompt_with_a_card_from_its_evaluations(trained, tmp_path, quick_phantom):
    folder = tmp_path / "weights"
    publish.main([str(trained.parent), "--weights", str(folder)])
    path = folder / "prompt.safetensors"
    assert "## Measured" not in (folder / "prompt.md").read_text()
    means = evaluate_prompts.main(
        ["--weights", str(path), "--data.name", "phantom", "--json", str(folder / "prompt-phantom.json")]
    )
    publish.main(["--weights", str(folder)])
    card = (folder / "prompt.md").read_text()
    assert f"| phantom | 6 | {means['box']['dsc']:.3f}" in card and checkpoint.load(path).sha256 in card
    assert "parts 52/6/6 images" in card
    assert f"in volumes, the mask of the slice beside as the prompt ({prompt.Learning().slices:.0%})" in card
    assert path.stat().st_size < 0.6 * trained.stat().st_size
    publish.main([str(trained.parent), "--weights", str(folder), "--overwrite"])
    assert not (folder / "prompt-phantom.json").exists()
    (folder / "prompt-phantom.json").write_text('{"sha256": "other"}')
    with pytest.raises(ValueError, match="measured another checkpoint"):
        publish.main(["--weights", str(folder)])


def test_means_count_who_never_reaches_90_as_one_click_more():
    rows = [
        {"box": 0.95, "confidence": None, "clicks": clicks, "ms": [1.0]}
        for clicks in ([0.9, 0.8, 0.9, 0.9, 0.9], [0.1] * 10, [0.2] * 10)
    ]
    found = evaluate_prompts.summarise(rows)
    assert (
        found["clicks_to_90"] == {"median": None, "reached": pytest.approx(1 / 3)} and found["box"]["at_least_90"] == 1
    )
    assert (
        found["clicks"]["1"]["dsc"] == pytest.approx((0.9 + 0.1 + 0.2) / 3)
        and evaluate_prompts.summarise(rows[:2])["clicks_to_90"]["median"] == 6
    )


def test_peers_are_measured_on_every_nth_object_and_beside_the_network():
    objects = [prompt_targets.Target(str(number), np.zeros(SHAPE, np.float32), DISC) for number in range(5)]
    good, bad = ((lambda unit_hw, prompt, mask=mask: (mask, None)) for mask in (DISC, DISC & (np.arange(80) < 30)))
    rows = evaluate_prompts.measure_all(good, {"peer": bad}, objects, 0, 2)
    assert list(rows["network"]) == list("01234") and list(rows["peer"]) == list("024")
    found = evaluate_prompts.compare(rows["network"], rows["peer"])
    assert found["images"] == 3 and found["box"]["dsc"] < 0.9 and found["network"]["box"]["dsc"] == 1.0


def test_a_user_gives_up_after_ten_clicks_and_stops_at_90():
    seen = []

    def answer(unit_hw, prompt):
        seen.append(prompt)
        return DISC if len(seen) > 8 else DISC & (np.arange(80) < 30), 0.5

    row = evaluate_prompts.measure(answer, np.zeros(SHAPE, np.float32), DISC, rng())
    assert len(row["clicks"]) == 8 and row["clicks"][-1] == 1.0 and row["box"] < 0.9 and len(row["ms"]) == 9
    assert (
        seen[0].box is not None
        and seen[1].positive == ((20, 30),)
        and len(seen[3].positive) + len(seen[3].negative) == 3
    )
    row = evaluate_prompts.measure(
        lambda unit_hw, prompt: (DISC & False, None), np.zeros(SHAPE, np.float32), DISC, rng()
    )
    assert len(row["clicks"]) == 10 and not any(row["clicks"])


def test_packs_and_folders_have_the_same_objects_and_a_limit_spreads_them(quick_phantom):
    dataset = datasets.open_dataset("phantom").select(tuple(f"ultrasound-{number:03d}" for number in range(8)))
    stack = datasets.stack(dataset, 64)
    own, packed = (list(prompt_targets.targets(images, 0)) for images in (dataset, stack))
    assert [each.case for each in own] == [each.case for each in packed] and len(own) == 6
    assert [each.case for each in prompt_targets.targets(stack, 2)] == [own[0].case, own[-1].case]
    assert all(
        ndimage.label(each.truth_hw)[1] == 1 and each.unit_hw.shape == each.truth_hw.shape for each in own + packed
    )


def test_evaluation_refuses_what_it_cannot_measure(trained, tmp_path):
    with pytest.raises(ValueError, match="use --split all"):
        evaluate_prompts.main(
            ["--weights", str(trained), "--data.name", "busi", "--data.root", str(made_busi(tmp_path))]
        )
    other = tmp_path / "seg.safetensors"
    model = {"channels": 1, "classes": 1, "width": 2, "norm": "batch"}
    checkpoint.save(other, UNet(1, 1, 2).state_dict(), {"kind": "segmentation", "model": model, "size": 32})
    with pytest.raises(ValueError, match="expected a prompt checkpoint"):
        evaluate_prompts.main(["--weights", str(other), "--data.name", "phantom"])


def made_busi(folder):
    from PIL import Image

    for kind in ("benign", "malignant", "normal"):
        (folder / "busi" / kind).mkdir(parents=True)
        Image.fromarray(np.zeros((40, 60), np.uint8)).save(folder / "busi" / kind / f"{kind} (1).png")
        Image.fromarray(DISC[:40, :60]).save(folder / "busi" / kind / f"{kind} (1)_mask.png")
    return folder / "busi"


@pytest.mark.parametrize(
    "name, library", [("scribble classifier", "sklearn"), ("grabcut", "cv2"), ("random walker", "skimage")]
)
def test_peers_find_a_bright_disc_from_a_box_and_from_clicks(name, library):
    if not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not installed")
    image = np.clip(np.where(DISC, 0.8, 0.2) + 0.03 * rng(4).normal(size=SHAPE), 0, 1).astype(np.float32)
    answer = prompt_peers.available()[name]
    for drawn_prompt in (Prompt(box=simulated_users.jittered_box(DISC, 0.08, rng())), Prompt(positive=((20, 30),))):
        mask, confidence = answer(image, drawn_prompt)
        assert (
            mask.shape == SHAPE
            and confidence is None
            and evaluate_prompts.dice(mask, DISC) > (0.85 if drawn_prompt.box else 0.6)
        )


def test_the_shipped_network_has_the_card_of_its_evaluations_and_follows_a_box():
    path = ROOT / "weights" / "prompt.safetensors"
    assert path.with_suffix(".md").read_text(encoding="utf-8") == publish.card_of(path)
    sample = datasets.open_dataset("phantom").read("ultrasound-060")
    truth = simulated_users.largest_part(sample.mask)
    drawn_prompt = Prompt(box=simulated_users.jittered_box(truth, 0.08, rng()))
    found = prompts.segment_prompt(inference.open_network(path), sample.unit, drawn_prompt)
    assert evaluate_prompts.dice(found.mask, truth) > 0.9 and 0.8 < found.confidence <= 1
