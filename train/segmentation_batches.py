"""Batches of images with their masks, augmented and standardised, and the measures on the validation part."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mpsams import distortions, inference, metrics, transforms
from mpsams.datasets import Stack
from mpsams.transforms import Augmentation
from mpsams.unet import UNet


class SampleParts(NamedTuple):
    """Samples to learn from, to validate on, and the unlabelled rest of the training part (None if not used)."""

    labelled: Stack
    val: Stack
    unlabelled: Stack | None = None


def batch_of(
    stack: Stack, indices: Tensor, augment: Augmentation, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return images and truth of a batch, changed together as drawn from ``generator``; the images are standardised."""
    x_bchw, truth_b1hw = (taken.to(device, non_blocking=True) for taken in stack.take(indices))
    x_bchw = x_bchw.float() / 255
    if augment != Augmentation():
        drawn = transforms.draw(len(indices), augment, generator)
        more = distortions.draw(len(indices), augment, stack.size, generator)
        bent = distortions.offset(more, stack.size)
        x_bchw = transforms.apply_intensity(transforms.apply_geometry(x_bchw, drawn, offset_bhw2=bent), drawn)
        x_bchw = distortions.apply_intensity(x_bchw, more)
        truth_b1hw = transforms.apply_geometry(truth_b1hw.float(), drawn, "nearest", bent) > 0.5
    return transforms.standardise(x_bchw), truth_b1hw


def agreement(network: UNet, stack: Stack, device: torch.device, batch: int) -> float:
    """Return ``inference.agreement_in_bfloat16`` on a data set at the network's size."""
    batches = torch.arange(len(stack)).split(batch)
    images = (batch_of(stack, indices, Augmentation(), torch.Generator(), device)[0] for indices in batches)
    return inference.agreement_in_bfloat16(network.eval(), images)


@torch.inference_mode()
def validate(network: nn.Module, val: Stack, device: torch.device, batch: int) -> dict[str, float]:
    """Return the mean overlap on the validation part at the network's size and threshold 0.5."""
    found = []
    for indices in torch.arange(len(val)).split(batch):
        x_bchw, truth_b1hw = batch_of(val, indices, Augmentation(), torch.Generator(), device)
        predicted_b1hw = network(x_bchw) > 0
        found.append(metrics.overlap(predicted_b1hw[:, 0], truth_b1hw[:, 0]))
    return {f"val_{name}": float(torch.cat([part[name] for part in found]).mean()) for name in found[0]}
