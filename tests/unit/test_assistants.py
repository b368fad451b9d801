"""Assistants: shipped under their name with all that is known of them, and used by the app before
all other networks.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mpsams import checkpoint, inference
from mpsams.annotation import assist
from mpsams.annotation.assist import SliceContext
from mpsams.app.components import network_grid
from mpsams.app.endpoints import network_name
from mpsams.app.tabs import segment
from mpsams.app.tabs.annotate import describe_assistant
from mpsams.datasets import phantom
from mpsams.inference import case as _case
from mpsams.inference import comparison, network_names, open_case, slice_scores
from mpsams.inference import volumes as volume
from mpsams.inference.registry import ModelRegistry
from mpsams.unet import UNet
from train import calibrate, card, evaluate, finetune, publish

NETWORKS = ("busi-mps_ams-seg-10", "busi-scratch-seg-10", "busi-scratch-seg-100")
VOLUMES = {"name": "brats", "modality": "ultrasound", "target": "<tumour>", "images": 9, "patients": 2}
RULE = {"smallest_area": 0.0, "least_peak": 0.0, "before": {}, "after": {}}


def save(folder: Path, name: str, bias: float = 0.0, **more) -> Path:
    torch.manual_seed(len(name))
    unet = UNet(width=2)
    unet.head.weight.data.zero_()
    unet.head.bias.data.fill_(bias)
    data = {"name": "busi", "modality": "ultrasound", "target": "breast lesion", "images": 702, "patients": 702}
    metadata = {
        "kind": "segmentation",
        "method": "scratch",
        "size": 32,
        "model": {"channels": 1, "classes": 1, "width": 2, "norm": "batch"},
        "data": data,
        "seen": 562,
    } | more
    checkpoint.save(folder / f"{name}.safetensors", unet.state_dict(), metadata)
    return folder / f"{name}.safetensors"


@pytest.fixture
def weights(tmp_path) -> Path:
    """A folder with networks that call everything lesion at 73%, and an assistant that does so at 88% but whose rule
    forbids it.
    """
    for name in NETWORKS:
        save(tmp_path, name, 1.0)
    save(tmp_path, "busi-assist", 2.0, rule=RULE | {"least_peak": 0.9})
    return tmp_path


@functools.cache
def case() -> _case.Case:
    return open_case.open_sample(
        phantom.samples()[0], open_case.clustering_options(ModelRegistry("nowhere").clustering())
    )


def test_it_is_titled_first_and_stands_beside_the_others():
    titles = network_names.titles_of([*NETWORKS[:2], "busi-assist"])
    assert list(titles.items())[0] == ("busi-assist", "Assistant") and list(titles.values())[1:] == list(
        network_names.titles_of(NETWORKS[:2]).values()
    )
    assert network_names.parse_name("2-busi-assist")[1] == network_names.ASSIST and not network_names.is_assistant(
        "busi-mps_ams-seg-10"
    )
    assert network_names.choose_networks(["busi-assist", *NETWORKS], ()) == ["busi-assist", *NETWORKS[:2]]
    assert network_names.choose_networks(NETWORKS, ()) == list(NETWORKS[:2])


def test_the_app_asks_it_first_and_proposes_with_it(weights):
    registry = ModelRegistry(weights)
    assert registry.assistant("ultrasound") == assist.default_model(registry, "ultrasound") == "busi-assist"
    assert (
        registry.assistant("ct") is None and network_name(registry, "", segment.DEFAULT, "ultrasound") == "busi-assist"
    )
    assert network_name(registry, NETWORKS[1], segment.DEFAULT, "ultrasound") == NETWORKS[1]
    (weights / "busi-assist.safetensors").unlink()
    assert registry.assistant("ultrasound") is None and assist.default_model(registry, "ultrasound") == NETWORKS[0]
    assert (
        network_name(registry, "", segment.DEFAULT, "ultrasound") == NETWORKS[0]
        and describe_assistant(registry, "ultrasound") == ""
    )


def test_endpoints_use_a_network_of_ones_own_where_there_is_no_other(tmp_path):
    save(tmp_path, "folder-simclr-seg-100")
    save(tmp_path, "folder-base-pretrain", kind="pretrain", transfers=["encoder", "decoder"])
    registry = ModelRegistry(tmp_path)
    assert network_name(registry, "", segment.DEFAULT, "ultrasound") == "folder-simclr-seg-100"
    assert network_name(registry, "", "-mps_ams-pretrain", "ultrasound") == "folder-base-pretrain"
    with pytest.raises(ValueError, match="no segmentation network here; there are: none at all"):
        network_name(ModelRegistry(tmp_path / "nothing"), "", segment.DEFAULT, "ultrasound")


def test_the_comparison_counts_the_networks_on_an_equal_footing_alone(weights):
    registry = ModelRegistry(weights)
    first, *_, predictions = comparison.predict_slice(case(), ["busi-assist", *NETWORKS[:2]], registry)
    assert (
        list(first.probabilities) == ["busi-assist"]
        and predictions.shown == predictions.pictures[0] == "busi-assist"
        and predictions.peers == list(network_names.titles_of(NETWORKS[:2]))
    )
    compared = comparison.SliceComparison(predictions, 0.5)
    assert not compared.masks["busi-assist"].any() and compared.votes_hw.min() == 2 and compared.mean_agreement == 1
    words_said = network_grid.verdict(compared)
    assert "The assistant outlines nothing." in words_said and "Both networks outline something" in words_said
    assert comparison.SliceComparison(predictions, 0.3).masks["busi-assist"].all()  # the rule moves with the threshold
    assert "all labels" in network_grid.taught("busi-assist")
    assert 'data-cell="busi-assist"' in network_grid.cells(compared)
    *_, alone = comparison.predict_slice(case(), ["busi-assist"], registry)
    assert alone.peers == ["busi-assist"] and "dispute" not in alone.pictures
    *_, before = comparison.predict_slice(case(), NETWORKS[:2], registry)
    assert before.peers == list(before.probabilities) and before.shown == NETWORKS[0]


def test_its_rule_is_followed_in_every_mask_of_the_app(weights):
    registry = ModelRegistry(weights)
    network, unit = registry.network("busi-assist"), np.random.default_rng(0).random((40, 50), dtype=np.float32)
    for other in (network, registry.network(NETWORKS[0])):
        forbidden = other is network
        assert SliceContext(unit, None, other).proposal_hw.any() != forbidden
        *_, (_, (found,)) = volume.segment(case(), [other])
        assert found.mask(case().scan, 0.5).any() != forbidden
        assert (
            slice_scores.slice_mask(
                case(), inference.grid_probability(other, case().unit_hw, case().box), 0.5, other.readout.rule
            ).any()
            != forbidden
        )
    assert not SliceContext(unit, None, None).proposal_hw.any()


def test_a_line_says_what_it_learnt_from_and_how_good_it_is(weights):
    registry, path = ModelRegistry(weights), weights / "busi-assist.safetensors"
    assert "trained on 562 images with all labels (breast lesion)" in describe_assistant(
        registry, "ultrasound"
    ) and "DSC" not in describe_assistant(registry, "ultrasound")
    measured = {
        "sha256": checkpoint.load(path).sha256,
        "split": "test",
        "dsc_lesion": 0.761,
        "false_alarms": 0.154,
        "images": 70,
        "lesions": 57,
        "cases": {},
    }
    path.with_suffix(".json").write_text(json.dumps(measured))
    description = describe_assistant(registry, "ultrasound")
    assert (
        "On the 57 held-back images with a lesion its mean DSC is 0.76" in description
        and "on 15% of the 13 without" in description
    )
    *_, predictions = comparison.predict_slice(case(), ["busi-assist", *NETWORKS[:2]], registry)
    assert description in segment.say(comparison.SliceComparison(predictions, 0.5), registry)[1]
    path.with_suffix(".json").write_text(json.dumps(measured | {"sha256": "another"}))
    assert "DSC" not in describe_assistant(registry, "ultrasound")
    path.with_suffix(".json").write_text("no JSON")
    assert "DSC" not in describe_assistant(registry, "ultrasound")


def test_an_assistant_of_volumes_states_the_mean_and_the_spread_over_volumes(tmp_path):
    path = save(tmp_path, "busi-assist", seen=7, data=VOLUMES)
    measured = {
        "sha256": checkpoint.load(path).sha256,
        "split": "test",
        "dsc_lesion": 0.54,
        "images": 9,
        "lesions": 5,
        "cases": {},
        "per_volume": {"dsc": 0.64, "dsc_lesion": 0.71},
        "volumes": {"a": {"dsc": 0.45}, "b": {"dsc": 0.8}, "c": {"dsc": 0.67}},
    }
    path.with_suffix(".json").write_text(json.dumps(measured))
    registry = ModelRegistry(tmp_path)
    found = registry.evaluation("busi-assist")
    assert found["volume_dsc"] == [0.45, 0.8, 0.67] and not {"cases", "volumes"} & found.keys()
    description = describe_assistant(registry, "ultrasound")
    assert "7 slices" in description and "&lt;tumour&gt;" in description
    assert "mean DSC is 0.54, 0.64 per volume (3 volumes, 0.45 to 0.80)." in description
    path.with_suffix(".json").write_text(json.dumps({**measured, "volumes": {}}))
    assert "mean DSC is 0.54, 0.64 per volume." in describe_assistant(registry, "ultrasound")


# Shipping

SMALL = [
    "--data.name",
    "phantom",
    "--data.size",
    "64",
    "--data.cases",
    "30",
    "--run.threads",
    "1",
    "--run.device",
    "cpu",
    "--model.width",
    "6",
    "--labels",
    "1",
    "--recipe.name",
    "assist",
    "--recipe.epochs",
    "8",
    "--recipe.batch",
    "4",
    "--recipe.lr",
    "3e-3",
    "--recipe.ema_decay",
    "0.9",
    "--validate_every",
    "0",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick_phantom) -> Path:
    """The run folder of a calibrated assistant."""
    path = finetune.main([*SMALL, "--out", str(tmp_path_factory.mktemp("runs") / "assist")])
    calibrate.main(["--weights", str(path)])
    return path.parent


def test_it_is_shipped_under_its_name_with_a_card_that_says_all(trained, tmp_path):
    (path,) = publish.main(["--assist", str(trained), "--weights", str(tmp_path)])
    found, run = checkpoint.load(path), checkpoint.load(trained / "weights.safetensors")
    assert path.name == "phantom-assist.safetensors" and found.metadata["rounded_from"] == run.sha256
    assert inference.open_network(path).readout == inference.open_network(trained / "weights.safetensors").readout
    evaluate.main(["--weights", str(path), "--json", str(path.with_suffix(".json"))])
    publish.main(["--weights", str(tmp_path)])
    card = path.with_suffix(".md").read_text()
    assert (
        "| Flips |" in card
        and "| Calibrated |" in card
        and "connected parts are kept" in card
        and "| probability | mean | lesion | pixels |" in card
    )
    assert (
        card.count("%–") + card.count("–100%") >= 1
        and "Measured on the test part" in card
        and "recipe “assist”" in card
    )
    with pytest.raises(ValueError, match="phantom-assist.safetensors exists already"):
        publish.main(["--assist", str(trained), "--weights", str(tmp_path)])
    (again,) = publish.main(["--assist", str(trained), "--weights", str(tmp_path), "--overwrite"])
    assert again == path and not path.with_suffix(".json").exists()


def test_what_is_no_assistant_or_too_large_is_not_shipped(trained, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="shipped twice"):
        publish.main([str(trained), "--assist", str(trained), "--weights", str(tmp_path)])
    monkeypatch.setattr(publish, "LARGEST", 1000)
    with pytest.raises(ValueError, match="MiB in half precision; expected at most"):
        publish.main(["--assist", str(trained), "--weights", str(tmp_path)])
    found = checkpoint.load(trained / "weights.safetensors")
    checkpoint.save(tmp_path / "run" / "weights.safetensors", found.tensors, found.metadata | {"kind": "pretrain"})
    with pytest.raises(ValueError, match="an assistant is a segmentation"):
        publish.main(["--assist", str(tmp_path / "run"), "--weights", str(tmp_path / "weights")])
    assert not list(tmp_path.glob("*.safetensors"))


def test_what_is_learnt_further_from_it_is_read_as_it_is(trained, tmp_path):
    start = trained / "weights.safetensors"
    further = finetune.main(
        [
            *SMALL[: SMALL.index("--model.width")],
            "--labels",
            "1",
            "--recipe.epochs",
            "1",
            "--init",
            str(start),
            "--out",
            str(tmp_path / "more"),
        ]
    )
    assert inference.open_network(further).readout == inference.open_network(start).readout


def test_a_card_names_the_segmentation_it_was_trained_further_from():
    start = {"kind": "segmentation", "training": {"steps": 650, "seconds": 1080.0}, "sha256": "ab" * 32}
    (row,) = card.further_training_row({"init": start})
    assert "650 steps in 18 minutes" in row and "abababababababab" in row
    assert (
        card.further_training_row({"init": start | {"kind": "pretrain"}})
        == card.further_training_row({"init": None})
        == card.further_training_row({})
        == []
    )
