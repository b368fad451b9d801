"""Recipes of fine-tuning: "paper", "strong", "teacher" and "assist", and their loss.

Axes: B batch, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import losses
from mpsams.transforms import Augmentation
from train.options import at_least, one_of
from train.teacher import Teacher

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class Recipe:
    """Training of the segmentation; the defaults are the paper's (3.1.2).

    Args:
        epochs: passes over the labelled images.
        batch: images per step, of all processes together; by default, recipe paper takes the paper's: 31 on hecktor and
            56 on brats with 5% of the labels, 90 and 70 with 10%, else 32.
        accumulate: number of parts in which a batch is computed, if it does not fit into memory.
        lr: highest learning rate, reached after the warm-up, then a cosine to zero.
        warmup: share of the training in which the learning rate rises.
        weight_decay: weight decay of the optimiser.
        optimiser: adam or adamw.
        loss: dice-ce (soft Dice + cross-entropy), ce, dice-focal (focal cross-entropy) or image-dice-ce (Dice of each
            image with lesion, so that small ones count as much as large ones); the paper names none.
        presence: weight of a loss on whether the image has a lesion at all.
        deep: weight of the same loss at 1/2 of the side, and half of it at 1/4, through heads that are discarded after
            training; 0 is off.
        balance: share of images with lesion in the batches; 0 uses each image once per epoch.
        small: oversampling of small lesions: with 1, a lesion of half the median area is drawn twice as often; 0 is
            off.
        faint: oversampling of lesions with low contrast to their surroundings, in the same way.
        ema_decay: decay of a moving average of the weights, which is then kept instead of the last weights; 0 is off.
        augment: strength of the random changes of labelled images; 0 is off.
        teacher: use of the unlabelled images of the training part.
    """

    epochs: int = 70
    batch: int = 32
    accumulate: int = 1
    lr: float = 2e-4
    warmup: float = 0.1
    weight_decay: float = 1e-4
    optimiser: str = "adam"
    loss: str = "dice-ce"
    presence: float = 0.0
    deep: float = 0.0
    balance: float = 0.0
    small: float = 0.0
    faint: float = 0.0
    ema_decay: float = 0.0
    augment: Augmentation = Augmentation()
    teacher: Teacher = Teacher()

    def __post_init__(self) -> None:
        one_of("recipe.optimiser", self.optimiser, tuple(OPTIMISERS))
        one_of("recipe.loss", self.loss, losses.SEGMENTATION)
        at_least("recipe.epochs", self.epochs, 1)
        at_least("recipe.batch", self.batch, 1)
        at_least("recipe.accumulate", self.accumulate, 1)
        for name in ("presence", "deep", "small", "faint"):
            at_least(f"recipe.{name}", getattr(self, name), 0)
        for name in ("ema_decay", "balance"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"recipe.{name} {getattr(self, name)} must lie in [0, 1)")
        if self.teacher.weight and not self.ema_decay:
            raise ValueError(
                f"recipe.teacher.weight {self.teacher.weight} needs recipe.ema_decay above 0: the average is the"
                " teacher"
            )


# of the paper, where not 32
BATCHES = {("hecktor", 0.05): 31, ("hecktor", 0.1): 90, ("brats", 0.05): 56, ("brats", 0.1): 70}
STRONG = Recipe(
    epochs=100,
    batch=8,
    lr=1e-3,
    weight_decay=1e-2,
    optimiser="adamw",
    ema_decay=0.98,
    augment=Augmentation(flip=0.5, rotation=15, zoom=0.2, shift=0.08, contrast=0.2, brightness=0.1, gamma=0.3),
)
ASSIST = Recipe(
    epochs=150,
    batch=16,
    lr=1e-3,
    weight_decay=2e-2,
    optimiser="adamw",
    presence=0.1,
    deep=0.4,
    balance=0.75,
    small=0.5,
    ema_decay=0.998,
    augment=Augmentation(
        flip=0.5,
        rotation=20,
        zoom=0.3,
        shift=0.1,
        contrast=0.3,
        brightness=0.15,
        gamma=0.5,
        elastic=0.03,
        blur=1.0,
        noise=0.04,
        cutout=0.25,
    ),
)
RECIPES = {
    "paper": Recipe(),
    "strong": STRONG,
    "teacher": replace(STRONG, ema_decay=0.99, teacher=Teacher(weight=1.0)),
    "assist": ASSIST,
}


def loss_of(logits: Tensor | list[Tensor], truth_b1hw: Tensor, recipe: Recipe) -> Tensor:
    """Return the recipe's loss of logits (B, 1, H, W), or of those at several sides, the whole first; a coarse pixel is
    lesion if any part is.
    """
    whole, *coarse = logits if isinstance(logits, list) else [logits]
    loss = losses.segmentation(whole, truth_b1hw, recipe.loss)
    if recipe.presence:
        loss = loss + recipe.presence * losses.presence(whole, truth_b1hw)
    for level, each in enumerate(coarse):
        truth = F.adaptive_max_pool2d(truth_b1hw.float(), each.shape[2:])
        loss = loss + recipe.deep / 2**level * losses.segmentation(each, truth, recipe.loss)
    return loss
