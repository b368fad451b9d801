"""Candidates of the benchmarks of training: our loop on a pack, and bare steps of the same network on
one fixed batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks import seconds
from mpsams import methods, packs
from mpsams.unet import UNet
from train import loop, pretrain
from train.loop import Task
from train.options import Data, Model, RunOptions, to_device_if_fits

EPOCHS = 800  # the paper's, of which a benchmark does the first few


def options(width: int, size: int, batch: int, run: RunOptions | None = None) -> pretrain.Pretrain:
    """Return the options of a pretraining with MPS-AMS; everything else is at its default."""
    learnt = pretrain.Optim(epochs=EPOCHS, batch=batch)
    return pretrain.Pretrain(
        methods.find("mps_ams").Config(), Data("folder", size=size), Model(width), learnt, run or RunOptions()
    )


def task(chosen: pretrain.Pretrain, pack: Path, out: Path, device: torch.device | None = None) -> Task:
    """Return the task that ``train.pretrain`` makes of these options, on all images of a pack.

    device: where, if not as the options have it.
    """
    device = device or chosen.run.start()
    torch.manual_seed(chosen.run.seed)
    method = methods.find("mps_ams").build(chosen.method, UNet(width=chosen.model.width), chosen.optim.epochs)
    method = chosen.run.prepare(method, device)
    return pretrain.task(chosen, {}, method, to_device_if_fits(packs.read(pack), device), out)


def ours(turn: Callable, pack: Path, out: Path, **settings) -> None:
    """Train as a candidate (see ``interleaved``): an epoch of the real loop a piece, with its record, its bar and,
    when they are due, its pictures.

    Tells "clustering_s", what the clusters of all images took, which are found once before the first epoch.
    """
    out.mkdir(parents=True)
    work = task(options(**settings), pack, out)
    turn(clustering_s=seconds(lambda: pretrain.precompute_masks(work.module, packs.read(pack), work.device), 1)[0])
    run_with(work, out, turn)


def run_with(work: Task, out: Path, turn: Callable[[], None]) -> None:
    """Run the real loop, which ends each epoch with ``turn``, until that ends it; its bar is drawn unseen."""

    def after_epoch(epoch: int) -> dict:
        metrics = work.after_epoch(epoch)
        turn()
        return metrics

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        loop.fit(replace(work, after_epoch=after_epoch), out)


def bare(turn: Callable, steps: int, **settings) -> None:
    """Train as a candidate: ``steps`` steps a piece, of nothing but forward, backward and optimiser on one fixed
    batch.
    """
    chosen = options(**settings)
    step = bare_step(chosen, chosen.run.start())
    turn()
    while True:
        for _ in range(steps):
            step()
        turn()


def bare_step(chosen: pretrain.Pretrain, device: torch.device) -> Callable[[], None]:
    """Return a function that does a step of the network that these options train, prepared as for training, towards its
    own input.
    """
    torch.manual_seed(chosen.run.seed)
    network: nn.Module = chosen.run.prepare(UNet(width=chosen.model.width), device)
    optimiser = torch.optim.Adam(network.parameters(), lr=chosen.optim.lr, fused=True)
    x_b1hw = torch.randn(chosen.optim.batch, 1, chosen.data.size, chosen.data.size, device=device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        (network(x_b1hw) - x_b1hw).square().mean().backward()
        optimiser.step()

    return step
