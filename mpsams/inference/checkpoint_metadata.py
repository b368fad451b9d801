"""The metadata of checkpoints: what the app needs of them, and whether a file can be used."""

from __future__ import annotations

from pathlib import Path

from mpsams import checkpoint
from mpsams.inference import Network


def verify(path: str | Path) -> dict:
    """Return the metadata of a checkpoint that can be used: they say what is needed of it, and its network is whole.

    Every number in the file is read. ValueError as ``checkpoint.load`` and ``checkpoint.unet``, or names the entry of
    the metadata that is wrong.
    """
    fault = _fault(checkpoint.metadata(path))
    if fault:
        raise ValueError(f"the metadata of {path} have no usable {fault!r}; expected those that a training writes")
    found = checkpoint.load(path)
    checkpoint.check_shapes(found)
    return found.metadata


def _fault(about: dict) -> str:
    """Return the first entry of a network's metadata that is missing or of a wrong type; "" when all can be used."""
    if not isinstance(about.get("model"), dict):
        return "model"
    for name in ("data", "config"):
        if not isinstance(about.get(name, {}), dict):
            return name
    data, size = about.get("data", {}), about.get("size")
    kinds = {"data.modality": str, "data.target": str, "data.images": int}
    wrong = [name for name, kind in kinds.items() if not isinstance(data.get(name.removeprefix("data."), kind()), kind)]
    wrong += ["config.method"] * (not isinstance(about.get("config", {}).get("method", {}), dict))
    wrong += ["transfers"] * (not isinstance(about.get("transfers", []), list))
    wrong += ["size"] * (not isinstance(size, int) or size < 16 or size % 16 > 0)
    return next(iter(wrong), "")


def has_whole_network(metadata: dict) -> bool:
    """Return True if a checkpoint's network can be used as it is: no pretraining that hands on the encoder alone."""
    return metadata.get("kind") != "pretrain" or "decoder" in metadata.get("transfers", ())


def channels(metadata: dict) -> int:
    """Return the channels of the images a network takes."""
    return metadata.get("model", {}).get("channels", 1)


def training_data(metadata: dict) -> tuple[str, str, int]:
    """Return the training data of a network: modality, outlined target, and number of images (0 when not stated)."""
    data = metadata.get("data", {})
    return data.get("modality", "unknown"), data.get("target", "unknown"), int(data.get("images", 0))


def training_data_of(network: Network) -> tuple[str, str, int]:
    """Return ``training_data`` of an open network."""
    return training_data(network.metadata)
