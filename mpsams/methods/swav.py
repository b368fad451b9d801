"""SwAV (Caron et al., NeurIPS 2020): from one view, predict to which prototypes another view was assigned.

Axes: B batch, D features, K prototypes, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpsams import losses, views
from mpsams.methods import Batch, _views
from mpsams.unet import UNet

SMALL = 96 / 224  # side of a small crop over that of a large one
NEAR = 0.995  # of ln K: when the assignments' entropy is above it, every view belongs to all prototypes alike

DEVIATIONS = (
    "No queue of earlier embeddings, which the paper uses with small batches. 64 prototypes (3000), frozen for the"
    " first 2% of the training (the first epoch). Four small crops that keep 20% to 50% of the image (six of 0.05 to"
    " 0.14), and large ones from 50% (0.14)."
)


@dataclass(frozen=True)
class Config:
    """Views, prototypes and assignment.

    Args:
        prototypes: number of prototypes; 64 to 300 suit data sets of some hundred images (ImageNet's 3000 collapse on
            them).
        temperature: temperature of the prediction's softmax.
        epsilon: softness of the assignment.
        iterations: Sinkhorn iterations.
        crops: number of small crops beside the two large ones.
        smallest: smallest share of the image that a small crop keeps (for photographs 0.05, too little of a grey
            image).
        divide: largest share that a small crop keeps, and the smallest of a large one; 0.14 for photographs.
        frozen: share of the training, from its start, in which the prototypes are not trained.
        projection: features of the projection.
        strength: largest change of brightness and contrast to either side.
        blur: probability that a view is blurred.
    """

    prototypes: int = 64
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    crops: int = 4
    smallest: float = 0.2
    divide: float = 0.5
    frozen: float = 0.02
    projection: int = 128
    strength: float = 0.4
    blur: float = 0.5

    def __post_init__(self) -> None:
        views.ViewOptions(smallest=self.smallest, largest=self.divide, strength=self.strength, blur=self.blur)
        if not (self.prototypes >= 2 and self.iterations >= 1 and self.projection >= 1 and self.crops >= 0):
            raise ValueError(
                f"prototypes {self.prototypes} must be at least 2, iterations {self.iterations} and projection"
                f" {self.projection} at least 1, crops {self.crops} at least 0"
            )
        if not (self.temperature > 0 and self.epsilon > 0 and 0 <= self.frozen <= 1):
            raise ValueError(
                f"temperature {self.temperature} and epsilon {self.epsilon} must be positive, frozen {self.frozen} lie"
                " in [0, 1]"
            )


class SwAV(_views.Contrastive):
    """The U-Net's encoder with a projector and prototypes, which are directions."""

    variant = "swav"
    idle = True  # the prototypes, at first

    def __init__(self, config: Config, unet: UNet, epochs: int) -> None:
        large = views.ViewOptions(smallest=config.divide, strength=config.strength, blur=config.blur)
        small = views.ViewOptions(
            smallest=config.smallest, largest=config.divide, strength=config.strength, blur=config.blur
        )
        super().__init__(unet, (large, small))
        self.config = config
        self.thawed = 1 + math.ceil(config.frozen * epochs)
        size = _views.features(unet)
        self.projector = _views.perceptron([size, size, config.projection])
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, config.projection), dim=1))

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        large_vd, small_vd = self.embeddings(batch)
        prototypes_kd = self.prototypes if epoch >= self.thawed else self.prototypes.detach()
        scores_vk = torch.cat([large_vd, small_vd]) @ F.normalize(prototypes_kd, dim=1).T
        views_bk = scores_vk.split(len(batch.images_b1hw))
        codes_bk = [
            losses.sinkhorn(scores_bk.detach(), self.config.epsilon, self.config.iterations)
            for scores_bk in views_bk[:2]
        ]
        loss = torch.stack([self.swapped_loss(views_bk, one, code_bk) for one, code_bk in enumerate(codes_bk)]).mean()
        entropy, most = torch.special.entr(torch.cat(codes_bk)).sum(dim=1).mean(), math.log(self.config.prototypes)
        self.remember(*large_vd.chunk(2), loss_over_ln_k=loss / most, entropy_over_ln_k=entropy / most)
        return loss

    def embeddings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return unit vectors of two large views (2B, D), one after the other, and of small crops (crops * B, D)."""
        side = batch.images_b1hw.shape[-1]
        large, small = self.view_options
        sizes = ((large, side, 2), (small, max(32, 8 * round(SMALL * side / 8)), self.config.crops))
        found = [
            _views.embed(
                self.unet.encoder, torch.cat([_views.normalised_view(batch, options, side) for _ in range(count)])
            )
            for options, side, count in sizes
            if count
        ]
        z_vd = F.normalize(self.projector(torch.cat(found)), dim=1)
        return z_vd[: len(found[0])], z_vd[len(found[0]) :]

    def swapped_loss(self, views_bk: tuple[Tensor, ...], one: int, code_bk: Tensor) -> Tensor:
        """Return the cross-entropy of all other views' predictions with the assignment of large view ``one``."""
        log_bk = [
            F.log_softmax(scores_bk / self.config.temperature, dim=1)
            for index, scores_bk in enumerate(views_bk)
            if index != one
        ]
        return torch.stack([-(code_bk * each).sum(dim=1).mean() for each in log_bk]).mean()

    def refuse_collapse(self, state: dict[str, float], epoch: float) -> None:
        """Raise FloatingPointError when the representation has collapsed, or when all views are assigned to all
        prototypes alike.

        A loss of ln K alone is no sign: sharp predictions that are still wrong have it too.
        """
        super().refuse_collapse(state, epoch)
        if state["entropy_over_ln_k"] > NEAR:
            raise FloatingPointError(
                f"the prototypes have collapsed in epoch {epoch:g}: every view belongs to all {self.config.prototypes}"
                f" alike (entropy {state['entropy_over_ln_k']:.3f} of ln {self.config.prototypes}); fewer prototypes"
                " may help. Stopped"
            )


def build(config: Config, unet: UNet, epochs: int) -> SwAV:
    """Return SwAV around ``unet`` for a run of ``epochs`` epochs."""
    return SwAV(config, unet, epochs)
