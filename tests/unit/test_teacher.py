"""Fine-tuning with unlabelled images: what the teacher sees, what it labels, and what that is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mpsams import checkpoint, transforms
from mpsams.transforms import Augmentation
from train import finetune, teacher
from train.finetune import RECIPES, Recipe
from train.teacher import Teacher


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_taught_view_is_the_teachers_with_other_intensities_and_hidden_patches():
    images = torch.rand(4, 1, 64, 64, generator=seeded())
    geometry = Augmentation(flip=0.5, rotation=10, shift=0.1)
    plain, changed = teacher.views(images, Teacher(hide=0.25, augment=geometry), seeded(3))
    drawn = transforms.draw(4, geometry, seeded(3))
    torch.testing.assert_close(plain, transforms.standardise(transforms.apply_geometry(images, drawn)))
    hidden = (changed == 0).reshape(4, 4, 16, 4, 16).all(dim=4).all(dim=2)
    assert hidden.flatten(1).sum(1).tolist() == [4] * 4
    shown = ~hidden.repeat_interleave(16, 1).repeat_interleave(16, 2)
    torch.testing.assert_close(changed[:, 0][shown], plain[:, 0][shown])
    _, stronger = teacher.views(images, Teacher(hide=0.25, augment=replace(geometry, gamma=0.5)), seeded(3))
    assert not torch.allclose(stronger[:, 0][shown], plain[:, 0][shown], atol=1e-3)


def test_labels_are_those_of_a_network_in_evaluation_and_only_where_it_is_sure():
    probabilities = torch.tensor([0.05, 0.2, 0.6, 0.95])
    network = nn.BatchNorm2d(1).train()  # in evaluation mode, as initialised, it changes nothing
    x = torch.logit(probabilities).reshape(1, 1, 2, 2)
    labels, sure = teacher.labels(network, x, 0.9)
    assert labels.flatten().tolist() == [False, False, True, True] and sure.flatten().tolist() == [
        True,
        False,
        False,
        True,
    ]
    assert network.training and network.running_mean.item() == 0


def test_the_loss_is_the_cross_entropy_of_sure_pixels_over_all():
    logits = torch.tensor([2.0, -1.0, 0.5]).reshape(1, 1, 1, 3)
    labels, sure = (torch.tensor(flags).reshape(1, 1, 1, 3) for flags in ([True, True, False], [True, True, False]))
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 3
    assert float(teacher.loss(logits, labels, sure)) == pytest.approx(by_hand, rel=1e-5)


def test_the_weight_rises_over_its_ramp():
    options = Teacher(weight=2.0, ramp=0.5)
    assert [teacher.weight(options, epoch, 8) for epoch in (1, 2, 4, 8)] == [0.5, 1.0, 2.0, 2.0]
    assert teacher.weight(replace(options, ramp=0.0), 1, 8) == 2.0


def test_every_unlabelled_image_is_drawn():
    numbers = teacher.draw(5, 200, seeded())
    assert set(numbers.tolist()) == set(range(5))


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"sure": 0.4}, {"hide": 1.0}, {"ramp": 2.0}, {"patch": 0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} {next(iter(wrong.values()))}"):
        Teacher(**wrong)


def test_a_teacher_needs_an_average():
    with pytest.raises(ValueError, match="needs recipe.ema_decay above 0"):
        Recipe(teacher=Teacher(weight=1.0))
    assert RECIPES["teacher"].teacher.weight and RECIPES["teacher"].ema_decay


def run(out, *more):
    small = [
        "--data.name",
        "phantom",
        "--data.size",
        "32",
        "--data.cases",
        "24",
        "--model.width",
        "2",
        "--recipe.name",
        "teacher",
        "--recipe.epochs",
        "2",
        "--recipe.batch",
        "4",
        "--labels",
        "0.3",
    ]
    return checkpoint.load(finetune.main([*small, "--out", str(out), *more]))


def test_unlabelled_images_are_learnt_from_but_never_their_masks(tmp_path, quick_phantom, monkeypatch):
    seen = []
    take = teacher.take
    monkeypatch.setattr(
        teacher,
        "take",
        lambda stack, numbers, device: seen.append((stack.groups, numbers)) or take(stack, numbers, device),
    )
    found = run(tmp_path / "a")
    labelled, split = set(found.metadata["labelled"]), found.metadata["split"]
    assert seen and all(not labelled & set(groups) and set(groups) < set(split["train"]) for groups, _ in seen)
    alone = run(tmp_path / "b", "--recipe.teacher.weight", "0")
    assert not torch.equal(found.tensors["head.weight"], alone.tensors["head.weight"])


def test_with_all_labels_there_is_nothing_for_a_teacher(tmp_path, quick_phantom):
    taught, alone = (
        run(tmp_path / weight, "--labels", "1", "--recipe.teacher.weight", weight) for weight in ("1", "0")
    )
    assert all(torch.equal(taught.tensors[name], alone.tensors[name]) for name in alone.tensors)
