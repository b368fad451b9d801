"""The recipe "assist": deep supervision that leaves no trace, sampling, resuming, and what earlier versions have left
behind.
"""

from __future__ import annotations

import os
import signal
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional as F

from mpsams import checkpoint, jsonl, losses
from mpsams.unet import Supervised, UNet, auxiliary_heads
from train import finetune, loop, options, run_files, run_metadata, sampling
from train.finetune import RECIPES, Recipe

TINY = [
    "--data.name",
    "phantom",
    "--data.size",
    "32",
    "--data.cases",
    "20",
    "--model.width",
    "2",
    "--labels",
    "1",
    "--run.precision",
    "float32",
    "--recipe.name",
    "assist",
    "--recipe.epochs",
    "2",
    "--recipe.batch",
    "5",
    "--recipe.augment.speckle",
    "0.1",
    "--recipe.augment.bias",
    "0.2",
    "--recipe.faint",
    "0.5",
    "--validate_every",
    "2",
]


def run(tmp_path, name, *more):
    return finetune.main([*TINY, "--out", str(tmp_path / name), *more])


def test_deep_supervision_is_the_unet_with_heads_on_its_coarser_levels():
    torch.manual_seed(0)
    unet, heads = UNet(width=2), auxiliary_heads(2)
    shapes, stages = [], {}
    for index, block in enumerate(unet.decoder.blocks):
        block.register_forward_hook(lambda module, given, out, index=index: stages.update({index: out}))
    x = torch.randn(2, 1, 32, 48)
    whole, half, quarter = Supervised(unet, heads)(x)
    shapes = [tuple(each.shape) for each in (whole, half, quarter)]
    assert shapes == [(2, 1, 32, 48), (2, 1, 16, 24), (2, 1, 8, 12)]
    assert torch.equal(half, heads[0](stages[2])) and torch.equal(quarter, heads[1](stages[1]))
    assert torch.equal(whole, unet.train()(x))


def test_the_loss_adds_its_parts_by_weight():
    generator = torch.Generator().manual_seed(0)
    sides = (32, 16, 8)
    logits = [torch.randn(3, 1, side, side, generator=generator) for side in sides]
    truth = torch.zeros(3, 1, 32, 32, dtype=torch.bool)
    truth[0, 0, 5, 7] = truth[1, 0, 8:20, 3:9] = True
    recipe = Recipe(deep=0.4, presence=0.3)
    coarse = [
        torch.stack(
            [
                torch.stack([part.any() for part in row.split(side, 1)])
                for mask in truth[:, 0]
                for row in mask.split(side, 0)
            ]
        ).reshape(3, 1, 32 // side, 32 // side)
        for side in (2, 4)
    ]
    expected = losses.segmentation(logits[0], truth) + 0.3 * losses.presence(logits[0], truth)
    expected = (
        expected + 0.4 * losses.segmentation(logits[1], coarse[0]) + 0.2 * losses.segmentation(logits[2], coarse[1])
    )
    torch.testing.assert_close(finetune.loss_of(logits, truth, recipe), expected)
    torch.testing.assert_close(finetune.loss_of(logits[0], truth, Recipe()), losses.segmentation(logits[0], truth))
    # which nearest would have lost
    assert coarse[1][0].sum() == 1 and F.interpolate(truth.float(), (8, 8))[0].sum() == 0


def test_the_assistant_is_a_plain_unet_and_says_how_it_was_trained(tmp_path, quick_phantom):
    path = run(tmp_path, "a")
    found = checkpoint.load(path)
    assert found.tensors.keys() == UNet(width=2).state_dict().keys() and found.metadata["recipe"] == "assist"
    how = found.metadata["config"]["recipe"]
    assert how["deep"] == RECIPES["assist"].deep > 0 and how["augment"]["speckle"] == 0.1
    assert any(name.startswith("module.heads.") for name in checkpoint.load(path.parent / loop.STATE).tensors)
    assert [row["epoch"] for row in jsonl.read(path.parent / run_files.RECORDS, "epoch")] == [1, 2]


def test_stopped_and_resumed_it_ends_with_the_same_weights(tmp_path, quick_phantom, monkeypatch):
    whole = checkpoint.load(run(tmp_path, "whole"))
    loss_of, calls = finetune.loss_of, []

    def stop_once(*given):
        calls.append(given)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss_of(*given)

    monkeypatch.setattr(finetune, "loss_of", stop_once)
    with pytest.raises(SystemExit):
        run(tmp_path, "cut")
    again = checkpoint.load(run(tmp_path, "cut", "--resume"))
    assert 2 < len(calls) == 8 and all(torch.equal(again.tensors[name], whole.tensors[name]) for name in whole.tensors)


def test_the_weights_of_the_images_reach_the_loop(tmp_path, quick_phantom, monkeypatch):
    calls = []
    weights = sampling.weights
    monkeypatch.setattr(
        sampling, "weights", lambda stack, *how: calls.append((len(stack), how)) or weights(stack, *how)
    )
    run(tmp_path, "a", "--recipe.balance", "0.6")
    assert calls == [(16, (0.6, RECIPES["assist"].small, 0.5))]


@pytest.mark.parametrize("name, value", [("deep", -1), ("balance", 1.0), ("small", float("nan")), ("presence", -0.1)])
def test_options_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"recipe.{name} .*{value}"):
        Recipe(**{name: value})


def test_a_run_of_an_earlier_version_is_the_same_as_one_with_the_new_options_off():
    config = {"run": {"seed": 0}, "recipe": asdict(RECIPES["strong"]), "method": {"blur": 0.0}}
    earlier = {"run": {"seed": 0}, "method": {"blur": 0.0}}
    earlier["recipe"] = {
        name: value for name, value in config["recipe"].items() if f"recipe.{name}" not in options.LATER
    }
    earlier["recipe"]["augment"] = {
        name: config["recipe"]["augment"][name]
        for name in ("flip", "rotation", "zoom", "shift", "contrast", "brightness", "gamma")
    }
    assert run_metadata.resume_fingerprint(config, "x") == run_metadata.resume_fingerprint(
        earlier, "x"
    ) and run_metadata.resume_fingerprint(config, "x")["method"] == {"blur": 0.0}
    config["recipe"]["augment"]["noise"] = 0.1
    assert run_metadata.resume_fingerprint(config, "x") != run_metadata.resume_fingerprint(earlier, "x")
