"""The state of a run under way: written at once or not at all, with the one before kept, and read back to the bit."""

from __future__ import annotations

import contextlib
import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpsams import checkpoint, distributed, renames
from mpsams.checkpoint import Checkpoint
from train import launch

STATE = "state.safetensors"
PREVIOUS = "state.previous.safetensors"


@dataclass
class Position:
    """The position of a run: optimiser steps done, seconds spent, and the losses of the epoch under way."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


class Saver:
    """Saves the states of a run in the background, one at a time; as a context, ends when the last is written."""

    def __init__(self, out: Path) -> None:
        self.out, self.thread, self.writing = out, ThreadPoolExecutor(1), None

    def save(self, module: nn.Module, optimiser: torch.optim.Optimizer, at: Position, config: dict) -> None:
        """Begin to write everything that ``restore`` needs to go on exactly; every process calls it, the first writes.

        The tensors are copied before it returns. What no generator of ours decides, such as a method's own dropout,
        comes from the random states of Python, NumPy and torch; those of every process are written too. The state
        before becomes ``PREVIOUS``. OSError, in all, when the write before failed, such as on a full disk.
        """
        states = launch.gather_objects(random_state())
        self.wait()
        if distributed.rank() == 0:
            tensors, metadata = snapshot(module, optimiser, at, config, states)
            self.writing = self.thread.submit(
                checkpoint.save_large, self.out / STATE, tensors, metadata, self.out / PREVIOUS
            )  # type: ignore[assignment]

    def wait(self) -> None:
        """Return when what was begun is written; every process calls it. OSError, in all, when that failed."""

        def written() -> None:
            begun, self.writing = self.writing, None
            if begun:
                begun.result()

        launch.call_on_first(written)

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.thread.shutdown()  # waits
        if kind is None:
            self.wait()
        elif self.writing and (error := self.writing.exception()):
            print(error)


def snapshot(
    module: nn.Module, optimiser: torch.optim.Optimizer, at: Position, config: dict, states: list
) -> tuple[dict[str, Tensor], dict]:
    """Return all tensors copied to the CPU, and the metadata, the random states of all processes among them."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, entries in optimiser.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    for index, (drawn, _) in enumerate(states):
        tensors |= {f"random.{index}.{name}": tensor for name, tensor in drawn.items()}
    copies = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach()) for name, tensor in tensors.items()
    }
    metadata = {"kind": "state", "config": config, "step": at.step, "seconds": at.seconds, "losses": list(at.losses)}
    return copies, metadata | {"random": [numbers for _, numbers in states]}


def restore(out: Path, module: nn.Module, optimiser: torch.optim.Optimizer, config: dict) -> Position | None:
    """Load the last state of a run folder, or the one before when that is damaged; None when there is neither.

    ValueError says what is wrong with both, or names the options that have changed since.
    """
    found = launch.call_on_first(partial(newest, out))  # other machines may not see this folder, or another file
    if found is None:
        return None
    check(out, found.metadata["config"], config)
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "optimizer": {}, "random": {}}
    for name, tensor in found.tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = tensor
    module.load_state_dict(parts["module"])
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    entries = {int(number): lay_out(entry, weights[int(number)]) for number, entry in nest(parts["optimizer"]).items()}
    optimiser.load_state_dict({"state": entries, "param_groups": optimiser.state_dict()["param_groups"]})
    numbers = found.metadata["random"]
    if distributed.rank() < len(numbers):  # a process more than there were has no state to go on from
        set_random_state(nest(parts["random"])[str(distributed.rank())], numbers[distributed.rank()])
    return Position(found.metadata["step"], found.metadata["seconds"], found.metadata["losses"])


def check(out: Path, then: dict, now: dict) -> None:
    """Raise ValueError with the options that have changed since the state in ``out`` was saved."""
    if "precision" in now:
        then = {"precision": "float32"} | then  # states of earlier versions say nothing of it
    if differing := changed_options(then, now):
        raise ValueError(
            f"the state in {out} comes from a run with other options in: {differing}; use those, or another --out"
        )


def changed_options(then: dict, now: dict) -> str:
    """Return the names of the options that differ, with commas between them. then: as read from a file."""
    then, now = complete(renames.update_config(then)), complete(json.loads(json.dumps(now)))  # tuples become lists
    return ", ".join(key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key))


def complete(config: dict) -> dict:
    """Return a configuration with options that an earlier version lacked, at their defaults, which change nothing."""
    from train import options, pretrain, recipes  # which import this module

    kinds = {"data": options.Data, "model": options.Model, "optim": pretrain.Optim, "recipe": recipes.Recipe}
    return {
        name: fill(value, json.loads(json.dumps(asdict(kinds[name]())))) if name in kinds else value
        for name, value in config.items()
    }


def fill(values: object, defaults: object) -> object:
    """Return tables with what they lack of the defaults, at any depth; anything else unchanged."""
    if not isinstance(values, dict) or not isinstance(defaults, dict):
        return values
    return defaults | {name: fill(value, defaults.get(name)) for name, value in values.items()}


def lay_out(entry: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Bring an optimiser's tensors for a weight into its memory layout, or a fused step would mix them up."""
    return {name: torch.empty_like(weight).copy_(x) if x.shape == weight.shape else x for name, x in entry.items()}


def newest(out: Path) -> Checkpoint | None:
    """Return the last whole state of a run folder, and print which damaged file was passed over."""
    refused = []
    for path in (out / STATE, out / PREVIOUS):
        if path.exists():
            try:
                return whole(path)
            except ValueError as error:
                print(f"{error}; trying the state before")
                refused.append(str(error))
    if refused:
        raise ValueError(f"no state to go on from: {'; '.join(refused)}; start again without --resume")
    return None


def saved_metadata(out: Path) -> dict | None:
    """Return the metadata of the last whole state of a run folder; None when there is none."""
    for path in (out / STATE, out / PREVIOUS):
        with contextlib.suppress(ValueError):
            if (found := checkpoint.metadata(path)).get("kind") == "state":
                return found
    return None


def forget(out: Path) -> None:
    """Delete the states of a run folder."""
    for name in (STATE, PREVIOUS):
        (out / name).unlink(missing_ok=True)


def whole(path: Path) -> Checkpoint:
    """Load a state. ValueError says when the file is damaged or something else."""
    found = checkpoint.load(path)
    if found.metadata.get("kind") != "state":
        raise ValueError(f"{path} is a {found.metadata.get('kind')} checkpoint, not the state of a run")
    return found


def nest(flat: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Nest tensors by the first part of their names: {"0.step": x} -> {"0": {"step": x}}."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        first, _, rest = name.partition(".")
        found.setdefault(first, {})[rest] = tensor
    return found


def random_state() -> tuple[dict[str, Tensor], dict]:
    """Return the random states of torch (and its GPU) as tensors, those of Python and NumPy as JSON."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    _, keys, *rest = np.random.get_state()
    return tensors, {"python": random.getstate(), "numpy": [keys.tolist(), *rest]}  # type: ignore[attr-defined]


def set_random_state(tensors: dict[str, Tensor], numbers: dict) -> None:
    """Set the random states that ``random_state`` returned; a GPU's state is left alone where there is none."""
    torch.set_rng_state(tensors["torch"])
    if torch.cuda.is_available() and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"])
    version, keys, gauss = numbers["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, *rest = numbers["numpy"]
    np.random.set_state(("MT19937", np.array(keys, np.uint32), *rest))
