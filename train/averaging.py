"""The moving average of a network's weights, which a fine-tuning keeps."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mpsams.unet import Supervised, UNet

Tensors = tuple[Tensor, ...] | list[Tensor]


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Return the update of an exponential moving average, for ``AveragedModel``.

    After n updates the decay is at most (1 + n) / (10 + n), so that the random weights of the start are soon forgotten.
    """

    def update(averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
        count = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, updates)

    return update


class Averaged(nn.Module):
    """A network, and if ``decay`` is above 0 the exponential moving average of its weights (and statistics).

    heads: of deep supervision, which are trained with it and not kept.
    """

    def __init__(self, network: UNet, decay: float, heads: nn.ModuleList | None = None) -> None:
        super().__init__()
        self.network, self.heads = network, heads
        self.average = AveragedModel(network, multi_avg_fn=moving_average(decay), use_buffers=True) if decay else None

    @property
    def averaged_network(self) -> nn.Module:
        """The network to keep: the average where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def training_module(self) -> nn.Module:
        """The module to train: images -> logits, with deep supervision one at each of its sides, the
        whole side first.
        """
        return self.network if self.heads is None else Supervised(self.network, self.heads)

    def update(self, progress: float) -> None:
        """Let the average follow the network, after each optimiser step."""
        if self.average is not None:
            self.average.update_parameters(self.network)
