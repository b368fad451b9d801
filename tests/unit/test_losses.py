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
    pred, target = (
        torch.rand(2, channels, 4, 6, generator=seeded(0)),
        torch.rand(2, channels, 4, 6, generator=seeded(1)),
    )
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
    pred = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]]).reshape(2, 1, 2, 2).bool()
    truth = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]]).reshape(2, 1, 2, 2).bool()
    logits = torch.where(pred, 40.0, -40.0)
    dice = losses.segmentation(logits, truth) - losses.segmentation(logits, truth, "ce")
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


def test_focal_and_dice_of_each_lesion_are_the_loops():
    generator = seeded(4)
    logits, truth = 2 * torch.randn(4, 1, 3, 5, generator=generator), torch.rand(4, 1, 3, 5, generator=generator) < 0.4
    truth[1] = False
    probability = torch.sigmoid(logits.double()).flatten(1)
    real = truth.flatten(1)
    right = torch.where(real, probability, 1 - probability)
    focal = float((-((1 - right) ** 2) * right.log()).mean())
    pooled = float(losses.segmentation(logits, truth, "dice-ce") - losses.segmentation(logits, truth, "ce"))
    assert float(losses.segmentation(logits, truth, "dice-focal")) == pytest.approx(focal + pooled, rel=1e-5)
    each = [
        1 - 2 * float((probability[b] * real[b]).sum()) / float(probability[b].sum() + real[b].sum()) for b in (0, 2, 3)
    ]
    found = losses.segmentation(logits, truth, "image-dice-ce") - losses.segmentation(logits, truth, "ce")
    assert float(found) == pytest.approx(sum(each) / 3, rel=1e-4)
    assert torch.equal(
        losses.segmentation(logits, truth & False, "image-dice-ce"), losses.segmentation(logits, truth & False, "ce")
    )


def test_presence_is_the_cross_entropy_of_the_likeliest_pixels():
    logits = torch.linspace(-3, 3, 2 * 400).reshape(2, 1, 20, 20)
    truth = torch.zeros(2, 1, 20, 20, dtype=torch.bool)
    truth[1, 0, 3, 4] = True
    tops = [float(each.flatten().sort().values[-2:].mean()) for each in logits]  # 0.5% of 400
    expected = (math.log1p(math.exp(tops[0])) + math.log1p(math.exp(-tops[1]))) / 2
    assert float(losses.presence(logits, truth)) == pytest.approx(expected, rel=1e-5)


def test_unknown_segmentation_loss_is_named():
    with pytest.raises(ValueError, match="'focal'.*dice-ce, ce"):
        losses.segmentation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), "focal")


@pytest.mark.parametrize("channels", [1, 3])
def test_masked_l1_is_the_loop_over_hidden_pixels(channels):
    pred, target = (
        torch.rand(2, channels, 4, 6, generator=seeded(0)),
        torch.rand(2, channels, 4, 6, generator=seeded(1)),
    )
    hidden = torch.rand(2, 1, 4, 6, generator=seeded(2)) < 0.4
    errors = [
        abs(float(pred[b, c, y, x] - target[b, c, y, x]))
        for b in range(2) for c in range(channels) for y in range(4) for x in range(6) if hidden[b, 0, y, x]
    ]  # fmt: skip
    assert float(losses.masked_l1(pred, target, hidden)) == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_masked_l1_has_gradient_on_hidden_pixels_only_and_none_where_nothing_is_hidden():
    pred, target = torch.zeros(1, 1, 4, 4, requires_grad=True), torch.ones(1, 1, 4, 4)
    hidden = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(losses.masked_l1(pred, target, hidden), pred)
    assert not gradient.any() and float(losses.masked_l1(pred, target, hidden).detach()) == 0
    hidden[..., :1] = True
    (gradient,) = torch.autograd.grad(losses.masked_l1(pred, target, hidden), pred)
    torch.testing.assert_close(gradient, torch.where(hidden, -0.25, 0.0))
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\).*\(1, 1, 4, 5\)"):
        losses.masked_l1(pred, torch.zeros(1, 1, 4, 5), hidden)


def slow_nt_xent(a_bd, b_bd, temperature):
    """Equation 1 of SimCLR as it stands, view by view and in double."""
    z = [row / row.square().sum().sqrt() for row in [*a_bd.double(), *b_bd.double()]]
    total, count = 0.0, len(a_bd)
    for i in range(2 * count):
        other = (i + count) % (2 * count)
        below = sum(torch.exp(z[i] @ z[k] / temperature) for k in range(2 * count) if k != i)
        total = total - torch.log(torch.exp(z[i] @ z[other] / temperature) / below)
    return total / (2 * count)


@pytest.mark.parametrize("batch, temperature", [(2, 0.5), (5, 0.5), (5, 0.1), (7, 2.0)])
def test_nt_xent_and_its_gradient_are_the_double_loop(batch, temperature):
    a = torch.randn(batch, 6, generator=seeded(1)).requires_grad_()
    b = torch.randn(batch, 6, generator=seeded(2)).requires_grad_()
    found, expected = losses.nt_xent(a, b, temperature), slow_nt_xent(a, b, temperature)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    for ours, slow in zip(torch.autograd.grad(found, (a, b)), torch.autograd.grad(expected, (a, b)), strict=True):
        torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-6)


def test_nt_xent_by_hand():
    """Two pairs at right angles: each view has cosine 1 with its partner, 0 with the two of the other image."""
    eye = torch.eye(2)
    for temperature in (0.5, 0.1, 1.0):
        by_hand = math.log(math.exp(1 / temperature) + 2) - 1 / temperature
        assert float(losses.nt_xent(eye, 3 * eye, temperature)) == pytest.approx(by_hand, rel=1e-5, abs=1e-6)
    assert float(losses.nt_xent(eye, eye)) == pytest.approx(math.log(1 + 2 * math.exp(-2)), rel=1e-5)  # 0.5 unless told
    crossed = math.log(math.exp(2) + 2)  # the partner at right angles, a stranger at cosine 1
    assert float(losses.nt_xent(eye, eye.flip(0))) == pytest.approx(crossed, rel=1e-5)
    # one point
    assert float(losses.nt_xent(torch.ones(3, 4), torch.ones(3, 4))) == pytest.approx(math.log(5), rel=1e-5)


def test_nt_xent_knows_neither_lengths_nor_which_view_is_first():
    a, b = torch.randn(5, 6, generator=seeded(1)), torch.randn(5, 6, generator=seeded(2))
    lengths = torch.rand(5, 1, generator=seeded(3)) + 0.1
    found = losses.nt_xent(a, b)
    torch.testing.assert_close(losses.nt_xent(a * lengths, 1e3 * b), found)
    torch.testing.assert_close(losses.nt_xent(b, a), found)
    order = torch.randperm(5, generator=seeded(4))
    torch.testing.assert_close(losses.nt_xent(a[order], b[order]), found)
    assert abs(float(losses.nt_xent(a[order], b) - found)) > 1e-2
    assert losses.nt_xent(1e-3 * a, b, 1e-3).isfinite() and losses.nt_xent(torch.zeros(5, 6), b).isfinite()


@pytest.mark.parametrize(
    "rows, others, temperature", [(0, 0, 0.5), (4, 3, 0.5), (4, 4, 0.0), (4, 4, -1.0), (4, 4, math.nan)]
)
def test_nt_xent_refuses(rows, others, temperature):
    with pytest.raises(ValueError, match=rf"\({rows}, 3\).*\({others}, 3\).*temperature"):
        losses.nt_xent(torch.ones(rows, 3), torch.ones(others, 3), temperature)


def test_negative_cosine_by_hand_without_gradient_to_the_target():
    p = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]], requires_grad=True)
    z = torch.tensor([[6.0, 8.0], [0.0, 5.0], [-1.0, 0.0]], requires_grad=True)
    for rows, value in (([0], -1.0), ([1], 0.0), ([2], 1.0), ([0, 1, 2], 0.0), ([0, 1], -0.5)):
        assert float(losses.negative_cosine(p[rows], z[rows]).detach()) == pytest.approx(value, abs=1e-6)
    losses.negative_cosine(p, z).backward()
    assert z.grad is None
    # -(z/|z| less its part along p) / 3 |p|
    torch.testing.assert_close(p.grad, torch.tensor([[0.0, 0.0], [0.0, -1 / 3], [0.0, 0.0]]))


def slow_sinkhorn(scores_bk, epsilon, iterations):
    """The pseudo-code of SwAV's appendix, in double."""
    q_kb = torch.exp(scores_bk.double() / epsilon).T
    q_kb = q_kb / q_kb.sum()
    prototypes, images = q_kb.shape
    for _ in range(iterations):
        q_kb = q_kb * (1 / prototypes / q_kb.sum(dim=1))[:, None]
        q_kb = q_kb * (1 / images / q_kb.sum(dim=0))[None]
    return (q_kb / q_kb.sum(dim=0, keepdim=True)).T


def cosines(batch, prototypes, seed=0):
    return 2 * torch.rand(batch, prototypes, generator=seeded(seed)) - 1


@pytest.mark.parametrize("batch, prototypes", [(6, 4), (4, 9), (5, 5)])
@pytest.mark.parametrize("epsilon, iterations", [(0.05, 3), (0.05, 1), (0.5, 3), (0.03, 10)])
def test_sinkhorn_is_the_papers_pseudo_code(batch, prototypes, epsilon, iterations):
    scores = cosines(batch, prototypes)
    found = losses.sinkhorn(scores, epsilon, iterations)
    torch.testing.assert_close(found.double(), slow_sinkhorn(scores, epsilon, iterations), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(batch))  # the last word is the rows'


def test_sinkhorn_uses_all_prototypes_alike_in_the_end():
    scores = cosines(12, 5)
    scores[:, 2] += 1  # a favourite
    gap = [float((losses.sinkhorn(scores, 0.2, n).sum(dim=0) - 12 / 5).abs().max()) for n in (1, 3, 20, 300)]
    assert gap[0] > gap[1] > gap[2] > gap[3] and gap[3] < 1e-3 and gap[0] > 0.1
    torch.testing.assert_close(losses.sinkhorn(torch.full((6, 4), 0.3)), torch.full((6, 4), 0.25))
    torch.testing.assert_close(losses.sinkhorn(scores + 7, 0.2), losses.sinkhorn(scores, 0.2), rtol=1e-4, atol=1e-6)


def test_sinkhorns_defaults_are_the_papers_and_there_is_no_gradient():
    scores = cosines(6, 4).requires_grad_()
    before = scores.detach().clone()
    found = losses.sinkhorn(scores)
    assert not found.requires_grad and torch.equal(scores.detach(), before)
    assert torch.equal(found, losses.sinkhorn(scores, 0.05, 3))


@pytest.mark.parametrize("scale, epsilon", [(1.0, 1e-4), (1e4, 0.05), (1e6, 1e-3)])
def test_sinkhorn_does_not_overflow(scale, epsilon):
    found = losses.sinkhorn(scale * cosines(8, 5), epsilon)
    assert found.isfinite().all() and found.min() >= 0
    torch.testing.assert_close(found.sum(dim=1), torch.ones(8))


@pytest.mark.parametrize("epsilon, iterations", [(0.0, 3), (-0.1, 3), (math.nan, 3), (0.05, 0)])
def test_sinkhorn_refuses(epsilon, iterations):
    with pytest.raises(ValueError, match="epsilon .* iterations"):
        losses.sinkhorn(cosines(4, 3), epsilon, iterations)
