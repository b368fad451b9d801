"""Checkpoints that cannot be used: refused with a sentence, and left out by the app, which works with the others."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mpsams import checkpoint, inference
from mpsams.app.page import unusable_weights
from mpsams.inference.checkpoint_metadata import verify
from mpsams.inference.registry import ModelRegistry
from mpsams.unet import UNet
from tests.support.http_client import call_error, upload
from tests.support.server import running
from train import finetune

MODEL = {"channels": 1, "classes": 1, "width": 2, "norm": "batch"}
ABOUT = {
    "kind": "segmentation",
    "method": "mae",
    "size": 64,
    "model": MODEL,
    "data": {"modality": "ultrasound", "target": "lesion", "images": 3},
}
GOOD = "busi-mps_ams-seg-10"


def tensors(change: dict | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.contiguous() for name, tensor in UNet(**MODEL).state_dict().items()} | (change or {})


def written(path: Path, metadata: object, change: dict | None = None) -> None:
    """A file of ours whose metadata are any text, or any object as JSON."""
    save_file(tensors(change), path, {checkpoint.KEY: metadata if isinstance(metadata, str) else json.dumps(metadata)})


def spoiled(path: Path, value: float, name: str = "head.weight") -> None:
    bad = tensors()[name].clone()
    bad.view(-1)[0] = value
    written(path, ABOUT, {name: bad})


BAD = {
    "no-json": (lambda path: written(path, "{not JSON"), "not JSON"),
    "deep": (lambda path: written(path, "[" * 100_000), "not JSON"),
    "list": (lambda path: written(path, [1, 2]), "list"),
    "null": (lambda path: written(path, "null"), "NoneType"),
    "number": (lambda path: written(path, "NaN"), "float"),
    "foreign": (lambda path: save_file(tensors(), path), "not a checkpoint of this project"),
    "broken-link": (lambda path: path.symlink_to("nowhere"), "does not exist"),
    "link-to-itself": (lambda path: path.symlink_to(path.name), "does not exist"),
    "empty": (lambda path: path.touch(), "not a whole safetensors file"),
    "text": (lambda path: path.write_text("no checkpoint at all"), "not a whole safetensors file"),
    "folder": (lambda path: path.mkdir(), "does not exist or is no file"),
    "cut": (
        lambda path: (written(path, ABOUT), os.truncate(path, path.stat().st_size // 2)),
        "not a whole safetensors file",
    ),
    "no-model": (lambda path: written(path, {"kind": "segmentation"}), "'model'"),
    "model-list": (lambda path: written(path, ABOUT | {"model": [1]}), "'model'"),
    "model-words": (lambda path: written(path, ABOUT | {"model": {"width": "two"}}), "describe no network"),
    "model-unknown": (lambda path: written(path, ABOUT | {"model": MODEL | {"depth": 9}}), "describe no network"),
    "model-vast": (
        lambda path: written(path, ABOUT | {"model": MODEL | {"width": 10**7}}),
        "are not those of its|describe no network",
    ),
    "other-shapes": (lambda path: written(path, ABOUT | {"model": MODEL | {"width": 4}}), "are not those of its"),
    "missing-tensor": (
        lambda path: save_file({"head.bias": torch.zeros(1)}, path, {checkpoint.KEY: json.dumps(ABOUT)}),
        "is missing",
    ),
    "size-none": (lambda path: written(path, {name: ABOUT[name] for name in ("kind", "model")}), "'size'"),
    "size-words": (lambda path: written(path, ABOUT | {"size": "big"}), "'size'"),
    "size-odd": (lambda path: written(path, ABOUT | {"size": 60}), "'size'"),
    "data-list": (lambda path: written(path, ABOUT | {"data": ["ultrasound"]}), "'data'"),
    "data-null": (lambda path: written(path, ABOUT | {"data": None}), "'data'"),
    "images-words": (lambda path: written(path, ABOUT | {"data": {"images": "many"}}), "'data.images'"),
    "modality-list": (lambda path: written(path, ABOUT | {"data": {"modality": ["mri"]}}), "'data.modality'"),
    "config-words": (lambda path: written(path, ABOUT | {"config": {"method": "mae"}}), "'config.method'"),
    "transfers-null": (lambda path: written(path, ABOUT | {"kind": "pretrain", "transfers": None}), "'transfers'"),
    "nan": (lambda path: spoiled(path, float("nan")), "NaN or infinity in head.weight"),
    "inf": (
        lambda path: spoiled(path, float("inf"), "encoder.blocks.0.1.running_var"),
        "NaN or infinity in encoder.blocks.0.1.running_var",
    ),
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A folder with one good checkpoint, one of each bad kind, the state of a run, and one whose name is no UTF-8."""
    folder = tmp_path_factory.mktemp("mixed")
    checkpoint.save(folder / f"{GOOD}.safetensors", tensors(), ABOUT)
    for name, (write, _) in BAD.items():
        write(folder / f"{name}-seg-10.safetensors")
    written(folder / "state.safetensors", {"kind": "state"})
    (folder / os.fsdecode(b"\xff-seg-10.safetensors")).touch()
    return folder


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_left_out_with_a_reason(mixed, name):
    registry = ModelRegistry(mixed)
    assert registry.names() == registry.segmenters("ultrasound") == [GOOD] and registry.find("-seg-10", "mri") == GOOD
    why = registry.unusable_files()[f"{name}-seg-10"]
    assert any(words in why for words in BAD[name][1].split("|")) and str(mixed) not in why, why
    assert registry.metadata(f"{name}-seg-10") == {}
    with pytest.raises(ValueError, match="cannot be used"):
        registry.network(f"{name}-seg-10")
    assert registry.network(GOOD).size == 64


def test_the_state_of_a_run_is_no_fault_and_a_name_of_other_letters_can_be_shown(mixed):
    unusable = ModelRegistry(mixed).unusable_files()
    assert "state" not in unusable and "\\udcff-seg-10.safetensors is not a whole" in unusable["\\udcff-seg-10"]
    assert len(unusable) == len(BAD) + 1


def test_a_file_that_is_mended_is_found(tmp_path):
    path = tmp_path / "x-seg-10.safetensors"
    path.write_text("half")
    registry = ModelRegistry(tmp_path)
    assert registry.names() == [] and "x-seg-10" in registry.unusable_files()
    checkpoint.save(path, tensors(), ABOUT)
    assert registry.names() == ["x-seg-10"] and registry.unusable_files() == {}


def test_the_app_works_beside_bad_weights_and_says_which(mixed, tmp_path):
    with running(tmp_path, "--weights", str(mixed), TMPDIR=str(tmp_path)) as (address, _, printed):
        status = httpx.get(f"{address}/healthz", timeout=60).json()
        assert (
            status["ok"]
            and status["weights"] == [GOOD]
            and set(status["left_out"]) > {f"{name}-seg-10" for name in BAD}
        )
        page = httpx.get(address, timeout=60).text
        assert "These files of weights cannot be used" in page and "no-json-seg-10" in page and str(mixed) not in page
        http, picture = httpx.Client(base_url=address, timeout=120), io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)).save(picture, "PNG")
        file = upload(http, picture.getvalue())
        assert (
            call_error(http, "segment", [file])
            == call_error(http, "mask", [file])
            == call_error(http, "export", [file])
            == ""
        )
        assert "there are: " + GOOD in call_error(http, "segment", [file, None, "", 0.5, "nan-seg-10"])
        assert "rror" not in printed.read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_on_opening(tmp_path, value):
    spoiled(tmp_path / "x.safetensors", value)
    for opening in (checkpoint.load, inference.open_network, verify):
        with pytest.raises(ValueError, match="NaN or infinity in head.weight"):
            opening(tmp_path / "x.safetensors")


def test_a_training_does_not_begin_from_weights_that_are_not_finite(tmp_path, capsys):
    spoiled(tmp_path / "x.safetensors", float("nan"))
    options = (
        "--data.name",
        "phantom",
        "--init",
        str(tmp_path / "x.safetensors"),
        "--out",
        str(tmp_path / "run"),
        "--labels",
        "0.5",
    )
    with pytest.raises((SystemExit, ValueError)) as refusal:
        finetune.main(list(options))
    assert (
        "NaN or infinity" in f"{refusal.value}{capsys.readouterr().err}"
        and not (tmp_path / "run" / "weights.safetensors").exists()
    )


@pytest.fixture
def overflowing(tmp_path) -> Path:
    """Networks whose weights are finite, and whose answers are not."""
    large = {
        name: torch.full_like(tensor, 1e38)
        for name, tensor in tensors().items()
        if name.startswith("encoder.blocks.0") and name.endswith("weight")
    }
    for name, kind in (("busi-mps_ams-seg-10", "segmentation"), ("busi-mps_ams-pretrain", "pretrain")):
        metadata = ABOUT | {"kind": kind, "size": 256, "transfers": ["encoder", "decoder"]}
        written(tmp_path / f"{name}.safetensors", metadata, large)
    prompt = {name: tensor.contiguous() for name, tensor in UNet(**MODEL | {"channels": 5}).state_dict().items()}
    prompt |= {name: torch.full_like(prompt[name], 1e38) for name in large}
    written(tmp_path / "prompt.safetensors", ABOUT | {"kind": "prompt", "model": MODEL | {"channels": 5}}, prompt)
    return tmp_path


def test_an_answer_that_is_not_finite_is_refused_and_never_no_lesion(overflowing):
    unit_hw = np.random.default_rng(0).random((64, 64), np.float32)
    network = inference.open_network(overflowing / "busi-mps_ams-seg-10.safetensors")
    for answer in (inference.grid_probability, inference.probability, inference.features):
        with pytest.raises(inference.NotFinite, match="NaN or infinity"):
            answer(network, unit_hw)
    study = inference.study(inference.to_grid(unit_hw, 256))
    with pytest.raises(inference.NotFinite):
        inference.reconstruct(network, study.image_11ss, inference.mask_at(study, 10).lesion_first_1l, 16)


def test_the_page_says_so_too(overflowing, tmp_path):
    with running(tmp_path, "--weights", str(overflowing), TMPDIR=str(tmp_path)) as (address, _, printed):
        http, picture = httpx.Client(base_url=address, timeout=120), io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)).save(picture, "PNG")
        file = upload(http, picture.getvalue())
        for endpoint in ("segment", "export", "reconstruct"):
            assert "NaN or infinity" in call_error(http, endpoint, [file]), endpoint
        assert "NaN or infinity" in call_error(http, "prompt", [file, "[8, 8, 24, 24]"])


def test_the_note_on_what_was_left_out_is_no_html_of_its_own(tmp_path):
    (tmp_path / "<b>x.safetensors").touch()
    assert "<b>x" not in unusable_weights(ModelRegistry(tmp_path)) and "&lt;b&gt;x" in unusable_weights(
        ModelRegistry(tmp_path)
    )
    assert unusable_weights(ModelRegistry(tmp_path / "none")) == ""
