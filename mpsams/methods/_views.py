"""Shared parts of the contrastive methods: views, embeddings, perceptrons, and measures of a collapse.

Axes: B batch, D features, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpsams import transforms, views
from mpsams.methods import Batch, Method
from mpsams.unet import LEVELS, Encoder, UNet

POINT = 1e-3  # of the variance of unit vectors (at most 1), below which they are all one point
LINE = 1.2  # directions below which they lie on one line
FEW = 4  # images of a batch below which a collapse cannot be seen: so few span few directions anyway
EARLY = 10  # first epochs, in which a collapse is not an error: the network still separates few images


def features(unet: UNet) -> int:
    """Return the number of features that ``embed`` returns for a view."""
    return unet.head.in_channels * 2 ** (LEVELS - 1)


def embed(encoder: Encoder, x_b1hw: Tensor) -> Tensor:
    """Return the embedding of normalised views, (B, D): the bottleneck's channels, averaged over the view."""
    return encoder(x_b1hw)[-1].float().mean(dim=(2, 3))


def view(batch: Batch, options: views.ViewOptions, side: int | None = None) -> Tensor:
    """Draw one random view of each image in [0, 1], as large as the image or with the side that is given."""
    drawn = views.draw(len(batch.images_b1hw), options, batch.generator)
    return views.apply(batch.images_b1hw, drawn, side or batch.images_b1hw.shape[-1])


def normalised_view(batch: Batch, options: views.ViewOptions, side: int | None = None) -> Tensor:
    """Draw a view as ``view``, normalised by the whole image's mean and deviation; by its own it would lose its
    brightness and contrast again.
    """
    mean, deviation = transforms.moments(batch.images_b1hw)
    return (view(batch, options, side) - mean) / deviation.clamp(min=1e-6)


def perceptron(sizes: Sequence[int], normalised_end: bool = False) -> nn.Sequential:
    """Return linear layers through these sizes, BatchNorm and ReLU between them, and BatchNorm at the end if wanted."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(sizes[-2], sizes[-1], bias=not normalised_end))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(sizes[-1])] if normalised_end else []))


@torch.no_grad()
def effective_rank(z_bd: Tensor, power: int = 1) -> float:
    """Return the effective number of directions of the centred rows: exp of the entropy of their normalised singular
    values.

    Between 1 and min(B - 1, D) (Roy and Vetterli, EUSIPCO 2007); 1 when all rows are the same. power 2 weighs
    directions by variance, so that a little noise in many of them does not count.
    """
    values = torch.linalg.svdvals((z_bd - z_bd.mean(dim=0)).double()) ** power
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum().exp())


@torch.no_grad()
def health(a_bd: Tensor, b_bd: Tensor) -> dict[str, float]:
    """Return measures of a representation, from two views' embeddings, twice (B, D), row i of both of one image.

    alignment: cosine of two views of one image, less that of views of different images. spread: variance of the
    unit vectors, 0 (one point) to 1. effective_rank: see there; directions: the same by variance.
    """
    a_bd, b_bd = F.normalize(a_bd.float(), dim=1), F.normalize(b_bd.float(), dim=1)
    cosine_bb = a_bd @ b_bd.T
    others = ~torch.eye(len(a_bd), dtype=torch.bool, device=a_bd.device)
    alignment = cosine_bb.diagonal().mean() - (cosine_bb[others].mean() if others.any() else 0)
    z_vd = torch.cat([a_bd, b_bd])
    spread = 1 - z_vd.mean(dim=0).square().sum()
    ranks = {"effective_rank": effective_rank(z_vd), "directions": effective_rank(z_vd, 2)}
    return {"alignment": float(alignment), "spread": float(spread)} | ranks


def refuse_collapse(state: dict[str, float], epoch: float) -> None:
    """Raise FloatingPointError when ``health`` is that of a representation that has collapsed."""
    if state["spread"] < POINT or state["directions"] < LINE:
        raise FloatingPointError(
            f"the representation has collapsed in epoch {epoch:g}: images differ in {state['directions']:.2f}"
            f" directions (spread {state['spread']:.2g}); a lower learning rate or a larger batch may help. Stopped"
        )


class Contrastive(Method):
    """Abstract: a method that compares views; it records ``health`` and stops when the representation collapses.

    view_options: of the two kinds of views, also for the preview.
    """

    def __init__(self, unet: UNet, view_options: tuple[views.ViewOptions, views.ViewOptions]) -> None:
        super().__init__(unet)
        self.view_options = view_options
        self._last: tuple[Tensor, Tensor] | None = None
        self._scalars: dict[str, Tensor] = {}

    def remember(self, a_bd: Tensor, b_bd: Tensor, **scalars: Tensor) -> None:
        """Keep the embeddings of two views of the batch, and scalars, for ``epoch_metrics``; an epoch's last batch may
        be too small for them.
        """
        if self._last is None or len(a_bd) >= len(self._last[0]):
            self._last = a_bd.detach(), b_bd.detach()
            self._scalars = {name: value.detach() for name, value in scalars.items()}

    def epoch_metrics(self, epoch: float) -> dict[str, float]:
        """Return ``health`` of the last full batch, and the scalars; FloatingPointError after a collapse."""
        if self._last is None:
            return {}
        state = health(*self._last) | {name: float(value) for name, value in self._scalars.items()}
        if len(self._last[0]) >= FEW and epoch > EARLY:
            self.refuse_collapse(state, epoch)
        return state

    def refuse_collapse(self, state: dict[str, float], epoch: float) -> None:
        """Raise FloatingPointError when the state is that of a collapse; a method may know more signs of it."""
        refuse_collapse(state, epoch)

    @torch.no_grad()
    def preview(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Return each image, and a view of either kind."""
        return {
            "image": batch.images_b1hw,
            "one view": view(batch, self.view_options[0]),
            "another": view(batch, self.view_options[1]),
        }
