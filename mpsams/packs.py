"""Packs: a data set prepared once as memory-mapped files, so that training starts at once and needs little memory.

A pack is a folder: images.bin (uint8, N x C x S x S), masks.bin (bool, N x 1 x S x S) and pack.json, which says what
they are. While it is being made, progress.jsonl has a line per finished patient; making it again goes on from there.

Axes: N slices, C channels, S x S pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from mpsams import datasets, jsonl
from mpsams.datasets import Dataset, Stack

ABOUT, IMAGES, MASKS, PROGRESS = "pack.json", "images.bin", "masks.bin", "progress.jsonl"


def write(dataset: Dataset, size: int, folder: Path, track: Callable[[Iterable], Iterable] = iter) -> dict:
    """Prepare every slice (``datasets.prepare``), patient by patient, in memory for one patient at a time.

    track: wraps the patients, to show progress. Returns what pack.json says. A folder with a finished pack, or one
    begun from other files or at another size, raises ValueError.
    """
    if is_pack(folder):
        raise ValueError(f"{folder} holds a finished pack already; delete it or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    members = datasets.members_of(dataset.groups)
    jsonl.keep(folder / PROGRESS, lambda row: True)  # without a line that was cut off
    done = {row["patient"]: row for row in jsonl.read(folder / PROGRESS)} if (folder / PROGRESS).exists() else {}
    check_begun(done, dataset, size, folder)
    kept = sum(len(row["cases"]) for row in done.values())
    channels = max((row["channels"] for row in done.values()), default=1)  # a patient without a body says 1
    check_lengths(folder, {IMAGES: kept * channels * size**2, MASKS: kept * size**2})
    with open(folder / IMAGES, "ab") as images, open(folder / MASKS, "ab") as masks:
        images.truncate(kept * channels * size**2)  # what a cut-off patient left behind
        masks.truncate(kept * size**2)
        for patient in track(members):
            if patient in done:
                continue
            own = [dataset.cases[index] for index in members[patient]]
            found: list = []
            notes: dict[str, None] = {}
            for sample in map(dataset.read, own):
                notes |= dict.fromkeys(sample.notes)
                found += [(sample.case, pair)] if (pair := datasets.prepare(sample, size)) else []
            for _, (image_chw, mask_1hw) in found:
                channels = len(image_chw)
                images.write(image_chw.tobytes())
                masks.write(mask_1hw.tobytes())
            for file in (images, masks):
                file.flush()
                os.fsync(file.fileno())
            cases = [case for case, _ in found]
            row = {
                "patient": patient,
                "cases": cases,
                "slices": len(own),
                "size": size,
                "channels": channels,
                "notes": list(notes),
            }
            row["sha256"] = source_hash(dataset.files(patient))
            done[patient] = row
            jsonl.append(folder / PROGRESS, "packed", **row)
    return finish(dataset, size, channels, [done[patient] for patient in members], folder)


def check_begun(done: dict[str, dict], dataset: Dataset, size: int, folder: Path) -> None:
    """Raise ValueError unless what is packed already is of this data set, this size and these files."""
    for patient, row in done.items():
        if patient not in dataset.groups or row["size"] != size or row["sha256"] != source_hash(dataset.files(patient)):
            raise ValueError(
                f"{folder} was begun from other files or at another size (see {patient!r}); delete it or choose another"
                " --out"
            )


def check(folder: Path, dataset: Dataset) -> None:
    """Raise ValueError unless a finished pack is of this data set, by patients' names and the first and last files."""
    if (folder / PROGRESS).exists():
        done = {row["patient"]: row for row in jsonl.read(folder / PROGRESS)}
        if done.keys() != set(dataset.groups):
            raise ValueError(
                f"{folder} was made from other patients than this folder of data has; delete it or choose another --out"
            )
        ends = [*done][:: max(1, len(done) - 1)]
        check_begun({patient: done[patient] for patient in ends}, dataset, done[ends[0]]["size"], folder)


def check_lengths(folder: Path, least: dict[str, int]) -> None:
    """Raise ValueError unless the files hold at least the bytes of the finished patients."""
    for name, expected in least.items():
        actual = (folder / name).stat().st_size if (folder / name).exists() else 0
        if actual < expected:
            raise ValueError(
                f"{folder / name} has {actual} bytes, its finished patients need {expected}; delete {folder} and begin"
                " again"
            )


def source_hash(files: tuple[Path, ...]) -> str:
    """Return the SHA-256 of the bytes of a patient's files."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def finish(dataset: Dataset, size: int, channels: int, rows: list[dict], folder: Path) -> dict:
    """Write pack.json, which makes the folder a pack."""
    cases = [case for row in rows for case in row["cases"]]
    if not cases:
        raise ValueError(datasets.no_slices_message(dataset))
    about = {
        "name": dataset.name,
        "modality": dataset.modality,
        "target": dataset.target,
        "source": datasets.source(dataset.name),
        "size": size,
        "channels": channels,
        "sequences": list(dataset.sequences),
        "slices_read": len(dataset),
        "source_sha256": hashlib.sha256("".join(row["sha256"] for row in rows).encode()).hexdigest(),
        "sha256": datasets.fingerprint(
            parts(folder / IMAGES, np.uint8, channels * size**2), parts(folder / MASKS, np.bool_, size**2)
        ),
        "cases": cases,
        "groups": [row["patient"] for row in rows for _ in row["cases"]],
        "notes": [
            *dataset.notes,
            *datasets.add_names((row["patient"], note) for row in rows for note in row.get("notes", ())),
        ],
    }
    unfinished = folder / f"{ABOUT}.part"
    unfinished.write_text(json.dumps(about) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / ABOUT)
    return about


def parts(path: Path, kind: type, length: int, count: int = 16) -> Iterator[np.ndarray]:
    """Yield the samples of a file, of ``length`` values each, ``count`` at a time: (at most count, length)."""
    with open(path, "rb") as file:
        part: np.ndarray
        while len(part := np.fromfile(file, kind, count * length)):
            yield part.reshape(-1, length)


def is_pack(folder: str | Path) -> bool:
    """Return True if a folder holds a finished pack."""
    return (Path(folder) / ABOUT).is_file()


def read(folder: str | Path) -> Stack:
    """Open a pack; nothing is read before it is asked for.

    ValueError when pack.json is unreadable or the files have other lengths than it says.
    """
    try:
        about = json.loads((Path(folder) / ABOUT).read_text(encoding="utf-8"))
        cases, groups = tuple(about["cases"]), tuple(about["groups"])
        images_nchw, masks_n1hw = arrays(Path(folder), len(cases), about["channels"], about["size"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is no intact pack ({error}); make it again with train.pack") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch's, that writing to them would fail
        tensors = torch.from_numpy(images_nchw), torch.from_numpy(masks_n1hw)
    words = (about[key] for key in ("name", "modality", "target", "source"))
    more = (tuple(about.get(key, ())) for key in ("sequences", "notes"))
    return Stack(*words, cases, groups, *tensors, torch.arange(len(cases)), about["sha256"], *more)  # type: ignore[call-arg]


def arrays(folder: Path, count: int, channels: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Open the pack's files as arrays, memory-mapped for reading only: a pack may be larger than the memory."""
    maps = []
    for name, kind, depth in ((IMAGES, np.uint8, channels), (MASKS, np.bool_, 1)):
        expected, actual = count * depth * size**2, (folder / name).stat().st_size
        if expected != actual:
            raise ValueError(f"{name} has {actual} bytes, expected {expected}")
        maps.append(np.memmap(folder / name, kind, "r", shape=(count, depth, size, size)))
    return maps[0], maps[1]
