"""The checkpoint that a fine-tuning starts from: its options' defaults, its network, and the checks that it fits the
split.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mpsams import checkpoint, datasets, splits
from mpsams.checkpoint import Checkpoint
from mpsams.splits import Split
from train.options import Model

KINDS = {"pretrain": "pretraining", "segmentation": "segmentation"}  # of checkpoints to begin from


def init_metadata(init: str) -> dict:
    """Return the metadata of the checkpoint to begin from. ValueError when it cannot be begun from."""
    about = checkpoint.metadata(init)
    if about.get("kind") not in KINDS:
        raise ValueError(
            f"--init is a {about.get('kind')} checkpoint; expected the weights of a pretraining or a segmentation"
        )
    return about


def inherit_defaults(about: dict, data: str) -> dict[str, Any]:
    """Return the defaults that a checkpoint to begin from sets, by dotted name: size, sequences, width and norm."""
    found = {
        "data.size": about.get("size"),
        **{f"model.{name}": about.get("model", {}).get(name) for name in ("width", "norm")},
    }
    if data in datasets.available() and hasattr(datasets.find(data), "SEQUENCES"):
        found["data.sequences"] = tuple(about.get("data", {}).get("sequences", ()))
    return {name: value for name, value in found.items() if value}


def begin(model: Model, channels: int, start: Checkpoint | None, split: Split) -> tuple[dict, str]:
    """Return the sizes of the U-Net to fine-tune, and the name of the method it comes from.

    ValueError when the start has seen patients that this split tests or validates on, or other channels.
    """
    if start is None:
        return {"channels": channels, "classes": 1, **asdict(model)}, "scratch"
    kind = KINDS[start.metadata["kind"]]
    if start.metadata["model"]["channels"] != channels:
        raise ValueError(
            f"the {kind} has {start.metadata['model']['channels']} channels, the images have {channels}; use one"
            " data.sequences"
        )
    leaked = (set(split.test) | set(split.val)) & checkpoint.training_patients(start).get(split.dataset, set())
    if leaked:
        own = splits.restore(start.metadata["split"])
        use = f"data.split_seed {own.seed}, data.grouped {str(own.grouped).lower()}, and the same images"
        hint = (
            f"use its split: {use}"
            if own.dataset == split.dataset
            else "it was begun from one that was trained on them"
        )
        raise ValueError(f"the {kind} has seen {len(leaked)} images of this split's test and validation parts; {hint}")
    return start.metadata["model"] | {"classes": 1}, start.metadata["method"]


def origin(start: Checkpoint) -> dict:
    """Return metadata of a fine-tuned checkpoint on its starting point, with the patients of that."""
    about = {name: start.metadata.get(name) for name in ("kind", "method", "training")} | {"sha256": start.sha256}
    return about | {
        "seen": {dataset: sorted(patients) for dataset, patients in checkpoint.training_patients(start).items()}
    }
