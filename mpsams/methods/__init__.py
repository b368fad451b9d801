"""The interface of a pretraining method, and the methods by name (one file each).

A method's file has a frozen dataclass ``Config`` and ``build(config, unet, epochs) -> Method``;
the file's name is the method's name. Adding a method is adding a file. ``DEVIATIONS``, where a file has it,
states the differences from the method's own paper.

Axes: B batch, H x W pixels.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mpsams.unet import UNet

COMMON = (
    "Adam at a constant learning rate (2e-4 by default) without weight decay (the papers: LARS or AdamW, with warm-up"
    " and a cosine), in batches of 16 to 48 images instead of 256 to 4096; the encoder is that of the U-Net instead of"
    " a ResNet or a vision transformer; images are grey, so hue and saturation are not changed."
)


class Batch(NamedTuple):
    """The input of a method in one step.

    images_b1hw: float in [0, 1]. generator: source of its randomness. precomputed_mask_brc: result of
    ``Method.precompute_mask`` for these images, mirrored with them; None when it was not computed.
    """

    images_b1hw: Tensor
    generator: torch.Generator
    precomputed_mask_brc: Tensor | None = None


class Method(nn.Module):
    """A pretraining method around a U-Net.

    transfers: the parts of the U-Net that fine-tuning may take, of "encoder" and "decoder"; others are not trained.
    variant: name of this configuration in tables and files. idle: some parameters get no gradient in some steps.
    """

    transfers: tuple[str, ...] = ("encoder",)
    variant: str = ""
    idle: bool = False

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet
        if "decoder" not in self.transfers:
            for part in (unet.decoder, unet.head):
                part.requires_grad_(False)

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        """Return the whole loss of one batch, a scalar. epoch counts from 1 to the run's last."""
        raise TypeError(f"{type(self).__name__} must define forward(batch, epoch)")

    def precompute_mask(self, images_b1hw: Tensor, truth_b1hw: Tensor | None = None) -> Tensor | None:
        """Return a map that depends on the image alone and is computed once, before training: bool or uint8 (B, rows,
        columns), mirrored with the image; None if the method has none. Must not depend on the weights.

        truth_b1hw: the images' masks, bool, for upper bounds only.
        """
        return None

    def after_step(self, progress: float) -> None:
        """Update what follows the weights (moving averages) after an optimiser step. progress: share done."""

    def epoch_metrics(self, epoch: float) -> dict[str, float]:
        """Return numbers for the records of this epoch."""
        return {}

    def preview(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Return named pictures of a step, each float (B, 1, H, W) in [0, 1]; may be empty."""
        return {}


def available() -> list[str]:
    """Return the names of all methods: the files of this folder, but for the underscored ones that they share."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> ModuleType:
    """Return the module of a method, with its ``Config`` and ``build``. ValueError lists the names."""
    if name not in available():
        raise ValueError(f"unknown method {name!r}; available: {', '.join(available())}")
    return importlib.import_module(f"{__name__}.{name}")


def deviations() -> dict[str, str]:
    """Return the differences of the other methods from their papers, by name; those that all share are under "all"."""
    return {"all": COMMON} | {name: find(name).DEVIATIONS for name in available() if hasattr(find(name), "DEVIATIONS")}
