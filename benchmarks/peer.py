"""The pipeline that one would otherwise write: MONAI's CacheDataset, DataLoader and BasicUNet, scikit-learn's KMeans
per image.

Two versions: "ordinary" finds the clusters in the random transform that hides, as RandCoarseDropout would be put there,
and takes MONAI's network as it comes; "careful" finds them once, in the part that is cached, flips them with the image,
and lets the network have BatchNorm as ours has.

Axes: H x W pixels, L patches (row-major), D pixels of a patch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, EnsureTyped, MapTransform, NormalizeIntensityd, RandFlipd, RandomizableTransform
from scipy.special import softmax
from sklearn.cluster import KMeans
from torch import Tensor, nn

from benchmarks import training
from mpsams import packs, schedule

PATCH = 16


def lesion_patches(image_hw: np.ndarray) -> np.ndarray:
    """Return the smaller of two clusters of patches: bool (rows, columns).

    The paper's 2.1, as one would write it for an image.
    """
    rows, columns = (side // PATCH for side in image_hw.shape)
    patches_ld = image_hw.reshape(rows, PATCH, columns, PATCH).transpose(0, 2, 1, 3).reshape(rows * columns, PATCH**2)
    similarity_ll = patches_ld @ patches_ld.T / np.sqrt(PATCH**2)
    covariance_ll = np.cov(softmax(similarity_ll, axis=1))
    brightness_l = patches_ld.mean(axis=1)
    begin = covariance_ll[[brightness_l.argmax(), brightness_l.argmin()]]
    labels_l = KMeans(2, init=begin, n_init=1).fit_predict(covariance_ll)
    return (labels_l == (labels_l.sum() <= len(labels_l) / 2)).reshape(rows, columns)


class FindLesiond(MapTransform):
    """Adds "lesion", (1, rows, columns), of the image."""

    def __call__(self, data: dict) -> dict:
        return {**data, "lesion": torch.from_numpy(lesion_patches(data["image"][0].numpy()))[None].float()}


class RandHideLesionFirstd(RandomizableTransform, MapTransform):
    """Adds "hidden", float (1, H, W) with 1 = hidden: patches in random order, those of the lesion first, at the
    epoch's ratio.
    """

    def __init__(self, keys: str, ratio: Tensor) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self)
        self.ratio = ratio

    def __call__(self, data: dict) -> dict:
        image_1hw = data["image"]
        lesion = data["lesion"][0].numpy() if "lesion" in data else lesion_patches(image_1hw[0].numpy())
        order_l = np.argsort(self.R.random(lesion.size) + (lesion.ravel() < 0.5))
        hidden_l = np.zeros(lesion.size, np.float32)
        hidden_l[order_l[: int(lesion.size * float(self.ratio))]] = 1
        return {
            **data,
            "hidden": torch.from_numpy(
                np.kron(hidden_l.reshape(lesion.shape), np.ones((PATCH, PATCH), np.float32))[None]
            ),
        }


def transforms(careful: bool, ratio: Tensor) -> Compose:
    """Return the transforms from an image in memory, uint8 (1, H, W), to what a step needs; what comes before the first
    random one is cached.
    """
    cached = [EnsureTyped("image", dtype=torch.float32, track_meta=False), NormalizeIntensityd("image")]
    if careful:
        cached += [FindLesiond("image")]
    flipped = ("image", "lesion") if careful else ("image",)
    return Compose([*cached, RandFlipd(flipped, prob=0.5, spatial_axis=1), RandHideLesionFirstd("image", ratio)])


def network(width: int, careful: bool) -> nn.Module:
    """Return MONAI's BasicUNet with as many channels as ours."""
    features = tuple(width * factor for factor in (1, 2, 4, 8, 16, 1))
    return BasicUNet(2, 1, 1, features, norm="batch") if careful else BasicUNet(2, 1, 1, features)


def loss_of(predicted_b1hw: Tensor, image_b1hw: Tensor, hidden_b1hw: Tensor) -> Tensor:
    """Return the mean squared error over the hidden pixels."""
    return ((predicted_b1hw - image_b1hw) ** 2 * hidden_b1hw).sum() / hidden_b1hw.sum()


def epoch(model: nn.Module, optimiser: torch.optim.Optimizer, loader: Iterable[dict], device: torch.device) -> float:
    """Train for an epoch; return the mean loss."""
    losses = []
    for batch in loader:
        image, hidden = (batch[key].to(device, non_blocking=True) for key in ("image", "hidden"))
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            predicted = model(image * (1 - hidden))
        loss = loss_of(predicted.float(), image, hidden)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def train(turn: Callable, pack: Path, width: int, batch: int, careful: bool, workers: tuple[int, ...]) -> None:
    """Train as a candidate (see ``interleaved``), an epoch a piece, with the one of the given numbers of DataLoader
    workers that is fastest here.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    ratio = torch.zeros(()).share_memory_()  # also the workers' transforms see it change
    images = [{"image": image.copy()} for image in packs.read(pack).stored_nchw.numpy()]
    dataset = CacheDataset(images, transforms(careful, ratio), num_workers=os.cpu_count(), progress=False)
    model = network(width, careful).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)

    def loader(number: int) -> DataLoader:
        loading = {"num_workers": number, "persistent_workers": number > 0, "pin_memory": device.type == "cuda"}
        # as on any Linux; a candidate's own default is another
        loading |= {"multiprocessing_context": "fork"} if number else {}
        return DataLoader(dataset, batch_size=batch, shuffle=True, **loading)

    def timed(number: int) -> tuple[float, int]:
        each = loader(number)
        epoch(model, optimiser, each, device)  # the workers start
        began = time.perf_counter()
        epoch(model, optimiser, each, device)
        return time.perf_counter() - began, number

    ratio.fill_(schedule.mask_ratio(1))
    chosen = min(map(timed, workers))[1] if len(workers) > 1 else workers[0]
    each = loader(chosen)
    turn(workers=chosen, parameters=sum(parameter.numel() for parameter in model.parameters()))
    for number in range(1, training.EPOCHS + 1):
        ratio.fill_(schedule.mask_ratio(number))
        epoch(model, optimiser, each, device)
        turn()
