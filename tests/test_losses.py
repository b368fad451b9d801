"""Losses against loops, MONAI and hand-worked values."""

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss

from mpsams import losses


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_masked_mse_is_the_loop_over_hidden_pixels(channels):
    pred, target = torch.rand(2, channels, 4, 6, generator=seeded(0)), torch.rand(2, channels, 4, 6, generator=seeded(1))
    hidden = torch.rand(2, 1, 4, 6, generator=seeded(2)) < 0.4
    total, count = 0.0, 0
    for b in range(2):
        for y in range(4):
            for x in range(6):
                for c in range(channels if hidden[b, 0, y, x] else 0):
                    total += float(pred[b, c, y, x] - target[b, c, y, x]) ** 2
                    count += 1
    assert float(losses.masked_mse(pred, target, hidden)) == pytest.approx(total / count, rel=1e-5)


def test_masked_mse_ignores_what_is_visible():
    pred, target = torch.zeros(1, 1, 4, 4, requires_grad=True), torch.ones(1, 1, 4, 4)
    hidden = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hidden[..., :1] = True
    losses.masked_mse(pred, target, hidden).backward()
    torch.testing.assert_close(pred.grad[~hidden], torch.zeros(12))
    torch.testing.assert_close(pred.grad[hidden], torch.full((4,), -0.5))  # 2 (0 - 1) / 4


def test_masked_mse_of_nothing_hidden_is_zero_with_zero_gradient():
    pred = torch.rand(1, 1, 4, 4, requires_grad=True)
    loss = losses.masked_mse(pred, torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0 and not pred.grad.any()


def test_masked_mse_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\).*\(1, 1, 4, 5\)"):
        losses.masked_mse(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5), torch.ones(1, 1, 4, 4, dtype=torch.bool))


def test_cross_entropy_by_hand():
    logits = torch.tensor([[[[0.0, 2.0], [-3.0, 1.0]]]])
    truth = torch.tensor([[[[True, True], [False, False]]]])
    by_hand = (math.log(2) + math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-3)) + math.log(1 + math.exp(1))) / 4
    assert float(losses.segmentation(logits, truth, "ce")) == pytest.approx(by_hand, rel=1e-5)


def test_dice_part_by_hand():
    """Logits of +-40 are 0/1 predictions: 2 pixels right of 3 said and 4 real in all, Dice 4/7 over the batch."""
    said = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]]).reshape(2, 1, 2, 2).bool()
    real = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]]).reshape(2, 1, 2, 2).bool()
    logits = torch.where(said, 40.0, -40.0)
    dice = losses.segmentation(logits, real) - losses.segmentation(logits, real, "ce")
    assert float(dice) == pytest.approx(1 - 4 / 7, abs=1e-4)


def test_dice_ce_is_monais():
    logits = 3 * torch.randn(3, 1, 8, 8, generator=seeded(4))
    truth = torch.rand(3, 1, 8, 8, generator=seeded(5)) < 0.3
    truth[2] = False
    found = losses.segmentation(logits, truth)
    torch.testing.assert_close(found, DiceCELoss(sigmoid=True, batch=True)(logits, truth.float()))
    alone = DiceLoss(sigmoid=True, batch=False)(logits, truth.float()) + losses.segmentation(logits, truth, "ce")
    assert abs(float(found - alone)) > 1e-3


@pytest.mark.parametrize("kind", losses.SEGMENTATION)
def test_segmentation_is_finite_for_extreme_logits_and_empty_truth(kind):
    logits = torch.tensor([1e4, -1e4, 0.0, 50.0]).reshape(1, 1, 2, 2).requires_grad_()
    for truth in (torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)):
        loss = losses.segmentation(logits, truth, kind)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


def test_unknown_segmentation_loss_is_named():
    with pytest.raises(ValueError, match="'focal'.*dice-ce, ce"):
        losses.segmentation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), "focal")
