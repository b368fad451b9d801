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
NEAR = 0.995  # of ln K: a loss above it says that all views are spread over all prototypes alike
EARLY = 10  # epochs in which it may be so all the same: a network that has just begun knows nothing


@dataclass(frozen=True)
class Config:
    """How views are made and assigned.

    Args:
        prototypes: how many; 64 to 300 suit data sets of some hundred images (ImageNet's 3000 collapse on them).
        temperature: of the prediction's softmax.
        epsilon: softness of the assignment.
        iterations: of Sinkhorn's balancing.
        crops: small crops beside the two large ones.
        frozen: share of the training, from its start, in which the prototypes stay as they were drawn.
        projection: numbers in which views are compared.
        strength: reach of brightness and contrast to either side.
        blur: chance that a view is blurred.
    """

    prototypes: int = 64
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    crops: int = 4
    frozen: float = 0.02
    projection: int = 128
    strength: float = 0.4
    blur: float = 0.5

    def __post_init__(self) -> None:
        views.How(strength=self.strength, blur=self.blur)
        if not (self.prototypes >= 2 and self.iterations >= 1 and self.projection >= 1 and self.crops >= 0):
            raise ValueError(
                f"prototypes {self.prototypes} must be at least 2, iterations {self.iterations} and projection {self.projection} "
                f"at least 1, crops {self.crops} at least 0"
            )
        if not (self.temperature > 0 and self.epsilon > 0 and 0 <= self.frozen <= 1):
            raise ValueError(f"temperature {self.temperature} and epsilon {self.epsilon} must be positive, frozen {self.frozen} lie in [0, 1]")


class SwAV(_views.Contrastive):
    """The U-Net's encoder with a projector and prototypes, which are directions."""

    variant = "swav"

    def __init__(self, config: Config, unet: UNet, epochs: int) -> None:
        large = views.How(smallest=0.14, strength=config.strength, blur=config.blur)
        small = views.How(smallest=0.05, largest=0.14, strength=config.strength, blur=config.blur)
        super().__init__(unet, (large, small))
        self.config = config
        self.thawed = 1 + math.ceil(config.frozen * epochs)
        size = _views.features(unet)
        self.projector = _views.perceptron([size, size, config.projection])
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, config.projection), dim=1))
        self._loss = 0.0

    def forward(self, batch: Batch, epoch: float) -> Tensor:
        large_vd, small_vd = self.embeddings(batch)
        self.remember(*large_vd.chunk(2))
        prototypes_kd = self.prototypes if epoch >= self.thawed else self.prototypes.detach()
        scores_vk = torch.cat([large_vd, small_vd]) @ F.normalize(prototypes_kd, dim=1).T
        views_bk = scores_vk.split(len(batch.images_b1hw))
        loss = torch.stack([self.swapped(views_bk, one) for one in range(2)]).mean()
        self._loss = loss.detach()
        return loss

    def embeddings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit vectors of two large views (2B, D), one after the other, and of the small crops (crops * B, D)."""
        side = batch.images_b1hw.shape[-1]
        large, small = self.hows
        sizes = ((large, side, 2), (small, max(16, 8 * round(SMALL * side / 8)), self.config.crops))
        found = [
            _views.embed(self.unet.encoder, torch.cat([_views.view(batch, how, side) for _ in range(count)]))
            for how, side, count in sizes
            if count
        ]
        z_vd = F.normalize(self.projector(torch.cat(found)), dim=1)
        return z_vd[: len(found[0])], z_vd[len(found[0]) :]

    def swapped(self, views_bk: tuple[Tensor, ...], one: int) -> Tensor:
        """Cross-entropy of all other views' predictions with the assignment of large view ``one``."""
        how = self.config
        code_bk = losses.sinkhorn(views_bk[one].detach(), how.epsilon, how.iterations)
        others = [scores_bk for index, scores_bk in enumerate(views_bk) if index != one]
        return torch.stack([-(code_bk * F.log_softmax(scores_bk / how.temperature, dim=1)).sum(dim=1).mean() for scores_bk in others]).mean()

    def facts(self, epoch: float) -> dict[str, float]:
        """``health``, and the loss over ln K; FloatingPointError when that says that the prototypes tell nothing apart."""
        state = super().facts(epoch)
        if not state:
            return {}
        share = float(self._loss) / math.log(self.config.prototypes)
        if epoch > max(self.thawed, EARLY) and share > NEAR:
            raise FloatingPointError(
                f"the prototypes have collapsed in epoch {epoch:g}: the loss is {share:.3f} of ln {self.config.prototypes}, "
                "as if every view belonged to all alike; fewer prototypes may help. Stopped"
            )
        return state | {"loss_over_ln_k": share}


def build(config: Config, unet: UNet, epochs: int) -> SwAV:
    """SwAV around ``unet`` for a run of ``epochs`` epochs."""
    return SwAV(config, unet, epochs)
