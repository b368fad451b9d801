"""Division of DICOM slices into volumes: phases, echoes and kinds of image told apart, with slices lost, named anew or
rounded.
"""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage

from mpsams.annotation import session_files
from mpsams.imaging import Scan, UnreadableImage, dicom
from mpsams.imaging.dicom import seg
from mpsams.inference import open_case
from tests.support.dicom_files import AXIAL, OBLIQUE, PICTURE, enhanced, instance, one, save

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE, SLICES, PHASES = 20, 6, 3
MAGNETIC = {"Modality": "MR", "SOPClassUID": MRImageStorage}


def level(phase: int, z: int) -> int:
    """The brightness of all pixels of a slice, by which it is found again."""
    return 1000 * (phase + 1) + z


def slices(folder: Path, elements, lost=(), phases: int = PHASES, orientation=AXIAL, noise: float = 0.0) -> list[Path]:
    """Files of phases of one volume, in no order; elements(phase, z) are those that differ.

    lost: (phase, z) left out.
    """
    files, random = [], np.random.default_rng(0)
    normal = np.cross(*np.reshape(orientation, (2, 3)))
    for number, (phase, z) in enumerate((p, z) for p in range(phases) for z in range(SLICES) if (p, z) not in lost):
        cosines = np.asarray(orientation) + noise * random.uniform(-1, 1, 6)
        place = [-10, -20, 30] + 3 * z * normal + noise * random.uniform(-1, 1, 3)
        given = {
            "ImagePositionPatient": place.round(7).tolist(),
            "ImageOrientationPatient": cosines.round(9).tolist(),
            **MAGNETIC,
        }
        pixels = np.full((SIDE, SIDE), level(phase, z), np.int16)
        ds = instance(pixels, f"{phase}.{z}", **given | {"InstanceNumber": 0} | elements(phase, z))
        files.append(save(ds, folder / f"f{number * 7 % 101}"))
    return [files[k] for k in random.permutation(len(files))]


def levels(scan: Scan) -> list[int]:
    assert all(len(np.unique(scan.voxels_xyz[:, :, z])) == 1 for z in range(scan.voxels_xyz.shape[2]))
    return scan.voxels_xyz[0, 0].tolist()


def all_levels(files: list[Path]) -> list[list[int]]:
    return [levels(dicom.read(files, None, k)) for k in range(len(dicom.read(files).choices))]


def expected(lost=(), phases: int = PHASES) -> list[list[int]]:
    return [[level(phase, z) for z in range(SLICES) if (phase, z) not in lost] for phase in range(phases)]


TOLD_APART = {
    "temporal position": lambda p, z: {"TemporalPositionIdentifier": p + 1, "InstanceNumber": SLICES * p + z},
    "acquisition number": lambda p, z: {"AcquisitionNumber": p + 4},
    "acquisition time": lambda p, z: {"AcquisitionTime": f"0959{58 + p if p < 2 else 59}.{p}00"},
    "acquisition time of each slice": lambda p, z: {"AcquisitionTime": f"1000{10 * p + (0, 3, 1, 4, 2, 5)[z]:02}.25"},
    "acquisition date and time": lambda p, z: {"AcquisitionDateTime": f"2001020{p + 1}100000.00+0100"},
    "content time": lambda p, z: {"ContentTime": f"1{p}0000"},
    "echo time": lambda p, z: {"EchoTime": 2.5 + p, "AcquisitionNumber": z},
    "echo number": lambda p, z: {"EchoNumbers": p + 1},
    "b-value": lambda p, z: {"DiffusionBValue": 400.0 * p},
    "diffusion direction": lambda p, z: {
        "DiffusionBValue": 800.0,
        "DiffusionGradientOrientation": np.eye(3)[2 - p].tolist(),
    },
    "inversion time": lambda p, z: {"InversionTime": 100 + 50 * p},
    "trigger time of each slice": lambda p, z: {"TriggerTime": 40 * p + 3 * ((5 * z) % 7)},
    "kind of image": lambda p, z: {"ImageType": ["ORIGINAL", "PRIMARY", "IMP"[p], "ND"]},
    "original and derived": lambda p, z: {
        "ImageType": ["DERIVED", "PRIMARY", "M"] if p == 0 else ["ORIGINAL", "PRIMARY", "MP"[p - 1]]
    },
    "number, phase by phase": lambda p, z: {"InstanceNumber": SLICES * p + z + 1},
    "number, slice by slice": lambda p, z: {"InstanceNumber": PHASES * z + p + 1},
}


@pytest.mark.parametrize("lost", [[], [(0, 3)], [(0, 0)], [(1, SLICES - 1)], [(0, 2), (2, 4)]], ids=str)
@pytest.mark.parametrize("name", TOLD_APART)
def test_phases_are_whole_but_for_what_is_lost(tmp_path, name, lost):
    files = slices(tmp_path, TOLD_APART[name], lost)
    assert all_levels(files) == expected(lost)
    for k in range(PHASES):
        scan = dicom.read(files, None, k)
        assert (
            scan.choices[k].endswith(f"volume {k + 1} of {PHASES}")
            and f"takes number {k + 1} of each" in scan.notes[-1]
        )
        inner = [z for phase, z in lost if phase == k and 0 < z < SLICES - 1]
        assert ("Slices are missing" in scan.notes[0]) == bool(inner)
        assert ("told apart by" in scan.notes[-1]) or not lost


@pytest.mark.parametrize("lost", [[], [(4, 2)]], ids=str)
def test_two_things_tell_them_apart_together(tmp_path, lost):
    def elements(p, z):
        return {
            "EchoTime": 2.0 + p // 3,
            "ImageType": ["ORIGINAL", "PRIMARY", "MPI"[p % 3]],
            "AcquisitionTime": f"1000{z:02}",
        }

    files = slices(tmp_path, elements, lost, 6)
    found = all_levels(files)
    assert sorted(found) == sorted(expected(lost, 6)) and {level[0] // 1000 for level in found[:3]} == {1, 2, 3}
    assert "told apart by echo time and kind of image" in dicom.read(files).notes[-1]


def test_diffusion_is_distinguished_by_b_value_and_direction(tmp_path):
    def elements(p, z):
        direction = {"DiffusionGradientOrientation": np.eye(3)[p - 1].tolist()} if p else {}
        return {"DiffusionBValue": 1000.0 * bool(p)} | direction

    assert sorted(all_levels(slices(tmp_path, elements, [(2, 1)], 4))) == sorted(expected([(2, 1)], 4))


def test_a_phase_that_was_broken_off_stays_last(tmp_path):
    lost = [(2, z) for z in range(2, SLICES)]
    files = slices(tmp_path, TOLD_APART["temporal position"], lost)
    assert all_levels(files) == expected(lost)
    few = [(0, z) for z in range(2, SLICES)]
    for path in tmp_path.iterdir():
        path.unlink()
    files = slices(tmp_path, TOLD_APART["temporal position"], few)
    whole = expected(few)
    assert all_levels(files) == [whole[1], whole[2], whole[0]], "nobody looks for the first volume in a rest of it"


def test_parts_that_may_begin_at_either_end(tmp_path):
    """Either the first image of phase 1 is missing, or the last one of phase 3: the times are even."""
    files = slices(tmp_path, lambda p, z: {"AcquisitionTime": f"1000{SLICES * p + -z % SLICES + 10:02}"}, [(0, 0)])
    scan = dicom.read(files)
    assert "told apart by acquisition time" in scan.notes[-1] and "may mix them" in scan.notes[-1]


def test_what_nothing_tells_apart_is_reported(tmp_path):
    files = slices(tmp_path, lambda p, z: {}, [(0, 1), (1, 4)])
    scan = dicom.read(files)
    assert "may mix them, as nothing says for certain" in scan.notes[-1]
    assert sorted(sum(all_levels(files), [])) == sorted(sum(expected([(0, 1), (1, 4)]), [])), (
        "every image can be opened"
    )


def test_what_differs_without_need_splits_nothing(tmp_path):
    files = slices(
        tmp_path,
        lambda p, z: {"AcquisitionNumber": z // 3, "EchoTime": 5 + z % 2, "AcquisitionTime": f"1200{z:02}"},
        phases=1,
    )
    scan = dicom.read(files)
    assert levels(scan) == expected(phases=1)[0] and scan.notes == () and len(scan.choices) == 1


def test_an_image_taken_again_does_not_cut_its_volume(tmp_path):
    files = slices(tmp_path, lambda p, z: {"InstanceNumber": z + 1 + (z > 2)}, phases=1)
    again = {"ImagePositionPatient": [-10, -20, 36], "InstanceNumber": 4, **MAGNETIC}
    files.append(
        save(
            instance(np.full((SIDE, SIDE), 77, np.int16), "again", **again, SOPInstanceUID="1.2.3.9"),
            tmp_path / "again",
        )
    )
    found = all_levels(files)
    assert [len(volume) for volume in found] == [SLICES, 1] and sorted(sum(found, [])) == sorted(
        [77, *expected(phases=1)[0]]
    )


# Rounding


@pytest.mark.parametrize("noise", [1e-7, 1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE, (0.9999998750, 0.000499900, 0, -0.000499900, 0.9999998750, 0)])
@pytest.mark.parametrize("phases", [1, PHASES])
def test_rounding_splits_nothing(tmp_path, noise, orientation, phases):
    files = slices(tmp_path, TOLD_APART["temporal position"], phases=phases, orientation=orientation, noise=noise)
    assert all_levels(files) == expected(phases=phases)
    scan = dicom.read(files)
    assert np.linalg.norm(scan.affine[:3, 2]) == pytest.approx(3, rel=1e-3) and not any(
        "uneven" in note for note in scan.notes
    )


def test_pixel_spacing_that_rounding_changes(tmp_path):
    files = slices(tmp_path, lambda p, z: {"PixelSpacing": [0.7031250 + 1e-4 * (z % 2), 0.703125]}, phases=1)
    assert all_levels(files) == expected(phases=1)
    files += slices(tmp_path / "..", lambda p, z: {"PixelSpacing": [0.8, 0.8], "SOPInstanceUID": f"1.7.{z}"}, phases=1)
    assert all_levels(files) == expected(phases=1) * 2, "another field of view is another volume"


def test_places_in_a_fine_volume(tmp_path):
    files = slices(tmp_path, lambda p, z: {"ImagePositionPatient": [0, 0, 0.004 * z], "SliceThickness": None}, phases=1)
    scan = dicom.read(files)
    assert levels(scan) == expected(phases=1)[0] and np.linalg.norm(scan.affine[:3, 2]) == pytest.approx(0.004)


def test_slabs_far_apart_keep_their_slices(tmp_path):
    files = slices(tmp_path, lambda p, z: {"ImagePositionPatient": [0, 0, z + 500 * (z > 2)]}, phases=1)
    scan = dicom.read(files)
    assert levels(scan) == expected(phases=1)[0] and "missing after number 3" in scan.notes[0]


# UIDs


def series_of_its_own(p, z):
    return {"SeriesInstanceUID": f"1.9.{p}.{z}", "SeriesNumber": 7}


def test_a_series_for_each_slice_is_one_volume(tmp_path):
    files = slices(tmp_path, series_of_its_own, phases=1)
    scan = dicom.read(files)
    assert levels(scan) == expected(phases=1)[0] and len(scan.choices) == 1
    assert "Each image states a series of its own" in scan.notes[0]
    assert (
        [set(group) for group in dicom.group_series(files)]
        == [set(files)]
        == [set(g) for g in session_files.group_files(files)]
    )


def test_a_series_for_each_slice_of_several_phases(tmp_path):
    files = slices(tmp_path, lambda p, z: series_of_its_own(p, z) | {"EchoTime": 1 + p}, [(0, 2)])
    assert all_levels(files) == expected([(0, 2)])


@pytest.mark.parametrize(
    "different",
    [
        {"SeriesNumber": 8},
        {"StudyInstanceUID": "1.5"},
        {"FrameOfReferenceUID": "1.6"},
        {"PixelSpacing": [1, 1]},
        {"Modality": "PT"},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0.9998477, 0.0174524]},
    ],
)
def test_series_that_differ_stay_apart(tmp_path, different):
    files = slices(
        tmp_path,
        lambda p, z: {"SeriesInstanceUID": f"1.9.{int(z > 2)}", "SeriesNumber": 7} | (different if z > 2 else {}),
        phases=1,
    )
    assert sorted(all_levels(files)) == [[1000, 1001, 1002], [1003, 1004, 1005]]


def test_scouts_stay_apart(tmp_path):
    scouts = [
        instance(
            np.full((SIDE, SIDE), k, np.int16),
            f"8.{k}",
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            ImageOrientationPatient=list(o),
        )
        for k, o in enumerate([AXIAL, (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)])
    ]
    files = [save(ds, tmp_path / f"l{k}") for k, ds in enumerate(scouts)]
    assert sorted(all_levels(files)) == [[0], [1], [2]]


def test_a_frame_of_reference_for_each_slice(tmp_path):
    scan = dicom.read(slices(tmp_path, lambda p, z: {"FrameOfReferenceUID": f"1.6.{z}"}, phases=1))
    assert levels(scan) == expected(phases=1)[0] and "frame of reference of its own" in scan.notes[0]
    assert not scan.source.referable, "a DICOM-SEG could name only one"


def test_sizes_in_one_folder_are_choices(tmp_path):
    files = slices(tmp_path, lambda p, z: {}, phases=1)
    large = instance(np.zeros((32, 32), np.int16), "large", SOPInstanceUID="1.2.7", **MAGNETIC)
    assert len(dicom.read([*files, save(large, tmp_path / "large")]).choices) == 2


@pytest.mark.parametrize(
    "other, count",
    [
        ({"ImagePositionPatient": None}, 1),
        ({"ImageOrientationPatient": None}, 2),
        ({"PixelSpacing": [2, 2]}, 1),
        ({"Rows": 16}, 1),
    ],
)
def test_what_is_no_part_of_the_volume_is_reported(tmp_path, other, count):
    files = slices(tmp_path, lambda p, z: {}, phases=1)
    for k in range(count):
        pixels = np.full((other.get("Rows", SIDE), SIDE), 7, np.int16)
        files.append(
            save(instance(pixels, f"other{k}", SOPInstanceUID=f"1.2.7.{k}", **MAGNETIC | other), tmp_path / f"other{k}")
        )
    scan = dicom.read(files)
    assert levels(scan) == expected(phases=1)[0] and len(scan.choices) == 2
    assert any(
        note.startswith(f"{count} other image") and note.endswith("see the other choices.") for note in scan.notes
    )


def test_mosaics_without_geometry_stay_apart(tmp_path):
    for number in range(2):
        ds = mosaic(
            11, csa(11, (0, 0, 1)), SOPInstanceUID=f"1.2.8.{number}", ImagePositionPatient=None, InstanceNumber=number
        )
        save(ds, tmp_path / f"m{number}")
    assert all_levels(sorted(tmp_path.iterdir())) == [list(range(1, 12))] * 2


@pytest.mark.parametrize("elements, lost", [(series_of_its_own, []), (TOLD_APART["temporal position"], [(1, 2)])])
@pytest.mark.parametrize("choice", [0, 1, 2])
def test_a_dicom_seg_refers_to_the_slices_of_its_volume(tmp_path, elements, lost, choice):
    phases = 1 if elements is series_of_its_own else PHASES
    if choice >= phases:
        choice = 0
    files = slices(tmp_path, elements, lost, phases)
    scan = dicom.read(files, None, choice)
    mask_xyz = np.zeros(scan.voxels_xyz.shape, bool)
    mask_xyz[3:7, 2:5] = True
    data = pydicom.dcmread(io.BytesIO(seg.write(scan, mask_xyz, "Lesion", "MPS-AMS")))
    sources = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, files)}
    wanted = {uid for uid, ds in sources.items() if ds.pixel_array[0, 0] in expected(lost, phases)[choice]}
    referred = set()
    for frame in data.PerFrameFunctionalGroupsSequence:
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(
            frame.PlanePositionSequence[0].ImagePositionPatient, sources[uid].ImagePositionPatient, atol=1e-4
        )
        referred.add(uid)
    listed = {
        item.ReferencedSOPInstanceUID: series.SeriesInstanceUID for series in data.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }  # fmt: skip
    assert referred == wanted == set(listed) and all(
        sources[uid].SeriesInstanceUID == series for uid, series in listed.items()
    )


# Enhanced images


def group(**values) -> list[Dataset]:
    item = Dataset()
    item.update(values)
    return [item]


FRAMES = {
    "temporal position": lambda p, z: {"FrameContentSequence": group(TemporalPositionIndex=p + 1)},
    "stack": lambda p, z: {"FrameContentSequence": group(StackID="CAB"[p], InStackPositionNumber=z)},
    "dimension index": lambda p, z: {"FrameContentSequence": group(DimensionIndexValues=[1, z + 1, p + 1])},
    "acquisition time": lambda p, z: {"FrameContentSequence": group(FrameAcquisitionDateTime=f"2001010112{p:02}00.5")},
    "echo time": lambda p, z: {"MREchoSequence": group(EffectiveEchoTime=2.3 + p)},
    "b-value": lambda p, z: {"MRDiffusionSequence": group(DiffusionBValue=500.0 * p)},
    "diffusion direction": lambda p, z: {
        "MRDiffusionSequence": group(
            DiffusionBValue=5.0,
            DiffusionGradientDirectionSequence=group(DiffusionGradientOrientation=np.eye(3)[p].tolist()),
        )
    },
    "inversion time": lambda p, z: {"MRModifierSequence": group(InversionTimes=[100.0 + p])},
    "trigger time": lambda p, z: {"CardiacSynchronizationSequence": group(NominalCardiacTriggerDelayTime=30.0 * p)},
    "complex component": lambda p, z: {
        "MRImageFrameTypeSequence": group(ComplexImageComponent=["MAGNITUDE", "PHASE", "REAL"][p])
    },
}


@pytest.mark.parametrize("lost", [[], [(0, 3)]], ids=str)
@pytest.mark.parametrize("name", FRAMES)
def test_frames_of_an_enhanced_image_in_any_order(tmp_path, name, lost):
    each = [(p, z) for p, z in itertools.product(range(PHASES), range(SLICES)) if (p, z) not in lost]
    each = [each[k] for k in np.random.default_rng(5).permutation(len(each))]
    frames = np.stack([np.full((SIDE, SIDE), level(*pair), np.int16) for pair in each])
    ds = enhanced(frames, [(0, 0, 3 * z) for _, z in each], SOPClassUID=EnhancedMRImageStorage, Modality="MR")
    for item, pair in zip(ds.PerFrameFunctionalGroupsSequence, each, strict=True):
        item.update(FRAMES[name](*pair))
    path = save(ds, tmp_path / "e")
    found = all_levels([path])
    assert (sorted(found) if name in ("stack", "diffusion direction") else found) == expected(lost)
    for choice in range(PHASES):
        scan = dicom.read([path], None, choice)
        assert [level(*each[frame - 1]) for _, frame in scan.source.images] == levels(scan)


def test_a_file_for_each_phase(tmp_path):
    files = []
    for p in range(PHASES):
        frames = np.stack([np.full((SIDE, SIDE), level(p, z), np.int16) for z in range(SLICES)])
        ds = enhanced(
            frames, [(0, 0, 3 * z) for z in range(SLICES)], SOPInstanceUID=f"1.2.{9 - p}", InstanceNumber=p + 1
        )
        files.append(save(ds, tmp_path / f"{(p * 2) % 3}"))
    assert all_levels(files) == expected()


# Mosaics


def mosaic(count: int, header: bytes | None, **elements) -> Dataset:
    """Siemens' 4 x 4 tiles of SIDE pixels, whose values are their numbers."""
    tiles = np.zeros((4, 4, SIDE, SIDE), np.int16)
    tiles.reshape(16, SIDE, SIDE)[:count] = np.arange(1, count + 1)[:, None, None]
    pixels = tiles.transpose(0, 2, 1, 3).reshape(4 * SIDE, 4 * SIDE)
    given = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
        "SpacingBetweenSlices": 4.0,
        "PixelSpacing": [2, 2],
    }
    ds = instance(pixels, "mosaic", **MAGNETIC | given | elements)
    if header is not None:
        ds.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
    return ds


def csa(count: int | None, normal: tuple[float, ...] | None) -> bytes:
    """Siemens' own header, as nibabel reads it."""
    tags = {}
    if count is not None:
        tags["NumberOfImagesInMosaic"] = (b"US", [str(count)])
    if normal is not None:
        tags["SliceNormalVector"] = (b"FD", [f"{n:.8f}" for n in normal])
    data = b"SV10\4\3\2\1" + struct.pack("<2I", max(1, len(tags)), 77)
    for name, (kind, values) in tags.items() or {"Other": (b"IS", [])}.items():
        data += struct.pack("<64si4s3i", name.encode(), len(values), kind, 0, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            data += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return data


@pytest.mark.parametrize("sign", [1, -1])
def test_mosaics_are_cut_into_slices(tmp_path, sign):
    ds = mosaic(11, csa(11, (0, 0, sign)))
    scan = dicom.read([save(ds, tmp_path / "m")])
    assert levels(scan) == list(range(1, 12))[::sign] and scan.voxels_xyz.shape == (SIDE, SIDE, 11)
    assert scan.origin == f"DICOM MR, 11 slices of {SIDE} × {SIDE} pixels, 2.00 × 2.00 × 4.00 mm"
    corner = np.array([-10, -20, 30]) + 2 * 1.5 * SIDE * np.array([1, 1, 0])  # as nibabel.nicom.dicomwrappers has it
    first = scan.affine @ [0, 0, 0 if sign == 1 else 10, 1]
    np.testing.assert_allclose(first[:3], corner * [-1, -1, 1])
    assert not scan.source.referable


def test_mosaics_are_moments_of_one_volume(tmp_path):
    for number in range(3):
        elements = {"SOPInstanceUID": f"1.2.8.{number}", "InstanceNumber": number + 1, "AcquisitionNumber": number + 1}
        ds = mosaic(11, csa(11, (0, 0, 1)), **elements)
        save(ds, tmp_path / f"m{number}")
    scan = dicom.read(sorted(tmp_path.iterdir()), choice=2)
    assert (
        len(scan.choices) == 3
        and levels(scan) == list(range(1, 12))
        and "told apart by acquisition number" in scan.notes[-1]
    )


@pytest.mark.parametrize(
    "header", [None, b"", b"SV10" + bytes(300), csa(None, (0, 0, 1)), csa(0, (0, 0, 1)), csa(5000, (0, 0, 1))]
)
def test_mosaics_of_unknown_slices_are_refused(tmp_path, header):
    with pytest.raises(UnreadableImage, match="mosaic.*does not say how many"):
        dicom.read([save(mosaic(9, header), tmp_path / "m")])


def test_mosaics_without_a_direction_are_refused(tmp_path):
    for normal in (None, (1, 0, 0), (0, 0, 0)):
        with pytest.raises(UnreadableImage, match="mosaic.*does not say where"):
            dicom.read([save(mosaic(9, csa(9, normal)), tmp_path / "m")])


# Drawing shape


@pytest.mark.parametrize(
    "elements, aspect",
    [
        ({"PixelAspectRatio": [2, 1]}, 2),
        ({"PixelAspectRatio": [1, 4]}, 0.25),
        ({"PixelAspectRatio": [0, 1]}, 1),
        ({}, 1),
        ({"PixelAspectRatio": [1000, 1]}, 1),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, 1.5),
        ({"NominalScannedPixelSpacing": [1, 2]}, 0.5),
        ({"PixelSpacing": [0.4, 0.2], "PixelAspectRatio": [1, 1]}, 2),
    ],
)
def test_pixels_that_are_not_square(tmp_path, elements, aspect):
    scan = one(tmp_path, np.zeros((32, 40), np.uint8), **PICTURE | {"PixelSpacing": None} | elements)
    assert scan.affine is None and scan.spacing() is None and scan.pixel_hw() == (pytest.approx(aspect), 1)
    assert (len(scan.notes) == 1 and "distances are unknown" in scan.notes[0]) if aspect != 1 else not scan.notes


@pytest.mark.parametrize(
    "units, steps, aspect",
    [
        ((3, 3), [(0.02, 0.03)], 1.5),
        ((3, 3), [(0.02, 0.03), (0.02, -0.03)], 1.5),
        ((3, 3), [(0.02, 0.03), (0.02, 0.02)], 1),
        ((4, 3), [(0.02, 0.03)], 1),
    ],
)
def test_regions_of_an_ultrasound(tmp_path, units, steps, aspect):
    regions = [
        group(
            RegionSpatialFormat=1,
            PhysicalUnitsXDirection=units[0],
            PhysicalUnitsYDirection=units[1],
            PhysicalDeltaX=x,
            PhysicalDeltaY=y,
        )[0]
        for x, y in steps
    ]
    ds = {"SequenceOfUltrasoundRegions": regions, "PixelSpacing": None}
    assert one(tmp_path, np.zeros((32, 40), np.uint8), **PICTURE | ds).aspect == pytest.approx(aspect)


def test_pages_draw_pixels_as_high_as_they_are(tmp_path):
    path = save(
        instance(np.zeros((64, 80), np.uint8), "1", **PICTURE, PixelAspectRatio=[2, 1], PixelSpacing=None),
        tmp_path / "a",
    )
    case = open_case.open_upload([path], None, lambda modality: {"seed": 0, "selector": "geodesic"})
    assert case.size_hw == (128, 80) and any("distances are unknown" in note for note in case.scan.notes)
