"""From a checkpoint and an image to a result; what the app, the evaluation and the tests all call.

Axes: B batch, L patches, H x W pixels. In masks True = hidden or lesion. A "unit image" is a float32
(H, W) in [0, 1] of any size; a "grid image" is the same brought to the network's size, (1, 1, S, S).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpsams import (
    calibration,
    checkpoint,
    clusters,
    masking,
    metrics,
    patches,
    precision,
    schedule,
    transforms,
    uncertainty,
)
from mpsams.calibration import Readout, Rule
from mpsams.checkpoint import Checkpoint
from mpsams.methods.mps_ams import fill_in
from mpsams.transforms import Box
from mpsams.unet import UNet, folded

ENOUGH_AGREEMENT = 0.999  # pooled DSC between the masks of float32 and of bfloat16 from which bfloat16 is used


@dataclass(frozen=True)
class Network:
    """A network with what its checkpoint says of it.

    unet: folded and in channels-last order, which is quick on a CPU; ``checkpoint.unet`` is the one to train. Its convolutions
    compute in the precision that ``open_network`` chose.
    metadata: as written by training. sha256: of the file. patch_covariance: float (L, L) over the
    training images' patch means, for pretrained networks that carry it.
    """

    unet: UNet
    metadata: dict
    sha256: str
    patch_covariance: Tensor | None

    @property
    def size(self) -> int:
        """Side of the grid image in pixels."""
        return self.metadata["size"]

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.metadata.get("model", {}).get("channels", 1)

    @property
    def sequences(self) -> tuple[str, ...]:
        """The MRI sequences its channels are, where a data set has several; empty for the data set's own choice."""
        return tuple(self.metadata.get("data", {}).get("sequences", ()))

    @cached_property
    def readout(self) -> Readout:
        """The way its logits become a probability and a mask; a checkpoint that does not state it takes logits as they are."""
        return calibration.readout(self.metadata)

    @property
    def predicts_normalised_patches(self) -> bool:
        """True if it was trained to predict each patch at mean 0 and deviation 1 instead of the image's pixels."""
        return self.metadata.get("config", {}).get("method", {}).get("normalise_target", False)


class NotFinite(ValueError):
    """A network answered an image with NaN or infinity."""


def open_network(path: str | Path, precise: str = "auto") -> Network:
    """Load a checkpoint for use. ValueError as ``checkpoint.load`` and ``checkpoint.unet``.

    precise: precision of the convolutions, as for ``precision.choose``; but "auto" is bfloat16 only for a network whose masks
    were found to agree with those of float32 when it was trained (``agreement_in_bfloat16``).
    """
    return network_of(checkpoint.load(path), precise)


def network_of(found: Checkpoint, precise: str = "auto") -> Network:
    """``open_network`` of a checkpoint that is loaded."""
    unet = folded(checkpoint.unet(found)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    agrees = found.metadata.get("bfloat16_dsc", 0.0) >= ENOUGH_AGREEMENT
    unet.compute_in(precision.choose("float32" if precise == "auto" and not agrees else precise))
    return Network(unet, found.metadata, found.sha256, found.tensors.get("patch_covariance"))


def catalogue(folder: str | Path) -> dict[str, Path]:
    """The checkpoints of a folder by name ("busi-mps_ams-seg-10"), sorted; empty when there are none."""
    paths = sorted(Path(folder).glob("*.safetensors"))
    return {path.name.removesuffix(".safetensors").encode("utf-8", "backslashreplace").decode(): path for path in paths}


def to_grid(unit_hw: np.ndarray, size: int) -> Tensor:
    """Bring a unit image to the network's size: (H, W) -> float (1, 1, size, size) in [0, 1]."""
    return transforms.resize(unit_hw, size, size)


@dataclass(frozen=True)
class Study:
    """One image with everything about its patches that does not depend on the epoch.

    image_11ss: the grid image. clusters: of its patches, B = 1. lesion_first_1l, random_1l: the two
    orders in which patches get hidden. patch: side in pixels.
    """

    image_11ss: Tensor
    clusters: clusters.Clusters
    lesion_first_1l: Tensor
    random_1l: Tensor
    patch: int

    @property
    def length(self) -> int:
        """Number of patches, L."""
        return self.random_1l.shape[1]

    @property
    def lesion_size(self) -> int:
        """Number of patches in the lesion cluster."""
        return int(self.clusters.lesion_bl.sum())


def study(image_11ss: Tensor, seed: int = 0, patch: int = 16, **clustering) -> Study:
    """Cluster an image once and draw both orders from ``seed``; ``clustering`` as in ``clusters.split``."""
    found = clusters.split(image_11ss, patch, **clustering)
    length = found.lesion_bl.shape[1]
    first = masking.order(found.lesion_bl, torch.Generator().manual_seed(seed))
    second = masking.random_order(1, length, torch.Generator().manual_seed(seed + 1))
    return Study(image_11ss, found, first, second, patch)


@dataclass(frozen=True)
class Masked:
    """The patches hidden at an epoch of the paper's axis, lesion first and at random.

    ratio: sigma in [0, 1]. hidden: n patches. lesion_first_1l, random_1l: bool (1, L), True = hidden.
    bits, random_bits: entropy of the masks either strategy can draw. chance_lesion, chance_background:
    to be hidden under lesion first.
    """

    epoch: float
    ratio: float
    hidden: int
    lesion_first_1l: Tensor
    random_1l: Tensor
    bits: float
    random_bits: float
    chance_lesion: float
    chance_background: float


def mask_at(of: Study, epoch: float) -> Masked:
    """Cut both orders at the ratio of an epoch (1 to 800 in the paper); never clusters again."""
    ratio = schedule.mask_ratio(epoch)
    hidden = masking.hidden_count(of.length, ratio)
    chances = uncertainty.chance_hidden(of.length, of.lesion_size, hidden)
    return Masked(
        epoch,
        ratio,
        hidden,
        masking.cut(of.lesion_first_1l, ratio),
        masking.cut(of.random_1l, ratio),
        uncertainty.lesion_first_bits(of.length, of.lesion_size, hidden),
        uncertainty.random_bits(of.length, hidden),
        *chances,
    )


@dataclass(frozen=True)
class Agreement:
    """Agreement of the lesion cluster with a truth mask.

    A patch counts as lesion when more than a quarter of it is. lift: precision of the cluster over
    the share of lesion patches (1 is chance). auc: of the clusters' score. lesion_patches: how many;
    both numbers are NaN when there are none.
    """

    lift: float
    auc: float
    lesion_patches: int
    truth_1l: Tensor


def agreement(of: Study, truth_11ss: Tensor) -> Agreement:
    """Compare the clusters of an image with its truth mask, bool (1, 1, S, S)."""
    truth_1l = patches.is_lesion(truth_11ss, of.patch)
    lift = float(metrics.lift(of.clusters.lesion_bl, truth_1l))
    return Agreement(lift, metrics.auc(of.clusters.score_bl[0], truth_1l[0]), int(truth_1l.sum()), truth_1l)


def coverage(hidden_1l: Tensor, truth_1l: Tensor) -> float:
    """Share of the lesion patches that is hidden, in [0, 1]; NaN when there are none."""
    return float(hidden_1l[truth_1l].float().mean())


@dataclass(frozen=True)
class Reconstruction:
    """A masked image as a pretrained network reconstructs it, all float (1, 1, S, S) in [0, 1].

    masked: hidden pixels at the image's mean, which is what the network sees as zero. filled: hidden
    pixels as predicted, the others as they are. error: |filled - image|, zero where visible.
    error_lesion, error_background: mean error over hidden pixels inside and outside a truth mask; NaN
    where there are none (error_lesion also without a truth).
    """

    masked_11ss: Tensor
    filled_11ss: Tensor
    error_11ss: Tensor
    error_lesion: float
    error_background: float


def fill(unet: UNet, images_bchw: Tensor, hidden_b1hw: Tensor, patch: int, normalised_target: bool) -> Tensor:
    """``fill_in`` with its means and deviations in double precision (see ``chances``), the network's layers in their own."""

    def own(x_bchw: Tensor) -> Tensor:
        return unet(x_bchw.float()).double()

    return fill_in(own, images_bchw.double(), hidden_b1hw, patch, normalised_target).float()  # type: ignore[arg-type]


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
    own_filled = _finite(fill(network.unet, own_11ss, own_hidden, own_patch, network.predicts_normalised_patches))
    filled = torch.where(hidden, to_grid(own_filled[0, 0].numpy(), side), image_11ss)
    error = (filled - image_11ss).abs()
    lesion = torch.zeros_like(hidden) if truth_11ss is None else truth_11ss
    masked = torch.where(hidden, image_11ss.mean(), image_11ss)
    return Reconstruction(masked, filled, error, float(error[hidden & lesion].mean()), float(error[hidden & ~lesion].mean()))


@torch.inference_mode()
def agreement_in_bfloat16(unet: UNet, batches: Iterable[Tensor], readout: Readout | None = None) -> float:
    """Pooled DSC in [0, 1] between a segmentation network's masks in float32 and in bfloat16; 0 where both are empty, which compares nothing.

    batches: standardised images (B, C, H, W). readout: of the network, without its rule; None for logits as they are. The network is left in float32.
    """
    readout = readout or Readout()
    both = total = 0
    for x_bchw in batches:
        said = [readout.probabilities(readout.logits(unet.compute_in(each), x_bchw)) > 0.5 for each in (torch.bfloat16, torch.float32)]
        both, total = both + int((said[0] & said[1]).sum()), total + int(said[0].sum() + said[1].sum())
    return 2 * both / total if total else 0.0


@torch.inference_mode()
def logits(network: Network, x_bchw: Tensor) -> Tensor:
    """Logits of a segmentation network for grid images, before calibration: (B, C, H, W) in [0, 1] -> (B, 1, H, W); sides must divide by 16.

    Of a network that averages flips, the mean over the image and its mirror image. Standardised in double precision: in float32 the
    deviation of an image with much darkness is off by 1e-4.
    """
    standard_bchw = transforms.standardise(x_bchw.double()).float()
    return network.readout.logits(network.unet, standard_bchw.contiguous(memory_format=torch.channels_last))


def chances(network: Network, x_bchw: Tensor) -> Tensor:
    """Chance of lesion of grid images, calibrated where the checkpoint says how: (B, C, H, W) in [0, 1] -> (B, 1, H, W) in [0, 1]."""
    return network.readout.probabilities(logits(network, x_bchw))


def grid(network: Network, unit: np.ndarray, box: Box | None = None) -> Tensor:
    """A unit image as its network sees it: (H, W) or (C, H, W) -> float (1, C, S, S). ValueError when the channels are not the network's."""
    channels = unit.reshape(-1, *unit.shape[-2:])
    if len(channels) != network.channels:
        raise ValueError(f"the network takes {network.channels} channels, the image has {len(channels)}")
    return torch.cat([to_grid(channel, network.size) for channel in transforms.crop(channels, box)], dim=1)


def chance(network: Network, unit: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Chance of lesion at the network's size: unit image (H, W) -> float32 (S, S) in [0, 1].

    unit: (C, H, W) for a network of C channels. box: where the network looks, as ``transforms.frame`` says for the
    modality. ValueError when the channels are not the network's.
    """
    return _finite(chances(network, grid(network, unit, box)))[0, 0].numpy()


def _finite(x: Tensor) -> Tensor:
    """Return a network's output. NotFinite for NaN and infinity, which no threshold finds, so that they would read as "no lesion"."""
    if not torch.isfinite(x).all():
        raise NotFinite("the network answers this image with NaN or infinity; use other weights, or an image of another range of values")
    return x


@torch.inference_mode()
def features(network: Network, unit: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Features of the decoder's last level at each pixel: unit image (H, W) -> float32 (K, S, S), K the U-Net's width.

    The numbers that the 1x1 head makes a lesion's chance or a pixel of. unit, box, ValueError: as for ``chance``.
    """
    x_1css = grid(network, unit, box)
    standard_1css = transforms.standardise(x_1css.double()).float().contiguous(memory_format=torch.channels_last)
    return _finite(network.unet.decoder(network.unet.encoder(standard_1css))[0].float()).contiguous().numpy()


def spread(chance_ss: np.ndarray, shape_hw: tuple[int, int], box: Box | None = None) -> np.ndarray:
    """A network's chances brought back to the image: (S, S) -> float32 (H, W), 0 outside the box."""
    own_hw = shape_hw if box is None else (box.height, box.width)
    return transforms.paste(transforms.resize(chance_ss, *own_hw)[0, 0].numpy(), box, shape_hw)


def probability(network: Network, unit: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Chance of lesion per pixel at the image's own size: ``spread`` of ``chance``."""
    return spread(chance(network, unit, box), unit.shape[-2:], box)


def lesion_mask(rule: Rule | None, chance_hw: np.ndarray, threshold: float = 0.5, box: Box | None = None) -> np.ndarray:
    """The lesion at the image's own size: bool (H, W), where the chance reaches the threshold, less what the network's rule forbids.

    Every mask of a network is made here. rule: ``network.readout.rule``. chance_hw: of ``probability`` or ``spread``. box: where
    the network looked; areas count as a share of it.
    """
    return calibration.outlined(chance_hw, threshold, rule, chance_hw.size if box is None else box.height * box.width)
