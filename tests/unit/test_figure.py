"""train.figure: images as rows, networks as columns, by the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mpsams.datasets import phantom
from mpsams.imaging import raster
from train import figure


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure")
    image_hw, mask_hw = phantom.ultrasound(14)
    Image.fromarray((image_hw * 255).astype(np.uint8)).save(folder / "one.png")
    (folder / "truth.png").write_bytes(raster.write_mask(mask_hw))
    return folder / "one.png"


def test_a_figure_and_its_numbers_are_written(image, small_weights, tmp_path):
    truth = str(image.with_name("truth.png"))
    how = [
        "--images",
        json.dumps([str(image)] * 2),
        "--truths",
        json.dumps([truth] * 2),
        "--weights",
        str(small_weights),
    ]
    for name, start in (("a.pdf", b"%PDF"), ("a.png", b"\x89PNG"), ("a.csv", b"image,network,threshold,dsc")):
        figure.main([*how, "--crop", "lesion", "--threshold", "0.4", "--out", str(tmp_path / name)])
        assert (tmp_path / name).read_bytes().startswith(start)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert (
        len(lines) > 2
        and len(lines) % 2 == 1
        and lines[1].startswith("1 one.png,")
        and ",0.40," in lines[1]
        and lines[-1].startswith("2 one.png,")
    )


def test_notes_on_images_and_truths_are_printed(image, small_weights, tmp_path, capsys):
    labels = np.asarray(Image.open(image.with_name("truth.png"))) // 255
    labels[:4, :4] = 2
    Image.fromarray(labels).save(tmp_path / "labels.png")
    how = ["--images", json.dumps([str(image)]), "--truths", json.dumps([str(tmp_path / "labels.png")])]
    figure.main([*how, "--weights", str(small_weights), "--out", str(tmp_path / "a.csv")])
    assert "one.png: The mask holds 2 labels; every label above 0 is lesion." in capsys.readouterr().out


@pytest.mark.parametrize(
    "more, message",
    [
        (["--out", "a.gif"], "gif"),
        (["--out", "a.pdf", "--crop", "half"], "half"),
        (["--out", "a.pdf", "--truths", '["x", "y"]'], "2 truths for 1 images"),
    ],
)
def test_what_is_not_allowed_is_named(more, message, image, capsys):
    with pytest.raises((SystemExit, ValueError)) as refusal:
        figure.main(["--images", json.dumps([str(image)]), *more])
    assert message in capsys.readouterr().err + str(refusal.value)
