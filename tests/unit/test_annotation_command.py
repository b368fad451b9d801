"""`python -m mpsams.annotation`: what the page imports and exports, by the command line, with a report and an exit
code.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import warnings
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams import imaging
from mpsams.annotation import transfer
from mpsams.annotation.__main__ import main
from mpsams.annotation.project import Project
from tests.support.label_maps import organ
from tests.support.projects import FLAT, drawn, picture, volume

ROOT = Path(__file__).resolve().parents[2]


def command(*words: object) -> tuple[int, dict, str]:
    """Exit code, report and what was written to stderr, by a call in this process, which is sooner than a new one."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            if isinstance(end.code, str):  # Python writes a text to stderr and exits with 1
                errors.write(f"{end.code}\n")
            code = 1 if isinstance(end.code, str) else int(end.code or 0)
    return code, report_of(printed.getvalue()), errors.getvalue()


def program(*words: object) -> tuple[int, dict, str]:
    """As ``command``, by a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "mpsams.annotation", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return run.returncode, report_of(run.stdout), run.stderr


def report_of(printed: str) -> dict:
    return json.loads(printed) if printed.startswith("{") else {"text": printed}


def test_a_file_that_is_not_added_is_named(tmp_path):
    picture(tmp_path / "a.png"), (tmp_path / "b.png").write_bytes(b"")
    code, report, _ = command("add", tmp_path / "project", tmp_path / "a.png", tmp_path / "b.png")
    assert code == 0 and report["notes"][0].startswith(f"{tmp_path / 'b.png'} was not added: The file is empty")


def test_images_in_masks_in_and_masks_out_again(tmp_path):
    folder, mask = tmp_path / "project", drawn(1, FLAT)
    code, report, errors = program(
        "add", folder, picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 1), tmp_path.joinpath("a.png")
    )
    assert (code, report["added"], errors) == (0, 2, "") and [image["name"] for image in report["images"]] == [
        "a.png",
        "b.png",
    ]
    first, second = (image["id"] for image in report["images"])

    (tmp_path / "masks").mkdir()
    Image.fromarray(np.uint8(255 * mask[:, :, 0].T)).save(tmp_path / "masks" / "a.png")
    Image.fromarray(np.zeros((5, 400), np.uint8)).save(tmp_path / "masks" / "b_mask.png")
    code, report, errors = command("import", folder, tmp_path / "masks", "--who", "Anna")
    assert (code, report["saved"], errors) == (0, 1, "")
    assert report["images"] == [
        {"id": first, "name": "a.png", "class": "", "status": "in work", "lesion_voxels": int(mask.sum())}
    ]
    assert any(note.startswith("b") for note in report["notes"])
    with Project(folder) as project:
        assert (
            np.array_equal(project.mask(first), mask)
            and project.mask(second) is None
            and project.log()[-1]["user"] == "Anna"
        )

    code, report, _ = command("export", folder, "folder", tmp_path / "drafts")
    assert (code, report["which"], report["exported"]) == (0, "all", 1) and "No image is accepted" in report["notes"][0]
    with Project(folder) as project:
        project.accept(second, drawn(2, FLAT))
    code, report, _ = command("export", folder, "nifti", tmp_path / "out.zip")
    assert (code, report["which"], report["images"]) == (
        0,
        "accepted",
        [{"id": second, "name": "b.png", "class": "", "status": "accepted", "file": "b.nii.gz"}],
    )
    assert zipfile.ZipFile(tmp_path / "out.zip").namelist() == ["b.nii.gz", "names.csv"]
    code, report, _ = command("export", folder, "nifti", tmp_path / "hashed", "--names", "hashed")
    assert sorted(path.name for path in (tmp_path / "hashed").iterdir()) == sorted((f"{second}.nii.gz", "names.csv"))
    (tmp_path / "classes.csv").write_text("Name;Diagnosis\na.png;Benign\nb.png;cyst\nc.png;normal\n")
    code, report, _ = command("import", folder, tmp_path / "classes.csv")
    assert (code, report["saved"], report["classified"]) == (0, 0, 1) and any(
        "does not define" in note for note in report["notes"]
    )
    code, report, _ = command("export", folder, "coco", tmp_path / "coco", "--which", "all")
    assert report["classes"] == {"benign": 1, "": 1} and report["images"][0]["class"] == "benign"


def test_an_import_of_label_maps_says_what_became_of_the_labels(tmp_path):
    folder, masks = tmp_path / "project", tmp_path / "masks"
    assert command("add", folder, picture(tmp_path / "a.png"))[0] == 0
    masks.mkdir()
    Image.fromarray(organ(FLAT)[:, :, 0].T.copy()).save(masks / "a.png")
    joined = (
        "a.png: The mask holds 2 labels; every label above 0 is lesion. To import them as structures, define structures"
        " first, or put a dataset.json with their names beside the masks."
    )
    code, report, errors = command("import", folder, masks)
    assert (code, report["saved"], report["notes"], errors) == (0, 1, [joined], "")
    (masks / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "cyst": 2}}))
    code, report, errors = command("import", folder, masks)
    assert (code, report["saved"], errors) == (0, 1, "")
    assert report["notes"] == ["Structures added to the project: organ, cyst."]


def test_what_cannot_be_done_is_one_sentence(tmp_path):
    picture(tmp_path / "a.png")
    for words, match in [
        (("import", tmp_path / "none", tmp_path / "a.png"), "is no project"),
        (("export", tmp_path, "coco", tmp_path / "out"), "is no project"),
    ]:
        code, report, errors = command(*words)
        assert (code, errors) == (1, "") and match in report["error"]
    assert not (tmp_path / "none").exists() and [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with Project(tmp_path / "project") as project:
        project.add(tmp_path / "a.png")
        code, report, errors = program("import", project.folder, tmp_path / "a.png")
        assert (code, errors) == (1, "") and "is open in another app" in report["error"]
    for words, match in [
        (("import", tmp_path / "project", tmp_path / "missing"), "does not exist"),
        (("export", tmp_path / "project", "coco", tmp_path / "out"), "nothing to export"),
    ]:  # fmt: skip
        code, report, errors = command(*words)
        assert (code, errors) == (1, "") and match in report["error"]
    code, _, errors = program("export", tmp_path / "project", "bmp", tmp_path / "out")
    assert code == 2 and "folder" in errors and "Traceback" not in errors


def coco(path: Path, **segmentations: object) -> Path:
    """COCO of pictures of FLAT, one for each name; a segmentation of None is an image that is listed without
    annotation.
    """
    images = [{"id": name, "file_name": f"{name}.png", "width": FLAT[0], "height": FLAT[1]} for name in segmentations]
    boxed = {"category_id": 1, "iscrowd": 0, "bbox": [3, 4, 20, 20], "area": 400}
    annotations = [
        boxed | {"id": number, "image_id": name} | ({} if one == "missing" else {"segmentation": one})
        for number, (name, several) in enumerate(segmentations.items()) if several is not None for one in several
    ]  # fmt: skip
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "lesion"}]})
    )
    return path


SQUARE = [[4, 4, 24, 4, 24, 24, 4, 24]]


def test_slices_of_a_volume_never_land_on_pictures_called_like_their_numbers(tmp_path):
    with Project(tmp_path / "project") as project:
        deep = project.add(volume(tmp_path / "scan.nii.gz"), "ct")
        flats = []
        for number in range(5):
            pixels = np.random.default_rng(number).integers(0, 255, (18, 20), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number:03d}.png")
            flats.append(project.add(tmp_path / f"{number:03d}.png"))
        project.accept(deep.id, drawn(3, deep.shape_xyz))
        transfer.write(project, "coco", "accepted", "lesion", tmp_path / "out")
        project.reopen(deep.id)
        assert transfer.take(project, tmp_path / "out", "").saved == [deep.id] and np.array_equal(
            project.mask(deep.id), drawn(3, deep.shape_xyz)
        )
        whole = json.loads((tmp_path / "out" / "annotations.json").read_text())
        for image in whole["images"]:
            image["file_name"] = f"001/{image['file_name'].rpartition('/')[2]}"  # of a picture, which has no slices
        (tmp_path / "given.json").write_text(json.dumps(whole))
        assert transfer.take(project, tmp_path / "given.json", "").saved == [] and all(
            project.mask(item.id) is None for item in flats
        )


@pytest.mark.parametrize(
    "given",
    [
        {"a": [[]], "b": ["missing"]},
        {"a": [None], "b": [[[1, 2, 3, 4]]]},
        {"a": None, "b": None},
        {"a": [{"size": [5, 5], "counts": [25]}], "b": [5]},
        {"a": [SQUARE, []], "b": [[], SQUARE]},
        {"c": [SQUARE]},
    ],
)
def test_what_is_refused_leaves_drafts_as_they_are(tmp_path, given):
    with Project(tmp_path / "project") as project:
        ids = [project.add(picture(tmp_path / f"{name}.png", seed)).id for seed, name in enumerate("ab")]
        for seed, id in enumerate(ids):
            project.save(id, drawn(seed, FLAT), user="Anna")
        before = (project.folder / "log.jsonl").read_bytes()
        found = transfer.take(project, coco(tmp_path / "given.json", **given), "Bert")
        assert found.saved == [] and found.notes and (project.folder / "log.jsonl").read_bytes() == before
        assert all(np.array_equal(project.mask(id), drawn(seed, FLAT)) for seed, id in enumerate(ids))


def test_a_refused_image_does_not_keep_the_others_out(tmp_path):
    with Project(tmp_path / "project") as project:
        ids = [project.add(picture(tmp_path / f"{name}.png", seed)).id for seed, name in enumerate("abc")]
        for seed, id in enumerate(ids):
            project.save(id, drawn(seed, FLAT))
        project.accept(ids[2])
    code, report, _ = command(
        "import", tmp_path / "project", coco(tmp_path / "given.json", a=[[]], b=[SQUARE], c=[SQUARE])
    )
    assert (code, report["saved"]) == (0, 1) and report["images"] == [
        {"id": ids[1], "name": "b.png", "class": "", "status": "in work", "lesion_voxels": 400}
    ]
    assert any(note.startswith("a.png: an annotation in the COCO file has no segmentation") for note in report["notes"])
    assert any("1 accepted image was left alone" in note for note in report["notes"])
    assert [one["name"] for one in report["refused"]] == ["a.png", "c.png"] and all(
        one["reason"].endswith(".") for one in report["refused"]
    )
    code, report, _ = command("import", tmp_path / "project", coco(tmp_path / "given.json", a=[[]], b=["missing"]))
    assert (code, report["saved"], report["images"]) == (1, 0, []) and report["notes"]


def test_a_picture_without_lesion_goes_out_as_coco_and_comes_back(tmp_path):
    with Project(tmp_path / "project") as project:
        id = project.add(picture(tmp_path / "a.png")).id
        project.accept(id, np.zeros(FLAT, bool))
        transfer.write(project, "coco", "accepted", "lesion", tmp_path / "out")
        project.save(id, drawn(1, FLAT))
        assert transfer.take(project, tmp_path / "out", "").saved == [id] and not project.mask(id).any()


def test_masks_find_their_images_in_a_project(tmp_path):
    with Project(tmp_path / "project") as project:
        ids = {}
        for seed, name in enumerate(("a.png", "a.jpg", "img1.png", "img10.png", "dup.png", "x/dup.png")):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            ids[name] = project.add(picture(tmp_path / name, seed)).id
        (tmp_path / "masks").mkdir()
        for seed, name in enumerate(("a.png", "IMG1_mask.png", "img10.png", "dup.png", "img100.png")):
            Image.fromarray(np.uint8(255 * drawn(seed, FLAT)[:, :, 0].T)).save(tmp_path / "masks" / name)
        found = transfer.take(project, tmp_path / "masks", "")
        assert found.saved == [ids["img1.png"], ids["img10.png"]]
        assert np.array_equal(project.mask(ids["img1.png"]), drawn(1, FLAT)) and np.array_equal(
            project.mask(ids["img10.png"]), drawn(2, FLAT)
        )
        notes = " ".join(found.notes)
        assert "a.png" in notes and "a.jpg" in notes and "dup.png" in notes and "1 mask belongs to no image" in notes


def test_images_are_opened_one_at_a_time(tmp_path, monkeypatch):
    with Project(tmp_path / "project") as project:
        for seed in range(4):
            project.accept(project.add(volume(tmp_path / f"{seed}.nii.gz", seed), "ct").id, drawn(seed, (20, 18, 5)))
        living, most, read = weakref.WeakSet(), [0], imaging.read

        def opened(*given, **more):
            gc.collect()
            scan = read(*given, **more)
            living.add(scan)
            most.append(len(living))
            return scan

        monkeypatch.setattr(imaging, "read", opened)
        for form in ("coco", "folder", "nifti"):
            transfer.write(project, form, "all", "lesion", tmp_path / form)
            for item in project.items():
                project.reopen(item.id)
            assert len(transfer.take(project, tmp_path / form, "").saved) == 4
        assert max(most) <= 2  # the next one, while the project still holds the last


@pytest.mark.parametrize("words", [(), ("import",), ("export",), ("add",)])
def test_help_lists_the_formats(words):
    code, report, _ = command(*words, "--help")
    assert code == 0 and all(
        form in report["text"] for form in ("folder", "nifti", "coco", "dicom-seg", "busi", "examples")
    )


def test_a_volume_goes_out_and_comes_back(tmp_path):
    with Project(tmp_path / "project") as project:
        item = project.add(volume(tmp_path / "scan.nii.gz"), "ct")
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
