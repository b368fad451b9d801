"""``python -m mpsams.imaging`` as another program calls it: its JSON and exit codes, through a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from mpsams.datasets import phantom
from tests.support import ROOT
from tests.support.made_volumes import body, picture, sagittal_slice, save
from tests.support.nifti_files import nii, noise

KEYS = [
    "file",
    "choices",
    "choice",
    "modality",
    "origin",
    "shape",
    "spacing_mm",
    "affine",
    "voxel_mm3",
    "range",
    "slice_means",
    "notes",
]


def called(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mpsams.imaging", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def run_json(*arguments: object, code: int = 0) -> dict:
    """The JSON, which must be strict, without anything on stderr."""
    run = called(*arguments)
    assert (run.returncode, run.stderr) == (code, "")
    return json.loads(run.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_volume_is_described_by_its_own_values(tmp_path):
    values_shw, _ = body(3)
    path = save(tmp_path / "scan.nii.gz", values_shw, "RPI")
    answer, image = run_json(path), nibabel.load(path)
    assert list(answer) == KEYS and answer["file"] == "scan.nii.gz"
    assert (
        answer["modality"] == "ct"
        and answer["shape"] == list(image.shape)
        and answer["choices"] == []
        and answer["choice"] == 0
    )
    np.testing.assert_allclose(answer["affine"], image.affine)
    np.testing.assert_allclose(answer["spacing_mm"], image.header.get_zooms())
    assert answer["voxel_mm3"] == pytest.approx(216)
    assert answer["range"] == [values_shw.min(), values_shw.max()]
    np.testing.assert_allclose(answer["slice_means"], values_shw.mean((1, 2)))
    slice_hw = values_shw[:, :, 0].repeat(3, 0)
    answer = run_json(sagittal_slice(tmp_path / "slice.nii.gz", slice_hw))
    np.testing.assert_allclose(answer["slice_means"], [slice_hw.mean()])


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_along_any_axis_is_one_image(tmp_path, axis):
    voxels = noise((17, 18, 19)).take([2], axis)
    (tmp_path / "a.nii").write_bytes(nii(voxels, np.diag([-0.5, -0.7, 0.9, 1])))
    answer = run_json(tmp_path / "a.nii")
    assert (answer["shape"], answer["choices"]) == (list(voxels.shape), [])
    assert answer["spacing_mm"] == pytest.approx([0.5, 0.7, 0.9])
    assert answer["slice_means"] == pytest.approx([voxels.mean()])
    (tmp_path / "b.nii").write_bytes(nii(voxels, srow_z=np.zeros(4)))  # a position that makes no sense
    answer = run_json(tmp_path / "b.nii")
    assert answer["affine"] is None and answer["slice_means"] == pytest.approx([voxels.mean()])


def test_a_slanted_voxel_has_the_volume_of_the_determinant(tmp_path):
    affine = np.diag([-1.0, -1, 2, 1])
    affine[1, 2] = 1.5
    (tmp_path / "a.nii").write_bytes(nii(noise(), affine))
    answer = run_json(tmp_path / "a.nii")
    assert answer["voxel_mm3"] == pytest.approx(2) and answer["spacing_mm"] == pytest.approx([1, 1, 2.5])


def test_choices_and_a_stated_modality(tmp_path):
    values = noise((17, 18, 5, 3))
    (tmp_path / "a.nii").write_bytes(nii(values))
    answer = run_json(tmp_path / "a.nii", "--choice", 2, "--modality", "ultrasound")
    assert answer["choice"] == 2 and len(answer["choices"]) == 3 and answer["modality"] == "ultrasound"
    np.testing.assert_allclose(answer["slice_means"], values[..., 2].mean((0, 1)))
    assert "allowed are 0 to 2" in run_json(tmp_path / "a.nii", "--choice", 3, code=1)["error"]


def test_what_is_no_number_is_not_written(tmp_path):
    values = noise(dtype=np.float32)
    values[:, :, 1], values[0, 0, 2], values[0, 1, 2] = np.nan, np.inf, -np.inf
    (tmp_path / "a.nii").write_bytes(nii(values, srow_x=[0] * 4))
    answer = run_json(tmp_path / "a.nii")
    assert answer["slice_means"][1] is None and answer["range"] == [0, 100]
    assert answer["slice_means"][2] == pytest.approx(float(values[:, :, 2][np.isfinite(values[:, :, 2])].mean()))
    (tmp_path / "b.nii").write_bytes(nii(np.full((17, 18, 5), np.nan, np.float32)))
    assert run_json(tmp_path / "b.nii")["range"] is None


def test_a_picture_has_no_geometry(tmp_path):
    picture(tmp_path / "a.png", np.full((20, 30), 51, np.uint8))
    answer = run_json(tmp_path / "a.png")
    assert (
        answer["shape"] == [30, 20, 1]
        and answer["modality"] == "ultrasound"
        and answer["range"] == pytest.approx([0.2, 0.2])
    )
    assert [answer[key] for key in ("spacing_mm", "affine", "voxel_mm3", "notes")] == [None, None, None, []]


def test_a_folder_or_its_files_are_one_upload(tmp_path):
    built_in = phantom.volumes()[1]
    volume = built_in.draw()
    files = built_in.save(volume, tmp_path)
    assert len(files) > 1
    (tmp_path / "README.txt").write_text("this is no image, whatever its name")
    folder, series = run_json(tmp_path), run_json(*files)
    assert folder["file"] == tmp_path.name and series["file"] == files[0].name
    assert folder["notes"][-1].startswith("1 of the ") and series["notes"] == []
    assert folder["shape"] == series["shape"] and folder["slice_means"] == series["slice_means"]
    assert folder["shape"][2] == len(folder["slice_means"]) == len(files)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", nii(noise())[:400], None])
def test_what_cannot_be_read_is_a_sentence(tmp_path, content):
    path = tmp_path / "a b.nii.gz"
    if content is not None:
        path.write_bytes(content)
    answer = run_json(path, code=1)
    assert set(answer) == {"error", "file"} and answer["file"] == "a b.nii.gz"
    assert answer["error"].endswith(".") and str(tmp_path) not in answer["error"]


def test_help_teaches_and_wrong_options_are_named():
    text = called("--help").stdout
    assert all(key in text for key in KEYS) and "--choice" in text and "--modality" in text
    wrong = called("x.png", "--modality", "pet")
    assert wrong.returncode == 2 and "'pet'" in wrong.stderr and "ultrasound" in wrong.stderr
