"""The comparison of prompt networks by what they began from, and on a data set that one was trained without."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import prompt_starts
from mpsams import checkpoint
from train import pack, prompt

SMALL = ["--data.size", "64", "--model.width", "4", "--learning.size", "32", "--run.precision", "float32"]


@pytest.fixture(scope="module")
def files(tmp_path_factory, quick_phantom):
    """A pack of phantoms, a network that was trained on phantoms, and one whose checkpoint names another data set."""
    folder = tmp_path_factory.mktemp("starts")
    pack.main(["--data.name", "phantom", "--data.size", "64", "--out", str(folder / "pack")])
    seen = prompt.main([*SMALL, "--learning.epochs", "1", "--validate_every", "0", "--out", str(folder / "run")])
    loaded = checkpoint.load(seen)
    other = [{**each, "dataset": "other"} for each in loaded.metadata["splits"]]
    checkpoint.save(folder / "other.safetensors", loaded.tensors, loaded.metadata | {"splits": other})
    return folder / "pack", seen, folder / "other.safetensors"


def test_a_gain_is_the_mean_difference_with_its_interval_over_patients():
    before = [{"box": 0.5, "clicks": [0.1] * 5}, {"box": 0.7, "clicks": [0.2] * 5}]
    after = [{"box": 0.6, "clicks": [0.1] * 5}, {"box": 0.9, "clicks": [0.4] * 5}]
    weights_bn = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = prompt_starts.gains(before, after, weights_bn)
    assert found["box"] == pytest.approx([0.15, *np.percentile([0.1, 0.2, 0.15], (2.5, 97.5))])
    assert found["1"][0] == pytest.approx(0.1) and set(found) == {"box", "1", "3", "5"}


def test_starts_are_measured_on_the_validation_part_and_the_unseen_on_the_test_part(files, capsys):
    folder, seen, unseen = files
    arguments = ["--packs", json.dumps([str(folder)]), "--network", str(seen), "--quick", "true"]
    starts = {"from scratch": str(seen), "again": str(seen)}
    found = prompt_starts.main(
        [*arguments, "--starts", json.dumps(starts), "--unseen", json.dumps({"phantom": str(unseen)})]
    )
    values = found["starts"]["phantom"]
    assert list(values) == list(starts) and "gain" not in values["from scratch"]
    assert values["again"]["gain"]["box"] == [0, 0, 0]  # the same network on the same boxes
    parts = {each["dataset"]: each for each in checkpoint.metadata(seen)["splits"]}["phantom"]
    assert values["again"]["objects"] <= len(parts["val"])
    assert found["unseen"]["phantom"]["unseen"]["objects"] <= len(parts["test"])
    assert found["draws"] == dict.fromkeys((*starts, "phantom"), 37)
    with pytest.raises(ValueError, match="trained on phantom, so it is not one without"):
        prompt_starts.main([*arguments, "--unseen", json.dumps({"phantom": str(seen)})])
    with pytest.raises(ValueError, match="no pack of busi"):
        prompt_starts.main([*arguments, "--unseen", json.dumps({"busi": str(unseen)})])
