"""The contract that every pretraining method keeps, and what tells the four variants of the paper's apart."""

import inspect
import math
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mpsams import clusters, losses, masking, methods, patches, schedule, transforms
from mpsams.methods import Batch, Method, mps_ams
from mpsams.selectors import geodesic
from mpsams.unet import UNet

EVERY = pytest.mark.parametrize("name", methods.available())
EPOCHS = 40


@pytest.fixture
def images(phantoms):
    return F.interpolate(phantoms.stored_nchw[:8].float() / 255, (64, 64), mode="area")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(name, **options) -> Method:
    torch.manual_seed(0)
    module = methods.find(name)
    return module.build(module.Config(**options), UNet(width=4), EPOCHS)


def test_the_papers_method_is_there():
    assert "mps_ams" in methods.available()
    with pytest.raises(ValueError, match="'dino'.*mps_ams"):
        methods.find("dino")


def test_the_papers_rivals_are_there():
    """Table 1 of the paper; each hands on what SPEC says, under a name of its own."""
    rivals = {"simclr", "byol", "swav", "mae", "simmim"}
    assert rivals < set(methods.available()) and not any(name.startswith("_") for name in methods.available())
    for name in methods.available():
        method = built(name)
        assert (
            method.transfers == (("encoder",) if name in rivals else ("encoder", "decoder")) and method.variant == name
        )
    with pytest.raises(ValueError, match="'_views'"):
        methods.find("_views")


@EVERY
def test_config_is_a_frozen_dataclass_that_explains_every_option(name):
    config = methods.find(name).Config
    assert is_dataclass(config) and config.__dataclass_params__.frozen
    for field in fields(config):
        assert f"{field.name}:" in config.__doc__, f"{name}: {field.name} is not explained"
    assert list(inspect.signature(methods.find(name).build).parameters) == ["config", "unet", "epochs"]


@EVERY
def test_build_wraps_the_unet_and_says_what_it_hands_on(name):
    method = built(name)
    assert isinstance(method, Method) and isinstance(method.unet, UNet)
    assert set(method.transfers) and set(method.transfers) <= {"encoder", "decoder"} and "encoder" in method.transfers
    assert method.variant and method.variant == method.variant.lower()
    given = {id(p) for p in method.unet.parameters()}
    assert given <= {id(p) for p in method.parameters()}


@EVERY
def test_forward_is_a_finite_loss_with_gradient_for_what_it_hands_on(name, images):
    method = built(name).train()
    before = images.clone()
    for epoch in (1, EPOCHS // 2, EPOCHS):
        method.zero_grad()
        loss = method(Batch(images, seeded(epoch)), epoch)
        assert loss.shape == () and loss.isfinite() and loss.dtype == torch.float32
        loss.backward()
        for part in method.transfers:
            gradients = [p.grad for p in getattr(method.unet, part).parameters()]
            assert all(g is not None and g.isfinite().all() for g in gradients)
            assert any(g.abs().max() > 0 for g in gradients), f"{part} learns nothing"
    assert torch.equal(images, before), "the images were changed in place"


@EVERY
def test_the_generator_decides_and_nothing_else(name, images):
    values = []
    for seed, world in ((1, 10), (1, 20), (2, 10)):
        method = built(name).train()
        torch.manual_seed(world)
        values.append(float(method(Batch(images, seeded(seed)), 2).detach()))
    assert values[0] == values[1] != values[2]


@EVERY
def test_the_layout_in_memory_changes_nothing(name, images):
    values = []
    for layout in (torch.contiguous_format, torch.channels_last):
        method = built(name).to(memory_format=layout).train()
        values.append(method(Batch(images.contiguous(memory_format=layout), seeded(1)), 2).detach())
    torch.testing.assert_close(values[0], values[1], rtol=1e-3, atol=1e-4)


@EVERY
def test_several_channels_are_welcome(name, images):
    torch.manual_seed(0)
    module = methods.find(name)
    method = module.build(module.Config(), UNet(channels=3, classes=3, width=2), EPOCHS).train()
    several = Batch(torch.cat([images, images.flip(2), images.sqrt()], dim=1)[:4], seeded(1))
    loss = method(several, 2)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.unet.encoder.parameters())


@EVERY
def test_the_loss_falls(name, images):
    method = built(name).train()
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)

    def average(epoch=10):
        with torch.no_grad():
            return sum(float(method(Batch(images, seeded(seed)), epoch)) for seed in range(4)) / 4

    before = average()
    for step in range(30):
        optimizer.zero_grad()
        method(Batch(images, seeded(step)), 10).backward()
        optimizer.step()
        method.after_step((step + 1) / 30)
    assert average() < 0.95 * before


@EVERY
def test_after_step_facts_and_state(name):
    method = built(name)
    for progress in (0.01, 0.5, 1.0):
        assert method.after_step(progress) is None
    assert all(isinstance(value, float | int) and math.isfinite(value) for value in method.epoch_metrics(1).values())
    other = built(name)
    other.load_state_dict(method.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(other.state_dict().values(), method.state_dict().values(), strict=True)
    )


@EVERY
def test_preview_is_pictures(name, images):
    method = built(name).eval()
    pictures = method.preview(Batch(images[:3], seeded()), 5)
    for title, picture in pictures.items():
        assert title and picture.shape == (3, 1, 64, 64) and not picture.requires_grad
        assert picture.isfinite().all() and picture.min() >= 0 and picture.max() <= 1, title
    again = method.preview(Batch(images[:3], seeded()), 5)
    assert all(torch.equal(again[title], picture) for title, picture in pictures.items())


class Echo(nn.Module):
    """Stands in for the U-Net: keeps what it is shown and answers with a constant."""

    def forward(self, x_b1hw):
        self.seen = x_b1hw
        return torch.full_like(x_b1hw, 0.25)


def masked(images, epoch, **options):
    """Loss, hidden pixels and what the network saw, of one variant."""
    method = mps_ams.build(mps_ams.Config(**options), Echo(), EPOCHS)
    hidden = method.hide(Batch(images, seeded(7)), epoch)
    return method(Batch(images, seeded(7)), epoch), hidden, method.unet.seen


@pytest.mark.parametrize("ratio, variant", [("fixed", "base_oracle"), ("adaptive", "oracle_ams")])
def test_truth_first_hides_the_lesion_by_its_masks(phantoms, images, ratio, variant):
    truth = phantoms.stored_n1hw[:8].reshape(8, 1, 64, 4, 64, 4).float().mean(dim=(3, 5)) >= 0.5
    method = mps_ams.build(mps_ams.Config(order="truth-first", ratio=ratio, patch=8), Echo(), EPOCHS)
    known = method.precompute_mask(images, truth)
    by_hand = torch.tensor(
        [
            [
                [float(t[0, r : r + 8, c : c + 8].float().mean()) > 0.25 for c in range(0, 64, 8)]
                for r in range(0, 64, 8)
            ]
            for t in truth
        ]
    )
    assert method.variant == variant and torch.equal(known, by_hand) and known.any()
    hidden = method.hide(Batch(images, seeded(7), known), 1)
    lesion = patches.to_pixels(known.flatten(1), 8, 64, 64)
    assert (hidden | ~lesion).all() or known.flatten(1).sum(1).max() > 64 * method.ratio(1)
    with pytest.raises(ValueError, match="needs the masks"):
        method.hide(Batch(images, seeded(7)), 1)


def test_geodesic_is_an_order_of_the_method(images):
    method = mps_ams.build(mps_ams.Config(selector="geodesic"), Echo(), EPOCHS)
    expected = masking.cut(
        masking.order(clusters.split_numbers(geodesic.distance(images, 16)).lesion_bl, seeded(7)), 0.25
    )
    assert torch.equal(method.hide(Batch(images, seeded(7)), 1), patches.to_pixels(expected, 16, 64, 64))
    with pytest.raises(ValueError, match="selector 'ascent' must be one of .*, geodesic"):
        mps_ams.Config(selector="ascent")


VARIANTS = [
    ("random", "fixed", "base"),
    ("random", "adaptive", "base_ams"),
    ("lesion-first", "fixed", "base_mps"),
    ("lesion-first", "adaptive", "mps_ams"),
]


@pytest.mark.parametrize("order, ratio, variant", VARIANTS)
def test_a_variant_is_an_order_and_a_ratio(images, order, ratio, variant):
    method = mps_ams.build(mps_ams.Config(order=order, ratio=ratio), Echo(), EPOCHS)
    assert method.variant == variant and method.transfers == ("encoder", "decoder")
    for epoch in (1, 17, EPOCHS):
        share = 0.75 if ratio == "fixed" else schedule.mask_ratio(1 + (epoch - 1) * 799 / (EPOCHS - 1))
        assert method.ratio(epoch) == pytest.approx(share) and method.epoch_metrics(epoch) == {
            "ratio": method.ratio(epoch)
        }
        lesion = clusters.lesion_patches(images) if order == "lesion-first" else torch.zeros(8, 16, dtype=torch.bool)
        expected = masking.cut(masking.order(lesion, seeded(7)), share)
        _, hidden, _ = masked(images, epoch, order=order, ratio=ratio)
        assert (
            torch.equal(hidden, patches.to_pixels(expected, 16, 64, 64))
            and expected.sum(1).tolist() == [math.floor(16 * share)] * 8
        )


def test_the_defaults_are_the_papers():
    config = mps_ams.Config()
    assert mps_ams.VARIANTS[config.order, config.ratio] == "mps_ams"
    assert (config.fixed_ratio, config.start, config.tau, config.horizon, config.patch) == (0.75, 0.25, 12.0, 800, 16)
    assert config.selector == "covariance-of-softmax" and not config.normalise_target


def test_without_horizon_epochs_count_as_they_are():
    method = mps_ams.build(mps_ams.Config(horizon=0, start=0.3, tau=10.0), Echo(), EPOCHS)
    assert [method.ratio(e) for e in (1, 10)] == pytest.approx([0.3, 0.3 + math.log(10) / 10])


@pytest.mark.parametrize("order, ratio, variant", VARIANTS)
def test_the_network_sees_zeros_and_the_loss_counts_hidden_pixels_only(images, order, ratio, variant):
    loss, hidden, seen = masked(images, 9, order=order, ratio=ratio)
    x = transforms.standardise(images)
    assert (seen[hidden] == 0).all() and torch.equal(seen[~hidden], x[~hidden])
    assert float(loss) == pytest.approx(float(((0.25 - x[hidden]) ** 2).mean()), rel=1e-5)


def test_normalised_targets_are_the_loops(images):
    loss, hidden, _ = masked(images, 9, normalise_target=True)
    x, target = transforms.standardise(images), torch.empty_like(images)
    for b in range(8):
        for top in range(0, 64, 16):
            for left in range(0, 64, 16):
                patch = x[b, 0, top : top + 16, left : left + 16]
                target[b, 0, top : top + 16, left : left + 16] = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
    torch.testing.assert_close(loss, losses.masked_mse(torch.full_like(x, 0.25), target, hidden))


def test_clustering_options_reach_the_clusters(images):
    for options in ({"selector": "softmax-of-covariance"}, {"normalise": "raw"}, {"temperature": 4.0}):
        method = mps_ams.build(mps_ams.Config(**options), Echo(), EPOCHS)
        assert torch.equal(method.lesion(images), clusters.lesion_patches(images, 16, **options))
    assert mps_ams.build(mps_ams.Config(patch=8), Echo(), EPOCHS).lesion(images).shape == (8, 64)


@pytest.mark.parametrize(
    "option, value",
    [("order", "first"), ("ratio", "0.75"), ("fixed_ratio", 1.5), ("fixed_ratio", float("nan")), ("selector", "cosine"),
     ("normalise", "no"), ("temperature", 0.0), ("tau", 0.0), ("patch", 0), ("horizon", -1)],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_before_any_training(option, value):
    with pytest.raises(ValueError, match=option):
        replace(mps_ams.Config(), **{option: value})


def test_every_rival_says_in_what_it_differs_from_its_paper():
    """One text each, from the method's own file; it goes into the reports, README.md and the Results tab."""
    deviations = methods.deviations()
    assert (
        deviations.keys() == {"all", "simclr", "byol", "swav", "mae", "simmim"}
        and "queue" in deviations["swav"]
        and "Adam" in deviations["all"]
    )
    assert all(" ".join(text.split()) == text and text.endswith(".") for text in deviations.values())
