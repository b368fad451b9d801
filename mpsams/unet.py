"""The U-Net (Ronneberger et al., MICCAI 2015): an encoder, a decoder and a 1x1 head.

Axes: B batch, C channels, H x W pixels. Level i has width * 2**i channels at 1 / 2**i of the side.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LEVELS = 5
NORMS = ("batch", "instance", "group")


def normalisation(name: str, channels: int) -> nn.Module:
    """Return the normalisation layer of that name over ``channels``. ValueError lists the names."""
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if name == "group":
        return nn.GroupNorm(min(8, channels), channels)
    raise ValueError(f"unknown normalisation {name!r}; available: {', '.join(NORMS)}")


def double_convolution(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    """Return twice 3x3 convolution, normalisation, ReLU; they keep the side."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            normalisation(norm, outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def autocast(x: Tensor, precision: torch.dtype) -> AbstractContextManager:
    """Let convolutions compute in this precision on the device of ``x`` while inside; weights stay in float32."""
    return nullcontext() if precision == torch.float32 else torch.autocast(x.device.type, precision)


class Encoder(nn.Module):
    """(B, channels, H, W) -> five feature maps, finest first; the last is the bottleneck.

    precision: of the convolutions; with torch.bfloat16 the feature maps are in it too.
    """

    precision = torch.float32

    def __init__(self, channels: int, width: int, norm: str) -> None:
        super().__init__()
        sizes = [channels] + [width * 2**level for level in range(LEVELS)]
        self.blocks = nn.ModuleList(double_convolution(a, b, norm) for a, b in pairwise(sizes))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x_bchw: Tensor) -> list[Tensor]:
        features = []
        with autocast(x_bchw, self.precision):
            for level, block in enumerate(self.blocks):
                x_bchw = block(self.pool(x_bchw) if level else x_bchw)
                features.append(x_bchw)
        return features


class Decoder(nn.Module):
    """The encoder's feature maps -> (B, width, H, W), through transposed convolutions and skips.

    precision: as the encoder's.

    With ``levels`` all feature maps on the way, coarsest first.
    """

    precision = torch.float32

    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        sizes = [width * 2**level for level in reversed(range(LEVELS))]
        pairs = list(pairwise(sizes))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.blocks = nn.ModuleList(double_convolution(a, b, norm) for a, b in pairs)

    def forward(self, features: list[Tensor], levels: bool = False) -> Tensor | list[Tensor]:
        *skips, x_bchw = features
        found = []
        with autocast(x_bchw, self.precision):
            for up, block, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
                x_bchw = block(torch.cat([skip, up(x_bchw)], dim=1))
                found.append(x_bchw)
        return found if levels else x_bchw


class UNet(nn.Module):
    """U-Net with output at the input's size.

    channels, classes: of input and output. width: channels of the finest level, doubling over five
    levels (64 = 31.0 M parameters, the paper's scale; 32 = 7.8 M; 16 = 1.9 M). norm: one of ``NORMS``.
    forward: (B, channels, H, W) -> logits or pixels (B, classes, H, W); H and W must divide by 16.
    """

    def __init__(self, channels: int = 1, classes: int = 1, width: int = 64, norm: str = "batch") -> None:
        super().__init__()
        if min(channels, classes, width) < 1:
            raise ValueError(f"channels {channels}, classes {classes} and width {width} must be at least 1")
        self.encoder = Encoder(channels, width, norm)
        self.decoder = Decoder(width, norm)
        self.head = nn.Conv2d(width, classes, 1)

    def compute_in(self, precision: torch.dtype) -> UNet:
        """Set the precision of the convolutions, but for the head's; return the network itself."""
        self.encoder.precision = self.decoder.precision = precision
        return self

    def forward(self, x_bchw: Tensor) -> Tensor:
        step = 2 ** (LEVELS - 1)
        if x_bchw.shape[2] % step or x_bchw.shape[3] % step:
            raise ValueError(f"height and width must divide by {step}, got {tuple(x_bchw.shape[2:])}")
        return self.head(self.decoder(self.encoder(x_bchw)).float())


class Supervised(nn.Module):
    """A U-Net in training with auxiliary heads at 1/2 and 1/4 of the side (deep supervision, Lee et al. 2015).

    forward: (B, channels, H, W) -> logits at the whole side, at half and at a quarter of it.
    """

    def __init__(self, unet: UNet, heads: nn.ModuleList) -> None:
        super().__init__()
        self.unet, self.heads = unet, heads

    def forward(self, x_bchw: Tensor) -> list[Tensor]:
        *_, quarter, half, whole = self.unet.decoder(self.unet.encoder(x_bchw), levels=True)
        return [
            head(each.float()) for head, each in zip([self.unet.head, *self.heads], (whole, half, quarter), strict=True)
        ]


def auxiliary_heads(width: int) -> nn.ModuleList:
    """Return the heads of ``Supervised`` for a U-Net of that width and one class."""
    return nn.ModuleList(nn.Conv2d(factor * width, 1, 1) for factor in (2, 4))


def fold_batchnorm(unet: UNet) -> UNet:
    """Return a copy with each batch normalisation merged into the convolution before it, which is faster and differs by
    rounding only.

    For use, not for training. Instance and group normalisation depend on the image and stay. ValueError in training
    mode, where batch normalisation does too.
    """
    if unet.training:
        raise ValueError("a network in training mode cannot be folded; call eval() first")
    copied = copy.deepcopy(unet)
    for block in [*copied.encoder.blocks, *copied.decoder.blocks]:
        for place in range(len(block) - 1):
            if isinstance(block[place + 1], nn.BatchNorm2d):
                block[place] = fuse_conv_bn_eval(block[place], block[place + 1])
                block[place + 1] = nn.Identity()
    return copied
