"""From an image to the probability of lesion and to a mask: the one way that app, annotation, evaluation and volumes
share.

Axes: B batch, C channels, H x W pixels, S side of a network's image, K features. In masks True = lesion.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mpsams import calibration, transforms
from mpsams.calibration import Rule
from mpsams.inference.network import Network, check_finite, to_grid
from mpsams.transforms import Box


@torch.inference_mode()
def logits(network: Network, x_bchw: Tensor) -> Tensor:
    """Return uncalibrated logits of grid images: (B, C, H, W) in [0, 1] -> (B, 1, H, W); sides are multiples of 16.

    A network that averages flips gives the mean over the image and its mirror image. Standardised in double precision:
    in float32 the deviation of an image with much darkness is off by 1e-4.
    """
    standard_bchw = transforms.standardise(x_bchw.double()).float()
    return network.readout.logits(network.unet, standard_bchw.contiguous(memory_format=torch.channels_last))


def probabilities(network: Network, x_bchw: Tensor) -> Tensor:
    """Return the probability of lesion of grid images, calibrated where the checkpoint states a calibration: (B, C, H,
    W) in [0, 1] -> (B, 1, H, W) in [0, 1].
    """
    return network.readout.probabilities(logits(network, x_bchw))


def grid(network: Network, unit: np.ndarray, box: Box | None = None) -> Tensor:
    """Bring a unit image to the form its network sees: (H, W) or (C, H, W) -> float (1, C, S, S).

    ValueError when the channels are not the network's.
    """
    channels = unit.reshape(-1, *unit.shape[-2:])
    if len(channels) != network.channels:
        raise ValueError(f"the network takes {network.channels} channels, the image has {len(channels)}")
    return torch.cat([to_grid(channel, network.size) for channel in transforms.crop(channels, box)], dim=1)


def grid_probability(network: Network, unit: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Return the probability of lesion at the network's size: unit image (H, W) -> float32 (S, S) in [0, 1].

    unit: (C, H, W) for a network of C channels. box: where the network looks, as ``transforms.frame`` says for the
    modality. ValueError when the channels are not the network's.
    """
    return check_finite(probabilities(network, grid(network, unit, box)))[0, 0].numpy()


@torch.inference_mode()
def features(network: Network, unit: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Return the features of the decoder's last level: unit image (H, W) -> float32 (K, S, S), K the U-Net's width.

    The 1x1 head turns them into logits or pixels. unit, box, ValueError: as for ``grid_probability``.
    """
    x_1css = grid(network, unit, box)
    standard_1css = transforms.standardise(x_1css.double()).float().contiguous(memory_format=torch.channels_last)
    return check_finite(network.unet.decoder(network.unet.encoder(standard_1css))[0].float()).contiguous().numpy()


def to_image(probability_ss: np.ndarray, shape_hw: tuple[int, int], box: Box | None = None) -> np.ndarray:
    """Resize a network's probabilities to the image: (S, S) -> float32 (H, W), 0 outside the box."""
    own_hw = shape_hw if box is None else (box.height, box.width)
    return transforms.paste(transforms.resize(probability_ss, *own_hw)[0, 0].numpy(), box, shape_hw)


def probability(network: Network, unit: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Return the probability of lesion per pixel at the image's size: float32 (H, W); see ``grid_probability``."""
    return to_image(grid_probability(network, unit, box), unit.shape[-2:], box)


def lesion_mask(
    rule: Rule | None, probability_hw: np.ndarray, threshold: float = 0.5, box: Box | None = None
) -> np.ndarray:
    """Return the mask of the lesion at the image's own size: bool (H, W), where the probability reaches the threshold
    and the rule keeps the part.

    Every mask of a network is made here. rule: ``network.readout.rule``. probability_hw: from ``probability`` or
    ``to_image``. box: the part that the network saw; areas count as a share of it.
    """
    return calibration.threshold_mask(
        probability_hw, threshold, rule, probability_hw.size if box is None else box.height * box.width
    )
