"""Training stops and goes on without a difference, refuses bad options and bad data before it starts."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mpsams import checkpoint, jsonl, precision, splits
from mpsams.methods import mps_ams
from train import command_line, finetune, loop, options, pretrain, run_files

IMAGES, BATCH, EPOCHS = 10, 4, 3  # three steps an epoch, the last of two images


def task(before_loss=lambda step: None, **changes) -> loop.Task:
    """A small network with running statistics and a loss that uses the generator; ``before_loss`` sees the step."""
    torch.manual_seed(0)
    data = torch.randn(IMAGES, 3)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    calls = []

    def loss(indices, epoch, generator):
        before_loss(len(calls))
        calls.append((epoch, indices.tolist()))
        x = data[indices] + 0.1 * torch.randn(len(indices), 3, generator=generator)
        return (module(x) - epoch).square().mean()

    made = loop.Task(
        module=module,
        network=module,
        optimizer=torch.optim.Adam([{"params": list(module.parameters()), "initial_lr": 0.05}], lr=0.05),
        loss=loss,
        rate=lambda done: 1 - 0.5 * done,
        after_step=lambda done: None,
        after_epoch=lambda epoch: {"square": epoch**2},
        **{"images": IMAGES, "batch": BATCH, "epochs": EPOCHS, "seed": 5, "config": {"optim": {"lr": 0.05}}} | changes,
    )
    made.calls = calls
    return made


def epoch_records(out: Path) -> list[dict]:
    """The records of the epochs, without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if k not in ("time", "seconds")}
        for row in jsonl.read(out / run_files.RECORDS, "epoch")
    ]


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_an_epoch_sees_every_image_once_in_its_own_order(tmp_path):
    whole = task()
    loop.fit(whole, folder(tmp_path, "a"))
    orders = [sum((i for e, i in whole.calls if e == epoch), []) for epoch in (1, 2, 3)]
    assert all(sorted(order) == list(range(IMAGES)) for order in orders) and len(set(map(tuple, orders))) == 3
    rows = epoch_records(tmp_path / "a")
    assert [row["epoch"] for row in rows] == [1, 2, 3] and [row["square"] for row in rows] == [1, 4, 9]
    assert rows[-1]["lr"] == pytest.approx(0.05 * (1 - 0.5 * 8 / 9))  # the rate of the last step


def test_two_runs_are_the_same_and_another_seed_is_not(tmp_path):
    runs = [task(), task(), task(seed=6)]
    for number, each in enumerate(runs):
        torch.manual_seed(number)  # the world's randomness must not matter
        loop.fit(each, folder(tmp_path, str(number)))
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])
    assert epoch_records(tmp_path / "0") == epoch_records(tmp_path / "1") != epoch_records(tmp_path / "2")


def same(a: loop.Task, b: loop.Task) -> bool:
    """True if weights, running statistics and the optimiser's moments are equal to the bit."""
    pairs = list(zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True))
    one, other = (t.optimizer.state_dict()["state"] for t in (a, b))
    pairs += [(one[i][k], other[i][k]) for i in one for k in one[i]]
    return one.keys() == other.keys() and all(torch.equal(x, y) for x, y in pairs)


def killed(number: int, at: int):
    return lambda step: os.kill(os.getpid(), number) if step == at else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [0, 1, 2, 4, 5, 8])  # 2, 5, 8 are the last steps of their epochs
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, capsys, number, at):
    whole, out = task(), folder(tmp_path, "cut")
    loop.fit(whole, folder(tmp_path, "whole"))
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    first = task(killed(number, at))
    with pytest.raises(SystemExit) as stop:
        loop.fit(first, out)
    assert stop.value.code == 128 + number and len(first.calls) == at + 1
    assert "saved" in capsys.readouterr().out
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    second = task()
    torch.manual_seed(99)
    position = loop.fit(second, out, resume=True)
    assert position.step == 9 and first.calls + second.calls == whole.calls
    assert same(second, whole) and epoch_records(out) == epoch_records(tmp_path / "whole")


def test_a_second_signal_acts_as_usual(tmp_path):
    def twice(step):
        if step == 1:
            signal.raise_signal(signal.SIGINT)  # to this very thread, so that the two cannot become one
            signal.raise_signal(signal.SIGINT)

    # a shell starts what is in the background deaf to Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.fit(task(twice), folder(tmp_path, "a"))
    finally:
        signal.signal(signal.SIGINT, before)


def test_resuming_without_a_state_starts_from_the_beginning(tmp_path):
    whole, again = task(), task()
    loop.fit(whole, folder(tmp_path, "a"))
    loop.fit(again, folder(tmp_path, "b"), resume=True)
    assert same(whole, again) and epoch_records(tmp_path / "a") == epoch_records(tmp_path / "b")


def test_a_finished_run_resumed_does_nothing(tmp_path):
    whole, again = task(), task()
    loop.fit(whole, folder(tmp_path, "a"))
    loop.fit(again, tmp_path / "a", resume=True)
    assert again.calls == [] and same(whole, again) and len(epoch_records(tmp_path / "a")) == EPOCHS


def test_changed_options_are_refused_by_name(tmp_path):
    loop.fit(task(), folder(tmp_path, "a"))
    with pytest.raises(ValueError, match="other options in: data, optim"):
        loop.fit(task(config={"optim": {"lr": 0.1}, "data": 1}), tmp_path / "a", resume=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_state(tmp_path, value):
    out = folder(tmp_path, "a")
    with pytest.raises(SystemExit):
        loop.fit(task(killed(signal.SIGTERM, 1)), out)
    state = (out / loop.STATE).read_bytes()
    broken = task()
    healthy = broken.loss
    broken.loss = lambda indices, epoch, generator: (
        healthy(indices, epoch, generator) * (value if len(broken.calls) == 3 else 1)
    )
    with pytest.raises(FloatingPointError, match=rf"loss is {value} in epoch 2, step 2 of 3"):
        loop.fit(broken, out, resume=True)
    assert (out / loop.STATE).read_bytes() == state
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("look", [2, 4, 20])
def test_looking_less_often_as_on_a_gpu_trains_the_same_and_names_the_right_step(tmp_path, monkeypatch, look):
    often, seldom = task(), task()
    loop.fit(often, folder(tmp_path, "often"))
    monkeypatch.setattr(loop.Task, "device", torch.device("cuda"))  # only asked for how often to look
    monkeypatch.setattr(loop, "LOOK", look)
    loop.fit(seldom, folder(tmp_path, "seldom"))
    assert same(often, seldom) and epoch_records(tmp_path / "often") == epoch_records(tmp_path / "seldom")
    broken, out = task(), folder(tmp_path, "broken")
    healthy = broken.loss
    broken.loss = lambda indices, epoch, generator: (
        healthy(indices, epoch, generator) * (float("nan") if len(broken.calls) == 5 else 1)
    )
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 2, step 2 of 3"):
        loop.fit(broken, out, save_minutes=0)
    found = checkpoint.load(out / loop.STATE)
    assert found.metadata["step"] == 3 and all(
        tensor.isfinite().all() for tensor in found.tensors.values() if tensor.is_floating_point()
    )


def test_generators_depend_on_every_number():
    draws = {
        key: torch.rand(4, generator=loop.generator(*key)).tolist()
        for key in ((0,), (1,), (0, 1), (0, 2), (0, 1, 2), (0, 2, 1))
    }
    assert len({tuple(draw) for draw in draws.values()}) == len(draws)
    assert torch.rand(4, generator=loop.generator(0, 1)).tolist() == draws[0, 1]


# The command


TINY = [
    "--data.name",
    "phantom",
    "--data.size",
    "32",
    "--data.cases",
    "14",
    "--model.width",
    "2",
    "--optim.epochs",
    "2",
    "--optim.batch",
    "5",
    "--optim.lr",
    "0.01",
    "--method.patch",
    "8",
    "--run.picture_every",
    "0",
]


def run(tmp_path, name, *more):
    return pretrain.main([*TINY, "--out", str(tmp_path / name), *more])


def test_pretraining_writes_what_it_promises(tmp_path, quick_phantom):
    path = run(tmp_path, "a")
    found = checkpoint.load(path)
    assert {file.name for file in path.parent.iterdir()} >= {
        "weights.safetensors",
        "records.jsonl",
        "split.json",
        "state.safetensors",
    }
    assert (
        found.metadata["kind"] == "pretrain" and found.metadata["method"] == "mps_ams" and found.metadata["size"] == 32
    )
    assert found.metadata["transfers"] == ["encoder", "decoder"] and found.metadata["config"]["optim"]["lr"] == 0.01
    assert splits.restore(found.metadata["split"]) == splits.load(path.parent / "split.json")
    assert found.tensors["patch_covariance"].shape == (16, 16)
    assert checkpoint.unet(found).head.out_channels == 1
    rows = jsonl.read(path.parent / "records.jsonl", "epoch")
    assert (
        [row["epoch"] for row in rows] == [1, 2]
        and rows[0]["ratio"] == 0.25
        and rows[1]["ratio"] == pytest.approx(0.8071, abs=1e-4)
    )


@pytest.mark.parametrize("order", ["lesion-first", "random"])
def test_clusters_are_computed_once_and_mirrored_with_the_images(tmp_path, quick_phantom, monkeypatch, order):
    """The mask computed before the training is the one that each step would compute, but for the mirror."""
    clustered, steps = [], []
    lesion, hide = mps_ams.MaskedAutoencoder.lesion, mps_ams.MaskedAutoencoder.hide

    def count(self, images_b1hw):
        clustered.append(len(images_b1hw))
        return lesion(self, images_b1hw)

    def compare(self, batch, epoch):
        if batch.precomputed_mask_brc is not None:
            mirrored = lesion(self, batch.images_b1hw.flip(3)).unflatten(1, (4, 4)).flip(2)
            straight = lesion(self, batch.images_b1hw).unflatten(1, (4, 4))
            known = batch.precomputed_mask_brc
            steps.append(
                [bool((known[i] == straight[i]).all() or (known[i] == mirrored[i]).all()) for i in range(len(known))]
            )
        return hide(self, batch, epoch)

    monkeypatch.setattr(mps_ams.MaskedAutoencoder, "lesion", count)
    monkeypatch.setattr(mps_ams.MaskedAutoencoder, "hide", compare)
    run(tmp_path, "a", "--method.order", order)
    if order == "random":
        assert clustered == [] and steps == []
    else:
        # 12 images to train on, one asked for the size of the map
        assert sum(clustered) == 12 + 1 and len(steps) == 6 and all(map(all, steps))


def test_truth_first_is_handed_the_masks(tmp_path, quick_phantom, monkeypatch):
    truths = []
    known = mps_ams.MaskedAutoencoder.precompute_mask
    monkeypatch.setattr(
        mps_ams.MaskedAutoencoder,
        "precompute_mask",
        lambda self, x, truth=None: truths.append(truth) or known(self, x, truth),
    )
    weights = run(tmp_path, "a", "--method.order", "truth-first")
    assert checkpoint.load(weights).metadata["method"] == "oracle_ams"
    assert all(truth.dtype == torch.bool for truth in truths) and any(truth.any() for truth in truths)


def test_bf16_trains_the_same_network_less_exactly(tmp_path, quick_phantom):
    exact, coarse = (checkpoint.load(run(tmp_path, how, "--run.precision", how)) for how in ("float32", "bf16"))
    for name, tensor in exact.tensors.items():
        assert coarse.tensors[name].dtype == tensor.dtype
    difference = (coarse.tensors["head.weight"] - exact.tensors["head.weight"]).abs().max()
    assert 0 < difference < 0.05
    assert [row["loss"] for row in epoch_records(tmp_path / "bf16")] == pytest.approx(
        [row["loss"] for row in epoch_records(tmp_path / "float32")], rel=0.05
    )


@pytest.mark.parametrize("dtype, name", [(torch.float32, "float32"), (torch.bfloat16, "bf16")])
def test_auto_is_recorded_as_the_precision_that_was_used(tmp_path, quick_phantom, monkeypatch, dtype, name):
    monkeypatch.setattr(
        precision, "choose", lambda option, device="cpu": dtype if option == "auto" else precision.PRECISIONS[option]
    )
    made = checkpoint.load(run(tmp_path, "auto"))
    (start,) = jsonl.read(tmp_path / "auto" / run_files.RECORDS, "start")
    assert start["config"]["run"]["precision"] == made.metadata["config"]["run"]["precision"] == name
    stated = checkpoint.load(run(tmp_path, name, "--run.precision", name))
    assert all(torch.equal(made.tensors[key], stated.tensors[key]) for key in stated.tensors)


def test_bf16_stopped_and_resumed_where_auto_means_float32_ends_with_the_same_weights(
    tmp_path, quick_phantom, monkeypatch
):
    whole = checkpoint.load(run(tmp_path, "whole", "--run.precision", "bf16"))
    forward, calls = mps_ams.MaskedAutoencoder.forward, []

    def stop_once(self, batch, epoch):
        calls.append(epoch)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, batch, epoch)

    monkeypatch.setattr(mps_ams.MaskedAutoencoder, "forward", stop_once)
    with pytest.raises(SystemExit):
        run(tmp_path, "cut", "--run.precision", "bf16")
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    again = checkpoint.load(run(tmp_path, "cut", "--resume"))
    assert all(torch.equal(again.tensors[name], whole.tensors[name]) for name in whole.tensors)
    with pytest.raises(ValueError, match="other options in: precision"):
        run(tmp_path, "cut", "--resume", "--run.precision", "float32")


def test_pretraining_stopped_by_sigterm_ends_with_the_same_weights(tmp_path, quick_phantom, monkeypatch):
    whole = checkpoint.load(run(tmp_path, "whole"))
    forward, calls = mps_ams.MaskedAutoencoder.forward, []

    def cut_off(self, batch, epoch):
        calls.append(epoch)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, batch, epoch)

    monkeypatch.setattr(mps_ams.MaskedAutoencoder, "forward", cut_off)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "cut")
    monkeypatch.undo()
    assert stop.value.code == 143 and len(calls) == 2 and not (tmp_path / "cut" / "weights.safetensors").exists()
    again = checkpoint.load(run(tmp_path, "cut", "--resume"))
    assert again.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(again.tensors[name], whole.tensors[name]) for name in whole.tensors)
    assert epoch_records(tmp_path / "cut") == epoch_records(tmp_path / "whole")
    with pytest.raises(ValueError, match="other options in: optim"):
        run(tmp_path, "cut", "--resume", "--optim.lr", "0.02")


def test_a_configuration_file_fills_the_options_and_the_command_line_wins(tmp_path, quick_phantom):
    file = tmp_path / "c.toml"
    file.write_text(
        '[data]\nname = "phantom"\nsize = 32\ncases = 14\n[model]\nwidth = 2\n[optim]\nepochs = 1\nbatch = 7\n'
        '[method]\nname = "mps_ams"\npatch = 8\norder = "random"\n[run]\npicture_every = 0\n'
    )
    found = checkpoint.load(
        pretrain.main(["--config", str(file), "--out", str(tmp_path / "o"), "--method.patch", "16"])
    )
    assert found.metadata["method"] == "base_ams" and found.metadata["config"]["optim"]["batch"] == 7
    assert found.metadata["config"]["method"]["patch"] == 16 and found.metadata["config"]["method"]["tau"] == 12.0


@pytest.mark.parametrize(
    "argv, toml, word",
    [
        (["--optim.epoch", "3"], None, "optim.epoch"),
        (["--metod.name", "mps_ams"], None, "metod"),
        (["--method.sigma", "3"], None, "method.sigma"),
        (["--optim.batch", "many"], None, "optim.batch"),
        (["--data.size", "40"], None, "data.size 40"),
        (["--data.name", "cifar"], None, "cifar"),
        (["--model.norm", "layer"], None, "layer"),
        (["--method.order", "first"], None, "'first'"),
        (["--method.temperature", "0"], None, "temperature"),
        ([], "[optim]\nepoch = 3\n", "epoch"),
        ([], "[model]\nwidht = 3\n", "widht"),
        ([], "[method]\nsigma = 3\n", "sigma"),
        ([], "colour = 3\n", "colour"),
        ([], '[model]\nwidth = "wide"\n', "width"),
        (["--optim.batch", "0"], None, "optim.batch"),
        (["--optim.accumulate", "0"], None, "optim.accumulate"),
        (["--run.precision", "fp8"], None, "'fp8'; expected one of: auto, float32, bf16"),
        (["--run.save_minutes", "-1"], None, "run.save_minutes"),
        (["--optim.epochs", "0"], None, "optim.epochs"),
        (["--data.cases", "-3"], None, "data.cases"),
        (["--model.width", "0"], None, "model.width"),
        (["--method.patch", "12"], None, "patch side 12"),
    ],
)
def test_unknown_keys_and_bad_values_end_with_a_message(tmp_path, capsys, monkeypatch, argv, toml, word):
    monkeypatch.setattr(pretrain, "open_data", lambda *_: pytest.fail("data were read in spite of bad options"))
    if toml is not None:
        (tmp_path / "c.toml").write_text(toml)
        argv = ["--config", str(tmp_path / "c.toml")]
    with pytest.raises(SystemExit) as stop:
        pretrain.main(["--out", str(tmp_path / "o"), *argv])
    assert stop.value.code not in (0, None)
    text = capsys.readouterr().err + str(stop.value)
    assert word in text and "Traceback" not in text
    assert not (tmp_path / "o").exists()


def test_an_unknown_method_is_named(tmp_path):
    with pytest.raises(ValueError, match="'dino'.*mps_ams"):
        pretrain.main(["--method.name", "dino", "--out", str(tmp_path / "o")])


def test_peek_finds_an_option_before_the_others_are_known(tmp_path):
    (tmp_path / "c.toml").write_text('[method]\nname = "byol"\n')
    config = ["--config", str(tmp_path / "c.toml")]
    assert command_line.peek_option(config, "method.name", "mps_ams") == "byol"
    assert command_line.peek_option([*config, "--method.name=mae"], "method.name", "mps_ams") == "mae"
    assert (
        command_line.peek_option(["--optim.lr", "1"], "method.name", "mps_ams")
        == command_line.peek_option([], "method.name", "mps_ams")
        == "mps_ams"
    )


def test_a_missing_or_broken_config_file_is_named(tmp_path):
    (tmp_path / "c.toml").write_text("[optim")
    for argv, message in (
        (["--config", "/nowhere.toml"], "/nowhere.toml does not exist"),
        (["--config", str(tmp_path / "c.toml")], "c.toml is not TOML"),
    ):
        with pytest.raises(ValueError, match=message):
            pretrain.main(argv)


@pytest.mark.parametrize(
    "data, message",
    [
        (["--data.name", "busi"], "needs --data.root"),
        (["--data.name", "busi", "--data.root", "/nowhere"], "/nowhere is not a BUSI folder"),
        (
            ["--data.name", "phantom", "--data.cases", "4", "--data.size", "32"],
            "4 cases in 4 groups cannot be divided 8:1:1",
        ),
    ],
)
def test_bad_data_end_the_run_before_anything_is_written(tmp_path, quick_phantom, data, message):
    with pytest.raises(ValueError, match=message):
        pretrain.main(["--model.width", "2", "--out", str(tmp_path / "o"), *data])
    assert not (tmp_path / "o").exists()


def test_a_nan_in_the_weights_stops_the_pretraining(tmp_path, quick_phantom, monkeypatch):
    hide = mps_ams.MaskedAutoencoder.hide

    def spoilt(self, batch, epoch):
        if epoch == 2:
            with torch.no_grad():
                self.unet.head.bias.fill_(float("nan"))
        return hide(self, batch, epoch)

    monkeypatch.setattr(mps_ams.MaskedAutoencoder, "hide", spoilt)
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 2, step 1 of"):
        run(tmp_path, "a")
    assert not (tmp_path / "a" / "weights.safetensors").exists()


def test_near_duplicates_stay_together_unless_switched_off(quick_phantom, monkeypatch):
    from mpsams.datasets import Dataset, phantom

    twins = {f"{case} twin": case for case in phantom.CASES[:20]}
    cases = tuple(twins) + tuple(twins.values())
    read = phantom._read
    monkeypatch.setattr(
        phantom,
        "load",
        lambda root: Dataset("phantom", "ultrasound", "x", cases, cases, lambda case: read(twins.get(case, case))),
    )
    data = options.Data(name="phantom", size=32)
    _, together = options.open_data(data)
    _, plain = options.open_data(options.Data(name="phantom", size=32, grouped=False))

    def torn(split):
        return sum((a in split.part(p)) != (b in split.part(p)) for a, b in twins.items() for p in ("val", "test"))

    assert torn(together) == 0 and torn(plain) > 0 and together.grouped and not plain.grouped
    assert json.dumps(together.part("all")).count("twin") == 20


@pytest.mark.parametrize(
    "argv, found",
    [
        ([], (800, 32)),
        (["--method.name", "simclr"], (200, 32)),
        (["--method.name", "byol", "--data.name", "brats"], (200, 36)),
        (["--method.name", "swav", "--data.name", "hecktor"], (200, 48)),
        (["--method.name", "mae", "--data.name", "hecktor"], (800, 48)),
        (["--method.name", "swav", "--optim.epochs", "7", "--data.name", "hecktor", "--optim.batch", "5"], (7, 5)),
    ],
)
def test_epochs_and_batch_are_the_papers_unless_given(monkeypatch, tmp_path, argv, found):
    monkeypatch.setattr(pretrain, "pretrain", lambda options, name: (options.optim.epochs, options.optim.batch))
    assert pretrain.main(argv) == found
    (tmp_path / "c.toml").write_text("[optim]\nepochs = 9\n")
    epochs = 7 if "--optim.epochs" in argv else 9
    assert pretrain.main([*argv, "--config", str(tmp_path / "c.toml")]) == (epochs, found[1])


@pytest.mark.parametrize(
    "data, labels, batch",
    [
        ("busi", 0.05, 32),
        ("busi", 0.1, 32),
        ("hecktor", 0.05, 31),
        ("hecktor", 0.1, 90),
        ("brats", 0.05, 56),
        ("brats", 0.1, 70),
        ("hecktor", 0.5, 32),
        ("phantom", 0.1, 32),
    ],
)
def test_the_batch_of_a_fine_tuning_is_the_papers_unless_given(monkeypatch, tmp_path, data, labels, batch):
    monkeypatch.setattr(finetune, "finetune", lambda options, name: options.recipe.batch)
    argv = ["--data.name", data, "--labels", str(labels)]
    assert finetune.main(argv) == batch
    assert finetune.main([*argv, "--recipe.batch", "3"]) == 3 and finetune.main([*argv, "--recipe.name", "strong"]) == 8
    (tmp_path / "c.toml").write_text(f'labels = {labels}\n[data]\nname = "{data}"\n')
    assert finetune.main(["--config", str(tmp_path / "c.toml")]) == batch


@pytest.mark.parametrize(
    "module, argv",
    [
        (pretrain, []),
        (
            pretrain,
            [
                "--method.name",
                "swav",
                "--optim.lr",
                "1e-5",
                "--data.sequences",
                '["t1", "flair"]',
                "--data.name",
                "brats",
            ],
        ),
        (
            finetune,
            ["--recipe.name", "strong", "--recipe.augment.flip", "0.25", "--data.target", 'a "quoted" lésion \\ 1'],
        ),
    ],
)
@pytest.mark.parametrize("switch", ["--print-config", "--print_config"])
def test_the_printed_configuration_gives_the_same_options_again(monkeypatch, tmp_path, capsys, module, argv, switch):
    monkeypatch.setattr(module, module.__name__.split(".")[1], lambda options, name: (options, name))
    with pytest.raises(SystemExit) as end:
        module.main([*argv, switch])
    assert end.value.code == 0
    (tmp_path / "c.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert module.main(["--config", str(tmp_path / "c.toml")]) == module.main(argv)


@pytest.mark.parametrize(
    "argv, toml, sentence",
    [
        (["--optim.epoch", "3"], "", "unknown option --optim.epoch; did you mean --optim.epochs?"),
        (["--lr", "3"], "", "unknown option --lr; did you mean --optim.lr?"),
        (["--dryrun"], "", "unknown option --dryrun; did you mean --dry-run?"),
        (["--zzz=3"], "", "unknown option --zzz ("),
        (["stray"], "", "unexpected argument stray"),
        ([], "[model]\nwidht = 3", "unknown option model.widht; did you mean model.width?"),
        ([], "sed = 3", "unknown option sed; did you mean run.seed?"),
        (["--optim.lr", "fast"], "", "optim.lr is 'fast'; expected a number"),
        (["--out"], "", "--out needs a value"),
        (["--data.name", "bussi"], "", "did you mean 'busi'?"),
    ],
)
def test_what_is_wrong_with_an_option_is_one_sentence_and_no_usage(tmp_path, capsys, argv, toml, sentence):
    (tmp_path / "c.toml").write_text(toml)
    with pytest.raises(SystemExit) as end:
        pretrain.main(["--config", str(tmp_path / "c.toml"), *argv])
    printed = capsys.readouterr().err
    assert end.value.code == 2 and sentence in printed and printed.count("\n") == 1


COMMANDS = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "train").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_keeps_the_lines_of_the_examples_and_explains_every_option(capsys, name):
    module = importlib.import_module(f"train.{name}")
    if not hasattr(module, "main") or name == "__main__":  # only says how it is called
        return
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    printed, examples = (
        capsys.readouterr().out,
        [line for line in module.__doc__.splitlines() if line.lstrip().startswith("python -m")],
    )
    assert end.value.code == 0 and examples and all(line in printed.splitlines() for line in examples)
    assert not re.search(r"^  --\S+(?: \S+)?\s+\((?:required, )?type", printed, re.MULTILINE), "an option without help"


def test_every_command_has_help():
    printed = subprocess.run(
        [sys.executable, "-m", "train.figure", "--help"], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    ).stdout
    assert "python -m train.reproduce fig2" in printed


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_a_sentence(error):
    with pytest.raises(SystemExit) as end:
        command_line.run(lambda: (_ for _ in ()).throw(error), "train.x")
    assert "train.x: the memory is too small for this" in str(end.value.code)
    with pytest.raises(RuntimeError, match="of our own"):
        command_line.run(lambda: (_ for _ in ()).throw(RuntimeError("a fault of our own")), "train.x")


SYSTEMS = """
import sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None  # as on Windows
import train.pretrain, train.finetune, train.pack, train.evaluate, train.reproduce
import mpsams.app.main, mpsams.annotation.__main__, mpsams.annotation.retraining_run
from train import memory
from pathlib import Path
memory.STATUS = Path("/nowhere")
print(memory.peak())
"""


def test_systems_without_posix_modules_import_all_commands():
    result = subprocess.run(
        [sys.executable, "-c", SYSTEMS], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert result.stdout.splitlines() == ["None"], result.stderr
