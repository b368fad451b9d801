"""The functions that the app and the evaluation call: epochs only cut, visible pixels stay, sizes come back."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpsams import checkpoint, clusters, inference, metrics, patches, precision, schedule, transforms, uncertainty
from mpsams.transforms import Box
from mpsams.unet import UNet

EPOCHS = (1, 2, 3, 10, 50, 100, 400, 800)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "phantom-mps_ams-pretrain.safetensors"
    metadata = {"kind": "pretrain", "size": 64, "model": {"channels": 1, "classes": 1, "width": 2, "norm": "batch"}}
    checkpoint.save(path, UNet(width=2).state_dict() | {"patch_covariance": torch.eye(16)}, metadata)
    return path


@pytest.fixture(scope="module")
def network(weights):
    return inference.open_network(weights, "float32")


@pytest.fixture
def native(network):
    """The network as one whose own size is that of the grid image."""
    return replace(network, metadata=network.metadata | {"size": 256})


@pytest.fixture
def image(phantoms):
    return phantoms.stored_nchw[:1].float() / 255


@pytest.fixture
def truth(phantoms):
    return phantoms.stored_n1hw[:1]


def test_open_network_and_catalogue(weights, network, tmp_path):
    assert network.size == 64 and not network.unet.training and torch.equal(network.patch_covariance, torch.eye(16))
    assert network.sha256 == checkpoint.load(weights).sha256
    assert inference.list_checkpoints(weights.parent) == {"phantom-mps_ams-pretrain": weights}
    assert inference.list_checkpoints(tmp_path) == {} == inference.list_checkpoints(tmp_path / "none")


@pytest.mark.parametrize(
    "agreement, precision_option, hardware, expected",
    [
        (0.9995, "auto", True, torch.bfloat16),
        (0.9985, "auto", True, torch.float32),  # its masks differ
        (None, "auto", True, torch.float32),  # a checkpoint of an earlier version, which was not compared
        (0.9995, "auto", False, torch.float32),
        (0.9995, "float32", True, torch.float32),
        (None, "bf16", False, torch.bfloat16),
    ],
)
def test_bfloat16_is_for_networks_whose_masks_agree(
    weights, tmp_path, monkeypatch, agreement, precision_option, hardware, expected
):
    found = checkpoint.load(weights)
    path = tmp_path / "one.safetensors"
    checkpoint.save(
        path,
        found.tensors,
        found.metadata | {"kind": "segmentation"} | ({} if agreement is None else {"bfloat16_dsc": agreement}),
    )
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: hardware)
    monkeypatch.setattr(precision, "cpu_speedup", lambda: 2.0)
    unet = inference.open_network(path, precision_option).unet
    assert unet.encoder.precision == unet.decoder.precision == expected


def test_pretrained_networks_fill_in_alike_in_bfloat16(weights, image, monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "cpu_speedup", lambda: 2.0)
    quick, exact = inference.open_network(weights), inference.open_network(weights, "float32")
    assert (quick.unet.encoder.precision, exact.unet.encoder.precision) == (torch.bfloat16, torch.float32)
    hidden_1l = torch.arange(256)[None] % 2 == 0
    pictures = [inference.reconstruct(each, image, hidden_1l, 16).filled_11ss for each in (quick, exact)]
    difference = (pictures[0] - pictures[1]).abs()
    assert 0 < difference.max() < 0.02 and difference.mean() < 0.002


def test_agreement_in_bfloat16_is_the_pooled_dsc_of_the_masks():
    torch.manual_seed(0)
    unet, batches = UNet(width=2).eval(), [torch.randn(2, 1, 32, 32), torch.randn(1, 1, 32, 32)]
    with torch.inference_mode():
        x = torch.cat(batches)
        unet.head.bias -= unet(x).mean()  # so that much is near the threshold
        exact, coarse = (unet.compute_in(each)(x) > 0 for each in (torch.float32, torch.bfloat16))
    assert exact.any() and (exact != coarse).any()
    expected = float(metrics.overlap(coarse.flatten()[None, None], exact.flatten()[None, None])["dsc"])
    assert inference.agreement_in_bfloat16(unet, batches) == pytest.approx(expected)
    assert unet.encoder.precision == torch.float32
    unet.head.bias.data.fill_(-100.0)
    assert inference.agreement_in_bfloat16(unet, batches) == 0.0  # nothing to compare


def test_to_grid_is_square_and_in_range():
    found = inference.to_grid(np.random.default_rng(0).random((50, 70), dtype=np.float32), 64)
    assert found.shape == (1, 1, 64, 64) and found.min() >= 0 and found.max() <= 1


def test_study_is_the_parts_put_together(image):
    of = inference.study(image, seed=3)
    assert of.length == 256 and torch.equal(of.clusters.lesion_bl, clusters.lesion_patches(image))
    assert of.lesion_size == of.clusters.lesion_bl.sum() > 0
    again, other = inference.study(image, seed=3), inference.study(image, seed=4)
    assert torch.equal(of.lesion_first_1l, again.lesion_first_1l) and torch.equal(of.random_1l, again.random_1l)
    assert not torch.equal(of.lesion_first_1l, other.lesion_first_1l) and not torch.equal(of.random_1l, other.random_1l)
    selector = inference.study(image, patch=32, selector="softmax-of-covariance")
    assert selector.length == 64 and torch.equal(
        selector.clusters.lesion_bl, clusters.lesion_patches(image, 32, "softmax-of-covariance")
    )


def test_the_epoch_only_cuts(image, monkeypatch):
    of = inference.study(image)
    monkeypatch.setattr(clusters, "split", None)  # clustering again would fail
    masks = [inference.mask_at(of, epoch) for epoch in EPOCHS]
    for one, next_one in zip(masks, masks[1:]):
        for name in ("lesion_first_1l", "random_1l"):
            assert (getattr(one, name) <= getattr(next_one, name)).all()
    assert (
        [int(m.lesion_first_1l.sum()) for m in masks]
        == [int(m.random_1l.sum()) for m in masks]
        == [m.hidden for m in masks]
    )
    assert masks[0].hidden == 64 and masks[-1].hidden == 206


def test_mask_at_holds_the_formulas_numbers(image):
    of = inference.study(image)
    for epoch in EPOCHS:
        mask = inference.mask_at(of, epoch)
        assert mask.epoch == epoch and mask.ratio == schedule.mask_ratio(epoch)
        assert mask.hidden == math.floor(256 * (0.25 + math.log(epoch) / 12))
        assert mask.bits == uncertainty.lesion_first_bits(256, of.lesion_size, mask.hidden) <= mask.random_bits
        lesion = of.clusters.lesion_bl
        assert float(mask.lesion_first_1l[lesion].float().mean()) == pytest.approx(mask.probability_lesion)
        assert float(mask.lesion_first_1l[~lesion].float().mean()) == pytest.approx(mask.probability_background)


def test_agreement_and_coverage_by_hand(image, truth):
    of = inference.study(image)
    found = inference.agreement(of, truth)
    share = truth[0, 0].reshape(16, 16, 16, 16).float().mean((1, 3)).flatten()
    lesion = share > 0.25
    assert torch.equal(found.truth_1l[0], lesion) and found.lesion_patches == lesion.sum() > 0
    chosen = of.clusters.lesion_bl[0]
    assert found.lift == pytest.approx(float((chosen & lesion).sum() / chosen.sum() / lesion.float().mean()))
    assert found.auc == metrics.auc(of.clusters.score_bl[0], lesion)
    hidden = inference.mask_at(of, 10).random_1l
    assert inference.coverage(hidden, found.truth_1l) == pytest.approx(float((hidden[0] & lesion).sum() / lesion.sum()))


def test_agreement_without_lesion_is_undefined(image, truth):
    found = inference.agreement(inference.study(image), torch.zeros_like(truth))
    assert math.isnan(found.lift) and math.isnan(found.auc) and found.lesion_patches == 0
    assert math.isnan(inference.coverage(torch.ones(1, 256, dtype=torch.bool), found.truth_1l))


def test_reconstruction_leaves_visible_pixels_untouched(network, image, truth):
    of = inference.study(image)
    hidden = inference.mask_at(of, 100).lesion_first_1l
    found = inference.reconstruct(network, image, hidden, 16, truth)
    pixels = patches.to_pixels(hidden, 16, 256, 256)
    assert torch.equal(found.filled_11ss[~pixels], image[~pixels]) and (found.error_11ss[~pixels] == 0).all()
    assert torch.equal(found.masked_11ss[~pixels], image[~pixels])
    torch.testing.assert_close(found.masked_11ss[pixels], image.mean().expand(int(pixels.sum())))
    for picture in (found.masked_11ss, found.filled_11ss, found.error_11ss):
        assert picture.shape == image.shape and picture.min() >= 0 and picture.max() <= 1
    assert found.error_hidden == pytest.approx(float(found.error_11ss[pixels].mean()))
    assert found.error_lesion == pytest.approx(float(found.error_11ss[pixels & truth].mean()))
    assert found.error_background == pytest.approx(float(found.error_11ss[pixels & ~truth].mean()))


def test_reconstruction_is_the_networks_answer_to_the_masked_image(native, image):
    hidden = inference.mask_at(inference.study(image), 10).random_1l
    pixels = patches.to_pixels(hidden, 16, 256, 256)
    x = (image - image.mean()) / image.std(correction=0)
    with torch.no_grad():
        answer = native.unet(torch.where(pixels, torch.zeros(()), x)) * image.std(correction=0) + image.mean()
    found = inference.reconstruct(native, image, hidden, 16)
    torch.testing.assert_close(found.filled_11ss[pixels], answer.clamp(0, 1)[pixels], atol=1e-5, rtol=0)
    assert math.isnan(found.error_lesion)


def test_hidden_pixels_do_not_leak_into_the_reconstruction(native, image):
    """With the same mean and deviation, what is under the mask must not matter."""
    hidden = inference.mask_at(inference.study(image), 100).random_1l
    pixels = patches.to_pixels(hidden, 16, 256, 256)
    other = image.clone()
    other[pixels] = image[pixels][torch.randperm(int(pixels.sum()), generator=torch.Generator().manual_seed(0))]
    first, second = (inference.reconstruct(native, x, hidden, 16).filled_11ss for x in (image, other))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def test_nothing_hidden_reconstructs_the_image(network, image):
    found = inference.reconstruct(network, image, torch.zeros(1, 256, dtype=torch.bool), 16)
    assert torch.equal(found.filled_11ss, image) and math.isnan(found.error_background)


@pytest.mark.parametrize("shape", [(64, 64), (75, 50), (33, 201)])
def test_probability_has_the_images_own_size(network, shape):
    unit = np.random.default_rng(0).random(shape, dtype=np.float32)
    found = inference.probability(network, unit)
    assert found.shape == shape and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(found, inference.probability(network, unit))
    if shape == (64, 64):
        with torch.no_grad():
            expected = torch.sigmoid(network.unet(transforms.standardise(torch.tensor(unit)[None, None])))[0, 0]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_features_are_what_the_head_makes_the_chance_of(network, weights):
    """Through the head they give the chance; they are the unfolded network's last feature map, of a box too, the same
    each time.
    """
    unit, box = np.random.default_rng(0).random((75, 90), dtype=np.float32), Box(10, 20, 40, 30)
    found = inference.features(network, unit, box)
    assert found.shape == (2, 64, 64) and found.dtype == np.float32 and found.min() >= 0 < found.std()  # after a ReLU
    head = network.unet.head
    logit = np.einsum("k,khw->hw", head.weight.detach().numpy()[0, :, 0, 0], found) + head.bias.item()
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), inference.grid_probability(network, unit, box), atol=1e-5)
    plain = checkpoint.unet(checkpoint.load(weights))
    with torch.no_grad():
        expected = plain.decoder(
            plain.encoder(transforms.standardise(inference.to_grid(transforms.crop(unit, box), 64)))
        )[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(found, inference.features(network, unit, box))
    with pytest.raises(ValueError, match="takes 1 channels, the image has 2"):
        inference.features(network, np.stack([unit, unit]))


@pytest.mark.parametrize(
    "box", [Box(10, 20, 40, 30), Box(-15, -20, 90, 70), Box(50, 60, 60, 60), Box(0, 0, 75, 90), Box(-3, 5, 128, 64)]
)
def test_probability_in_a_box_is_that_of_the_part_put_back(network, box):
    unit = np.random.default_rng(0).random((75, 90), dtype=np.float32)
    found = inference.probability(network, unit, box)
    assert found.shape == unit.shape and found.dtype == np.float32
    part = np.zeros((box.height, box.width), np.float32)
    expected = np.zeros_like(unit)
    pixels = [
        (y, x) for y in range(75) for x in range(90) if 0 <= y - box.top < box.height and 0 <= x - box.left < box.width
    ]
    for y, x in pixels:
        part[y - box.top, x - box.left] = unit[y, x]
    alone = inference.probability(network, part)
    for y, x in pixels:
        expected[y, x] = alone[y - box.top, x - box.left]
    np.testing.assert_array_equal(found, expected)
    assert (found > 0).sum() == len(pixels) > 100


def test_what_lies_outside_the_box_does_not_matter(network):
    source = np.random.default_rng(1)
    unit, box = source.random((60, 60), dtype=np.float32), Box(10, 20, 30, 30)
    other = source.random((60, 60), dtype=np.float32)
    other[10:40, 20:50] = unit[10:40, 20:50]
    np.testing.assert_array_equal(inference.probability(network, unit, box), inference.probability(network, other, box))


def test_probability_takes_as_many_channels_as_the_network(network, tmp_path):
    torch.manual_seed(1)
    model = {"channels": 2, "classes": 1, "width": 2, "norm": "batch"}
    metadata = {"kind": "segmentation", "size": 32, "model": model, "data": {"sequences": ["t1", "flair"]}}
    checkpoint.save(tmp_path / "two.safetensors", UNet(channels=2, width=2).state_dict(), metadata)
    two = inference.open_network(tmp_path / "two.safetensors")
    assert (two.channels, two.sequences, network.channels, network.sequences) == (2, ("t1", "flair"), 1, ())
    unit = np.random.default_rng(0).random((2, 50, 40), dtype=np.float32)
    found = inference.probability(two, unit, Box(-4, 3, 32, 32))
    assert found.shape == (50, 40)
    with torch.no_grad():
        x = torch.tensor(transforms.crop(unit, Box(-4, 3, 32, 32)))[None]
        expected = torch.sigmoid(two.unet(transforms.standardise(x)))[0, 0]
    np.testing.assert_allclose(found[:28, 3:35], expected[4:], atol=1e-6)
    assert np.abs(found - inference.probability(two, unit[::-1].copy(), Box(-4, 3, 32, 32))).max() > 1e-4
    with pytest.raises(ValueError, match="takes 2 channels, the image has 1"):
        inference.probability(two, unit[0])
    with pytest.raises(ValueError, match="takes 1 channels, the image has 2"):
        inference.probability(network, unit)
