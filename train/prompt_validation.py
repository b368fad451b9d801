"""Measures of a prompt network while it is trained: DSC on the validation parts, and agreement of bfloat16 with
float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from mpsams import inference
from mpsams.inference import prompts
from mpsams.unet import UNet
from train import simulated_users
from train.evaluate_prompts import measure, network_answer
from train.prompt_data import Objects, PartedSet, objects_of, select_with_objects


def validate(network: nn.Module, size: int, data: Sequence[PartedSet], count: int) -> dict[str, float]:
    """Return the mean DSC from one box and from one click, over some objects of each validation part, spread evenly."""
    found: dict[str, float] = {}
    wrapped = inference.Network(network, {"kind": "prompt", "size": size}, "", None)  # type: ignore[arg-type]
    for each in data:
        val = select_with_objects(each.stack.of(each.split.val))
        chosen = torch.linspace(0, len(val) - 1, min(count, len(val))).round().long() if len(val) else torch.arange(0)
        rows = [
            measure(network_answer(wrapped), *pair, np.random.default_rng([0, number]), 1)
            for number, pair in enumerate(objects_of(val, chosen))
        ]
        if rows:
            found |= {f"val_{each.stack.name}_box": float(np.mean([row["box"] for row in rows]))}
            found |= {f"val_{each.stack.name}_click": float(np.mean([row["clicks"][0] for row in rows]))}
    return found


def agreement(network: UNet, objects: Objects, size: int, device: torch.device) -> float:
    """Return ``inference.agreement_in_bfloat16`` on crops around boxes in some images of the training parts."""
    indices = torch.linspace(0, len(objects) - 1, min(64, len(objects))).round().long()
    rng, crops = np.random.default_rng(0), []
    for image_hw, mask_hw in zip(*(taken[:, 0].numpy() for taken in objects.take(indices)), strict=True):
        prompt = simulated_users.Prompt(
            box=simulated_users.jittered_box(simulated_users.largest_part(mask_hw), 0.08, rng)
        )
        crops.append(prompts.encode(image_hw, prompt, prompts.find_crop(prompt, image_hw.shape), size))
    return inference.agreement_in_bfloat16(network.eval(), torch.stack(crops).to(device).split(16))
