"""A run that is killed at any moment ends as if nothing had happened; damaged, foreign and unwritable states are told."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mpsams import checkpoint, records
from train import loop, pack, pretrain, state
from train.state import PREVIOUS, STATE, Position

SMALL = ["--data.name", "phantom", "--data.size", "32", "--model.width", "2", "--optim.epochs", "4", "--optim.batch", "6", "--method.patch", "8",
         "--run.picture_every", "0", "--run.threads", "1", "--optim.lr", "0.01", "--run.save_minutes", "1e-6"]  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory, quick_phantom) -> Path:
    """Thirty phantoms, packed."""
    out = tmp_path_factory.mktemp("data") / "pack"
    pack.main(["--data.name", "phantom", "--data.size", "32", "--data.cases", "30", "--out", str(out)])
    return out


def train(root: Path, out: Path, *more: str) -> None:
    """A small pretraining that saves after each step; what a killed process ran."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1), os.dup2(devnull, 2)
    pretrain.main([*SMALL, "--data.root", str(root), "--out", str(out), *more])


@pytest.fixture(scope="module")
def processes():
    """Processes that have everything imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_state", "mpsams.methods.mps_ams", "torch._dynamo", "sklearn.cluster", "docstring_parser"])
    return context


def ended(processes, root: Path, out: Path, kill_when=lambda began: False, *more: str) -> tuple[int, float]:
    """Train in a process of its own, killed when ``kill_when`` says so of the seconds since its start; exit code and seconds."""
    process = processes.Process(target=train, args=(root, out, *more))
    process.start()
    began = time.monotonic()
    while process.is_alive() and not kill_when(time.monotonic() - began):
        time.sleep(0.0005)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode, time.monotonic() - began


def same(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same tensors, to the bit."""
    one, other = (checkpoint.load(path / "weights.safetensors").tensors for path in (a, b))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def told(out: Path) -> list[dict]:
    """The records of the epochs, without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in ("time", "seconds")} for row in records.read(out / loop.RECORDS, "epoch")]


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_runs_killed_at_random_moments_end_as_the_undisturbed_one(tmp_path, packed, processes, kills):
    """Every other one is killed while it writes a state, between two states, or between the two renames."""
    code, _ = ended(processes, packed, tmp_path / "whole")
    code_again, seconds = ended(processes, packed, tmp_path / "again")
    assert code == code_again == 0 and same(tmp_path / "whole", tmp_path / "again") and len(told(tmp_path / "whole")) == 4
    drawn, killed, in_writing, resumed = random.Random(7), 0, 0, 0
    for trial in range(10 * kills):
        out, moment = tmp_path / str(trial), drawn.uniform(0.1, 0.95) * seconds
        partial = out / f"{STATE}.partial"
        writing = (lambda now: now > moment and partial.exists()) if trial % 2 else lambda now: now > moment
        code, _ = ended(processes, packed, out, writing)
        if code == 0:
            continue  # it was done before
        assert code == -signal.SIGKILL
        killed, in_writing = killed + 1, in_writing + partial.exists()
        resumed += (out / STATE).exists() or (out / PREVIOUS).exists()
        code, _ = ended(processes, packed, out, lambda now: False, "--resume")
        assert code == 0 and same(out, tmp_path / "whole") and told(out) == told(tmp_path / "whole"), f"kill {killed}"
        if killed == kills:
            break
    assert killed == kills and in_writing >= kills // 5 and resumed >= kills // 2


def test_one_run_killed_again_and_again_ends_as_the_undisturbed_one(tmp_path, packed, processes):
    ended(processes, packed, tmp_path / "whole")
    out, drawn, kills = tmp_path / "cut", random.Random(8), 0
    for _ in range(200):
        seen = state.newest(out).metadata["step"] if out.exists() and state.newest(out) else 0
        code, _ = ended(processes, packed, out, further(out, seen + drawn.randint(1, 4)), "--resume")
        kills += code != 0
        if code == 0:
            break
    assert kills >= 5 and same(out, tmp_path / "whole") and told(out) == told(tmp_path / "whole")


def further(out: Path, step: int):
    """Whether a run has saved a state after that step."""

    def is_there(_: float) -> bool:
        try:
            return checkpoint.load(out / STATE).metadata["step"] >= step
        except (ValueError, OSError, RuntimeError):
            return False  # not there yet, or being renamed

    return is_there


# States, one by one


def small(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A convolution in channels_last with an optimiser that has made a step."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1, fused=True)
    step(module, optimiser)
    return module, optimiser


def step(module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    module(torch.arange(150.0).reshape(2, 3, 5, 5).sin()).square().sum().backward()
    optimiser.step()


def write(out: Path, number: int, config: dict | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Save a state after so many steps."""
    made = small(number)
    state.save(out, *made, Position(number, 1.5, [0.25] * number), config or {"lr": 0.1})
    return made


def test_everything_comes_back_and_the_next_step_is_the_same(tmp_path):
    module, optimiser = write(tmp_path, 3)
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    np.random.standard_normal()  # half of a pair is kept for the next call
    state.save(tmp_path, module, optimiser, Position(4, 2.0, [0.5]), {"lr": 0.1, "betas": (1, 2)})
    expected = [random.random(), np.random.standard_normal(), torch.rand(3).tolist()]
    step(module, optimiser)
    other, its = small(9)
    at = state.restore(tmp_path, other, its, {"lr": 0.1, "betas": (1, 2)})
    assert at == Position(4, 2.0, [0.5])
    assert [random.random(), np.random.standard_normal(), torch.rand(3).tolist()] == expected
    assert its.state[other[0].weight]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    step(other, its)
    for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_state_before_is_kept(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path, number)
    assert {path.name for path in tmp_path.iterdir()} == {STATE, PREVIOUS}
    assert [checkpoint.load(tmp_path / name).metadata["step"] for name in (STATE, PREVIOUS)] == [3, 2]


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "weights", "gone", "empty"])
def test_a_damaged_state_is_passed_over_with_a_sentence(tmp_path, capsys, damage):
    for number in (1, 2):
        write(tmp_path, number)
    path = tmp_path / STATE
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "weights":
        checkpoint.save(path, {"a": torch.ones(1)}, {"kind": "pretrain"})
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "flipped": bytes([255]) + data[1:], "foreign": b"PK\x03\x04" * 99, "empty": b""}[damage])
    module, optimiser = small()
    assert state.restore(tmp_path, module, optimiser, {"lr": 0.1}).step == 1
    said = capsys.readouterr().out
    assert said == "" if damage == "gone" else "trying the state before" in said and str(path) in said
    assert torch.equal(module[0].weight, small(1)[0][0].weight)


def test_two_damaged_states_end_the_run_with_a_sentence(tmp_path):
    for number in (1, 2):
        write(tmp_path, number)
    for name in (STATE, PREVIOUS):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"no state to go on from: .*{STATE}.*{PREVIOUS}.*start again without --resume"):
        state.restore(tmp_path, *small(), {"lr": 0.1})


def test_no_state_is_none(tmp_path):
    assert state.restore(tmp_path, *small(), {}) is None


def test_a_state_of_other_options_is_refused_by_their_names(tmp_path):
    write(tmp_path, 1, {"lr": 0.1, "size": 3})
    with pytest.raises(ValueError, match="other options in: epochs, size"):
        state.restore(tmp_path, *small(), {"lr": 0.1, "epochs": 1})


# Folders that cannot be written, and runs that were not finished


def test_a_full_disk_ends_the_run_with_a_sentence_and_the_last_state_stands(tmp_path, packed, monkeypatch):
    out = tmp_path / "a"
    saved, limits = checkpoint.save, resource.getrlimit(resource.RLIMIT_FSIZE)
    calls = []

    def fill_up(path, *rest, **more):
        calls.append(path)
        if len(calls) == 4:  # from now on no file may grow beyond 2 KiB
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
        return saved(path, *rest, **more)

    monkeypatch.setattr(checkpoint, "save", fill_up)
    try:
        with pytest.raises(OSError, match=rf"could not write {out / STATE}: .*what was there before stands"):
            pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert [checkpoint.load(out / name).metadata["step"] for name in (STATE, PREVIOUS)] == [3, 2]
    assert not list(out.glob("*.partial"))
    pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(out), "--resume"])
    pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(tmp_path / "whole")])
    assert same(out, tmp_path / "whole")


@pytest.mark.parametrize("message, folder", [("Not a directory", "file/below"), ("No such file or directory|Permission denied|Read-only", "/proc/mps-ams/run")])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, packed, message, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        pretrain.run(lambda: pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(tmp_path / folder)]), "train.pretrain")
    assert re.search(f"^train.pretrain: ({message}): .*{folder.split('/')[-2]}", str(stop.value))


def test_a_run_that_was_not_finished_is_not_dropped_by_forgetting_resume(tmp_path, packed, capsys):
    out = ["--data.root", str(packed), "--out", str(tmp_path / "a")]
    pretrain.main([*SMALL, *out])
    (tmp_path / "a" / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="holds a run that was not finished; --resume goes on with it, another --out starts a new one"):
        pretrain.main([*SMALL, *out])
    pretrain.main([*SMALL, *out, "--resume"])
    pretrain.main([*SMALL, *out, "--optim.epochs", "1"])  # a finished one may be made anew
    assert len(told(tmp_path / "a")) == 1 and checkpoint.load(tmp_path / "a" / STATE).metadata["step"] == 4
