"""HECKTOR, BraTS and folders of one's own: the samples are what nibabel wrote, however stored; errors name what is
wrong.
"""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mpsams import datasets, transforms
from mpsams.datasets import Dataset, Sample, _volumes, phantom
from mpsams.inference import open_case
from mpsams.transforms import Box
from tests.support import made_volumes
from tests.support.made_volumes import CORNER, ORIENTATIONS, SHAPE, SPACING, Made
from tests.support.nifti_files import nii

CT_SPAN = ((-160.0, 240.0),)


def check_patient(dataset: Dataset, name: str, made: Made, codes: tuple[int, ...]) -> None:
    """All samples of a patient are what was written."""
    samples = list(dataset.of([name]))
    assert [sample.case for sample in samples] == [f"{name}/{k:03d}" for k in range(len(made.codes_shw))]
    for k, sample in enumerate(samples):
        channels = [channel[k].astype(np.float32) for channel in made.channels]
        assert np.array_equal(sample.image, channels[0] if len(channels) == 1 else np.stack(channels))
        assert np.array_equal(sample.mask, np.isin(made.codes_shw[k], codes))
        assert sample.spacing == pytest.approx(SPACING) and sample.spacing_hw == pytest.approx(SPACING[1:])


def same(a: Sample, b: Sample) -> bool:
    geometry = [(s.case, s.box, s.spans, [round(mm, 4) for mm in s.spacing]) for s in (a, b)]
    return np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask) and geometry[0] == geometry[1]


# HECKTOR


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("write", [made_volumes.hecktor_2020, made_volumes.hecktor_2022])
def test_hecktor_of_both_years_is_what_was_written(tmp_path, write, above):
    made = write(tmp_path / "data")
    dataset = datasets.open_dataset(
        "hecktor", tmp_path if above and write is made_volumes.hecktor_2022 else str(tmp_path / "data")
    )
    assert (dataset.name, dataset.modality) == ("hecktor", "ct") and "tumour" in dataset.target
    assert tuple(dict.fromkeys(dataset.groups)) == tuple(made) and len(dataset) == 3 * SHAPE[0]
    for name, written in made.items():
        check_patient(dataset, name, written, codes=(1,))
        assert 0 < np.isin(written.codes_shw, (1,)).sum() < np.count_nonzero(written.channels[0] > -500)
    sample = dataset[3]
    assert sample.spans == CT_SPAN and sample.box == transforms.frame(sample.image, SPACING[1:], "ct")
    assert (sample.box.height, sample.box.width) == (round(256 / SPACING[1]), round(256 / SPACING[2]))


@pytest.mark.parametrize("axes", ORIENTATIONS[1:])
def test_the_same_anatomy_stored_otherwise_gives_the_same_samples(tmp_path, axes):
    # on the middles of voxels, where rounding would depend on the direction
    corners = {"CHGJ000": ((1, 3, 4), (4, 15, 20))}
    for own in (made_volumes.AXES, axes):
        made_volumes.hecktor_2020(tmp_path / own, patients=2, axes=own)
        made_volumes.boxes(tmp_path / own / "hecktor2020_bounding_boxes.csv", corners)
    one, other = (datasets.open_dataset("hecktor", tmp_path / own) for own in (made_volumes.AXES, axes))
    assert one.cases == other.cases and all(same(a, b) for a, b in zip(one, other, strict=True))
    assert datasets.stack(one, 16).sha256 == datasets.stack(other, 16).sha256


def test_scaled_voxels_are_read_as_nibabel_scales_them(tmp_path):
    made_volumes.hecktor_2020(tmp_path, patients=1)
    path = tmp_path / "hecktor_nii" / "CHGJ000_ct.nii.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[112:120] = np.array([0.5, -24.0], "<f4").tobytes()  # scl_slope and scl_inter
    path.write_bytes(gzip.compress(bytes(data)))
    expected = nibabel.load(path).get_fdata()
    assert expected.min() == -524
    for k, sample in enumerate(datasets.open_dataset("hecktor", tmp_path)):
        np.testing.assert_array_equal(sample.image, expected[:, :, k].T)


@pytest.mark.parametrize("off", [0.0, 0.4])
@pytest.mark.parametrize("swapped", [False, True])
def test_hecktors_bounding_boxes_are_millimetres_in_lps(tmp_path, off, swapped):
    made = made_volumes.hecktor_2020(tmp_path)
    low, high = np.array((1, 5, 6)) - off, np.array((3, 14, 19)) + off
    corners = (high, low) if swapped else (low, high)
    made_volumes.boxes(tmp_path / "hecktor2020_bounding_boxes_training.csv", {"CHGJ001": corners, "not here": corners})
    made_volumes.boxes(tmp_path / "hecktor2020_bounding_boxes_testing.csv", {"nor here": corners})
    x1 = -CORNER[0] + SPACING[2] * corners[0][2]  # LPS counts to the left
    assert f"CHGJ001,{x1}," in (tmp_path / "hecktor2020_bounding_boxes_training.csv").read_text()
    dataset = datasets.open_dataset("hecktor", tmp_path)
    assert Counter(dataset.groups) == {"CHGJ000": 7, "CHGJ001": 3, "CHGJ002": 7}
    for k, sample in zip((1, 2, 3), dataset.of(["CHGJ001"]), strict=True):
        assert sample.case == f"CHGJ001/{k:03d}" and sample.box == Box(5, 6, 10, 14)
        assert np.array_equal(sample.image, made["CHGJ001"].channels[0][k])
        assert np.array_equal(transforms.crop(sample.mask, sample.box), made["CHGJ001"].codes_shw[k, 5:15, 6:20] == 1)
    whole = dataset.read("CHGJ000/003")
    assert whole.box == transforms.frame(whole.image, SPACING[1:], "ct") != Box(5, 6, 10, 14)


def test_a_network_sees_image_and_mask_of_the_box_alone(tmp_path):
    (values,), codes = made_volumes.hecktor_2020(tmp_path, patients=1)["CHGJ000"]
    made_volumes.boxes(tmp_path / "bbox.csv", {"CHGJ000": ((1, 5, 6), (5, 16, 19))})
    boxed = datasets.open_dataset("hecktor", tmp_path)
    for sample, k in zip(boxed, range(1, 6), strict=True):
        image_chw, mask_1hw = datasets.prepare(sample, 16)
        unit = np.clip((values[k, 5:17, 6:20].astype(np.float32) + 160) / 400, 0, 1)
        assert np.array_equal(image_chw, (transforms.resize(unit, 16, 16)[0] * 255).round().byte())
        assert np.array_equal(mask_1hw, transforms.resize_mask(codes[k, 5:17, 6:20] == 1, 16, 16)[0])
    assert (codes[3, 5:17, 6:20] == 1).any() and sample.box == Box(5, 6, 12, 14)


def test_a_bounding_box_that_reaches_over_the_edge_ends_there_and_one_outside_is_refused(tmp_path):
    made_volumes.hecktor_2020(tmp_path, patients=1)
    table = tmp_path / "bbox.csv"
    made_volumes.boxes(table, {"CHGJ000": ((-5, -9, 20), (2, 4, 90))})
    dataset = datasets.open_dataset("hecktor", tmp_path)
    assert len(dataset) == 3 and dataset[0].box == Box(0, 20, 5, SHAPE[2] - 20)
    made_volumes.boxes(table, {"CHGJ000": ((-5, -9, 30), (2, 4, 90))})
    with pytest.raises(ValueError, match="bounding box of CHGJ000 lies outside .*CHGJ000_ct.nii.gz; expected .*LPS"):
        datasets.open_dataset("hecktor", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "PatientID,x1,x2\nCHGJ000,1,2\n",
        "PatientID,x1,x2,y1,y2,z1,z2\nCHGJ000,1,2,3,4,5,six\n",
        "x1,x2,y1,y2,z1,z2\n1,2,3,4,5,6\n",
        "PatientID,x1,x2,y1,y2,z1,z2\nCHGJ000,1,2\n",
    ],
)
def test_a_table_that_holds_no_boxes_is_named(tmp_path, text):
    made_volumes.hecktor_2020(tmp_path, patients=1)
    (tmp_path / "my_bbox.csv").write_text(text)
    with pytest.raises(
        ValueError, match=r"my_bbox\.csv is no table of bounding boxes .*expected PatientID, x1, x2, y1, y2, z1, z2"
    ):
        datasets.open_dataset("hecktor", tmp_path)


# BraTS


def test_brats_is_what_was_written_with_the_whole_tumour_as_lesion(tmp_path):
    made = made_volumes.brats(tmp_path / "MICCAI_BraTS_2018_Data_Training")
    assert sorted(np.unique(made["Brats18_HGG_0"].codes_shw)) == [0, 1, 2, 4] and sorted(
        np.unique(made["Brats18_LGG_2"].codes_shw)
    ) == [0, 1]
    for root in (tmp_path, tmp_path / "MICCAI_BraTS_2018_Data_Training"):  # the folder, or the one above
        dataset = datasets.open_dataset("brats", root)
        assert (dataset.name, dataset.modality, tuple(dict.fromkeys(dataset.groups))) == ("brats", "mri", tuple(made))
        for name, written in made.items():
            check_patient(dataset, name, written, codes=(1, 2, 3, 4))
    for sample, written in ((dataset.read(f"{name}/003"), made[name].channels[0]) for name in made):
        low, high = np.percentile(written[written > 0], (1, 99))  # of the whole volume, not of the slice
        assert sample.spans == ((pytest.approx(low), pytest.approx(high)),) and sample.box is None


def test_brats_with_one_grade_is_enough(tmp_path):
    made_volumes.brats(tmp_path, high=0, low=2)
    assert set(datasets.open_dataset("brats", tmp_path).groups) == {"Brats18_LGG_0", "Brats18_LGG_1"}
    coded(3)(tmp_path / "LGG" / "Brats18_LGG_0" / "Brats18_LGG_0_seg.nii")  # not used any more, but lesion
    assert datasets.open_dataset("brats", tmp_path).read("Brats18_LGG_0/002").mask.all()


def test_sequences_become_channels_in_the_order_asked_for(tmp_path):
    sequences = ("t1", "t1ce", "flair")
    made = made_volumes.brats(tmp_path, sequences=sequences)
    chosen = datasets.open_dataset("brats", tmp_path, ("flair", "t1"))
    for name, (channels, codes) in made.items():
        check_patient(chosen, name, Made((channels[2], channels[0]), codes), codes=(1, 2, 3, 4))
        sample = chosen.read(f"{name}/003")
        assert sample.unit.shape == (2, *SHAPE[1:]) and len(sample.spans) == 2 and sample.spans[0] != sample.spans[1]
        for unit, image, span in zip(sample.unit, sample.image, sample.spans):
            np.testing.assert_allclose(unit, np.clip((image - span[0]) / (span[1] - span[0]), 0, 1), atol=1e-6)
    stack = datasets.stack(chosen, 16)
    assert (
        stack.channels == 2
        and stack.stored_nchw.shape == (15, 2, 16, 16)
        and stack.stored_n1hw.shape == (15, 1, 16, 16)
    )
    for k, name in enumerate(("flair", "t1")):
        alone = datasets.stack(datasets.open_dataset("brats", tmp_path, (name,)), 16)
        assert (alone.stored_nchw[:, 0] == stack.stored_nchw[:, k]).all()


def test_a_patient_without_a_sequence_is_left_out_only_where_it_is_asked_for(tmp_path):
    made_volumes.brats(tmp_path, sequences=("t1", "flair"))
    (tmp_path / "HGG" / "Brats18_HGG_1" / "Brats18_HGG_1_flair.nii.gz").unlink()
    assert len(set(datasets.open_dataset("brats", tmp_path).groups)) == 3
    assert set(datasets.open_dataset("brats", tmp_path, ("t1", "flair")).groups) == {"Brats18_HGG_0", "Brats18_LGG_2"}
    with pytest.raises(ValueError, match="has no patient with t1, t2 and seg; expected .*CASE_seg.nii.gz"):
        datasets.open_dataset("brats", tmp_path, ("t1", "t2"))
    with pytest.raises(ValueError, match="unknown sequence pet; available: t1, t1ce, t2, flair"):
        datasets.open_dataset("brats", tmp_path, ("t1", "pet"))
    with pytest.raises(ValueError, match="'phantom' has no sequences to choose from, so t1 cannot be chosen"):
        datasets.open_dataset("phantom", None, ("t1",))


# A folder of one's own


def test_a_folder_of_pictures_and_volumes_is_what_was_written(tmp_path):
    made = made_volumes.folder(tmp_path)
    dataset = datasets.open_dataset("folder", tmp_path)
    assert (dataset.name, dataset.modality, dataset.target) == ("folder", "ultrasound", "lesion")
    assert dataset.cases[:3] == ("a", "b", "c.1") == dataset.groups[:3] and set(dataset.groups[3:]) == {"scan"}
    for name in ("a", "b", "c.1"):
        sample = dataset.read(name)
        np.testing.assert_allclose(sample.image, made[name].channels[0][0], atol=1e-6)
        assert np.array_equal(sample.mask, made[name].codes_shw[0] > 0) and sample.mask.any()
        assert (sample.box, sample.spacing, sample.spacing_hw, sample.spans) == (None, None, None, ((0.0, 1.0),))
    check_patient(dataset, "scan", made["scan"], codes=(1,))


def test_a_single_slice_in_another_plane_is_one_image(tmp_path):
    values_hw = np.arange(20 * 30, dtype=np.int16).reshape(20, 30)
    for name, shown_hw in (("images", values_hw), ("masks", (values_hw > 300).astype(np.uint8))):
        (tmp_path / name).mkdir()
        made_volumes.sagittal_slice(tmp_path / name / "knee.nii.gz", shown_hw)
    (sample,) = list(datasets.open_dataset("folder", tmp_path))
    assert np.array_equal(sample.image, values_hw) and np.array_equal(sample.mask, values_hw > 300)
    assert sample.spacing == (7, 1.5, 2)


def test_a_folder_of_volumes_alone_is_of_their_modality(tmp_path):
    for file in made_volumes.folder(tmp_path) and [*tmp_path.rglob("*.png")]:
        file.unlink()
    dataset = datasets.open_dataset("folder", tmp_path)
    assert dataset.modality == "ct" and dataset[3].spans == CT_SPAN and dataset[3].box is not None


def test_a_folder_without_masks_has_no_target(tmp_path):
    made_volumes.folder(tmp_path)
    for file in (tmp_path / "masks").iterdir():
        file.unlink()
    (tmp_path / "masks").rmdir()
    dataset = datasets.open_dataset("folder", tmp_path)
    assert dataset.target == "" and len(dataset) == 3 + SHAPE[0]
    assert not any(sample.mask.any() for sample in dataset) and all(s.mask.shape == s.image.shape for s in dataset)


@pytest.mark.parametrize("name", ["labels", "labelsTr", "GT", "ground_truth"])
def test_masks_in_a_folder_of_another_name_are_reported(tmp_path, name):
    made_volumes.folder(tmp_path)
    (tmp_path / "masks").rename(tmp_path / name)
    dataset = datasets.open_dataset("folder", tmp_path)
    assert dataset.target == "" and f"{name}/ was passed over, so these images have no masks" in " ".join(dataset.notes)


@pytest.mark.parametrize(
    "image, mask",
    [("a", "A"), ("a", "a-seg"), ("a", "a_mask_1"), ("a_0000", "a"), ("a_image", "a_mask"), ("a_mask", "a_mask")],
)
def test_masks_are_matched_by_the_rule_of_the_import(tmp_path, image, mask):
    made_volumes.folder(tmp_path)
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / f"{image}.png")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / f"{mask}.png")
    made = np.zeros((20, 30), np.uint8)
    made[3:9, 4:8] = 255
    made_volumes.picture(tmp_path / "masks" / f"{mask}.png", made)
    assert np.array_equal(datasets.open_dataset("folder", tmp_path).read(image).mask, made > 0)


def test_soft_edges_of_a_mask_are_cut_in_the_middle(tmp_path):
    made_volumes.folder(tmp_path)
    soft = np.zeros((20, 30), np.uint8)
    soft[2:12, 4:24] = np.linspace(0, 255, 20).astype(np.uint8)
    made_volumes.picture(tmp_path / "masks" / "a.png", soft)
    assert np.array_equal(datasets.open_dataset("folder", tmp_path).read("a").mask, soft > 127)


def test_a_stack_without_geometry_is_counted_slice_by_slice(tmp_path):
    """A header whose geometry makes no sense leaves a volume, not a flat picture."""
    values, ball = made_volumes.body(3)
    for name, array in (("images", values), ("masks", ball.astype(np.uint8))):
        image = nibabel.Nifti1Image(array.transpose(2, 1, 0), None)
        image.header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
        (tmp_path / name).mkdir()
        nibabel.save(image, tmp_path / name / "scan.nii")
    dataset = datasets.open_dataset("folder", tmp_path)
    assert dataset.cases == tuple(f"scan/{k:03d}" for k in range(SHAPE[0])) and len(dataset.groups) == SHAPE[0]
    assert np.array_equal(dataset[3].image, values[3]) and np.array_equal(dataset[3].mask, ball[3])
    assert dataset[3].spacing is None and dataset[3].box is None


# Files that are no images, and images called otherwise


def plain_folder(root: Path, patients: int = 3) -> dict[str, np.ndarray]:
    """images/pN.nii.gz and masks/pN.nii.gz; the values of each."""
    made = {f"p{k}": made_volumes.body(k) for k in range(patients)}
    for name, (values, ball) in made.items():
        made_volumes.save(root / "images" / f"{name}.nii.gz", values)
        made_volumes.save(root / "masks" / f"{name}.nii.gz", ball.astype(np.uint8))
    return {name: values for name, (values, _) in made.items()}


def fourth_axis(root: Path) -> None:
    for path in root.rglob("*.nii.gz"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine), path)


def unpacked_by_name_only(root: Path) -> None:
    for path in root.rglob("*.nii.gz"):
        path.write_bytes(gzip.decompress(path.read_bytes()))


def other_endings(root: Path) -> None:
    for path in list(root.rglob("*.nii.gz")):
        path.rename(
            path.with_name(path.name.replace(".nii.gz", {"0": ".NII.GZ", "1": ".Nii.gz", "2": ".nii.gz"}[path.name[1]]))
        )


def pairs(root: Path) -> None:
    for path in list((root / "images").iterdir()):
        image = nibabel.load(path)
        nibabel.save(
            nibabel.Nifti1Pair(np.asarray(image.dataobj), image.affine),
            path.with_name(path.name.replace(".nii.gz", ".img")),
        )
        path.unlink()


@pytest.mark.parametrize("change", [fourth_axis, unpacked_by_name_only, other_endings, pairs])
def test_a_folder_opens_what_the_app_opens(tmp_path, change):
    made = plain_folder(tmp_path)
    change(tmp_path)
    dataset = datasets.open_dataset("folder", tmp_path)
    assert tuple(dict.fromkeys(dataset.groups)) == tuple(made) and len(dataset) == 3 * SHAPE[0]
    for name, values in made.items():
        assert np.array_equal([sample.image for sample in dataset.of([name])], values)
    assert not any("Passed over" in note for note in dataset.notes)


def test_what_is_no_image_is_passed_over_and_reported(tmp_path):
    made = plain_folder(tmp_path)
    for name in ("Thumbs.db", "desktop.ini", "README", "README.md", "p0.json", ".DS_Store", "._p0.nii.gz"):
        (tmp_path / "images" / name).write_bytes(b"{this is no image}" * 10)
    (tmp_path / "masks" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "masks" / "nothing").mkdir()
    dataset = datasets.open_dataset("folder", tmp_path)
    assert tuple(dict.fromkeys(dataset.groups)) == tuple(made)
    assert (
        dataset.notes[0]
        == "Passed over in images/, being no images: README, README.md, Thumbs.db, desktop.ini, p0.json and 2 hidden"
        " files."
    )
    assert dataset.notes[1] == "Passed over in masks/, being no images: Thumbs.db, nothing."
    for path in (tmp_path / "images").glob("p*.nii.gz"):
        path.unlink()
    with pytest.raises(
        ValueError, match="images holds no image; expected images/NAME.png.*Passed over in images/.*Thumbs.db"
    ):
        datasets.open_dataset("folder", tmp_path)


def test_dicom_without_endings_keeps_its_whole_name(tmp_path):
    built_in = phantom.volumes()[1]
    drawn = built_in.draw()
    files = built_in.save(drawn, tmp_path / "images" / "1.2.840.1")
    (tmp_path / "images" / "1.2.840.2").write_bytes(files[0].read_bytes())
    dataset = datasets.open_dataset("folder", tmp_path)
    assert (
        set(dataset.groups) == {"1.2.840.1", "1.2.840.2"}
        and dataset.modality == "ct"
        and len(dataset) == len(files) + 1
    )


def test_the_modality_of_a_folder_can_be_stated(tmp_path):
    plain_folder(tmp_path)
    path = tmp_path / "images" / "p0.nii.gz"
    values, _ = made_volumes.body(0)
    cropped = np.where(values < -500, np.int16(0), values)
    cropped[3, :4] = -1000
    made_volumes.save(path, cropped)
    guessed, stated = (
        datasets.open_dataset("folder", tmp_path),
        datasets.open_dataset("folder", tmp_path, modality="mri"),
    )
    assert guessed.modality == "ct" and any(note.startswith("p0: ") and "guessed: CT" in note for note in guessed.notes)
    assert stated.modality == "mri" and stated.notes == () and stated[3].box is None and stated[3].spans != CT_SPAN
    made_volumes.hecktor_2020(tmp_path / "hecktor")
    assert datasets.open_dataset("hecktor", tmp_path / "hecktor", modality="ct").modality == "ct"
    with pytest.raises(ValueError, match="'hecktor' is ct, so the modality 'mri' cannot be stated"):
        datasets.open_dataset("hecktor", tmp_path / "hecktor", modality="mri")


@pytest.mark.parametrize("modality, low, high", [("ultrasound", 0, 255), ("ct", 0, 1)])
def test_the_window_of_a_volume_is_that_of_the_app(tmp_path, modality, low, high):
    """An ultrasound volume of 8 bits, and a CT that was saved as brightness."""
    values, ball = made_volumes.body(2)
    scaled = (values - values.min()) / np.ptp(values) * high
    made_volumes.save(
        tmp_path / "images" / "a.nii.gz", scaled.round().astype(np.uint8) if high > 1 else scaled.astype(np.float32)
    )
    made_volumes.save(tmp_path / "masks" / "a.nii.gz", ball.astype(np.uint8))
    sample = datasets.open_dataset("folder", tmp_path, modality=modality)[3]
    case = open_case.open_upload(
        [tmp_path / "images" / "a.nii.gz"], modality, lambda modality: {"seed": 0, "selector": "geodesic"}
    )
    assert sample.spans == ((low, high),) == (case.span,) and sample.unit.std() > 0.1


def test_images_of_several_modalities_are_reported(tmp_path):
    made_volumes.folder(tmp_path)
    (note,) = datasets.open_dataset("folder", tmp_path).notes
    assert "read as ultrasound" in note and "scan (NIfTI)" in note
    assert datasets.open_dataset("folder", tmp_path, modality="ultrasound").notes == ()


def test_what_the_reader_notes_reaches_the_data_set_and_its_stack(tmp_path):
    plain_folder(tmp_path)
    for name in ("p0", "p2"):
        path = tmp_path / "images" / f"{name}.nii.gz"
        image = nibabel.load(path)
        values = np.asarray(image.dataobj).astype(np.float32)
        values[0, 0] = np.nan
        path.write_bytes(gzip.compress(nii(values, image.affine, codes=(1, 1), srow_x=[np.nan] * 4)))
    dataset = datasets.open_dataset("folder", tmp_path, modality="ct")
    sentence = "The file's sform makes no sense, so its qform gives the geometry."
    assert dataset.notes == (f"p0 and 1 other: {sentence}",)
    stack = datasets.stack(dataset, 16)
    assert stack.notes[0] == dataset.notes[0] and len(stack.notes) == 2
    assert stack.notes[1].startswith("p0 and 1 other: ") and "hold no number" in stack.notes[1]
    assert stack.of(["p1"]).notes == stack.notes and dataset.of(["p1"]).notes == dataset.notes


def test_images_and_masks_that_are_swapped_are_reported(tmp_path):
    made_volumes.folder(tmp_path)
    for path in sorted((tmp_path / "images").glob("*.png")):
        mask = tmp_path / "masks" / f"{path.stem}{ {'a': '', 'b': '_mask', 'c.1': '_seg'}[path.stem] }.png"
        image, other = path.read_bytes(), mask.read_bytes()
        path.write_bytes(other)
        mask.write_bytes(image)
    notes = datasets.stack(datasets.open_dataset("folder", tmp_path, modality="ultrasound"), 16).notes
    assert (
        "a and 2 others: The image holds no more than two values, as a mask does; perhaps images and masks are swapped."
        in notes
    )


def test_files_that_the_official_layouts_do_not_know_are_reported_or_ignored(tmp_path):
    made_volumes.hecktor_2020(tmp_path / "a")
    root = tmp_path / "a" / "hecktor_nii"
    for path in list(root.glob("CHGJ001*")):
        path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    (root / "._CHGJ000_ct.nii.gz").write_bytes(b"no volume")
    (root / "CHGJ000_ct.json").write_text("{}")
    made_volumes.save(root / "CHGJ009_gtvt.nii.gz", np.zeros(SHAPE, np.uint8))
    dataset = datasets.open_dataset("hecktor", root.parent)
    assert set(dataset.groups) == {"CHGJ000", "CHGJ001", "CHGJ002"} and len(list(dataset)) == 3 * SHAPE[0]
    assert dataset.notes == ("Left out, for they have a mask but no CT: CHGJ009.",)
    made_volumes.hecktor_2020(tmp_path / "b")
    root.rename(tmp_path / "b" / "again")
    notes = datasets.open_dataset("hecktor", tmp_path / "b").notes
    assert notes[0] == "hecktor_nii/ was not read, for again/ holds CTs too; name one of them as data.root."


def test_brats_in_other_letters_and_patients_left_out_are_reported(tmp_path):
    made_volumes.brats(tmp_path, sequences=("t1", "flair"))
    for path in list((tmp_path / "HGG" / "Brats18_HGG_0").iterdir()):
        path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    (tmp_path / "HGG" / "Brats18_HGG_0" / "._Brats18_HGG_0_t1.nii.gz").write_bytes(b"no volume")
    (tmp_path / "HGG" / "Brats18_HGG_1" / "Brats18_HGG_1_flair.nii.gz").unlink()
    assert (
        datasets.open_dataset("brats", tmp_path).notes == ()
        and len(set(datasets.open_dataset("brats", tmp_path).groups)) == 3
    )
    assert datasets.open_dataset("brats", tmp_path, ("t1", "flair")).notes == (
        "Brats18_HGG_1: Left out, for there is no flair.",
    )


# What is wrong


def noise(path: Path) -> None:
    path.write_bytes(b"no volume at all" * 40)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-12])


def four_axes(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 20, 4, 2), np.int16), np.eye(4)), path)


def smaller(path: Path) -> None:
    made_volumes.save(path, np.zeros((SHAPE[0] - 1, *SHAPE[1:]), np.uint8))


CT, GTV = "hecktor_nii/CHGJ001_ct.nii.gz", "hecktor_nii/CHGJ001_gtvt.nii.gz"
T1, SEG = "HGG/Brats18_HGG_1/Brats18_HGG_1_t1.nii.gz", "HGG/Brats18_HGG_1/Brats18_HGG_1_seg.nii.gz"


@pytest.mark.parametrize(
    "name, file, spoil, message",
    [
        (
            "hecktor",
            GTV,
            Path.unlink,
            r"CHGJ001_ct has no mask: expected .*CHGJ001_gtvt\.nii\.gz; layout: hecktor_nii/CASE_ct\.nii\.gz beside",
        ),
        ("hecktor", CT, noise, r"CHGJ001_ct\.nii\.gz cannot be read as NIfTI"),
        ("hecktor", GTV, noise, r"CHGJ001_gtvt\.nii\.gz cannot be read as NIfTI"),
        ("hecktor", CT, four_axes, r"CHGJ001_ct\.nii\.gz has 4 axes; expected a volume of three"),
        (
            "hecktor",
            GTV,
            smaller,
            (
                r"patient CHGJ001: image and mask differ in size: CHGJ001_ct.* 26 × 20 × 7; CHGJ001_gtvt.* 26 × 20 × 6;"
                r" expected one grid"
            ),
        ),
        ("brats", T1, noise, r"Brats18_HGG_1_t1\.nii\.gz cannot be read as NIfTI"),
        ("brats", SEG, smaller, r"patient Brats18_HGG_1: image and mask differ in size: .*_seg\.nii\.gz 26 × 20 × 6"),
        ("folder", "masks/b_mask.png", Path.unlink, r"images/b has no mask; expected masks/b"),
        ("folder", "images/b.png", Path.unlink, r"masks/b_mask belongs to no image; expected images/NAME\.png"),
        (
            "folder",
            "masks/b_mask.png",
            lambda path: path.with_name("b-seg.png").write_bytes(path.read_bytes()),
            r"b-seg\.png and b_mask\.png are masks of one image, b; expected one",
        ),
        ("folder", "masks/scan.nii.gz", smaller, r"patient scan: image and mask differ in size"),
        (
            "folder",
            "masks/a.png",
            lambda path: made_volumes.picture(path, np.zeros((20, 31), np.uint8)),
            r"patient a: image and mask differ in size: a\.png 30 × 20 × 1; a\.png 31 × 20 × 1",
        ),
        ("folder", "images/a.png", noise, r"images/a\.png: By its content.* no image we know"),
        ("folder", "images/scan.nii.gz", noise, r"scan\.nii\.gz cannot be read as NIfTI"),
        (
            "folder",
            "images/a.png",
            lambda path: made_volumes.picture(path.with_suffix(".tif"), np.zeros((20, 30), np.uint8)),
            r"a\.png and a\.tif in .*images have one name",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_reported_when_it_is_opened(tmp_path, name, file, spoil, message):
    WRITE[name](tmp_path)
    datasets.open_dataset(name, tmp_path)
    spoil(tmp_path / file)
    with pytest.raises(ValueError, match=message):
        datasets.open_dataset(name, tmp_path)


WRITE = {"hecktor": made_volumes.hecktor_2020, "brats": made_volumes.brats, "folder": made_volumes.folder}


def shifted(path: Path) -> None:
    made_volumes.save(path, made_volumes.body(1)[1].astype(np.uint8), shift=0.5)


def coded(code: int):
    return lambda path: made_volumes.save(
        path, np.where(np.arange(SHAPE[0])[:, None, None] == 2, np.uint8(code), np.zeros(SHAPE, np.uint8))
    )


@pytest.mark.parametrize(
    "name, file, spoil, message",
    [
        ("hecktor", CT, cut, r"CHGJ001_ct\.nii\.gz: .*damaged or incomplete"),
        ("hecktor", GTV, cut, r"CHGJ001_gtvt\.nii\.gz: .*damaged or incomplete"),
        ("hecktor", GTV, shifted, r"patient CHGJ001: the volumes lie on different grids .*expected one grid for all"),
        ("hecktor", GTV, coded(3), r"CHGJ001_gtvt\.nii\.gz holds the codes \[.*3.*\]; expected only \[0, 1, 2\]"),
        (
            "brats",
            SEG,
            coded(5),
            r"Brats18_HGG_1_seg\.nii\.gz holds the codes \[.*5.*\]; expected only \[0, 1, 2, 3, 4\]",
        ),
        ("brats", SEG, shifted, r"patient Brats18_HGG_1: the volumes lie on different grids"),
        (
            "folder",
            "masks/scan.nii.gz",
            shifted,
            r"patient scan: the volumes lie on different grids .*centre 0.5 mm away",
        ),
    ],
)
def test_what_is_wrong_inside_a_file_is_reported_when_it_is_read(tmp_path, name, file, spoil, message):
    WRITE[name](tmp_path)
    spoil(tmp_path / file)
    dataset = datasets.open_dataset(name, tmp_path)
    patient = next(group for group in dataset.groups if Path(file).name.startswith(group))
    with pytest.raises(ValueError, match=message):
        dataset.of([patient])[2]
    assert dataset[0].case == dataset.cases[0]  # the others can still be read


def test_sequences_on_different_grids_are_refused(tmp_path):
    made_volumes.brats(tmp_path, sequences=("t1", "flair"))
    path = tmp_path / "HGG" / "Brats18_HGG_0" / "Brats18_HGG_0_flair.nii.gz"
    made_volumes.save(path, np.ones(SHAPE, np.uint16), shift=2)
    with pytest.raises(ValueError, match="patient Brats18_HGG_0: the volumes lie on different grids"):
        datasets.open_dataset("brats", tmp_path, ("t1", "flair"))[0]


@pytest.mark.parametrize(
    "name, words",
    [("hecktor", "hecktor_nii/CASE_ct.nii.gz"), ("brats", "CASE_t1.nii.gz"), ("folder", "images/NAME.png")],
)
def test_no_folder_a_folder_that_is_not_there_and_an_empty_one(tmp_path, name, words):
    for root in (None, "/nowhere/at/all", tmp_path):
        with pytest.raises(ValueError, match=f"(?s)({root or 'needs --data.root|has no folder'}).*expected .*{words}"):
            datasets.open_dataset(name, root)
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=f"expected .*{words}"):
        datasets.open_dataset(name, tmp_path)


# What is read when


def test_opening_reads_headers_and_reading_opens_one_patient_at_a_time(tmp_path, monkeypatch):
    made_volumes.hecktor_2020(tmp_path)
    copy, opened = _volumes.nifti._copy_voxels, []
    monkeypatch.setattr(
        _volumes.nifti, "_copy_voxels", lambda path, store: (opened.append(path.name), copy(path, store))[1]
    )
    dataset = datasets.open_dataset("hecktor", tmp_path)
    assert opened == []
    assert len(list(dataset)) == 21 and opened == [
        f"CHGJ00{k}_{kind}.nii.gz" for k in range(3) for kind in ("ct", "gtvt")
    ]
    assert [path.name for path in dataset.files("CHGJ001")] == ["CHGJ001_ct.nii.gz", "CHGJ001_gtvt.nii.gz"]


# Real data


def crops_keep_the_target(dataset: Dataset, patients: list[str]) -> int:
    """Number of lesion slices of these patients; in none does what the network looks at cut off target."""
    slices = 0
    for sample in dataset.of(patients):
        if sample.mask.any():
            slices += 1
            assert transforms.crop(sample.mask, sample.box).sum() == sample.mask.sum(), sample.case
            image_chw, mask_1hw = datasets.prepare(sample, 64)
            assert mask_1hw.any() or sample.mask.sum() < 20
            assert image_chw.shape == (1, 64, 64) and image_chw.std() > 5
    return slices


def test_the_real_hecktor_layout(real_data):
    if not (real_data / "openkbp_ct" / "hecktor_nii").is_dir():
        pytest.skip(f"no {real_data / 'openkbp_ct' / 'hecktor_nii'}")
    dataset = datasets.open_dataset("hecktor", real_data / "openkbp_ct")
    patients = list(dict.fromkeys(dataset.groups))
    assert (len(patients), len(dataset), dataset.modality) == (140, 15106, "ct")
    assert crops_keep_the_target(dataset, patients[5::60]) > 30


def test_the_real_brats_layout(real_data):
    if not (real_data / "lgg_t1" / "LGG").is_dir():
        pytest.skip(f"no {real_data / 'lgg_t1' / 'LGG'}")
    dataset = datasets.open_dataset("brats", real_data / "lgg_t1")
    patients = list(dict.fromkeys(dataset.groups))
    assert (len(patients), len(dataset), dataset.modality) == (68, 2574, "mri")
    assert crops_keep_the_target(dataset, patients[3::45]) > 10
    several = datasets.open_dataset("brats", real_data / "lgg_t1", ("t1", "t1ce", "flair"))
    assert len(set(several.groups)) == 4 and several[0].image.shape == (3, 256, 256)
