"""Fine-tuning with unlabelled images: an averaged network teaches the one that is trained (mean teacher).

The average of the weights predicts an image as it is; where it is sure, its prediction is the label of the same image
with changed intensities and hidden patches (Tarvainen and Valpola, 2017; Sohn et al., FixMatch, 2020).

Axes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpsams import distributed, masking, patches, transforms
from mpsams.datasets import Stack
from mpsams.transforms import Augmentation


@dataclass(frozen=True)
class Teacher:
    """Options of training with unlabelled images.

    Args:
        weight: weight of the loss on unlabelled images (as many as labelled ones in each step); 0 is off.
        ramp: share of the training during which the weight rises to its full value.
        sure: probability from which the prediction for a pixel is its label (lesion; below 1 minus it, background);
            other pixels are ignored.
        hide: share of the patches that are hidden from the network that is trained.
        patch: side of these patches in pixels; must divide the image's side.
        augment: random changes of the images; the teacher sees the geometric ones too, but not those of intensity.
    """

    weight: float = 0.0
    ramp: float = 0.3
    sure: float = 0.9
    hide: float = 0.25
    patch: int = 16
    augment: Augmentation = Augmentation(
        flip=0.5, rotation=15, zoom=0.2, shift=0.08, contrast=0.4, brightness=0.2, gamma=0.5
    )

    def __post_init__(self) -> None:
        if not (
            self.weight >= 0 and 0 <= self.ramp <= 1 and 0.5 <= self.sure < 1 and 0 <= self.hide < 1 and self.patch >= 1
        ):
            raise ValueError(
                f"recipe.teacher: weight {self.weight} must be at least 0, ramp {self.ramp} in [0, 1], sure {self.sure}"
                f" in [0.5, 1), hide {self.hide} in [0, 1), patch {self.patch} at least 1"
            )


def draw(count: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw the numbers of the unlabelled images of a step: int64 (batch,) below ``count``, with repetition."""
    return (distributed.uniform(batch, generator=generator) * count).long()


def views(images_bchw: Tensor, options: Teacher, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return unlabelled images, in [0, 1], as teacher and trained network see them, standardised (B, C, H, W)."""
    drawn = transforms.draw(len(images_bchw), options.augment, generator)
    plain_bchw = transforms.apply_geometry(images_bchw, drawn)
    changed_bchw = transforms.standardise(transforms.apply_intensity(plain_bchw, drawn))
    rows, columns = patches.grid(*images_bchw.shape[2:], options.patch)  # type: ignore[call-arg]
    order_bl = masking.random_order(len(images_bchw), rows * columns, generator).to(
        images_bchw.device, non_blocking=True
    )
    hidden_b1hw = patches.to_pixels(masking.cut(order_bl, options.hide), options.patch, *images_bchw.shape[2:])
    return transforms.standardise(plain_bchw), changed_bchw.masked_fill(hidden_b1hw, 0.0)


@torch.no_grad()
def labels(teacher: nn.Module, x_bchw: Tensor, sure: float) -> tuple[Tensor, Tensor]:
    """Return the teacher's labels of standardised images and where it is sure of them: twice bool (B, 1, H, W)."""
    training = teacher.training
    probability_b1hw = torch.sigmoid(teacher.eval()(x_bchw))
    teacher.train(training)
    return probability_b1hw > 0.5, (probability_b1hw > sure) | (probability_b1hw < 1 - sure)


def loss(logits_b1hw: Tensor, label_b1hw: Tensor, sure_b1hw: Tensor) -> Tensor:
    """Return the cross-entropy of the pixels whose label is sure, summed and divided by all pixels."""
    entropy_b1hw = F.binary_cross_entropy_with_logits(logits_b1hw, label_b1hw.float(), reduction="none")
    return (entropy_b1hw * sure_b1hw).mean()


def weight(options: Teacher, epoch: int, epochs: int) -> float:
    """Return the weight of the loss on unlabelled images in an epoch, which counts from 1."""
    return options.weight * min(1.0, epoch / max(1.0, options.ramp * epochs))


def take(stack: Stack, numbers: Tensor, device: torch.device) -> Tensor:
    """Return images of a data set by number, in [0, 1]: float (B, C, H, W)."""
    return stack.take(numbers)[0].to(device, non_blocking=True).float() / 255
