"""Hidden patches of an image as a pretrained network fills them in.

Axes: B batch, C channels, L patches, H x W pixels, S side of the grid image. In masks True = hidden or lesion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpsams import patches
from mpsams.inference.network import Network, check_finite, to_grid
from mpsams.methods.mps_ams import fill_in
from mpsams.unet import UNet


@dataclass(frozen=True)
class Reconstruction:
    """A masked image as a pretrained network reconstructs it, all float (1, 1, S, S) in [0, 1].

    masked: hidden pixels at the image's mean, which is what the network sees as zero. filled: hidden
    pixels as predicted, the others as they are. error: |filled - image|, zero where visible.
    error_hidden, error_lesion, error_background: mean error over all hidden pixels, and over those inside and outside
    a truth mask; NaN where there are none (error_lesion also without a truth).
    """

    masked_11ss: Tensor
    filled_11ss: Tensor
    error_11ss: Tensor
    error_hidden: float
    error_lesion: float
    error_background: float


def fill(unet: UNet, images_bchw: Tensor, hidden_b1hw: Tensor, patch: int, normalised_target: bool) -> Tensor:
    """Fill in as ``fill_in``, with means and deviations in double precision (see ``segmentation.logits``) and the
    network's layers in their own.
    """

    def own(x_bchw: Tensor) -> Tensor:
        return unet(x_bchw.float()).double()

    return fill_in(own, images_bchw.double(), hidden_b1hw, patch, normalised_target).float()  # type: ignore[arg-type]


def hide(image_11ss: Tensor, hidden_1l: Tensor, patch: int) -> Tensor:
    """Return a grid image with its hidden patches, bool (1, L), at its mean."""
    return torch.where(patches.to_pixels(hidden_1l, patch, *image_11ss.shape[2:]), image_11ss.mean(), image_11ss)


@torch.inference_mode()
def reconstruct(
    network: Network, image_11ss: Tensor, hidden_1l: Tensor, patch: int, truth_11ss: Tensor | None = None
) -> Reconstruction:
    """Hide patches of a grid image, bool (1, L), and let the masked autoencoder fill them in.

    A network of another size than the grid sees it at its own size, cut in as many patches, and its filling is
    brought back. ValueError when its size does not allow that.
    """
    side = image_11ss.shape[-1]
    if patch * network.size % side:
        raise ValueError(f"patches of {patch} pixels of {side} are no whole pixels of the network's {network.size}")
    hidden = patches.to_pixels(hidden_1l, patch, *image_11ss.shape[2:])
    own_patch, own_11ss = patch * network.size // side, to_grid(image_11ss[0, 0].numpy(), network.size)
    own_hidden = patches.to_pixels(hidden_1l, own_patch, network.size, network.size)
    own_filled = check_finite(fill(network.unet, own_11ss, own_hidden, own_patch, network.predicts_normalised_patches))
    filled = torch.where(hidden, to_grid(own_filled[0, 0].numpy(), side), image_11ss)
    error = (filled - image_11ss).abs()
    lesion = torch.zeros_like(hidden) if truth_11ss is None else truth_11ss
    return Reconstruction(
        hide(image_11ss, hidden_1l, patch),
        filled,
        error,
        float(error[hidden].mean()),
        float(error[hidden & lesion].mean()),
        float(error[hidden & ~lesion].mean()),
    )
