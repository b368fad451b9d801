"""Pictures made from tensors: contact sheets, overlays, heat maps, the curve of the mask ratio.

Axes: B batch, H x W pixels. Pictures are uint8 (H, W, 3).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def grey(image_hw: np.ndarray) -> np.ndarray:
    """(H, W) floats in [0, 1] -> uint8 (H, W, 3)."""
    return np.repeat((np.clip(image_hw, 0, 1) * 255).round().astype(np.uint8)[:, :, None], 3, axis=2)


def save_sheet(columns: dict[str, Tensor], path: Path, gap: int = 4) -> None:
    """Save named columns of images, float (B, 1, H, W) in [0, 1] each, as one PNG; nothing for no columns."""
    if not columns:
        return
    images = [np.concatenate([np.pad(x, gap, constant_values=1.0) for x in t[:, 0].float().cpu().numpy()]) for t in columns.values()]
    Image.fromarray(grey(np.concatenate(images, axis=1))).save(path)
