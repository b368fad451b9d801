"""Pretraining on a map of where lesions may be: which map, how it moves with its image, and what is
hidden beside it.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mpsams import clusters, losses, masking, patches, transforms
from mpsams.methods import Batch, geodesic
from mpsams.selectors.geodesic import distance, distance_map
from mpsams.transforms import Augmentation
from mpsams.unet import UNet

STILL = Augmentation()


@pytest.fixture
def images(phantoms):
    return F.interpolate(phantoms.stored_nchw[:4].float() / 255, (64, 64), mode="area")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(**options):
    torch.manual_seed(0)
    return geodesic.build(geodesic.Config(**options), UNet(width=4), 40)


def test_the_geodesic_map_is_the_selectors(images):
    known = built().precompute_mask(images)
    expected = distance_map(images, 32, 32)[:, 0]
    assert known.shape == (4, 32, 32) and known.dtype == torch.uint8 and (known.flatten(1).amax(1) == 255).all()
    torch.testing.assert_close(known / 255, expected / expected.amax(dim=(1, 2), keepdim=True), atol=0.002, rtol=0)
    patchwise = distance(images, 4)  # 16 x 16 patches of 2 x 2 cells, smoothed
    coarse = F.avg_pool2d(expected[:, None], 2).flatten(1)
    assert torch.corrcoef(torch.stack([patchwise.flatten(), coarse.flatten()]))[0, 1] > 0.9


def test_the_other_maps_are_the_centre_and_the_truth(images):
    centre = built(target="centre").precompute_mask(images)
    assert (centre == centre[0]).all() and centre[0, 15:17, 15:17].min() > 240 and centre[0, 0, 0] < 5
    truth = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    truth[:3, :, 10:20, 30:50] = True
    known = built(target="truth").precompute_mask(images, truth)
    assert (
        torch.equal(known[:3] > 127, truth[:3, 0].reshape(3, 32, 2, 32, 2).float().mean(dim=(2, 4)) > 0.5)
        and not known[3].any()
    )
    with pytest.raises(ValueError, match="needs the masks"):
        built(target="truth").precompute_mask(images)
    assert [built(**how).variant for how in ({}, {"target": "centre"}, {"target": "truth"}, {"reconstruct": 1.0})] == [
        "geodesic", "centre_map", "truth_map", "geodesic_mps_ams"]  # fmt: skip


def test_the_map_moves_with_its_image(images):
    method = built(augment=Augmentation(flip=1.0))
    changed, target = method.augment(Batch(images, seeded()))
    _, still = built(augment=STILL).augment(Batch(images, seeded()))
    torch.testing.assert_close(changed, images.flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(target, still.flip(3), atol=1e-5, rtol=0)


def test_alone_the_loss_is_the_cross_entropy_with_the_map(images):
    method = built(augment=STILL).eval()
    logits = method.map_head(method.unet.decoder(method.unet.encoder(transforms.standardise(images))))
    target = F.interpolate(method.precompute_mask(images)[:, None] / 255.0, (64, 64), mode="bilinear")
    by_hand = -(target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)).mean()
    torch.testing.assert_close(method(Batch(images, seeded()), 3), by_hand)


def test_beside_it_what_the_map_points_at_is_hidden_first(images):
    method = built(augment=STILL, reconstruct=2.0).eval()
    x = transforms.standardise(images)
    target = F.interpolate(method.precompute_mask(images)[:, None] / 255.0, (64, 64), mode="bilinear")
    numbers = target.reshape(4, 4, 16, 4, 16).mean(dim=(2, 4)).flatten(1)
    generator = seeded(5)
    transforms.draw(4, STILL, generator)
    hidden_bl = masking.cut(masking.order(clusters.split_numbers(numbers).lesion_bl, generator), method.ratio(3))
    hidden = patches.to_pixels(hidden_bl, 16, 64, 64)
    features = method.unet.decoder(method.unet.encoder(x.masked_fill(hidden, 0.0)))
    expected = F.binary_cross_entropy_with_logits(method.map_head(features), target)
    expected = expected + 2 * losses.masked_mse(method.unet.head(features), x, hidden)
    torch.testing.assert_close(method(Batch(images, seeded(5)), 3), expected)
    assert method.epoch_metrics(3) == {"ratio": method.ratio(3)} and built().epoch_metrics(3) == {}


@pytest.mark.parametrize(
    "option, value", [("target", "edges"), ("reconstruct", -1.0), ("tau", 0.0), ("patch", 0), ("horizon", -1)]
)
def test_options_that_make_no_sense_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        geodesic.Config(**{option: value})
