"""A training step on a device: it copies to it without waiting, and never asks it for a value.

The device is "meta", which has no values: whatever needs one, such as ``.item()`` or an index that is a mask, raises.
Not here: geodesic with ``reconstruct``, which splits patches in two in each step, and asks whether it has converged.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mpsams import datasets, methods
from mpsams.unet import UNet
from train import finetune, loop, pretrain
from train.finetune import Finetune, SampleParts
from train.options import RunOptions
from train.pretrain import Optim, Pretrain
from train.recipes import RECIPES
from train.state import Position

META = torch.device("meta")
ASKS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
CASES = 8
CONFIGS = {
    "mps_ams": {"patch": 4},
    "mps_ams, fixed ratio": {"patch": 4, "order": "random", "ratio": "fixed"},
    "mae": {"patch": 4},
    "simmim": {"patch": 8},
    "simclr": {},
    "byol": {},
    "swav": {"prototypes": 8},
    "geodesic": {},
}


class Copies(TorchDispatchMode):
    """Counts the copies from the processor to the device: those that wait, and all; and what is asked of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.all = self.asked = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        result = function(*arguments, **options)
        tensors = [each for each in arguments if isinstance(each, torch.Tensor)]
        if function is torch.ops.aten._to_copy.default and tensors[0].device.type == "cpu" and result.device == META:
            self.all += 1
            self.waiting += not options.get("non_blocking", False)
        self.asked += function in ASKS and tensors[0].device == META
        return result


@pytest.fixture
def stack() -> datasets.Stack:
    """A few images in the device's memory, as ``to_device_if_fits`` leaves them."""
    names = tuple(f"a{number}" for number in range(CASES))
    images, masks = (torch.zeros(CASES, 1, 32, 32, dtype=kind, device=META) for kind in (torch.uint8, torch.bool))
    return datasets.Stack("a", "ultrasound", "lesion", "", names, names, images, masks, torch.arange(CASES), "")


def count(work: loop.Task) -> Copies:
    """The copies of the second step; the first makes what is only made once, such as the optimiser's moments."""
    for group in work.optimizer.param_groups:
        group["fused"] = False  # there is no such kernel for this device
    at = Position()
    loop.train_step(work, at, torch.arange(4), 3)
    with Copies() as found:
        loop.train_step(work, at, torch.arange(4), 3)
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_pretraining_never_waits_for_the_device(name, stack, monkeypatch, tmp_path):
    method = name.partition(",")[0]
    config = methods.find(method).Config(**CONFIGS[name])
    module = methods.find(method).build(config, UNet(channels=1, classes=1, width=2), 10).to(META)
    known = {
        "mps_ams": torch.zeros(CASES, 8, 8, dtype=torch.bool, device=META),
        "geodesic": torch.zeros(CASES, 32, 32, dtype=torch.uint8, device=META),
    }
    monkeypatch.setattr(pretrain, "precompute_masks", lambda *_: known.get(method))
    options = Pretrain(config, optim=Optim(epochs=10, batch=4), run=RunOptions(picture_every=0))
    work = pretrain.task(options, {}, module, stack, tmp_path)
    found = count(work)
    assert found.all and not found.waiting and not found.asked


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_fine_tuning_never_waits_for_the_device(name, stack, monkeypatch):
    recipe = replace(RECIPES[name], batch=4)
    options = Finetune(recipe=recipe, run=RunOptions(picture_every=0))
    monkeypatch.setattr(RunOptions, "prepare", lambda self, module, device: module.to(device))
    monkeypatch.setattr(finetune.sampling, "weights", lambda *_: None)  # asks for values, once
    model = finetune.build_model(options, {"channels": 1, "classes": 1, "width": 2}, None, META)
    parts = SampleParts(stack, stack, stack if recipe.teacher.weight else None)
    found = count(finetune.task(options, {}, model, parts))
    assert not found.waiting and not found.asked
