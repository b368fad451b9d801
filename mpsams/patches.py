"""Image <-> patches, and patch masks -> pixel masks.

Axes: B batch, C channels, H x W pixels, L patches (row-major), D = C * patch * patch values of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor

LESION_SHARE = 0.25  # of a patch, above which it counts as lesion


def grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Return the rows and columns of patches. ValueError unless ``patch`` divides both sides."""
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"patch side {patch} must be positive and divide height {height} and width {width}")
    return height // patch, width // patch


def patchify(x_bchw: Tensor, patch: int) -> Tensor:
    """Cut images into patches: (B, C, H, W) -> (B, L, C*patch*patch), row-major, inside a patch channel-major."""
    batch, channels, height, width = x_bchw.shape
    rows, columns = grid(height, width, patch)
    x = x_bchw.reshape(batch, channels, rows, patch, columns, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch * patch)


def unpatchify(p_bld: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Undo ``patchify``: (B, L, C*patch*patch) -> (B, C, H, W)."""
    rows, columns = grid(height, width, patch)
    batch, length, depth = p_bld.shape
    if length != rows * columns or depth % (patch * patch):
        raise ValueError(
            f"{length} patches of {depth} values do not tile {height} x {width} with side {patch}: "
            f"expected {rows * columns} patches of a multiple of {patch * patch} values"
        )
    x = p_bld.reshape(batch, rows, columns, depth // patch**2, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, height, width)


def to_pixels(mask_bl: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Expand a patch mask (B, L) to a pixel mask, bool (B, 1, H, W); True = hidden stays True."""
    rows, columns = grid(height, width, patch)
    mask = mask_bl.bool().reshape(-1, 1, rows, columns)
    return mask.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)


def lesion_share(mask_b1hw: Tensor, patch: int) -> Tensor:
    """Return the share of each patch that a pixel mask covers: bool (B, 1, H, W) -> float (B, L) in [0, 1]."""
    return patchify(mask_b1hw.float(), patch).mean(dim=2)


def is_lesion(mask_b1hw: Tensor, patch: int) -> Tensor:
    """Return patches with over a quarter (``LESION_SHARE``) lesion in truth: bool (B, 1, H, W) -> bool (B, L)."""
    return lesion_share(mask_b1hw, patch) > LESION_SHARE


def moments(x_bchw: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the patch that each pixel lies in: (B, C, H, W) -> twice (B, C, H, W).

    As MAE normalises its targets: over the D values of a patch, unbiased variance + 1e-6.
    """
    p_bld = patchify(x_bchw, patch)
    variance, mean = torch.var_mean(p_bld, dim=2, keepdim=True)
    maps = (value.expand_as(p_bld) for value in (mean, (variance + 1e-6).sqrt()))
    mean_bchw, deviation_bchw = (unpatchify(value, patch, *x_bchw.shape[2:]) for value in maps)
    return mean_bchw, deviation_bchw
