"""Checkpoints come back exactly, are written at once or not at all, and foreign files are refused."""

import hashlib
import json
import os
import resource
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mpsams import checkpoint
from mpsams.unet import UNet

MODEL = {"channels": 1, "classes": 1, "width": 2, "norm": "batch"}
METADATA = {
    "kind": "pretrain",
    "method": "mps_ams",
    "model": MODEL,
    "transfers": ["encoder", "decoder"],
    "note": "größer",
}


def network(seed=0, **model):
    torch.manual_seed(seed)
    net = UNet(**MODEL | model)
    net(torch.rand(2, MODEL["channels"], 32, 32))  # moves the running statistics from where they start
    return net


@pytest.fixture
def file(tmp_path) -> Path:
    checkpoint.save(tmp_path / "weights.safetensors", network().state_dict(), METADATA)
    return tmp_path / "weights.safetensors"


def test_round_trip_is_exact(tmp_path):
    tensors = {
        "a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.tensor(2.5), "d": torch.rand(2).bool(),
        "e": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), "f": torch.rand(4, 6).T,
        "g": torch.rand(3, dtype=torch.float64).requires_grad_(), "h": torch.empty(0, 3),
    }  # fmt: skip
    path = tmp_path / "deep" / "folder" / "x.safetensors"
    digest = checkpoint.save(path, tensors, METADATA | {"number": 1.5, "none": None})
    found = checkpoint.load(path)
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype and torch.equal(found.tensors[name], tensor.detach()), name
    assert found.metadata == METADATA | {"number": 1.5, "none": None}
    assert digest == found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_network_comes_back_in_evaluation_mode(file):
    before, after = network().eval(), checkpoint.unet(checkpoint.load(file))
    assert not after.training
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(before(x), after(x))


def test_half_precision_weights_become_float32(tmp_path):
    checkpoint.save(
        tmp_path / "h.safetensors",
        {k: v.half() if v.is_floating_point() else v for k, v in network().state_dict().items()},
        METADATA,
    )
    assert {p.dtype for p in checkpoint.unet(checkpoint.load(tmp_path / "h.safetensors")).parameters()} == {
        torch.float32
    }


class FullDisk(Exception):
    pass


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_while_writing_leaves_the_old_file(file, monkeypatch, call):
    old = file.read_bytes()

    def fail(*_):
        raise FullDisk

    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(FullDisk):
        checkpoint.save(file, network(1).state_dict(), METADATA)
    monkeypatch.undo()
    assert file.read_bytes() == old
    checkpoint.save(file, network(1).state_dict(), METADATA)  # what the failure left is no obstacle
    assert file.read_bytes() != old and [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_disk_that_fills_up_half_way_leaves_the_old_file(file):
    old, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) // 2, limits[1]))  # writing beyond raises OSError
    try:
        with pytest.raises(OSError, match=f"could not write {file}: File too large; the previous file is unchanged"):
            checkpoint.save(file, network(1).state_dict(), METADATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == old and checkpoint.load(file).metadata == METADATA


def test_metadata_that_is_no_json_fails_before_anything_is_written(file):
    old = file.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(file, {}, {"kind": object()})
    assert file.read_bytes() == old


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_file_cut_off_is_refused(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"weights\.safetensors is not a whole safetensors file"):
        checkpoint.load(file)


@pytest.mark.parametrize("data", [b"PK\3\4 a zip, as torch.save writes", b"\x80\x04pickle", b"{}", b"\xff" * 64])
def test_foreign_files_are_refused(tmp_path, data):
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.pt is not a whole safetensors file"):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_other_projects_are_refused(tmp_path, metadata):
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(ValueError, match="not a checkpoint of this project"):
        checkpoint.load(tmp_path / "x.safetensors")


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match="does not exist"):
            checkpoint.load(path)


def test_no_code_hides_in_the_file(file):
    """The file is a length, a JSON header and raw numbers: nothing that loading could run."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["mpsams"]) == METADATA
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - length


def test_transfer_takes_encoder_and_decoder_but_not_the_head(file):
    own, source = network(5), network(0)
    head = {name: tensor.clone() for name, tensor in own.head.state_dict().items()}
    assert checkpoint.transfer(checkpoint.load(file), own) == ["encoder", "decoder"]
    for name, tensor in own.state_dict().items():
        part = name.split(".")[0]
        assert torch.equal(tensor, head[name.split(".", 1)[1]] if part == "head" else source.state_dict()[name]), name


def test_transfer_takes_what_the_checkpoint_says(tmp_path):
    checkpoint.save(tmp_path / "e.safetensors", network().state_dict(), METADATA | {"transfers": ["encoder"]})
    own = network(5)
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    assert checkpoint.transfer(checkpoint.load(tmp_path / "e.safetensors"), own) == ["encoder"]
    changed = {name.split(".")[0] for name, tensor in own.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"encoder"}


def test_transfer_can_take_the_encoder_alone(file):
    own, decoder = network(5), {name: tensor.clone() for name, tensor in network(5).decoder.state_dict().items()}
    assert checkpoint.transfer(checkpoint.load(file), own, ["encoder"]) == ["encoder"]
    assert all(
        torch.equal(tensor, network(0).encoder.state_dict()[name]) for name, tensor in own.encoder.state_dict().items()
    )
    assert all(torch.equal(tensor, decoder[name]) for name, tensor in own.decoder.state_dict().items())


def test_transfer_takes_all_of_a_segmentation(tmp_path):
    checkpoint.save(tmp_path / "s.safetensors", network(0).state_dict(), {"kind": "segmentation", "model": MODEL})
    own = network(5)
    assert checkpoint.transfer(checkpoint.load(tmp_path / "s.safetensors"), own, checkpoint.PARTS) == [
        "encoder",
        "decoder",
        "head",
    ]
    assert all(torch.equal(tensor, network(0).state_dict()[name]) for name, tensor in own.state_dict().items())


def test_transfer_refuses_another_width(file):
    with pytest.raises(ValueError, match="'width': 2.*other sizes"):
        checkpoint.transfer(checkpoint.load(file), network(width=4))


def test_transfer_refuses_a_norm_without_the_statistics_it_needs(tmp_path):
    checkpoint.save(
        tmp_path / "g.safetensors", network(norm="group").state_dict(), METADATA | {"model": MODEL | {"norm": "group"}}
    )
    with pytest.raises(ValueError, match="lacks.*running_mean"):
        checkpoint.transfer(checkpoint.load(tmp_path / "g.safetensors"), network())


def test_transfer_refuses_what_is_no_pretraining_or_lacks_a_part(tmp_path):
    path = tmp_path / "s.safetensors"
    checkpoint.save(path, network().state_dict(), {"kind": "state"})
    with pytest.raises(ValueError, match="'state' checkpoint hands nothing on"):
        checkpoint.transfer(checkpoint.load(path), network())
    checkpoint.save(path, network().encoder.state_dict(prefix="encoder."), METADATA)
    with pytest.raises(ValueError, match="lacks.*decoder"):
        checkpoint.transfer(checkpoint.load(path), network())


def test_a_network_that_is_not_there_or_not_whole_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"module.a": torch.zeros(2)}, {"kind": "state", "step": 3})
    with pytest.raises(ValueError, match="'state' checkpoint holds no network"):
        checkpoint.unet(checkpoint.load(path))
    tensors = network().state_dict()
    del tensors["head.bias"]
    checkpoint.save(path, tensors, METADATA)
    with pytest.raises(ValueError, match="head.bias"):
        checkpoint.unet(checkpoint.load(path))
    checkpoint.save(path, network().state_dict(), METADATA | {"model": MODEL | {"width": 4}})
    with pytest.raises(ValueError, match="'width': 4"):
        checkpoint.unet(checkpoint.load(path))


@pytest.mark.parametrize(
    "wrong", [MODEL | {"width": float(MODEL["width"])}, MODEL | {"width": "2"}, [MODEL], "unet", None]
)
def test_metadata_that_describe_no_network_are_refused_whatever_was_read_before(file, wrong):
    whole = checkpoint.load(file)
    checkpoint.check_shapes(whole)
    with pytest.raises(ValueError, match="describe no network"):
        checkpoint.check_shapes(replace(whole, metadata=whole.metadata | {"model": wrong}))
