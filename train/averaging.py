"""The moving average of a network's weights, which a fine-tuning keeps."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mpsams.unet import Supervised, UNet


class Averaged(nn.Module):
    """A network, and if ``decay`` is above 0 the exponential moving average of its weights (and statistics).

    After n updates the decay is at most (1 + n) / (10 + n), so that the random weights of the start are soon forgotten.

    heads: of deep supervision, which are trained with it and not kept.
    """

    def __init__(self, network: UNet, decay: float, heads: nn.ModuleList | None = None) -> None:
        super().__init__()
        self.network, self.heads, self.decay = network, heads, decay
        self.average = AveragedModel(network) if decay else None

    @property
    def averaged_network(self) -> nn.Module:
        """The network to keep: the average where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def training_module(self) -> nn.Module:
        """The module to train: images -> logits, with deep supervision at each of its sides, the whole first."""
        return self.network if self.heads is None else Supervised(self.network, self.heads)

    def update(self, progress: float) -> None:
        """Let the average follow the network, after each optimiser step.

        As ``AveragedModel.update_parameters`` does, which would wait for a GPU twice in each step.
        """
        if self.average is None:
            return
        count = int(self.average.n_averaged)  # on the CPU, also where the weights are not
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        both = [[*each.parameters(), *each.buffers()] for each in (self.average.module, self.network)]
        for dtype in {tensor.dtype for tensor in both[0]}:
            averaged, current = ([tensor.detach() for tensor in each if tensor.dtype == dtype] for each in both)
            get_ema_multi_avg_fn(decay)(averaged, current, count)
        self.average.n_averaged += 1
