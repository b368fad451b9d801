"""SimCLR, BYOL and SwAV against plain re-computations with the same views, and what betrays a collapse."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mpsams import losses, methods, transforms, views
from mpsams.methods import Batch, _views
from mpsams.unet import UNet
from train import pretrain

NAMES = ("simclr", "byol", "swav")
EVERY = pytest.mark.parametrize("name", NAMES)
EPOCHS, SIDE = 40, 32


@pytest.fixture(scope="module")
def images(phantoms):
    return F.interpolate(phantoms.stored_nchw.float() / 255, (SIDE, SIDE), mode="area")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(name, **options):
    torch.manual_seed(0)
    module = methods.find(name)
    return module.build(module.Config(**options), UNet(width=4), EPOCHS).train()


def normalised(view_b1hw, images_b1hw):
    """Views as the encoder sees them."""
    mean, deviation = transforms.moments(images_b1hw)
    return (view_b1hw - mean) / deviation


def shown(images, generator, kinds):
    """Views of the images as the encoder sees them; kinds: what each is like, and its side. In the order of drawing."""
    return [
        normalised(views.apply(images, views.draw(len(images), how, generator), side), images) for how, side in kinds
    ]


def embedded(encoder, views_b1hw):
    """All views through the encoder at once, each averaged over its bottleneck."""
    bottleneck = encoder(torch.cat(views_b1hw))[-1]
    return torch.stack([bottleneck[i].flatten(1).mean(1) for i in range(len(bottleneck))])


def through(perceptron, x_vd):
    """Linear layers by hand, BatchNorm from this batch's own moments (those of all its rows), ReLU."""
    for layer in perceptron:
        if isinstance(layer, nn.Linear):
            x_vd = x_vd @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        elif isinstance(layer, nn.BatchNorm1d):
            x_vd = (x_vd - x_vd.mean(0)) / (x_vd.var(0, unbiased=False) + layer.eps).sqrt() * layer.weight + layer.bias
        else:
            assert isinstance(layer, nn.ReLU)
            x_vd = x_vd.clamp(min=0)
    return x_vd


def cosine(a_d, b_d):
    return a_d @ b_d / (a_d.norm() * b_d.norm())


def layers(perceptron):
    """Sizes and kinds of a perceptron's layers."""
    names = {nn.Linear: "linear", nn.BatchNorm1d: "norm", nn.ReLU: "relu"}
    sizes = [(layer.in_features, layer.out_features) for layer in perceptron if isinstance(layer, nn.Linear)]
    return sizes, [names[type(layer)] for layer in perceptron]


def seen_by(encoder):
    """A list that receives what an encoder is given."""
    given = []
    encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().clone()))
    return given


# What all three share: views.


@EVERY
def test_the_encoder_sees_different_views_of_each_image_in_order(name, images):
    method = built(name)
    given = seen_by(method.unet.encoder)
    method(Batch(images, seeded(3)), 1)
    first, second = method.view_options
    kinds = [(first, SIDE), (second if name == "byol" else first, SIDE)] + (
        [(second, SIDE)] * 4 if name == "swav" else []
    )
    expected = shown(images, seeded(3), kinds)
    found = [view for group in given for view in group.split(len(images))]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert (expected[0] - expected[1]).abs().mean() > 0.1


@EVERY
def test_brightness_and_contrast_of_a_view_reach_the_encoder(name, images, monkeypatch):
    """Normalising each view by its own moments would undo exactly what was drawn; nothing is clipped here."""
    still, seen = views.ViewOptions(smallest=1, largest=1, aspect=1, flip=0, jitter=0, blur=0), []
    for factor in (1.0, 1.3):
        drawn = views.draw(len(images), still, seeded())
        drawn = views.ViewParameters(
            drawn.affine_b23,
            factor * torch.ones(len(images)),
            drawn.contrast_b / factor,
            drawn.blur_b,
            drawn.solarise_b,
        )
        monkeypatch.setattr(views, "draw", lambda *_, drawn=drawn: drawn)
        method = built(name)
        seen.append(seen_by(method.unet.encoder))
        method(Batch(0.3 + 0.3 * images, seeded()), 1)
    assert float((seen[0][0] - seen[1][0]).abs().mean()) > 0.05


# SimCLR.


def test_simclr_is_the_loss_of_both_views_among_all(images):
    method = built("simclr", temperature=0.2)
    found = method(Batch(images, seeded(5)), 1)
    z = through(
        method.projector, embedded(method.unet.encoder, shown(images, seeded(5), [(method.view_options[0], SIDE)] * 2))
    )
    count, total = len(images), 0.0
    for i in range(2 * count):
        scores = torch.stack([cosine(z[i], z[k]) / 0.2 for k in range(2 * count) if k != i])
        total = total + scores.logsumexp(0) - cosine(z[i], z[(i + count) % (2 * count)]) / 0.2
    torch.testing.assert_close(found, total / (2 * count), rtol=1e-4, atol=1e-5)


def test_simclr_has_a_projector_of_two_layers_with_batchnorm_to_128():
    method = built("simclr")
    assert layers(method.projector) == ([(64, 64), (64, 128)], ["linear", "norm", "relu", "linear", "norm"])
    assert all(layer.bias is None for layer in method.projector if isinstance(layer, nn.Linear))
    assert method.temperature == 0.5 and method.transfers == ("encoder",)


# BYOL.


def byol_loss(method, given):
    """2 - 2 cos, image by image and both ways."""
    first, second = through(method.predictor, through(method.projector, embedded(method.unet.encoder, given))).chunk(2)
    with torch.no_grad():
        one, other = through(method.target_projector, embedded(method.target_encoder, given)).chunk(2)
    terms = [4 - 2 * cosine(first[i], other[i]) - 2 * cosine(second[i], one[i]) for i in range(len(first))]
    return torch.stack(terms).mean()


def stirred(method, share=0.3):
    """A target that differs from the online network."""
    with torch.no_grad():
        for index, parameter in enumerate(method.target_parameters()):
            parameter.add_(share * parameter.abs().mean() * torch.randn(parameter.shape, generator=seeded(index)))
    return method


def test_byol_is_the_sum_of_both_directions(images):
    method = stirred(built("byol"))
    found = method(Batch(images, seeded(5)), 1)
    expected = byol_loss(method, shown(images, seeded(5), [(how, SIDE) for how in method.view_options]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    ours = torch.autograd.grad(found, list(method.predictor.parameters()) + list(method.unet.encoder.parameters()))
    theirs = torch.autograd.grad(expected, list(method.predictor.parameters()) + list(method.unet.encoder.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4)


def test_byol_does_not_care_which_view_is_first(images, monkeypatch):
    method = stirred(built("byol"))
    pair = [torch.rand(images.shape, generator=seeded(seed)) for seed in range(2)]
    values = []
    for order in (pair, pair[::-1]):
        waiting = iter(order)
        monkeypatch.setattr(_views, "view", lambda *_, waiting=waiting: next(waiting))
        values.append(method(Batch(images, seeded()), 1))
    torch.testing.assert_close(*values)


def test_byols_target_counts_but_gets_no_gradient(images):
    method = built("byol")
    before = method(Batch(images, seeded(1)), 1)
    before.backward()
    assert all(p.grad is None and not p.requires_grad for p in method.target_parameters())
    for part in (method.unet.encoder, method.projector, method.predictor):
        assert all(p.grad is not None for p in part.parameters()) and any(
            p.grad.abs().max() > 0 for p in part.parameters()
        )
    assert abs(float((stirred(method)(Batch(images, seeded(1)), 1) - before).detach())) > 1e-3


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.7, 1.0])
def test_byols_target_follows_by_one_less_tau(progress):
    method = stirred(built("byol", tau=0.9))
    before = [p.clone() for p in method.target_parameters()]
    online = [*method.unet.encoder.parameters(), *method.projector.parameters()]
    still = copy.deepcopy(method.unet.state_dict()), copy.deepcopy(method.predictor.state_dict())
    method.after_step(progress)
    tau = 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2
    for old, its, new in zip(before, online, method.target_parameters(), strict=True):
        torch.testing.assert_close(new, tau * old + (1 - tau) * its)
        assert progress < 1 or torch.equal(new, old)
    for module, state in zip((method.unet, method.predictor), still):
        assert all(torch.equal(value, module.state_dict()[key]) for key, value in state.items())


def test_byols_target_starts_as_the_online_network_and_is_its_own():
    method = built("byol", tau=0.0)
    online = [*method.unet.encoder.parameters(), *method.projector.parameters()]
    assert all(torch.equal(a, b) and a is not b for a, b in zip(method.target_parameters(), online, strict=True))
    stirred(method).after_step(0.0)  # tau 0: the target is the online network at once
    assert all(torch.equal(a, b) for a, b in zip(method.target_parameters(), online, strict=True))


@pytest.mark.parametrize("width, hidden, expected", [(64, 0, 4096), (16, 0, 1024), (4, 0, 256), (4, 33, 33)])
def test_byols_hidden_size_follows_the_width(width, hidden, expected):
    module = methods.find("byol")
    with torch.device("meta"):
        method = module.build(module.Config(hidden=hidden), UNet(width=width), EPOCHS)
    kinds = ["linear", "norm", "relu", "linear"]
    assert (
        layers(method.projector)
        == layers(method.target_projector)
        == ([(16 * width, expected), (expected, 256)], kinds)
    )
    assert layers(method.predictor) == ([(256, expected), (expected, 256)], kinds)


def test_byols_two_kinds_of_views():
    first, second = built("byol").view_options
    assert (first.blur, second.blur, first.solarise, second.solarise) == (1.0, 0.1, 0.0, 0.2)
    assert first.smallest == second.smallest == 0.08 and first.largest == second.largest == 1


# SwAV.


class Says(nn.Module):
    """A projector that answers with given rows, as many as it is asked for."""

    def __init__(self, rows_vd):
        super().__init__()
        self.rows_vd = nn.Parameter(rows_vd)

    def forward(self, x_vd):
        return self.rows_vd[: len(x_vd)]


def test_swav_predicts_the_codes_of_the_large_views_from_all_others(images):
    method = built("swav", crops=3, prototypes=7, temperature=0.2, epsilon=0.1)
    found = method(Batch(images, seeded(5)), 30)
    large, small = method.view_options
    drawn = shown(images, seeded(5), [(large, SIDE)] * 2 + [(small, SIDE)] * 3)
    z = through(
        method.projector,
        torch.cat([embedded(method.unet.encoder, drawn[:2]), embedded(method.unet.encoder, drawn[2:])]),
    )
    scores = torch.stack([torch.stack([cosine(row, c) for c in method.prototypes]) for row in z]).split(len(images))
    terms = []
    for one in (0, 1):
        code = torch.exp(scores[one].detach().double() / 0.1)
        for _ in range(3):
            code = code / code.sum(dim=0, keepdim=True)
            code = code / code.sum(dim=1, keepdim=True)
        for other in {0, 1, 2, 3, 4} - {one}:
            exponents = torch.exp(scores[other].double() / 0.2)
            terms.append(-(code * (exponents / exponents.sum(dim=1, keepdim=True)).log()).sum() / len(images))
    assert len(terms) == 8
    torch.testing.assert_close(found.double(), sum(terms) / 8, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("crops, side, small", [(4, 224, 96), (6, 256, 112), (0, 64, 0), (1, 32, 32)])
def test_swavs_crops(monkeypatch, crops, side, small):
    """Two large views of the image's side, and crops at 96 of 224 (never below 32 pixels); codes are made for the large
    ones only.
    """
    method, shapes, coded = built("swav", crops=crops), [], []

    def embed(encoder, x_b1hw, *_):
        shapes.append(tuple(x_b1hw.shape))
        return torch.randn(len(x_b1hw), 64, generator=seeded(1))

    monkeypatch.setattr(_views, "embed", embed)
    real = losses.sinkhorn
    monkeypatch.setattr(losses, "sinkhorn", lambda scores, *more: coded.append(scores) or real(scores, *more))
    assert method(Batch(torch.rand(3, 1, side, side), seeded()), 1).isfinite()
    assert shapes == [(6, 1, side, side)] + [(3 * crops, 1, small, small)] * bool(crops)
    assert [tuple(scores.shape) for scores in coded] == [(3, 64)] * 2 and not torch.equal(*coded)
    assert not any(scores.requires_grad for scores in coded)
    large, few = method.view_options
    assert (large.smallest, large.largest, few.smallest, few.largest) == (0.5, 1, 0.2, 0.5)


def test_swavs_prototypes_are_frozen_at_the_start_and_learnt_after(images):
    method = built("swav", frozen=0.1, crops=0)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    moved = []
    for epoch in (1, 4, 5, EPOCHS):  # a tenth of 40 epochs is frozen
        before, encoder = method.prototypes.detach().clone(), next(method.unet.encoder.parameters()).detach().clone()
        optimizer.zero_grad()
        method(Batch(images, seeded(epoch)), epoch).backward()
        optimizer.step()
        moved.append(not torch.equal(before, method.prototypes))
        assert not torch.equal(encoder, next(method.unet.encoder.parameters()))
    assert moved == [False, False, True, True]
    assert methods.find("swav").build(methods.find("swav").Config(), UNet(width=2), 200).thawed == 5
    assert built("swav", frozen=0.0).thawed == 1


def test_swavs_prototypes_are_directions(images):
    method = built("swav")
    torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(64))
    before = method(Batch(images, seeded(1)), 9)
    with torch.no_grad():
        method.prototypes.mul_(torch.linspace(0.2, 5, 64)[:, None])
    torch.testing.assert_close(method(Batch(images, seeded(1)), 9), before)


def test_swavs_loss_of_one_point_is_ln_k(images):
    method = built("swav", prototypes=8, projection=16)
    method.projector = Says(torch.eye(16)[[0]].repeat(100, 1))
    # nothing below it, wherever the point lies
    assert float(method(Batch(images, seeded()), 1).detach()) >= math.log(8)
    with torch.no_grad():
        method.prototypes.copy_(torch.eye(16)[8:])  # all as far from it
    assert float(method(Batch(images, seeded()), 1).detach()) == pytest.approx(math.log(8), rel=1e-6)


def test_swav_stops_when_all_views_belong_to_all_prototypes_alike(images):
    """Embeddings that differ well, but only in directions that no prototype looks into."""
    method = built("swav", prototypes=8, projection=16, crops=0)
    rows = torch.zeros(24, 16)
    rows[:, :8] = torch.randn(24, 8, generator=seeded())
    method.projector = Says(rows)
    with torch.no_grad():
        method.prototypes.copy_(torch.eye(16)[8:])
    method(Batch(images, seeded()), 30)
    with pytest.raises(FloatingPointError, match=r"prototypes have collapsed in epoch 30.*1\.000 of ln 8.*Stopped"):
        method.epoch_metrics(30)


def test_swav_goes_on_when_predictions_are_only_still_wrong(images):
    """Sharp codes that no other view foresees: a loss above ln K, as early in a run on few images, and no collapse."""
    method = built("swav", prototypes=8, projection=16, crops=0)
    method.projector = Says(torch.randn(24, 16, generator=seeded(1)))
    assert float(method(Batch(images, seeded()), 30).detach()) > math.log(8)
    state = method.epoch_metrics(30)
    assert state["loss_over_ln_k"] > 1 and state["effective_rank"] > 8 and state["spread"] > 0.5


def test_swav_records_its_loss_over_ln_k(images):
    method = built("swav", prototypes=20)
    assert method.epoch_metrics(1) == {}
    loss = method(Batch(images, seeded()), 1)
    state = method.epoch_metrics(1)
    assert state["loss_over_ln_k"] == pytest.approx(float(loss.detach()) / math.log(20))
    assert set(state) == {"alignment", "spread", "effective_rank", "directions", "loss_over_ln_k", "entropy_over_ln_k"}


def test_swav_stops_when_every_view_belongs_to_all_prototypes_alike(images):
    method = built("swav", prototypes=8, projection=16)
    method.projector = Says(torch.ones(24, 16) + 1e-4 * torch.randn(24, 16, generator=seeded(1)))
    method(Batch(images, seeded()), 30)
    state = _views.health(*healthy()) | {"entropy_over_ln_k": 0.9}
    method.refuse_collapse(state, 30)
    with pytest.raises(
        FloatingPointError,
        match="prototypes have collapsed in epoch 30: every view belongs to all 8 alike .*fewer prototypes",
    ):
        method.refuse_collapse(state | {"entropy_over_ln_k": method._scalars["entropy_over_ln_k"]}, 30)


# Collapse.


def rows(count, size, seed=0):
    return torch.randn(count, size, generator=seeded(seed))


def healthy():
    a = rows(48, 12)
    return a, a + 0.1 * rows(48, 12, 1)


def point():
    return (torch.ones(48, 12) + 1e-3 * rows(48, 12), torch.ones(48, 12) + 1e-3 * rows(48, 12, 1))


def line():
    """Along a short way from one direction towards another, and next to no noise."""
    at = 0.4 * torch.rand(48, 1, generator=seeded()) - 0.2
    return tuple(torch.eye(12)[0] + at * torch.eye(12)[1] + 1e-5 * rows(48, 12, seed) for seed in (1, 2))


def noisy_line():
    """Nearly all on one line, with a thousandth of its length as noise in each of 128 directions, as in any real
    training.
    """
    at = torch.randn(48, 1, generator=seeded())
    along = torch.eye(128)[0] + 0.3 * at * torch.eye(128)[1]
    return tuple(along + 1e-3 * rows(48, 128, seed) for seed in (1, 2))


def two_ends():
    """All on one axis."""
    side = torch.where(torch.rand(48, 1, generator=seeded()) < 0.5, -1.0, 1.0)
    return side * torch.ones(48, 12), side * torch.ones(48, 12)


def test_health_is_the_loops():
    a, b = healthy()
    found = _views.health(3 * a, b / 7)
    same = [float(cosine(a[i], b[i])) for i in range(48)]
    others = [float(cosine(a[i], b[k])) for i in range(48) for k in range(48) if i != k]
    unit = F.normalize(torch.cat([a, b]), dim=1)
    assert found["alignment"] == pytest.approx(np.mean(same) - np.mean(others), abs=1e-5)
    assert found["spread"] == pytest.approx(float((unit - unit.mean(0)).square().sum(1).mean()), abs=1e-5)
    assert found["effective_rank"] == pytest.approx(slow_effective_rank(unit), rel=1e-4)
    assert found["alignment"] > 0.9 and found["spread"] > 0.9 and found["effective_rank"] > 10
    assert _views.health(a, rows(48, 12, 9))["alignment"] == pytest.approx(0, abs=0.15)


def slow_effective_rank(z_bd):
    values = np.linalg.svd(z_bd.double().numpy() - z_bd.double().numpy().mean(0), compute_uv=False)
    share = [value / values.sum() for value in values if value > 0]
    return math.exp(-sum(value * math.log(value) for value in share))


def test_effective_rank_of_known_cases():
    assert _views.effective_rank(torch.full((9, 4), 3.0)) == 1
    assert _views.effective_rank(torch.randn(9, 1, generator=seeded()) * torch.ones(1, 4)) == pytest.approx(1, abs=1e-4)
    both_ways = torch.cat([torch.eye(6), -torch.eye(6)])
    assert _views.effective_rank(both_ways) == pytest.approx(6)  # isotropic: all six directions
    assert _views.effective_rank(both_ways * torch.tensor([1.0, 1, 1, 0, 0, 0])) == pytest.approx(3)
    assert _views.effective_rank(both_ways * torch.tensor([3.0, 1, 0, 0, 0, 0])) == pytest.approx(4 / 3**0.75)
    assert _views.effective_rank(rows(4000, 8)) == pytest.approx(8, abs=0.05)
    assert _views.effective_rank(rows(5, 80)) <= 4 + 1e-6  # five centred rows


def test_effective_rank_is_numpys_and_knows_no_place_size_or_turn():
    z = rows(30, 7) * torch.linspace(0.1, 3, 7)
    turn, _ = torch.linalg.qr(rows(7, 7, 5).double())
    found = _views.effective_rank(z)
    assert found == pytest.approx(slow_effective_rank(z), rel=1e-6)
    assert _views.effective_rank(1e-4 * z.double() @ turn + 5) == pytest.approx(found, rel=1e-4)


def test_a_healthy_representation_goes_on():
    state = _views.health(*healthy())
    assert _views.refuse_collapse(state, 3) is None


@EVERY
@pytest.mark.parametrize("collapsed", [point, line, noisy_line, two_ends])
def test_a_collapsed_representation_stops_the_run_with_a_sentence(name, collapsed):
    method = built(name)
    method.remember(*collapsed())
    with pytest.raises(
        FloatingPointError,
        match=r"representation has collapsed in epoch 17: .* directions.*spread.*learning rate.*Stopped",
    ):
        method.epoch_metrics(17)
    assert method.epoch_metrics(7), "it stops a network that has just begun"


@EVERY
def test_facts_are_of_the_last_batch_and_not_part_of_the_state(name, images):
    method = built(name)
    keys = set(method.state_dict())
    assert method.epoch_metrics(1) == {}
    method(Batch(images, seeded()), 1)
    state = method.epoch_metrics(1)
    assert {"alignment", "spread", "effective_rank"} <= set(state) and all(
        type(value) is float for value in state.values()
    )
    assert set(method.state_dict()) == keys


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_small_last_batch_that_is_distinguished_well_is_no_collapse(images):
    """So few images cannot span more directions than they are; an epoch may end on such a batch."""
    method, a = built("byol"), torch.eye(8)[:images]
    method.remember(a, a + 1e-3)
    assert method.epoch_metrics(5) is not None


@EVERY
def test_a_training_set_that_leaves_one_image_over_can_be_trained_on(name, quick_phantom, tmp_path):
    """Ten training images in batches of nine: the last batch has one."""
    out = pretrain.main(
        [
            "--method.name",
            name,
            "--data.name",
            "phantom",
            "--data.cases",
            "12",
            "--data.size",
            "32",
            "--model.width",
            "2",
            "--optim.epochs",
            "1",
            "--optim.batch",
            "9",
            "--run.picture_every",
            "0",
            "--run.device",
            "cpu",
            "--out",
            str(tmp_path),
        ]
    )
    assert out.exists()


# Learning.


@EVERY
def test_views_of_one_image_draw_together_and_images_stay_apart(name, images):
    method = built(name, **({"prototypes": 8} if name == "swav" else {}))  # there are twelve images
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=2e-3)

    @torch.no_grad()
    def state():
        found = []
        for seed in range(6):
            method(Batch(images, seeded(1000 + seed)), EPOCHS)
            found.append(method.epoch_metrics(1))
        return {key: float(np.mean([each[key] for each in found])) for key in ("alignment", "effective_rank")}

    before = state()
    for step in range(80):
        optimizer.zero_grad()
        method(Batch(images, seeded(step)), 20).backward()
        optimizer.step()
        method.after_step((step + 1) / 80)
    after = state()
    assert after["alignment"] > before["alignment"] + 0.05
    assert after["effective_rank"] > 4
