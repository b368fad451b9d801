"""The running app with volumes: NIfTI and DICOM in, slices asked for by number, masks back on the grid
they came from.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from mpsams import checkpoint, inference, metrics, transforms
from mpsams.datasets import phantom
from mpsams.datasets.phantom import files
from mpsams.imaging import geometry, nifti
from mpsams.inference.registry import ModelRegistry
from mpsams.unet import UNet
from tests.support import made_volumes

WEIGHTS = "busi-mps_ams-seg-10"


@pytest.fixture(scope="module")
def client(app_address):
    return Client(app_address, verbose=False)


@pytest.fixture(scope="module")
def volume() -> phantom.Volume:
    """The middle of the neck phantom, nine slices of it."""
    whole = phantom.neck_volume(2)
    middle = int(whole.mask_shw.sum(axis=(1, 2)).argmax())
    part = slice(middle - 4, middle + 5)
    return phantom.Volume(whole.voxels_shw[part], whole.mask_shw[part], whole.spacing, whole.modality, whole.title)


@pytest.fixture(scope="module")
def uploads(volume, tmp_path_factory) -> dict[str, Path]:
    """The same volume as NIfTI, its mask, and a zip of a DICOM series."""
    folder = tmp_path_factory.mktemp("volume")
    series = files.dicom(volume, folder / "series")
    with zipfile.ZipFile(folder / "series.zip", "w") as packed:
        for path in series:
            packed.write(path, path.name)
    return {
        "nifti": files.nifti(volume, folder),
        "mask": files.nifti_mask(volume, folder),
        "dicom": folder / "series.zip",
    }


def chance_of(volume: phantom.Volume, network, index: int) -> np.ndarray:
    """A network's probabilities for a slice by the library's own functions, float32 (H, W)."""
    values = volume.voxels_shw[index].astype(np.float32)
    box = transforms.frame(values, volume.spacing[1:], "ct")
    return inference.probability(network, transforms.to_unit(values, transforms.window(values, "ct")), box)


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_the_middle_slice_is_taken_unless_another_is_named(client, uploads, kind):
    answers = [
        client.predict(handle_file(str(uploads[kind])), slice=number, api_name="/clusters")["score"]
        for number in (0, 5, 1)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_slices_are_axial_in_whichever_plane_a_volume_was_acquired(client, tmp_path):
    file = handle_file(str(made_volumes.spine(tmp_path / "spine.nii.gz")))
    whole, first = (client.predict(file, slice=number, api_name="/segment") for number in (0, 1))
    assert whole["slices"] == 40 and {(one["height"], one["width"]) for one in (whole, first)} == {(48, 12)}
    with pytest.raises(AppError, match="slice 41 does not exist"):
        client.predict(file, slice=41, api_name="/segment")


def test_both_kinds_of_file_are_the_same_volume(client, uploads):
    one, other = (
        client.predict(handle_file(str(uploads[kind])), slice=3, api_name="/mask") for kind in ("nifti", "dicom")
    )
    assert one == other


def test_what_is_noticed_about_a_truth_mask_is_in_the_answers(client, uploads, volume, tmp_path):
    """A one-hot mask, stored in another orientation than its image."""
    mask = nibabel.load(uploads["mask"])
    lesion = np.asarray(mask.dataobj) > 0
    turned = nibabel.Nifti1Image(
        np.stack([~lesion, lesion], -1)[::-1].astype(np.uint8), mask.affine @ flip(lesion.shape[0])
    )
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    for api in ("/segment", "/clusters"):
        how = {"threshold": 0.9, "weights": WEIGHTS} if api == "/segment" else {}
        one, other = (client.predict(handle_file(str(uploads["nifti"])), handle_file(str(path)), **how, api_name=api)
                      for path in (uploads["mask"], tmp_path / "turned.nii.gz"))  # fmt: skip
        assert {key: value for key, value in one.items() if key != "notes"} == {
            key: value for key, value in other.items() if key != "notes"
        }
        added = " ".join(note for note in other["notes"] if note not in one["notes"])
        assert "channel 1 of 2 was taken as background" in added and "another orientation" in added


def flip(columns: int) -> np.ndarray:
    """Of the first axis of so many voxels."""
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = columns - 1
    return turn


def test_a_slice_that_does_not_exist_is_refused(client, uploads):
    with pytest.raises(AppError, match="there are 1 to 9"):
        client.predict(handle_file(str(uploads["nifti"])), slice=10, api_name="/mask")


def test_a_volume_is_segmented_whole_and_measured_against_its_truth(client, uploads, volume, small_weights):
    network = inference.open_network(small_weights / f"{WEIGHTS}.safetensors")
    probabilities = np.stack([chance_of(volume, network, k) for k in range(9)])
    threshold = float(np.quantile(probabilities[probabilities > 0], 0.8))
    answer = client.predict(
        handle_file(str(uploads["nifti"])),
        handle_file(str(uploads["mask"])),
        threshold=threshold,
        weights=WEIGHTS,
        api_name="/segment",
    )
    outlined = probabilities >= threshold
    assert answer["slices"] == 9 and answer["voxels"] == pytest.approx(outlined.sum(), rel=1e-3)
    assert answer["millilitres"] == pytest.approx(answer["voxels"] * np.prod(volume.spacing) / 1000)
    assert sum(answer["lesion_pixels"].values()) == answer["voxels"]
    assert answer["dsc"] == pytest.approx(metrics.case(outlined, volume.mask_shw)["dsc"], abs=0.01)


def test_a_named_slice_is_segmented_alone(client, uploads, volume, small_weights):
    probability_hw = chance_of(volume, inference.open_network(small_weights / f"{WEIGHTS}.safetensors"), 2)
    threshold = float(np.quantile(probability_hw[probability_hw > 0], 0.8))
    how = {"threshold": threshold, "weights": WEIGHTS, "slice": 3}
    answer = client.predict(handle_file(str(uploads["nifti"])), **how, api_name="/segment")
    assert (
        answer["lesion_pixels"] == (probability_hw >= threshold).sum()
        and (answer["height"], answer["width"]) == probability_hw.shape
    )
    path, _ = client.predict(handle_file(str(uploads["nifti"])), **how, api_name="/export")
    shown = nifti.read(Path(path)).shown()
    assert np.array_equal(shown[2] > 0, probability_hw >= threshold) and not shown[[0, 1, 3, 4, 5, 6, 7, 8]].any()


def test_an_exported_mask_lies_on_the_grid_of_the_upload(client, uploads, volume):
    path, _ = client.predict(handle_file(str(uploads["nifti"])), weights=WEIGHTS, threshold=0.3, api_name="/export")
    mask, source = nibabel.load(path), nibabel.load(uploads["nifti"])
    assert (
        mask.shape == source.shape and np.array_equal(mask.affine, source.affine) and mask.get_data_dtype() == np.uint8
    )
    assert path.endswith(".nii.gz") and "phantom" not in Path(path).name.lower()


def test_a_series_gets_its_mask_back_as_dicom_seg_without_the_patient(client, uploads, volume):
    import highdicom

    path, _ = client.predict(
        handle_file(str(uploads["dicom"])), weights=WEIGHTS, threshold=0.3, format="dicom-seg", api_name="/export"
    )
    found = highdicom.seg.segread(path)
    again, _ = client.predict(handle_file(str(uploads["nifti"])), weights=WEIGHTS, threshold=0.3, api_name="/export")
    voxels = np.asarray(nibabel.load(again).dataobj) > 0
    assert found.Modality == "SEG" and voxels.any()
    assert int(found.pixel_array.sum()) == int(voxels.sum())  # every lesion pixel of the same mask
    assert b"Phantom^" not in Path(path).read_bytes() and str(found.PatientName) != f"Phantom^{volume.title}"


@pytest.mark.parametrize("endpoint", ["/clusters", "/mask", "/reconstruct", "/segment", "/export", "/prompt"])
def test_what_the_reader_notes_is_in_every_answer(client, uploads, tmp_path, endpoint):
    image = nibabel.load(uploads["nifti"])
    image.header.set_xyzt_units("meter")
    values = np.stack([np.asarray(image.dataobj)] * 2, axis=-1)
    nibabel.save(
        nibabel.Nifti1Image(values, image.affine / [[1000], [1000], [1000], [1]], image.header), tmp_path / "a.nii.gz"
    )
    for path, expected in (
        (tmp_path / "a.nii.gz", ["The file states its lengths in metres; they are shown in millimetres.",
                                 "There are 2 images in this upload; this is of: volume 1 of 2."]),
        (uploads["nifti"], []),
    ):  # fmt: skip
        options = {"weights": WEIGHTS} if endpoint in ("/segment", "/export") else {}
        options |= {"boxes": "[10, 10, 30, 30]"} if endpoint == "/prompt" else {}
        answer = client.predict(handle_file(str(path)), slice=3, modality="ct", **options, api_name=endpoint)
        (found,) = (
            part["notes"]
            for part in (answer if isinstance(answer, list | tuple) else [answer])
            if isinstance(part, dict)
        )
        assert found == expected


def test_a_nifti_file_has_no_dicom_seg(client, uploads):
    with pytest.raises(AppError, match="allowed are nifti"):
        client.predict(handle_file(str(uploads["nifti"])), format="dicom-seg", api_name="/export")


def test_a_mask_on_another_grid_is_refused(client, uploads, volume, tmp_path):
    small = phantom.Volume(volume.voxels_shw[:4], volume.mask_shw[:4], volume.spacing, volume.modality, volume.title)
    with pytest.raises(AppError, match="exactly the volume's grid"):
        client.predict(
            handle_file(str(uploads["nifti"])),
            handle_file(str(files.nifti_mask(small, tmp_path))),
            api_name="/clusters",
        )


def test_the_shown_order_of_the_phantom_is_what_the_file_says(uploads, volume):
    assert np.array_equal(
        geometry.radiological_view(
            *(lambda image: (np.asarray(image.dataobj), image.affine))(nibabel.load(uploads["nifti"]))
        ),
        volume.voxels_shw,
    )


def test_a_network_of_several_channels_is_passed_over(small_weights, tmp_path):
    metadata = {
        "kind": "segmentation",
        "method": "mps_ams",
        "size": 64,
        "data": {"name": "brats", "modality": "mri", "target": "tumour", "images": 9},
    }
    for channels, name in ((2, "brats-mps_ams-seg-10"), (1, "busi-mps_ams-seg-10")):
        model = {"channels": channels, "classes": 1, "width": 2, "norm": "batch"}
        checkpoint.save(tmp_path / f"{name}.safetensors", UNet(**model).state_dict(), metadata | {"model": model})
    assert ModelRegistry(tmp_path).find("-mps_ams-seg-10", "mri") == "busi-mps_ams-seg-10"
    (tmp_path / "busi-mps_ams-seg-10.safetensors").unlink()
    assert ModelRegistry(tmp_path).find("-mps_ams-seg-10", "mri") is None
