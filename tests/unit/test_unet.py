"""Sizes, shapes and refusals of the U-Net."""

import pytest
import torch

from mpsams.unet import NORMS, UNet, fold_batchnorm


@pytest.mark.parametrize("width, millions", [(64, 31.0), (32, 7.8), (16, 1.9)])
def test_parameters_at_the_stated_widths(width, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in UNet(width=width).parameters())
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("channels, classes, height, width", [(1, 1, 32, 32), (3, 2, 48, 32)])
def test_output_has_the_size_of_the_input(norm, channels, classes, height, width):
    net = UNet(channels, classes, width=2, norm=norm)
    out = net(torch.rand(2, channels, height, width))
    assert out.shape == (2, classes, height, width) and out.isfinite().all()
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_encoder_levels_double_channels_and_halve_sides():
    features = UNet(width=3).encoder(torch.rand(2, 1, 64, 32))
    assert [tuple(f.shape) for f in features] == [(2, 3 * 2**i, 64 // 2**i, 32 // 2**i) for i in range(5)]


def test_every_skip_reaches_the_output():
    """Changing any single feature map changes the output, so no skip is dropped."""
    torch.manual_seed(0)
    net = UNet(width=4).eval()
    with torch.no_grad():
        features = net.encoder(torch.rand(1, 1, 32, 32))
        whole = net.decoder(features)
        for level in range(5):
            changed = [f + 1.0 if i == level else f for i, f in enumerate(features)]
            assert (net.decoder(changed) - whole).abs().max() > 1e-6, level


def test_norm_layers_are_the_ones_asked_for():
    kinds = {"batch": torch.nn.BatchNorm2d, "instance": torch.nn.InstanceNorm2d, "group": torch.nn.GroupNorm}
    for norm, kind in kinds.items():
        layers = [m for m in UNet(width=4, norm=norm).modules() if isinstance(m, tuple(kinds.values()))]
        assert len(layers) == 18 and all(type(layer) is kind for layer in layers)


def test_state_is_named_encoder_decoder_head():
    assert {name.split(".")[0] for name in UNet(width=2).state_dict()} == {"encoder", "decoder", "head"}


def test_refusals_name_the_value():
    with pytest.raises(ValueError, match="'layer'.*batch, instance, group"):
        UNet(width=2, norm="layer")
    with pytest.raises(ValueError, match="width 0"):
        UNet(width=0)
    with pytest.raises(ValueError, match=r"16.*\(24, 32\)"):
        UNet(width=2)(torch.rand(1, 1, 24, 32))


@pytest.mark.parametrize("norm", NORMS)
def test_folded_gives_the_same_and_leaves_the_original(norm):
    torch.manual_seed(0)
    net = UNet(2, 3, width=4, norm=norm).eval()
    for name, tensor in net.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.3, 2) if name.endswith(("weight", "running_var")) else tensor.normal_(0, 0.5)
    before, x = {name: tensor.clone() for name, tensor in net.state_dict().items()}, torch.rand(2, 2, 48, 32)
    found = fold_batchnorm(net)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(found(x), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
        plain = UNet(2, 3, width=4, norm=norm).eval()
        plain.load_state_dict({name: t for name, t in before.items() if "running" not in name}, strict=False)
        assert norm != "batch" or (plain(x) - expected).abs().max() > 0.01 * expected.abs().max()
    kinds = [type(module) for module in found.modules()]
    assert kinds.count(torch.nn.BatchNorm2d) == 0 and kinds.count(torch.nn.Identity) == (18 if norm == "batch" else 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_folding_is_for_evaluation():
    with pytest.raises(ValueError, match="training mode"):
        fold_batchnorm(UNet(width=2))
