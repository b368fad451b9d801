"""Metadata of a run for its checkpoint, the fingerprint by which it is resumed, and the name of its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mpsams import renames
from mpsams.datasets import Stack
from mpsams.splits import Split
from train.options import LATER, LOCAL, NEWER
from train.state import Position


def describe(kind: str, method: str, config: dict, stack: Stack, split: Split, at: Position) -> dict:
    """Return the metadata that every checkpoint has on its origin."""
    return {
        "kind": kind,
        "method": method,
        "config": drop_paths(config),
        "size": config["data"]["size"],
        "data": {
            "name": stack.name,
            "modality": stack.modality,
            "target": stack.target,
            "source": stack.source,
            "sequences": list(stack.sequences),
            "images": len(stack),
            "patients": len(set(stack.groups)),
            "sha256": stack.sha256,
        },
        "split": asdict(split) | {"sha256": split.sha256},
        "training": {
            "steps": at.step,
            "seconds": round(at.seconds, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "torch": torch.__version__,
        },
    }


def drop_paths(config: dict) -> dict:
    """Return the configuration without what only means something on one machine."""
    inner = {key: drop_paths(value) if isinstance(value, dict) else value for key, value in config.items()}
    return {key: value for key, value in inner.items() if key not in LOCAL and not (key in NEWER and not value)}


def drop_later_options(config: dict, above: str = "") -> dict:
    """Return the configuration without the options of ``LATER`` that have their first value, so that runs of earlier
    versions are the same.
    """
    inner = {
        key: drop_later_options(value, f"{above}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
    }

    def is_first(name: str, value: Any) -> bool:
        return name in LATER and (value["weight"] if isinstance(value, dict) else value) == LATER[name]

    return {key: value for key, value in inner.items() if not is_first(f"{above}{key}", value)}


def resume_fingerprint(config: dict, images: str, **more) -> dict:
    """Return the part of a run that must not change when it is resumed: the options, and in place of the paths hashes
    of what they hold.
    """
    return {key: value for key, value in drop_later_options(drop_paths(config)).items() if key != "run"} | {
        "seed": config["run"]["seed"],
        "precision": config["run"].get("precision", "float32"),
        "images": images,
        **more,
    }


def checkpoint_fingerprint(about: dict) -> dict:
    """Return the ``resume_fingerprint`` of the run that wrote these metadata; {} when they are not of a run."""
    if not {"config", "data"} <= about.keys():
        return {}
    init = {"init": about["init"] and about["init"]["sha256"]} if "init" in about else {}
    # of an earlier version
    precise = {} if about["config"]["run"].get("precision", "auto") != "auto" else {"precision": "float32"}
    return resume_fingerprint(about["config"], about["data"]["sha256"], **init) | precise


def run_folder(words: Sequence[str | int], fixed: dict, resume: bool, before: str) -> Path:
    """Return the default run folder: words that a person can read, and a hash of all that ``resume_fingerprint`` says,
    so that no two runs share one.

    before: the name that earlier versions gave, which is taken for a run to be resumed that lies there.
    """
    short = hashlib.sha256(json.dumps(renames.restore_config(fixed), sort_keys=True).encode()).hexdigest()[:6]
    found, old = Path("runs") / "-".join(map(str, (*words, short))), Path("runs") / before
    return old if resume and old.exists() and not found.exists() else found
