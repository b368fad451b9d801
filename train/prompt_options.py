"""Options of the training of a prompt network."""

from __future__ import annotations

from dataclasses import dataclass

from mpsams.transforms import Augmentation
from train.options import at_least


@dataclass(frozen=True)
class Learning:
    """Options of the training.

    Args:
        size: side of the crop that the network sees, in pixels; must divide by 16.
        epochs: passes over as many images as there are.
        batch: images per step.
        turns: most turns of a user with the network on each image; their number is drawn anew for each step.
        lr: highest learning rate, reached after the warm-up, then a cosine to zero.
        warmup: share of the training that is warm-up.
        weight_decay: of AdamW.
        average: decay of the moving average of the weights, which is what is kept; 0 keeps the last weights.
        box_jitter: largest share of a box by which its sides are moved.
        shapes: share of the images whose object is a shape painted into it.
        structures: share of the images whose object is a structure of similar brightness.
        slices: share of the slices of volumes for which the image is the slice before or after, the prompt the mask of
            this one, and the object what goes on there, which may be nothing.
        root: power of the number of a data set's images with an object, in proportion to which it is drawn; 1 draws
            every image as often.
        augment: random changes of the images.
    """

    size: int = 96
    epochs: int = 10
    batch: int = 16
    turns: int = 3
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 1e-2
    average: float = 0.995
    box_jitter: float = 0.15
    shapes: float = 0.1
    structures: float = 0.15
    slices: float = 0.25
    root: float = 0.1
    augment: Augmentation = Augmentation(
        flip=0.5,
        rotation=20,
        zoom=0.15,
        shift=0.03,
        contrast=0.3,
        brightness=0.15,
        gamma=0.4,
        elastic=0.02,
        bias=0.2,
        blur=1.0,
        speckle=0.1,
        noise=0.03,
    )

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 16:
            raise ValueError(f"learning.size {self.size} must be a positive multiple of 16")
        for name in ("epochs", "batch", "turns"):
            at_least(f"learning.{name}", getattr(self, name), 1)
        if not (
            0 <= self.average < 1
            and 0 <= self.box_jitter < 0.5
            and min(self.shapes, self.structures) >= 0
            and self.shapes + self.structures <= 1
            and 0 <= self.slices <= 1
        ):
            raise ValueError(
                "learning.average must lie in [0, 1), box_jitter in [0, 0.5), shapes + structures and slices in [0, 1]"
            )
