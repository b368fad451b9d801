"""A dry run measures what it says, writes nothing, and finds the largest batch that fits."""

from __future__ import annotations

import re
import time

import pytest
import torch
from torch import nn

from train import dry_run, finetune, loop, pretrain

TINY = ["--data.name", "phantom", "--data.size", "32", "--data.cases", "14", "--model.width", "2", "--dry-run"]


def task(per_image: float, batch: int = 8, seen: list | None = None) -> loop.Task:
    """A training that takes so many seconds for each image."""
    module = nn.Linear(1, 1)

    def loss(indices, epoch, generator):
        time.sleep(per_image * len(indices))  # time must pass: it is what the dry run measures
        if seen is not None:
            seen.append(len(indices))
        return module(torch.ones(len(indices), 1)).mean()

    optimiser = torch.optim.SGD([{"params": list(module.parameters()), "initial_lr": 0.1}], lr=0.1)
    return loop.Task(
        module, module, optimiser, loss, lambda done: 1.0, lambda done: None, lambda epoch: {}, 40, batch, 100, 0, {}
    )


def test_speed_and_time_are_those_of_the_steps(capsys):
    dry_run.measure_and_print(task(0.004))
    printed = capsys.readouterr().out
    speed = float(re.search(r"^([\d.]+) images/s in batches of 8$", printed, re.M)[1])
    assert 120 < speed <= 251
    epoch, whole = re.search(r"an epoch of 40 images takes (.*), all 100 epochs (.*)$", printed, re.M).groups()
    assert abs(seconds(epoch) - 40 / speed) <= 0.1 and abs(seconds(whole) - 4000 / speed) <= 1
    assert "GiB at most of" in printed and "largest batch that fits" in printed


def seconds(words: str) -> float:
    """The inverse of ``spoken``."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+) (d|h|min|s)", words))


def test_it_measures_a_few_steps_of_the_whole_batch(capsys):
    seen = []
    dry_run.measure_and_print(task(0.0, seen=seen))
    assert seen[:3] == [2, 4, 8] and set(seen[3:]) == {8} and len(seen) == 3 + dry_run.STEPS


@pytest.mark.parametrize(
    "value, words",
    [
        (0.26, "0.3 s"),
        (1, "1 s"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (100_000, "1 d 3 h"),
        (86400, "1 d"),
    ],
)
def test_durations_are_spoken_in_two_words(value, words):
    assert dry_run.format_duration(value) == words


@pytest.mark.parametrize("limit", [8, 9, 100, 777, 5000])
def test_the_largest_batch_is_found_to_within_an_eighth(monkeypatch, limit):
    batches = []
    monkeypatch.setattr(dry_run, "possible", lambda task, batch: batches.append(batch) or batch <= limit)
    found = dry_run.largest_tried(task(0.0), 8)
    assert limit - max(1, limit // 8) <= found <= limit and len(batches) < 25


def test_memory_that_is_not_there_is_no_error(monkeypatch):
    made = task(0.0)
    monkeypatch.setattr(made, "loss", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert not dry_run.possible(made, 8)


MIB = 2**20


class Hungry(torch.autograd.Function):
    """Keeps and fills so many bytes for the backward pass."""

    @staticmethod
    def forward(context, x, size):
        context.save_for_backward(torch.ones(size, dtype=torch.uint8))
        return x.clone()

    @staticmethod
    def backward(context, given):
        assert context.saved_tensors[0].numel()
        return given, None


def hungry(batch: int, each: int, seen: list) -> loop.Task:
    """A training whose every image takes so many bytes."""
    made = task(0.0, batch, seen)
    made.images = 200
    plain = made.loss
    made.loss = lambda indices, *rest: Hungry.apply(plain(indices, *rest), each * len(indices))
    return made


@pytest.mark.parametrize("free, computed", [(1000, 64), (100, 64), (60, 32), (40, 32), (10, 8)])
def test_no_batch_is_computed_that_is_predicted_to_need_more_than_is_free(monkeypatch, capsys, free, computed):
    """An image takes 1 MiB; what is free shrinks as the process grows, as on a real machine."""
    taken = [0]
    monkeypatch.setattr(dry_run.memory, "peak", lambda: taken[0] * MIB)
    monkeypatch.setattr(dry_run.memory, "available", lambda: (free - taken[0]) * MIB)
    seen = []
    made = hungry(64, MIB, seen)
    loss = made.loss
    made.loss = lambda indices, *rest: (taken.__setitem__(0, max(taken[0], len(indices))), loss(indices, *rest))[1]
    dry_run.measure_and_print(made)
    printed = capsys.readouterr().out
    assert max(seen) == computed and max(seen) <= 0.9 * free
    assert ("does not fit" in printed) == (computed < 64)
    if computed < 64:
        assert (
            f"a batch of 64 would take about {64 * MIB / 2**30:.2f} GiB" in printed
            and f"images/s in batches of {computed}" in printed
        )
        fits = int(re.search(r"largest batch that fits: about (\d+)", printed)[1])
        assert 0.85 * free <= fits <= free
    elif free == 1000:
        assert "largest batch that fits: all 200 images of an epoch" in printed


def test_memory_that_c_keeps_from_before_hides_no_need(monkeypatch, capsys):
    """The peak does not rise as long as a freed block is used again; what the steps keep for their backward pass is
    counted all the same.
    """
    monkeypatch.setattr(dry_run.memory, "peak", lambda: 500 * MIB)
    monkeypatch.setattr(dry_run.memory, "available", lambda: 20 * MIB)
    seen = []
    dry_run.measure_and_print(hungry(64, MIB, seen))
    assert max(seen) == 32 and "does not fit" in capsys.readouterr().out


def test_a_network_that_does_not_fit_is_not_computed_at_all(monkeypatch, capsys):
    monkeypatch.setattr(dry_run.memory, "available", lambda: 3)
    seen = []
    assert dry_run.measure_and_print(task(0.0, seen=seen)) is None
    assert seen == [] and "nothing was computed" in capsys.readouterr().out


def test_processes_of_a_machine_share_what_is_free(monkeypatch):
    monkeypatch.setattr(dry_run.memory, "available", lambda: 100)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert dry_run.free() == 25
    monkeypatch.setattr(dry_run.memory, "available", lambda: None)
    assert dry_run.free() == float("inf")


def test_the_limits_of_control_groups_and_of_ulimit_count(monkeypatch, tmp_path):
    free = dry_run.memory.available()
    assert free is None or free > 2**20
    for version, folder, names in (
        (2, "own/pod", ("memory.max", "memory.current")),
        (1, "memory/own/pod", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ):
        top = tmp_path / str(version)
        (top / folder).mkdir(parents=True)
        for name, value in zip((*names, "memory.stat"), ("1000000", "400000", "anon 5\ninactive_file 100000\n")):
            (top / folder / name).write_text(value + "\n" if value.isdigit() else value)
        above = (top / folder).parent  # without a limit
        for name, value in zip(
            (*names, "memory.stat"), ("max" if version == 2 else str(2**63 - 4096), "5", "anon 5\n")
        ):
            (above / name).write_text(value)
        (tmp_path / "cgroup").write_text("0::/own/pod\n" if version == 2 else "4:memory:/own/pod\n1:cpu:/\n")
        monkeypatch.setattr(dry_run.memory, "CGROUPS", top)
        monkeypatch.setattr(dry_run.memory, "OWN_GROUPS", tmp_path / "cgroup")
        assert dry_run.memory.control_groups() == [(1_000_000, 300_000)]
        if free is not None:
            assert dry_run.memory.available() == 700_000


def test_memory_is_counted_in_bytes_of_this_machine():
    before = dry_run.memory.peak()
    block = torch.ones(96 * MIB, dtype=torch.uint8)
    assert dry_run.memory.peak() >= before and 50 * MIB < dry_run.memory.peak() < 2**40 and len(block)


@pytest.mark.parametrize(
    "command, more",
    [
        (pretrain, ["--optim.epochs", "800", "--method.patch", "8"]),
        (pretrain, ["--method.name", "simclr"]),
        (finetune, ["--labels", "0.5"]),
        (finetune, ["--labels", "0.2", "--recipe.name", "strong", "--recipe.epochs", "1"]),  # fewer steps than measured
    ],
)
def test_the_commands_write_nothing(tmp_path, quick_phantom, capsys, monkeypatch, command, more):
    monkeypatch.setattr(dry_run, "SECONDS", 1.0)
    assert command.main([*TINY, *more, "--out", str(tmp_path / "o")]) > 0
    printed = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [] and re.search(r"^[\d.]+ images/s in batches of \d+$", printed, re.M)
