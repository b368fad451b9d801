"""Uploads of every kind, alone, together and zipped, to the reader they belong to; zips that lie; masks on their way
out.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from mpsams import imaging
from mpsams.imaging import Scan, UnreadableImage, archive, export, nifti, opening, raster
from tests.support.imaging_opening import GREY, bombs, overlapping, picture, zipped  # noqa: F401
from tests.support.nifti_files import nii, noise

DICOM = bytes(128) + b"DICM" + bytes(200)
DICOMDIR = bytes(128) + b"DICM" + bytes(40) + b"1.2.840.10008.1.3.10\0" + bytes(200)
BARE = [struct.pack("<HH2sH", 8, 5, b"CS", 10) + b"ISO_IR 100", struct.pack("<HHI", 8, 5, 10) + b"ISO_IR 100",
        struct.pack("<HH2sHI", 2, 0, b"UL", 4, 180)]  # fmt: skip


@pytest.fixture
def upload(tmp_path):
    """Writes bytes as files without telling names."""
    folder = tmp_path / "uploads"
    folder.mkdir()

    def write(*datas: bytes) -> list[Path]:
        files = []
        for data in datas:
            files.append(folder / f"{len(os.listdir(folder)):03}")
            files[-1].write_bytes(data)
        return files

    return write


@pytest.fixture
def temporary(monkeypatch, tmp_path) -> Path:
    """The folder in which temporary files would lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def dicom(monkeypatch) -> list:
    """A stand-in for the DICOM reader; what it was calls: contents, modality, choice."""
    calls = []

    def read(files, modality, choice=0):
        calls.append(([file.read_bytes() for file in files], modality, choice))
        return Scan(np.zeros((20, 20, len(files)), np.int16), "ct", "DICOM", notes=("of its own",))

    monkeypatch.setattr(imaging, "dicom", types.SimpleNamespace(read=read), raising=False)
    return calls


# One file


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_pictures_are_flat_ultrasound_unless_stated(upload, form):
    scan = imaging.read(upload(picture(form)))
    assert (scan.modality, scan.planes, scan.choices, scan.notes) == ("ultrasound", ("axial",), (), ())
    assert np.array_equal(scan.slice(0), raster.grey(picture(form))[0])
    for modality in imaging.MODALITIES:
        assert imaging.read(upload(picture(form)), modality).modality == modality


@pytest.mark.parametrize("version, order", [(1, "<"), (1, ">"), (2, "<"), (2, ">")])
def test_nifti_is_known_by_its_first_bytes(upload, version, order):
    data = nii(noise(), version=version, order=order)
    for form in (data, gzip.compress(data)):
        scan = imaging.read(upload(form))
        assert np.array_equal(scan.voxels_xyz, noise()) and scan.modality == "mri" and scan.choices == ()
    assert imaging.read(upload(data), "ct").modality == "ct"


@pytest.mark.parametrize("data", [DICOM, *BARE])
def test_dicom_is_known_with_and_without_its_preamble(upload, dicom, data):
    assert imaging.read(upload(data), "mri", 3).origin == "DICOM"
    assert dicom == [([data], "mri", 3)]


def test_a_preamble_may_be_another_format(upload, dicom):
    imaging.read(upload(b"II*\0" + DICOM[4:]))
    assert len(dicom) == 1


def one_sentence(message: str) -> None:
    assert all(word in message for word in ("PNG", "JPEG", "TIFF", "NIfTI", "DICOM", "zip"))
    assert message[0].isupper() and message.endswith(".") and ". " not in message and len(message) < 200


@pytest.mark.parametrize(
    "datas, words",
    [
        ([b""], "file is empty"),
        ([b"\x89"], "no image we know"),
        ([b"only text"], "no image we know"),
        ([b"<svg xmlns='http://www.w3.org/2000/svg'/>"], "no image we know"),
        ([picture("GIF")], "no image we know"),
        ([DICOMDIR], "no image we know"),
        ([b"\x08\0\x05\0text of a length"], "no image we know"),
        ([b"\x08\0\x05\0C1\xff\x01"], "no image we know"),
        ([b"\x09\0\x05\0CS\x0a\0"], "no image we know"),
        ([b"\x08\0\x05\x01CS\x0a\0"], "no image we know"),
        ([b"text", b"more"], "no image among these 2 files"),
        ([], "no image among these 0 files"),
        ([b"", b""], "file is empty"),
        ([zipped({"a.zip": zipped({"b.png": picture()})})], "hold no other zip"),
        ([zipped({"a": b""}), b"text"], "must be the only file"),
        ([zipped({})], "no image among these 0 files"),
        ([zipped({"readme.txt": b"text"})], "no image we know"),
    ],
)
def test_refusals_say_what_is_opened(upload, dicom, datas, words):
    with pytest.raises(UnreadableImage, match=words) as caught:
        imaging.read(upload(*datas))
    one_sentence(str(caught.value))
    assert not dicom


def test_what_readers_refuse_stays_refused(upload):
    zips = (b"PK\x03\x04" + bytes(60), b"PK\x05\x06")
    for data in (picture()[:-9], nii(noise())[:-9], gzip.compress(b"text"), b"\x1f\x8b", *zips):
        with pytest.raises(UnreadableImage):
            imaging.read(upload(data))


@pytest.mark.parametrize("data", [picture(), nii(noise())])
def test_an_unknown_choice_or_modality_is_an_error(upload, data):
    with pytest.raises(ValueError, match="1; allowed") as caught:
        imaging.read(upload(data), None, 1)
    assert not isinstance(caught.value, UnreadableImage)
    with pytest.raises(ValueError, match="'x-ray'; allowed are ultrasound, ct, mri"):
        imaging.read(upload(data), "x-ray")


def test_a_large_picture_is_not_read_whole(upload, monkeypatch):
    (file,) = upload(picture() + bytes(2**20))
    seen = []
    monkeypatch.setattr(raster, "MAX_BYTES", 5000)
    monkeypatch.setattr(raster, "read", lambda data, modality: seen.append(len(data)))
    opening._open(file, None, 0)
    assert seen == [5001]


def test_limits_of_an_upload(upload, monkeypatch):
    files = upload(picture(), picture())
    size = sum(file.stat().st_size for file in files)
    monkeypatch.setattr(opening, "MAX_BYTES", size)
    monkeypatch.setattr(opening, "MAX_FILES", 2)
    imaging.read(files)
    for name, less in (("MAX_BYTES", size - 1), ("MAX_FILES", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(opening, name, less)
            with pytest.raises(UnreadableImage, match="These are more than") as caught:
                imaging.read(files)
            one_sentence(str(caught.value))


# Several files


@pytest.mark.parametrize("packed", [False, True])
def test_several_images_are_choices(upload, packed):
    images = [picture(), nii(noise()), picture("TIFF", 255 - GREY), nii(noise((*noise().shape, 2)))]
    datas = [b"a readme", *images, b""]
    files = upload(zipped({f"{i}": data for i, data in enumerate(datas)})) if packed else upload(*datas)
    left_out = "2 of the 6 files are no images and were left out."
    for choice in range(4):
        scan = imaging.read(files, choice=choice)
        assert (scan.choice, scan.choices) == (choice, tuple(f"file {i} of 4" for i in (1, 2, 3, 4)))
        assert scan.notes[-1] == left_out and (len(scan.notes) == 2) == (choice == 3)
    assert "Only volume 1 of 2 is shown" in scan.notes[0]
    assert scan.shown().shape[0] == 5 and scan.modality == "mri"
    assert np.array_equal(imaging.read(files, choice=2).slice(0), raster.grey(images[2])[0])
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"file {wrong}; allowed are 0 to 3"):
            imaging.read(files, choice=wrong)


@pytest.mark.parametrize("packed", [False, True])
def test_one_image_among_others_keeps_its_own_choices(upload, packed):
    datas = [b"a readme", nii(noise((*noise().shape, 2)))]
    files = upload(zipped({"a": datas[0], "b": datas[1]})) if packed else upload(*datas)
    scan = imaging.read(files, choice=1)
    assert scan.choices == ("volume 1 of 2", "volume 2 of 2") and scan.choice == 1
    assert scan.notes == ("1 of the 2 files are no images and were left out.",)


@pytest.mark.parametrize("packed", [False, True])
def test_with_dicom_the_others_are_left_out(upload, dicom, packed):
    datas = [DICOM + b"1", DICOMDIR, b"a readme", DICOM + b"2", picture(), BARE[0]]
    files = upload(zipped({f"{i}": data for i, data in enumerate(datas)})) if packed else upload(*datas)
    scan = imaging.read(files, None, 1)
    assert dicom == [([DICOM + b"1", DICOM + b"2", BARE[0]], None, 1)]
    assert scan.notes == ("of its own", "3 of the 6 files are no DICOM and were left out.")
    assert imaging.read(upload(DICOM, DICOM)).notes == ("of its own",)


# Zips


def test_a_zip_counts_as_what_is_in_it(upload, temporary):
    scan = imaging.read(upload(zipped({"folder/volume.nii.gz": gzip.compress(nii(noise()))})))
    assert np.array_equal(scan.voxels_xyz, noise()) and (scan.notes, scan.choices) == ((), ())
    scan = imaging.read(upload(zipped({"a.png": picture()}, zipfile.ZIP_STORED)))
    assert np.array_equal(scan.slice(0), raster.grey(picture())[0])
    assert not list(temporary.iterdir())


def unpacked(data: bytes, tmp_path: Path) -> dict[str, bytes]:
    """Own names and contents; checks that nothing else came to be."""
    (tmp_path / "x.zip").write_bytes(data)
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    files = archive.unpack(tmp_path / "x.zip", folder)
    everything = {path for path in tmp_path.rglob("*") if not path.is_dir()}
    assert everything == {tmp_path / "x.zip", *files} and all(file.parent == folder for file in files)
    assert not any(file.is_symlink() for file in files)
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(
    "name",
    [
        "../../out",
        "/etc/out",
        "a/../../../out",
        "..\\..\\out",
        "C:\\out",
        "./here",
        "\N{SNOWMAN}" * 80,
        "a\0b",
        "-rf",
        "0001",
        "x" * 5000,
    ],
)
def test_names_lead_nowhere(tmp_path, name):
    assert unpacked(zipped({name: b"content"}), tmp_path) == {"0000": b"content"}


def test_order_is_that_of_names(tmp_path):
    found = unpacked(zipped({"b/2": b"two", "b/1": b"one", "a/9": b"nine"}), tmp_path)
    assert found == {"0000": b"nine", "0001": b"one", "0002": b"two"}


def test_folders_links_and_hidden_files_are_left_out(tmp_path):
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name in ("__MACOSX/._a", "a/.DS_Store", ".git/config", "folder/", "__MACOSX\\b"):
            out.writestr(name, b"" if name.endswith("/") else b"hidden")
        out.writestr(link, "/etc/passwd")
        windows = zipfile.ZipInfo("another folder/")
        windows.create_system, windows.external_attr = 0, 0x10
        out.writestr(windows, b"")
        out.writestr("seen", b"seen")
    assert unpacked(file.getvalue(), tmp_path) == {"0000": b"seen"}


def test_same_names_are_two_files(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as out:
            out.writestr("a", b"one")
            out.writestr("a", b"two")
    assert unpacked(file.getvalue(), tmp_path) == {"0000": b"one", "0001": b"two"}


def refusal(data: bytes, upload) -> str:
    """The sentence with which `imaging.read` refuses a file."""
    with pytest.raises(UnreadableImage) as caught:
        imaging.read(upload(data))
    return str(caught.value)


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    """In the first entry of the table of contents, where the fields stand as in the file format's description."""
    data = bytearray(data)
    struct.pack_into(form, data, data.index(b"PK\x01\x02") + at, *values)
    return bytes(data)


def test_zips_we_refuse_say_why(upload, temporary):
    plain = zipped({"a.png": picture()})
    for data, words in [
        (patched(plain, 8, "<H", 1), "is encrypted; allowed are zip files without password"),
        (zipped({"a.png": picture()}, zipfile.ZIP_BZIP2), "compressed in a rare way"),
        (zipped({"a.png": picture()}, zipfile.ZIP_LZMA), "compressed in a rare way"),
        (patched(plain, 10, "<H", 99), "compressed in a rare way"),
        (plain[:-30], "damaged or incomplete"), (plain[:40], "damaged or incomplete"),
        (patched(plain, 16, "<I", 0), "damaged or incomplete"),  # the sum
        (patched(plain, 42, "<I", 2**31), "damaged or incomplete"),  # where the file is
        (patched(plain, 6, "<H", 99), "damaged or incomplete"),  # the version
        (zipped({f"{i}": b"" for i in range(archive.MAX_FILES + 1)}, zipfile.ZIP_STORED), "holds 4097 files"),
    ]:  # fmt: skip
        message = refusal(data, upload)
        assert words in message and "allowed are zip files" in message and message.endswith(".") and ". " not in message
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("claimed", [0, 1, 2**20, 2**32 - 2])
def test_what_counts_is_what_comes_out(upload, temporary, monkeypatch, claimed):
    """A member whose stated size is a lie."""
    data = zipped({"a.nii": nii(noise()) + bytes(2**22)})
    data = patched(data, 24, "<I", claimed)
    monkeypatch.setattr(archive, "MAX_BYTES", 2**20)
    message = refusal(data, upload)
    assert "too large unpacked" in message or "damaged" in message
    assert not list(temporary.iterdir())


def test_the_limit_is_on_all_files_together(upload, monkeypatch):
    data = zipped({f"{i}.png": picture() for i in range(3)})
    monkeypatch.setattr(archive, "MAX_BYTES", 3 * len(picture()))
    assert len(imaging.read(upload(data)).choices) == 3
    monkeypatch.setattr(archive, "MAX_BYTES", 3 * len(picture()) - 1)
    assert "too large unpacked" in refusal(data, upload)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_zip_bombs_stay_small(tmp_path):
    """All in one fresh process; each line is name, outcome, growth of the peak in MiB, temporary files left."""
    code = (
        "import os, re\nfrom pathlib import Path\nfrom mpsams import imaging\nfrom mpsams.imaging import archive\n"
        "from tests.support.imaging_opening import bombs, picture, zipped\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        f"path, rest, archive.MAX_BYTES = Path({str(tmp_path)!r}) / 'upload', bombs(), 2**26\n"
        "for name, (data, _) in {'a zip': (zipped({'a': picture()}), ''), **rest}.items():\n"
        "    path.write_bytes(data)\n"
        "    before = peak()\n"
        "    try:\n"
        "        found = imaging.read([path]).origin\n"
        "    except imaging.UnreadableImage as error:\n"
        "        found = str(error)\n"
        "    print(name, found, peak() - before, len(os.listdir(os.environ['TMPDIR'])), sep='|', flush=True)\n"
    )
    (tmp_path / "t").mkdir()
    run, env = [sys.executable, "-c", code], os.environ | {"TMPDIR": str(tmp_path / "t")}
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    (_, works, _, _), *lines = [line.split("|") for line in done.stdout.splitlines()]
    assert works.startswith("PNG") and [name for name, *_ in lines] == list(bombs())
    for name, found, growth, left in lines:
        assert found.startswith(bombs()[name][1]) and float(growth) < 80 and left == "0", done.stdout


@pytest.mark.filterwarnings("ignore")
def test_broken_zips(upload, temporary):
    """300 of them; half of the flips fall into the table of contents."""
    data, rng, found = zipped({"a.png": picture(), "b/c.nii": nii(noise())}), np.random.default_rng(9), []
    listing = len(data) - data.index(b"PK\x01\x02")
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(1, listing if rng.random() < 0.5 else len(data), rng.integers(1, 5)):
            broken[-at] ^= 1 << rng.integers(8)
        try:
            imaging.read(upload(bytes(broken)))
            found.append("scan")
        except UnreadableImage as error:
            found.append("refused")
            assert str(error).endswith(".") and len(str(error)) < 260
    assert found.count("scan") > 9 and found.count("refused") > 99
    for length in range(5, len(data), 97):
        refusal(data[:length], upload)
    assert not list(temporary.iterdir())


def test_a_full_disk_is_not_the_users_fault(tmp_path, monkeypatch):
    (tmp_path / "x.zip").write_bytes(zipped({"a": b"content"}))
    real = Path.open

    def full(self, mode="r", **named):
        if "w" in mode:
            raise OSError(28, "No space left on device")
        return real(self, mode, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space") as caught:
        archive.unpack(tmp_path / "x.zip", tmp_path)
    assert not isinstance(caught.value, UnreadableImage)


# On the way out


def test_a_picture_leaves_as_png(upload):
    scan = imaging.read(upload(picture()))
    mask_hw = np.zeros(GREY.shape, bool)
    mask_hw[3:9, 20:] = True
    assert export.formats(scan) == ("png",)
    data, ending = export.write(scan, mask_hw.T[:, :, None], "png")
    assert ending == ".png" and np.array_equal(raster.mask_of(data, GREY.shape).lesion, mask_hw)
    mask_xyz = np.zeros(scan.voxels_xyz.shape, bool)
    imaging.geometry.radiological_view(mask_xyz, None)[0, 3:9, 20:] = True
    assert export.write(scan, mask_xyz, "png")[0] == data


@pytest.mark.parametrize("fields", [{}, {"srow_x": [np.nan] * 4}])
def test_a_volume_leaves_as_nifti(upload, fields):
    scan = imaging.read(upload(nii(noise(), **fields)))
    assert export.formats(scan) == ("nifti",)
    data, ending = export.write(scan, noise() > 50, "nifti")
    assert ending == ".nii.gz" and data == nifti.write_mask(scan, noise() > 50)


def test_a_stack_without_geometry_leaves_as_nifti_of_unknown_orientation():
    scan = Scan(np.zeros((20, 30, 4), np.uint8), "ultrasound", "")
    assert export.formats(scan) == ("nifti",)
    mask = noise((20, 30, 4)) > 50
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(export.write(scan, mask, "nifti")[0]))
    assert (
        np.array_equal(np.asarray(image.dataobj), mask)
        and image.header["sform_code"] == image.header["qform_code"] == 0
    )


def ct_slices(reference: str = "1.2.3.9") -> list[bytes]:
    """Three slices of a CT, 1.5 mm apart, whose values tell where they are."""
    files = []
    for k in range(3):
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{k + 1}"
        ds.Modality, ds.PatientName = "CT", "DOE^JANE"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.7", "1.2.3.8", reference
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 20, 24, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [10, 20, 1.5 * k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [0.5, 0.75], 1.5, 1, -1000
        ds.PixelData = (1000 * k + np.arange(480, dtype="<i2")).tobytes()
        file = io.BytesIO()
        pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, enforce_file_format=False)
        files.append(file.getvalue())
    return files


def test_zipped_dicom_leaves_as_nifti_and_dicom_seg(upload, temporary):
    scan = imaging.read(upload(zipped(dict(zip("bac", ct_slices(), strict=True)) | {"notes": b"text"})))
    assert not list(temporary.iterdir()) and "1 of the 4 files are no DICOM and were left out." in scan.notes
    assert scan.modality == "ct" and scan.spacing() == pytest.approx((1.5, 0.5, 0.75))
    for k in range(3):
        assert np.array_equal(scan.slice(k), 1000 * k - 1000 + np.arange(480).reshape(20, 24))
    assert export.formats(scan) == ("nifti", "dicom-seg")
    mask_xyz = np.zeros(scan.voxels_xyz.shape, bool)
    scan_slices = imaging.geometry.radiological_view(mask_xyz, scan.affine)
    scan_slices[2, 3, 4] = True
    data, ending = export.write(scan, mask_xyz, "nifti")
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    (found,) = nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))
    assert ending == ".nii.gz" and found.tolist() == [-(10 + 4 * 0.75), -(20 + 3 * 0.5), 3]
    pytest.importorskip("highdicom")
    data, ending = export.write(scan, mask_xyz, "dicom-seg", "a test")
    seg = pydicom.dcmread(io.BytesIO(data))
    assert ending == ".dcm" and seg.Modality == "SEG" and b"DOE" not in data and b"a test" in data
    assert seg.pixel_array.sum() == 1 and seg.pixel_array.reshape(20, 24)[3, 4] == 1


def test_dicom_without_uids_or_geometry_to_refer_to_leaves_as_nifti_only(upload):
    scan = imaging.read(upload(*ct_slices(reference="")))
    assert scan.affine is not None and export.formats(scan) == ("nifti",)
    scan = imaging.read(upload(*ct_slices()))
    assert export.formats(scan) == ("nifti", "dicom-seg") and export.formats(replace(scan, affine=None)) == ("nifti",)


def test_only_what_is_offered_is_written(upload):
    flat, volume = imaging.read(upload(picture())), imaging.read(upload(nii(noise())))
    for scan, right, wrong in [(flat, "png", "nifti"), (flat, "png", "dicom-seg"), (volume, "nifti", "png")]:
        with pytest.raises(ValueError, match=f"'{wrong}'; allowed are {right}"):
            export.write(scan, np.zeros(scan.voxels_xyz.shape, bool), wrong)
        with pytest.raises(ValueError, match="mask is int16 .*; allowed is bool or uint8"):
            export.write(scan, np.zeros(scan.voxels_xyz.shape, np.int16), right)
        with pytest.raises(ValueError, match=f"allowed is {re.escape(str(scan.voxels_xyz.shape))}"):
            export.write(scan, np.zeros((3, 4, 5), bool), right)
