"""Checkpoints: tensors and JSON metadata in one safetensors file, written at once or not at all. No pickle.

Over 250 lines because the file format is written, read and checked in one place.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from safetensors.torch import save_file
from torch import Tensor

from mpsams import renames, splits
from mpsams.unet import UNet

KEY = "mpsams"  # the metadata entry that holds our JSON
PARTS = ("encoder", "decoder", "head")  # of a U-Net


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file.

    tensors: name -> tensor; the network's are named "encoder.", "decoder.", "head." as in ``UNet``.
    metadata: kind, method, model and all that the training wrote of its data, options and origin.
    sha256: of the file.
    """

    tensors: dict[str, Tensor]
    metadata: dict
    sha256: str


def save(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping) -> str:
    """Write atomically (temporary file, fsync, rename); returns the file's sha256.

    metadata must be JSON. An interrupted write leaves the file that was there before as it was. OSError says that the
    disk is full or the folder read-only.
    """
    data = to_bytes({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, {KEY: json.dumps(metadata)})
    write(Path(path), data)
    return hashlib.sha256(data).hexdigest()


def save_large(path: Path, tensors: dict[str, Tensor], metadata: Mapping, keep: Path) -> None:
    """Write as ``save``, but straight from the tensors' memory, without a hash, and with Python free for threads.

    tensors: contiguous, on the CPU. keep: a name in the same folder for the file that was there before.
    """
    with atomic_path(path, keep) as temporary:
        save_file(tensors, temporary, {KEY: json.dumps(metadata)})


def write(path: Path, data: bytes) -> None:
    """Write a file atomically, as ``save`` does; its folder is made when it is not there."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def atomic_path(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield a name to write to; afterwards that file is written to disk and replaces ``path``, or nothing changes.

    The name lies in a folder of its own, because safetensors writes to a random name beside it first, which a killed
    process leaves behind.
    """
    room = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(room)
        room.mkdir()
        temporary = room / path.name
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        if keep and path.exists():
            path.replace(keep)
        temporary.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else system_error(error)
        if number is None:
            raise
        raise OSError(
            number, f"could not write {path}: {os.strerror(number)}; the previous file is unchanged"
        ) from error
    finally:
        clear(room)


def clear(room: Path) -> None:
    """Delete a folder of unfinished files, or the unfinished file of an earlier version, as far as possible."""
    shutil.rmtree(room, ignore_errors=True)
    with contextlib.suppress(OSError):
        room.unlink()


def system_error(error: SafetensorError) -> int | None:
    """Return the system's error number that safetensors names in its message, None if it names none."""
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that a rename outlasts a loss of power; where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def to_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round convolution kernels to half precision, which halves a file; other tensors stay. ``unet`` reads both."""
    return {
        name: tensor.half() if tensor.ndim == 4 and tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    ValueError says when a file is missing, cut off, not one of ours, or holds NaN or infinity.

    The state of a run is not searched for these, since a training that failed is recognised by its loss.
    """
    with open_checkpoint(path) as (file, metadata):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    for name, tensor in tensors.items() if metadata.get("kind") != "state" else ():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"{path} holds NaN or infinity in {name}; its training failed or the file is damaged, train it again"
            )
    return Checkpoint(tensors, metadata, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def metadata(path: str | Path) -> dict:
    """Return the metadata of a checkpoint, without reading its tensors; ValueError as ``load``."""
    with open_checkpoint(path) as (_, found):
        return found


@contextlib.contextmanager
def open_checkpoint(path: str | Path) -> Iterator[tuple[safe_open, dict]]:
    """Open a checkpoint and yield the file and its metadata; ValueError as ``load``, also while it is read."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is no file; expected a .safetensors checkpoint of this project")
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get(KEY)
            if stated is None:
                raise ValueError(
                    f"{path} is a safetensors file but not a checkpoint of this project (no {KEY!r} metadata)"
                )
            yield file, _parse_metadata(stated, path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); it may be cut off or foreign") from None


def _parse_metadata(stated: str, path: Path) -> dict:
    """Return the metadata of a file from their text. ValueError when they are no JSON object."""
    try:
        found = json.loads(stated)
    except (ValueError, RecursionError):
        raise ValueError(f"the {KEY!r} metadata of {path} are not JSON; expected a JSON object") from None
    if not isinstance(found, dict):
        raise ValueError(f"the {KEY!r} metadata of {path} are {type(found).__name__}; expected a JSON object")
    return renames.update_metadata(found)


def check_shapes(checkpoint: Checkpoint) -> None:
    """Raise ValueError when tensors are not those of the network that the metadata describe. Takes no memory."""
    model = checkpoint.metadata["model"]
    try:
        wanted = _shapes(json.dumps(model, sort_keys=True))
    except (TypeError, ValueError, RuntimeError, ArithmeticError):
        raise ValueError(f"the checkpoint's metadata describe no network: {model}") from None
    for name, shape in wanted.items():
        found = tuple(checkpoint.tensors[name].shape) if name in checkpoint.tensors else "missing"
        if found != shape:
            raise ValueError(
                f"the checkpoint's tensors are not those of its {model}: {name} is {found}, expected {shape}"
            )


@functools.lru_cache(32)
def _shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors by name. model: the arguments of ``UNet`` with their names, as JSON, in
    which 2, 2.0 and true differ.
    """
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in UNet(**json.loads(model)).state_dict().items()}


def unet(checkpoint: Checkpoint) -> UNet:
    """Return the network of a checkpoint with its weights, in evaluation mode and float32.

    ValueError when the checkpoint holds no network, or not the one its metadata describe.
    """
    if "model" not in checkpoint.metadata:
        raise ValueError(
            f"a {checkpoint.metadata.get('kind')!r} checkpoint holds no network; expected a pretraining or a"
            " segmentation"
        )
    check_shapes(checkpoint)
    network = UNet(**checkpoint.metadata["model"])
    network.load_state_dict({name: checkpoint.tensors[name].to(torch.float32) for name in network.state_dict()})
    return network.eval()


def training_patients(checkpoint: Checkpoint) -> dict[str, set[str]]:
    """Return the patients that a checkpoint, and those it started from, may have been trained on, by data set."""
    found = {
        dataset: set(patients) for dataset, patients in (checkpoint.metadata.get("init") or {}).get("seen", {}).items()
    }
    about = checkpoint.metadata
    for values in [*([about["split"]] if "split" in about else []), *about.get("splits", ())]:
        own = splits.restore(values)
        found[own.dataset] = found.get(own.dataset, set()) | set(own.train)
    return found


def transfer(checkpoint: Checkpoint, network: UNet, only: Collection[str] = ("encoder", "decoder")) -> list[str]:
    """Copy the parts a checkpoint hands on, or only some of them, into a network; returns their names.

    A pretraining says what it hands on ("encoder", "decoder"), a segmentation has all ``PARTS`` to give. ValueError
    when the checkpoint is neither or its network has other sizes.
    """
    handed_on = PARTS if checkpoint.metadata.get("kind") == "segmentation" else checkpoint.metadata.get("transfers", ())
    parts = [part for part in handed_on if part in only]
    if not parts:
        raise ValueError(
            f"a {checkpoint.metadata.get('kind')!r} checkpoint hands nothing on; expected a pretraining's or a"
            " segmentation's"
        )
    wanted = {name for name in network.state_dict() if name.split(".")[0] in parts}
    own = {name: tensor.to(torch.float32) for name, tensor in checkpoint.tensors.items() if name in wanted}
    try:
        missing = network.load_state_dict(own, strict=False).missing_keys
    except RuntimeError as error:
        raise ValueError(
            f"the network to begin from {checkpoint.metadata['model']} has other sizes than the one to fine-tune:"
            f" {error}"
        ) from None
    if wanted & set(missing):
        raise ValueError(f"the checkpoint promises {parts} but lacks {sorted(wanted & set(missing))[:3]}")
    return parts
