"""An exported file answers as our network does, says what it is, and is written whole or not at all."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mpsams import checkpoint, inference, masking, patches
from mpsams.unet import UNet
from train import command_line, export

pytestmark = pytest.mark.usefixtures("quick_phantom")
SIDE = 32


def network(norm: str = "batch", channels: int = 1, classes: int = 1) -> UNet:
    """A small network whose running statistics, and answers, are not trivial."""
    torch.manual_seed(0)
    unet = UNet(channels, classes, width=4, norm=norm)
    for name, tensor in unet.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.3)
        if name.endswith("running_var") or tensor.ndim == 1 and name.endswith("weight"):
            tensor.uniform_(0.3, 2)
    return unet


def saved(folder, unet: UNet, norm: str = "batch", **more):
    """Its checkpoint, a segmentation if nothing else is said."""
    model = {
        "channels": unet.encoder.blocks[0][0].in_channels,
        "classes": unet.head.out_channels,
        "width": 4,
        "norm": norm,
    }
    data = {"name": "busi", "modality": "ultrasound", "target": "breast lesion"}
    metadata = {"kind": "segmentation", "method": "mps_ams", "size": SIDE, "model": model, "data": data} | more
    checkpoint.save(folder / "small.safetensors", unet.state_dict(), metadata)
    return folder / "small.safetensors"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, quick_phantom):
    """A segmentation with its model card, and the file."""
    path = saved(tmp_path_factory.mktemp("export"), network())
    path.with_suffix(".md").write_text(
        "# small\n\nIt outlines nothing. Not a medical device.\n\n| a | b |\n", encoding="utf-8"
    )
    return path, export.main([str(path)])


def answer(file, **given: torch.Tensor) -> np.ndarray:
    """The output of ONNX Runtime alone."""
    return onnxruntime.InferenceSession(str(file)).run(None, {name: tensor.numpy() for name, tensor in given.items()})[
        0
    ]


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_a_calibrated_network_that_averages_flips_is_exported_as_it_is_used(tmp_path):
    more = {
        "flips_averaged": True,
        "calibration": {"slope": 0.7, "intercept": -0.4},
        "rule": {"smallest_area": 0.004, "least_peak": 0.8},
    }
    path = saved(tmp_path, network(), **more)
    file, x = export.main([str(path)]), noise(2, 1, 32, 48)
    own = inference.probabilities(inference.open_network(path, "float32"), x).numpy()
    assert np.abs(answer(file, image=x) - own).max() < 1e-4
    np.testing.assert_allclose(answer(file, image=x.flip(3)), own[..., ::-1], atol=1e-4)
    properties = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert "cover at least 0.4% of the image and have a peak probability of at least 80%" in properties["rule"]


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (5, 1, 32, 32), (2, 1, 64, 48), (1, 1, 16, 16)])
def test_a_segmentation_answers_as_the_checkpoints_own_network(exported, shape):
    path, file = exported
    x = noise(*shape)
    mean, deviation = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True, correction=0)
    with torch.no_grad():
        expected = torch.sigmoid(checkpoint.unet(checkpoint.load(path))((x - mean) / deviation)).numpy()
    found = answer(file, image=x)
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-4 and expected.std() > 0.01
    np.testing.assert_allclose(inference.probabilities(inference.open_network(path), x).numpy(), expected, atol=1e-5)


def test_brightness_and_contrast_do_not_matter(exported):
    x = noise(2, 1, 32, 32)
    before = answer(exported[1], image=x)
    np.testing.assert_allclose(answer(exported[1], image=x * 0.4 + 0.5), before, atol=1e-4)
    assert np.abs(answer(exported[1], image=x**2) - before).max() > 1e-3


def test_a_black_frame_has_an_answer_and_a_flat_one_the_same(exported):
    """A viewer that scrolls shows such frames: standardised, they are zeros."""
    with torch.no_grad():
        expected = torch.sigmoid(checkpoint.unet(checkpoint.load(exported[0]))(torch.zeros(1, 1, 32, 32))).numpy()
    for level in (0.0, 0.3, 1.0):
        assert np.abs(answer(exported[1], image=torch.full((1, 1, 32, 32), level)) - expected).max() < 1e-5


@pytest.mark.parametrize("normalise, patch, channels", [(False, 16, 1), (True, 8, 1), (False, 16, 2)])
def test_a_pretraining_fills_in_as_the_app_does(tmp_path, normalise, patch, channels):
    config = {"method": {"patch": patch, "normalise_target": normalise}}
    path = saved(
        tmp_path,
        network(channels=channels, classes=channels),
        kind="pretrain",
        transfers=["encoder", "decoder"],
        config=config,
    )
    file = export.main([str(path), "--out", str(tmp_path / "deep" / "filling.onnx"), "--opset", "18"])
    assert onnxruntime.InferenceSession(str(file)).get_outputs()[0].shape == ["batch", channels, "height", "width"]
    x, own = noise(3, channels, 32, 48), inference.open_network(path, "float32")
    hidden = patches.to_pixels(
        masking.cut(masking.random_order(3, 6, torch.Generator().manual_seed(0)), 0.5), 16, 32, 48
    )
    found = answer(file, image=x, hidden=hidden)
    visible = ~hidden.expand_as(x).numpy()
    np.testing.assert_array_equal(found[visible], x.numpy()[visible])
    assert np.abs(found - x.numpy()).max() > 0.01
    expected = export.module(checkpoint.load(path), own.unet)(x, hidden)
    assert np.abs(found - expected.numpy()).max() < 1e-4
    if channels == 1:
        square = x[:1, :, :, :32].contiguous()
        cut = masking.cut(masking.random_order(1, (32 // patch) ** 2, torch.Generator().manual_seed(1)), 0.75)
        shown = inference.reconstruct(own, square, cut, patch).filled_11ss.numpy()
        assert np.abs(answer(file, image=square, hidden=patches.to_pixels(cut, patch, 32, 32)) - shown).max() < 1e-4


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_other_normalisations_and_several_channels(tmp_path, norm):
    path = saved(tmp_path, network(norm, channels=2), norm)
    file, x = export.main([str(path)]), noise(2, 2, 48, 32)
    with torch.no_grad():
        expected = torch.sigmoid(
            checkpoint.unet(checkpoint.load(path))(
                (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True, correction=0)
            )
        )
    assert np.abs(answer(file, image=x) - expected.numpy()).max() < 1e-4


def test_the_file_says_what_it_is(exported, capsys):
    path, file = exported
    session = onnxruntime.InferenceSession(str(file))
    properties = session.get_modelmeta().custom_metadata_map
    assert {entry.key: entry.value for entry in onnx.load(file).metadata_props} == properties
    assert (
        properties["sha256"] == checkpoint.load(path).sha256
        and properties["checkpoint"] == path.name
        and properties["size"] == "32"
    )
    assert (properties["kind"], properties["method"], properties["data"], properties["modality"]) == (
        "segmentation",
        "mps_ams",
        "busi",
        "ultrasound",
    )
    assert (
        properties["intended_use"] == "It outlines nothing. Not a medical device."
        and "Data in Brief" in properties["terms"]
    )
    assert "32 x 32" in properties["preparation"] and "sequences" not in properties
    (image,), (probability,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 1, "height", "width"])
    assert (probability.name, probability.shape) == ("probability", ["batch", 1, "height", "width"])
    again = export.main([str(path), "--out", str(file.with_name("again.onnx"))])
    printed = capsys.readouterr().out
    assert (
        again.read_bytes() == file.read_bytes()
        and "again.onnx" in printed
        and "probability" in printed
        and "largest difference" in printed
    )
    again.unlink()


@pytest.mark.parametrize(
    "modality, word", [("ct", "40, width 400 HU"), ("mri", "99th percentile"), (None, "Intensities")]
)
def test_preparation_is_described_for_each_modality(modality, word):
    assert word in export.preparation(modality, 128) and "128 x 128" in export.preparation(modality, 128)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cut off"),
        (lambda path: checkpoint.save(path, {}, {"kind": "state"}), "'state'"),
        (
            lambda path: checkpoint.save(
                path,
                network().state_dict(),
                checkpoint.load(path).metadata | {"kind": "pretrain", "transfers": ["encoder"]},
            ),
            "decoder was not trained",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(tmp_path, monkeypatch, change, message):
    path = saved(tmp_path, network())
    change(path)
    monkeypatch.setattr(sys, "argv", ["export", str(path)])
    with pytest.raises(SystemExit, match=f"^train.export: .*{message}"):
        command_line.run(export.main, "train.export")
    assert not list(tmp_path.glob("*.onnx*"))


def test_options_that_are_not_allowed_are_refused(tmp_path):
    path = saved(tmp_path, network())
    (tmp_path / "file").write_text("in the way")
    for more, message in (
        (["--opset", "12"], "opset 12.*13 to 20"),
        (["--out", "x.pt"], "x.pt must end in .onnx"),
        (["--out", str(tmp_path / "file" / "x.onnx")], "could not write .*x.onnx: File exists"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            export.main([str(path), *more])
    assert not list(tmp_path.rglob("*.onnx*"))


@pytest.mark.parametrize("wrong", [2e-4, float("nan")])
def test_a_file_that_answers_otherwise_is_not_written(tmp_path, monkeypatch, wrong):
    path, file = saved(tmp_path, network()), tmp_path / "small.onnx"
    right = inference.probabilities
    monkeypatch.setattr(
        inference, "probabilities", lambda of, x_bchw: right(of, x_bchw) + wrong * (x_bchw.shape[0] == 3)
    )
    file.write_bytes(b"before")
    with pytest.raises(ValueError, match="differs from our network by .* was not written"):
        export.main([str(path), "--overwrite"])
    assert file.read_bytes() == b"before" and not list(tmp_path.glob("*.partial"))


def test_a_file_that_is_there_is_only_replaced_on_request(tmp_path):
    path, file = saved(tmp_path, network()), tmp_path / "small.onnx"
    file.write_bytes(b"")  # such as a temporary file made for it
    assert export.main([str(path)]) == file and file.stat().st_size
    file.write_bytes(b"of someone else")
    with pytest.raises(ValueError, match=r"small.onnx exists already; --overwrite replaces it"):
        export.main([str(path)])
    assert file.read_bytes() == b"of someone else"
    export.main([str(path), "--overwrite"])
    assert file.read_bytes() != b"of someone else"
