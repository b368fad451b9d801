"""Typed options shared by the commands: dataclasses, filled from a TOML file and from the command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mpsams import datasets, distributed, packs, precision, splits
from mpsams.datasets import Stack
from mpsams.imaging import MODALITIES
from mpsams.splits import Split
from mpsams.unet import NORMS, Decoder, Encoder
from train import batchnorm, launch, memory

CHUNK = 512  # images that are looked at once
Trained = TypeVar("Trained", bound=nn.Module)
# options that earlier versions did not have, and the value (of teacher, its weight) with which a run is as theirs
LATER = {
    **{f"recipe.augment.{name}": 0 for name in ("elastic", "bias", "blur", "speckle", "noise", "cutout")},
    **{f"recipe.{name}": 0 for name in ("presence", "deep", "balance", "small", "faint", "teacher")},
    "method.similarity": "inner-product",
}


@dataclass(frozen=True)
class Data:
    """Images and their split.

    Args:
        name: data set: busi, hecktor, brats or folder (these need root), or phantom (synthetic).
        root: folder of the data set in its official layout, or a pack made by train.pack.
        sequences: MRI sequences that become channels, where the data set has several (brats: t1, t1ce, t2, flair; t1).
        modality: ultrasound, ct or mri, for the data set folder; if empty, as the first file states, else guessed.
        size: side in pixels to which images are resized; a multiple of 16.
        split_seed: seed of the 8:1:1 split.
        grouped: keep near-duplicate images in one part; false is the paper's plain random split.
        cases: number of cases to use, from the first, to try things out; 0 is all.
        slice_stride: train and validate on every n-th slice of a patient, as neighbouring slices look alike.
        target: what the masks outline, if it differs from the data set's own target; for the model card.
        source: where the images come from, if it differs from the data set's own source; for the model card.
    """

    name: str = "busi"
    root: str | None = None
    sequences: tuple[str, ...] = ()
    modality: str = ""
    size: int = 256
    split_seed: int = 0
    grouped: bool = True
    cases: int = 0
    slice_stride: int = 1
    target: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        one_of("data.name", self.name, datasets.available())
        one_of("data.modality", self.modality, ("", *MODALITIES))
        if self.size < 16 or self.size % 16:
            raise ValueError(f"data.size {self.size} must be a positive multiple of 16")
        at_least("data.cases", self.cases, 0)
        at_least("data.slice_stride", self.slice_stride, 1)


@dataclass(frozen=True)
class Model:
    """The U-Net.

    Args:
        width: channels of the finest of five levels (64 = 31 M parameters, the paper's scale; 16 = 1.9 M).
        norm: normalisation layer: batch, instance or group.
    """

    width: int = 64
    norm: str = "batch"

    def __post_init__(self) -> None:
        one_of("model.norm", self.norm, NORMS)
        at_least("model.width", self.width, 1)


@dataclass(frozen=True)
class RunOptions:
    """Device, randomness and saving of a run.

    Args:
        seed: seed of weights, batches, masks, augmentation and the draw of labels.
        device: auto (a GPU when there is one), cpu, or cuda.
        threads: number of CPU threads; 0 is PyTorch's default.
        synced: BatchNorm over the rows of all processes, so that N train as one does; false lets each take its own
            rows, which is sooner where processes are slow to talk to each other.
        precision: of convolutions: float32, bf16, or auto, which is bf16 where the device has it in hardware and, on a
            CPU, a short measurement shows that it is faster, else float32. The records say which was used, and a
            resumed run keeps it.
        compile: let torch.compile translate the U-Net first, which takes minutes; for long trainings on a GPU (on a CPU
            it is slower).
        save_minutes: minutes between saves of the state that --resume goes on from; 0 saves after each epoch.
        picture_every: epochs between pictures in the run folder; 0 draws none.
    """

    seed: int = 0
    device: str = "auto"
    threads: int = 0
    synced: bool = True
    precision: str = "auto"
    compile: bool = False
    save_minutes: float = 5.0
    picture_every: int = 5

    def __post_init__(self) -> None:
        one_of("run.device", self.device, ("auto", "cpu", "cuda"))
        one_of("run.precision", self.precision, ("auto", *precision.PRECISIONS))
        at_least("run.save_minutes", self.save_minutes, 0)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("run.device is 'cuda' but PyTorch sees no GPU here; use auto or cpu")

    def start(self) -> torch.device:
        """Set the number of threads, let the C library keep its memory, and name the device."""
        memory.keep_freed()
        if self.threads:
            torch.set_num_threads(self.threads)
        if self.device == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        if launch.local_rank() >= torch.cuda.device_count():
            raise ValueError(
                f"process {launch.local_rank()} of this machine has no GPU: there are {torch.cuda.device_count()};"
                " start as many"
            )
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda", launch.local_rank())

    def prepare(self, module: Trained, device: torch.device) -> Trained:
        """Move the module to its device, for training: in the precision asked for, with BatchNorm over all processes.

        Weights are in channels_last on a GPU and with bfloat16; in float32 a CPU gains nothing by it
        (``benchmarks/switches.py``).
        """
        dtype = precision.choose(self.precision, device)
        fast = device.type == "cuda" or dtype == torch.bfloat16
        module = module.to(device, memory_format=torch.channels_last if fast else torch.contiguous_format).train()  # type: ignore[call-overload]
        module = batchnorm.sync_batchnorm(module) if self.synced else module  # type: ignore[assignment]
        for part in module.modules():
            if isinstance(part, Encoder | Decoder):
                part.precision = dtype
                if self.compile:
                    part.compile(dynamic=False)
        return module


def to_device_if_fits(stack: Stack, device: torch.device) -> Stack:
    """Return the samples in the GPU's memory if they take at most half of what is free there; else as they are."""
    if device.type == "cuda" and stack.bytes <= torch.cuda.mem_get_info(device)[0] / 2:
        return stack.to(device)
    return stack


def one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is allowed; it names both, and the one that may have been meant."""
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, 1)
        raise ValueError(
            f"{name} is {value!r}; expected one of: {', '.join(allowed)}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )


def at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError, which names both, unless ``value`` is at least ``least``."""
    if not value >= least:
        raise ValueError(f"{name} is {value}; expected at least {least}")


# options that are not written while empty, so that runs from before they were there are still resumed
NEWER = ("modality",)
# options that only mean something on the machine of the run
LOCAL = ("root", "packs", "out", "init", "resume", "overwrite", "dry_run")


def open_data(options: Data, track: Callable = iter) -> tuple[Stack, Split]:
    """Return a whole data set at the network's size, and its split. ValueError says what is wrong with it."""
    stack = read(options, track)
    return stack, divide(options, stack)[0]


def read(options: Data, track: Callable = iter) -> Stack:
    """Return a whole data set at the network's size: a pack as it is, anything else read into memory."""
    if options.root and packs.is_pack(options.root):
        stack = packs.read(options.root)
        if (stack.name, stack.size) != (options.name, options.size):
            raise ValueError(
                f"{options.root} is a pack of {stack.name!r} at {stack.size} pixels; "
                f"data.name is {options.name!r} and data.size {options.size}"
            )
        if options.sequences and options.sequences != stack.sequences or options.cases:
            raise ValueError(
                f"{options.root} is a pack of {', '.join(stack.sequences) or 'no sequences to choose from'};"
                " data.sequences can be nothing else, and data.cases is for folders"
            )
        if options.modality and options.modality != stack.modality:
            raise ValueError(f"{options.root} is a pack of {stack.modality}; data.modality can be nothing else")
    else:
        dataset = datasets.open_dataset(options.name, options.root, options.sequences, options.modality)
        if options.cases:
            dataset = dataset.select(dataset.cases[: options.cases])
        stack = datasets.stack(dataset, options.size, track)
    print_notes(stack.notes)
    return replace(stack, target=options.target or stack.target, source=options.source or stack.source)


def print_notes(notes: Sequence[str]) -> None:
    """Print what should be known of the data before the numbers are trusted, each sentence once."""
    if distributed.rank() == 0:
        for note in dict.fromkeys(notes):
            print(f"note: {note}", flush=True)


def divide(options: Data, stack: Stack) -> tuple[Split, list[tuple[int, int]]]:
    """Return the split of patients, and pairs of near-duplicates, sought only where patients are unknown."""
    patients = tuple(dict.fromkeys(stack.groups))
    pairs = splits.near_duplicates(thumbnails(stack)) if patients == stack.cases else []
    groups = splits.join(patients, pairs if options.grouped else [])
    return splits.make(options.name, patients, groups, options.split_seed, options.grouped), pairs


def thumbnails(stack: Stack) -> np.ndarray:
    """Return small versions of all images, to find near-duplicates on: float (N, 32, 32)."""
    side = splits.THUMBNAIL
    batches = (stack.take(indices)[0].float() for indices in torch.arange(len(stack)).split(CHUNK))
    return torch.cat([F.interpolate(batch_nchw, (side, side), mode="area")[:, 0] for batch_nchw in batches]).numpy()
