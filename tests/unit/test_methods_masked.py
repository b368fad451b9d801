"""MAE and SimMIM against loops: what is hidden, what the encoder sees, what is predicted and where."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mpsams import methods, patches, transforms
from mpsams.methods import Batch, _masked
from mpsams.unet import UNet

SIDE = 64
EVERY = pytest.mark.parametrize("name", ["mae", "simmim"])


@pytest.fixture(scope="module")
def images(phantoms):
    return F.interpolate(phantoms.stored_nchw[:5].float() / 255, (SIDE, SIDE), mode="area")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(name, channels=1, **options):
    torch.manual_seed(0)
    module = methods.find(name)
    return module.build(module.Config(**options), UNet(channels, channels, width=2), 10).train()


def hidden_of(method, images, seed=7):
    """The pixels that the method hides with that seed."""
    return _masked.hide(Batch(images, seeded(seed)), method.config.patch, method.config.ratio)


def seen_by(encoder):
    given = []
    encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().clone()))
    return given


class Says(nn.Module):
    """Answers with a picture of its own, whatever it is asked."""

    def __init__(self, picture_bchw):
        super().__init__()
        self.picture_bchw = nn.Parameter(picture_bchw)

    def forward(self, _):
        return self.picture_bchw


def blank(side):
    return Batch(torch.zeros(3, 1, side, side), seeded())


# What is hidden.


@pytest.mark.parametrize(
    "side, unit, ratio",
    [(256, 16, 0.75), (64, 16, 0.75), (48, 16, 0.75), (256, 32, 0.6), (64, 32, 0.6), (96, 32, 0.6), (32, 32, 0.6),
     (64, 16, 1.0), (64, 16, 0.01), (160, 16, 0.55), (160, 16, 0.07), (80, 16, 0.28)],
)  # fmt: skip
def test_whole_units_are_hidden_and_their_number_is_rounded_up(side, unit, ratio):
    hidden = _masked.hide(blank(side), unit, ratio)
    assert hidden.shape == (3, 1, side, side) and hidden.dtype == torch.bool
    units = patches.patchify(hidden.float(), unit)
    assert ((units == 0) | (units == 1)).all() and torch.equal(units.amin(2), units.amax(2))
    by_hand = math.ceil(units.shape[1] * Fraction(str(ratio)))
    assert units[:, :, 0].sum(1).tolist() == [by_hand] * 3


def test_the_papers_numbers_are_the_defaults():
    mae, simmim = methods.find("mae").Config(), methods.find("simmim").Config()
    assert (mae.patch, mae.ratio) == (16, 0.75) and (simmim.patch, simmim.ratio) == (32, 0.6)
    assert int(hidden_of(built("mae"), torch.zeros(1, 1, 256, 256)).sum()) == 192 * 16**2
    assert int(hidden_of(built("simmim"), torch.zeros(1, 1, 256, 256)).sum()) == 39 * 32**2  # 38.4 of 64, rounded up


def test_each_image_hides_its_own_units_and_each_unit_is_hidden_as_often():
    hidden = _masked.hide(Batch(torch.zeros(4000, 1, 12, 12), seeded(1)), 4, 0.6).float()
    counts = patches.patchify(hidden, 4)[:, :, 0].sum(0)
    assert (counts / 4000 - 6 / 9).abs().max() < 0.035 and not torch.equal(hidden[0], hidden[1])
    state = torch.get_rng_state()
    assert torch.equal(_masked.hide(blank(48), 16, 0.5), _masked.hide(blank(48), 16, 0.5))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="32.*divide"):
        _masked.hide(blank(48), 32, 0.5)


# What the encoder sees.


@EVERY
def test_of_hidden_pixels_only_the_images_mean_and_deviation_reach_the_encoder(name, images):
    """Hidden pixels that change places change nothing; the image is normalised before it is masked, as for the paper's
    method.
    """
    method = built(name)
    hidden = hidden_of(method, images)
    other = images.clone()
    for b in range(len(images)):
        values = images[b][hidden[b]]
        other[b][hidden[b]] = values[torch.randperm(len(values), generator=seeded(b))]
    assert (other - images).abs().max() > 0.1 and torch.equal(other[~hidden], images[~hidden])
    given = seen_by(method.unet.encoder)
    for each in (images, other):
        method(Batch(each, seeded(7)), 1)
    torch.testing.assert_close(given[0], given[1], rtol=1e-4, atol=1e-5)


@EVERY
def test_a_prediction_does_not_know_what_is_hidden(name, images):
    method, x = built(name), transforms.standardise(images)
    hidden = hidden_of(method, images)
    found = method.predict(x, hidden)
    assert torch.equal(found, method.predict(torch.where(hidden, 9.0, x), hidden))
    assert not torch.equal(found, method.predict(torch.where(hidden, x, x.flip(3)), hidden))


def test_mae_sees_zeros_and_simmim_its_token_in_hidden_units(images):
    x = transforms.standardise(images)
    for name in ("mae", "simmim"):
        method = built(name)
        hidden, given = hidden_of(method, images), seen_by(method.unet.encoder)
        method(Batch(images, seeded(7)), 1)
        (seen,) = given
        assert torch.equal(seen[~hidden], x[~hidden])
        if name == "mae":
            assert (seen[hidden] == 0).all()
        for b in range(len(images) if name == "simmim" else 0):
            for top in range(0, SIDE, 32):
                for left in range(0, SIDE, 32):
                    if hidden[b, 0, top, left]:
                        assert torch.equal(seen[b, 0, top : top + 32, left : left + 32], method.token_1cuu[0, 0])


def test_simmims_token_is_learnt_where_something_is_hidden(images):
    method = built("simmim")
    assert (
        method.token_1cuu.requires_grad and method.token_1cuu.shape == (1, 1, 32, 32) and method.token_1cuu.std() > 0.01
    )
    method(Batch(images, seeded(7)), 1).backward()
    assert (method.token_1cuu.grad != 0).float().mean() > 0.95
    (gradient,) = torch.autograd.grad(
        method.predict(images, torch.zeros(5, 1, SIDE, SIDE, dtype=torch.bool)).sum(), method.token_1cuu
    )
    assert not gradient.any()


# What is predicted.


@pytest.mark.parametrize("channels", [1, 2])
def test_mae_is_the_squared_error_of_hidden_patches_each_normalised(images, channels):
    images = torch.cat([images, images.flip(2).sqrt()], dim=1)[:, :channels]
    images[0, :, :16] = 0.5  # patches of one value
    method = built("mae", channels)
    found = method(Batch(images, seeded(7)), 1)
    x, hidden = transforms.standardise(images), hidden_of(method, images)
    predicted = method.decoder(method.unet.encoder(torch.where(hidden, torch.zeros(()), x))[-1]).detach()
    total, count = 0.0, 0
    for b in range(len(images)):
        for top in range(0, SIDE, 16):
            for left in range(0, SIDE, 16):
                if hidden[b, 0, top, left]:
                    here = (b, slice(None), slice(top, top + 16), slice(left, left + 16))
                    values = x[here].double()
                    variance = (values - values.mean()).square().sum() / (values.numel() - 1)
                    total += float(
                        (((values - values.mean()) / (variance + 1e-6).sqrt() - predicted[here]) ** 2).mean()
                    )
                    count += 1
    assert count == 12 * len(images) and float(found.detach()) == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
def test_simmim_is_the_absolute_error_of_hidden_pixels(images, channels):
    images = torch.cat([images, images.flip(2).sqrt()], dim=1)[:, :channels]
    method = built("simmim", channels)
    found = method(Batch(images, seeded(7)), 1)
    x, hidden = transforms.standardise(images), hidden_of(method, images)
    token = torch.cat([torch.cat([method.token_1cuu] * 2, dim=2)] * 2, dim=3)
    predicted = method.layer(method.unet.encoder(torch.where(hidden, token, x))[-1]).detach()
    errors = [
        float((predicted - x)[b, c][hidden[b, 0]].abs().double().mean())
        for b in range(len(images))
        for c in range(channels)
    ]
    assert float(found.detach()) == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@EVERY
def test_only_hidden_pixels_are_learnt_from(name, images):
    method = built(name)
    part = "decoder" if name == "mae" else "layer"
    picture = Says(torch.randn(5, 1, SIDE, SIDE, generator=seeded(2)))
    setattr(method, part, picture)
    method(Batch(images, seeded(7)), 1).backward()
    hidden = hidden_of(method, images)
    assert not picture.picture_bchw.grad[~hidden].any() and (picture.picture_bchw.grad[hidden] != 0).all()


def test_mae_is_right_when_each_patch_is_itself_normalised(images):
    """The loss of the target itself is nothing; of zeros it is the targets' mean square, 255 / 256 a patch."""
    method, x = built("mae"), transforms.standardise(images)
    p = patches.patchify(x, 16)
    target = (p - p.mean(2, keepdim=True)) / (p.var(2, keepdim=True) + 1e-6).sqrt()
    method.decoder = Says(patches.unpatchify(target, 16, SIDE, SIDE))
    assert float(method(Batch(images, seeded(7)), 1).detach()) < 1e-8
    method.decoder = Says(torch.zeros(5, 1, SIDE, SIDE))
    assert float(method(Batch(images, seeded(7)), 1).detach()) == pytest.approx(255 / 256, rel=1e-3)


# The heads.


@pytest.mark.parametrize("channels", [1, 2])
def test_each_cell_of_the_bottleneck_predicts_its_own_pixels(channels):
    """One cell lit, with a value of its own for each of its 16 x 16 pixels: they lie in its square, row by row."""
    layer = _masked.head(UNet(channels, channels, width=2))
    convolution, shuffle = layer
    assert convolution.kernel_size == (1, 1) and isinstance(shuffle, nn.PixelShuffle)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.bias.zero_()
        convolution.weight[:, 5, 0, 0] = torch.arange(1, 256 * channels + 1)
        cells = torch.zeros(1, 32, 3, 4)
        cells[0, 5, 1, 2] = 1
        picture = layer(cells)
    expected = torch.zeros(1, channels, 48, 64)
    for c in range(channels):
        for row in range(16):
            for column in range(16):
                expected[0, c, 16 + row, 32 + column] = 1 + 256 * c + 16 * row + column
    assert torch.equal(picture, expected)


def test_simmims_head_is_one_layer_and_maes_a_light_decoder():
    simmim, mae = built("simmim"), built("mae")
    assert [type(layer) for layer in simmim.layer] == [nn.Conv2d, nn.PixelShuffle]
    assert [type(layer) for layer in mae.decoder] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2 + [
        nn.Conv2d,
        nn.PixelShuffle,
    ]
    module = methods.find("mae")
    with torch.device("meta"):
        method = module.build(module.Config(), UNet(width=64), 1)
    parts = method.decoder, method.unet.decoder, method.unet.encoder
    light, heavy, encoder = (sum(p.numel() for p in part.parameters()) for part in parts)
    assert light < heavy / 3 and light < encoder / 4
    assert method.decoder[0].out_channels == 256 and built("mae", hidden=24).decoder[0].out_channels == 24


@EVERY
def test_only_the_encoder_is_handed_on_and_nothing_of_the_head(name, images):
    method = built(name)
    assert method.transfers == ("encoder",)
    assert set(method.unet.state_dict()) == set(UNet(width=2).state_dict())
    method(Batch(images, seeded()), 1).backward()
    assert all(p.grad is not None for p in method.unet.encoder.parameters())
    assert all(p.grad is None for part in (method.unet.decoder, method.unet.head) for p in part.parameters())


# Pictures.


@EVERY
def test_a_perfect_prediction_fills_in_the_image(name, images, monkeypatch):
    method, x = built(name).eval(), transforms.standardise(images)
    mean, deviation = patches.moments(x, 16)
    monkeypatch.setattr(method, "predict", lambda x_b1hw, hidden: (x - mean) / deviation if name == "mae" else x)
    pictures = method.preview(Batch(images, seeded(7)), 1)
    hidden = hidden_of(method, images)
    torch.testing.assert_close(pictures["reconstruction"], images, rtol=0, atol=1e-5)
    assert float(pictures["error"].max()) < 1e-5 and torch.equal(pictures["image"], images)
    assert (pictures["visible"][hidden] == 0.5).all() and torch.equal(pictures["visible"][~hidden], images[~hidden])


@EVERY
def test_what_is_visible_is_left_as_it_is(name, images):
    pictures = built(name).eval().preview(Batch(images, seeded(7)), 1)
    hidden = hidden_of(built(name), images)
    assert torch.equal(pictures["reconstruction"][~hidden], images[~hidden]) and not pictures["error"][~hidden].any()
    assert pictures["error"][hidden].mean() > 0.01


@pytest.mark.parametrize(
    "name, option, value",
    [
        ("mae", "patch", 0),
        ("mae", "ratio", 0.0),
        ("mae", "ratio", 1.1),
        ("mae", "ratio", math.nan),
        ("mae", "hidden", -1),
        ("simmim", "patch", 0),
        ("simmim", "ratio", 0.0),
        ("simmim", "ratio", 1.1),
        ("simmim", "ratio", math.nan),
    ],
)
def test_options_that_make_no_sense_are_refused(name, option, value):
    with pytest.raises(ValueError, match=f"{option} {value}"):
        methods.find(name).Config(**{option: value})
