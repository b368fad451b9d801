"""DICOM-SEG writing: every lesion pixel found again on the image it was drawn on, and nobody named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation, segread
from pydicom.uid import EnhancedMRImageStorage

from mpsams.imaging import Scan, dicom
from mpsams.imaging.dicom import seg as dicom_seg
from tests.support.dicom_files import (
    AXIAL,
    COLUMNS,
    CORONAL,
    OBLIQUE,
    PICTURE,
    ROWS,
    enhanced,
    instance,
    noise,
    one,
    save,
    series,
)

pytestmark = pytest.mark.filterwarnings("ignore")
Z = 7
TILTED = (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))
# Elements with a date or a name; those with these keywords are the writer's own
OWN = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContentDate",
    "ContentTime",
    "ContributionDateTime",
    "PatientName",
)


def lesion(shape_xyz: tuple[int, int, int]) -> np.ndarray:
    """An asymmetric mask, another in each slice, none in the first two and in the fifth."""
    mask = np.random.default_rng(4).random(shape_xyz) < 0.1
    mask[: shape_xyz[0] // 2, : shape_xyz[1] // 3] = False
    mask[:, :, [0, 1, 4]] = False
    return mask


def marked(data: bytes) -> tuple[Segmentation, dict]:
    """The SEG, and its pixels (H, W) by the image, or image and frame, that each frame refers to."""
    seg = segread(io.BytesIO(data))
    found = {}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for pixels, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        key = source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")
        assert key not in found
        found[key] = pixels.astype(bool), group.PlanePositionSequence[0].ImagePositionPatient
    return seg, found


@pytest.mark.parametrize("orientation, step", [
    (AXIAL, None), (AXIAL, (0, 0, -2.5)), (CORONAL, None), (OBLIQUE, None), (TILTED, (0, 0, 3)), (TILTED, (0, 0, -3)),
], ids=["axial", "downwards", "coronal", "oblique", "tilted", "tilted downwards"])  # fmt: skip
def test_frames_lie_on_the_images_they_were_drawn_on(tmp_path, orientation, step):
    volume = noise((Z, ROWS, COLUMNS))
    files = series(tmp_path, volume, orientation, step)
    scan = dicom.read(files)
    mask = lesion(scan.voxels_xyz.shape)
    seg, found = marked(dicom_seg.write(scan, mask, "Lesion", "MPS-AMS"))
    sources = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, files)}
    assert len(found) == mask.any((0, 1)).sum() == 4 and seg.SegmentationType == "BINARY"
    for (uid, frame), (pixels, position) in found.items():
        ds = sources[uid]
        # where the reader put it
        (z,) = [z for z in range(Z) if np.array_equal(scan.voxels_xyz[:, :, z].T, ds.pixel_array)]
        assert frame is None and np.array_equal(pixels, mask[:, :, z].T)
        np.testing.assert_allclose(position, ds.ImagePositionPatient, atol=1e-6)
    referred = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referred == {item.ReferencedSOPInstanceUID for item in seg.SourceImageSequence} == set(sources)
    assert {item.ReferencedSOPClassUID for item in seg.SourceImageSequence} == {ds.SOPClassUID}
    shared = seg.SharedFunctionalGroupsSequence[0]
    np.testing.assert_allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, orientation, atol=1e-6)
    (measures,) = shared.PixelMeasuresSequence
    assert list(measures.PixelSpacing) == [0.75, 0.5] and measures.SliceThickness == 2.5


def test_highdicom_finds_the_mask_by_the_images(tmp_path):
    files = series(tmp_path, noise((Z, ROWS, COLUMNS)))
    scan = dicom.read(files)
    mask = lesion(scan.voxels_xyz.shape)
    seg = segread(io.BytesIO(dicom_seg.write(scan, mask, "Lesion", "MPS-AMS")))
    uids = [ds.SOPInstanceUID for ds in sorted(map(pydicom.dcmread, files), key=lambda ds: ds.ImagePositionPatient[2])]
    pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    assert np.array_equal(pixels[..., 0].transpose(2, 1, 0).astype(bool), mask)
    volume = seg.get_volume()
    world = volume.affine @ [*np.argwhere(volume.array[..., 0])[0], 1]
    x, y, z, _ = np.rint(np.linalg.inv(scan.affine) @ (world * [-1, -1, 1, 1])).astype(int)
    assert mask[x, y, z]


@pytest.mark.parametrize("moments", [1, 2])
def test_frames_of_an_enhanced_image(tmp_path, moments):
    order = np.random.default_rng(0).permutation(np.tile(np.arange(Z), moments))
    frames = noise((Z * moments, ROWS, COLUMNS))
    ds = enhanced(frames, [(0, 0, 2.0 * z) for z in order], SOPClassUID=EnhancedMRImageStorage, Modality="MR")
    path = save(ds, tmp_path / "e")
    for choice in range(moments):
        scan = dicom.read([path], None, choice)
        mask = lesion(scan.voxels_xyz.shape)
        seg, found = marked(dicom_seg.write(scan, mask, "Lesion", "MPS-AMS"))
        listed = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert len(found) == 4 and len(seg.SourceImageSequence) == len(listed) == 1
        for (uid, number), (pixels, position) in found.items():
            z = order[number - 1]
            assert uid == ds.SOPInstanceUID and position[2] == 2.0 * z and np.array_equal(pixels, mask[:, :, z].T)
            assert np.array_equal(scan.voxels_xyz[:, :, z].T, frames[number - 1])
        assert seg.SourceImageSequence[0].ReferencedSOPClassUID == EnhancedMRImageStorage


def test_one_slice_and_no_lesion(tmp_path):
    scan = one(tmp_path, noise((ROWS, COLUMNS)))
    mask = lesion((COLUMNS, ROWS, 5))[:, :, 2:3]
    seg, found = marked(dicom_seg.write(scan, mask, "Lesion", "MPS-AMS"))
    assert np.array_equal(found["1.2.3.4.1", None][0], mask[:, :, 0].T)
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 2.5
    scan = dicom.read(series(tmp_path, noise((Z, ROWS, COLUMNS))))
    seg, found = marked(dicom_seg.write(scan, np.zeros(scan.voxels_xyz.shape, bool), "Lesion", "MPS-AMS"))
    assert len(found) == Z and not any(pixels.any() for pixels, _ in found.values())


def test_what_the_segment_says_of_itself(tmp_path):
    scan = one(tmp_path, noise((ROWS, COLUMNS)), LossyImageCompression="01")
    seg, _ = marked(dicom_seg.write(scan, lesion((COLUMNS, ROWS, 5))[:, :, 2:3], "Läsion", "MPS-AMS 10 %"))
    segment = seg.get_segment_description(1)
    assert segment.segment_label == "Läsion" and segment.SegmentAlgorithmType == "AUTOMATIC"
    assert (segment.SegmentAlgorithmName, segment.algorithm_identification.name) == ("MPS-AMS 10 %", "MPS-AMS 10 %")
    assert segment.segmented_property_category.meaning == "Morphologically Abnormal Structure"
    assert (segment.segmented_property_type.value, segment.segmented_property_type.scheme_designator) == (
        "52988006",
        "SCT",
    )
    assert seg.LossyImageCompression == "01" and seg.Modality == "SEG" and len(seg.SegmentSequence) == 1


def elements(ds: pydicom.Dataset) -> list[tuple[str, str, str]]:
    """Keyword, type and text of every element, in sequences too."""
    return [(element.keyword, element.VR, str(element.value)) for element in ds.iterall() if element.VR != "SQ"]


def test_nobody_is_named(tmp_path):
    scan = dicom.read(series(tmp_path, noise((Z, ROWS, COLUMNS))))
    mask = lesion(scan.voxels_xyz.shape)
    data = dicom_seg.write(scan, mask, "Lesion", "MPS-AMS")
    for secret in (b"SECRET", b"19440404", b"20010203", b"040506", b"\xc4NNE", "ÄNNE".encode(), str(tmp_path).encode()):
        assert secret not in data
    seg = pydicom.dcmread(io.BytesIO(data))
    assert (str(seg.PatientName), seg.PatientID, seg.PatientIdentityRemoved) == ("Anonymous", "anonymous", "YES")
    assert seg.DeidentificationMethod and not seg.PatientSex and not seg.PatientBirthDate and not seg.StudyDate
    for keyword, kind, text in elements(seg):
        assert kind not in ("DA", "TM", "DT", "PN") or not text or keyword in OWN, keyword
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == ("1.2.3.1", "1.2.3.3")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.2" != seg.SeriesInstanceUID
    again = pydicom.dcmread(io.BytesIO(dicom_seg.write(scan, mask, "Lesion", "MPS-AMS")))
    assert again.SOPInstanceUID != seg.SOPInstanceUID and again.PixelData == seg.PixelData


def test_identified_on_the_users_word(tmp_path):
    scan = dicom.read(series(tmp_path, noise((3, ROWS, COLUMNS))))
    mask = lesion((COLUMNS, ROWS, 5))[:, :, 1:4]
    seg = pydicom.dcmread(io.BytesIO(dicom_seg.write(scan, mask, "Lesion", "MPS-AMS", identified=True)))
    assert (str(seg.PatientName), seg.PatientID) == ("SECRET^ÄNNE", "SECRET-ID")
    assert (seg.PatientBirthDate, seg.PatientSex, seg.AccessionNumber) == ("19440404", "F", "SECRET-ACC")
    assert (seg.StudyDate, seg.StudyTime, seg.StudyID) == ("20010203", "040506", "SECRET-STUDY")
    assert str(seg.ReferringPhysicianName) == "SECRET^DOCTOR" and "PatientIdentityRemoved" not in seg
    assert "InstitutionName" not in seg and "PatientAddress" not in seg


@pytest.mark.parametrize(
    "elements", [{"PatientSex": "SECRET"}, {"PatientBirthDate": "SECRET"}, {"StudyTime": "SECRET"}]
)
def test_patient_data_that_are_not_valid(tmp_path, elements):
    with pydicom.config.disable_value_validation():
        scan = one(tmp_path, noise((ROWS, COLUMNS)), **elements)
    mask = np.ones(scan.voxels_xyz.shape, bool)
    dicom_seg.write(scan, mask, "Lesion", "MPS-AMS")
    with pytest.raises(ValueError, match="are its patient data valid") as caught:
        dicom_seg.write(scan, mask, "Lesion", "MPS-AMS", identified=True)
    assert "SECRET" not in str(caught.value) and caught.value.__cause__ is None


@pytest.mark.parametrize("elements, words", [
    ({"FrameOfReferenceUID": None}, "lacks UIDs"), ({"StudyInstanceUID": "SECRET"}, "lacks UIDs"),
    ({"SOPInstanceUID": None}, "lacks UIDs"),
    ({"ImagePositionPatient": None}, "with geometry"), (PICTURE, "with geometry"),
])  # fmt: skip
def test_what_cannot_be_referred_to(tmp_path, elements, words):
    ds = instance(noise((ROWS, COLUMNS), dtype=np.uint8, low=0, high=9), "1")
    ds.file_meta.TransferSyntaxUID, ds["PixelData"].VR = pydicom.uid.ExplicitVRLittleEndian, "OB"
    with pydicom.config.disable_value_validation():
        for keyword, value in elements.items():
            ds.pop(keyword, None) if value is None else setattr(ds, keyword, value)
        ds.save_as(tmp_path / "x", enforce_file_format=False)
        scan = dicom.read([tmp_path / "x"])
    with pytest.raises(ValueError, match=words) as caught:
        dicom_seg.write(scan, np.ones(scan.voxels_xyz.shape, bool), "Lesion", "MPS-AMS")
    assert "SECRET" not in str(caught.value)


def test_wrong_masks_labels_and_scans(tmp_path):
    scan = one(tmp_path, noise((ROWS, COLUMNS)))
    mask = np.ones(scan.voxels_xyz.shape, bool)
    for wrong in (mask.astype(np.uint8), mask[1:], mask[:, :, 0], mask.transpose(1, 0, 2)):
        with pytest.raises(ValueError, match="allowed is bool of shape"):
            dicom_seg.write(scan, wrong, "Lesion", "MPS-AMS")
    for wrong in (mask, np.where(mask, np.uint8(3), np.uint8(0)), mask[1:].view(np.uint8)):
        with pytest.raises(ValueError, match=r"up to \w+ of shape .*; allowed is uint8 with 0 to 2 of shape"):
            dicom_seg.write(scan, wrong, ["liver", "tumour"], "MPS-AMS")
    for label, algorithm in (("", "x"), ("x", " "), ("x" * 65, "x"), ("x", "a\\b"), ("a\nb", "x")):
        with pytest.raises(ValueError, match="allowed are 1 to 64"):
            dicom_seg.write(scan, mask, label, algorithm)
    picture = Scan(np.zeros((9, 9, 1), np.float32), "ultrasound", "PNG")
    with pytest.raises(ValueError, match="only what came as DICOM"):
        dicom_seg.write(picture, np.ones((9, 9, 1), bool), "Lesion", "MPS-AMS")


def test_a_mask_survives_the_files(tmp_path):
    """Uploads may vanish between reading and writing."""
    files = series(tmp_path, noise((Z, ROWS, COLUMNS)))
    scan = dicom.read(files)
    for path in files:
        Path(path).unlink()
    assert dicom_seg.write(scan, lesion(scan.voxels_xyz.shape), "Lesion", "MPS-AMS")[128:132] == b"DICM"
