"""Measure a segmentation network on the images of a pack, at the network's size and in batches on its device.

``train.evaluate`` measures images at their own size; a machine to which only a pack was brought cannot.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mpsams import inference, metrics, splits
from mpsams.datasets import Stack

BATCH = 32
THRESHOLD = 0.5


def measure(weights: Path, stack: Stack, device: torch.device) -> dict[str, dict[str, dict[str, float]]]:
    """Return the numbers of the checkpoint's test part by "image" and case, and of volumes by "volume" and patient.

    Distances are in pixels of the pack. Slices without a body are not in a pack, and so not measured. ValueError when
    the pack is not of the size of the network's images.
    """
    network = inference.open_network(weights, "float32")
    if stack.size != network.size:
        raise ValueError(f"the pack has images of {stack.size} pixels, the network takes {network.size}")
    network = replace(network, unet=network.unet.to(device))
    test = stack.of(splits.restore(network.metadata["split"]).test)
    images: dict[str, dict] = {}
    masks: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for indices in torch.arange(len(test)).split(BATCH):
        images_bchw, truth_b1hw = test.take(indices)
        predicted_b1hw = inference.probabilities(network, images_bchw.to(device).float() / 255) > THRESHOLD
        both = zip(predicted_b1hw[:, 0].cpu().numpy(), truth_b1hw[:, 0].cpu().numpy(), strict=True)
        for index, pair in zip(indices.tolist(), both, strict=True):
            images[test.cases[index]] = metrics.case(*pair)
            masks.setdefault(test.groups[index], []).append(pair)
    volumes = {
        patient: metrics.case(*(np.stack(each) for each in zip(*pairs, strict=True)))
        for patient, pairs in masks.items()
        if patient not in images
    }
    return {"image": images, "volume": volumes}
