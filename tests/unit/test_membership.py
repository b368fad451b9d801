"""Membership of an image in the training of a network: by its content, through the split of the checkpoint and of the
one it was begun from.
"""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from mpsams import imaging, inference
from mpsams.imaging import Scan
from mpsams.inference import membership
from mpsams.inference.registry import ModelRegistry
from train import image_hashes

SPLIT = {"dataset": "busi", "seed": 0, "grouped": True, "train": ["a", "b"], "val": ["c"], "test": ["d"]}


@pytest.mark.parametrize(
    "about, case, part",
    [
        ({"split": SPLIT}, "a", "training"),
        ({"split": SPLIT}, "c", "validation"),
        ({"split": SPLIT}, "d", "held out"),
        ({"split": SPLIT}, "e", "unknown"),
        ({"split": SPLIT, "labelled": ["b"]}, "a", "training, without its label"),
        ({"split": SPLIT, "labelled": ["b"]}, "b", "training"),
        ({"split": SPLIT, "init": {"seen": {"busi": ["d"]}}}, "d", "training"),
        ({"split": SPLIT, "init": None}, "d", "held out"),
        ({"splits": [SPLIT | {"dataset": "other"}, SPLIT]}, "d", "held out"),
        ({"split": SPLIT | {"dataset": "other"}}, "a", "unknown"),
        ({}, "a", "unknown"),
    ],
)
def test_the_part_is_that_of_the_split(about, case, part):
    assert membership.part_of(about, {"busi": [case]}) == part and part in membership.MEANING
    assert membership.part_of(about, {}) == "unknown"


def test_a_copy_in_the_training_part_counts():
    assert membership.part_of({"split": SPLIT}, {"busi": ["a", "d"]}) == "training"


def test_the_same_picture_in_another_format_has_the_same_hash_and_another_picture_another(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture).convert("RGB").save(tmp_path / "b.tiff")
    changed = picture.copy()
    changed[3, 4] ^= 1
    Image.fromarray(changed).save(tmp_path / "c.png")
    one, same, other = (
        imaging.read([tmp_path / name], "ultrasound").content_sha256 for name in ("a.png", "b.tiff", "c.png")
    )
    assert one == same != other
    assert Scan(picture[:, :, None], "ct", "").content_sha256 != Scan(picture.T[:, :, None], "ct", "").content_sha256


def test_the_hashes_of_a_data_set_are_written_and_found_by_the_registry(tmp_path):
    folder = tmp_path / "Dataset_BUSI_with_GT"
    own = np.random.default_rng(1)
    for kind in ("benign", "malignant", "normal"):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(own.integers(0, 256, (16, 16), np.uint8)).save(folder / kind / f"{kind} (1).png")
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / kind / f"{kind} (1)_mask.png")
    image_hashes.main(["--data.name", "busi", "--data.root", str(folder), "--out", str(tmp_path / "busi-images.json")])
    tables = membership.read_tables(tmp_path)
    assert list(tables) == ["busi"] and sorted(sum(tables["busi"].values(), [])) == [
        "benign (1)",
        "malignant (1)",
        "normal (1)",
    ]
    content = imaging.read([folder / "benign" / "benign (1).png"], "ultrasound").content_sha256
    assert membership.find_cases(tables, content) == {"busi": ["benign (1)"]}
    assert ModelRegistry(tmp_path).membership("no such network", content) == "unknown"


def test_a_file_that_is_no_table_is_named_and_the_registry_goes_on(tmp_path):
    (tmp_path / "busi-images.json").write_text(json.dumps(["x"]))
    with pytest.raises(ValueError, match=r"busi-images\.json"):
        membership.read_tables(tmp_path)
    assert ModelRegistry(tmp_path).membership("busi-mae-seg-10", "x") == "unknown"


def test_a_data_set_must_be_named(tmp_path):
    with pytest.raises(ValueError, match="allowed are brats, busi"):
        image_hashes.main(["--out", str(tmp_path / "x-images.json")])


def test_tables_and_folders_are_read_again_when_they_change(tmp_path, monkeypatch):
    table, listed = tmp_path / "busi-images.json", []
    for case in ("a", "bc"):
        table.write_text(json.dumps({"dataset": "busi", "images": {"x": [case]}}))
        assert membership.read_tables(tmp_path) == membership.read_tables(tmp_path) == {"busi": {"x": [case]}}
    real = inference.list_checkpoints
    monkeypatch.setattr(inference, "list_checkpoints", lambda folder: listed.append(folder) or real(folder))
    registry = ModelRegistry(tmp_path)
    os.utime(tmp_path, ns=(10**18, 10**18))  # long ago
    assert not registry.unusable_files() and not registry.names() and len(listed) == 1
    (tmp_path / "one.safetensors").write_bytes(b"none")
    # it may change once more in this second
    assert list(registry.unusable_files()) == list(registry.unusable_files()) == ["one"] and len(listed) == 3
