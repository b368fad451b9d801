"""Patches against loops over pixels."""

import numpy as np
import pytest
import torch

from mpsams import patches


def slow_patchify(x, patch):
    batch, _, height, width = x.shape
    rows = []
    for b in range(batch):
        for top in range(0, height, patch):
            for left in range(0, width, patch):
                rows.append(x[b, :, top : top + patch, left : left + patch].reshape(-1))
    return torch.stack(rows).reshape(batch, (height // patch) * (width // patch), -1)


@pytest.mark.parametrize("shape, patch", [((2, 1, 8, 8), 4), ((3, 2, 6, 10), 2), ((1, 3, 5, 15), 5), ((2, 1, 4, 7), 1)])
def test_patchify_is_the_loop_and_unpatchify_its_inverse(shape, patch):
    x = torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)
    found = patches.patchify(x, patch)
    torch.testing.assert_close(found, slow_patchify(x, patch), rtol=0, atol=0)
    torch.testing.assert_close(patches.unpatchify(found, patch, *shape[2:]), x, rtol=0, atol=0)


def test_patchify_of_a_channels_last_or_strided_image_is_the_same():
    x = torch.rand(2, 3, 8, 12)
    for same in (x.contiguous(memory_format=torch.channels_last), x.repeat(1, 1, 1, 2)[..., :12]):
        torch.testing.assert_close(patches.patchify(same, 4), slow_patchify(x, 4), rtol=0, atol=0)


@pytest.mark.parametrize("patch", [0, -4, 3, 5])
def test_a_side_that_does_not_divide_is_refused_by_name(patch):
    with pytest.raises(ValueError, match=rf"{patch}.*height 8.*width 12"):
        patches.patchify(torch.zeros(1, 1, 8, 12), patch)


@pytest.mark.parametrize("shape", [(1, 5, 16), (1, 6, 15), (1, 7, 16)])
def test_unpatchify_refuses_what_does_not_tile(shape):
    with pytest.raises(ValueError, match="do not tile 8 x 12"):
        patches.unpatchify(torch.zeros(shape), 4, 8, 12)


def test_to_pixels_is_the_loop():
    mask = torch.rand(3, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    pixels = patches.to_pixels(mask, 4, 8, 12)
    assert pixels.shape == (3, 1, 8, 12) and pixels.dtype == torch.bool
    for b in range(3):
        for y in range(8):
            for x in range(12):
                assert pixels[b, 0, y, x] == mask[b, (y // 4) * 3 + x // 4]


def test_lesion_share_counts_pixels():
    mask = torch.rand(2, 1, 8, 12, generator=torch.Generator().manual_seed(1)) < 0.3
    share = patches.lesion_share(mask, 4)
    for b in range(2):
        for patch in range(6):
            top, left = patch // 3 * 4, patch % 3 * 4
            assert share[b, patch] == mask[b, 0, top : top + 4, left : left + 4].sum() / 16


def test_moments_of_patches_are_those_of_each_patch():
    x_bchw = torch.rand(2, 1, 8, 12, generator=torch.Generator().manual_seed(3))
    mean, deviation = patches.moments(x_bchw, 4)
    for row in range(2):
        for column in range(3):
            part = (slice(None), slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            values = x_bchw[part].flatten(1)
            assert torch.allclose(mean[part].flatten(1), values.mean(1, keepdim=True).expand(-1, 16))
            assert torch.allclose(
                deviation[part].flatten(1), (values.var(1, keepdim=True) + 1e-6).sqrt().expand(-1, 16)
            )
