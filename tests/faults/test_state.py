"""A run that is killed at any moment ends as if nothing had happened; damaged, foreign and unwritable
states are told.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mpsams import checkpoint, jsonl
from mpsams.transforms import Augmentation
from tests.support.waiting import wait_until
from train import finetune, loop, pack, pretrain, run_files, state
from train.options import Data
from train.state import PREVIOUS, STATE, Position

SMALL = [
    "--data.name",
    "phantom",
    "--data.size",
    "32",
    "--model.width",
    "2",
    "--optim.epochs",
    "4",
    "--optim.batch",
    "6",
    "--method.patch",
    "8",
    "--run.picture_every",
    "0",
    "--run.threads",
    "1",
    "--optim.lr",
    "0.01",
    "--run.save_minutes",
    "1e-6",
]


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
    context.set_forkserver_preload(
        ["tests.faults.test_state", "mpsams.methods.mps_ams", "torch._dynamo", "sklearn.cluster", "docstring_parser"]
    )
    return context


def ended(processes, root: Path, out: Path, kill_when=lambda began: False, *more: str) -> tuple[int, float]:
    """Train in a process of its own, killed when ``kill_when`` says so of the seconds since its start; exit code and
    seconds.
    """
    process = processes.Process(target=train, args=(root, out, *more))
    process.start()
    began = time.monotonic()
    wait_until(lambda: not process.is_alive() or kill_when(time.monotonic() - began), 600, 0.0005)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode, time.monotonic() - began


def same(a: Path, b: Path) -> bool:
    """True if two checkpoints hold the same tensors, to the bit."""
    one, other = (checkpoint.load(path / "weights.safetensors").tensors for path in (a, b))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def epoch_records(out: Path) -> list[dict]:
    """The records of the epochs, without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if k not in ("time", "seconds")}
        for row in jsonl.read(out / run_files.RECORDS, "epoch")
    ]


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_runs_killed_at_random_moments_end_as_the_undisturbed_one(tmp_path, packed, processes, kills):
    """After a random step; every other one while it writes a state, between two states, or between the two renames."""
    code, _ = ended(processes, packed, tmp_path / "whole")
    code_again, _ = ended(processes, packed, tmp_path / "again")
    assert (
        code == code_again == 0
        and same(tmp_path / "whole", tmp_path / "again")
        and len(epoch_records(tmp_path / "whole")) == 4
    )
    drawn, killed, in_writing, resumed = random.Random(7), 0, 0, 0
    for trial in range(10 * kills):
        out, step, pause = tmp_path / str(trial), drawn.randint(0, 14), drawn.uniform(0, 0.02)
        partial, reached = out / f"{STATE}.partial", further(out, step) if step else lambda _: out.exists()

        def writing(now: float) -> bool:
            if not reached(now):
                return False
            time.sleep(pause)  # time must pass: to meet other moments of a step
            return trial % 2 == 0 or partial.exists()

        code, _ = ended(processes, packed, out, writing)
        if code == 0:
            continue  # it was done before
        assert code == -signal.SIGKILL
        killed, in_writing = killed + 1, in_writing + partial.exists()
        resumed += (out / STATE).exists() or (out / PREVIOUS).exists()
        code, _ = ended(processes, packed, out, lambda now: False, "--resume")
        assert (
            code == 0 and same(out, tmp_path / "whole") and epoch_records(out) == epoch_records(tmp_path / "whole")
        ), f"kill {killed}"
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
    assert kills >= 5 and same(out, tmp_path / "whole") and epoch_records(out) == epoch_records(tmp_path / "whole")


def further(out: Path, step: int):
    """True if a run has saved a state after that step."""

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
    with state.Saver(out) as saver:
        saver.save(*made, Position(number, 1.5, [0.25] * number), config or {"lr": 0.1})
    return made


def test_everything_comes_back_and_the_next_step_is_the_same(tmp_path):
    module, optimiser = write(tmp_path, 3)
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    np.random.standard_normal()  # half of a pair is kept for the next call
    with state.Saver(tmp_path) as saver:
        saver.save(module, optimiser, Position(4, 2.0, [0.5]), {"lr": 0.1, "betas": (1, 2)})
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
        path.write_bytes(
            {
                "cut": data[: len(data) // 2],
                "flipped": bytes([255]) + data[1:],
                "foreign": b"PK\x03\x04" * 99,
                "empty": b"",
            }[damage]
        )
    module, optimiser = small()
    assert state.restore(tmp_path, module, optimiser, {"lr": 0.1}).step == 1
    printed = capsys.readouterr().out
    assert printed == "" if damage == "gone" else "trying the state before" in printed and str(path) in printed
    assert torch.equal(module[0].weight, small(1)[0][0].weight)


def test_two_damaged_states_end_the_run_with_a_sentence(tmp_path):
    for number in (1, 2):
        write(tmp_path, number)
    for name in (STATE, PREVIOUS):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match=f"no state to go on from: .*{STATE}.*{PREVIOUS}.*start again without --resume"
    ):
        state.restore(tmp_path, *small(), {"lr": 0.1})


def test_no_state_is_none(tmp_path):
    assert state.restore(tmp_path, *small(), {}) is None


def test_a_state_of_other_options_is_refused_by_their_names(tmp_path):
    write(tmp_path, 1, {"lr": 0.1, "size": 3})
    with pytest.raises(ValueError, match="other options in: epochs, size"):
        state.restore(tmp_path, *small(), {"lr": 0.1, "epochs": 1})


def test_options_that_came_later_do_not_stop_a_run_of_before(tmp_path, monkeypatch):
    recipe, data = ({"lr": 0.1, "augment": {"flip": 0.5}}, {"name": "busi", "sequences": [], "size": 64})
    write(tmp_path, 1, {"recipe": recipe, "data": data})
    now = {
        "recipe": asdict(replace(finetune.Recipe(), lr=0.1, augment=Augmentation(flip=0.5))),
        "data": asdict(Data(size=64)),
    }
    assert state.restore(tmp_path, *small(), now).step == 1
    with pytest.raises(ValueError, match="other options in: recipe;"):
        state.restore(
            tmp_path,
            *small(),
            now | {"recipe": now["recipe"] | {"augment": now["recipe"]["augment"] | {"rotation": 3.0}}},
        )


# Folders that cannot be written, and runs that were not finished


def test_a_full_disk_ends_the_run_with_a_sentence_and_the_last_state_stands(tmp_path, packed, monkeypatch):
    out = tmp_path / "a"
    saved, limits = checkpoint.save_large, resource.getrlimit(resource.RLIMIT_FSIZE)
    calls = []

    def fill_up(path, *rest, **more):
        calls.append(path)
        if len(calls) == 4:  # from now on no file may grow beyond 2 KiB
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
        return saved(path, *rest, **more)

    monkeypatch.setattr(checkpoint, "save_large", fill_up)
    try:
        with pytest.raises(OSError, match=rf"could not write {out / STATE}: .*the previous file is unchanged"):
            pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert [checkpoint.load(out / name).metadata["step"] for name in (STATE, PREVIOUS)] == [3, 2]
    assert not list(out.glob("*.partial"))
    pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(out), "--resume"])
    pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(tmp_path / "whole")])
    assert same(out, tmp_path / "whole")


@pytest.mark.parametrize(
    "message, folder",
    [("Not a directory", "file/below"), ("No such file or directory|Permission denied|Read-only", "/proc/mps-ams/run")],
)
def test_a_folder_that_cannot_be_written_is_named(tmp_path, packed, message, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        pretrain.run(
            lambda: pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(tmp_path / folder)]),
            "train.pretrain",
        )
    assert re.search(f"^train.pretrain: ({message}): .*{folder.split('/')[-2]}", str(stop.value))


HELD = "holds a run already: --resume goes on with it, --overwrite replaces it, another --out starts a new one"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopped(monkeypatch, steps: int, argv: list[str]) -> None:
    """Run a pretraining that receives SIGTERM in that step."""
    train_step, done = loop.train_step, []

    def count(*rest):
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*rest)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(loop, "train_step", count)
        pretrain.main(argv)
    assert stop.value.code == 143


@pytest.mark.parametrize("held", ["finished", "stopped", "weights", "state", "records"])
def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_is(tmp_path, packed, monkeypatch, held):
    out = tmp_path / "a"
    argv = [*SMALL, "--data.root", str(packed), "--out", str(out)]
    if held == "stopped":
        stopped(monkeypatch, 6, argv)
    else:
        pretrain.main(argv)
        only = {"weights": "weights.safetensors", "state": PREVIOUS, "records": run_files.RECORDS}.get(held)
        for path in out.iterdir():
            if only and path.name != only:
                path.unlink()
    before = contents(out)
    for more in ([], ["--optim.lr", "0.02"], ["--optim.epochs", "1"]):
        with pytest.raises(ValueError, match=HELD):
            pretrain.main([*argv, *more])
        assert contents(out) == before
    pretrain.main([*argv, "--optim.epochs", "1", "--overwrite"])
    assert (
        checkpoint.load(out / "weights.safetensors").metadata["training"]["steps"] == 4 and len(epoch_records(out)) == 1
    )
    assert jsonl.read(out / run_files.RECORDS)[0]["config"]["optim"]["epochs"] == 1
    assert state.saved_metadata(out)["step"] == 4


def test_a_run_stopped_over_a_finished_one_is_not_mixed_with_it(tmp_path, packed, monkeypatch):
    """A finished, B stopped in the same folder, C started there: each of A and B is only replaced on request, and never
    stands beside the other.
    """
    out = tmp_path / "a"
    argv = [*SMALL, "--data.root", str(packed), "--out", str(out)]
    pretrain.main(argv)
    stopped(monkeypatch, 3, [*argv, "--overwrite", "--optim.lr", "0.02"])
    assert not (out / "weights.safetensors").exists() and state.saved_metadata(out)["step"] == 3
    before = contents(out)
    with pytest.raises(ValueError, match=HELD):
        pretrain.main([*argv, "--optim.lr", "0.03"])
    assert contents(out) == before
    pretrain.main([*argv, "--optim.lr", "0.02", "--resume"])
    assert checkpoint.load(out / "weights.safetensors").metadata["config"]["optim"]["lr"] == 0.02


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_finished_run_says_so_and_is_not_trained_again(tmp_path, packed, capsys, forgotten):
    """Also without the state, which train.reproduce deletes after a run."""
    out = tmp_path / "a"
    argv = [*SMALL, "--data.root", str(packed), "--out", str(out)]
    pretrain.main(argv)
    if forgotten:
        state.forget(out)
    before = contents(out)
    capsys.readouterr()
    assert pretrain.main([*argv, "--resume"]) == out / "weights.safetensors"
    assert "this run is finished, nothing is left to do" in capsys.readouterr().out and contents(out) == before
    with pytest.raises(ValueError, match="other options in: optim"):
        pretrain.main([*argv, "--resume", "--optim.lr", "0.02"])
    assert contents(out) == before


def test_records_of_a_reproduction_are_never_deleted(tmp_path, packed):
    jsonl.append(tmp_path / run_files.RECORDS, "result", run="a")
    before = contents(tmp_path)
    for more in ([], ["--overwrite"], ["--resume"]):
        with pytest.raises(ValueError, match="holds the records of many runs"):
            pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(tmp_path), *more])
    assert contents(tmp_path) == before


def test_resume_and_overwrite_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        pretrain.main(["--resume", "--overwrite"])
    assert "expected one of them" in capsys.readouterr().err


def test_runs_that_differ_have_other_default_folders(tmp_path, packed, quick_phantom, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").symlink_to(packed)
    small = [*SMALL, "--optim.epochs", "1"]
    changes = (
        [],
        ["--optim.lr", "0.02"],
        ["--model.width", "3"],
        ["--optim.epochs", "2"],
        ["--run.seed", "1"],
        ["--method.order", "random"],
    )
    found = {pretrain.main([*small, "--data.root", str(packed), *more]) for more in changes}
    found.add(pretrain.main([*small, "--data.cases", "20"]))  # other images
    assert len(found) == len(changes) + 1 and all(path.parts[0] == "runs" for path in found)
    with pytest.raises(ValueError, match=HELD):  # the same images at another place, the same options
        pretrain.main([*small, "--data.root", "other"])
    assert pretrain.main([*small, "--data.root", "other", "--resume"]) in found


def test_fine_tunings_that_differ_have_other_default_folders(tmp_path, packed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("--data.name", "phantom", "--data.size", "32", "--data.root", str(packed), "--model.width", "2")
    small = [*data, "--labels", "0.5", "--recipe.epochs", "1", "--validate_every", "0"]
    changes = ([], ["--recipe.lr", "0.02"], ["--model.width", "3"], ["--labels", "0.6"], ["--run.seed", "1"])
    found = {finetune.main([*small, *more]) for more in changes}
    assert len(found) == len(changes) and all(path.parts[0] == "runs" for path in found)
    with pytest.raises(ValueError, match=HELD):
        finetune.main(small)


def test_a_run_that_an_earlier_version_named_is_gone_on_with(tmp_path, packed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = Path("runs/phantom-mps_ams-pretrain-0")
    argv = [*SMALL, "--data.root", str(packed)]
    stopped(monkeypatch, 3, [*argv, "--out", str(old)])
    assert pretrain.main([*argv, "--resume"]) == old / "weights.safetensors"


# Saving in the background


def test_a_state_is_not_hashed(tmp_path, monkeypatch):
    """At the paper's scale it has 372 MB."""
    monkeypatch.setattr(checkpoint.hashlib, "sha256", lambda *_: pytest.fail("the state was hashed"))
    tensors = {"weights": torch.arange(6.0)}
    checkpoint.save_large(tmp_path / "state.safetensors", tensors, {"step": 3}, tmp_path / "previous.safetensors")
    monkeypatch.undo()
    saved = checkpoint.load(tmp_path / "state.safetensors")
    assert torch.equal(saved.tensors["weights"], tensors["weights"]) and saved.metadata["step"] == 3


def test_a_state_is_written_while_training_goes_on_and_is_of_the_step_it_was_saved_in(tmp_path, packed, monkeypatch):
    """The first write is held back until two more steps are done; then it is whole, of its own step, and the next waits
    for it.
    """
    out, large, train_step = tmp_path / "a", checkpoint.save_large, loop.train_step
    begun, done, steps = [], threading.Event(), []
    monkeypatch.setattr(
        loop,
        "train_step",
        lambda task, at, *rest: (steps.append(at.step), at.step == 3 and done.set(), train_step(task, at, *rest))[-1],
    )

    def slow(path, tensors, metadata, keep):
        begun.append((metadata["step"], len(steps), threading.current_thread() is threading.main_thread()))
        if len(begun) == 1:
            assert done.wait(60)
        large(path, tensors, metadata, keep)

    monkeypatch.setattr(checkpoint, "save_large", slow)
    clock = iter([0, 0, 400, 400])  # seconds: the save after the second step is due, and only that at the end besides
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock, 400))
    pretrain.main([*SMALL, "--data.root", str(packed), "--out", str(out), "--run.save_minutes", "5"])
    assert not any(main for _, _, main in begun) and begun[-1][0] == 16 and len(begun) == 2
    monkeypatch.undo()
    assert checkpoint.load(out / PREVIOUS).metadata["step"] == begun[0][0] < 4
    assert same_as_stopped(tmp_path / "b", out, packed, monkeypatch, begun[0][0])


def same_as_stopped(other: Path, out: Path, packed: Path, monkeypatch, step: int) -> bool:
    """True if the state before the last of ``out`` is that of a run stopped after that step."""
    stopped(monkeypatch, step, [*SMALL, "--data.root", str(packed), "--out", str(other)])
    one, two = checkpoint.load(out / PREVIOUS).tensors, checkpoint.load(other / STATE).tensors
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_an_ending_waits_for_the_write_and_a_failed_one_is_reported(tmp_path, monkeypatch, capsys):
    made, large, ending = small(1), checkpoint.save_large, threading.Event()

    def write_at_the_end(*rest):
        assert ending.wait(60)
        large(*rest)

    monkeypatch.setattr(checkpoint, "save_large", write_at_the_end)
    with pytest.raises(KeyboardInterrupt), state.Saver(tmp_path) as saver:
        shutdown = saver.thread.shutdown
        monkeypatch.setattr(saver.thread, "shutdown", lambda: (ending.set(), shutdown()))
        saver.save(*made, Position(1), {"lr": 0.1})
        raise KeyboardInterrupt
    assert state.saved_metadata(tmp_path)["step"] == 1 and not list(tmp_path.glob("*.partial"))

    def fail(*_):
        raise OSError(28, "could not write it")

    monkeypatch.setattr(checkpoint, "save_large", fail)
    with pytest.raises(OSError, match="could not write it"), state.Saver(tmp_path) as saver:
        saver.save(*made, Position(2), {"lr": 0.1})
        saver.save(*made, Position(3), {"lr": 0.1})
    with pytest.raises(OSError, match="could not write it"), state.Saver(tmp_path) as saver:
        saver.save(*made, Position(2), {"lr": 0.1})
    with pytest.raises(FloatingPointError), state.Saver(tmp_path) as saver:
        saver.save(*made, Position(2), {"lr": 0.1})
        raise FloatingPointError
    assert "could not write it" in capsys.readouterr().out and state.saved_metadata(tmp_path)["step"] == 1
