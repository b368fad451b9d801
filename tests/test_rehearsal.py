"""A dry run measures what it says, writes nothing, and finds the largest batch that fits."""

from __future__ import annotations

import re
import time

import pytest
import torch
from torch import nn

from train import finetune, loop, pretrain, rehearsal

TINY = ["--data.name", "phantom", "--data.size", "32", "--data.cases", "14", "--model.width", "2", "--dry-run"]


def task(per_image: float, batch: int = 8, seen: list | None = None) -> loop.Task:
    """A training that takes so many seconds for each image."""
    module = nn.Linear(1, 1)

    def loss(indices, epoch, generator):
        time.sleep(per_image * len(indices))
        if seen is not None:
            seen.append(len(indices))
        return module(torch.ones(len(indices), 1)).mean()

    optimiser = torch.optim.SGD([{"params": list(module.parameters()), "initial_lr": 0.1}], lr=0.1)
    return loop.Task(module, module, optimiser, loss, lambda done: 1.0, lambda done: None, lambda epoch: {}, 40, batch, 100, 0, {})


def test_speed_and_time_are_those_of_the_steps(capsys):
    rehearsal.tell(task(0.004))
    said = capsys.readouterr().out
    speed = float(re.search(r"^([\d.]+) images/s in batches of 8$", said, re.M)[1])
    assert 120 < speed <= 251
    epoch, whole = re.search(r"an epoch of 40 images takes (.*), all 100 epochs (.*)$", said, re.M).groups()
    assert abs(seconds(epoch) - 40 / speed) <= 0.1 and abs(seconds(whole) - 4000 / speed) <= 1
    assert "GiB at most of" in said and "largest batch that fits" in said


def seconds(words: str) -> float:
    """The inverse of ``spoken``."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+) (d|h|min|s)", words))


def test_it_measures_a_few_steps_of_the_whole_batch(capsys):
    seen = []
    rehearsal.tell(task(0.0, seen=seen))
    assert seen[0] == 2 and set(seen[1:]) == {8} and len(seen) == 2 + rehearsal.STEPS


@pytest.mark.parametrize("value, words", [
    (0.26, "0.3 s"), (1, "1 s"), (90, "1 min 30 s"), (3600, "1 h"), (3661, "1 h 1 min"), (100_000, "1 d 3 h"), (86400, "1 d"),
])  # fmt: skip
def test_durations_are_spoken_in_two_words(value, words):
    assert rehearsal.spoken(value) == words


@pytest.mark.parametrize("limit", [8, 9, 100, 777, 5000])
def test_the_largest_batch_is_found_to_within_an_eighth(monkeypatch, limit):
    asked = []
    monkeypatch.setattr(rehearsal, "possible", lambda task, batch: asked.append(batch) or batch <= limit)
    found = rehearsal.largest_tried(task(0.0))
    assert limit - max(1, limit // 8) <= found <= limit and len(asked) < 25


def test_memory_that_is_not_there_is_no_error(monkeypatch):
    made = task(0.0)
    monkeypatch.setattr(made, "loss", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert not rehearsal.possible(made, 8)


def test_the_estimate_fills_nine_tenths_of_the_memory(monkeypatch):
    monkeypatch.setattr(rehearsal, "capacity", lambda device: 1000)
    cpu = torch.device("cpu")
    assert rehearsal.estimated(each=10, taken=300, batch=8, device=cpu) == 68  # 300 + 60 more images at 10 bytes = 900
    assert rehearsal.estimated(each=10, taken=950, batch=8, device=cpu) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert rehearsal.estimated(each=10, taken=300, batch=8, device=cpu) == 23


def test_memory_is_counted_in_bytes_of_this_machine():
    cpu = torch.device("cpu")
    before = rehearsal.peak(cpu)
    block = torch.ones(96 * 2**20, dtype=torch.uint8)
    assert rehearsal.peak(cpu) >= before and 50 * 2**20 < rehearsal.peak(cpu) < rehearsal.capacity(cpu)
    assert len(block) and rehearsal.capacity(cpu) > 2**30


@pytest.mark.parametrize("command, more", [
    (pretrain, ["--optim.epochs", "800", "--method.patch", "8"]), (pretrain, ["--method.name", "simclr"]), (finetune, ["--labels", "0.5"]),
])  # fmt: skip
def test_the_commands_write_nothing(tmp_path, quick_phantom, capsys, monkeypatch, command, more):
    monkeypatch.setattr(rehearsal, "SECONDS", 1.0)
    assert command.main([*TINY, *more, "--out", str(tmp_path / "o")]) is None
    said = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [] and re.search(r"^[\d.]+ images/s in batches of 32$", said, re.M)
