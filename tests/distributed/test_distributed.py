"""Several processes do what one does: the same losses and weights, one state, one record, one end.

Two processes of a group of their own do all that needs no torchrun (``work``); the last tests start torchrun itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.distributed import run
from torch.nn.parallel import DistributedDataParallel

from benchmarks import gpu
from mpsams import checkpoint, datasets, distributed, jsonl, losses, methods, packs, transforms
from tests.support.waiting import wait_until
from train import batchnorm, finetune, launch, loop, pretrain, reproduce, run_files, state
from train import pack as pack_command

ROOT = Path(__file__).resolve().parents[2]
WORLD, BATCH = 2, 6  # processes; rows of a batch over all of them
CASES = 30  # of which 24 train: four steps an epoch
LIMIT = 60  # seconds in which a failure of one process must have ended both
COMMANDS = {"pretrain": pretrain, "finetune": finetune}
BOTH = [
    "--data.name",
    "phantom",
    "--data.size",
    "32",
    "--run.threads",
    "1",
    "--run.device",
    "cpu",
    "--run.save_minutes",
    "600",
]
BOTH += ["--run.precision", "float32"]  # in which several agree with one to 1e-4
PRETRAIN = [*BOTH, "--model.width", "4", "--optim.batch", f"{BATCH}", "--optim.lr", "2e-5", "--run.picture_every", "0"]
FINETUNE = [
    *BOTH,
    "--model.width",
    "4",
    "--recipe.batch",
    f"{BATCH}",
    "--labels",
    "1",
    "--recipe.epochs",
    "2",
    "--validate_every",
    "2",
]
PATCH = ["--method.patch", "8"]
LONG = [*PRETRAIN, *PATCH, "--optim.epochs", "13"]  # 52 steps
ACCUMULATED = [*PRETRAIN, *PATCH, "--optim.epochs", "2", "--optim.accumulate", "3", "--model.norm", "group"]
PLAIN = [*FINETUNE, "--recipe.loss", "ce", "--model.norm", "group"]
METHOD = {
    "byol": ["--method.hidden", "32"],
    "mae": PATCH,
    "simclr": [],
    "simmim": ["--method.patch", "16"],
    "swav": ["--method.prototypes", "8", "--method.crops", "2", "--method.frozen", "0.5"],  # thaws after half
}
TRAININGS = {  # name -> command and options; done by one process and by two
    "mps_ams for 50 steps": ("pretrain", LONG),
    **{
        name: ("pretrain", [*PRETRAIN, "--optim.epochs", "2", "--method.name", name, *METHOD.get(name, [])])
        for name in methods.available()
        if name != "mps_ams"
    },
    "paper": ("finetune", [*FINETUNE, "--recipe.name", "paper"]),
    "strong": ("finetune", [*FINETUNE, "--recipe.name", "strong"]),
    "assist": (
        "finetune",
        [*FINETUNE, "--recipe.name", "assist", "--recipe.augment.speckle", "0.1", "--recipe.augment.bias", "0.2"]
        + ["--recipe.lr", "1e-4"],  # a tenth of its own, which magnifies the rounding of some processors too much
    ),
    "accumulated": ("pretrain", ACCUMULATED),
    "plain": ("finetune", PLAIN),
    "plain in parts": ("finetune", [*PLAIN, "--recipe.accumulate", "3"]),
}


# BatchNorm, random numbers, losses


NORMS = {  # name -> layer's kind, shape of the whole batch, in channels_last
    "flat": (nn.BatchNorm1d, (BATCH, 5), False),
    "images": (nn.BatchNorm2d, (BATCH, 3, 4, 6), False),
    "images, channels last": (nn.BatchNorm2d, (BATCH, 3, 4, 6), True),
    "one row each": (nn.BatchNorm1d, (WORLD, 5), False),
    "far from zero": (nn.BatchNorm2d, (BATCH, 3, 4, 6), True),
}


def layer(name: str) -> nn.Sequential:
    """A normalisation with weights and statistics that are not those it begins with, in a module to be replaced in."""
    kind, shape, _ = NORMS[name]
    generator = torch.Generator().manual_seed(1)
    made = kind(shape[1])
    with torch.no_grad():
        for tensor in (made.weight, made.bias, made.running_mean):
            tensor.copy_(torch.randn(shape[1], generator=generator))
        made.running_var.copy_(torch.rand(shape[1], generator=generator) + 0.5)
    return nn.Sequential(made)


def rows(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch whose halves differ in mean and variance, and the gradient that arrives at its normalisation."""
    _, shape, last = NORMS[name]
    generator = torch.Generator().manual_seed(2)
    x, given = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    x[: len(x) // 2] = 3 * x[: len(x) // 2] + 2
    if name == "far from zero":
        x = x * 0.1 + 300
    return (each.contiguous(memory_format=torch.channels_last) if last else each for each in (x, given))


def normalised(module: nn.Module, x: torch.Tensor, given: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs in training and afterwards in evaluation, statistics, and gradients."""
    x = x.detach().clone().requires_grad_()
    y = module(x)
    y.backward(given)
    found = {"y": y.detach(), "x": x.grad, **{name: p.grad for name, p in module.named_parameters()}}
    found |= {name: buffer.clone() for name, buffer in module.named_buffers()}
    return found | {"evaluated": module.eval()(x).detach()}


def mine(x: torch.Tensor) -> torch.Tensor:
    """This process's rows of a batch."""
    return x.chunk(distributed.world_size())[distributed.rank()]


def segmented(kind: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of a small network on this process's rows; lesions are larger in the second half."""
    torch.manual_seed(0)
    module = nn.Conv2d(2, 1, 3, padding=1)
    module = DistributedDataParallel(module) if distributed.world_size() > 1 else module
    generator = torch.Generator().manual_seed(5)
    x_bchw = torch.randn(BATCH, 2, 8, 8, generator=generator)
    truth_b1hw = torch.rand(BATCH, 1, 8, 8, generator=generator) < torch.linspace(0.05, 0.9, BATCH).view(-1, 1, 1, 1)
    loss = losses.segmentation(module(mine(x_bchw)), mine(truth_b1hw), kind)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in module.parameters()]


def run_checks() -> dict:
    """Run the checks that need a process group but no training."""
    how = transforms.Augmentation(flip=0.5, rotation=15, zoom=0.2, shift=0.1, contrast=0.2, brightness=0.1, gamma=0.3)
    found = {
        f"norm {name}": normalised(batchnorm.sync_batchnorm(layer(name)), *map(mine, rows(name))) for name in NORMS
    }
    found["replaced"] = isinstance(batchnorm.sync_batchnorm(layer("flat"))[0], batchnorm.SyncedBatchNorm)
    found["names"] = list(batchnorm.sync_batchnorm(layer("images")).state_dict())
    half = [each.bfloat16() for each in map(mine, rows("images, channels last"))]
    found["half"] = normalised(batchnorm.sync_batchnorm(layer("images, channels last")), *half)
    found["uniform"] = distributed.uniform(
        BATCH // distributed.world_size(), 2, 3, generator=torch.Generator().manual_seed(8)
    )
    found["changes"] = dataclasses.asdict(
        transforms.draw(BATCH // distributed.world_size(), how, torch.Generator().manual_seed(9))
    )
    found["shares"] = [distributed.shard(torch.arange(count)).tolist() for count in (6, 5, 1)]
    found |= {kind: segmented(kind) for kind in losses.SEGMENTATION}
    found["of all"] = launch.gather_objects(f"from {distributed.rank()}")
    found["of first"] = launch.call_on_first(lambda: f"from {distributed.rank()}")
    with pytest.raises(ValueError, match="refused by 0"):
        launch.call_on_first(lambda: refuse(f"refused by {distributed.rank()}"))
    return found


def refuse(sentence: str) -> None:
    raise ValueError(sentence)


# Trainings


@contextlib.contextmanager
def one_of_several(rank: int, port: int) -> Iterator[None]:
    """Set the variables that torchrun gives a process of two."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORLD, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        yield


def train(command: str, argv: list[str], out: Path, before_step=lambda step: None) -> dict:
    """A training's losses of each step, final weights, what it printed, and how it ended."""
    found: dict = {"losses": [], "ended": "well"}
    settle, step, began = loop.sync_losses, loop.train_step, time.monotonic()

    def watched(task, at, *rest):
        settled = settle(task, at, *rest)
        found["losses"].append(at.losses[-1])
        found["step"] = at.step
        return settled

    def warned(task, at, *rest):
        before_step(at.step)
        return step(task, at, *rest)

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(loop, "sync_losses", watched)
        patch.setattr(loop, "train_step", warned)
        try:
            written = COMMANDS[command].main([*argv, "--out", str(out)])
            found["weights"] = checkpoint.load(written).tensors if written.exists() else {}
        except (Exception, SystemExit) as error:
            found["ended"] = f"{type(error).__name__}: {error}"
    gc.collect()  # the process does not end here, as it would, and so must let go of its connections
    return found | {"printed": printed.getvalue(), "seconds": time.monotonic() - began}


def signalled(rank: int, own: int, at: int, number: int = signal.SIGTERM):
    """A signal to one process during a step."""
    return lambda step: os.kill(os.getpid(), number) if (rank, step) == (own, at) else None


def spoilt(rank: int, own: int, at: int, sentence: str):
    """An error in one process during a step."""
    return lambda step: refuse(sentence) if (rank, step) == (own, at) else None


def unwritable(out: Path):
    """No second state can be written: a folder stands where the first would go."""
    return lambda step: (out / state.PREVIOUS).mkdir() if step == 1 else None


def trainings(rank: int, folder: Path, pack: str) -> Iterator[tuple[str, str, list[str], Path, object]]:
    """The trainings of two processes, one after the other: name, command, options, folder, what happens in this one."""
    data = ["--data.root", pack]
    for name, (command, argv) in TRAININGS.items():
        yield name, command, [*argv, *data], folder / name, lambda step: None
    short = [*PRETRAIN, *PATCH, "--optim.epochs", "3", *data]
    yield "whole", "pretrain", short, folder / "whole", lambda step: None
    yield "stopped", "pretrain", short, folder / "stopped", signalled(rank, 1, 6)
    if rank == 0:
        (folder / "stopped alone").mkdir()
        for path in (folder / "stopped").iterdir():
            (folder / "stopped alone" / path.name).write_bytes(path.read_bytes())
    yield "resumed", "pretrain", [*short, "--resume"], folder / "stopped", lambda step: None
    yield "refused by the second", "pretrain", short, folder / "refused", spoilt(rank, 1, 2, "the second planted this")
    yield (
        "refused by the first",
        "pretrain",
        short,
        folder / "refused too",
        spoilt(rank, 0, 2, "the first planted this"),
    )
    full = [*short, "--run.save_minutes", "0"]
    yield "full", "pretrain", full, folder / "full", unwritable(folder / "full") if rank == 0 else lambda step: None
    other = [*short, "--resume", "--optim.lr", "0.5"]
    yield "other options", "pretrain", other, folder / ("stopped" if rank == 0 else "not there"), lambda step: None
    own = folder / ("alone" if rank == 0 else "another machine's disk")  # the first's folder is not the other's
    yield "elsewhere, stopped", "pretrain", short, own, signalled(rank, 0, 5)
    yield "elsewhere", "pretrain", [*short, "--resume"], own, lambda step: None


def work(rank: int, folder: Path, pack: str, ports: list[int]) -> None:
    """Run one of two processes; its findings go into a file."""
    torch.set_num_threads(1)
    # after an error both live on here, and one may wait for what the other left undone
    launch.TIMEOUT = timedelta(seconds=30)
    with one_of_several(rank, ports.pop()), launch.process_group():
        found = run_checks()
    for name, command, argv, out, happens in trainings(rank, folder, pack):
        with one_of_several(rank, ports.pop()):
            found[name] = train(command, argv, out, happens)
    torch.save(found, folder / f"{rank}.pt")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses."""
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> str:
    """Phantoms at the size of these tests, as a pack."""
    folder = tmp_path_factory.mktemp("packs") / "phantom"
    dataset = datasets.open_dataset("phantom")
    packs.write(dataset.select(dataset.cases[:CASES]), 32, folder)
    return str(folder)


@pytest.fixture(scope="module")
def several(tmp_path_factory, pack) -> list[dict]:
    """The findings of two processes."""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(work, (folder, pack, free_ports(40)), nprocs=WORLD)
    found = [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]
    return [each | {"folder": folder} for each in found]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, pack):
    """The same trainings by this process, each when it is asked for."""
    folder, done, threads = tmp_path_factory.mktemp("one"), {}, torch.get_num_threads()

    def ask(name: str) -> dict:
        command, argv = TRAININGS[name]
        if name not in done:
            done[name] = train(command, [*argv, "--data.root", pack], folder / name)
        return done[name]

    yield ask
    torch.set_num_threads(threads)


def joint(several: list[dict], key: str, part: str) -> torch.Tensor:
    """The rows of both processes."""
    return torch.cat([found[key][part] for found in several])


@pytest.mark.parametrize("name", NORMS)
def test_batchnorm_over_two_processes_is_that_of_the_whole_batch(several, name):
    whole = normalised(layer(name), *rows(name))
    close = {"rtol": 1e-3, "atol": 1e-2} if name == "far from zero" else {"rtol": 1e-4, "atol": 1e-5}
    for part in ("y", "x", "evaluated"):
        torch.testing.assert_close(joint(several, f"norm {name}", part), whole[part], **close)
    for found in several:
        for part in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
            torch.testing.assert_close(found[f"norm {name}"][part], whole[part], **close)
    for part in ("0.weight", "0.bias"):
        torch.testing.assert_close(sum(found[f"norm {name}"][part] for found in several), whole[part], **close)
    own = [normalised(layer(name), *(x.chunk(WORLD)[0] for x in rows(name)))["y"]] if name != "one row each" else []
    # as it would be with its own statistics
    assert all((each - whole["y"][: len(each)]).abs().max() > 0.1 for each in own)


def test_batchnorm_of_several_keeps_its_names_and_takes_half_precision(several):
    assert all(found["replaced"] and found["names"] == list(layer("images").state_dict()) for found in several)
    whole = normalised(layer("images, channels last"), *(x.bfloat16() for x in rows("images, channels last")))
    for part in ("y", "x"):
        assert several[0]["half"][part].dtype == torch.bfloat16
        torch.testing.assert_close(joint(several, "half", part), whole[part], rtol=0.05, atol=0.05)
    # alone everything is as it was
    assert not isinstance(batchnorm.sync_batchnorm(layer("flat"))[0], batchnorm.SyncedBatchNorm)


def test_random_numbers_of_several_are_those_of_one(several):
    whole = distributed.uniform(BATCH, 2, 3, generator=torch.Generator().manual_seed(8))
    assert torch.equal(torch.cat([found["uniform"] for found in several]), whole)
    how = transforms.Augmentation(flip=0.5, rotation=15, zoom=0.2, shift=0.1, contrast=0.2, brightness=0.1, gamma=0.3)
    for name, drawn in dataclasses.asdict(transforms.draw(BATCH, how, torch.Generator().manual_seed(9))).items():
        assert torch.equal(joint(several, "changes", name), drawn)


def test_shares_cover_a_batch_and_are_as_large(several):
    assert [found["shares"] for found in several] == [[[0, 1, 2], [0, 1, 2], [0]], [[3, 4, 5], [3, 4, 0], [0]]]
    assert distributed.shard(torch.arange(5)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", losses.SEGMENTATION)
def test_the_segmentation_loss_of_several_is_that_of_the_whole_batch(several, kind):
    loss, gradients = segmented(kind)
    torch.testing.assert_close(sum(found[kind][0] for found in several) / WORLD, loss)
    for found in several:
        torch.testing.assert_close(found[kind][1], gradients)


def test_the_first_hears_all_and_is_heard_by_all(several):
    assert [found["of all"] for found in several] == [["from 0", "from 1"], []]
    assert [found["of first"] for found in several] == ["from 0", "from 0"]
    assert launch.gather_objects("alone") == ["alone"] and launch.call_on_first(lambda: "alone") == "alone"


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one_does(several, alone, name):
    """But for rounding, which training magnifies: at ten times this learning rate one process differs as much from
    itself when its first weights are changed by a ten-millionth.
    """
    one, (first, second) = alone(name), (found[name] for found in several)
    assert one["ended"] == first["ended"] == second["ended"] == "well"
    assert first["losses"] == second["losses"] and len(one["losses"]) == len(first["losses"])
    assert len(one["losses"]) >= (50 if name == "mps_ams for 50 steps" else 8)
    apart = [abs(a - b) for a, b in zip(one["losses"], first["losses"], strict=True)]
    assert max(apart) < 1e-4, f"losses differ by {max(apart)} after {apart.index(max(apart))} steps"
    assert one["weights"].keys() == first["weights"].keys()
    for weight, tensor in one["weights"].items():
        assert torch.equal(first["weights"][weight], second["weights"][weight])
        torch.testing.assert_close(
            first["weights"][weight], tensor, rtol=2e-2, atol=2e-3, msg=lambda text: f"{weight}: {text}"
        )


def test_a_batch_in_parts_is_a_batch(alone):
    """Equal if neither layers nor loss look over the edge of a part."""
    whole, parts = alone("plain"), alone("plain in parts")
    torch.testing.assert_close(parts["losses"], whole["losses"], rtol=0, atol=1e-5)
    for name, tensor in whole["weights"].items():
        torch.testing.assert_close(parts["weights"][name], tensor, rtol=1e-2, atol=1e-3)


def test_only_the_first_prints_and_writes_records(several):
    first, second = (found["mps_ams for 50 steps"] for found in several)
    assert "wrote" in first["printed"] and second["printed"] == ""
    rows = jsonl.read(several[0]["folder"] / "mps_ams for 50 steps" / run_files.RECORDS)
    assert [row.get("epoch") for row in rows if row["event"] == "epoch"] == list(range(1, 14))
    assert [row["processes"] for row in rows if row["event"] == "start"] == [WORLD]


def test_a_signal_to_one_process_stops_both_after_the_same_step(several, pack):
    whole, stopped, resumed = ([found[name] for found in several] for name in ("whole", "stopped", "resumed"))
    for found in stopped:
        assert found["ended"] == f"SystemExit: {128 + signal.SIGTERM}" and found["step"] == 7
    assert "stopped in epoch 2 after step 7" in stopped[0]["printed"] and not stopped[1]["printed"]
    assert [found["step"] for found in resumed] == [12, 12]
    assert stopped[0]["losses"] + resumed[0]["losses"] == whole[0]["losses"]
    assert same(resumed[0]["weights"], whole[0]["weights"])
    again = [*PRETRAIN, *PATCH, "--optim.epochs", "3", "--data.root", pack, "--resume"]
    one = train("pretrain", again, several[0]["folder"] / "stopped alone")  # goes on with what two have saved
    assert one["ended"] == "well" and one["losses"] == pytest.approx(resumed[0]["losses"], abs=1e-4)
    kept = jsonl.read(several[0]["folder"] / "stopped" / run_files.RECORDS, "epoch")
    assert [row["epoch"] for row in kept] == [1, 2, 3]


def same(one: dict, other: dict) -> bool:
    """True if all tensors are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name, culprit", [("refused by the first", 0), ("refused by the second", 1)])
def test_an_error_in_one_process_ends_both(several, name, culprit):
    ended = [found[name]["ended"] for found in several]
    assert ended[culprit] == f"ValueError: the {('first', 'second')[culprit]} planted this"
    assert ended[1 - culprit].startswith("ConnectionError: another process of this training has ended")
    assert max(found[name]["seconds"] for found in several) < LIMIT


def test_what_the_first_cannot_write_or_read_ends_all_alike(several):
    for found in several:
        assert "Error: [Errno 21] could not write" in found["full"]["ended"]
        assert "other options in: optim; use those" in found["other options"]["ended"]


def test_others_need_not_see_the_folder_of_the_first(several):
    """As on machines without a common disk."""
    for found, whole in zip(several, (each["whole"] for each in several)):
        assert found["elsewhere"]["losses"] == whole["losses"][6:]
    assert not (several[0]["folder"] / "another machine's disk" / state.STATE).exists()


# torchrun


def torchrun(*argv: str, **environment: str) -> subprocess.Popen:
    """The command in the project's folder, in a session of its own, its output in one stream."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "torch.distributed.run", *argv]
    streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, env=variables, start_new_session=True, **streams)


def ended(process: subprocess.Popen, seconds: float = 300) -> str:
    """The output of a command until its end; it and all that it started are killed if that does not come."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        for worker in workers(process):
            os.kill(worker, signal.SIGKILL)
        process.kill()
        pytest.fail(f"torchrun did not end: {process.communicate()[0][-3000:]}")


def workers(process: subprocess.Popen) -> dict[int, int]:
    """The processes that torchrun has started: number -> rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = {}
    for child in map(int, children):
        with contextlib.suppress(OSError):
            variables = dict(
                line.split("=", 1) for line in Path(f"/proc/{child}/environ").read_text().split("\0") if "=" in line
            )
            found |= {child: int(variables["RANK"])} if "RANK" in variables else {}
    return found


def wait_for_epoch(out: Path, epoch: int, process: subprocess.Popen, seconds: float = 120) -> None:
    """Until a training's records have come so far."""

    def has_come() -> bool:
        assert process.poll() is None, f"no epoch {epoch} in {out}: {ended(process, 1)[-3000:]}"
        return (out / run_files.RECORDS).exists() and any(
            row["epoch"] >= epoch for row in jsonl.read(out / run_files.RECORDS, "epoch")
        )

    wait_until(has_come, seconds)


def lasting(pack: str, out: Path, epochs: int = 40) -> list[str]:
    """A training that lasts some seconds and saves its state after each epoch."""
    own = ["--data.root", pack, "--out", str(out), "--optim.epochs", str(epochs), "--run.save_minutes", "0"]
    return ["-m", "train.pretrain", *PRETRAIN, *PATCH, "--optim.batch", "12", "--model.width", "2", *own]


def epochs(out: Path) -> list[int]:
    return [row["epoch"] for row in jsonl.read(out / run_files.RECORDS, "epoch")]


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes through /proc")


@needs_proc
@pytest.mark.slow
def test_a_worker_is_killed_and_the_run_completes(tmp_path, pack):
    out = tmp_path / "run"
    process = torchrun("--standalone", "--nproc-per-node=2", "--max-restarts=2", *lasting(pack, out))
    wait_for_epoch(out, 3, process)
    os.kill(next(worker for worker, rank in workers(process).items() if rank == 1), signal.SIGKILL)
    text = ended(process)
    assert process.returncode == 0, text[-3000:]
    assert epochs(out) == list(range(1, 41)) and (out / "weights.safetensors").exists()
    assert len(jsonl.read(out / run_files.RECORDS, "start")) == 2
    assert text.count("going on after step") == 1 and text.count("wrote") == 1


@pytest.mark.slow
@needs_proc
def test_torchrun_is_terminated_and_a_second_goes_on_to_the_same_weights(tmp_path, pack):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start = ["--standalone", "--nproc-per-node=2"]
    process = torchrun(*start, *lasting(pack, whole))
    assert "wrote" in ended(process) and process.returncode == 0
    process = torchrun(*start, *lasting(pack, cut))
    wait_for_epoch(cut, 3, process)
    process.terminate()
    text = ended(process)
    assert text.count("stopped in epoch") == 1 and process.returncode != 0 and epochs(cut)[-1] < 40
    process = torchrun(*start, *lasting(pack, cut), "--resume")
    text = ended(process)
    assert process.returncode == 0 and text.count("going on after step") == 1, text[-3000:]
    assert same(*(checkpoint.load(out / "weights.safetensors").tensors for out in (whole, cut))) and epochs(
        cut
    ) == epochs(whole)


@pytest.mark.slow
def test_two_machines_train_together(tmp_path, pack):
    """Two agents that meet on this one; each has a folder of its own, as without a common disk."""
    port = free_ports(1)[0]
    meet = [
        "--nnodes=2",
        "--nproc-per-node=1",
        "--rdzv-backend=c10d",
        "--rdzv-id=test",
        f"--rdzv-endpoint=localhost:{port}",
    ]
    agents = [torchrun(*meet, *lasting(pack, tmp_path / name, epochs=5)) for name in ("one", "two")]
    texts = [ended(agent) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], texts[0][-2000:] + texts[1][-2000:]
    assert sum("wrote" in text for text in texts) == 1
    assert [(tmp_path / name / "weights.safetensors").exists() for name in ("one", "two")].count(True) == 1


@pytest.mark.slow
def test_a_refusal_is_printed_once(tmp_path, pack):
    argv = lasting(pack, tmp_path / "out")
    process = torchrun("--standalone", "--nproc-per-node=2", *argv, "--data.size", "48")
    text = ended(process)
    assert process.returncode != 0 and text.count("data.size 48") == 1 and "train.pretrain: " in text, text[-3000:]


# The documents


def commands() -> Iterator[tuple[str, str]]:
    """The page on training on many GPUs and the two files beside it, each with its text."""
    for path in (ROOT / "docs" / "train" / name for name in ("many-gpus.md", "slurm.sh", "kubernetes.yaml")):
        yield path.name, path.read_text(encoding="utf-8")


def known_options(capsys) -> set[str]:
    """All options of our commands and of torchrun."""
    text = run.get_args_parser().format_help()
    for command in (pretrain, finetune, pack_command, reproduce, gpu):
        with pytest.raises(SystemExit):
            command.main(["--help"])
        text += capsys.readouterr().out
    return set(re.findall(r"--[a-z][\w.-]*", text))


def test_every_option_in_the_documents_exists(capsys):
    elsewhere = {"--kill-on-bad-exit", "--build-arg", "--job-name", "--nodes", "--ntasks-per-node", "--gpus-per-node",
                 "--cpus-per-task", "--time", "--requeue", "--open-mode", "--signal",
                 "--no-deps", "--no-index", "--dest", "--create", "--extract", "--gzip", "--file",
                 "--directory"}  # fmt: skip
    known = known_options(capsys)
    assert "--optim.batch" in known and "--rdzv-endpoint" in known
    for name, text in commands():
        assert set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\b", text)) - elsewhere <= known, name


def test_the_kubernetes_job_is_whole():
    service, job = yaml.safe_load_all((ROOT / "docs/train/kubernetes.yaml").read_text(encoding="utf-8"))
    pod = job["spec"]["template"]["spec"]
    assert (service["kind"], job["kind"]) == ("Service", "Job") and pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    command = pod["containers"][0]["command"]
    options = dict(part.split("=", 1) for part in command if "=" in part)
    assert int(options["--nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(options["--nproc-per-node"]) == pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert options["--rdzv-endpoint"].startswith(f"{job['metadata']['name']}-0.{pod['subdomain']}:")
    assert int(options["--shutdown-timeout"]) < pod["terminationGracePeriodSeconds"]
    assert (ROOT / options["--config"]).is_file()


@pytest.mark.parametrize("stopped", [False, True])
def test_the_slurm_script_requeues_only_what_was_stopped(tmp_path, stopped):
    """With stand-ins for Slurm's commands: srun writes down its arguments and ends with 1, at once or when it is
    terminated.
    """
    script = ROOT / "docs/train/slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    wait = f"trap 'exit 1' TERM; touch {tmp_path}/running; while true; do sleep 0.1; done" if stopped else "exit 1"
    stand_ins = {
        "srun": f'echo "$@" > {tmp_path}/srun.txt\n{wait}',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.txt; echo node7',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "31"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", script, "--data.root", "a b"], env=environment)
    if stopped:
        wait_until((tmp_path / "running").exists)
        process.terminate()
    assert process.wait(30) == 1
    command = (tmp_path / "srun.txt").read_text()
    assert "--nnodes=2 --nproc-per-node=4" in command
    assert "--rdzv-endpoint=node7:29500 -m train.pretrain --resume --data.root a b" in command
    calls = (tmp_path / "scontrol.txt").read_text().splitlines()
    assert calls == ["show hostnames node[7-8]"] + ["requeue 31"] * stopped
