"""Packs: the same pixels as reading everything, made in any number of attempts, and refused when anything is off."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from mpsams import datasets, packs
from mpsams.datasets import Dataset, phantom
from tests.support import made_volumes
from train import options, pack, run_metadata

SIZE = 16
FILES = (packs.IMAGES, packs.MASKS, packs.ABOUT)


def hecktor(root: Path) -> Dataset:
    made_volumes.hecktor_2020(root, axes="RAS")
    made_volumes.boxes(root / "bbox.csv", {"CHGJ001": ((1, 2, 3), (4, 15, 20))})
    return datasets.open_dataset("hecktor", root)


def brats(root: Path) -> Dataset:
    made_volumes.brats(root, sequences=("t1", "flair"))
    return datasets.open_dataset("brats", root, ("t1", "flair"))


def folder(root: Path) -> Dataset:
    made_volumes.folder(root)
    return datasets.open_dataset("folder", root)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def two_channels(tmp_path) -> Dataset:
    return brats(tmp_path / "data")


@pytest.fixture
def whole(two_channels, tmp_path) -> Path:
    """A pack made in one go."""
    packs.write(two_channels, SIZE, tmp_path / "whole")
    return tmp_path / "whole"


@pytest.mark.parametrize("made", [hecktor, brats, folder])
def test_a_pack_is_the_stack(tmp_path, made):
    dataset, seen = made(tmp_path / "data"), []
    stack = datasets.stack(dataset, SIZE)
    about = packs.write(
        dataset, SIZE, tmp_path / "pack", lambda patients: (seen.append(name) or name for name in patients)
    )
    assert (
        packs.is_pack(tmp_path / "pack") and not packs.is_pack(tmp_path) and seen == list(dict.fromkeys(dataset.groups))
    )
    found = packs.read(tmp_path / "pack")
    assert (found.stored_nchw.dtype, found.stored_n1hw.dtype) == (torch.uint8, torch.bool)
    assert torch.equal(found.stored_nchw, stack.stored_nchw) and torch.equal(found.stored_n1hw, stack.stored_n1hw)
    assert stack.stored_n1hw.any() and stack.stored_nchw.float().std() > 5
    same = ("name", "modality", "target", "source", "cases", "groups", "sha256", "size", "channels")
    assert [getattr(found, key) for key in same] == [getattr(stack, key) for key in same]
    assert about["slices_read"] == len(dataset) >= len(found) == len(stack) and about["sha256"] == stack.sha256
    assert len(stack) < len(dataset)  # slices of air were left out
    for taken, expected in zip(found.take(torch.tensor([2, 0])), stack.take(torch.tensor([2, 0]))):
        assert torch.equal(taken, expected)
    few = [stack.groups[-1], stack.groups[0]]
    assert found.of(few, slice_stride=2).cases == stack.of(few, slice_stride=2).cases


def test_a_pack_tells_other_pixels_and_other_files_apart(two_channels, whole, tmp_path):
    about = packs.read(whole)
    packs.write(two_channels, 32, tmp_path / "large")
    packs.write(two_channels.of(two_channels.groups[:1]), SIZE, tmp_path / "fewer")
    assert len({about.sha256, packs.read(tmp_path / "large").sha256, packs.read(tmp_path / "fewer").sha256}) == 3
    source = json.loads((whole / packs.ABOUT).read_text())["source_sha256"]
    assert source == json.loads((tmp_path / "large" / packs.ABOUT).read_text())["source_sha256"]
    assert source != json.loads((tmp_path / "fewer" / packs.ABOUT).read_text())["source_sha256"]


# Going on


def stopping(dataset: Dataset, after: int) -> Dataset:
    """The same data set, until ``after`` samples were read; then it is as if someone had pressed Ctrl-C."""
    reads = []

    def read(case: str):
        if len(reads) == after:
            raise KeyboardInterrupt
        reads.append(case)
        return dataset.read(case)

    return replace(dataset, read=read)


def interrupted(dataset: Dataset, after: int, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        packs.write(stopping(dataset, after), SIZE, out)
    assert not packs.is_pack(out)


@pytest.mark.parametrize(
    "after, garbage", [(0, b""), (3, b""), (3, b"garbage " * 50), (7, b"x"), (20, b"garbage " * 50)]
)
def test_a_pack_that_was_interrupted_goes_on_as_if_it_had_not_been(two_channels, whole, tmp_path, after, garbage):
    out = tmp_path / "cut"
    interrupted(two_channels, after, out)
    for name in (packs.IMAGES, packs.MASKS):
        with open(out / name, "ab") as file:
            file.write(garbage)
    reads = []
    counting = replace(two_channels, read=lambda case: (reads.append(case), two_channels.read(case))[1])
    packs.write(counting, SIZE, out)
    assert contents(out) == contents(whole)
    assert reads == list(two_channels.cases[after // 7 * 7 :])  # finished patients are not read again


def test_a_line_of_progress_that_was_cut_off_does_no_harm(two_channels, whole, tmp_path):
    out = tmp_path / "cut"
    for after in (9, 10):  # each time one patient more is finished, and the next one's line begun
        interrupted(two_channels, after, out)
        with open(out / packs.PROGRESS, "a") as file:
            file.write('{"event": "packed", "patie')
    packs.write(two_channels, SIZE, out)
    assert contents(out) == contents(whole)


def test_a_first_patient_without_a_body_does_not_hide_the_channels(two_channels, tmp_path):
    for file in (tmp_path / "data" / "HGG" / "Brats18_HGG_0").iterdir():
        made_volumes.save(file, np.zeros(made_volumes.SHAPE, np.uint8))
    packs.write(two_channels, SIZE, tmp_path / "whole")
    assert packs.read(tmp_path / "whole").channels == 2 and "Brats18_HGG_0" not in packs.read(tmp_path / "whole").groups
    interrupted(two_channels, 16, tmp_path / "cut")
    packs.write(two_channels, SIZE, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_nothing_to_pack_is_refused(tmp_path):
    made_volumes.brats(tmp_path / "data", high=1, low=0)
    for file in (tmp_path / "data").rglob("*.nii.gz"):
        made_volumes.save(file, np.zeros(made_volumes.SHAPE, np.uint8))
    for _ in range(2):  # also when it goes on
        with pytest.raises(
            ValueError, match="none of the 7 slices of 'brats' shows a body or a lesion; is its modality really mri"
        ):
            packs.write(datasets.open_dataset("brats", tmp_path / "data"), SIZE, tmp_path / "pack")
    assert not packs.is_pack(tmp_path / "pack")


def rewritten(root: Path, out: Path) -> None:
    path = root / "HGG" / "Brats18_HGG_0" / "Brats18_HGG_0_flair.nii.gz"
    made_volumes.save(path, np.ones(made_volumes.SHAPE, np.uint16))


def shorter(name: str):
    return lambda root, out: os.truncate(out / name, 100)


@pytest.mark.parametrize(
    "spoil, size, sequences, message",
    [
        (
            rewritten,
            SIZE,
            ("t1", "flair"),
            "begun from other files or at another size .*Brats18_HGG_0.*choose another --out",
        ),
        (lambda root, out: None, 32, ("t1", "flair"), "begun from other files or at another size"),
        (lambda root, out: None, SIZE, ("t1",), "begun from other files or at another size"),
        (
            lambda root, out: shutil.rmtree(root / "HGG" / "Brats18_HGG_0"),
            SIZE,
            ("t1", "flair"),
            "begun from other files or at another size",
        ),
        (
            shorter(packs.IMAGES),
            SIZE,
            ("t1", "flair"),
            r"images\.bin has 100 bytes, its finished patients need 2560; delete",
        ),
        (
            shorter(packs.MASKS),
            SIZE,
            ("t1", "flair"),
            r"masks\.bin has 100 bytes, its finished patients need 1280; delete",
        ),
        (
            lambda root, out: (out / packs.IMAGES).unlink(),
            SIZE,
            ("t1", "flair"),
            r"images\.bin has 0 bytes, its finished patients need 2560",
        ),
    ],
)
def test_going_on_with_something_else_is_refused(two_channels, tmp_path, spoil, size, sequences, message):
    out = tmp_path / "cut"
    interrupted(two_channels, 9, out)
    spoil(tmp_path / "data", out)
    dataset = datasets.open_dataset("brats", tmp_path / "data", sequences)
    with pytest.raises(ValueError, match=message):
        packs.write(dataset, size, out)
    assert not packs.is_pack(out)


def test_pictures_that_changed_in_between_are_noticed_as_well(tmp_path):
    for kind in ("benign", "malignant", "normal"):
        made_volumes.picture(tmp_path / "data" / kind / f"{kind} (1).png", np.full((20, 20), 99, np.uint8))
        made_volumes.picture(tmp_path / "data" / kind / f"{kind} (1)_mask.png", np.zeros((20, 20), np.uint8))
    dataset = datasets.open_dataset("busi", tmp_path / "data")
    interrupted(dataset, 2, tmp_path / "cut")
    made_volumes.picture(tmp_path / "data" / "benign" / "benign (1)_mask.png", np.full((20, 20), 255, np.uint8))
    with pytest.raises(ValueError, match=r"begun from other files .*benign \(1\)"):
        packs.write(dataset, SIZE, tmp_path / "cut")


def test_a_finished_pack_is_not_written_over(two_channels, whole):
    before = contents(whole)
    with pytest.raises(ValueError, match="holds a finished pack already; delete it or choose another --out"):
        packs.write(two_channels, SIZE, whole)
    assert contents(whole) == before


# Reading


def test_a_finished_pack_is_distinguished_from_one_of_other_data(two_channels, whole, tmp_path):
    packs.check(whole, two_channels)
    with pytest.raises(ValueError, match="was made from other patients than this folder of data has"):
        packs.check(whole, two_channels.of(two_channels.groups[:1]))
    for path in (tmp_path / "data").rglob("*_t1.nii.gz"):
        path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(ValueError, match="was begun from other files"):
        packs.check(whole, two_channels)


def about(change):
    """Change what pack.json says."""

    def spoil(out: Path) -> None:
        values = json.loads((out / packs.ABOUT).read_text())
        change(values)
        (out / packs.ABOUT).write_text(json.dumps(values))

    return spoil


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda out: os.truncate(out / packs.IMAGES, 15 * 2 * SIZE**2 - 1),
            r"images\.bin has 7679 bytes, expected 7680",
        ),
        (lambda out: os.truncate(out / packs.MASKS, 0), r"masks\.bin has 0 bytes, expected 3840"),
        (lambda out: os.truncate(out / packs.IMAGES, 10**4), r"images\.bin has 10000 bytes, expected 7680"),
        (lambda out: (out / packs.MASKS).unlink(), r"masks\.bin"),
        (lambda out: (out / packs.ABOUT).write_text("{"), "line 1 column 2"),
        (lambda out: (out / packs.ABOUT).write_text("[]"), "list"),
        (about(lambda values: values.pop("groups")), "groups"),
        (about(lambda values: values["cases"].pop()), r"images\.bin has 7680 bytes, expected 7168"),
        (about(lambda values: values.update(channels=1)), r"images\.bin has 7680 bytes, expected 3840"),
    ],
)
def test_a_damaged_pack_is_refused(whole, spoil, message):
    assert len(packs.read(whole)) == 15
    spoil(whole)
    with pytest.raises(
        ValueError, match=rf"{whole} is no intact pack \(.*{message}.*\); make it again with train\.pack"
    ):
        packs.read(whole)


def test_a_pack_larger_than_the_memory_is_opened_and_read_in_parts(tmp_path):
    """The files are as large as memory and half again, but sparse: whoever read them whole would not come back."""
    size, memory = 2048, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    count = int(1.5 * memory) // size**2
    for name in (packs.IMAGES, packs.MASKS):
        with open(tmp_path / name, "wb") as file:
            file.truncate(count * size**2)
            file.seek((count - 2) * size**2 + 5)
            file.write(b"\x01")
    cases = [str(k) for k in range(count)]
    values = {
        "name": "folder",
        "modality": "ct",
        "target": "x",
        "source": "y",
        "size": size,
        "channels": 1,
        "sha256": "z",
    }
    (tmp_path / packs.ABOUT).write_text(json.dumps(values | {"cases": cases, "groups": cases}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = packs.read(tmp_path)
    images, masks = stack.take(torch.tensor([count - 2, 0]))
    assert images.shape == masks.shape == (2, 1, size, size) and images.sum() == masks.sum() == 1
    assert images[0, 0, 0, 5] == 1 and masks[0, 0, 0, 5]
    assert stack.of(cases[-2:]).take(torch.tensor([0]))[0][0, 0, 0, 5] == 1


def test_the_memory_of_packing_is_that_of_one_patient(tmp_path):
    made_volumes.brats(tmp_path / "data", high=0, low=8)
    dataset = datasets.open_dataset("brats", tmp_path / "data")
    few = dataset.of(list(dict.fromkeys(dataset.groups))[:4])

    def peak(work) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    packs.write(few, 128, tmp_path / "warm")  # what is imported on the way
    assert peak(lambda: packs.write(dataset, 128, tmp_path / "all")) < 1.15 * peak(
        lambda: packs.write(few, 128, tmp_path / "few")
    )
    # this test can see growth
    assert peak(lambda: datasets.stack(dataset, 128)) > 1.6 * peak(lambda: datasets.stack(few, 128))


# The command


def test_the_command_packs_goes_on_and_says_what_it_did(tmp_path, monkeypatch, capsys):
    made_volumes.brats(tmp_path / "data", sequences=("t1", "flair"))
    monkeypatch.chdir(tmp_path)
    data = [
        "--data.name",
        "brats",
        "--data.root",
        str(tmp_path / "data"),
        "--data.size",
        str(SIZE),
        "--data.sequences",
        '["flair"]',
    ]
    out = pack.main(data)
    assert (
        out == Path("packs/brats-16")
        and "wrote packs/brats-16: 15 of 21 slices, 16 × 16 pixels" in capsys.readouterr().out
    )
    flair = datasets.stack(datasets.open_dataset("brats", tmp_path / "data", ("flair",)), SIZE)
    assert packs.read(out).sha256 == flair.sha256
    with pytest.raises(ValueError, match="holds a finished pack"):
        pack.main(data)
    fewer = pack.main([*data, "--data.cases", "7", "--out", str(tmp_path / "fewer")])
    assert packs.read(fewer).cases == flair.cases[:5]


def test_training_takes_a_pack_only_for_what_it_is(whole):
    data = {"name": "brats", "root": str(whole), "size": SIZE}
    stack = options.read(options.Data(**data))
    assert (stack.name, stack.size, stack.channels, stack.target) == ("brats", SIZE, 2, "whole brain tumour")
    stated = options.read(options.Data(**data, target="glioma", source="elsewhere"))
    assert (stated.target, stated.source, stated.sha256) == ("glioma", "elsewhere", stack.sha256)
    for other in ({"size": 32}, {"name": "hecktor"}):
        with pytest.raises(ValueError, match="is a pack of 'brats' at 16 pixels; data.name is .* and data.size"):
            options.read(options.Data(**data | other))
    assert stack.sequences == ("t1", "flair") == options.read(options.Data(**data, sequences=("t1", "flair"))).sequences
    for other in ({"sequences": ("t1",)}, {"cases": 3}):
        with pytest.raises(ValueError, match="is a pack of t1, flair"):
            options.read(options.Data(**data | other))


def unheard(root: Path) -> str:
    """A folder of volumes whose reader has something to say, and what."""
    made_volumes.folder(root)
    for path in (root / "images" / "scan.nii.gz", root / "masks" / "scan.nii.gz"):
        image = nibabel.load(path)
        image.header.set_xyzt_units("meter")
        nibabel.save(
            nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine / [[1000], [1000], [1000], [1]], image.header),
            path,
        )
    (root / "images" / "Thumbs.db").write_bytes(b"no image")
    return "The file states its lengths in metres; they are shown in millimetres."


def test_packing_and_training_print_what_the_reader_notes_once(tmp_path, capsys):
    sentence = unheard(tmp_path / "data")
    expected = ["note: Passed over in images/, being no images: Thumbs.db.", f"note: scan: {sentence}"]
    data = [
        "--data.name",
        "folder",
        "--data.root",
        str(tmp_path / "data"),
        "--data.size",
        str(SIZE),
        "--data.modality",
        "ct",
    ]
    out = pack.main([*data, "--out", str(tmp_path / "pack")])
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")] == expected
    found = packs.read(out)
    assert found.modality == "ct" and [f"note: {note}" for note in found.notes] == expected
    for root in (out, tmp_path / "data"):
        stack = options.read(options.Data("folder", str(root), size=SIZE, modality="ct"))
        assert stack.modality == "ct" and stack.sha256 == found.sha256
        assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")] == expected
    with pytest.raises(ValueError, match="is a pack of ct; data.modality can be nothing else"):
        options.read(options.Data("folder", str(out), size=SIZE, modality="mri"))
    with pytest.raises(ValueError, match="data.modality is 'pet'; expected one of: .*ultrasound, ct, mri"):
        options.Data("folder", modality="pet")


def test_a_folder_with_a_dicom_series_is_packed(tmp_path):
    built_in = phantom.volumes()[1]
    drawn = replace(built_in.draw(), tilt=0.0)
    files = built_in.save(drawn, tmp_path / "data" / "images" / "a")
    dataset = datasets.open_dataset("folder", tmp_path / "data")
    assert list(dataset.files("a")) == sorted(files)
    packs.write(dataset, SIZE, tmp_path / "pack")
    assert packs.read(tmp_path / "pack").sha256 == datasets.stack(dataset, SIZE).sha256


def test_an_older_pack_has_no_notes(whole):
    about = json.loads((whole / packs.ABOUT).read_text())
    (whole / packs.ABOUT).write_text(json.dumps({key: value for key, value in about.items() if key != "notes"}))
    assert packs.read(whole).notes == ()


def test_an_empty_modality_changes_nothing_that_a_resumed_run_compares():
    config = {"data": asdict(options.Data()), "run": {"seed": 0}}
    assert "modality" not in run_metadata.resume_fingerprint(config, "")["data"]
    config["data"] = asdict(options.Data("folder", modality="mri"))
    assert run_metadata.resume_fingerprint(config, "")["data"]["modality"] == "mri"
