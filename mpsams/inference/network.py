"""Networks of checkpoints, folded and in the precision in which they are quick, and the image size that they take.

Axes: B batch, C channels, H x W pixels, S side of a network's image, L patches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpsams import calibration, checkpoint, precision, transforms
from mpsams.calibration import Readout
from mpsams.checkpoint import Checkpoint
from mpsams.unet import UNet, fold_batchnorm

ENOUGH_AGREEMENT = 0.999  # pooled DSC between the masks of float32 and of bfloat16 from which bfloat16 is used


@dataclass(frozen=True)
class Network:
    """A network and the metadata of its checkpoint.

    unet: folded and in channels-last order, which is quick on a CPU; ``checkpoint.unet`` is the one to train. Its
    convolutions compute in the precision that ``open_network`` chose.
    metadata: as written by training. sha256: of the file. patch_covariance: float (L, L) over the
    training images' patch means, for pretrained networks that carry it.
    """

    unet: UNet
    metadata: dict
    sha256: str
    patch_covariance: Tensor | None

    @property
    def size(self) -> int:
        """Side of the grid image in pixels."""
        return self.metadata["size"]

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.metadata.get("model", {}).get("channels", 1)

    @property
    def sequences(self) -> tuple[str, ...]:
        """The MRI sequences its channels are, where a data set has several; empty for the data set's own choice."""
        return tuple(self.metadata.get("data", {}).get("sequences", ()))

    @cached_property
    def readout(self) -> Readout:
        """The way its logits become a probability and a mask; unstated, logits are taken as they are."""
        return calibration.readout(self.metadata)

    @property
    def predicts_normalised_patches(self) -> bool:
        """True if it was trained to predict each patch at mean 0 and deviation 1 instead of the image's pixels."""
        return self.metadata.get("config", {}).get("method", {}).get("normalise_target", False)


class NotFinite(ValueError):
    """A network answered an image with NaN or infinity."""


def open_network(path: str | Path, precise: str = "auto") -> Network:
    """Load a checkpoint for use. ValueError as ``checkpoint.load`` and ``checkpoint.unet``.

    precise: precision of the convolutions, as for ``precision.choose``; but "auto" is bfloat16 only for a pretrained
    network, whose pictures differ by 0.0005 of full brightness on the average and 0.007 at most (those that come with
    the app, on the phantoms), and for one whose masks were found to agree with those of float32 when it was trained
    (``agreement_in_bfloat16``).
    """
    return build_network(checkpoint.load(path), precise)


def build_network(found: Checkpoint, precise: str = "auto") -> Network:
    """Return the network of a loaded checkpoint, as ``open_network`` returns it."""
    unet = fold_batchnorm(checkpoint.unet(found)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    agrees = found.metadata.get("kind") == "pretrain" or found.metadata.get("bfloat16_dsc", 0.0) >= ENOUGH_AGREEMENT
    unet.compute_in(precision.choose("float32" if precise == "auto" and not agrees else precise))
    return Network(unet, found.metadata, found.sha256, found.tensors.get("patch_covariance"))


def list_checkpoints(folder: str | Path) -> dict[str, Path]:
    """Return the checkpoints of a folder by name ("busi-mps_ams-seg-10"), sorted; empty when there are none."""
    paths = sorted(Path(folder).glob("*.safetensors"))
    return {path.name.removesuffix(".safetensors").encode("utf-8", "backslashreplace").decode(): path for path in paths}


def to_grid(unit_hw: np.ndarray, size: int) -> Tensor:
    """Bring a unit image to the network's size: (H, W) -> float (1, 1, size, size) in [0, 1]."""
    return transforms.resize(unit_hw, size, size)


def check_finite(x: Tensor) -> Tensor:
    """Return a network's output. NotFinite for NaN or infinity, which exceed no threshold and read as "no lesion"."""
    if not torch.isfinite(x).all():
        raise NotFinite(
            "the network answers this image with NaN or infinity; use other weights, or an image of another range of"
            " values"
        )
    return x


@torch.inference_mode()
def agreement_in_bfloat16(unet: UNet, batches: Iterable[Tensor], readout: Readout | None = None) -> float:
    """Return the pooled DSC in [0, 1] between a segmentation network's masks in float32 and in bfloat16; 0 where both
    are empty, which compares nothing.

    batches: standardised images (B, C, H, W). readout: of the network, without its rule; None for logits as they are.
    The network is left in float32.
    """
    readout = readout or Readout()
    both = total = 0
    for x_bchw in batches:
        masks = [
            readout.probabilities(readout.logits(unet.compute_in(each), x_bchw)) > 0.5
            for each in (torch.bfloat16, torch.float32)
        ]
        both, total = both + int((masks[0] & masks[1]).sum()), total + int(masks[0].sum() + masks[1].sum())
    return 2 * both / total if total else 0.0
