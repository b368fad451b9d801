"""`python -m mpsams.annotation`: what the page imports and exports, by the command line, with a report and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation.project import Project
from tests.test_annotations import FLAT, drawn, picture, volume

ROOT = Path(__file__).resolve().parents[1]


def command(*words: object) -> tuple[int, dict, str]:
    """Exit code, report and what was written to stderr."""
    run = subprocess.run(
        [sys.executable, "-m", "mpsams.annotation", *map(str, words)], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    return run.returncode, json.loads(run.stdout) if run.stdout.startswith("{") else {"text": run.stdout}, run.stderr


def test_images_in_masks_in_and_masks_out_again(tmp_path):
    folder, mask = tmp_path / "project", drawn(1, FLAT)
    code, report, said = command("add", folder, picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 1), tmp_path.joinpath("a.png"))
    assert (code, report["added"], said) == (0, 2, "") and [image["name"] for image in report["images"]] == ["a.png", "b.png"]
    first, second = (image["id"] for image in report["images"])

    (tmp_path / "in" / "masks").mkdir(parents=True)
    Image.fromarray(np.uint8(255 * mask[:, :, 0].T)).save(tmp_path / "in" / "masks" / "a.png")
    Image.fromarray(np.zeros((5, 400), np.uint8)).save(tmp_path / "in" / "masks" / "b_mask.png")
    code, report, said = command("import", folder, tmp_path / "in", "--who", "Anna")
    assert (code, report["saved"], said) == (0, 1, "")
    assert report["images"] == [{"id": first, "name": "a.png", "status": "in work", "lesion_voxels": int(mask.sum())}]
    assert any(note.startswith("b") for note in report["notes"])
    with Project(folder) as project:
        assert np.array_equal(project.mask(first), mask) and project.mask(second) is None and project.log()[-1]["who"] == "Anna"

    code, report, _ = command("export", folder, "folder", tmp_path / "drafts")
    assert (code, report["which"], report["exported"]) == (0, "all", 1) and "No image is accepted" in report["notes"][0]
    with Project(folder) as project:
        project.accept(second, drawn(2, FLAT))
    code, report, _ = command("export", folder, "nifti", tmp_path / "out.zip")
    assert (code, report["which"], report["images"]) == (0, "accepted", [{"id": second, "status": "accepted", "file": f"{second}.nii.gz"}])
    assert zipfile.ZipFile(tmp_path / "out.zip").namelist() == [f"{second}.nii.gz"]


def test_what_cannot_be_done_is_one_sentence(tmp_path):
    picture(tmp_path / "a.png")
    for words, match in [
        (("import", tmp_path / "none", tmp_path / "a.png"), "is no project"), (("export", tmp_path, "coco", tmp_path / "out"), "is no project"),
    ]:  # fmt: skip
        code, report, said = command(*words)
        assert (code, said) == (1, "") and match in report["error"]
    assert not (tmp_path / "none").exists() and [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with Project(tmp_path / "project") as project:
        project.add(tmp_path / "a.png")
        code, report, said = command("import", project.folder, tmp_path / "a.png")
        assert (code, said) == (1, "") and "is open in another app" in report["error"]
    for words, match in [
        (("import", tmp_path / "project", tmp_path / "missing"), "does not exist"),
        (("export", tmp_path / "project", "coco", tmp_path / "out"), "nothing to export"),
    ]:  # fmt: skip
        code, report, said = command(*words)
        assert (code, said) == (1, "") and match in report["error"]
    code, _, said = command("export", tmp_path / "project", "bmp", tmp_path / "out")
    assert code == 2 and "folder" in said and "Traceback" not in said


@pytest.mark.parametrize("words", [(), ("import",), ("export",), ("add",)])
def test_help_lists_the_formats(words):
    code, report, _ = command(*words, "--help")
    assert code == 0 and all(form in report["text"] for form in ("folder", "nifti", "coco", "dicom-seg", "busi", "examples"))


def test_a_volume_goes_out_and_comes_back(tmp_path):
    with Project(tmp_path / "project") as project:
        item = project.add(volume(tmp_path / "scan.nii.gz"), "ct")
        project.add(picture(tmp_path / "a.png"))
        project.accept(item.id, drawn(3, item.shape_xyz))
    for form in ("coco", "nifti", "folder"):
        assert command("export", tmp_path / "project", form, tmp_path / form)[0] == 0
        with Project(tmp_path / "project") as project:
            project.save(item.id, np.zeros(item.shape_xyz, bool))
        code, report, _ = command("import", tmp_path / "project", tmp_path / form)
        assert (code, report["saved"]) == (0, 1)
        with Project(tmp_path / "project") as project:
            assert np.array_equal(project.mask(item.id), drawn(3, item.shape_xyz))
            project.accept(item.id)
